package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

// An OAuth-style token is a prefix and 256 random bits in base64url.
const (
	oauthPrefix = "y0_"
	oauthLen    = len(oauthPrefix) + 43
)

// newOAuthToken returns a new credential, to be shown once, and its hash.
func newOAuthToken() (token string, hash []byte) {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: the runtime ends the process instead
	token = oauthPrefix + base64.RawURLEncoding.EncodeToString(b[:])
	return token, hashOAuthToken(token)
}

// hashOAuthToken is what the store keeps: a token is random, so a plain hash hides
// it.
func hashOAuthToken(token string) []byte {
	h := sha256.Sum256([]byte(token))
	return h[:]
}

// tokens is yandex.cloud.iam.v1.IamTokenService.
type tokens struct {
	iamv1.UnimplementedIamTokenServiceServer
	*Service
}

// Create exchanges credentials for an IAM token of 12 hours (TK-1); each exchange
// issues a new one and ends no other (TK-2). Bad credentials, and nothing else, are
// UNAUTHENTICATED: CREDENTIALS_INVALID.
func (t *tokens) Create(ctx context.Context, req *iamv1.CreateIamTokenRequest) (*iamv1.CreateIamTokenResponse, error) {
	switch identity := req.GetIdentity().(type) {
	case *iamv1.CreateIamTokenRequest_YandexPassportOauthToken:
		u, err := t.byOAuthToken(ctx, identity.YandexPassportOauthToken)
		if err != nil {
			return nil, err
		}
		return t.exchange(ctx, oauthProof(t.store, u))
	case *iamv1.CreateIamTokenRequest_Jwt:
		p, err := t.byJWT(ctx, identity.Jwt)
		if err != nil {
			return nil, err
		}
		return t.exchange(ctx, p)
	default:
		return nil, errNoIdentity
	}
}

func (s *Service) byOAuthToken(ctx context.Context, token string) (User, error) {
	if len(token) != oauthLen || !strings.HasPrefix(token, oauthPrefix) {
		return User{}, errOAuthToken
	}
	u, err := s.store.UserByToken(ctx, s.store.db, hashOAuthToken(token))
	if errors.Is(err, errUserNotFound) || err == nil && !u.mayAct() {
		return User{}, errOAuthToken
	}
	return u, err
}

// revocation is the payload of jobRevoke.
type revocation struct {
	TokenID   []byte `json:"token_id"`
	ExpiresAt int64  `json:"expires_at"` // unix seconds
}

const jobRevoke = "revoke-token"

// Revoke ends a token for good: no process accepts it when the call returns (TK-3).
// Whoever is authenticated and holds the text of a token may; the answer names its
// subject. A token that has ended or was revoked before changes nothing. Fails:
// INVALID_ARGUMENT for what is no token of this installation.
func (t *tokens) Revoke(ctx context.Context, req *iamv1.RevokeIamTokenRequest) (*iamv1.RevokeIamTokenResponse, error) {
	p, end, err := t.tokens.Inspect(ctx, req.GetIamToken())
	if apierr.ReasonOf(err) == apierr.ReasonTokenInvalid {
		return nil, apierr.InvalidField("iam_token", "must be an IAM token of this installation").WithCause(err)
	}
	if err != nil {
		return nil, err
	}
	if t.now().After(end.Add(authn.Leeway)) {
		return &iamv1.RevokeIamTokenResponse{SubjectId: p.ID}, nil
	}
	path := t.pathOrSelf(ctx, accountOf(p.Type, p.ID))
	var ticket jobs.Ticket
	err = sqldb.InTx(ctx, t.store.db, func(ctx context.Context, tx *sql.Tx) error {
		if err := t.recordEvent(ctx, tx, event{name: "RevokeIamToken", path: path}); err != nil {
			return err
		}
		var err error
		ticket, err = t.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobRevoke, Payload: revocation{p.TokenID[:], end.Unix()}})
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := t.jobs.Do(ctx, ticket); err != nil {
		return nil, err // the workers go on trying
	}
	return &iamv1.RevokeIamTokenResponse{SubjectId: p.ID}, nil
}

// revoke puts a revocation in force.
func (s *Service) revoke(ctx context.Context, r revocation) error {
	_, err := s.subjects.RevokeToken(ctx, &accessv1.RevokeTokenRequest{
		TokenId: r.TokenID, ExpiresAt: timestamppb.New(time.Unix(r.ExpiresAt, 0)),
	})
	return apierr.FromRPC(err)
}
