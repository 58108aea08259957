package identity

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

// sessionClient is a client that has signed in.
type sessionClient struct {
	*suite
	service identityv1.SessionServiceClient
	user    *identityv1.CreateUserResponse
	now     *identityv1.Session // as the last answer gave it
}

// session signs a user in with a client.
func (w *suite) session(u *identityv1.CreateUserResponse, clientID, instance string) *sessionClient {
	w.t.Helper()
	c := &sessionClient{suite: w, service: identityv1.NewSessionServiceClient(w.Conn), user: u}
	made, err := c.service.CreateSession(w.t.Context(), &identityv1.CreateSessionRequest{
		Identity: &identityv1.CreateSessionRequest_OauthToken{OauthToken: u.GetOauthToken()}, ClientId: clientID, ClientInstanceInfo: instance,
	})
	w.must(err)
	c.now = made.GetSession()
	return c
}

// refresh uses a refresh token, with an idempotency key if there is one.
func (c *sessionClient) refresh(token, key string) (*identityv1.Session, error) {
	ctx := c.t.Context()
	if key != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, idempotency.Header, key)
	}
	got, err := c.service.RefreshSession(ctx, &identityv1.RefreshSessionRequest{RefreshToken: token})
	return got.GetSession(), err
}

// goOn refreshes as a good client does.
func (c *sessionClient) goOn() {
	c.t.Helper()
	got, err := c.refresh(c.now.GetRefreshToken(), "")
	c.must(err)
	c.now = got
}

// over fails the test unless neither the refresh token nor the IAM token is good.
func (c *sessionClient) over() {
	c.t.Helper()
	_, err := c.refresh(c.now.GetRefreshToken(), "")
	wantCode(c.t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
	wantCode(c.t, c.works(c.now.GetIamToken()), codes.Unauthenticated, apierr.ReasonTokenRevoked)
	if _, err := c.suite.service.byRefreshToken(c.t.Context(), c.now.GetRefreshToken()); apierr.ReasonOf(err) != ReasonCredentialsInvalid {
		c.t.Errorf("the refresh token proves somebody: %v", err)
	}
}

func TestSessions(t *testing.T) {
	inSuite(t, func(t *testing.T, w *suite) {
		u := w.user("vera")
		c := w.session(u, "cli", "laptop")
		first := c.now
		if !strings.HasPrefix(first.GetRefreshToken(), "rt1."+first.GetRefreshTokenId()+".") || first.GetSubjectId() != u.GetId() {
			t.Errorf("session %v", first.GetRefreshTokenId())
		}
		w.must(w.works(first.GetIamToken()))
		n, err := w.service.byRefreshToken(t.Context(), first.GetRefreshToken())
		if err != nil || n.UserID != u.GetId() || n.ID != first.GetRefreshTokenId() {
			t.Errorf("by refresh token: %v, %v", n.ID, err)
		}
		c.goOn()
		if c.now.GetRefreshToken() == first.GetRefreshToken() || c.now.GetRefreshTokenId() != first.GetRefreshTokenId() ||
			!proto.Equal(c.now.GetExpiresAt(), first.GetExpiresAt()) {
			t.Errorf("refreshed: id %s until %v", c.now.GetRefreshTokenId(), c.now.GetExpiresAt())
		}
		w.must(w.works(c.now.GetIamToken()))
		w.must(w.works(first.GetIamToken())) // TK-2
		p, _, err := w.service.tokens.Inspect(t.Context(), c.now.GetIamToken())
		if err != nil || p.Session != n.Key || p.Type != authn.UserAccount {
			t.Errorf("the token is of %v, session %x, %v", p, p.Session, err)
		}
		events := w.events()
		if events["credential.CreateRefreshTokenForSubject"] != 1 || events["CreateIamToken"] != 3 { // the owner's too
			t.Errorf("events %v", events)
		}
		w.stored(first.GetRefreshToken(), c.now.GetRefreshToken(), first.GetIamToken(), c.now.GetIamToken(), u.GetOauthToken())
	})
}

// Of two who use one refresh token one is a thief, whoever comes first and however
// often the thief has refreshed since: the session ends, with all of its tokens.
func TestAReusedRefreshTokenEndsTheSession(t *testing.T) {
	inSuite(t, func(t *testing.T, w *suite) {
		u := w.user("vera")
		for _, ahead := range []int{1, 3} {
			thief, other := w.session(u, "cli", ""), w.session(u, "cli", "")
			stolen := thief.now.GetRefreshToken()
			for range ahead {
				thief.goOn()
			}
			_, err := thief.refresh(stolen, "")
			wantCode(t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
			thief.over()
			other.goOn() // another session is not concerned
			w.must(w.works(other.now.GetIamToken()))
		}
		if n := w.events()["credential.RevokeRefreshTokenForSubject"]; n != 2 {
			t.Errorf("%d records of ended sessions", n)
		}
		// What was never a refresh token ends nothing.
		c := w.session(u, "cli", "")
		forged := c.now.GetRefreshToken()[:refreshLen-4] + "AAAA"
		for _, text := range []string{forged, "rt1." + c.now.GetRefreshTokenId() + ".x", c.now.GetRefreshTokenId(), "x", strings.Repeat("x", 1000)} {
			_, err := c.refresh(text, "")
			wantCode(t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
		}
		c.goOn()
	})
}

// A client that lost the answer is given it again, and is no thief.
func TestIdempotencyKeyOfARefresh(t *testing.T) {
	inSuite(t, func(t *testing.T, w *suite) {
		c := w.session(w.user("vera"), "cli", "")
		old := c.now.GetRefreshToken()
		const key = "0d9d2b84-6a4c-4c43-9bd4-6c7b2f0a5e21"
		answers := make([]*identityv1.Session, 5)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				var err error
				if answers[i], err = c.refresh(old, key); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for _, a := range answers[1:] {
			if !proto.Equal(a, answers[0]) {
				t.Errorf("another answer to the same call")
			}
		}
		c.now = answers[0]
		c.goOn()
		w.stored(answers[0].GetRefreshToken(), answers[0].GetIamToken())
	})
}

// Of many who refresh at once without a key one is answered, and the session ends.
func TestRefreshAtOnce(t *testing.T) {
	inSuite(t, func(t *testing.T, w *suite) {
		c := w.session(w.user("vera"), "cli", "")
		old := c.now.GetRefreshToken()
		var mu sync.Mutex
		var answered []*identityv1.Session
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if got, err := c.refresh(old, ""); err == nil {
					mu.Lock()
					defer mu.Unlock()
					answered = append(answered, got)
				}
			})
		}
		all.Wait()
		if len(answered) != 1 {
			t.Fatalf("%d were answered", len(answered))
		}
		c.now = answered[0]
		c.over()
	})
}

