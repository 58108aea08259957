package identity

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
)

// A program gets a session of its own, by PKCE, of who allows it (RFC 8252).
func TestSignInOfPrograms(t *testing.T) {
	inSignInSuite(t, func(t *testing.T, w *signInSuite) {
		const verifier, redirect = "0123456789012345678901234567890123456789012", "http://127.0.0.1:4321/callback"
		ask := func(edit func(url.Values)) string {
			v := url.Values{
				"response_type": {"code"}, "client_id": {"bindery-cli"}, "redirect_uri": {redirect}, "state": {"st"}, "device": {"laptop"},
				"code_challenge": {challengeOf(verifier)}, "code_challenge_method": {"S256"},
			}
			edit(v)
			return w.at + "/login/authorize?" + v.Encode()
		}
		b := newBrowser(t)
		// Who is not signed in does so first, and comes back to the question.
		choice := b.get(ask(func(url.Values) {}))
		at := strings.ReplaceAll(between(choice.text, `href="/login/corp`, `"`), "&amp;", "&")
		if at == "" {
			t.Fatalf("no choice but %s", choice.text)
		}
		question := b.signIn(w.at+"/login/corp"+at, "ada")
		if !strings.Contains(question.text, "on laptop") {
			t.Fatalf("no question but %s", question.text)
		}
		code := func() url.Values {
			t.Helper()
			b.hold, b.held = redirect, nil
			b.submit(b.get(ask(func(url.Values) {})), "/login/authorize")
			if b.held == nil || b.held.Query().Get("state") != "st" || b.held.Query().Get("iss") != w.at {
				t.Fatalf("the program was sent %v", b.held)
			}
			return url.Values{
				"grant_type": {"authorization_code"}, "client_id": {"bindery-cli"}, "code": {b.held.Query().Get("code")}, "redirect_uri": {redirect}, "code_verifier": {verifier},
			}
		}
		exchange := func(form url.Values) (int, map[string]string) {
			p := newBrowser(t).post(w.at+"/login/token", form)
			got := map[string]string{}
			if err := json.Unmarshal([]byte(p.text), &got); err != nil {
				t.Errorf("%v: %s", err, p.text)
			}
			return p.StatusCode, got
		}
		form := code()
		status, got := exchange(form)
		if status != http.StatusOK {
			t.Fatalf("%d %v", status, got)
		}
		w.must(w.works(got["access_token"]))
		refreshed, err := identityv1.NewSessionServiceClient(w.Conn).RefreshSession(t.Context(), &identityv1.RefreshSessionRequest{RefreshToken: got["refresh_token"]})
		w.must(err)
		w.must(w.works(refreshed.GetSession().GetIamToken()))
		if status, got := exchange(form); status != http.StatusBadRequest || got["error"] != "invalid_grant" {
			t.Errorf("the code again: %d %v", status, got)
		}
		for name, edit := range map[string]func(url.Values){
			"no verifier":             func(v url.Values) { v.Del("code_verifier") },
			"another verifier":        func(v url.Values) { v.Set("code_verifier", strings.Repeat("x", 43)) },
			"the challenge":           func(v url.Values) { v.Set("code_verifier", challengeOf(verifier)) },
			"another redirect":        func(v url.Values) { v.Set("redirect_uri", "http://127.0.0.1:1/callback") },
			"another client":          func(v url.Values) { v.Set("client_id", "other") },
			"another kind of grant":   func(v url.Values) { v.Set("grant_type", "password") },
			"no code":                 func(v url.Values) { v.Del("code") },
			"after the code's end":    func(url.Values) { w.advance(2 * time.Minute) },
			"after its person is out": func(url.Values) { newSession(b, w) },
		} {
			form := code()
			edit(form)
			if status, got := exchange(form); status < 400 || got["access_token"] != "" {
				t.Errorf("%s: %d %v", name, status, got)
			}
		}
		for name, edit := range map[string]func(url.Values){
			"no challenge":      func(v url.Values) { v.Del("code_challenge") },
			"a plain challenge": func(v url.Values) { v.Set("code_challenge_method", "plain") },
			"another host":      func(v url.Values) { v.Set("redirect_uri", "http://evil.example:1/callback") },
			"a name":            func(v url.Values) { v.Set("redirect_uri", "http://localhost:1/callback") },
			"https elsewhere":   func(v url.Values) { v.Set("redirect_uri", "https://evil.example/callback") },
			"a user in the URI": func(v url.Values) { v.Set("redirect_uri", "http://127.0.0.1:1@evil.example:1/callback") },
			"no state":          func(v url.Values) { v.Del("state") },
			"another client":    func(v url.Values) { v.Set("client_id", "other") },
		} {
			if p := b.get(ask(edit)); p.StatusCode != http.StatusBadRequest {
				t.Errorf("%s: %d %s", name, p.StatusCode, p.text)
			}
		}
		// The form of one person's question is no other's.
		form1 := b.get(ask(func(url.Values) {}))
		other := newBrowser(t)
		other.signIn(w.at+"/login/corp", "bob")
		if p := other.submit(form1, "/login/authorize"); p.StatusCode != http.StatusBadRequest {
			t.Errorf("another's form: %d", p.StatusCode)
		}
	})
}

// newSession signs the browser out and in again.
func newSession(b *browser, w *signInSuite) {
	b.hold = ""
	b.post(w.at+"/logout", nil)
	b.signIn(w.at+"/login/corp", "ada")
}

func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
