package identity

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

// Somebody signs in by a provider, becomes a member of its organization, and calls the
// API until they sign out, when their tokens end with the session (TK-5).
func TestTK5_SignInByProvider(t *testing.T) {
	inSignInSuite(t, func(t *testing.T, w *signInSuite) {
		b := newBrowser(t)
		if p := b.get(w.at + "/login"); !strings.Contains(p.text, `href="/login/corp"`) || !strings.Contains(p.text, ">Corp<") {
			t.Errorf("the choice is %s", p.text)
		}
		if token, _ := b.iamToken(w); token != "" {
			t.Error("a token before sign-in")
		}
		if p := b.signIn(w.at+"/login/corp", "ada"); p.StatusCode != http.StatusOK || !strings.Contains(p.text, "signed in as ada@corp") {
			t.Fatalf("%d at %s: %s", p.StatusCode, b.last, p.text)
		}
		if got := b.cookies(w); !slices.Equal(got, []string{cookieOfSession}) {
			t.Errorf("cookies %v", got)
		}
		token, userID := b.iamToken(w)
		w.must(w.works(token))
		members, err := orgv1.NewUserServiceClient(w.Conn).ListMembers(w.asOwner, &orgv1.ListMembersRequest{OrganizationId: w.org})
		w.must(err)
		if !slices.ContainsFunc(members.GetUsers(), func(u *orgv1.ListMembersResponse_OrganizationUser) bool {
			c := u.GetSubjectClaims()
			return c.GetSub() == userID && c.GetPreferredUsername() == "ada@corp" && c.GetEmail() == "ada@corp.example" && c.GetGivenName() == "Ada"
		}) {
			t.Errorf("members %v", members)
		}

		// In another browser it is the same user, in a session of its own.
		other := newBrowser(t)
		other.signIn(w.at+"/login/corp", "ada")
		second, again := other.iamToken(w)
		if again != userID {
			t.Errorf("came back as %s, not %s", again, userID)
		}

		// Signing out ends the one session here and at the provider.
		b.hold = w.corp.URL + "/end_session"
		b.submit(b.get(w.at+"/logout"), "/logout")
		if b.held == nil || b.held.Query().Get("client_id") != oidcClient || b.held.Query().Get("post_logout_redirect_uri") != w.at+"/login" || b.held.Query().Has("id_token_hint") {
			t.Errorf("the provider was sent %v", b.held)
		}
		wantCode(t, w.works(token), codes.Unauthenticated, apierr.ReasonTokenRevoked)
		if token, _ := b.iamToken(w); token != "" || len(b.cookies(w)) > 0 {
			t.Error("a token after signing out")
		}
		w.must(w.works(second))

		events := w.events()
		if events["CreateIamCookieForSubject"] != 2 || events["CreateUser"] != 2 || events["credential.RevokeRefreshTokenForSubject"] != 1 {
			t.Errorf("events %v", events)
		}
		for _, secret := range []string{token, oidcSecret, "code="} {
			if strings.Contains(w.log.String(), secret) {
				t.Errorf("%.12s… is in the log", secret)
			}
		}
	})
}

const cookieOfSession = "bindery_session"

// The same subject of two issuers is two people, and a suspended one may not sign in.
func TestSignInTellsIssuersApart(t *testing.T) {
	inSignInSuite(t, func(t *testing.T, w *signInSuite) {
		w.invite("ada@public.example")
		first, second := newBrowser(t), newBrowser(t)
		first.signIn(w.at+"/login/corp", "ada")
		second.signIn(w.at+"/login/public", "ada")
		_, one := first.iamToken(w)
		token, two := second.iamToken(w)
		if one == "" || two == "" || one == two {
			t.Fatalf("signed in as %q and %q", one, two)
		}
		_, err := w.operator.SuspendUser(t.Context(), &identityv1.SuspendUserRequest{Login: "ada@public"})
		w.must(err)
		if err := w.works(token); apierr.CodeOf(err) != codes.Unauthenticated {
			t.Errorf("a suspended user's token: %v", err)
		}
		if token, _ := second.iamToken(w); token != "" {
			t.Error("a token for a suspended user")
		}
		if p := newBrowser(t).signIn(w.at+"/login/public", "ada"); p.StatusCode != http.StatusForbidden || !strings.Contains(p.text, "suspended") {
			t.Errorf("a suspended user: %d %s", p.StatusCode, p.text)
		}
	})
}

