package signin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/bindery-iam/bindery/pkg/log"
	"github.com/bindery-iam/bindery/services/identity/saml"
)

// Federations knows the SAML federations of organizations, and their people.
type Federations interface {
	// Federation reads a federation that people may sign in through. Fails:
	// ErrNoFederation.
	Federation(ctx context.Context, id string) (saml.Federation, error)

	// FindFederation is the id of the federation that a person means by its id, its
	// domain, or an e-mail address of that. Fails: ErrNoFederation.
	FindFederation(ctx context.Context, text string) (id string, err error)

	// SignInFederated begins a session of a browser for somebody whom the provider of a
	// federation vouches for. Fails: ErrNoAccount, ErrMayNot, ErrNoFederation.
	SignInFederated(ctx context.Context, f saml.Federation, who saml.Identity, device string) (Grant, error)

	// RefusedFederated records that an answer of a provider was not accepted, and why.
	RefusedFederated(ctx context.Context, f saml.Federation, reason string) error
}

// ErrNoFederation is of a federation that is not there, or not ready.
var ErrNoFederation = errors.New("no federation that people could sign in through")

// cookieFederation is the cookie of a sign-in through a federation.
const cookieFederation = "bindery_federation"

// maxForm bounds what a browser brings from a provider, in bytes.
const maxForm = 512 << 10

// Paths of what a federation tells its provider, as patterns.
const (
	pathOfMetadata = "/login/saml/{federation}/metadata"
	pathOfAnswers  = "/login/saml/{federation}/acs"
)

// errNoFederation is what people are shown.
var errNoFederation = &problem{http.StatusNotFound, "invalid_request", "There is no organization to sign in through by this name, or it is not ready."}

// federated is a sign-in through a federation under way, in the cookie of the browser
// that began it.
type federated struct {
	Federation string `json:"f"`
	Request    string `json:"i"` // that the answer must name
	At         int64  `json:"a"` // unix seconds
	State      string `json:"s"` // as it comes back
	Return     string `json:"r,omitempty"`

	// Before is the secret of the session that the browser had: its cookie does not come
	// along with an answer, which another site posts.
	Before string `json:"b,omitempty"`
}

// setFederated keeps a sign-in in the browser. The answer is posted by another site, and
// a cookie comes along with that by SameSite=None alone, which needs https. Over http, on
// one machine, the provider is no other site.
func (s *service) setFederated(w http.ResponseWriter, value string, life time.Duration) {
	same := http.SameSiteLaxMode
	if s.secure {
		same = http.SameSiteNoneMode
	}
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure where the site is
		Name: s.cookieName(cookieFederation), Value: value, Path: "/", MaxAge: int(life / time.Second), Secure: s.secure, HttpOnly: true, SameSite: same,
	})
}

func (s *service) site() saml.Site { return saml.Site{PublicURL: s.PublicURL, Now: s.Now} }

// askFederation asks through which organization somebody signs in.
func (s *service) askFederation(w http.ResponseWriter, r *http.Request) error {
	s.show(w, http.StatusOK, page{
		Title: "Sign in through your organization", Action: "/login/saml", Fields: []field{{"return", back(r.URL.Query().Get("return"))}},
		Input: "E-mail address, domain or federation id", Named: "federation", Button: "Continue",
	})
	return nil
}

// findFederation shows the way to a federation. It is a link: a form must not lead to
// other sites, and the federation's provider is one.
func (s *service) findFederation(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return errForm
	}
	id, err := s.Directory.FindFederation(r.Context(), strings.TrimSpace(r.PostForm.Get("federation")))
	if err != nil {
		return err
	}
	s.show(w, http.StatusOK, page{Title: "Sign in through your organization", Links: []link{{beginFederation(id, back(r.PostForm.Get("return"))), "Continue"}}})
	return nil
}

// beginFederation is the page that sends the browser to the provider of a federation.
func beginFederation(id, target string) string {
	at := "/login/saml/" + url.PathEscape(id)
	if target != "" {
		at += "?" + url.Values{"return": {target}}.Encode()
	}
	return at
}

