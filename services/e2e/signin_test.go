package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
)

// oneUser is the directory of a provider that knows one person.
type oneUser struct{ *storage.User }

func (u oneUser) GetUserByID(string) *storage.User       { return u.User }
func (u oneUser) GetUserByUsername(string) *storage.User { return u.User }
func (oneUser) ExampleClientID() string                  { return storage.ServiceUserID }

// openIDProvider starts a real OpenID provider, of github.com/zitadel/oidc, and returns
// its issuer.
func openIDProvider(t *testing.T, redirect string) string {
	t.Helper()
	user := oneUser{&storage.User{ID: "id-1", Username: "ada", Password: "correct", Email: "ada@corp.example", EmailVerified: true}}
	kept := storage.NewStorageWithClients(user, map[string]*storage.Client{"bindery": storage.WebClient("bindery", "provider-secret", redirect)})
	var op http.Handler
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { op.ServeHTTP(w, r) }))
	t.Cleanup(s.Close)
	op = exampleop.SetupServer(s.URL, kept, slog.New(slog.DiscardHandler), false)
	return s.URL
}

// TestLoginByProvider signs somebody in by the command line and a browser, at a real
// provider, with everything restarted in the middle of it.
func TestLoginByProvider(t *testing.T) {
	binary(t)
	t.Run("all", func(t *testing.T) {
		s := newServer(t, "")
		loginByProvider(t, s, s, s)
	})
	t.Run("split", func(t *testing.T) {
		s := newSplit(t)
		loginByProvider(t, s.server, s.unit["identity"], s.unit["gateway"])
	})
}

func loginByProvider(t *testing.T, s, identity, gateway *server) {
	at, dir := "http://"+gateway.http, t.TempDir()
	issuer := openIDProvider(t, at+"/login/callback/corp")
	file := filepath.Join(dir, "corp.json")
	text, err := json.Marshal(map[string]string{"issuer": issuer, "clientId": "bindery", "clientSecretFile": "corp.secret"})
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "corp.secret"), []byte("provider-secret\n"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	identity.flags = append(identity.flags, "--public-url", at, "--oidc", "corp="+file)
	s.start()
	command(t, "user", "create", "--data-dir", identity.dataDir, "--login", "ada", "--email", "ada@example.com")
	command(t, "user", "link", "--data-dir", identity.dataDir, "--login", "ada", "--issuer", issuer, "--subject", "id-1")

	session := filepath.Join(dir, "kept", "session.json")
	asked, signedInAs := startLogin(t, at, session)

	b := newVisitor(t)
	b.get(asked)                                       // the choice of providers
	form := b.get(b.link(`href="(/login/corp[^"]*)"`)) // the provider's form
	fields := url.Values{"id": {b.at.Query().Get("authRequestID")}, "username": {"ada"}, "password": {"correct"}}
	b.hold = at + "/login/callback/"
	b.post(b.at.Scheme+"://"+b.at.Host+"/login/username", fields)
	if b.held == "" {
		t.Fatalf("the provider did not answer: %s %s", form, b.text)
	}
	s.stop()
	s.start()
	answer := b.held
	b.hold, b.held = "", ""
	b.get(answer) // ends at the question
	hidden := regexp.MustCompile(`name="request" value="([^"]+)"`).FindStringSubmatch(b.text)
	if hidden == nil {
		t.Fatalf("no question but %s", b.text)
	}
	if p := b.post(at+"/login/authorize", url.Values{"request": {hidden[1]}}); !strings.Contains(p, "You may close this window") {
		t.Fatalf("the program got %s", p)
	}
	signedInAs("ada")
	if info, err := os.Stat(session); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("session file: %v %v", info, err)
	}

	token := strings.TrimSpace(string(command(t, "token", "--session", session)))
	if !strings.HasPrefix(token, "t1.") || restStatus(t, at, token) != http.StatusOK {
		t.Errorf("the token %.10s… gives %d", token, restStatus(t, at, token))
	}
	// A token that is about to end is renewed, by a refresh token that is good once.
	for range 2 {
		age(t, session)
		next := strings.TrimSpace(string(command(t, "token", "--export", "--session", session)))
		if !strings.HasPrefix(next, "export YC_TOKEN=t1.") || strings.HasSuffix(next, token) {
			t.Errorf("renewed: %.30s…", next)
		}
	}
	command(t, "logout", "--session", session)
	if status := restStatus(t, at, token); status != http.StatusUnauthorized {
		t.Errorf("after logout the token gives %d", status)
	}
	if _, err := os.Stat(session); !os.IsNotExist(err) {
		t.Errorf("the session file: %v", err)
	}
}

// startLogin runs `bindery login` without a browser. It returns the address to open, and
// what waits until the program has ended well and said who is signed in.
func startLogin(t *testing.T, at, session string, flags ...string) (asked string, signedInAs func(login string)) {
	t.Helper()
	args := append([]string{"login", "--server", at, "--session", session, "--no-browser"}, flags...)
	login := exec.CommandContext(t.Context(), binary(t), args...)
	var problems bytes.Buffer
	login.Stderr = &problems
	out, err := login.StdoutPipe()
	if err == nil {
		err = login.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	return addressIn(t, lines), func(name string) {
		t.Helper()
		rest, _ := io.ReadAll(lines) // what came is looked at
		if err := login.Wait(); err != nil || !strings.Contains(string(rest), "Signed in as "+name) {
			t.Fatalf("login: %v %s %s", err, rest, problems.String())
		}
	}
}

// age makes the IAM token of a kept session look as if it ended soon.
func age(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`("iamTokenEndsAt": )"[^"]*"`).ReplaceAll(text, []byte(`$1"2020-01-01T00:00:00Z"`))
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// restStatus calls REST with a token.
func restStatus(t *testing.T, at, token string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at+"/resource-manager/v1/clouds", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// addressIn reads lines up to the one that is an address.
func addressIn(t *testing.T, lines *bufio.Reader) string {
	t.Helper()
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("no address: %v", err)
		}
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "http") {
			return line
		}
	}
}

// visitor is a browser without a screen.
type visitor struct {
	t      *testing.T
	client *http.Client
	at     *url.URL
	text   string
	hold   string // a URL that begins with it is kept in held, not followed
	held   string
}

func newVisitor(t *testing.T) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	v := &visitor{t: t}
	v.client = &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if v.hold != "" && strings.HasPrefix(r.URL.String(), v.hold) {
			v.held = r.URL.String()
			return http.ErrUseLastResponse
		}
		return nil
	}}
	return v
}

func (v *visitor) do(method, at string, form url.Values) string {
	v.t.Helper()
	r, err := http.NewRequestWithContext(v.t.Context(), method, at, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", r.URL.Scheme+"://"+r.URL.Host)
	}
	resp, err := v.client.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	v.at, v.text = resp.Request.URL, string(text)
	return v.text
}

func (v *visitor) get(at string) string { v.t.Helper(); return v.do(http.MethodGet, at, nil) }

func (v *visitor) post(at string, form url.Values) string {
	v.t.Helper()
	return v.do(http.MethodPost, at, form)
}

// link finds a link on the page that is shown.
func (v *visitor) link(pattern string) string {
	v.t.Helper()
	found := regexp.MustCompile(pattern).FindStringSubmatch(v.text)
	if found == nil {
		v.t.Fatalf("no link on %s: %s", v.at, v.text)
	}
	to, err := v.at.Parse(html.UnescapeString(found[1]))
	if err != nil {
		v.t.Fatal(err)
	}
	return to.String()
}
