package identity

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/id"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	"github.com/bindery-iam/bindery/services/identity/operator"
)

func TestCreateUserAndSignIn(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		u := w.user("Alice")
		if !id.Valid(u.GetId()) || u.GetLogin() != "Alice" || !strings.HasPrefix(u.GetOauthToken(), "y0_") || len(u.GetOauthToken()) != oauthLen {
			t.Errorf("user %v", u)
		}
		if !w.access.subjects["userAccount:"+u.GetId()] || !w.access.units[Name] {
			t.Errorf("the checker was not told: %v by %v", w.access.subjects, w.access.units)
		}
		tok := w.token(u)
		ctx := w.Context(tok.GetIamToken())
		got, err := w.users.Get(ctx, &iamv1.GetUserAccountRequest{UserAccountId: u.GetId()})
		if err != nil {
			t.Fatal(err)
		}
		if at := got.GetLastAuthenticatedAt().AsTime(); time.Since(at) > time.Minute {
			t.Errorf("last authenticated at %v", at)
		}
		want := &iamv1.UserAccount{Id: u.GetId(), LastAuthenticatedAt: got.GetLastAuthenticatedAt(),
			UserAccount: &iamv1.UserAccount_YandexPassportUserAccount{YandexPassportUserAccount: &iamv1.YandexPassportUserAccount{
				Login: "Alice", DefaultEmail: "Alice@example.com"}}}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
		for _, login := range []string{"Alice", "alice", "ALICE"} {
			byLogin, err := w.logins.GetByLogin(ctx, &iamv1.GetUserAccountByLoginRequest{Login: login})
			if err != nil || byLogin.GetId() != u.GetId() {
				t.Errorf("by login %s: %v %v", login, byLogin, err)
			}
		}
		if diff := cmp.Diff(map[string]int{"CreateUser": 1, "CreateIamToken": 1}, w.events()); diff != "" {
			t.Errorf("audit: %s", diff)
		}
	})
}

