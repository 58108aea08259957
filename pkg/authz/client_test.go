package authz

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// conn answers every call by a function.
type conn func(req any) (proto.Message, error)

func (c conn) Invoke(_ context.Context, _ string, req, reply any, _ ...grpc.CallOption) error {
	resp, err := c(req)
	if err == nil && resp != nil {
		proto.Merge(reply.(proto.Message), resp)
	}
	return err
}

func (c conn) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("no streams")
}

func TestClientAnswers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer error
		code   codes.Code
		reason string
	}{
		{"allowed", nil, codes.OK, ""},
		{"denied", apierr.Edge(Denied("p", Resource{"t", "i"}), "").Err(), codes.PermissionDenied, apierr.ReasonPermissionDenied},
		{"unknown resource", apierr.Edge(apierr.Denied(apierr.ReasonResourceNotFound, "x"), "").Err(), codes.PermissionDenied, apierr.ReasonResourceNotFound},
		{"revoked", apierr.Edge(apierr.Unauthenticated(apierr.ReasonTokenRevoked, "x"), "").Err(), codes.Unauthenticated, apierr.ReasonTokenRevoked},
		{"not reachable", status.Error(codes.Unavailable, "connection refused"), codes.Unavailable, apierr.ReasonCheckerUnavailable},
		{"unknown permission", apierr.Edge(apierr.InvalidField("permission", "unknown"), "").Err(), codes.Internal, apierr.ReasonInternal},
		{"unit not trusted", apierr.Edge(apierr.Unauthenticated(apierr.ReasonUnitInvalid, "x"), "").Err(), codes.Internal, apierr.ReasonInternal},
		{"no such service", status.Error(codes.Unimplemented, "x"), codes.Internal, apierr.ReasonInternal},
		{"denied by a stranger", status.Error(codes.PermissionDenied, "x"), codes.Internal, apierr.ReasonInternal},
		{"caller's deadline", context.DeadlineExceeded, codes.DeadlineExceeded, apierr.ReasonDeadline},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := NewClient(conn(func(any) (proto.Message, error) { return nil, tt.answer }))
			_, eachErr := c.AuthorizeEach(t.Context(), user.Principal, "p", []Resource{{"t", "i"}})
			for what, err := range map[string]error{
				"Authenticate":  c.Authenticate(t.Context(), user.Principal),
				"Authorize":     c.Authorize(t.Context(), user.Principal, "p", Resource{"t", "i"}),
				"AuthorizeEach": eachErr,
			} {
				if apierr.CodeOf(err) != tt.code || apierr.ReasonOf(err) != tt.reason {
					t.Errorf("%s: %v %q, want %v %q", what, apierr.CodeOf(err), apierr.ReasonOf(err), tt.code, tt.reason)
				}
			}
		})
	}
}

func TestClientAsksWithTheCallersToken(t *testing.T) {
	var got *accessservicev2.AuthorizeRequest
	c := NewClient(conn(func(req any) (proto.Message, error) {
		got, _ = req.(*accessservicev2.AuthorizeRequest)
		return nil, nil
	}))
	if err := c.Authorize(t.Context(), user.Principal, "p", Resource{"rm.folder", "f1"}); err != nil {
		t.Fatal(err)
	}
	if got.GetIamToken() != user.Principal.Token || got.GetPermission() != "p" || len(got.GetResourcePath()) != 1 ||
		got.GetResourcePath()[0].GetType() != "rm.folder" || got.GetResourcePath()[0].GetId() != "f1" {
		t.Errorf("asked %v", got)
	}
}

// Fields of public requests are longer than what AccessService takes (bad input).
func TestClientDoesNotAskAboutWhatCannotExist(t *testing.T) {
	asked := 0
	var answer error
	c := NewClient(conn(func(req any) (proto.Message, error) {
		if _, ok := req.(*accessservicev2.AuthenticateRequest); !ok {
			t.Errorf("asked %T", req)
		}
		asked++
		return nil, answer
	}))
	for _, r := range []Resource{{"t", strings.Repeat("я", 51)}, {strings.Repeat("t", 65), "i"}} {
		if err := c.Authorize(t.Context(), user.Principal, "p", r); apierr.ReasonOf(err) != apierr.ReasonResourceNotFound {
			t.Errorf("%v: %v", r, err)
		}
	}
	answer = apierr.Edge(apierr.Unauthenticated(apierr.ReasonTokenRevoked, "x"), "").Err()
	if err := c.Authorize(t.Context(), user.Principal, "p", Resource{"t", strings.Repeat("a", 51)}); apierr.CodeOf(err) != codes.Unauthenticated || asked != 3 {
		t.Errorf("revoked: %v, asked %d times", err, asked)
	}
}

func TestClientAuthorizeEach(t *testing.T) {
	item := func(permission, id string, denied bool) *accessservicev2.BulkAuthorizeResponse_Result {
		r := &accessservicev2.BulkAuthorizeResponse_Result{Permission: permission, ResourcePath: []*accessservicev2.Resource{{Type: "t", Id: id}}}
		if denied {
			r.PermissionDeniedError = &accessservicev2.BulkAuthorizeResponse_Error{Message: "no"}
		}
		return r
	}
	c := NewClient(conn(func(any) (proto.Message, error) {
		return &accessservicev2.BulkAuthorizeResponse{Results: &accessservicev2.BulkAuthorizeResponse_Results{
			Items: []*accessservicev2.BulkAuthorizeResponse_Result{item("p", "b", true), item("p", "a", false), item("q", "c", false), {Permission: "p"}},
		}}, nil
	}))
	got, err := c.AuthorizeEach(t.Context(), user.Principal, "p", []Resource{{"t", "a"}, {"t", "b"}, {"t", "c"}, {"u", "a"}})
	if want := []bool{true, false, false, false}; err != nil || !cmp.Equal(got, want) {
		t.Errorf("got %v %v, want %v: what the answer does not allow is denied", got, err, want)
	}
	if got, err := c.AuthorizeEach(t.Context(), user.Principal, "p", nil); len(got) != 0 || err != nil {
		t.Errorf("nothing asked: %v %v", got, err)
	}
	if _, err := c.AuthorizeEach(t.Context(), user.Principal, "p", make([]Resource, MaxEach+1)); apierr.CodeOf(err) != codes.Internal {
		t.Errorf("too many: %v", err)
	}
}

func TestClientAuthorizeEachUnauthenticated(t *testing.T) {
	info, err := anypb.New(&errdetails.ErrorInfo{Domain: apierr.Domain, Reason: apierr.ReasonTokenRevoked})
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(conn(func(any) (proto.Message, error) {
		return &accessservicev2.BulkAuthorizeResponse{UnauthenticatedError: &accessservicev2.BulkAuthorizeResponse_Error{
			Message: "revoked", Details: []*anypb.Any{info}}}, nil
	}))
	_, err = c.AuthorizeEach(t.Context(), user.Principal, "p", []Resource{{"t", "a"}})
	if apierr.CodeOf(err) != codes.Unauthenticated || apierr.ReasonOf(err) != apierr.ReasonTokenRevoked {
		t.Errorf("got %v", err)
	}
}
