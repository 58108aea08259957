package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"buf.build/go/protovalidate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/text"
)

// expectation is what may be answered to a mutation.
type expectation struct {
	codes  []codes.Code
	fields []string // with INVALID_ARGUMENT one of them is named, or what holds it
}

// allows reports whether an answer is as expected.
func (e expectation) allows(st *status.Status) bool {
	if !slices.Contains(e.codes, st.Code()) {
		return false
	}
	if st.Code() != codes.InvalidArgument {
		return true
	}
	named := violated(st)
	return slices.ContainsFunc(e.fields, func(f string) bool {
		return slices.ContainsFunc(named, func(n string) bool { return n == f || holds(n, f) || holds(f, n) })
	})
}

// holds reports whether a field is the one at a path or below it.
func holds(path, field string) bool {
	return strings.HasPrefix(field, path+".") || strings.HasPrefix(field, path+"[")
}

func violated(st *status.Status) []string {
	var names []string
	for _, d := range st.Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range bad.GetFieldViolations() {
				names = append(names, v.GetField())
			}
		}
	}
	return names
}

// expect derives what a mutation must get from the constraints of the proto, then
// from the rule about text (NM-9), then from what the field means.
func expect(r rpc, m mutation, msg proto.Message) expectation {
	invalid := []codes.Code{codes.InvalidArgument}
	if !m.isUTF8() {
		return expectation{invalid, []string{m.field}}
	}
	var failed *protovalidate.ValidationError
	if err := protovalidate.Validate(msg); errors.As(err, &failed) {
		var fields []string
		for _, v := range failed.Violations {
			fields = append(fields, protovalidate.FieldPathString(v.Proto.GetField()))
		}
		return expectation{invalid, append(fields, m.field)}
	} else if err != nil {
		return expectation{nil, []string{err.Error()}}
	}
	if badForm(msg.ProtoReflect(), strings.HasPrefix(r.method, checkService)) {
		return expectation{invalid, []string{m.field}}
	}
	return meaning(r, m)
}

// badForm looks for text that NM-9 refuses, for times that are none and for enums
// without the value. A check keeps nothing of what it is sent and takes any text.
func badForm(m protoreflect.Message, check bool) bool {
	t, ok := m.Interface().(*timestamppb.Timestamp)
	found := ok && !check && t.CheckValid() != nil
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		look := func(fd protoreflect.FieldDescriptor, v protoreflect.Value) {
			switch {
			case fd.Kind() == protoreflect.StringKind:
				found = found || !check && text.Problem(v.String()) != ""
			case fd.Enum() != nil:
				found = found || fd.Enum().Values().ByNumber(v.Enum()) == nil
			case fd.Message() != nil:
				found = found || badForm(v.Message(), check)
			}
		}
		switch {
		case fd.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				found = found || text.Problem(k.String()) != ""
				look(fd.MapValue(), v)
				return true
			})
		case fd.IsList():
			for i := range v.List().Len() {
				look(fd, v.List().Get(i))
			}
		default:
			look(fd, v)
		}
		return true
	})
	return found
}

// meaning is what a value gets that keeps all constraints, by what its field is.
func meaning(r rpc, m mutation) expectation {
	accepted := []codes.Code{r.inside}
	refused := []codes.Code{codes.InvalidArgument}
	unknown := []codes.Code{codes.NotFound, codes.PermissionDenied, codes.InvalidArgument}
	unproven := []codes.Code{codes.Unauthenticated, codes.Unimplemented}
	for _, c := range []struct {
		field string // method, field and value, as a pattern
		codes []codes.Code
	}{
		{`CloudService/(Create|List) organization_id empty$`, append(refused, r.inside)},          // CR-2, and a list of everything
		{`SubjectService/SetSubject subject.id at its limit, `, refused},                          // bytes count there
		{`SubjectService/SetSubject subject.id |OperatorService/CreateUser login`, accepted},      // makes it
		{`v1\.(Resource|Subject|OperationLog)Service/|CreateToken`, append(unknown, codes.OK)},    // units, and what they made before
		{`BulkAuthorize .*(\.id|\.type|federation_id|folder_id) `, accepted},                      // a denial is an answer
		{`Authorize subject(\..*)?federation_id `, append(accepted, codes.PermissionDenied)},      // says only of which kind the user is
		{`Authorize subject\.anonymous_account `, []codes.Code{codes.PermissionDenied, r.inside}}, // PG-2
		{`IamTokenService/Revoke iam_token `, refused},
		{`[ .](page_size|description|title|labels|sources)[ .\[]`, accepted},
		{`[ .]name `, append(accepted, codes.AlreadyExists)},
		{`[ .](page_token|filter) `, append(refused, r.inside)},
		{`[ .](iam_token|yandex_passport_oauth_token|jwt|api_key|iam_cookie|refresh_token|signature)[ .]`, append(unproven, r.inside)},
		{`SetAccessBindings access_bindings`, append(unknown, r.inside, codes.FailedPrecondition)},
		{`(_id|[ .]id|type|login|permission) `, unknown},
		{`.`, append(refused, r.inside)},
	} {
		if regexp.MustCompile(c.field).MatchString(r.method + " " + m.String()) {
			if r.inside == codes.Unimplemented {
				c.codes = append(c.codes, r.inside)
			}
			return expectation{c.codes, []string{m.field}}
		}
	}
	return expectation{}
}

// internalText is what no answer may show.
var internalText = regexp.MustCompile(`(?i)pq:|pgx|sqlite|sqlstate|constraint|SELECT |INSERT |\bgoroutine\b|panic|\.go:|\*?[a-z0-9]+v[12]\.[A-Z]|proto: |protobuf|unmarshal|grpc:|desc = |/home/|/root/|/tmp/|runtime error|nil pointer|context canceled`)

// leaks returns the internal text in an answer, or what a terminal could not show
// as it is.
func leaks(st *status.Status) string {
	raw, err := protojson.Marshal(st.Proto())
	if err != nil {
		return err.Error()
	}
	for _, s := range append(messages(st), string(raw)) {
		if problem := text.Problem(s); problem != "" {
			return fmt.Sprintf("%.200q: %s", s, problem)
		}
	}
	return internalText.FindString(string(raw))
}

func messages(st *status.Status) []string {
	all := []string{st.Message()}
	for _, d := range st.Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range bad.GetFieldViolations() {
				all = append(all, v.GetField(), v.GetDescription())
			}
		}
	}
	return all
}

// describe is an answer in one line.
func describe(st *status.Status) string {
	return fmt.Sprintf("%s %q naming %q", st.Code(), cut(st.Message()), violated(st))
}

func cut(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}