// A session ends by itself, and so do its tokens (TK-5).
func TestSessionsExpire(t *testing.T) {
	inSuite(t, func(t *testing.T, w *suite) {
		c := w.session(w.user("vera"), "cli", "")
		w.advance(defaultSessionLife - time.Hour)
		c.goOn()
		if end := c.now.GetIamTokenExpiresAt().AsTime(); end.After(c.now.GetExpiresAt().AsTime()) {
			t.Errorf("the token ends at %v, after its session", end)
		}
		w.must(w.works(c.now.GetIamToken()))
		w.advance(time.Hour + time.Second)
		_, err := c.refresh(c.now.GetRefreshToken(), "")
		wantCode(t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
		w.advance(authn.Leeway)
		wantCode(t, w.works(c.now.GetIamToken()), codes.Unauthenticated, apierr.ReasonTokenExpired)
		w.advance(dropAfter)
		w.must(w.service.dropSessions(t.Context()))
		for _, table := range []string{"identity_sessions", "identity_refresh_tokens"} {
			var n int
			w.must(w.db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&n))
			if n != 0 {
				t.Errorf("%d rows are left in %s", n, table)
			}
		}
	})
}

// A token by which somebody acts as a service account ends with the session in which
// it was asked for: when that is revoked, and when it ends by itself.
func TestTK5_ActingAsAnAccountEndsWithTheSession(t *testing.T) {
	inSuite(t, func(t *testing.T, w *suite) {
		account := w.account("robot")
		act := func(c *sessionClient) (*iamv1.CreateIamTokenResponse, error) {
			return w.tokens.CreateForServiceAccount(w.Context(c.now.GetIamToken()), &iamv1.CreateIamTokenForServiceAccountRequest{ServiceAccountId: account})
		}
		w.grant("iam.serviceAccounts.tokenCreator", typeServiceAccount, account, authn.UserAccount, w.owner.GetId())
		revoked, lasting := w.session(w.owner, "cli", ""), w.session(w.owner, "cli", "")
		first, err := act(revoked)
		w.must(err)
		w.must(w.works(first.GetIamToken()))
		_, err = w.revoke(w.Context(lasting.now.GetIamToken()), byID(revoked.now.GetRefreshTokenId()))
		w.must(err)
		wantCode(t, w.works(first.GetIamToken()), codes.Unauthenticated, apierr.ReasonTokenRevoked)

		w.advance(defaultSessionLife - time.Hour)
		lasting.goOn()
		second, err := act(lasting)
		w.must(err)
		w.must(w.works(second.GetIamToken()))
		if end := second.GetExpiresAt().AsTime(); end.After(lasting.now.GetExpiresAt().AsTime()) {
			t.Errorf("the token ends at %v, after the session", end)
		}
	})
}

