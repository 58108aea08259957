package identity

import (
	"context"
	"database/sql"
	"time"

	"github.com/bindery-iam/bindery/pkg/authn"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
)

// apiKeyTokens is bindery.identity.v1.ApiKeyTokenService.
type apiKeyTokens struct {
	identityv1.UnsafeApiKeyTokenServiceServer // a missing method does not compile
	*Service
}

// CreateTokenForApiKey issues an IAM token of a key's account, of 12 hours at most and
// not beyond the end of the key (TK-1). Like any other it outlives its credential:
// what ends it early is IamTokenService.Revoke. Fails: CREDENTIALS_INVALID;
// API_KEY_SCOPED for a key with scopes, which a token would not keep.
func (s *apiKeyTokens) CreateTokenForApiKey(ctx context.Context, req *identityv1.CreateTokenForApiKeyRequest) (*identityv1.CreateTokenForApiKeyResponse, error) { //nolint:revive // the name is that of the RPC
	k, err := s.apiKeyOf(ctx, req.GetApiKey())
	if err != nil {
		return nil, err
	}
	if !isEverything(k.Scopes, s.catalog.DefaultScope()) {
		return nil, errKeyScoped
	}
	active, until, err := s.holderActive(ctx, Holder{AccountID: k.AccountID})
	if err != nil {
		return nil, err
	}
	if until.IsZero() || !k.ExpiresAt.IsZero() && k.ExpiresAt.Before(until) {
		until = k.ExpiresAt
	}
	if !active || !until.IsZero() && until.Sub(s.now()) < time.Second { // a token counts whole seconds
		return nil, errCredential
	}
	token, err := s.exchange(ctx, proof{
		subject: k.account(), typ: authn.ServiceAccount, until: until, lastUsed: k.LastUsedAt,
		details: map[string]any{"credential": "api_key", "api_key_id": k.ID},
		used: func(ctx context.Context, tx *sql.Tx, at time.Time) error {
			return s.store.keyUsed(ctx, tx, &apiKeyKind, k.accountKey, at)
		},
	})
	if err != nil {
		return nil, err
	}
	return &identityv1.CreateTokenForApiKeyResponse{IamToken: token.GetIamToken(), ExpiresAt: token.GetExpiresAt()}, nil
}
