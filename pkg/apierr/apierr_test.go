package apierr

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	quotapb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/quota"

	"buf.build/go/protovalidate"
)

// secret stands for what must never reach a caller.
const secret = "pq: password authentication failed for user bindery"

func TestEdge(t *testing.T) {
	for _, tt := range []struct {
		name    string
		err     error
		code    codes.Code
		message string
		reason  string
	}{
		{"refusal", NotFound("FOLDER_NOT_FOUND", "folder %s not found", "f1"), codes.NotFound, "folder f1 not found", "FOLDER_NOT_FOUND"},
		{"wrapped refusal", fmt.Errorf("%s: %w", secret, NotFound("X", "x")), codes.NotFound, "x", "X"},
		{"refusal with a cause", Unavailable("X", "try again").WithCause(errors.New(secret)), codes.Unavailable, "try again", "X"},
		{"joined", errors.Join(errors.New(secret), Denied("X", "no")), codes.PermissionDenied, "no", "X"},
		{"foreign", errors.New(secret), codes.Internal, "internal error", ReasonInternal},
		{"cancelled", fmt.Errorf("%s: %w", secret, context.Canceled), codes.Canceled, "the caller cancelled the call", ReasonCancelled},
		{"deadline", context.DeadlineExceeded, codes.DeadlineExceeded, "the deadline of the call passed", ReasonDeadline},
		{"status of another unit", status.Error(codes.InvalidArgument, secret), codes.Internal, "internal error", ReasonInternal},
		{"wrapped status", fmt.Errorf("call: %w", status.Error(codes.Unavailable, secret)), codes.Unavailable, "a service behind this one cannot be reached, try again", ReasonUnavailable},
		{"nil inside", (*Error)(nil), codes.Internal, "internal error", ReasonInternal},
		{"code OK", &Error{Code: codes.OK, Message: secret}, codes.Internal, "internal error", ReasonInternal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st := Edge(tt.err, "req-1")
			if st.Code() != tt.code || st.Message() != tt.message {
				t.Errorf("got %v %q, want %v %q", st.Code(), st.Message(), tt.code, tt.message)
			}
			if strings.Contains(st.Proto().String(), "password") {
				t.Errorf("internal text leaves: %v", st.Proto())
			}
			if got := ReasonOf(st.Err()); got != tt.reason {
				t.Errorf("reason %q, want %q", got, tt.reason)
			}
			if got := detail[*errdetails.RequestInfo](t, st); got.GetRequestId() != "req-1" {
				t.Errorf("RequestInfo %v", got)
			}
		})
	}
	if Edge(nil, "req-1") != nil {
		t.Error("the edge made an error of success")
	}
}

