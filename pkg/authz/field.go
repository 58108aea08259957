package authz

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/text"
)

// maxID bounds an id whose field declares no bound, since ids reach the checker.
const maxID = 128

// path leads to a field of a message through the messages that hold it.
type path []protoreflect.FieldDescriptor

// field is a string field of a request with those of its constraints that count
// before authorization.
type field struct {
	name    string
	path    path
	maxLen  int // characters
	pattern *regexp.Regexp
}

// fieldPath finds a field by its dotted path. Every field on it is singular.
func fieldPath(md protoreflect.MessageDescriptor, name string) (path, error) {
	if name == "" {
		return nil, errors.New("no field is named")
	}
	var p path
	for _, part := range strings.Split(name, ".") {
		if md == nil {
			return nil, fmt.Errorf("%s: %s is not a message", name, p[len(p)-1].Name())
		}
		fd := md.Fields().ByName(protoreflect.Name(part))
		if fd == nil {
			return nil, fmt.Errorf("%s: %s has no field %q", name, md.FullName(), part)
		}
		if fd.Cardinality() == protoreflect.Repeated {
			return nil, fmt.Errorf("%s: %q is repeated", name, part)
		}
		p = append(p, fd)
		md = fd.Message()
	}
	return p, nil
}

func newField(name string, p path) field {
	f := field{name: name, path: p, maxLen: maxID}
	rules, _ := proto.GetExtension(p[len(p)-1].Options(), validate.E_Field).(*validate.FieldRules)
	if s := rules.GetString(); s != nil {
		if s.MaxLen != nil {
			f.maxLen = int(min(s.GetMaxLen(), 1<<16))
		}
		if s.Pattern != nil {
			f.pattern, _ = regexp.Compile(s.GetPattern()) // protovalidate refuses a bad one at boot
		}
	}
	return f
}

// value reads the field and holds it to its constraints and to NM-9; "" passes, since what an
// empty one means is said by the rule.
func (f field) value(m protoreflect.Message) (string, error) {
	v := f.path.get(m).String()
	problem := text.Problem(v)
	switch {
	case v == "":
		return "", nil
	case problem != "":
		return "", apierr.InvalidField(f.name, "%s", problem)
	case utf8.RuneCountInString(v) > f.maxLen:
		return "", apierr.InvalidField(f.name, "must have at most %d characters", f.maxLen)
	case f.pattern != nil && !f.pattern.MatchString(v):
		return "", apierr.InvalidField(f.name, "must match %s", f.pattern)
	}
	return v, nil
}

// get returns the value at the end of the path; the default where a message on it
// is absent.
func (p path) get(m protoreflect.Message) protoreflect.Value {
	for _, fd := range p[:len(p)-1] {
		m = m.Get(fd).Message()
	}
	return m.Get(p[len(p)-1])
}

// has reports whether the field is set.
func (p path) has(m protoreflect.Message) bool {
	for _, fd := range p[:len(p)-1] {
		if !m.Has(fd) {
			return false
		}
		m = m.Get(fd).Message()
	}
	return m.Has(p[len(p)-1])
}
