package accessbindings

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/checker"

	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// Refusals of credentials other than IAM tokens.
var (
	errCookie   = apierr.Unauthenticated(reasonCredentials, "cookies of login sessions are not known here: exchange the login for an IAM token")
	errBadKey   = apierr.Unauthenticated(reasonCredentials, "the credentials are not valid")
	errNoProver = apierr.Unavailable(apierr.ReasonUnavailable, "keys cannot be proven at the moment, try again")
)

const (
	reasonCredentials = "CREDENTIALS_INVALID"
	reasonScope       = "API_KEY_SCOPE_MISSING"

	// maxSecret bounds what is passed on as a secret: longer ones are of no key.
	maxSecret = 1024
)

// outOfScope refuses what a key was not made for, whatever its account may do (SK-4).
func (s *AccessService) outOfScope(q checker.Query, signed bool) error {
	if err := s.graph.fault(); err != nil {
		return err
	}
	e := apierr.Denied(reasonScope, "the scopes of the API key do not cover permission %s", q.Permission).
		WithMeta("permission", q.Permission, "resourceType", q.Resource.Type, "resourceId", q.Resource.ID)
	if signed {
		s.graph.seal(e, &decision{Query: q, revision: s.graph.Revision(), outOfScope: true})
	}
	return e
}

// authenticate proves credentials of any kind.
func (s *AccessService) authenticate(ctx context.Context, req *accessservicev2.AuthenticateRequest) (asked, error) {
	switch c := req.GetCredentials().(type) {
	case *accessservicev2.AuthenticateRequest_Signature:
		return s.prove(ctx, signed(c.Signature))
	case *accessservicev2.AuthenticateRequest_ApiKey:
		if c.ApiKey == "" {
			return asked{}, errEmptyToken
		}
		return s.prove(ctx, apiKey(c.ApiKey))
	case *accessservicev2.AuthenticateRequest_RefreshToken:
		if c.RefreshToken == "" {
			return asked{}, errEmptyToken
		}
		return s.prove(ctx, &identityv1.AuthenticateRequest{Credential: &identityv1.AuthenticateRequest_RefreshToken{RefreshToken: c.RefreshToken}})
	case *accessservicev2.AuthenticateRequest_IamCookie:
		return asked{}, errCookie
	default:
		return s.byToken(ctx, req.GetIamToken())
	}
}

func signed(sig *accessservicev2.AccessKeySignature) *identityv1.AuthenticateRequest {
	return &identityv1.AuthenticateRequest{Credential: &identityv1.AuthenticateRequest_AccessKeySignature{AccessKeySignature: sig}}
}

func apiKey(text string) *identityv1.AuthenticateRequest {
	return &identityv1.AuthenticateRequest{Credential: &identityv1.AuthenticateRequest_ApiKey{ApiKey: text}}
}

// prove asks identity whose credential it is, each time: no answer is kept, so that
// a key that was deleted is refused at once. Whether the subject may act the graph
// tells, after identity has answered. Fails: UNAUTHENTICATED; INVALID_ARGUMENT for a
// method of signing that is none; UNAVAILABLE while identity is away.
func (s *AccessService) prove(ctx context.Context, req *identityv1.AuthenticateRequest) (asked, error) {
	method := req.GetAccessKeySignature().GetV2Parameters().GetSignatureMethod()
	if _, known := accessservicev2.AccessKeySignature_Version2Parameters_SignatureMethod_name[int32(method)]; !known {
		return asked{}, apierr.InvalidField("signature.v2_parameters.signature_method", "%d is not a value of the field", method)
	}
	if len(req.GetApiKey()) > maxSecret || len(req.GetRefreshToken()) > maxSecret {
		return asked{}, errBadKey
	}
	resp, err := s.keys.Authenticate(ctx, req)
	if err != nil {
		return asked{}, unproven(err)
	}
	who := asked{Subject: checker.Subject{Type: resp.GetSubjectType(), ID: resp.GetSubjectId()}, scopes: resp.GetScopes()}
	p := authn.Principal{Type: who.Type, ID: who.ID}
	if id := resp.GetSessionId(); len(id) > 0 {
		if copy(p.Session[:], id) != len(p.Session) || len(id) != len(p.Session) {
			return asked{}, apierr.Internal(fmt.Errorf("a session with an id of %d bytes", len(id)))
		}
		who.session = checker.TokenID(p.Session)
	}
	return who, s.graph.mayAct(p, nowMicros(s.now))
}

// unproven reads why identity did not answer: a refusal is one, the caller's own end
// stays, all else means that nobody could tell.
func unproven(err error) error {
	err = apierr.FromRPC(err)
	var e *apierr.Error
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case e.Code == codes.Unauthenticated && e.Reason == reasonCredentials: // of the caller, not of this unit
		return e
	case e.Code == codes.InvalidArgument: // what is in it can be of no credential
		return errBadKey
	case e.Code == codes.Canceled, e.Code == codes.DeadlineExceeded:
		return e
	default:
		return errNoProver.WithCause(err)
	}
}
