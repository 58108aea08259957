package signin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/bindery-iam/bindery/pkg/log"
)

// Session is a login session, as a Directory knows it.
type Session struct {
	ID      string // of its refresh token
	UserID  string
	Login   string
	Expires time.Time

	// Federation is the name of the SAML federation by whose word it is; "" for none.
	Federation string
}

// who is what people are told of who is signed in. A federation names its people as it
// likes, so it is always told with them.
func (s Session) who() string {
	if s.Federation == "" {
		return s.Login
	}
	return s.Login + ", by the federation " + strconv.Quote(s.Federation)
}

// Grant is what a client gets of a session.
type Grant struct {
	Session
	Secret     string // proves the session: the refresh token, which is shown once
	IAMToken   string // "" for a browser, which asks for it
	IAMExpires time.Time
}

// Code stands for a session that a program may begin, until it is exchanged.
type Code struct {
	ClientID  string
	Redirect  string // URI to which the code goes
	Challenge string // of PKCE, S256
	Device    string // on which the program runs, as it says
	Ends      time.Time
}

// Directory knows people and their sessions; secret is what Grant.Secret was. Its errors
// are shown as "try again", but for those that are named.
type Directory interface {
	Devices
	Federations

	// SignIn begins a session of a browser for somebody whom a provider vouches for.
	// Fails: ErrNoAccount, ErrMayNot.
	SignIn(ctx context.Context, by Provider, who Identity, device string) (Grant, error)

	// Refused records that an answer of a provider was not accepted, and why.
	Refused(ctx context.Context, by Provider, reason string) error

	// Session reads a live session. Fails: ErrOver.
	Session(ctx context.Context, secret string) (Session, error)

	// IAMToken issues a token of a live session. Fails: ErrOver.
	IAMToken(ctx context.Context, secret string) (Grant, error)

	// SignOut ends a session; one that is over is none to end.
	SignOut(ctx context.Context, secret string) error

	// Allow makes a code for a program of the user of a live session; it is over with
	// that session, too. Fails: ErrOver.
	Allow(ctx context.Context, secret string, code Code) (text string, err error)

	// Exchange begins the session of a program for a code that fits, and uses the code up
	// whether it fits or not. Fails: ErrSpent for a code that is none.
	Exchange(ctx context.Context, text string, fits func(Code) bool) (Grant, error)

	// Spend notes that something may be used once, and is remembered until it ends. Fails:
	// ErrSpent.
	Spend(ctx context.Context, hash []byte, until time.Time) error
}

// What a Directory says no by.
var (
	ErrNoAccount = errors.New("nobody here is linked to this account of the provider")
	ErrMayNot    = errors.New("the account is suspended")
	ErrOver      = errors.New("the session is over")
	ErrSpent     = errors.New("used before")
)

// Config is what sign-in is made of. Every field is set.
type Config struct {
	// PublicURL is where browsers find the HTTP port of the installation, such as
	// https://iam.example: no path.
	PublicURL string
	Providers []Provider
	Directory Directory
	Key       []byte // KeySize bytes, the same in all replicas
	Now       func() time.Time
	Log       *zap.Logger
}

// CheckPublicURL refuses what browsers cannot be sent to.
func CheckPublicURL(raw string) error {
	err := checkURL(raw)
	if u, _ := url.Parse(raw); err == nil && u.Path != "" {
		err = fmt.Errorf("%q must not have a path", raw)
	}
	return err
}

// service answers the requests of sign-in.
type service struct {
	Config
	origin    *url.URL
	secure    bool // over https
	seal      *sealer
	providers []*client
	limits    *limiter
	csrf      *http.CrossOriginProtection
}

// Register adds the pages to a mux.
func Register(mux *http.ServeMux, c Config) error {
	s, err := newService(c)
	if err != nil {
		return err
	}
	for pattern, h := range map[string]handler{
		"GET /login":                     s.choose,
		"GET /login/{provider}":          s.begin,
		"GET /login/callback/{provider}": s.callback,
		"GET /login/saml":                s.askFederation,
		"POST /login/saml":               s.findFederation,
		"GET /login/saml/{federation}":   s.toFederation,
		"GET " + pathOfMetadata:          s.federationMetadata,
		"POST " + pathOfAnswers:          s.fromFederation,
		"GET /login/authorize":           s.ask,
		"POST /login/authorize":          s.allow,
		"POST /login/token":              s.token,
		"POST /login/device":             s.await,
		"GET /device":                    s.askDevice,
		"POST /device":                   s.device,
		"POST /login/iam-token":          s.iamToken,
		"GET /logout":                    s.askSignOut,
		"POST /logout":                   s.signOut,
	} {
		mux.Handle(pattern, s.guard(h))
	}
	return nil
}