// federationMetadata shows what the provider of a federation must know.
func (s *service) federationMetadata(w http.ResponseWriter, r *http.Request) error {
	f, err := s.Directory.Federation(r.Context(), r.PathValue("federation"))
	if err != nil {
		return err
	}
	text, err := s.site().Metadata(f)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/samlmetadata+xml")
	_, _ = w.Write(text) //nolint:gosec // XML of our own, by an encoder; the reader is gone if it fails
	return nil
}

// toFederation shows the way to the provider of a federation.
func (s *service) toFederation(w http.ResponseWriter, r *http.Request) error {
	f, err := s.Directory.Federation(r.Context(), r.PathValue("federation"))
	if err != nil {
		return err
	}
	if len(f.Certificates) == 0 {
		return errNoFederation
	}
	state := random()
	asked, err := s.site().Request(f, state)
	if err != nil {
		return err
	}
	flow := federated{Federation: f.ID, Request: asked.ID, At: s.Now().Unix(), State: state, Return: back(r.URL.Query().Get("return"))}
	if before, err := cookie[signedIn](s, r, cookieSession); err == nil {
		flow.Before = before.Secret
	}
	text, err := seal(s.seal, cookieFederation, flow, flowLife)
	if err != nil {
		return err
	}
	if len(text) > maxCookie { // a browser would drop it
		return errProgram
	}
	s.setFederated(w, text, flowLife)
	// Anybody can make a federation, and lead people here by a link: so they are told where
	// they go, and it takes a click of theirs to come back as somebody else.
	p := page{
		Title: "Sign in through your organization",
		Text:  "The federation " + strconv.Quote(f.Name) + " (" + f.ID + ") has its people sign in at " + originOf(asked.At) + ". Go on if that is your organization.",
	}
	if _, session, err := s.present(r); err == nil {
		p.Text += " You are signed in as " + session.who() + ": that ends when you come back as somebody else."
	}
	if asked.Posted == "" {
		p.Links = []link{{asked.At, "Continue"}}
	} else {
		p.Action, p.Fields, p.Button = asked.At, []field{{"SAMLRequest", asked.Posted}, {"RelayState", state}}, "Continue"
		p.Forward = "https: " + originOf(asked.At) // from where the provider may lead on to its other sites
	}
	s.show(w, http.StatusOK, p)
	return nil
}

// originOf is scheme and host of a URL.
func originOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// fromFederation takes the answer of a provider, as it is posted.
func (s *service) fromFederation(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return errForm
	}
	flow, err := cookie[federated](s, r, cookieFederation)
	if err != nil || flow.Federation != r.PathValue("federation") || !equal(flow.State, posted(r, "RelayState")) {
		return errLost
	}
	// From here on the sign-in is used up, whatever becomes of it.
	s.setFederated(w, "", -time.Second)
	if err := s.Directory.Spend(r.Context(), digest("saml state "+flow.State), s.Now().Add(flowLife)); err != nil {
		return err
	}
	f, err := s.Directory.Federation(r.Context(), flow.Federation)
	if err != nil {
		return err
	}
	who, err := s.site().Answered(f, saml.Asked{ID: flow.Request, At: time.Unix(flow.At, 0)}, posted(r, "SAMLResponse"), func(assertion string, until time.Time) error {
		err := s.Directory.Spend(r.Context(), digest("saml assertion "+f.ID+" "+assertion), until)
		if errors.Is(err, ErrSpent) {
			return saml.ErrSpent
		}
		return err
	})
	var no *saml.Refusal
	if errors.As(err, &no) {
		log.From(r.Context()).Warn("sign-in refused", zap.String("federation", f.ID), zap.String("reason", no.Reason), zap.NamedError("cause", no.Cause))
		if err := s.Directory.RefusedFederated(r.Context(), f, no.Reason); err != nil {
			return err
		}
		if no.Reason == saml.ReasonDeclined {
			return errDeclined
		}
		return errRefused
	}
	if err != nil {
		return err
	}
	g, err := s.Directory.SignInFederated(r.Context(), f, who, deviceOf(r))
	if err != nil {
		return err
	}
	return s.hold(w, r, g, signedIn{Secret: g.Secret}, flow.Before, flow.Return)
}

// posted is the value of a field of a form that is there once; "" otherwise.
func posted(r *http.Request, name string) string {
	if v := r.PostForm[name]; len(v) == 1 {
		return v[0]
	}
	return ""
}
