package identity

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/log"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	"github.com/bindery-iam/bindery/services/identity/jwt"
)

// Bounds of what an exchange writes: some clients exchange before every call, and
// each must be answered while the store cannot be written.
const (
	noteEvery  = time.Minute     // of one credential
	noteWithin = 2 * time.Second // one note
)

// What somebody proved itself by, in audit records.
const (
	credentialOAuth     = "oauth_token"
	credentialKey       = "authorized_key"
	credentialSession   = "refresh_token"
	credentialFederated = "federated_credential"
)

// proof is who proved itself, and by what.
type proof struct {
	subject  authz.Resource // the account
	typ      string         // of the subject
	until    time.Time      // the end of the account; zero for never
	session  authn.TokenID  // that the token ends with; zero for none
	details  map[string]any // what it proved itself by, for the audit record
	lastUsed time.Time
	used     func(ctx context.Context, tx *sql.Tx, at time.Time) error // notes the use
}

// oauthProof is a user by an OAuth-style token.
func oauthProof(s *Store, u User) proof {
	return proof{
		subject: authz.Resource{Type: typeUserAccount, ID: u.ID}, typ: authn.UserAccount,
		details: map[string]any{"credential": credentialOAuth}, lastUsed: u.LastAuthenticatedAt,
		used: func(ctx context.Context, tx *sql.Tx, at time.Time) error { return s.Authenticated(ctx, tx, u.ID, at) },
	}
}

// byJWT proves an account by a token that one of its authorized keys signed (SK-3).
// Whatever is wrong with it is answered the same: CREDENTIALS_INVALID.
func (s *Service) byJWT(ctx context.Context, text string) (proof, error) {
	token, err := jwt.Parse(text, []string{jwt.PublicAudience, "https://" + s.address() + "/iam/v1/tokens"}, s.now())
	if err != nil {
		return proof{}, errJWT.WithCause(err)
	}
	if id.Prefix(token.KeyID) != id.AuthorizedKey {
		return proof{}, errJWT.WithCause(errors.New("kid is no id of a key"))
	}
	k, err := s.store.AuthorizedKey(ctx, s.store.db, token.KeyID)
	switch {
	case apierr.CodeOf(err) == codes.NotFound:
		return proof{}, errJWT.WithCause(errors.New("unknown key"))
	case err != nil:
		return proof{}, err
	case k.Holder.ID() != token.Issuer:
		return proof{}, errJWT.WithCause(errors.New("the key of another account"))
	}
	public, err := k.public()
	if err != nil {
		return proof{}, err
	}
	if err := token.Verify(public); err != nil {
		return proof{}, errJWT.WithCause(err)
	}
	active, until, err := s.holderActive(ctx, k.Holder)
	if err != nil {
		return proof{}, err
	}
	if !active {
		return proof{}, errJWT.WithCause(errors.New("the account may not act"))
	}
	return proof{
		subject: k.Holder.resource(), typ: k.Holder.subjectType(), until: until, lastUsed: k.LastUsedAt,
		details: map[string]any{"credential": credentialKey, "key_id": k.ID},
		used: func(ctx context.Context, tx *sql.Tx, at time.Time) error {
			if err := s.store.AuthorizedKeyUsed(ctx, tx, k.ID, at); err != nil {
				return err
			}
			if k.Holder.UserID != "" {
				return s.store.Authenticated(ctx, tx, k.Holder.UserID, at)
			}
			return s.store.AccountAuthenticated(ctx, tx, k.Holder.AccountID, at)
		},
	}, nil
}

func (k AuthorizedKey) public() (*rsa.PublicKey, error) {
	public, err := x509.ParsePKIXPublicKey(k.Public)
	if err != nil {
		return nil, fmt.Errorf("read authorized key %s: %w", k.ID, err)
	}
	key, ok := public.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("read authorized key %s: it is a %T", k.ID, public)
	}
	return key, nil
}

// holderActive reports whether an account may have tokens now, and when it ends; zero
// for never (SK-1).
func (s *Service) holderActive(ctx context.Context, h Holder) (active bool, until time.Time, err error) {
	if h.UserID != "" {
		u, err := s.store.User(ctx, s.store.db, h.UserID)
		if errors.Is(err, errUserNotFound) {
			err = nil
		}
		return err == nil && u.mayAct(), time.Time{}, err
	}
	a, err := s.store.ServiceAccount(ctx, s.store.db, h.AccountID)
	if apierr.CodeOf(err) == codes.NotFound {
		err = nil
	}
	return err == nil && a.MayAct(s.now()), a.ExpiresAt, err
}

// exchange issues a token for a proof, which ends with its account.
func (s *Service) exchange(ctx context.Context, p proof) (*iamv1.CreateIamTokenResponse, error) {
	token, err := s.issuer.IssueGrant(authn.Grant{Type: p.typ, ID: p.subject.ID, Session: p.session, Until: p.until}, authn.MaxTokenLife)
	if err != nil {
		return nil, err
	}
	s.note(ctx, p)
	return &iamv1.CreateIamTokenResponse{IamToken: token.Text, ExpiresAt: timestamppb.New(token.ExpiresAt)}, nil
}

// note writes that a credential was used, with the audit record (AU-3), at most once
// in noteEvery. Who signs in must not be kept from it by a store that cannot be
// written, so a failure is logged only.
func (s *Service) note(ctx context.Context, p proof) {
	now := s.now()
	if now.Sub(p.lastUsed) < noteEvery {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, noteWithin)
	defer cancel()
	path := s.pathOrSelf(ctx, p.subject)
	ctx = authn.NewContext(ctx, authn.Principal{Type: p.typ, ID: p.subject.ID}) // who did it
	err := sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		if err := p.used(ctx, tx, now); err != nil {
			return err
		}
		return s.recordEvent(ctx, tx, event{name: "CreateIamToken", path: path, details: p.details})
	})
	if err != nil {
		log.From(ctx).Warn("authentication not noted", zap.String("subject_id", p.subject.ID), zap.Error(err))
	}
}
