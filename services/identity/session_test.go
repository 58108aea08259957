package identity

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
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
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
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

// refreshTokensOf lists refresh tokens by id.
func (w *suite) refreshTokensOf(ctx context.Context, req *iamv1.ListRefreshTokensRequest) ([]string, error) {
	var all []string
	req = proto.CloneOf(req)
	for {
		page, err := iamv1.NewRefreshTokenServiceClient(w.Conn).List(ctx, req)
		if err != nil {
			return nil, err
		}
		for _, r := range page.GetRefreshTokens() {
			all = append(all, r.GetId())
		}
		if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
			return all, nil
		}
	}
}

// revoke revokes and returns which refresh tokens were.
func (w *suite) revoke(ctx context.Context, req *iamv1.RevokeRefreshTokenRequest) ([]string, error) {
	op, err := iamv1.NewRefreshTokenServiceClient(w.Conn).Revoke(ctx, req)
	if err != nil {
		return nil, err
	}
	resp, meta := new(iamv1.RevokeRefreshTokenResponse), new(iamv1.RevokeRefreshTokenMetadata)
	w.must(op.GetResponse().UnmarshalTo(resp))
	w.must(op.GetMetadata().UnmarshalTo(meta))
	if !op.GetDone() || !slices.Equal(meta.GetRefreshTokenIds(), resp.GetRefreshTokenIds()) {
		w.t.Errorf("operation %v", op)
	}
	return resp.GetRefreshTokenIds(), nil
}

func byID(tokenID string) *iamv1.RevokeRefreshTokenRequest {
	return &iamv1.RevokeRefreshTokenRequest{Filter: &iamv1.RevokeRefreshTokenRequest_RefreshTokenId{RefreshTokenId: tokenID}}
}

func byText(text string) *iamv1.RevokeRefreshTokenRequest {
	return &iamv1.RevokeRefreshTokenRequest{Filter: &iamv1.RevokeRefreshTokenRequest_RefreshToken{RefreshToken: text}}
}

func byFilter(f *iamv1.RevokeFilter) *iamv1.RevokeRefreshTokenRequest {
	return &iamv1.RevokeRefreshTokenRequest{Filter: &iamv1.RevokeRefreshTokenRequest_RevokeFilter{RevokeFilter: f}}
}

// When a revocation is done, no token of the session is accepted: neither those that
// were issued before nor the refresh token (TK-5). Others of the user stay.
func TestTK5_RevokedSessionsAreOver(t *testing.T) {
	inSuite(t, func(t *testing.T, w *suite) {
		u := w.user("vera")
		own := w.Context(w.token(u).GetIamToken())
		for name, req := range map[string]func(c *sessionClient) *iamv1.RevokeRefreshTokenRequest{
			"by id":        func(c *sessionClient) *iamv1.RevokeRefreshTokenRequest { return byID(c.now.GetRefreshTokenId()) },
			"by the token": func(c *sessionClient) *iamv1.RevokeRefreshTokenRequest { return byText(c.now.GetRefreshToken()) },
			"by client": func(*sessionClient) *iamv1.RevokeRefreshTokenRequest {
				return byFilter(&iamv1.RevokeFilter{ClientId: "cli"})
			},
			"by device": func(*sessionClient) *iamv1.RevokeRefreshTokenRequest {
				return byFilter(&iamv1.RevokeFilter{ClientInstanceInfo: "laptop"})
			},
			"by client and owner": func(*sessionClient) *iamv1.RevokeRefreshTokenRequest {
				return byFilter(&iamv1.RevokeFilter{ClientId: "cli", SubjectId: u.GetId()})
			},
		} {
			c, other := w.session(u, "cli", "laptop"), w.session(u, "browser", "phone")
			before := c.now.GetIamToken()
			c.goOn()
			ids, err := w.revoke(own, req(c))
			if err != nil || !slices.Equal(ids, []string{c.now.GetRefreshTokenId()}) {
				t.Errorf("%s: %v, %v", name, ids, err)
			}
			c.over()
			wantCode(t, w.works(before), codes.Unauthenticated, apierr.ReasonTokenRevoked)
			other.goOn()
			w.must(w.works(other.now.GetIamToken()))
			w.must(w.works(w.token(u).GetIamToken())) // of no session
			if _, err := w.revoke(own, byID(other.now.GetRefreshTokenId())); err != nil {
				t.Error(err)
			}
		}
		ids, err := w.revoke(own, byFilter(&iamv1.RevokeFilter{}))
		if err != nil || len(ids) != 0 {
			t.Errorf("nothing left: %v, %v", ids, err)
		}
		if left, err := w.refreshTokensOf(own, &iamv1.ListRefreshTokensRequest{}); err != nil || len(left) != 0 {
			t.Errorf("listed: %v, %v", left, err)
		}
		if n := w.events()["credential.RevokeRefreshTokenForSubject"]; n != 10 {
			t.Errorf("%d records", n)
		}
	})
}

