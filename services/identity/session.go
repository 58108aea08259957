package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
)

// Bounds of sessions, so that one user's cannot fill the store. A client that
// refreshes as often as a token ends, or once an hour, stays far below.
const (
	maxSessions = 1000   // of one user, at a time
	maxUses     = 20_000 // refresh tokens of one session; after that it ends
)

// A refresh token is rt1.<id>.<256 random bits in base64url>.
const (
	refreshPrefix = "rt1."
	refreshLen    = len(refreshPrefix) + id.Size + 1 + 43
)

// newRefreshToken returns a refresh token of a session, to be shown once, and its
// hash.
func newRefreshToken(sessionID string) (text string, hash []byte) {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: the runtime ends the process instead
	text = refreshPrefix + sessionID + "." + base64.RawURLEncoding.EncodeToString(b[:])
	return text, hashRefreshToken(text)
}

// hashRefreshToken is what the store keeps: a token is random, so a plain hash hides
// it.
func hashRefreshToken(text string) []byte {
	h := sha256.Sum256([]byte(text))
	return h[:]
}

// sessionOf returns the id in a refresh token; ok is false for what is none.
func sessionOf(text string) (sessionID string, ok bool) {
	rest, ok := strings.CutPrefix(text, refreshPrefix)
	if !ok || len(text) != refreshLen {
		return "", false
	}
	sessionID, _, ok = strings.Cut(rest, ".")
	return sessionID, ok && id.Prefix(sessionID) == id.RefreshToken
}

// errReused ends the transaction that has met a refresh token for the second time.
var errReused = errors.New("the refresh token was used before")

// sessions is bindery.identity.v1.SessionService.
type sessions struct {
	identityv1.UnimplementedSessionServiceServer
	*Service
}