func newService(c Config) (*service, error) {
	origin, err := url.Parse(c.PublicURL)
	if err == nil {
		err = CheckPublicURL(c.PublicURL)
	}
	if err != nil {
		return nil, fmt.Errorf("public URL: %w", err)
	}
	s := &service{Config: c, origin: origin, secure: origin.Scheme == "https", limits: newLimiter(c.Now), csrf: http.NewCrossOriginProtection()}
	s.csrf.AddInsecureBypassPattern("POST " + pathOfAnswers) // which the provider has browsers post
	if s.seal, err = newSealer(c.Key, c.Now); err != nil {
		return nil, err
	}
	for _, p := range c.Providers {
		if s.provider(p.Name) != nil {
			return nil, fmt.Errorf("provider %s twice", p.Name)
		}
		s.providers = append(s.providers, newClient(p, c.Now))
	}
	return s, nil
}

func (s *service) provider(name string) *client {
	for _, p := range s.providers {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// redirectURI is where a provider sends its answers.
func (s *service) redirectURI(p *client) string { return s.PublicURL + "/login/callback/" + p.Name }

// handler answers a request, or says by an error why not.
type handler func(w http.ResponseWriter, r *http.Request) error

// guard is around every handler: headers that hold for all answers, the bounds of how
// often, the refusal of what another site sent, and errors.
func (s *service) guard(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Cache-Control", "no-store")
		head.Set("Referrer-Policy", "no-referrer")
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("X-Frame-Options", "DENY")
		head.Set("Cross-Origin-Opener-Policy", "same-origin")
		head.Set("Content-Security-Policy", policy(""))
		if s.secure {
			head.Set("Strict-Transport-Security", "max-age=31536000")
		}
		r.Host = s.origin.Host
		if err := s.csrf.Check(r); err != nil {
			s.fail(w, r, errForeign)
			return
		}
		if !s.limits.allow(r.RemoteAddr) {
			head.Set("Retry-After", "1")
			s.fail(w, r, errTooOften)
			return
		}
		if err := h(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

// policy is the Content-Security-Policy of a page: nothing but its own text and forms.
// more are origins that its forms may lead on to.
func policy(more string) string {
	return strings.TrimSpace("default-src 'none'; style-src 'sha256-" + styleHash + "'; base-uri 'none'; frame-ancestors 'none'; form-action 'self' " + more)
}

// problem is an error that people are shown.
type problem struct {
	status int
	code   string // of OAuth 2.0, for programs
	text   string
}

// Error is what people are shown.
func (p *problem) Error() string { return p.text }

// Every "no" of these pages.
var (
	errForeign    = &problem{http.StatusForbidden, "invalid_request", "The request came from another site."}
	errTooOften   = &problem{http.StatusTooManyRequests, "slow_down", "Too many requests. Wait a moment, then try again."}
	errNoProvider = &problem{http.StatusNotFound, "invalid_request", "There is no such way to sign in here."}
	errLost       = &problem{http.StatusBadRequest, "invalid_request", "This sign-in was not begun in this browser, has ended, or was replaced by another one. Please begin again."}
	errRefused    = &problem{http.StatusForbidden, "access_denied", "The provider's answer was not accepted."}
	errDeclined   = &problem{http.StatusForbidden, "access_denied", "The provider did not sign you in."}
	errNoAccount  = &problem{http.StatusForbidden, "access_denied", "You have no account here. Ask for an invitation, or to have your account linked."}
	errMayNot     = &problem{http.StatusForbidden, "access_denied", "Your account is suspended."}
	errAway       = &problem{http.StatusServiceUnavailable, "temporarily_unavailable", "Sign-in is not possible just now. Please try again."}
	errNoSession  = &problem{http.StatusUnauthorized, "access_denied", "You are not signed in."}
	errProgram    = &problem{http.StatusBadRequest, "invalid_request", "The program asked in a way that is not supported: it needs a loopback redirect and PKCE by S256."}
	errForm       = &problem{http.StatusBadRequest, "invalid_request", "The form cannot be read, or is too old. Please begin again."}
)

// fail shows an error. What is no problem of the sender is logged, and shown without a
// word of what it is.
func (s *service) fail(w http.ResponseWriter, r *http.Request, err error) {
	var shown *problem
	switch {
	case errors.As(err, &shown):
	case errors.Is(err, ErrNoAccount):
		shown = errNoAccount
	case errors.Is(err, ErrMayNot):
		shown = errMayNot
	case errors.Is(err, ErrOver):
		shown = errNoSession
	case errors.Is(err, ErrSpent):
		shown = errLost
	case errors.Is(err, ErrNoFederation):
		shown = errNoFederation
	default:
		log.From(r.Context()).Warn("sign-in failed", zap.String("path", r.Pattern), zap.Error(err))
		shown = errAway
	}
	if strings.HasSuffix(r.URL.Path, "token") || r.URL.Path == "/login/device" {
		answerJSON(w, shown.status, map[string]string{"error": shown.code, "error_description": shown.text})
		return
	}
	s.show(w, shown.status, page{Title: "Not signed in", Text: shown.text, Again: true})
}