func (w *signInSuite) invite(address string) {
	w.t.Helper()
	_, err := identityv1.NewInvitationServiceClient(w.Conn).CreateInvitations(w.asOwner, &identityv1.CreateInvitationsRequest{
		OrganizationId: w.org, Emails: []string{address},
	})
	w.must(err)
}

// An invitation is found by an address that the provider vouches for; a user that is
// there already is found by no address, but by a link that the operator makes.
func TestSignInLinksByVerifiedEmailOnly(t *testing.T) {
	inSignInSuite(t, func(t *testing.T, w *signInSuite) {
		w.invite("bob@public.example") // which the provider does not vouch for
		refused := func(login string) {
			t.Helper()
			b := newBrowser(t)
			p := b.signIn(w.at+"/login/public", login)
			if token, _ := b.iamToken(w); p.StatusCode != http.StatusForbidden || !strings.Contains(p.text, "no account") || token != "" {
				t.Errorf("%s: %d %s", login, p.StatusCode, p.text)
			}
		}
		refused("ada") // nobody invited her
		refused("bob")
		refused("eve") // has the address of the owner

		w.invite("ada@public.example")
		b := newBrowser(t)
		b.signIn(w.at+"/login/public", "ada")
		token, userID := b.iamToken(w)
		invitations := identityv1.NewInvitationServiceClient(w.Conn)
		incoming, err := invitations.ListIncomingInvitations(w.Context(token), &identityv1.ListIncomingInvitationsRequest{})
		w.must(err)
		if len(incoming.GetInvitations()) != 1 {
			t.Fatalf("invitations %v", incoming)
		}
		op, err := invitations.AcceptInvitation(w.Context(token), &identityv1.AcceptInvitationRequest{InvitationId: incoming.GetInvitations()[0].GetId()})
		if err != nil || !op.GetDone() {
			t.Errorf("accepted: %v, %v", op, err)
		}

		// Of an organization's provider too: who claims another's address has none.
		for _, login := range []string{"eve", "bob"} {
			b := newBrowser(t)
			b.signIn(w.at+"/login/corp", login)
			token, other := b.iamToken(w)
			if other == "" || other == w.owner.GetId() || other == userID {
				t.Fatalf("%s signed in as %q", login, other)
			}
			incoming, err := invitations.ListIncomingInvitations(w.Context(token), &identityv1.ListIncomingInvitationsRequest{})
			if err != nil || len(incoming.GetInvitations()) > 0 {
				t.Errorf("%s is invited: %v, %v", login, incoming, err)
			}
		}

		_, err = w.operator.LinkUser(t.Context(), &identityv1.LinkUserRequest{Login: "owner", Issuer: w.public.URL, Subject: "id-2"})
		w.must(err)
		b = newBrowser(t)
		b.signIn(w.at+"/login/public", "eve")
		if _, linked := b.iamToken(w); linked != w.owner.GetId() {
			t.Errorf("the linked user is %q", linked)
		}
		_, err = w.operator.LinkUser(t.Context(), &identityv1.LinkUserRequest{Login: "ada@public", Issuer: w.public.URL, Subject: "id-2"})
		wantCode(t, err, codes.AlreadyExists, ReasonExternalLoginTaken)
		_, err = w.operator.UnlinkUser(t.Context(), &identityv1.UnlinkUserRequest{Issuer: w.public.URL, Subject: "id-2"})
		w.must(err)
		refused("eve")
		_, err = w.operator.UnlinkUser(t.Context(), &identityv1.UnlinkUserRequest{Issuer: w.public.URL, Subject: "id-2"})
		wantCode(t, err, codes.NotFound, ReasonExternalLoginNotFound)
	})
}

