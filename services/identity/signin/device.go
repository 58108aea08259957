package signin

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// DeviceGrant is the grant type of RFC 8628.
const DeviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

// How long a code can be typed in, and how often a program may ask for the outcome.
const (
	deviceLife = 10 * time.Minute
	deviceWait = 5 * time.Second
)

// What becomes of a program that waits for a person (RFC 8628, 3.5).
var (
	ErrPending  = errors.New("nobody has answered yet")
	ErrTooSoon  = errors.New("asked again too soon")
	ErrDenied   = errors.New("the person said no")
	ErrNoDevice = errors.New("no program waits for this code")
)

// Device is a program that waits for a person elsewhere.
type Device struct {
	UserCode string // that the person types in
	ClientID string
	Name     string // of the machine, as the program says
	Ends     time.Time
}

// Devices knows the programs that wait.
type Devices interface {
	// Await notes a program that waits. Fails: ErrSpent when the user code is taken.
	Await(ctx context.Context, hash []byte, d Device) error

	// Waiting reads a program that waits, by the code that a person typed. Fails:
	// ErrNoDevice.
	Waiting(ctx context.Context, userCode string) (Device, error)

	// Answer says whether a program may act as the user of a live session. Fails:
	// ErrNoDevice, ErrOver.
	Answer(ctx context.Context, secret, userCode string, yes bool) error

	// Outcome begins the session of a program whose person said yes. Fails: ErrPending,
	// ErrTooSoon when it asked less than wait before, ErrDenied, ErrNoDevice.
	Outcome(ctx context.Context, hash []byte, wait time.Duration) (Grant, error)
}

// letters of user codes: no vowels, so that they spell nothing (RFC 8628, 6.1).
const letters = "BCDFGHJKLMNPQRSTVWXZ"

// newUserCode is a code that a person types in: 34 random bits, and the bounds of how
// often one may try make them enough for ten minutes.
func newUserCode() string {
	var code []byte
	for len(code) < 8 {
		var b [16]byte
		_, _ = rand.Read(b[:]) // never fails
		for _, c := range b {
			if int(c) < 256/len(letters)*len(letters) && len(code) < 8 { // each letter as often
				code = append(code, letters[int(c)%len(letters)])
			}
		}
	}
	return string(code[:4]) + "-" + string(code[4:])
}

// typed is the code that somebody meant.
func typed(text string) string {
	text = strings.Map(func(r rune) rune {
		if strings.ContainsRune(letters, r) {
			return r
		}
		return -1
	}, strings.ToUpper(text[:min(len(text), maxText)]))
	if len(text) != 8 {
		return ""
	}
	return text[:4] + "-" + text[4:]
}

// await begins to wait for a person on behalf of a program.
func (s *service) await(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return errForm
	}
	name := r.PostForm.Get("device")
	switch {
	case r.PostForm.Get("client_id") != CLI:
		return errClient
	case len(name) > maxText:
		return errForm
	}
	secret := random()
	d := Device{UserCode: newUserCode(), ClientID: CLI, Name: name, Ends: s.Now().Add(deviceLife)}
	if err := s.Directory.Await(r.Context(), digest("device "+secret), d); err != nil {
		return err
	}
	answerJSON(w, http.StatusOK, map[string]any{
		"device_code": secret, "user_code": d.UserCode, "verification_uri": s.PublicURL + "/device",
		"expires_in": int(deviceLife / time.Second), "interval": int(deviceWait / time.Second),
	})
	return nil
}

// outcome answers a program that waits.
func (s *service) outcome(w http.ResponseWriter, r *http.Request) error {
	g, err := s.Directory.Outcome(r.Context(), digest("device "+r.PostForm.Get("device_code")), deviceWait)
	switch {
	case errors.Is(err, ErrPending):
		return errPending
	case errors.Is(err, ErrTooSoon):
		return errTooSoon
	case errors.Is(err, ErrDenied):
		return errDenied
	case errors.Is(err, ErrNoDevice), errors.Is(err, ErrOver):
		return errExpired
	case err != nil:
		return err
	}
	answerGrant(w, g)
	return nil
}

var (
	errPending  = &problem{http.StatusBadRequest, "authorization_pending", "Nobody has answered yet."}
	errTooSoon  = &problem{http.StatusBadRequest, "slow_down", "Asked again too soon."}
	errDenied   = &problem{http.StatusBadRequest, "access_denied", "The person said no."}
	errExpired  = &problem{http.StatusBadRequest, "expired_token", "The code is not good any more."}
	errNoDevice = &problem{http.StatusNotFound, "invalid_request", "No program waits for this code. It may have ended, or was not typed as it was shown."}
)

// forDevice is what the form of the question is sealed for.
const forDevice = "device"

// aboutDevice is what a person is asked.
type aboutDevice struct {
	Session  string `json:"s"`
	UserCode string `json:"u"`
}

// askDevice takes the code that a program shows, and then asks about the program. A code
// in the URL would let a link ask: the person types it.
func (s *service) askDevice(w http.ResponseWriter, r *http.Request) error {
	if _, _, err := s.present(r); errors.Is(err, ErrOver) {
		http.Redirect(w, r, "/login?"+url.Values{"return": {"/device"}}.Encode(), http.StatusSeeOther)
		return nil
	} else if err != nil {
		return err
	}
	s.show(w, http.StatusOK, page{
		Title: "Connect a command line", Text: "Type in the code that bindery login shows.", Action: "/device", Input: "Code", Button: "Next",
	})
	return nil
}

// device is every step of the form: the code, then the answer.
func (s *service) device(w http.ResponseWriter, r *http.Request) error {
	cookie, session, err := s.present(r)
	if err != nil {
		return err
	}
	if text := r.PostFormValue("request"); text != "" {
		about, err := open[aboutDevice](s.seal, forDevice, text)
		if err != nil || about.Session != session.ID {
			return errForm
		}
		if err := s.Directory.Answer(r.Context(), cookie.Secret, about.UserCode, r.PostFormValue("answer") != "no"); errors.Is(err, ErrNoDevice) {
			return errNoDevice
		} else if err != nil {
			return err
		}
		s.show(w, http.StatusOK, page{Title: "Done", Text: "You may close this window and go back to the command line."})
		return nil
	}
	d, err := s.Directory.Waiting(r.Context(), typed(r.PostFormValue("user_code")))
	if errors.Is(err, ErrNoDevice) {
		return errNoDevice
	}
	if err != nil {
		return err
	}
	text, err := seal(s.seal, forDevice, aboutDevice{Session: session.ID, UserCode: d.UserCode}, deviceLife)
	if err != nil {
		return err
	}
	s.show(w, http.StatusOK, page{
		Title:  "Allow the command line?",
		Text:   "bindery login" + on(d.Name) + " asks to act as " + session.Login + ". Allow it only if you have just started it there yourself.",
		Action: "/device", Fields: []field{{"request", text}}, Button: "Allow", Refuse: true,
	})
	return nil
}
