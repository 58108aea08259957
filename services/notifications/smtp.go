package notifications

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// SMTP is a server that takes mail.
type SMTP struct {
	Host     string
	Port     int
	Implicit bool // TLS from the first byte on (smtps); else by STARTTLS
	User     string
	Password Secret
}

// Secret is a text that no log shows.
type Secret string

// String hides the secret.
func (Secret) String() string { return "[redacted]" }

// GoString hides the secret.
func (Secret) GoString() string { return "[redacted]" }

// MarshalJSON hides the secret.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"[redacted]"`), nil }

var errSMTP = errors.New("the mail server is named by smtp://[USER[:PASSWORD]@]HOST[:PORT], or by smtps:// for TLS from the first byte on")

// ParseSMTP reads the URL of a mail server, port 587 for smtp and 465 for smtps when
// it names none. The password may come in a file of its own. No error shows the URL,
// which may hold a password.
func ParseSMTP(text, passwordFile string) (SMTP, error) {
	u, err := url.Parse(text)
	if err != nil {
		return SMTP{}, errSMTP
	}
	s := SMTP{Host: u.Hostname(), Port: 587, Implicit: u.Scheme == "smtps", User: u.User.Username()}
	if s.Implicit {
		s.Port = 465
	}
	if u.Scheme != "smtp" && u.Scheme != "smtps" || s.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return SMTP{}, errSMTP
	}
	if port := u.Port(); port != "" {
		if s.Port, err = strconv.Atoi(port); err != nil || s.Port < 1 || s.Port > 65535 {
			return SMTP{}, errSMTP
		}
	}
	password, _ := u.User.Password()
	s.Password = Secret(password)
	if passwordFile != "" {
		raw, err := os.ReadFile(passwordFile) //nolint:gosec // named by the operator
		if err != nil {
			return SMTP{}, fmt.Errorf("password of the mail server: %w", err)
		}
		s.Password = Secret(strings.TrimRight(string(raw), "\r\n"))
	}
	if (s.User == "") != (s.Password == "") {
		return SMTP{}, errors.New("the mail server needs both a user and a password, or neither")
	}
	return s, nil
}
