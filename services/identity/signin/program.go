package signin

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"time"
)

// CLI is the id of the client that the command bindery login is.
const CLI = "bindery-cli"

// How long the question and its answer may take.
const (
	askLife  = 10 * time.Minute
	codeLife = time.Minute
)

// forAsking is what the form of the question is sealed for.
const forAsking = "authorize"

// asking is what a program asked a person for.
type asking struct {
	Session   string `json:"s"` // of the person's browser
	Redirect  string `json:"r"`
	Challenge string `json:"c"`
	State     string `json:"t"`
	Device    string `json:"d"`
}

var (
	challengeForm = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)       // of S256, RFC 7636, 4.2
	verifierForm  = regexp.MustCompile(`^[A-Za-z0-9._~-]{43,128}$`) // RFC 7636, 4.1
)

// maxText bounds what a program says of itself.
const maxText = 200

// asked reads the question of a program.
func asked(r *http.Request) (asking, error) {
	a := asking{Redirect: single(r, "redirect_uri"), Challenge: single(r, "code_challenge"), State: single(r, "state"), Device: single(r, "device")}
	switch {
	case single(r, "response_type") != "code", single(r, "client_id") != CLI, single(r, "code_challenge_method") != "S256",
		!challengeForm.MatchString(a.Challenge), !loopback(a.Redirect), a.State == "" || len(a.State) > maxText, len(a.Device) > maxText:
		return asking{}, errProgram
	}
	return a, nil
}

// loopback reports whether a URI is of a program on the machine of the browser, at any
// port (RFC 8252, 7.3). A name could lead elsewhere (8.3).
func loopback(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && len(raw) <= maxText && u.Scheme == "http" && (u.Hostname() == "127.0.0.1" || u.Hostname() == "::1") && u.Port() != "" &&
		u.User == nil && u.RawQuery == "" && u.Fragment == "" && u.Path == "/callback"
}

// ask asks who is signed in whether a program may act as them; who is not, signs in
// first.
func (s *service) ask(w http.ResponseWriter, r *http.Request) error {
	a, err := asked(r)
	if err != nil {
		return err
	}
	_, session, err := s.present(r)
	if errors.Is(err, ErrOver) {
		to := "/login?" + url.Values{"return": {r.URL.RequestURI()}}.Encode()
		if federation := single(r, "federation"); federation != "" {
			to = beginFederation(federation, r.URL.RequestURI())
		}
		http.Redirect(w, r, to, http.StatusSeeOther) //nolint:gosec // a page of this site, whatever comes behind its path
		return nil
	}
	if err != nil {
		return err
	}
	a.Session = session.ID
	text, err := seal(s.seal, forAsking, a, askLife)
	if err != nil {
		return err
	}
	to, _ := url.Parse(a.Redirect) // asked has read it
	s.show(w, http.StatusOK, page{
		Title:  "Allow the command line?",
		Text:   "bindery login" + on(a.Device) + " asks to act as " + session.who() + ". Allow it only if you have just started it.",
		Action: "/login/authorize", Fields: []field{{"request", text}}, Button: "Allow", Forward: to.Scheme + "://" + to.Host,
	})
	return nil
}

func on(device string) string {
	if device == "" {
		return ""
	}
	return " on " + device
}

// allow sends the program a code.
func (s *service) allow(w http.ResponseWriter, r *http.Request) error {
	cookie, session, err := s.present(r)
	if err != nil {
		return err
	}
	a, err := open[asking](s.seal, forAsking, r.PostFormValue("request"))
	if err != nil || a.Session != session.ID { // a form of another browser, or of before
		return errForm
	}
	text, err := s.Directory.Allow(r.Context(), cookie.Secret, Code{
		ClientID: CLI, Redirect: a.Redirect, Challenge: a.Challenge, Device: a.Device, Ends: s.Now().Add(codeLife),
	})
	if err != nil {
		return err
	}
	http.Redirect(w, r, a.Redirect+"?"+url.Values{"code": {text}, "state": {a.State}, "iss": {s.PublicURL}}.Encode(), http.StatusSeeOther)
	return nil
}

// What a program is told of a bad exchange (RFC 6749, 5.2).
var (
	errGrant     = &problem{http.StatusBadRequest, "invalid_grant", "The code is not good, or was used before."}
	errClient    = &problem{http.StatusUnauthorized, "invalid_client", "The client is not known."}
	errGrantType = &problem{http.StatusBadRequest, "unsupported_grant_type", "grant_type must be authorization_code or " + DeviceGrant + "."}
)

// token exchanges a code for a session of the program.
func (s *service) token(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return errForm
	}
	if r.PostForm.Get("client_id") != CLI {
		return errClient
	}
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
	case DeviceGrant:
		return s.outcome(w, r)
	default:
		return errGrantType
	}
	verifier := r.PostForm.Get("code_verifier")
	g, err := s.Directory.Exchange(r.Context(), r.PostForm.Get("code"), func(c Code) bool {
		sum := sha256.Sum256([]byte(verifier))
		return c.ClientID == CLI && c.Redirect == r.PostForm.Get("redirect_uri") && verifierForm.MatchString(verifier) &&
			equal(base64.RawURLEncoding.EncodeToString(sum[:]), c.Challenge)
	})
	if errors.Is(err, ErrSpent) {
		return errGrant
	}
	if err != nil {
		return err
	}
	answerGrant(w, g)
	return nil
}

// answerGrant answers with a session of a program. The IAM token is the access token.
func answerGrant(w http.ResponseWriter, g Grant) {
	w.Header().Set("Pragma", "no-cache") // RFC 6749, 5.1
	answerJSON(w, http.StatusOK, map[string]any{
		"access_token": g.IAMToken, "token_type": "Bearer", "expires_at": g.IAMExpires.UTC().Format(time.RFC3339),
		"refresh_token": g.Secret, "session_expires_at": g.Expires.UTC().Format(time.RFC3339),
		"subject_id": g.UserID, "login": g.Login,
	})
}