// A sign-in goes on after a restart in its middle, and a session lasts over one.
func TestSignInOutlivesRestart(t *testing.T) {
	inSignInSuite(t, func(t *testing.T, w *signInSuite) {
		b := newBrowser(t)
		answer := b.answer(w, "corp", "ada")
		w.restart()
		if p := b.get(answer.String()); p.StatusCode != http.StatusOK || !strings.Contains(p.text, "signed in as ada@corp") {
			t.Fatalf("after a restart: %d %s", p.StatusCode, p.text)
		}
		w.restart()
		token, _ := b.iamToken(w)
		w.must(w.works(token))
		if p := b.get(answer.String()); p.StatusCode != http.StatusBadRequest {
			t.Errorf("the same answer again: %d", p.StatusCode)
		}
	})
}

// badAnswer is an answer of a provider that must not be accepted.
type badAnswer struct {
	name   string
	claims func(w *signInSuite, claims map[string]any)
	sign   func(w *signInSuite) func([]byte) string
	answer func(w *signInSuite, b *browser, answer url.Values) *browser // the one that brings it
	keys   func(w *signInSuite) *jose.JSONWebKeySet
}

func set(name string, value any) func(*signInSuite, map[string]any) {
	return func(_ *signInSuite, claims map[string]any) {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
}

func edited(edit func(url.Values)) func(*signInSuite, *browser, url.Values) *browser {
	return func(_ *signInSuite, b *browser, v url.Values) *browser { edit(v); return b }
}

func newKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func badAnswers(t *testing.T) []badAnswer {
	stranger := newKey(t)
	raw := func(header string) func(*signInSuite) func([]byte) string {
		return func(*signInSuite) func([]byte) string {
			return func(payload []byte) string {
				return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString(payload) + "."
			}
		}
	}
	return []badAnswer{
		{name: "wrong nonce", claims: set("nonce", "n")},
		{name: "no nonce", claims: set("nonce", nil)},
		{name: "another audience", claims: set("aud", "another")},
		{name: "no audience", claims: set("aud", nil)},
		{name: "for two, by another", claims: func(_ *signInSuite, c map[string]any) {
			c["aud"], c["azp"] = []string{oidcClient, "another"}, "another"
		}},
		{name: "for two, by nobody", claims: func(_ *signInSuite, c map[string]any) { c["aud"] = []string{oidcClient, "another"}; delete(c, "azp") }},
		{name: "another issuer", claims: func(w *signInSuite, c map[string]any) { c["iss"] = w.public.URL }},
		{name: "issuer with a slash", claims: func(w *signInSuite, c map[string]any) { c["iss"] = w.corp.URL + "/" }},
		{name: "no issuer", claims: set("iss", nil)},
		{name: "no subject", claims: set("sub", nil)},
		{name: "empty subject", claims: set("sub", "")},
		{name: "long subject", claims: set("sub", strings.Repeat("s", 256))},
		{name: "subject that is no text", claims: set("sub", "a\nb")},
		{name: "expired", claims: set("exp", time.Now().Add(-time.Minute).Unix())},
		{name: "without end", claims: set("exp", nil)},
		{name: "not valid yet", claims: set("nbf", time.Now().Add(time.Hour).Unix())},
		{name: "issued in the future", claims: set("iat", time.Now().Add(time.Hour).Unix())},
		{name: "unsigned", sign: raw(`{"alg":"none"}`)},
		{name: "signed by nothing", sign: raw(`{"alg":"RS256"}`)},
		{name: "signed by the client secret", sign: func(*signInSuite) func([]byte) string {
			return signBy(t, jose.SigningKey{Algorithm: jose.HS256, Key: []byte(oidcSecret + strings.Repeat("x", 32))})
		}},
		{name: "signed by a stranger", sign: func(*signInSuite) func([]byte) string {
			return signBy(t, jose.SigningKey{Algorithm: jose.RS256, Key: stranger})
		}},
		{name: "signed by a stranger under the provider's key id", sign: func(w *signInSuite) func([]byte) string {
			k, _ := w.corp.storage.SigningKey(t.Context())
			return signBy(t, jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: stranger, KeyID: k.ID()}})
		}},
		{name: "signed by a key that was rotated away", keys: func(*signInSuite) *jose.JSONWebKeySet {
			return &jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &stranger.PublicKey, KeyID: "new", Algorithm: "RS256", Use: "sig"}}}
		}},
		{name: "no token", sign: func(*signInSuite) func([]byte) string { return func([]byte) string { return "" } }},
		{name: "wrong state", answer: edited(func(v url.Values) { v.Set("state", "x") })},
		{name: "no state", answer: edited(func(v url.Values) { v.Del("state") })},
		{name: "two states", answer: edited(func(v url.Values) { v.Add("state", v.Get("state")) })},
		{name: "no code", answer: edited(func(v url.Values) { v.Del("code") })},
		{name: "two codes", answer: edited(func(v url.Values) { v.Add("code", v.Get("code")) })},
		{name: "wrong code", answer: edited(func(v url.Values) { v.Set("code", "x") })},
		{name: "an error beside the code", answer: edited(func(v url.Values) { v.Set("error", "access_denied") })},
		{name: "iss of another", answer: func(w *signInSuite, b *browser, v url.Values) *browser { v.Set("iss", w.public.URL); return b }},
		{name: "another browser", answer: func(w *signInSuite, _ *browser, _ url.Values) *browser { return newBrowser(t) }},
		{name: "another browser with a sign-in of its own", answer: func(w *signInSuite, _ *browser, _ url.Values) *browser {
			other := newBrowser(t)
			other.answer(w, "corp", "bob")
			return other
		}},
		{name: "the code of another browser", answer: func(w *signInSuite, b *browser, v url.Values) *browser {
			v.Set("code", newBrowser(t).answer(w, "corp", "bob").Query().Get("code")) // made for another challenge: PKCE
			return b
		}},
		{name: "too late", answer: func(w *signInSuite, b *browser, _ url.Values) *browser { w.advance(time.Hour); return b }},
	}
}

