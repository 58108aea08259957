package identity

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"

	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	"github.com/bindery-iam/bindery/services/accessbindings"
	"github.com/bindery-iam/bindery/services/gateway"
	"github.com/bindery-iam/bindery/services/identity/signin"
	"github.com/bindery-iam/bindery/services/marketplacerequests"
	"github.com/bindery-iam/bindery/services/notifications"
	"github.com/bindery-iam/bindery/services/partner"
	"github.com/bindery-iam/bindery/services/resourcemanager"
)

// openIDProvider is a real OpenID provider, of github.com/zitadel/oidc, with users of the
// test. What it answers may be changed on its way, to see lies refused.
type openIDProvider struct {
	*httptest.Server
	storage *storage.Storage
	people  people

	lie  atomic.Pointer[lie]
	keys atomic.Pointer[jose.JSONWebKeySet] // instead of its own
}

// lie changes an ID token, which is signed anew: by the provider's own key when sign is
// nil.
type lie struct {
	claims func(map[string]any)
	sign   func(payload []byte) string
}

const (
	oidcClient   = "bindery"
	oidcSecret   = "provider-client-secret"
	oidcPassword = "correct horse"
)

// people are the users of a provider, by login.
type people map[string]*storage.User

func (p people) GetUserByID(id string) *storage.User {
	for _, u := range p {
		if u.ID == id {
			return u
		}
	}
	return nil
}
func (p people) GetUserByUsername(login string) *storage.User { return p[login] }
func (people) ExampleClientID() string                        { return storage.ServiceUserID }

func person(id, login, email string, verified bool) *storage.User {
	return &storage.User{
		ID: id, Username: login, Password: oidcPassword, FirstName: "Ada", LastName: "Example", Email: email, EmailVerified: verified,
	}
}

// newOpenIDProvider starts one that answers to redirect.
func newOpenIDProvider(t *testing.T, redirect string, users ...*storage.User) *openIDProvider {
	t.Helper()
	p := &openIDProvider{people: people{}}
	for _, u := range users {
		p.people[u.Username] = u
	}
	p.storage = storage.NewStorageWithClients(p.people, map[string]*storage.Client{oidcClient: storage.WebClient(oidcClient, oidcSecret, redirect)})
	var op http.Handler
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/keys" && p.keys.Load() != nil:
			_ = json.NewEncoder(w).Encode(p.keys.Load())
		case r.URL.Path == "/oauth/token" && p.lie.Load() != nil:
			answer := httptest.NewRecorder()
			op.ServeHTTP(answer, r)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(answer.Code)
			_, _ = w.Write(p.twist(t, answer.Body.Bytes()))
		default:
			op.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(p.Close)
	op = exampleop.SetupServer(p.URL, p.storage, slog.New(slog.DiscardHandler), false)
	return p
}

// twist puts another ID token into an answer.
func (p *openIDProvider) twist(t *testing.T, body []byte) []byte {
	t.Helper()
	var answer map[string]any
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Error(err)
		return body
	}
	idToken, ok := answer["id_token"].(string)
	if !ok {
		return body
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(idToken, ".")[1])
	if err != nil {
		t.Error(err)
	}
	l, claims := p.lie.Load(), map[string]any{}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Error(err)
	}
	if l.claims != nil {
		l.claims(claims)
	}
	payload, _ = json.Marshal(claims)
	if l.sign == nil {
		l.sign = p.sign(t)
	}
	answer["id_token"] = l.sign(payload)
	text, _ := json.Marshal(answer)
	return text
}

// sign signs by the provider's own key.
func (p *openIDProvider) sign(t *testing.T) func([]byte) string {
	t.Helper()
	key, err := p.storage.SigningKey(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return signBy(t, jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key.Key(), KeyID: key.ID()}})
}

