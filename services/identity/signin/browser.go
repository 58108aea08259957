package signin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/oauth2"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/bindery-iam/bindery/pkg/log"
)

// How long a browser has for a sign-in, from the first page to the provider's answer.
const flowLife = 10 * time.Minute

// Cookies by their names without prefix, which are also what they are sealed for.
const (
	cookieFlow    = "bindery_login"
	cookieSession = "bindery_session"
)

// flow is a sign-in under way, in the cookie of the browser that began it.
type flow struct {
	Provider string `json:"p"`
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"`
	Return   string `json:"r,omitempty"`
}

// signedIn is what the cookie of a session holds.
type signedIn struct {
	Secret   string `json:"s"`
	Provider string `json:"p"`
}

func (s *service) cookieName(name string) string {
	if s.secure {
		return "__Host-" + name
	}
	return name
}

func (s *service) setCookie(w http.ResponseWriter, name, value string, life time.Duration) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure where the site is
		Name: s.cookieName(name), Value: value, Path: "/", MaxAge: int(life / time.Second), Secure: s.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

func (s *service) dropCookie(w http.ResponseWriter, name string) {
	s.setCookie(w, name, "", -time.Second)
}

// cookie reads a cookie that was set here.
func cookie[T any](s *service, r *http.Request, name string) (T, error) {
	c, err := r.Cookie(s.cookieName(name))
	if err != nil {
		var none T
		return none, err
	}
	return open[T](s.seal, name, c.Value)
}

// back returns where a sign-in may lead to, "" for what is no page of these: whoever
// sends somebody here must not choose where they end up.
func back(target string) string {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Path != "/login/authorize" && u.Path != "/device" {
		return ""
	}
	return (&url.URL{Path: u.Path, RawQuery: u.RawQuery}).String()
}

// present finds the session of the browser. Fails: ErrOver.
func (s *service) present(r *http.Request) (signedIn, Session, error) {
	c, err := cookie[signedIn](s, r, cookieSession)
	if err != nil {
		return signedIn{}, Session{}, ErrOver
	}
	session, err := s.Directory.Session(r.Context(), c.Secret)
	return c, session, err
}

// choose shows who is signed in, or by which providers one can.
func (s *service) choose(w http.ResponseWriter, r *http.Request) error {
	target := back(r.URL.Query().Get("return"))
	_, session, err := s.present(r)
	switch {
	case err == nil && target != "":
		http.Redirect(w, r, target, http.StatusSeeOther) //nolint:gosec // one of two pages, by back
		return nil
	case err == nil:
		s.show(w, http.StatusOK, page{
			Title: "Signed in", Text: "You are signed in as " + session.who() + ".", Action: "/logout", Button: "Sign out", Forward: s.forward(),
		})
		return nil
	case !errors.Is(err, ErrOver):
		return err
	}
	p := page{Title: "Sign in", Text: "Sign in by:"}
	for _, c := range s.providers {
		at := "/login/" + c.Name
		if target != "" {
			at += "?" + url.Values{"return": {target}}.Encode()
		}
		p.Links = append(p.Links, link{at, c.title()})
	}
	at := "/login/saml"
	if target != "" {
		at += "?" + url.Values{"return": {target}}.Encode()
	}
	p.Links = append(p.Links, link{at, "Your organization"})
	s.show(w, http.StatusOK, p)
	return nil
}

// begin sends the browser to a provider.
func (s *service) begin(w http.ResponseWriter, r *http.Request) error {
	c := s.provider(r.PathValue("provider"))
	if c == nil {
		return errNoProvider
	}
	d, err := c.discover(r.Context())
	if err != nil {
		return err
	}
	f := flow{Provider: c.Name, State: random(), Nonce: random(), Verifier: oauth2.GenerateVerifier(), Return: back(r.URL.Query().Get("return"))}
	text, err := seal(s.seal, cookieFlow, f, flowLife)
	if err != nil {
		return err
	}
	if len(text) > maxCookie { // a browser would drop it
		return errProgram
	}
	s.setCookie(w, cookieFlow, text, flowLife)
	to := c.oauth(d, s.redirectURI(c)).AuthCodeURL(f.State, oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier))
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// maxCookie is what browsers keep of one cookie, without its name and attributes.
const maxCookie = 3800

// callback takes the answer of a provider.
func (s *service) callback(w http.ResponseWriter, r *http.Request) error {
	c := s.provider(r.PathValue("provider"))
	if c == nil {
		return errNoProvider
	}
	f, err := cookie[flow](s, r, cookieFlow)
	if err != nil || f.Provider != c.Name || !equal(f.State, single(r, "state")) {
		return errLost
	}
	// From here on the sign-in is used up, whatever becomes of it.
	s.dropCookie(w, cookieFlow)
	if err := s.Directory.Spend(r.Context(), digest("state "+f.State), s.Now().Add(flowLife)); err != nil {
		return err
	}
	who, err := s.answered(r, c, f)
	var no *refusal
	if errors.As(err, &no) {
		log.From(r.Context()).Warn("sign-in refused", zap.String("provider", c.Name), zap.String("reason", no.reason), zap.NamedError("cause", no.cause))
		if err := s.Directory.Refused(r.Context(), c.Provider, no.reason); err != nil {
			return err
		}
		if no.reason == "DECLINED" {
			return errDeclined
		}
		return errRefused
	}
	if err != nil {
		return err
	}
	return s.enter(w, r, c, f, who)
}

