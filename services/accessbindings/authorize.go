package accessbindings

import (
	"context"
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// AccessService is yandex.cloud.priv.accessservice.v2.AccessService, the check
// that every service asks on each request of its own. For tokens and subjects it
// reads the graph alone: no SQL, no lock. Keys are proven by the unit identity.
type AccessService struct {
	accessservicev2.UnimplementedAccessServiceServer
	graph  *graph
	after  func(context.Context) error // waits for the revision that a call carries
	tokens *authn.Verifier
	keys   identityv1.CredentialServiceClient
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
	errRevoked     = apierr.Unauthenticated(apierr.ReasonTokenRevoked, "the token is revoked")
	errInactive    = apierr.Unauthenticated(apierr.ReasonSubjectInactive, "the subject is unknown, suspended or deleted")
	errAnonymous   = apierr.Denied(apierr.ReasonPermissionDenied, "an anonymous caller has no permissions") // PG-2
	errNoKind      = apierr.InvalidField("subject", "must be a user account, a service account or anonymous")
	errManyAsked   = apierr.InvalidField("action_matrix", "asks more than %d questions", maxQuestions)
	errLongPath    = apierr.InvalidField("resource_path", "must have at most %d resources", maxPath)
	errNothing     = apierr.InvalidField("resource_path", "must have at least one resource")
	errUnavailable = apierr.Unavailable(apierr.ReasonCheckerUnavailable, "the permission checker is not in step with its store")
	errNoLease     = apierr.Unavailable(apierr.ReasonCheckerUnavailable, "the permission checker cannot tell whether it is in step with its store, try again")
)

// Authenticate tells whose credentials these are. Fails: UNAUTHENTICATED for bad,
// expired, revoked or empty ones, and for those of a subject that may not act.
func (s *AccessService) Authenticate(ctx context.Context, req *accessservicev2.AuthenticateRequest) (*accessservicev2.AuthenticateResponse, error) {
	who, err := s.authenticate(ctx, req)
	if err != nil {
		return nil, err
	}
	return &accessservicev2.AuthenticateResponse{Subject: s.subject(who.Subject)}, nil
}

// Authorize tells whether an identity holds a permission on a resource; OK is yes.
func (s *AccessService) Authorize(ctx context.Context, req *accessservicev2.AuthorizeRequest) (*accessservicev2.AuthorizeResponse, error) {
	if err := s.after(ctx); err != nil {
		return nil, err
	}
	who, err := s.identify(ctx, req)
	if err != nil {
		return nil, err
	}
	path, err := s.decide(who, req.GetPermission(), req.GetResourcePath(), nowMicros(s.now), true)
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
	if err := s.after(ctx); err != nil {
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
		path, err := s.decide(who, q.permission, q.path, now, mask.ids)
		if errors.As(err, new(unasked)) {
			return nil, err
		}
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
	session   checker.TokenID
	scopes    []string // of an API key (SK-4); none restrict nothing
	anonymous bool

	by *authn.Principal // who names the subject by its id (EX-7); nil for who is proven
}

// identify proves credentials; a subject is taken as given, from those who may ask.
func (s *AccessService) identify(ctx context.Context, id identity) (asked, error) {
	given := id.GetSubject()
	if given == nil {
		switch {
		case id.GetSignature() != nil:
			return s.prove(ctx, signed(id.GetSignature()))
		case id.GetApiKey() != "":
			return s.prove(ctx, apiKey(id.GetApiKey()))
		}
		return s.byToken(ctx, id.GetIamToken())
	}
	p := authn.FromContext(ctx)
	who := asked{by: &p}
	switch t := given.GetType().(type) {
	case *accessservicev2.Subject_UserAccount_:
		who.Type, who.ID = rules.UserAccount, t.UserAccount.GetId()
		if t.UserAccount.GetFederationId() != "" {
			who.Type = rules.FederatedUser
		}
	case *accessservicev2.Subject_ServiceAccount_:
		who.Type, who.ID = rules.ServiceAccount, t.ServiceAccount.GetId()
	case *accessservicev2.Subject_AnonymousAccount_:
		who.anonymous = true
	default:
		return asked{}, errNoKind
	}
	return who, nil
}

// unasked is why a caller may not ask a question: no answer to it.
type unasked struct{ error }

func (u unasked) Unwrap() error { return u.error }

// permissionCheck lets a subject ask about others on a resource.
const permissionCheck = "iam.access.check"

// mayAsk is EX-7: about a subject that is named by its id alone ask units of the
// installation, the subject itself, and those who hold iam.access.check on the
// resource. Whoever brings a credential of the subject needs nothing else.
func (s *AccessService) mayAsk(who asked, on checker.Resource, now int64) error {
	if who.by == nil || who.by.Unit != "" || who.Type == who.by.Type && who.ID == who.by.ID {
		return nil
	}
	return s.graph.judge(checker.Query{
		Subject: checker.Subject{Type: who.by.Type, ID: who.by.ID}, Permission: permissionCheck, Resource: on, Now: now,
		Token: checker.TokenID(who.by.TokenID), Session: checker.TokenID(who.by.Session),
	})
}

// byToken turns a token into its subject, who may act.
func (s *AccessService) byToken(ctx context.Context, token string) (asked, error) {
	if token == "" {
		return asked{}, errEmptyToken
	}
	p, err := s.tokens.Verify(ctx, token)
	if err != nil {
		return asked{}, err
	}
	who := asked{Subject: checker.Subject{Type: p.Type, ID: p.ID}}
	who.token, who.session = checker.TokenID(p.TokenID), checker.TokenID(p.Session)
	return who, s.graph.mayAct(*p, nowMicros(s.now))
}

// decide answers one question: nil and the full path for yes. signed is whether a denial
// carries a decision id (EX-8).
func (s *AccessService) decide(
	who asked, permission string, given []*accessservicev2.Resource, now int64, signed bool,
) ([]*accessservicev2.Resource, error) {
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
		Subject: who.Subject, Permission: permission, Now: now, Token: who.token, Session: who.session,
		Resource: checker.Resource{Type: target.GetType(), ID: target.GetId()},
	}
	if err := s.mayAsk(who, q.Resource, now); err != nil {
		return nil, unasked{err}
	}
	by := s.graph.decide
	switch {
	case len(who.scopes) > 0 && !s.graph.catalog.Covers(who.scopes, permission):
		return nil, s.outOfScope(q, signed)
	case signed:
		by = s.graph.judge
	}
	if err := by(q); err != nil {
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