// Of what a provider never said, or said to somebody else, nothing is accepted.
func TestSignInRefusesBadAnswers(t *testing.T) {
	inSignInSuite(t, func(t *testing.T, w *signInSuite) {
		users, sessions := w.count("identity_users"), w.count("identity_sessions")
		for _, bad := range badAnswers(t) {
			w.corp.lie.Store(nil)
			w.corp.keys.Store(nil)
			b := newBrowser(t)
			answer := b.answer(w, "corp", "ada")
			query := answer.Query()
			if bad.answer != nil {
				b = bad.answer(w, b, query)
			}
			l := new(lie)
			if bad.claims != nil {
				l.claims = func(c map[string]any) { bad.claims(w, c) }
			}
			if bad.sign != nil {
				l.sign = bad.sign(w)
			}
			if bad.keys != nil {
				w.corp.keys.Store(bad.keys(w))
			}
			w.corp.lie.Store(l)
			answer.RawQuery = query.Encode()
			p := b.get(answer.String())
			if p.StatusCode < 400 || p.StatusCode >= 500 || slices.Contains(b.cookies(w), cookieOfSession) {
				t.Errorf("%s: %d %s", bad.name, p.StatusCode, p.text)
			}
			w.clock.Store(0)
		}
		if n := w.count("identity_users") - users; n != 0 {
			t.Errorf("%d users came of it", n)
		}
		if n := w.count("identity_sessions") - sessions; n != 0 {
			t.Errorf("%d sessions came of it", n)
		}

		// What was tried in vain is good as it was, once: and a new key of the provider is.
		rotated := newKey(t)
		w.corp.keys.Store(&jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &rotated.PublicKey, KeyID: "new", Algorithm: "RS256", Use: "sig"}}})
		w.corp.lie.Store(&lie{sign: signBy(t, jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: rotated, KeyID: "new"}})})
		b := newBrowser(t)
		answer := b.answer(w, "corp", "ada").String()
		at, _ := url.Parse(w.at)
		before := b.client.Jar.Cookies(at)
		if p := b.get(answer); !strings.Contains(p.text, "signed in as") {
			t.Fatalf("a good answer: %d %s", p.StatusCode, p.text)
		}
		b.client.Jar.SetCookies(at, before) // a thief who has the cookie, too
		if p := b.get(answer); p.StatusCode != http.StatusBadRequest {
			t.Errorf("the same answer again: %d %s", p.StatusCode, p.text)
		}
		// Another provider's callback takes no answer that was asked of this one.
		b = newBrowser(t)
		if p := b.get(strings.Replace(b.answer(w, "corp", "ada").String(), "/callback/corp", "/callback/public", 1)); p.StatusCode != http.StatusBadRequest {
			t.Errorf("mixed up: %d %s", p.StatusCode, p.text)
		}
	})
}