// Everybody sees and ends their own; over those of others it takes a role on an
// organization that these are members of.
func TestAS11_RefreshTokensOfOthers(t *testing.T) {
	inSuite(t, func(t *testing.T, w *suite) {
		c := w.session(w.owner, "cli", "laptop")
		tokenID, text := c.now.GetRefreshTokenId(), c.now.GetRefreshToken()
		admin, outsider := w.user("admin"), w.user("outsider")
		asAdmin, asOutsider := w.Context(w.token(admin).GetIamToken()), w.Context(w.token(outsider).GetIamToken())
		list := &iamv1.ListRefreshTokensRequest{SubjectId: w.owner.GetId()}
		all := byFilter(&iamv1.RevokeFilter{SubjectId: w.owner.GetId()})
		for name, ctx := range map[string]context.Context{"a stranger": asOutsider, "who has no role yet": asAdmin} {
			_, err := w.refreshTokensOf(ctx, list)
			wantCode(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
			for _, req := range []*iamv1.RevokeRefreshTokenRequest{byID(tokenID), all} {
				if _, err := w.revoke(ctx, req); apierr.CodeOf(err) != codes.PermissionDenied && apierr.ReasonOf(err) != apierr.ReasonPermissionDenied {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		w.grant("iam.userAccounts.refreshTokenViewer", typeOrganization, w.org, authn.UserAccount, admin.GetId())
		if got, err := w.refreshTokensOf(asAdmin, list); err != nil || !slices.Equal(got, []string{tokenID}) {
			t.Errorf("the viewer sees %v, %v", got, err)
		}
		_, err := w.revoke(asAdmin, byID(tokenID))
		wantCode(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		w.grant("iam.userAccounts.refreshTokenRevoker", typeOrganization, w.org, authn.UserAccount, admin.GetId())
		if got, err := w.revoke(asAdmin, byID(tokenID)); err != nil || !slices.Equal(got, []string{tokenID}) {
			t.Errorf("the revoker revoked %v, %v", got, err)
		}
		c.over()
		// A role on this organization is none over users who are not of it.
		_, err = w.refreshTokensOf(asAdmin, &iamv1.ListRefreshTokensRequest{SubjectId: outsider.GetId()})
		wantCode(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		_, err = w.refreshTokensOf(asAdmin, &iamv1.ListRefreshTokensRequest{SubjectId: "usr00000000000000000"})
		wantCode(t, err, codes.NotFound, ReasonUserNotFound)
		_, err = w.revoke(asOutsider, byID(tokenID))
		wantCode(t, err, codes.NotFound, ReasonRefreshTokenNotFound)
		_, err = w.revoke(asOutsider, byText(text))
		wantCode(t, err, codes.NotFound, ReasonRefreshTokenNotFound)
		_, err = w.revoke(asOutsider, byText("rt1.x"))
		wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)

		// Whoever holds a refresh token may end its session, as with IAM tokens (TK-3).
		found := w.session(w.owner, "cli", "")
		if _, err := w.revoke(asOutsider, byText(found.now.GetRefreshToken())); err != nil {
			t.Error(err)
		}
		found.over()
	})
}

func TestListRefreshTokens(t *testing.T) {
	inSuite(t, func(t *testing.T, w *suite) {
		u := w.user("vera")
		own := w.Context(w.token(u).GetIamToken())
		var cli, all []string
		for i := range 5 {
			c := w.session(u, []string{"cli", "browser"}[i%2], fmt.Sprint(i))
			if all = append(all, c.now.GetRefreshTokenId()); i%2 == 0 {
				cli = append(cli, c.now.GetRefreshTokenId())
			}
		}
		w.session(w.owner, "cli", "")
		for _, size := range []int64{0, 1, 2, 5} {
			got, err := w.refreshTokensOf(own, &iamv1.ListRefreshTokensRequest{PageSize: size})
			if err != nil || !slices.Equal(got, all) {
				t.Errorf("in pages of %d: %v, %v; want %v", size, got, err, all)
			}
			got, err = w.refreshTokensOf(own, &iamv1.ListRefreshTokensRequest{PageSize: size, Filter: `client_id = "cli"`})
			if err != nil || !slices.Equal(got, cli) {
				t.Errorf("of one client, in pages of %d: %v, %v; want %v", size, got, err, cli)
			}
		}
		_, err := w.refreshTokensOf(own, &iamv1.ListRefreshTokensRequest{Filter: `subject_id = "x"`})
		wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
		page, err := iamv1.NewRefreshTokenServiceClient(w.Conn).List(own, &iamv1.ListRefreshTokensRequest{PageSize: 1})
		w.must(err)
		got := page.GetRefreshTokens()[0]
		if got.GetClientId() != "cli" || got.GetClientInstanceInfo() != "0" || got.GetSubjectId() != u.GetId() ||
			got.GetProtectionLevel() != iamv1.RefreshToken_NO_PROTECTION || got.GetExpiresAt() == nil || got.GetLastUsedAt() == nil {
			t.Errorf("listed %v", got)
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

// What is revoked while the checker is away is refused here at once, and the
// operation is done only when the checker knows: for a second call, too.
func TestTK5_RevocationOutlivesAnOutage(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		u := w.user("vera")
		own := w.Context(w.token(u).GetIamToken())
		service, refreshTokens := identityv1.NewSessionServiceClient(w.Conn), iamv1.NewRefreshTokenServiceClient(w.Conn)
		made, err := service.CreateSession(t.Context(), &identityv1.CreateSessionRequest{
			Identity: &identityv1.CreateSessionRequest_OauthToken{OauthToken: u.GetOauthToken()}, ClientId: "cli",
		})
		if err != nil {
			t.Fatal(err)
		}
		w.access.away.Store(true)
		var ops []string
		for range 2 {
			op, err := refreshTokens.Revoke(own, byFilter(&iamv1.RevokeFilter{}))
			if err != nil || op.GetDone() {
				t.Fatalf("while the checker is away: %v, %v", op, err)
			}
			ops = append(ops, op.GetId())
		}
		_, err = service.RefreshSession(t.Context(), &identityv1.RefreshSessionRequest{RefreshToken: made.GetSession().GetRefreshToken()})
		wantCode(t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
		if err := w.works(made.GetSession().GetIamToken()); err != nil {
			t.Errorf("the checker does not know yet: %v", err)
		}
		w.access.away.Store(false)
		operations := operationpb.NewOperationServiceClient(w.Conn)
		for _, id := range ops {
			for deadline := time.Now().Add(30 * time.Second); ; {
				op, err := operations.Get(own, &operationpb.GetOperationRequest{OperationId: id})
				if err == nil && op.GetDone() {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("the operation is not done: %v, %v", op, err)
				}
				time.Sleep(20 * time.Millisecond) // until a worker has tried again
			}
			wantCode(t, w.works(made.GetSession().GetIamToken()), codes.Unauthenticated, apierr.ReasonTokenRevoked)
		}
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