func TestEdgeDetails(t *testing.T) {
	st := Edge(Exhausted(Quota{Metric: "resource-manager.folders.count", Subject: "cloud:c1", Limit: 100, Usage: 100, Required: 101}).
		WithMeta("cloudId", "c1"), "r")
	if st.Message() != "quota exceeded: resource-manager.folders.count: limit 100, 101 required" {
		t.Error(st.Message())
	}
	want := []proto.Message{
		&errdetails.ErrorInfo{Reason: ReasonQuotaExceeded, Domain: Domain, Metadata: map[string]string{"cloudId": "c1"}},
		&errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{{
			Subject: "cloud:c1", Description: "resource-manager.folders.count: limit 100, 101 required"}}},
		&quotapb.QuotaFailure{Violations: []*quotapb.QuotaFailure_Violation{{
			Metric: &quotapb.QuotaMetric{Name: "resource-manager.folders.count", Limit: 100, Usage: 100}, Required: 101}}},
		&errdetails.RequestInfo{RequestId: "r"},
	}
	var got []proto.Message
	for _, d := range st.Details() {
		got = append(got, d.(proto.Message))
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestEdgeDoesNotChangeTheError(t *testing.T) {
	e := Exhausted(Quota{Metric: "m"})
	Edge(e, "r1")
	if st := Edge(e, "r2"); len(st.Details()) != 4 || detail[*errdetails.RequestInfo](t, st).GetRequestId() != "r2" {
		t.Errorf("details %v", st.Details())
	}
	if shared := NotFound("X", "x"); shared.WithMeta("a", "b").Meta["a"] != "b" || shared.Meta != nil {
		t.Error("WithMeta changed its receiver")
	}
}

func TestUnfitTextIsMadeFit(t *testing.T) {
	st := Edge(NotFound("X", "a\xffb%s", strings.Repeat("ж", 5000)).WithMeta("k", "v\xff"), "")
	if st.Code() != codes.NotFound || !strings.HasPrefix(st.Message(), "a\uFFFDb") || len(st.Message()) > 2100 {
		t.Errorf("%v %.20q of %d bytes", st.Code(), st.Message(), len(st.Message()))
	}
	if _, err := proto.Marshal(st.Proto()); err != nil {
		t.Error(err)
	}
}

func TestFromRPC(t *testing.T) {
	meta := map[string]string{"permission": "p"}
	sent := Invalid(Field{"name", "must not be empty"}, Field{"id", "unknown"}).WithMeta("permission", "p")
	var got *Error
	if err := FromRPC(fmt.Errorf("call: %w", Edge(sent, "inner").Err())); !errors.As(err, &got) {
		t.Fatalf("%T", err)
	}
	if got.Code != sent.Code || got.Reason != sent.Reason || got.Message != sent.Message ||
		!cmp.Equal(got.Fields, sent.Fields) || !cmp.Equal(got.Meta, meta) {
		t.Errorf("got %+v, sent %+v", got, sent)
	}
	if st := Edge(got, "outer"); detail[*errdetails.RequestInfo](t, st).GetRequestId() != "outer" {
		t.Error("the id of the inner call leaves")
	}
	for name, err := range map[string]error{
		"unit not admitted":  Edge(Denied(ReasonUnitNotAdmitted, "no"), "").Err(),
		"unit not trusted":   Edge(Unauthenticated(ReasonUnitInvalid, "no"), "").Err(),
		"no such method":     status.Error(codes.Unimplemented, "unknown service"),
		"message too large":  status.Error(codes.ResourceExhausted, "received message larger than max"),
		"foreign error":      errors.New("no"),
		"internal elsewhere": Edge(errors.New("no"), "").Err(),
	} {
		if code := CodeOf(FromRPC(err)); code != codes.Internal {
			t.Errorf("%s: %v, want Internal", name, code)
		}
	}
	if FromRPC(nil) != nil {
		t.Error("made an error of success")
	}
}

func TestIs(t *testing.T) {
	taken := AlreadyExists("NAME_TAKEN", "the name is taken")
	err := fmt.Errorf("insert: %w", taken.Withf("the name %q is taken", "a").WithMeta("name", "a"))
	if !errors.Is(err, taken) || errors.Is(err, AlreadyExists("OTHER", "")) || errors.Is(err, NotFound("NAME_TAKEN", "")) {
		t.Error("Is does not match by code and reason")
	}
}

func TestFromValidation(t *testing.T) {
	v, err := protovalidate.New()
	if err != nil {
		t.Fatal(err)
	}
	err = FromValidation(v.Validate(&accessv1.SetAccessBindingsRequest{
		AccessBindings: []*accessv1.AccessBinding{{RoleId: strings.Repeat("r", 65), Subject: &accessv1.Subject{Type: "userAccount"}}},
		Resource:       &accessv1.Resource{Id: strings.Repeat("я", 51)},
	}))
	e, ok := As(err)
	if !ok || e.Code != codes.InvalidArgument {
		t.Fatalf("%v", err)
	}
	var names []string
	for _, f := range e.Fields {
		names = append(names, f.Name)
		if f.Message == "" {
			t.Errorf("%s: no message", f.Name)
		}
	}
	want := []string{"resource.type", "resource.id", "access_bindings[0].role_id", "access_bindings[0].subject.id"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(e.Message, "resource.id: ") || !strings.Contains(e.Message, "50") {
		t.Errorf("the message names neither field nor limit: %s", e.Message)
	}
	if FromValidation(nil) != nil || CodeOf(FromValidation(errors.New("no CEL"))) != codes.Internal {
		t.Error("nil or a foreign error")
	}
}

// A status is sent in a trailer, and clients take no more than 8 KiB of those.
func TestAStatusFitsIntoATrailer(t *testing.T) {
	var fields []Field
	for i := range 1000 {
		fields = append(fields, Field{Name: fmt.Sprintf("items[%d].%s", i, strings.Repeat("я", 1000)), Message: strings.Repeat("long ", 1000)})
	}
	st := Invalid(fields...).GRPCStatus()
	if size := len(url.PathEscape(st.Message())) + proto.Size(st.Proto())*4/3; size > 8<<10 {
		t.Errorf("%d bytes", size)
	}
	if got := detail[*errdetails.BadRequest](t, st).GetFieldViolations(); len(got) != maxViolations || !strings.HasPrefix(got[0].GetField(), "items[0].") {
		t.Errorf("violations %v", got)
	}
}

func TestAStatusShowsNothingThatATerminalObeys_NM9(t *testing.T) {
	st := NotFound("R", "item %s not found", "a\x1b[31m\u202Eb\x00").WithMeta("id", "a\x1bb").GRPCStatus()
	if want := "item a\uFFFD[31m\uFFFDb\uFFFD not found"; st.Message() != want {
		t.Errorf("message %q, want %q", st.Message(), want)
	}
	if got := detail[*errdetails.ErrorInfo](t, st).GetMetadata()["id"]; got != "a\uFFFDb" {
		t.Errorf("metadata %q", got)
	}
}

// What a library says about a REST call is told in its sense, not in its words.
func TestDescribed(t *testing.T) {
	for _, tt := range []struct {
		code    codes.Code
		text    string
		want    codes.Code
		message string
	}{
		{codes.InvalidArgument, "proto:\u00a0syntax error (line 1:44): invalid UTF-8 in string", codes.InvalidArgument, "body: (line 1:44): invalid UTF-8 in string"},
		{codes.InvalidArgument, `proto: (line 1:2): unknown field "nam"`, codes.InvalidArgument, `nam: (line 1:2): unknown field "nam"`},
		{codes.InvalidArgument, `parsing field "page_size": strconv.ParseInt: parsing "x": invalid syntax`, codes.InvalidArgument, `page_size: parsing field "page_size": invalid syntax`},
		{codes.InvalidArgument, `proto: syntax error (line 1:1): unexpected token "my-password`, codes.InvalidArgument, `body: (line 1:1): unexpected token`},
		{codes.InvalidArgument, `proto: syntax error (line 1:9): invalid value my-password`, codes.InvalidArgument, `body: (line 1:9): invalid value`},
		{codes.InvalidArgument, `proto: (line 1:9): invalid value for int64 field pageSize: "my \"password"`, codes.InvalidArgument, `pageSize: (line 1:9): invalid value for int64 field pageSize`},
		{codes.InvalidArgument, `proto: (line 1:9): duplicate field "jwt"`, codes.InvalidArgument, `jwt: (line 1:9): duplicate field "jwt"`},
		{codes.InvalidArgument, `type mismatch, parameter: page_size, error: bad "my-password" there`, codes.InvalidArgument, `page_size: type mismatch, parameter: page_size, error: bad there`},
		{codes.InvalidArgument, "http: request body too large", codes.InvalidArgument, "body: is too large"},
		{codes.ResourceExhausted, "grpc: received message larger than max (5 vs. 4)", codes.InvalidArgument, "the request is too large"},
		{codes.Internal, "grpc: error while marshaling: " + secret, codes.Internal, "internal error"},
		{codes.Unavailable, "connection error: desc = " + secret, codes.Unavailable, "a service behind this one cannot be reached, try again"},
	} {
		got := Edge(Described(status.Error(tt.code, tt.text), "MALFORMED"), "")
		if got.Code() != tt.want || got.Message() != tt.message {
			t.Errorf("%s: got %v %q, want %q", tt.text, got.Code(), got.Message(), tt.message)
		}
	}
	own := NotFound("R", "x").GRPCStatus().Err()
	if Described(own, "MALFORMED") != own || Described(nil, "MALFORMED") != nil { //nolint:errorlint // the very same one
		t.Error("a refusal of ours is changed")
	}
}

// detail returns the detail of that type; the test fails without one.
func detail[T proto.Message](t *testing.T, st *status.Status) T {
	t.Helper()
	for _, d := range st.Details() {
		if m, ok := d.(T); ok {
			return m
		}
	}
	var none T
	t.Errorf("no %T in %v", none, st.Details())
	return none
}