func (w *signInSuite) count(table string) (n int) {
	w.t.Helper()
	w.must(w.db.QueryRowContext(w.t.Context(), `SELECT count(*) FROM `+table).Scan(&n))
	return n
}

// The pages are nobody else's: not framed, not cached, not driven by other sites, and
// leading nowhere else.
func TestSignInPagesAreClosed(t *testing.T) {
	inSignInSuite(t, func(t *testing.T, w *signInSuite) {
		b := newBrowser(t)
		for _, at := range []string{"/login", "/logout", "/login/nobody", "/login/callback/corp", "/login/authorize"} {
			h := b.get(w.at + at).Header
			csp := h.Get("Content-Security-Policy")
			if h.Get("Cache-Control") != "no-store" || h.Get("X-Frame-Options") != "DENY" || h.Get("Referrer-Policy") != "no-referrer" ||
				!strings.Contains(csp, "frame-ancestors 'none'") || !strings.Contains(csp, "default-src 'none'") {
				t.Errorf("%s: %v", at, h)
			}
		}
		for _, target := range []string{"https://evil.example/", "//evil.example", "/\\evil.example", "/login/../evil", "javascript:alert(1)", "/docs/", "/login/authorize@evil.example"} {
			p := b.get(w.at + "/login?" + url.Values{"return": {target}}.Encode())
			if strings.Contains(p.text, "return=") {
				t.Errorf("%q may be returned to: %s", target, p.text)
			}
		}
		b.signIn(w.at+"/login/corp", "ada")
		for header, value := range map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"} {
			for _, at := range []string{"/logout", "/login/iam-token", "/login/authorize"} {
				r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, w.at+at, nil)
				r.Header.Set(header, value)
				if p := b.do(r); p.StatusCode != http.StatusForbidden {
					t.Errorf("%s of another site: %d %s", at, p.StatusCode, p.text)
				}
			}
		}
		token, _ := b.iamToken(w)
		w.must(w.works(token))
		// The cookie is of no use for the API.
		if p := b.get(w.at + "/iam/v1/serviceAccounts?folderId=" + w.folder); p.StatusCode != http.StatusUnauthorized {
			t.Errorf("REST by a cookie: %d", p.StatusCode)
		}
		var last int
		w.stopClock()
		for range 200 {
			if last = b.get(w.at + "/login").StatusCode; last == http.StatusTooManyRequests {
				break
			}
		}
		if last != http.StatusTooManyRequests {
			t.Errorf("200 requests at once: %d", last)
		}
	})
}

func between(text, from, to string) string {
	_, rest, ok := strings.Cut(text, from)
	if !ok {
		return ""
	}
	got, _, _ := strings.Cut(rest, to)
	return got
}