func TestSecretsAreNotStored(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		u := w.user("alice")
		var n int
		if err := w.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM identity_oauth_tokens WHERE hash = $1`, []byte(u.GetOauthToken())).Scan(&n); err != nil || n != 0 {
			t.Errorf("%d rows hold the token itself, %v", n, err)
		}
		var hash []byte
		if err := w.db.QueryRowContext(t.Context(), `SELECT hash FROM identity_oauth_tokens`).Scan(&hash); err != nil || len(hash) != 32 {
			t.Errorf("hash of %d bytes, %v", len(hash), err)
		}
		if _, err := w.operator.RotateSigningKey(t.Context(), &identityv1.RotateSigningKeyRequest{}); err != nil {
			t.Fatal(err)
		}
		if err := w.db.QueryRowContext(t.Context(), `
			SELECT COUNT(*) FROM identity_signing_keys WHERE (state = 'RETIRED') = (LENGTH(private_key) > 0)`).Scan(&n); err != nil || n != 0 {
			t.Errorf("%d keys hold a private part that is not theirs to hold, %v", n, err)
		}
	})
}

func TestTK1_ExpiresAtIsAlwaysSet(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		u := w.user("alice")
		byOperator, err := w.operator.CreateToken(t.Context(), &identityv1.CreateTokenRequest{Login: "ALICE"})
		if err != nil {
			t.Fatal(err)
		}
		tok := w.token(u)
		for token, end := range map[string]*timestamppb.Timestamp{tok.GetIamToken(): tok.GetExpiresAt(), byOperator.GetIamToken(): byOperator.GetExpiresAt()} {
			if left := time.Until(end.AsTime()); left > authn.MaxTokenLife || left < authn.MaxTokenLife-time.Minute {
				t.Errorf("lives %v more", left)
			}
			if err := w.works(token); err != nil {
				t.Errorf("fresh: %v", err)
			}
		}
		w.advance(authn.MaxTokenLife + authn.Leeway/2)
		if err := w.works(tok.GetIamToken()); err != nil {
			t.Errorf("a little late: %v", err)
		}
		w.advance(authn.Leeway)
		wantCode(t, w.works(tok.GetIamToken()), codes.Unauthenticated, apierr.ReasonTokenExpired)
	})
}

func TestTK2_NewTokenDoesNotEndTheOldOne(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		u := w.user("alice")
		first, second := w.token(u).GetIamToken(), w.token(u).GetIamToken()
		for _, token := range []string{first, second} {
			if err := w.works(token); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestTK3_RevokedTokenIsVoidAtOnce(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		alice, bob := w.user("alice"), w.user("bob")
		mine, other, bobs := w.token(alice).GetIamToken(), w.token(alice).GetIamToken(), w.token(bob).GetIamToken()
		revoke := func(caller, token string) (*iamv1.RevokeIamTokenResponse, error) {
			return w.tokens.Revoke(w.Context(caller), &iamv1.RevokeIamTokenRequest{IamToken: token})
		}
		for range 2 { // the second time changes nothing
			resp, err := revoke(other, mine)
			if err != nil || resp.GetSubjectId() != alice.GetId() {
				t.Fatalf("revoke: %v %v", resp, err)
			}
		}
		wantCode(t, w.works(mine), codes.Unauthenticated, apierr.ReasonTokenRevoked)
		if err := w.works(other); err != nil {
			t.Errorf("another token of the same user: %v", err)
		}
		// Whoever holds the text of a token may end it; the answer names its subject.
		if resp, err := revoke(bobs, other); err != nil || resp.GetSubjectId() != alice.GetId() {
			t.Errorf("another's token: %v %v", resp, err)
		}
		wantCode(t, w.works(other), codes.Unauthenticated, apierr.ReasonTokenRevoked)
		// Its own, while calling with it.
		if resp, err := revoke(bobs, bobs); err != nil || resp.GetSubjectId() != bob.GetId() {
			t.Errorf("own token: %v %v", resp, err)
		}
		wantCode(t, w.works(bobs), codes.Unauthenticated, apierr.ReasonTokenRevoked)
		_, err := revoke(bobs, mine)
		wantCode(t, err, codes.Unauthenticated, apierr.ReasonTokenRevoked)

		again := w.token(bob).GetIamToken()
		for name, bad := range map[string]string{"a changed one": again[:len(again)-8] + "AAAAAAAA", "an OAuth token": bob.GetOauthToken(), "words": "no token"} {
			_, err := revoke(again, bad)
			if status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s: %v", name, err)
			}
		}
		_, err = w.tokens.Revoke(t.Context(), &iamv1.RevokeIamTokenRequest{IamToken: again})
		wantCode(t, err, codes.Unauthenticated, apierr.ReasonTokenMissing)
		if got := w.events()["RevokeIamToken"]; got != 4 {
			t.Errorf("%d audit records of 4 revocations", got)
		}
		w.restart()
		if len(w.access.revoked) != 3 {
			t.Errorf("%d tokens revoked, want 3", len(w.access.revoked))
		}
	})
}

func TestTK3_ExpiredTokenNeedsNoRevoking(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		u := w.user("alice")
		old := w.token(u).GetIamToken()
		w.advance(authn.MaxTokenLife + 2*authn.Leeway)
		resp, err := w.tokens.Revoke(w.Context(w.token(u).GetIamToken()), &iamv1.RevokeIamTokenRequest{IamToken: old})
		if err != nil || resp.GetSubjectId() != u.GetId() || len(w.access.revoked) != 0 {
			t.Errorf("%v %v, the checker remembers %d", resp, err, len(w.access.revoked))
		}
	})
}

// A revocation that the checker did not take yet is not lost.
func TestTK3_RevocationOutlivesAnOutage(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		u := w.user("alice")
		token, caller := w.token(u).GetIamToken(), w.token(u).GetIamToken()
		w.access.away.Store(true)
		_, err := w.tokens.Revoke(w.Context(caller), &iamv1.RevokeIamTokenRequest{IamToken: token})
		if status.Code(err) != codes.Unavailable {
			t.Fatalf("while the checker is away: %v", err)
		}
		w.access.away.Store(false)
		deadline := time.Now().Add(20 * time.Second)
		for w.works(token) == nil {
			if time.Now().After(deadline) {
				t.Fatal("the token lives on")
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
}

func TestBadCredentialsAreUnauthenticated(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		u := w.user("alice")
		iam := w.token(u).GetIamToken()
		for name, req := range map[string]*iamv1.CreateIamTokenRequest{
			"made up":      oauth("y0_" + strings.Repeat("A", 43)),
			"cut":          oauth(u.GetOauthToken()[:oauthLen-1]),
			"longer":       oauth(u.GetOauthToken() + "A"),
			"other case":   oauth(strings.ToUpper(u.GetOauthToken())),
			"empty":        oauth(""),
			"an IAM token": oauth(iam),
			"JWT":          {Identity: &iamv1.CreateIamTokenRequest_Jwt{Jwt: "eyJhbGciOiJQUzI1NiJ9.e30.AAAA"}},
			"IAM as JWT":   {Identity: &iamv1.CreateIamTokenRequest_Jwt{Jwt: iam}},
			"OAuth as JWT": {Identity: &iamv1.CreateIamTokenRequest_Jwt{Jwt: u.GetOauthToken()}},
			"unsigned JWT": {Identity: &iamv1.CreateIamTokenRequest_Jwt{Jwt: "eyJhbGciOiJub25lIn0.e30."}},
		} {
			_, err := w.tokens.Create(t.Context(), req)
			if status.Code(err) != codes.Unauthenticated || apierr.ReasonOf(err) != ReasonCredentialsInvalid {
				t.Errorf("%s: %v", name, err)
			}
		}
		_, err := w.tokens.Create(t.Context(), &iamv1.CreateIamTokenRequest{})
		wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
		_, err = w.tokens.Create(t.Context(), oauth("y0_"+strings.Repeat("\x00", 43))) // no text at all (NM-9)
		wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
		_, err = w.tokens.Create(t.Context(), oauth("y0_"+strings.Repeat("A", 4000)))
		wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
		// Good credentials beside an old token in the header are good.
		if _, err := w.tokens.Create(w.Context("t1.old.old"), oauth(u.GetOauthToken())); err != nil {
			t.Error(err)
		}
	})
}

// Tokens are a way to act as their subject, so each door takes its own kind only.
func TestOAuthTokenIsNoIAMToken(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		wantCode(t, w.works(w.user("alice").GetOauthToken()), codes.Unauthenticated, apierr.ReasonTokenInvalid)
	})
}

func TestTK6_LookingUpNeedsAuthenticationOnly(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		u := w.user("alice")
		ctx := w.Context(w.token(w.user("bob")).GetIamToken())
		if got, err := w.logins.GetByLogin(ctx, &iamv1.GetUserAccountByLoginRequest{Login: "alice"}); err != nil || got.GetId() != u.GetId() || got.GetLastAuthenticatedAt() != nil {
			t.Errorf("%v %v", got, err)
		}
		_, err := w.logins.GetByLogin(ctx, &iamv1.GetUserAccountByLoginRequest{Login: "carol"})
		wantCode(t, err, codes.NotFound, ReasonUserNotFound)
		_, err = w.users.Get(ctx, &iamv1.GetUserAccountRequest{UserAccountId: "usr00000000000000000"})
		wantCode(t, err, codes.NotFound, ReasonUserNotFound)
		_, err = w.users.Get(ctx, &iamv1.GetUserAccountRequest{UserAccountId: "a\x00b"})
		wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
		_, err = w.logins.GetByLogin(ctx, &iamv1.GetUserAccountByLoginRequest{Login: "a\x00b"})
		wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
		_, err = w.users.Get(ctx, &iamv1.GetUserAccountRequest{})
		wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
		_, err = w.users.Get(t.Context(), &iamv1.GetUserAccountRequest{UserAccountId: u.GetId()})
		wantCode(t, err, codes.Unauthenticated, apierr.ReasonTokenMissing)
		_, err = w.tokens.CreateForServiceAccount(ctx, &iamv1.CreateIamTokenForServiceAccountRequest{ServiceAccountId: "aje00000000000000000"})
		wantCode(t, err, codes.NotFound, apierr.ReasonResourceNotFound)
	})
}

func TestLoginAndEmailAreUnique(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.user("alice")
		for _, tt := range []struct{ login, email, reason string }{
			{"alice", "x@example.com", ReasonLoginTaken},
			{"ALICE", "x@example.com", ReasonLoginTaken},
			{"alice", "alice@example.com", ReasonLoginTaken},
			{"bob", "alice@example.com", ReasonEmailTaken},
			{"bob", "ALICE@Example.com", ReasonEmailTaken},
		} {
			_, err := w.operator.CreateUser(t.Context(), &identityv1.CreateUserRequest{Login: tt.login, Email: tt.email})
			wantCode(t, err, codes.AlreadyExists, tt.reason)
		}
		for _, req := range []*identityv1.CreateUserRequest{
			{Login: "", Email: "a@example.com"}, {Login: "-a", Email: "a@example.com"}, {Login: "a b", Email: "a@example.com"},
			{Login: strings.Repeat("a", 101), Email: "a@example.com"}, {Login: "c", Email: "not an address"}, {Login: "c"},
		} {
			_, err := w.operator.CreateUser(t.Context(), req)
			wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
		}
		if got := w.events()["CreateUser"]; got != 1 {
			t.Errorf("%d audit records of one user", got)
		}
	})
}

func TestOneOfManyGetsALogin(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		const n = 12
		errs := make([]error, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				_, errs[i] = w.operator.CreateUser(t.Context(), &identityv1.CreateUserRequest{
					Login: []string{"alice", "Alice", "ALICE"}[i%3], Email: fmt.Sprintf("a%d@example.com", i)})
			})
		}
		wg.Wait()
		made := 0
		for _, err := range errs {
			if err == nil {
				made++
				continue
			}
			wantCode(t, err, codes.AlreadyExists, ReasonLoginTaken)
		}
		if made != 1 || len(w.access.subjects) != 1 {
			t.Errorf("%d users made, %d known to the checker", made, len(w.access.subjects))
		}
	})
}

// The credential is shown once, so a user that could not be registered is taken
// back and the call can be repeated.
func TestCreateUserWhileTheCheckerIsAway(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.access.away.Store(true)
		req := &identityv1.CreateUserRequest{Login: "alice", Email: "alice@example.com"}
		_, err := w.operator.CreateUser(t.Context(), req)
		if status.Code(err) != codes.Unavailable {
			t.Fatalf("got %v", err)
		}
		w.access.away.Store(false)
		u := w.user("alice")
		if err := w.works(w.token(u).GetIamToken()); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(map[string]int{"CreateUser": 2, "WithdrawUser": 1, "CreateIamToken": 1}, w.events()); diff != "" {
			t.Errorf("audit: %s", diff)
		}
	})
}

// A process that ends between its transaction and the registration leaves a user
// that nobody sees and that the next process finishes.
func TestRegistrationIsFinishedAfterARestart(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		caller := w.token(w.user("bob")).GetIamToken()
		w.access.away.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := w.operator.CreateUser(ctx, &identityv1.CreateUserRequest{Login: "alice", Email: "alice@example.com"})
		if err == nil {
			t.Fatal("made while the checker is away")
		}
		_, err = w.operator.CreateToken(t.Context(), &identityv1.CreateTokenRequest{Login: "alice"})
		wantCode(t, err, codes.NotFound, ReasonUserNotFound)
		_, err = w.operator.CreateUser(t.Context(), &identityv1.CreateUserRequest{Login: "alice", Email: "b@example.com"})
		wantCode(t, err, codes.AlreadyExists, ReasonLoginTaken)
		w.Stop()
		w.access.away.Store(false)
		w = w.restart()
		_, err = w.logins.GetByLogin(w.Context(caller), &iamv1.GetUserAccountByLoginRequest{Login: "alice"})
		for deadline := time.Now().Add(20 * time.Second); status.Code(err) == codes.NotFound && time.Now().Before(deadline); {
			time.Sleep(20 * time.Millisecond)
			_, err = w.logins.GetByLogin(w.Context(caller), &iamv1.GetUserAccountByLoginRequest{Login: "alice"})
		}
		if err != nil {
			t.Fatal(err)
		}
		tok, err := w.operator.CreateToken(t.Context(), &identityv1.CreateTokenRequest{Login: "alice"})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.works(tok.GetIamToken()); err != nil {
			t.Error(err)
		}
	})
}

func TestTokensSurviveARestart(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		u := w.user("alice")
		token := w.token(u).GetIamToken()
		w = w.restart()
		if err := w.works(token); err != nil {
			t.Errorf("the IAM token: %v", err)
		}
		if err := w.works(w.token(u).GetIamToken()); err != nil {
			t.Errorf("the OAuth token: %v", err)
		}
	})
}

func TestRotationKeepsOldTokens(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		u := w.user("alice")
		keys := identityv1.NewSigningKeyServiceClient(w.Unit("resourcemanager", Name))
		list := func() []string {
			resp, err := keys.ListSigningKeys(t.Context(), &identityv1.ListSigningKeysRequest{})
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, k := range resp.GetKeys() {
				ids = append(ids, k.GetId())
				if len(k.GetPublicKey()) != 32 || k.GetCreatedAt() == nil {
					t.Errorf("key %v", k)
				}
			}
			return ids
		}
		before := list()
		if len(before) != 2 {
			t.Fatalf("keys %v, want the active and the next one", before)
		}
		tokens := []string{w.token(u).GetIamToken()}
		for range 3 { // faster than verifiers may read keys: they know the next one
			resp, err := w.operator.RotateSigningKey(t.Context(), &identityv1.RotateSigningKeyRequest{})
			if err != nil {
				t.Fatal(err)
			}
			after := list()
			if len(after) != len(before)+1 || resp.GetKeyId() == "" || !contains(before, resp.GetKeyId()) {
				t.Errorf("signs with %s, which was not handed out before: %v", resp.GetKeyId(), before)
			}
			before = after
			w.advance(2 * time.Second)
			tokens = append(tokens, w.token(u).GetIamToken())
		}
		for i, token := range tokens {
			if err := w.works(token); err != nil {
				t.Errorf("token of key %d: %v", i, err)
			}
		}
		w = w.restart()
		for i, token := range tokens {
			if err := w.works(token); err != nil {
				t.Errorf("after a restart, token of key %d: %v", i, err)
			}
		}
		keys = identityv1.NewSigningKeyServiceClient(w.Unit("resourcemanager", Name))
		w.advance(keepRetired + time.Minute)
		if got := list(); len(got) != 2 {
			t.Errorf("keys %v, though no token of a retired one can live", got)
		}
		if got := w.events()["RotateSigningKey"]; got != 3 {
			t.Errorf("%d audit records of 3 rotations", got)
		}
	})
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func TestOperatorErrorsReadWell(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		_, err := w.operator.CreateToken(t.Context(), &identityv1.CreateTokenRequest{Login: "nobody"})
		wantCode(t, err, codes.NotFound, ReasonUserNotFound)
		if got := operator.Explain(err).Error(); got != "user not found (USER_NOT_FOUND)" {
			t.Errorf("%q", got)
		}
		// The port of clients does not have the service, whoever calls.
		ctx := metadata.AppendToOutgoingContext(t.Context(), authn.UnitHeader, authn.Operator)
		_, err = identityv1.NewOperatorServiceClient(w.Conn).CreateToken(ctx, &identityv1.CreateTokenRequest{Login: "nobody"})
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("on the port: %v", err)
		}
		w.Stop()
		if _, err := operator.Dial(w.DataDir); err == nil || !strings.Contains(err.Error(), "bindery serve all --data-dir") {
			t.Errorf("without a process: %v", err)
		}
	})
}

func TestUserBeingCreatedIsNotThere(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		u := w.user("alice")
		ctx := w.Context(w.token(u).GetIamToken())
		if _, err := w.db.Pool().ExecContext(t.Context(), `UPDATE identity_users SET state = 'CREATING'`); err != nil {
			t.Fatal(err)
		}
		_, err := w.tokens.Create(t.Context(), oauth(u.GetOauthToken()))
		wantCode(t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
		_, err = w.operator.CreateToken(t.Context(), &identityv1.CreateTokenRequest{Login: "alice"})
		wantCode(t, err, codes.NotFound, ReasonUserNotFound)
		_, err = w.users.Get(ctx, &iamv1.GetUserAccountRequest{UserAccountId: u.GetId()})
		wantCode(t, err, codes.NotFound, ReasonUserNotFound)
		_, err = w.logins.GetByLogin(ctx, &iamv1.GetUserAccountByLoginRequest{Login: "alice"})
		wantCode(t, err, codes.NotFound, ReasonUserNotFound)
	})
}