// answered says who the answer of a provider is about.
func (s *service) answered(r *http.Request, c *client, f flow) (Identity, error) {
	d, err := c.discover(r.Context())
	if err != nil {
		return Identity{}, err
	}
	query := r.URL.Query()
	switch issuer := query["iss"]; { // RFC 9207
	case len(issuer) > 1 || len(issuer) == 1 && issuer[0] != c.Issuer:
		return Identity{}, refuse("ISSUER_MISMATCH", nil)
	case len(issuer) == 0 && d.SaysIssuer:
		return Identity{}, refuse("ISSUER_MISSING", nil)
	}
	if query.Has("error") {
		return Identity{}, refuse("DECLINED", nil)
	}
	code := single(r, "code")
	if code == "" {
		return Identity{}, refuse("CODE_MISSING", nil)
	}
	return c.identify(r.Context(), d, s.redirectURI(c), code, f.Verifier, f.Nonce)
}

// enter begins a session in the browser.
func (s *service) enter(w http.ResponseWriter, r *http.Request, c *client, f flow, who Identity) error {
	g, err := s.Directory.SignIn(r.Context(), c.Provider, who, deviceOf(r))
	if err != nil {
		return err
	}
	before, _ := cookie[signedIn](s, r, cookieSession) // nothing when there is none
	return s.hold(w, r, g, signedIn{Secret: g.Secret, Provider: c.Name}, before.Secret, f.Return)
}

// hold keeps a session in the browser, in place of one that it had, "" for none, and
// leads on.
func (s *service) hold(w http.ResponseWriter, r *http.Request, g Grant, c signedIn, before, target string) error {
	life := g.Expires.Sub(s.Now())
	text, err := seal(s.seal, cookieSession, c, life)
	if err != nil {
		return err
	}
	if before != "" {
		if err := s.Directory.SignOut(r.Context(), before); err != nil {
			return err
		}
	}
	s.setCookie(w, cookieSession, text, life)
	if target == "" {
		target = "/login"
	}
	http.Redirect(w, r, target, http.StatusSeeOther)
	return nil
}

// single is the value of a query parameter that is there once; "" otherwise.
func single(r *http.Request, name string) string {
	if v := r.URL.Query()[name]; len(v) == 1 {
		return v[0]
	}
	return ""
}

// deviceOf is what the list of sessions shows of a browser.
func deviceOf(r *http.Request) string {
	agent := strings.ToValidUTF8(r.UserAgent(), "")
	return agent[:min(len(agent), 200)]
}

// iamToken issues an IAM token for a page of this origin.
func (s *service) iamToken(w http.ResponseWriter, r *http.Request) error {
	c, err := cookie[signedIn](s, r, cookieSession)
	if err != nil {
		return ErrOver
	}
	g, err := s.Directory.IAMToken(r.Context(), c.Secret)
	if err != nil {
		return err
	}
	answerJSON(w, http.StatusOK, map[string]string{
		"iamToken": g.IAMToken, "expiresAt": g.IAMExpires.UTC().Format(time.RFC3339), "subjectId": g.UserID,
	})
	return nil
}

// askSignOut shows the way out: a link alone must sign nobody out.
func (s *service) askSignOut(w http.ResponseWriter, _ *http.Request) error {
	s.show(w, http.StatusOK, page{Title: "Sign out", Action: "/logout", Button: "Sign out", Forward: s.forward()})
	return nil
}

// signOut ends the session, and then the one at the provider, if that offers it
// (OpenID Connect RP-Initiated Logout). The provider is told which client asks; the ID
// token, which it might also be told, would stand in a URL.
func (s *service) signOut(w http.ResponseWriter, r *http.Request) error {
	target := "/login"
	if c, err := cookie[signedIn](s, r, cookieSession); err == nil {
		if err := s.Directory.SignOut(r.Context(), c.Secret); err != nil {
			return err
		}
		if to := s.endSession(r.Context(), c.Provider); to != "" {
			target = to
		}
	}
	s.dropCookie(w, cookieSession)
	http.Redirect(w, r, target, http.StatusSeeOther)
	return nil
}

// endSession is the URL that ends the session at a provider; "" when it has none.
func (s *service) endSession(ctx context.Context, provider string) string {
	c := s.provider(provider)
	if c == nil {
		return ""
	}
	d, err := c.discover(ctx)
	if err != nil || d.EndSessionURL == "" {
		return ""
	}
	u, err := url.Parse(d.EndSessionURL)
	if err != nil || checkURL(u.Scheme+"://"+u.Host) != nil {
		return ""
	}
	query := u.Query()
	query.Set("client_id", c.ClientID)
	query.Set("post_logout_redirect_uri", s.PublicURL+"/login")
	u.RawQuery = query.Encode()
	return u.String()
}

// forward are the origins of the providers, to which the form of sign-out leads on.
func (s *service) forward() string {
	var all []string
	for _, c := range s.providers {
		if u, err := url.Parse(c.Issuer); err == nil {
			all = append(all, u.Scheme+"://"+u.Host)
		}
	}
	return strings.Join(all, " ")
}
