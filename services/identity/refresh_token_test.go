package identity

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

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