func signBy(t *testing.T, key jose.SigningKey) func([]byte) string {
	t.Helper()
	signer, err := jose.NewSigner(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	return func(payload []byte) string {
		made, err := signer.Sign(payload)
		if err != nil {
			t.Error(err)
			return ""
		}
		text, _ := made.CompactSerialize()
		return text
	}
}

// signInSuite is the whole suite with its HTTP port, and providers that people sign in by.
type signInSuite struct {
	*suite
	at     string // URL of the HTTP port
	config Config
	corp   *openIDProvider // brings members to the organization
	public *openIDProvider // brings who is invited or linked
}

// signInNeighbours are the units that serve beside identity: sign-in is a door of the whole.
func signInNeighbours() []server.Unit {
	return []server.Unit{
		accessbindings.Unit(), resourcemanager.Unit(), notifications.Unit(), partner.Unit(), marketplacerequests.Unit(), gateway.Unit(),
	}
}

// inSignInSuite runs a test on both engines.
func inSignInSuite(t *testing.T, test func(t *testing.T, w *signInSuite)) {
	t.Helper()
	sqldbtest.ForEach(t, Name, servertest.Series(append(signInNeighbours(), Unit())...), func(t *testing.T, db *sqldb.DB) {
		address := servertest.FreeAddress(t)
		w := &signInSuite{suite: &suite{world: &world{t: t, db: db, clock: new(atomic.Int64)}, log: new(lines)}, at: "http://" + address}
		w.corp = newOpenIDProvider(t, w.at+"/login/callback/corp",
			person("id-1", "ada", "ada@corp.example", true), person("id-2", "eve", "owner@example.com", true), person("id-3", "bob", "bob@corp.example", false))
		w.public = newOpenIDProvider(t, w.at+"/login/callback/public",
			person("id-1", "ada", "ada@public.example", true), person("id-2", "eve", "owner@example.com", true), person("id-3", "bob", "bob@public.example", false))
		w.config = Config{PublicURL: w.at, Providers: []signin.Provider{
			{Name: "corp", Title: "Corp", Issuer: w.corp.URL, ClientID: oidcClient},
			{Name: "public", Issuer: w.public.URL, ClientID: oidcClient},
		}}
		for i := range w.config.Providers {
			w.config.Providers[i].SetSecret(oidcSecret)
		}
		w.begin("")
		w.plant()
		w.config.Providers[0].OrganizationID = w.org
		w.begin(w.stopAll())
		test(t, w)
	})
}

// begin starts the process over the data directory of the one before.
func (w *signInSuite) begin(dir string) {
	w.t.Helper()
	w.serve(w.config, servertest.Options{
		Units: signInNeighbours(),
		DB:    w.db, DataDir: dir, Change: func(o *server.Options) { o.HTTP = strings.TrimPrefix(w.at, "http://") },
	})
}

func (w *signInSuite) stopAll() string {
	w.Stop()
	return w.DataDir
}

// restart ends the process and starts another one.
func (w *signInSuite) restart() {
	w.t.Helper()
	w.begin(w.stopAll())
	w.asOwner = w.Context(w.token(w.owner).GetIamToken())
}

// browser is a browser without a screen.
type browser struct {
	t      *testing.T
	client *http.Client
	last   *url.URL // of the page that is shown
	hold   string   // a URL that begins with it is not followed, but kept
	held   *url.URL
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t}
	b.client = &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if b.hold != "" && strings.HasPrefix(r.URL.String(), b.hold) {
			b.held = r.URL
			return http.ErrUseLastResponse
		}
		return nil
	}}
	return b
}

// page is what a browser got.
type browserPage struct {
	*http.Response
	text string
}

func (b *browser) do(r *http.Request) browserPage {
	b.t.Helper()
	resp, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	b.last = resp.Request.URL
	return browserPage{resp, string(text)}
}

func (b *browser) get(at string) browserPage {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, at, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.do(r)
}

// post sends a form as one of the same site does.
func (b *browser) post(at string, form url.Values) browserPage {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, at, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", r.URL.Scheme+"://"+r.URL.Host)
	return b.do(r)
}

var hidden = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]+)">`)

// submit sends the form of a page, as it is, to where the page was.
func (b *browser) submit(p browserPage, action string) browserPage {
	b.t.Helper()
	form := url.Values{}
	for _, m := range hidden.FindAllStringSubmatch(p.text, -1) {
		form.Set(m[1], m[2])
	}
	to, err := b.last.Parse(action)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.post(to.String(), form)
}

// signIn goes through the whole sign-in, from a page of ours to the one it ends at.
func (b *browser) signIn(from, login string) browserPage {
	b.t.Helper()
	shown := b.get(from)
	requestID := b.last.Query().Get("authRequestID")
	if requestID == "" {
		b.t.Fatalf("no login page of the provider, but %s: %s", b.last, shown.text)
	}
	return b.post(b.last.Scheme+"://"+b.last.Host+"/login/username", url.Values{"id": {requestID}, "username": {login}, "password": {oidcPassword}})
}

// answer goes through a sign-in up to the answer of the provider, which it returns.
func (b *browser) answer(w *signInSuite, provider, login string) *url.URL {
	b.t.Helper()
	b.hold, b.held = w.at+"/login/callback/", nil
	defer func() { b.hold = "" }()
	shown := b.signIn(w.at+"/login/"+provider, login)
	if b.held == nil {
		b.t.Fatalf("the provider did not answer, but %s: %s", b.last, shown.text)
	}
	return b.held
}

// iamToken asks for an IAM token as a page does; "" when there is none.
func (b *browser) iamToken(w *signInSuite) (token, userID string) {
	b.t.Helper()
	p := b.post(w.at+"/login/iam-token", nil)
	var got struct{ IAMToken, SubjectID string }
	if err := json.NewDecoder(bytes.NewReader([]byte(p.text))).Decode(&got); err != nil {
		b.t.Fatalf("%v: %s", err, p.text)
	}
	if (p.StatusCode == http.StatusOK) != (got.IAMToken != "") {
		b.t.Errorf("answered %d: %s", p.StatusCode, p.text)
	}
	return got.IAMToken, got.SubjectID
}

// cookies are the names of the cookies that a browser has for us.
func (b *browser) cookies(w *signInSuite) []string {
	at, _ := url.Parse(w.at)
	var names []string
	for _, c := range b.client.Jar.Cookies(at) {
		names = append(names, c.Name)
	}
	slices.Sort(names)
	return names
}
