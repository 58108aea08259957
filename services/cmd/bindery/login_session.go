package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
)

// tokenReserve is how much longer a token must last to be printed once more.
const tokenReserve = 10 * time.Minute

// askServer bounds one call of the commands that use a session.
const askServer = 30 * time.Second

// errOver is what is said of a session that ended or was ended.
var errOver = errors.New("the session is over: run bindery login again")

// sessionFlags say where the session is kept.
type sessionFlags struct {
	Session string `placeholder:"FILE" help:"File of the session; bindery/session.json in the user's configuration directory when empty."`
}

func (f sessionFlags) file() (string, error) {
	if f.Session != "" {
		return f.Session, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("nowhere to keep a session: %w; name a file by --session", err)
	}
	return filepath.Join(dir, "bindery", "session.json"), nil
}

// locked runs fn while no other command uses the session: a refresh token is good once.
func (f sessionFlags) locked(fn func(file string) error) error {
	file, err := f.file()
	if err != nil {
		return err
	}
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return errors.New("not signed in: run bindery login")
	}
	l, err := os.OpenFile(file+".lock", os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the user names it
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }() // which unlocks
	if err := syscall.Flock(int(l.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", l.Name(), err)
	}
	return fn(file)
}

// keptSession is what the file of a session holds. Whoever reads it is its user.
type keptSession struct {
	Server       string    `json:"server"`
	CA           string    `json:"tlsCa,omitempty"`
	Login        string    `json:"login"`
	SubjectID    string    `json:"subjectId"`
	RefreshToken string    `json:"refreshToken"`
	Ends         time.Time `json:"endsAt"`
	IAMToken     string    `json:"iamToken"`
	IAMTokenEnds time.Time `json:"iamTokenEndsAt"`

	// RefreshKey is the idempotency key of a refresh whose answer was not read: the same
	// key gets the same answer, while another one would end the session.
	RefreshKey string `json:"refreshKey,omitempty"`
}

func readSession(file string) (*keptSession, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the user names it
	if err != nil {
		return nil, err
	}
	s := new(keptSession)
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("%s holds no session: %w", file, err)
	}
	return s, nil
}

// save writes the file whole or not at all, for its user alone.
func (s *keptSession) save(file string) error {
	text, err := json.MarshalIndent(s, "", "  ") //nolint:gosec // what the file is for
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".session-*") // of mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // what is left of it
	}
	return err
}

// client calls the server.
func (s *keptSession) client() (*http.Client, error) {
	c := &http.Client{Timeout: askServer, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if s.CA == "" {
		return c, nil
	}
	pem, err := os.ReadFile(s.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate in it", s.CA)
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	c.Transport = t
	return c, nil
}

// send posts to the server and reads the answer into a value, whatever its status.
func (s *keptSession) send(ctx context.Context, path, contentType string, header map[string]string, body []byte, into any) (int, error) {
	c, err := s.client()
	if err != nil {
		return 0, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Server+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", contentType)
	for name, v := range header {
		r.Header.Set(name, v)
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := decodeJSON(resp.Body, into); err != nil {
		return resp.StatusCode, fmt.Errorf("%s answered %s: %w", s.Server, resp.Status, err)
	}
	return resp.StatusCode, nil
}

// formType is the content type of a form.
const formType = "application/x-www-form-urlencoded"

// exchangeError is why a server gave no session.
type exchangeError struct{ server, code, text string }

// Error is for people.
func (e *exchangeError) Error() string { return e.server + " did not give a session: " + e.text }

// exchange takes a code for the session.
func (s *keptSession) exchange(ctx context.Context, form url.Values) error {
	var got struct {
		AccessToken  string    `json:"access_token"`
		Expires      time.Time `json:"expires_at"`
		RefreshToken string    `json:"refresh_token"`
		Ends         time.Time `json:"session_expires_at"`
		SubjectID    string    `json:"subject_id"`
		Login        string    `json:"login"`
		Code         string    `json:"error"`
		Description  string    `json:"error_description"`
	}
	status, err := s.send(ctx, "/login/token", formType, nil, []byte(form.Encode()), &got)
	if err != nil {
		return err
	}
	if status != http.StatusOK || got.RefreshToken == "" {
		return &exchangeError{s.Server, got.Code, got.Description}
	}
	s.IAMToken, s.IAMTokenEnds, s.RefreshToken, s.Ends = got.AccessToken, got.Expires, got.RefreshToken, got.Ends
	s.SubjectID, s.Login = got.SubjectID, got.Login
	return nil
}

// refresh gets the next refresh token and an IAM token, and keeps both.
func (s *keptSession) refresh(ctx context.Context, file string) error {
	if s.RefreshKey == "" {
		s.RefreshKey = uuid.NewString()
		if err := s.save(file); err != nil {
			return err
		}
	}
	body, err := json.Marshal(map[string]string{"refreshToken": s.RefreshToken})
	if err != nil {
		return err
	}
	var got struct {
		Session struct {
			RefreshToken      string
			ExpiresAt         time.Time
			IAMToken          string    `json:"iamToken"`
			IAMTokenExpiresAt time.Time `json:"iamTokenExpiresAt"`
		}
		Message string
	}
	status, err := s.send(ctx, "/identity/v1/sessions:refresh", "application/json", map[string]string{"Idempotency-Key": s.RefreshKey}, body, &got)
	switch {
	case err != nil:
		return err
	case status == http.StatusUnauthorized:
		return errOver
	case status != http.StatusOK:
		return fmt.Errorf("%s: %s", s.Server, strings.TrimSpace(got.Message))
	}
	s.RefreshToken, s.Ends, s.RefreshKey = got.Session.RefreshToken, got.Session.ExpiresAt, ""
	s.IAMToken, s.IAMTokenEnds = got.Session.IAMToken, got.Session.IAMTokenExpiresAt
	return s.save(file)
}

// end ends the session; one that is over is none to end.
func (s *keptSession) end(ctx context.Context, file string) error {
	if time.Until(s.IAMTokenEnds) < askServer {
		if err := s.refresh(ctx, file); errors.Is(err, errOver) {
			return nil
		} else if err != nil {
			return err
		}
	}
	body, err := json.Marshal(map[string]string{"refreshToken": s.RefreshToken})
	if err != nil {
		return err
	}
	var got struct{ Message string }
	status, err := s.send(ctx, "/iam/v1/refreshTokens:revoke", "application/json", map[string]string{"Authorization": "Bearer " + s.IAMToken}, body, &got)
	switch {
	case err != nil:
		return err
	case status == http.StatusOK || status == http.StatusUnauthorized:
		return nil
	default:
		return fmt.Errorf("%s: %s", s.Server, strings.TrimSpace(got.Message))
	}
}
