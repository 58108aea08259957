package identity

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	"github.com/bindery-iam/bindery/services/identity/workload"
)

// tokenExchange is bindery.identity.v1.TokenExchangeService.
type tokenExchange struct {
	identityv1.UnsafeTokenExchangeServiceServer // a missing method does not compile
	*Service
}

// ExchangeToken issues an IAM token to a workload (WI-1). Keys are read only for a token
// that a credential is waiting for: strangers cause no call to anywhere. Fails:
// CREDENTIALS_INVALID, whatever is wrong with the token; UNAVAILABLE while the keys of
// its issuer cannot be read.
func (s *tokenExchange) ExchangeToken(ctx context.Context, req *identityv1.ExchangeTokenRequest) (*identityv1.ExchangeTokenResponse, error) {
	p, err := s.byWorkload(ctx, req.GetServiceAccountId(), req.GetSubjectToken())
	if err != nil {
		return nil, err
	}
	resp, err := s.exchange(ctx, p)
	if err != nil {
		return nil, err
	}
	return &identityv1.ExchangeTokenResponse{IamToken: resp.GetIamToken(), ExpiresAt: resp.GetExpiresAt()}, nil
}

// byWorkload proves an account by a token of a workload that may act as it.
func (s *Service) byWorkload(ctx context.Context, accountID, text string) (proof, error) {
	token, err := workload.Parse(text, s.now())
	if err != nil {
		return proof{}, errSubjectToken.WithCause(err)
	}
	trusts, err := s.store.TrustsIn(ctx, accountID, token.Subject)
	if err != nil {
		return proof{}, err
	}
	cause := errors.New("no federated credential for the subject")
	var unread error
	for _, t := range trusts {
		if err := token.For(t.Federation.Issuer, t.Federation.Audiences); err != nil {
			cause = err
			continue
		}
		err := token.Verify(ctx, s.keySets.At(t.Federation.KeysURL))
		switch {
		case err == nil:
			return s.workloadProof(ctx, t)
		case errors.Is(err, workload.ErrInvalid):
			cause = err
		default: // another federation of the issuer may have other keys
			unread = err
		}
	}
	if unread != nil {
		if ctx.Err() != nil {
			return proof{}, unread
		}
		return proof{}, errIssuerKeys.WithCause(unread)
	}
	return proof{}, errSubjectToken.WithCause(cause)
}

// workloadProof is the account of a credential whose workload has proven itself.
func (s *Service) workloadProof(ctx context.Context, t trust) (proof, error) {
	a, err := s.store.ServiceAccount(ctx, s.store.db, t.AccountID)
	if apierr.CodeOf(err) == codes.NotFound {
		return proof{}, errSubjectToken.WithCause(err)
	}
	if err != nil {
		return proof{}, err
	}
	if !a.MayAct(s.now()) {
		return proof{}, errSubjectToken.WithCause(errors.New("the account may not act"))
	}
	return proof{
		subject: a.resource(), typ: authn.ServiceAccount, until: a.ExpiresAt, session: t.Session, lastUsed: t.LastUsedAt,
		details: map[string]any{
			"credential": credentialFederated, "federated_credential_id": t.ID, "federation_id": t.FederationID,
			"issuer": t.Federation.Issuer, "external_subject_id": t.Subject,
		},
		used: func(ctx context.Context, tx *sql.Tx, at time.Time) error {
			return s.store.FederatedCredentialUsed(ctx, tx, t.FederatedCredential, at)
		},
	}, nil
}
