package awssig

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"time"
)

// Window is how far the time of a signature may be from now, to either side.
const Window = 15 * time.Minute

const (
	algorithm4 = "AWS4-HMAC-SHA256"
	ending4    = "aws4_request"
	timeForm4  = "20060102T150405Z"
	dateForm4  = "20060102"
	hexHash    = 2 * sha256.Size
)

// Why a signature is refused, for a log of the operator; callers are told nothing.
var (
	errForm   = errors.New("the text is not that of a signed request")
	errScope  = errors.New("the text is of another time, date, region or service than its parameters")
	errWindow = errors.New("signed too long ago, or ahead of time")
	errSecret = errors.New("the signature is not that of the key")
)

// V4 is a signature of Version 4.
type V4 struct {
	StringToSign string    // of four lines: algorithm, time, scope, hash of the request
	Signature    string    // 64 hexadecimal digits, lower case
	SignedAt     time.Time // to the second
	Service      string    // e.g. "s3"
	Region       string    // e.g. "ru-central1"
}

// Check returns what is wrong with the text and its time, before any secret is
// looked at.
func (s V4) Check(now time.Time) error {
	lines := strings.Split(s.StringToSign, "\n")
	if len(lines) != 4 || lines[0] != algorithm4 || !isHash(lines[3]) || !isHash(s.Signature) {
		return errForm
	}
	if s.Service == "" || s.Region == "" || strings.ContainsAny(s.Service+s.Region, "/\n") {
		return errForm
	}
	at := s.SignedAt.UTC()
	if lines[1] != at.Format(timeForm4) || lines[2] != s.scope() {
		return errScope
	}
	return inWindow(at, now)
}

// Verify returns nil when the holder of secret made the signature. Check comes
// first.
func (s V4) Verify(secret string) error {
	key := []byte("AWS4" + secret)
	for part := range strings.SplitSeq(s.scope(), "/") {
		key = mac(key, part)
	}
	want := hex.EncodeToString(mac(key, s.StringToSign))
	if !hmac.Equal([]byte(want), []byte(s.Signature)) {
		return errSecret
	}
	return nil
}

// scope is the third line of the text, and by its parts the way to the signing key.
func (s V4) scope() string {
	return strings.Join([]string{s.SignedAt.UTC().Format(dateForm4), s.Region, s.Service, ending4}, "/")
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text)) // a hash never fails
	return h.Sum(nil)
}

// isHash reports whether text is a SHA-256 in the one spelling that AWS uses.
func isHash(text string) bool {
	return len(text) == hexHash && strings.Trim(text, "0123456789abcdef") == ""
}

func inWindow(at, now time.Time) error {
	if d := now.Sub(at); d > Window || d < -Window {
		return errWindow
	}
	return nil
}