// A client whose credential is bad gets no session, and one user no more than fit.
func TestCreateSessionIsBounded(t *testing.T) {
	inSuite(t, func(t *testing.T, w *suite) {
		u := w.user("vera")
		c := w.session(u, "cli", "")
		_, err := c.service.CreateSession(t.Context(), &identityv1.CreateSessionRequest{
			Identity: &identityv1.CreateSessionRequest_OauthToken{OauthToken: "y0_x"}, ClientId: "cli",
		})
		wantCode(t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
		_, err = w.db.Pool().ExecContext(t.Context(), `UPDATE identity_sessions SET uses = $1`, maxUses)
		w.must(err)
		_, err = c.refresh(c.now.GetRefreshToken(), "")
		wantCode(t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
	})
}

// One user has so many sessions at a time, and those that ended do not count.
func TestSessionsOfOneUserAreBounded(t *testing.T) {
	inSuite(t, func(t *testing.T, w *suite) {
		u := w.user("vera")
		c := w.session(u, "cli", "")
		w.must(sqldb.InTx(t.Context(), w.db, func(ctx context.Context, tx *sql.Tx) error {
			for range maxSessions - 1 {
				now := w.service.now()
				n := Session{ID: id.New(id.RefreshToken), UserID: u.GetId(), State: Active, CreatedAt: now, LastUsedAt: now, ExpiresAt: now.Add(time.Hour)}
				_, hash := newRefreshToken(n.ID)
				if err := w.service.store.InsertSession(ctx, tx, n, hash); err != nil {
					return err
				}
			}
			return nil
		}))
		req := &identityv1.CreateSessionRequest{
			Identity: &identityv1.CreateSessionRequest_OauthToken{OauthToken: u.GetOauthToken()}, ClientId: "cli",
		}
		_, err := c.service.CreateSession(t.Context(), req)
		wantCode(t, err, codes.ResourceExhausted, apierr.ReasonQuotaExceeded)
		w.advance(time.Hour)
		_, err = c.service.CreateSession(t.Context(), req)
		w.must(err)
	})
}

// Secrets that are sent to where they do not belong are in no answer, log line,
// metric or table either.
func TestSecretsStayOut(t *testing.T) {
	inSuite(t, func(t *testing.T, w *suite) {
		made := w.key(w.account("robot"))
		c := w.session(w.user("vera"), "cli", "")
		secrets := []string{
			w.holds(made).Token(), c.now.GetRefreshToken(), c.now.GetIamToken(), c.user.GetOauthToken(), made.GetPrivateKey(),
		}
		refreshTokens := iamv1.NewRefreshTokenServiceClient(w.Conn)
		for _, secret := range secrets {
			var errs []error
			add := func(_ any, err error) { errs = append(errs, err) }
			broken := secret[:len(secret)-1] // no newline of PEM, no good credential
			add(w.tokens.Create(t.Context(), byJWT(broken)))
			add(w.tokens.Create(t.Context(), oauth(broken)))
			add(w.keys.Get(w.asOwner, &iamv1.GetKeyRequest{KeyId: secret}))
			add(w.keys.List(w.asOwner, &iamv1.ListKeysRequest{PageToken: broken}))
			add(c.service.RefreshSession(t.Context(), &identityv1.RefreshSessionRequest{RefreshToken: broken}))
			add(refreshTokens.Revoke(w.asOwner, byText(broken)))
			add(refreshTokens.Revoke(w.asOwner, byID(secret)))
			add(refreshTokens.List(w.asOwner, &iamv1.ListRefreshTokensRequest{SubjectId: secret}))
			add(refreshTokens.List(w.asOwner, &iamv1.ListRefreshTokensRequest{Filter: secret}))
			for i, err := range errs {
				for _, part := range longest(secret) {
					if err != nil && strings.Contains(fmt.Sprintf("%v %+v", err, status.Convert(err).Proto()), part) {
						t.Errorf("call %d shows %.12s…: %.300v", i, part, err)
					}
				}
			}
		}
		w.stored(secrets...)
		families, err := w.Metrics.Gather()
		w.must(err)
		for _, part := range longest(secrets...) {
			if strings.Contains(fmt.Sprint(families), part) {
				t.Errorf("%.12s… is in a metric", part)
			}
		}
	})
}

// longest are the parts of secrets that would tell them.
func longest(secrets ...string) []string {
	var parts []string
	for _, s := range secrets {
		for _, line := range strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '.' }) {
			if len(line) >= 40 && !strings.HasPrefix(line, "-----") {
				parts = append(parts, line[:40])
			}
		}
	}
	return parts
}
