package authz

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// Limits of what AccessService takes. The fields of some public requests are longer;
// what does not fit is the id of nothing.
const (
	maxAskedType = 64
	maxAskedID   = 50
)

func (r Resource) askable() bool {
	return utf8.RuneCountInString(r.Type) <= maxAskedType && utf8.RuneCountInString(r.ID) <= maxAskedID
}

// Client asks the AccessService of accessbindings, with the caller's own token.
type Client struct {
	service accessservicev2.AccessServiceClient
}

var _ Decider = (*Client)(nil)

// NewClient returns a Decider that asks over conn.
func NewClient(conn grpc.ClientConnInterface) *Client {
	return &Client{service: accessservicev2.NewAccessServiceClient(conn)}
}

// Authenticate asks AccessService.Authenticate.
func (c *Client) Authenticate(ctx context.Context, p authn.Principal) error {
	_, err := c.service.Authenticate(ctx, &accessservicev2.AuthenticateRequest{
		Credentials: &accessservicev2.AuthenticateRequest_IamToken{IamToken: p.Token},
	})
	return decided(err)
}

// Authorize asks AccessService.Authorize.
func (c *Client) Authorize(ctx context.Context, p authn.Principal, permission string, r Resource) error {
	if !r.askable() {
		if err := c.Authenticate(ctx, p); err != nil {
			return err
		}
		return NotFound(r)
	}
	_, err := c.service.Authorize(ctx, &accessservicev2.AuthorizeRequest{
		Identity:     &accessservicev2.AuthorizeRequest_IamToken{IamToken: p.Token},
		Permission:   permission,
		ResourcePath: []*accessservicev2.Resource{{Type: r.Type, Id: r.ID}},
	})
	return decided(err)
}

// AuthorizeEach asks AccessService.BulkAuthorize. A resource that the answer does
// not mention is a no.
func (c *Client) AuthorizeEach(ctx context.Context, p authn.Principal, permission string, rs []Resource) ([]bool, error) {
	if len(rs) == 0 {
		return nil, nil
	}
	if len(rs) > MaxEach {
		return nil, apierr.Internal(fmt.Errorf("%d resources in one question, at most %d", len(rs), MaxEach))
	}
	actions := make([]*accessservicev2.BulkAuthorizeRequest_Action, len(rs))
	for i, r := range rs {
		actions[i] = &accessservicev2.BulkAuthorizeRequest_Action{
			Permission:   permission,
			ResourcePath: []*accessservicev2.Resource{{Type: r.Type, Id: r.ID}},
		}
	}
	resp, err := c.service.BulkAuthorize(ctx, &accessservicev2.BulkAuthorizeRequest{
		Identity:       &accessservicev2.BulkAuthorizeRequest_IamToken{IamToken: p.Token},
		Authorizations: &accessservicev2.BulkAuthorizeRequest_Actions_{Actions: &accessservicev2.BulkAuthorizeRequest_Actions{Items: actions}},
	})
	if err != nil {
		return nil, decided(err)
	}
	if e := resp.GetUnauthenticatedError(); e != nil {
		return nil, unauthenticated(e.GetMessage(), e.GetDetails())
	}
	allowed := make(map[Resource]bool, len(rs))
	for _, item := range resp.GetResults().GetItems() {
		if path := item.GetResourcePath(); len(path) > 0 && item.GetPermission() == permission {
			allowed[Resource{path[0].GetType(), path[0].GetId()}] = item.GetPermissionDeniedError() == nil
		}
	}
	out := make([]bool, len(rs))
	for i, r := range rs {
		out[i] = allowed[r]
	}
	return out, nil
}

// decided reads the error of a question: a refusal is an answer; the caller's own
// deadline stays; all else means that nobody decided.
func decided(err error) error {
	err = apierr.FromRPC(err)
	var e *apierr.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code {
	case codes.Unauthenticated, codes.PermissionDenied, codes.Canceled, codes.DeadlineExceeded:
		return e
	case codes.Unavailable, codes.ResourceExhausted:
		return apierr.Unavailable(apierr.ReasonCheckerUnavailable, "the permission checker cannot be reached, try again").WithCause(err)
	default:
		return apierr.Internal(fmt.Errorf("ask the checker: %w", err))
	}
}

func unauthenticated(message string, details []*anypb.Any) error {
	e := apierr.Unauthenticated(apierr.ReasonTokenInvalid, "%s", message)
	for _, d := range details {
		info := new(errdetails.ErrorInfo)
		if d.UnmarshalTo(info) == nil && info.GetDomain() == apierr.Domain {
			e.Reason = info.GetReason()
		}
	}
	return e
}
