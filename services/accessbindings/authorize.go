package accessbindings

import (
	"context"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// AccessService is yandex.cloud.priv.accessservice.v2.AccessService, the check
// that every service asks on each request of its own. It reads the graph alone: no
// SQL, no lock.
type AccessService struct {
	accessservicev2.UnimplementedAccessServiceServer
	graph  *graph
	tokens *authn.Verifier
	now    func() time.Time
}

// Bounds of what is asked: the questions of a BulkAuthorize, and the resources of
// one path, which the contract bounds in a BulkAuthorize only.
const (
	maxQuestions = 1000
	maxPath      = 128
)

// Refusals of the check.
var (
	errEmptyToken  = apierr.Unauthenticated(apierr.ReasonTokenMissing, "the credentials are empty")
	errNoSuchKey   = apierr.Unauthenticated("CREDENTIALS_INVALID", "no such key is known")
	errRevoked     = apierr.Unauthenticated(apierr.ReasonTokenRevoked, "the token is revoked")
	errInactive    = apierr.Unauthenticated(apierr.ReasonSubjectInactive, "the subject is unknown, suspended or deleted")
	errAnonymous   = apierr.Denied(apierr.ReasonPermissionDenied, "an anonymous caller has no permissions") // PG-2
	errNoKind      = apierr.InvalidField("subject", "must be a user account, a service account or anonymous")
	errManyAsked   = apierr.InvalidField("action_matrix", "asks more than %d questions", maxQuestions)
	errLongPath    = apierr.InvalidField("resource_path", "must have at most %d resources", maxPath)
	errNothing     = apierr.InvalidField("resource_path", "must have at least one resource")
	errUnavailable = apierr.Unavailable(apierr.ReasonCheckerUnavailable, "the permission checker is not in step with its store")
)

// Authenticate tells whose credentials these are. Fails: UNAUTHENTICATED for bad,
// expired, revoked or empty ones, and for those of a subject that may not act.
func (s *AccessService) Authenticate(ctx context.Context, req *accessservicev2.AuthenticateRequest) (*accessservicev2.AuthenticateResponse, error) {
	if _, ok := req.GetCredentials().(*accessservicev2.AuthenticateRequest_IamToken); !ok {
		return nil, errNoSuchKey
	}
	p, err := s.verify(ctx, req.GetIamToken())
	if err != nil {
		return nil, err
	}
	return &accessservicev2.AuthenticateResponse{Subject: s.subject(checker.Subject{Type: p.Type, ID: p.ID})}, nil
}

// Authorize tells whether an identity holds a permission on a resource; OK is yes.
func (s *AccessService) Authorize(ctx context.Context, req *accessservicev2.AuthorizeRequest) (*accessservicev2.AuthorizeResponse, error) {
	who, err := s.identify(ctx, req)
	if err != nil {
		return nil, err
	}
	path, err := s.decide(who, req.GetPermission(), req.GetResourcePath(), nowMicros(s.now))
	if err != nil {
		return nil, err
	}
	return &accessservicev2.AuthorizeResponse{Subject: s.subject(who.Subject), ResourcePath: path}, nil
}

// BulkAuthorize asks many questions about one identity. A bad identity and denials
// are part of the answer; all else is an error of the call.
func (s *AccessService) BulkAuthorize(ctx context.Context, req *accessservicev2.BulkAuthorizeRequest) (*accessservicev2.BulkAuthorizeResponse, error) {
	questions, err := questionsOf(req)
	if err != nil {
		return nil, err
	}
	mask, err := maskOf(req.GetResultMask())
	if err != nil {
		return nil, err
	}
	filter := req.GetResultFilter()
	if _, known := accessservicev2.BulkAuthorizeRequest_ResultFilter_name[int32(filter)]; !known {
		return nil, apierr.InvalidField("result_filter", "%d is not a value of the field", filter)
	}
	who, err := s.identify(ctx, req)
	if bad, ok := expected(err, codes.Unauthenticated); ok {
		return &accessservicev2.BulkAuthorizeResponse{UnauthenticatedError: bad}, nil
	}
	if err != nil {
		return nil, err
	}
	resp := &accessservicev2.BulkAuthorizeResponse{
		Subject: s.subject(who.Subject), Results: new(accessservicev2.BulkAuthorizeResponse_Results),
	}
	now := nowMicros(s.now)
	for _, q := range questions {
		path, err := s.decide(who, q.permission, q.path, now)
		denial, denied := expected(err, codes.PermissionDenied)
		if err != nil && !denied {
			return nil, q.fault(err)
		}
		if !denied && filter != accessservicev2.BulkAuthorizeRequest_RESULT_FILTER_UNSPECIFIED {
			continue
		}
		if denied {
			path = q.path
		}
		resp.Results.Items = append(resp.Results.Items, mask.result(q.permission, path, denial))
		if denied && filter == accessservicev2.BulkAuthorizeRequest_FIRST_FAILED {
			break
		}
	}
	return resp, nil
}

// identity is what Authorize and BulkAuthorize say about who is asked for.
type identity interface {
	GetSubject() *accessservicev2.Subject
	GetIamToken() string
	GetSignature() *accessservicev2.AccessKeySignature
	GetApiKey() string
}

// asked is who a question is about.
type asked struct {
	checker.Subject
	token     checker.TokenID
	anonymous bool
}

// identify proves credentials; a subject is taken as given.
func (s *AccessService) identify(ctx context.Context, id identity) (asked, error) {
	given := id.GetSubject()
	if given == nil {
		if id.GetSignature() != nil || id.GetApiKey() != "" {
			return asked{}, errNoSuchKey
		}
		p, err := s.verify(ctx, id.GetIamToken())
		if err != nil {
			return asked{}, err
		}
		return asked{Subject: checker.Subject{Type: p.Type, ID: p.ID}, token: checker.TokenID(p.TokenID)}, nil
	}
	switch t := given.GetType().(type) {
	case *accessservicev2.Subject_UserAccount_:
		typ := rules.UserAccount
		if t.UserAccount.GetFederationId() != "" {
			typ = rules.FederatedUser
		}
		return asked{Subject: checker.Subject{Type: typ, ID: t.UserAccount.GetId()}}, nil
	case *accessservicev2.Subject_ServiceAccount_:
		return asked{Subject: checker.Subject{Type: rules.ServiceAccount, ID: t.ServiceAccount.GetId()}}, nil
	case *accessservicev2.Subject_AnonymousAccount_:
		return asked{anonymous: true}, nil
	default:
		return asked{}, errNoKind
	}
}

// verify turns a token into its subject, who may act.
func (s *AccessService) verify(ctx context.Context, token string) (*authn.Principal, error) {
	if token == "" {
		return nil, errEmptyToken
	}
	p, err := s.tokens.Verify(ctx, token)
	if err != nil {
		return nil, err
	}
	return p, s.graph.mayAct(checker.Subject{Type: p.Type, ID: p.ID}, checker.TokenID(p.TokenID))
}

// decide answers one question: nil and the full path for yes.
func (s *AccessService) decide(who asked, permission string, given []*accessservicev2.Resource, now int64) ([]*accessservicev2.Resource, error) {
	if !s.graph.catalog.KnownPermission(permission) {
		return nil, apierr.InvalidField("permission", "%q is not in the catalogue", permission)
	}
	path, at, err := s.graph.complete(given)
	if err != nil {
		return nil, err
	}
	if who.anonymous {
		return nil, errAnonymous
	}
	target := path[at]
	q := checker.Query{
		Subject: who.Subject, Permission: permission, Now: now, Token: who.token,
		Resource: checker.Resource{Type: target.GetType(), ID: target.GetId()},
	}
	if err := s.graph.decide(q); err != nil {
		return nil, err
	}
	return path, nil
}

// subject is a subject as the service shows it. A service account names its folder.
func (s *AccessService) subject(who checker.Subject) *accessservicev2.Subject {
	switch who.Type {
	case rules.ServiceAccount:
		return &accessservicev2.Subject{Type: &accessservicev2.Subject_ServiceAccount_{
			ServiceAccount: &accessservicev2.Subject_ServiceAccount{Id: who.ID, FolderId: s.graph.folderOf(who.ID)},
		}}
	case "":
		return &accessservicev2.Subject{Type: &accessservicev2.Subject_AnonymousAccount_{
			AnonymousAccount: &accessservicev2.Subject_AnonymousAccount{},
		}}
	default:
		return &accessservicev2.Subject{Type: &accessservicev2.Subject_UserAccount_{
			UserAccount: &accessservicev2.Subject_UserAccount{Id: who.ID, FederationId: s.federation(who)},
		}}
	}
}

func (s *AccessService) federation(who checker.Subject) string {
	if who.Type != rules.FederatedUser {
		return ""
	}
	return s.graph.federationOf(who)
}

// expected returns the part of an answer of BulkAuthorize that a failure with the
// code is; ok is false for any other failure, and for none.
func expected(err error, code codes.Code) (part *accessservicev2.BulkAuthorizeResponse_Error, ok bool) {
	e, ok := apierr.As(err)
	if !ok || e.Code != code {
		return nil, false
	}
	out := &accessservicev2.BulkAuthorizeResponse_Error{Message: e.Message}
	info := &errdetails.ErrorInfo{Reason: e.Reason, Domain: apierr.Domain, Metadata: e.Meta}
	if a, err := anypb.New(info); err == nil { // it is a valid message, the only thing that can fail
		out.Details = append(out.Details, a)
	}
	return out, true
}
