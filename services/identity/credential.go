package identity

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/log"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
	"github.com/bindery-iam/bindery/services/identity/awssig"
)

// credentials is bindery.identity.v1.CredentialService.
type credentials struct {
	identityv1.UnsafeCredentialServiceServer // a missing method does not compile
	*Service
}

// Authenticate tells whose credential it is, from the store as it stands: what was
// deleted is refused from then on. A credential that is unknown, has ended or is
// wrong in any way is UNAUTHENTICATED: CREDENTIALS_INVALID, and nothing more.
func (s *credentials) Authenticate(ctx context.Context, req *identityv1.AuthenticateRequest) (*identityv1.AuthenticateResponse, error) {
	switch c := req.GetCredential().(type) {
	case *identityv1.AuthenticateRequest_ApiKey:
		return s.byAPIKey(ctx, c.ApiKey)
	case *identityv1.AuthenticateRequest_AccessKeySignature:
		return s.bySignature(ctx, c.AccessKeySignature)
	case *identityv1.AuthenticateRequest_RefreshToken:
		return s.bySession(ctx, c.RefreshToken)
	default:
		return nil, errCredential
	}
}

// apiKeyOf finds the key with that secret, which must not have ended.
func (s *Service) apiKeyOf(ctx context.Context, text string) (APIKey, error) {
	if len(text) != apiKeyLen || !strings.HasPrefix(text, apiKeyPrefix) {
		return APIKey{}, errCredential
	}
	k, found, err := s.store.APIKeyByHash(ctx, s.store.db, hashAPIKey(text))
	if err != nil {
		return APIKey{}, err
	}
	if !found || k.ended(s.now()) {
		return APIKey{}, errCredential
	}
	return k, nil
}

// byAPIKey proves the account of an API key, within its scopes (SK-4).
func (s *Service) byAPIKey(ctx context.Context, text string) (*identityv1.AuthenticateResponse, error) {
	k, err := s.apiKeyOf(ctx, text)
	if err != nil {
		return nil, err
	}
	resp := s.proven(ctx, &apiKeyKind, k.accountKey)
	if !isEverything(k.Scopes, s.catalog.DefaultScope()) {
		resp.Scopes = k.Scopes
	}
	return resp, nil
}

// isEverything reports whether the scopes restrict nothing.
func isEverything(scopes []string, everything string) bool {
	for _, scope := range scopes {
		if scope == everything {
			return true
		}
	}
	return false
}

// bySession finds the session that a refresh token would go on with; the token stays
// good for that (TK-5).
func (s *Service) bySession(ctx context.Context, text string) (*identityv1.AuthenticateResponse, error) {
	n, err := s.byRefreshToken(ctx, text)
	if apierr.ReasonOf(err) == ReasonCredentialsInvalid {
		return nil, errCredential
	}
	if err != nil {
		return nil, err
	}
	return &identityv1.AuthenticateResponse{SubjectType: subjectTypeOf(n.UserID), SubjectId: n.UserID, CredentialId: n.ID, SessionId: n.Key[:]}, nil
}

// signature is one of an access key, of either version.
type signature interface {
	Check(now time.Time) error
	Verify(secret string) error
}

// signatureOf reads the parameters of a signature; nil when they name no
// version or method that is known.
func signatureOf(sig *accessservicev2.AccessKeySignature) signature {
	switch p := sig.GetParameters().(type) {
	case *accessservicev2.AccessKeySignature_V4Parameters:
		return awssig.V4{
			StringToSign: sig.GetStringToSign(), Signature: sig.GetSignature(),
			SignedAt: p.V4Parameters.GetSignedAt().AsTime(), Service: p.V4Parameters.GetService(), Region: p.V4Parameters.GetRegion(),
		}
	case *accessservicev2.AccessKeySignature_V2Parameters:
		s := awssig.V2{StringToSign: sig.GetStringToSign(), Signature: sig.GetSignature()}
		switch p.V2Parameters.GetSignatureMethod() {
		case accessservicev2.AccessKeySignature_Version2Parameters_HMAC_SHA1:
			return s
		case accessservicev2.AccessKeySignature_Version2Parameters_HMAC_SHA256:
			s.SHA256 = true
			return s
		case accessservicev2.AccessKeySignature_Version2Parameters_SIGNATURE_METHOD_UNSPECIFIED:
		}
	}
	return nil
}

// bySignature finds the access key that signed, and verifies the signature.
func (s *Service) bySignature(ctx context.Context, req *accessservicev2.AccessKeySignature) (*identityv1.AuthenticateResponse, error) {
	sig, now := signatureOf(req), s.now()
	if sig == nil {
		return nil, errCredential
	}
	if err := sig.Check(now); err != nil {
		return nil, errCredential.WithCause(err)
	}
	k, found, err := s.store.AccessKeyByKeyID(ctx, s.store.db, req.GetAccessKeyId())
	if err != nil {
		return nil, err
	}
	if !found || k.ended(now) {
		return nil, errCredential
	}
	secret, err := unseal(s.sealer, sealedAccessKeys, k.ID, k.Secret)
	if err != nil {
		return nil, err
	}
	if err := sig.Verify(string(secret)); err != nil {
		return nil, errCredential.WithCause(err)
	}
	return s.proven(ctx, &accessKeyKind, k.accountKey), nil
}

// proven is the answer for a key that was accepted, which it notes.
func (s *Service) proven(ctx context.Context, kind *keyKind, k accountKey) *identityv1.AuthenticateResponse {
	s.noteUse(ctx, kind, k)
	return &identityv1.AuthenticateResponse{SubjectType: authn.ServiceAccount, SubjectId: k.AccountID, CredentialId: k.ID}
}

// noteUse writes when a key was last used, at most once in noteEvery: a service may
// ask on each request of its own. That it fails is no reason to refuse the key.
func (s *Service) noteUse(ctx context.Context, kind *keyKind, k accountKey) {
	now := s.now()
	if now.Sub(k.LastUsedAt) < noteEvery {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, noteWithin)
	defer cancel()
	err := sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		return s.store.keyUsed(ctx, tx, kind, k, now)
	})
	if err != nil {
		log.From(ctx).Warn("use of a key not noted", zap.String("key_id", k.ID), zap.Error(err))
	}
}