// CreateSession begins a session of a user. Fails: CREDENTIALS_INVALID,
// QUOTA_EXCEEDED above maxSessions.
func (s *sessions) CreateSession(ctx context.Context, req *identityv1.CreateSessionRequest) (*identityv1.CreateSessionResponse, error) {
	u, err := s.byOAuthToken(ctx, req.GetOauthToken())
	if err != nil {
		return nil, err
	}
	resp := new(identityv1.CreateSessionResponse)
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		_, err := s.once.Answer(ctx, tx, resp, func() (err error) {
			n, text, err := s.beginSession(ctx, tx, u.ID, req.GetClientId(), req.GetClientInstanceInfo())
			if err != nil {
				return err
			}
			resp.Session, err = s.carryOn(ctx, tx, n, text)
			return err
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// beginSession begins a session of a user, for a client on a device, and returns its
// first refresh token. Fails: QUOTA_EXCEEDED.
func (s *Service) beginSession(ctx context.Context, tx *sql.Tx, userID, clientID, device string) (n Session, text string, err error) {
	return s.beginSessionUntil(ctx, tx, userID, clientID, device, s.now().Add(s.cfg.SessionLife))
}

// beginSessionUntil is beginSession of one that ends at a time.
func (s *Service) beginSessionUntil(ctx context.Context, tx *sql.Tx, userID, clientID, device string, until time.Time) (n Session, text string, err error) {
	now := s.now()
	n = Session{
		ID: id.New(id.RefreshToken), UserID: userID, ClientID: clientID, Instance: device, State: Active,
		CreatedAt: now, LastUsedAt: now, ExpiresAt: until,
	}
	_, _ = rand.Read(n.Key[:]) // never fails
	text, hash := newRefreshToken(n.ID)
	if err := s.roomForSession(ctx, tx, userID, now); err != nil {
		return n, "", err
	}
	if err := s.store.InsertSession(ctx, tx, n, hash); err != nil {
		return n, "", err
	}
	if err := s.store.Authenticated(ctx, tx, userID, now); err != nil {
		return n, "", err
	}
	return n, text, s.recordSession(ctx, tx, "credential.CreateRefreshTokenForSubject", n)
}

// roomForSession makes those follow one another who begin sessions of a user, and
// refuses one too many.
func (s *Service) roomForSession(ctx context.Context, tx *sql.Tx, userID string, now time.Time) error {
	if err := sqldb.Lock(ctx, s.store.db, tx, "sessions of "+userID); err != nil {
		return err
	}
	live, err := s.store.Sessions(ctx, tx, SessionQuery{UserID: userID, LiveAt: now}, page.Position{}, maxSessions)
	if err != nil {
		return err
	}
	return quota.Exceeded("bindery.sessionsOfUser.count", quota.Subject(userID), maxSessions, int64(len(live)), 1)
}

// carryOn issues an IAM token of a session, which ends no later than the session,
// and says what to use next (TK-5).
func (s *Service) carryOn(ctx context.Context, tx *sql.Tx, n Session, text string) (*identityv1.Session, error) {
	token, err := s.issuer.IssueGrant(authn.Grant{Type: subjectTypeOf(n.UserID), ID: n.UserID, Session: n.Key, Until: n.ExpiresAt}, authn.MaxTokenLife)
	if err != nil {
		return nil, err
	}
	if err := s.recordSession(ctx, tx, "CreateIamToken", n); err != nil {
		return nil, err
	}
	return &identityv1.Session{
		RefreshTokenId: n.ID, RefreshToken: text, ExpiresAt: timestamppb.New(n.ExpiresAt),
		IamToken: token.Text, IamTokenExpiresAt: timestamppb.New(token.ExpiresAt), SubjectId: n.UserID,
	}, nil
}

// recordSession writes the audit record of an event of a session, which its user
// has caused (AU-3).
func (s *Service) recordSession(ctx context.Context, tx *sql.Tx, name string, n Session) error {
	ctx = authn.NewContext(ctx, authn.Principal{Type: subjectTypeOf(n.UserID), ID: n.UserID})
	return s.recordEvent(ctx, tx, event{
		name: name, path: []audit.Resource{{Type: typeUserAccount, ID: n.UserID}},
		details: map[string]any{"credential": credentialSession, "refresh_token_id": n.ID, "client_id": n.ClientID},
	})
}

// RefreshSession spends a refresh token. With an idempotency key the same answer is
// given again; without one, a token that comes for the second time ends its session
// (RFC 9700, 4.14.2). Fails: CREDENTIALS_INVALID.
func (s *sessions) RefreshSession(ctx context.Context, req *identityv1.RefreshSessionRequest) (*identityv1.RefreshSessionResponse, error) {
	sessionID, ok := sessionOf(req.GetRefreshToken())
	if !ok {
		return nil, errRefreshToken
	}
	if n, err := s.store.Session(ctx, s.store.db, sessionID); errors.Is(err, errRefreshTokenNotFound) || err == nil && !n.live(s.now()) {
		return nil, errRefreshToken // before anything is locked
	} else if err != nil {
		return nil, err
	}
	resp := new(identityv1.RefreshSessionResponse)
	err := sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		_, err := s.once.Answer(ctx, tx, resp, func() (err error) {
			resp.Session, err = s.refresh(ctx, tx, sessionID, req.GetRefreshToken())
			return err
		})
		return err
	})
	if errors.Is(err, errReused) {
		// Of the two who hold it one is a thief, and nobody knows which (RFC 9700, 4.14.2).
		if err := s.endSession(ctx, sessionID, "REFRESH_TOKEN_REUSED"); err != nil {
			return nil, err
		}
		return nil, errRefreshToken.WithCause(err)
	}
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// refresh takes the next refresh token for one.
func (s *Service) refresh(ctx context.Context, tx *sql.Tx, sessionID, text string) (*identityv1.Session, error) {
	n, err := s.store.LockSession(ctx, tx, sessionID)
	if err == nil {
		err = s.usable(ctx, tx, n, text)
	}
	if errors.Is(err, errRefreshTokenNotFound) {
		err = errRefreshToken
	}
	if err != nil {
		return nil, err
	}
	n.LastUsedAt, n.Uses = s.now(), n.Uses+1
	next, hash := newRefreshToken(n.ID)
	if err := s.store.SpendRefreshToken(ctx, tx, n, hashRefreshToken(text), hash); err != nil {
		return nil, err
	}
	if err := s.store.Authenticated(ctx, tx, n.UserID, n.LastUsedAt); err != nil {
		return nil, err
	}
	return s.carryOn(ctx, tx, n, next)
}

// usable refuses a refresh token that proves nothing. Fails: errReused,
// REFRESH_TOKEN_NOT_FOUND for one that never was one, CREDENTIALS_INVALID.
func (s *Service) usable(ctx context.Context, q sqldb.Querier, n Session, text string) error {
	used, err := s.store.RefreshTokenUsed(ctx, q, n.ID, hashRefreshToken(text))
	switch {
	case err != nil:
		return err
	case !n.live(s.now()) || n.ExpiresAt.Sub(s.now()) < time.Second || n.Uses >= maxUses:
		return errRefreshToken
	case used:
		return errReused
	}
	u, err := s.store.User(ctx, q, n.UserID)
	if err != nil {
		return fmt.Errorf("read the user of a session: %w", err)
	}
	if !u.mayAct() {
		return errRefreshToken
	}
	return nil
}

// byRefreshToken proves a user by a refresh token, without spending it. Fails:
// CREDENTIALS_INVALID.
func (s *Service) byRefreshToken(ctx context.Context, text string) (Session, error) {
	sessionID, ok := sessionOf(text)
	if !ok {
		return Session{}, errRefreshToken
	}
	n, err := s.store.Session(ctx, s.store.db, sessionID)
	if err == nil {
		err = s.usable(ctx, s.store.db, n, text)
	}
	switch {
	case errors.Is(err, errRefreshTokenNotFound) || errors.Is(err, errReused) || apierr.ReasonOf(err) == ReasonCredentialsInvalid:
		return Session{}, errRefreshToken
	case err != nil:
		return Session{}, err
	}
	return n, nil
}
