package awssig

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // Version 2 of the storage protocol; HMAC-SHA1 is not broken
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxAhead bounds the end of a signed URL.
const maxAhead = 7 * 24 * time.Hour

// V2 is a signature of Version 2. Its parameters say no time: the text does, and a
// text without one is refused.
type V2 struct {
	StringToSign string
	Signature    string // base64
	SHA256       bool   // HMAC-SHA256, otherwise HMAC-SHA1
}

// Check returns what is wrong with the text and its time, before any secret is
// looked at. There are two forms. Of queries: method, host, path and sorted
// parameters, Timestamp or Expires among them. Of the storage protocol: method, hash,
// type, date or end, then headers and the path.
func (s V2) Check(now time.Time) error {
	lines := strings.Split(s.StringToSign, "\n")
	if len(lines) < 4 || lines[0] == "" || strings.Trim(lines[0], "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return errForm
	}
	if len(lines) == 4 && strings.HasPrefix(lines[2], "/") {
		return s.checkQuery(lines[3], now)
	}
	date := lines[3]
	for _, line := range lines[4:] {
		if value, ok := strings.CutPrefix(line, "x-amz-date:"); ok {
			date = value // it takes the place of the other one, which may be anything
		}
	}
	if end, ok := unixSeconds(date); ok {
		return endsSoon(end, now)
	}
	for _, form := range []string{time.RFC1123, time.RFC1123Z} {
		if at, err := time.Parse(form, date); err == nil {
			return inWindow(at, now)
		}
	}
	return errForm
}

// checkQuery finds the time among the parameters of a query, where each is once.
func (s V2) checkQuery(query string, now time.Time) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errForm
	}
	at, end := values["Timestamp"], values["Expires"]
	switch {
	case len(at) == 1 && len(end) == 0:
		if t, ok := isoTime(at[0]); ok {
			return inWindow(t, now)
		}
	case len(at) == 0 && len(end) == 1:
		if t, ok := isoTime(end[0]); ok {
			return endsSoon(t, now)
		}
	}
	return errForm
}

// Verify returns nil when the holder of secret made the signature. Check comes
// first.
func (s V2) Verify(secret string) error {
	of := sha1.New
	if s.SHA256 {
		of = sha256.New
	}
	h := hmac.New(of, []byte(secret))
	h.Write([]byte(s.StringToSign)) // a hash never fails
	want := base64.StdEncoding.EncodeToString(h.Sum(nil))
	if !hmac.Equal([]byte(want), []byte(s.Signature)) {
		return errSecret
	}
	return nil
}

// isoTime reads the forms of ISO 8601 that clients of queries send, UTC when they
// name no zone.
func isoTime(text string) (time.Time, bool) {
	for _, form := range []string{time.RFC3339Nano, "2006-01-02T15:04:05"} {
		if t, err := time.Parse(form, text); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

func unixSeconds(text string) (time.Time, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != text {
		return time.Time{}, false
	}
	return time.Unix(n, 0), true
}

// endsSoon accepts what ends later than now, and not too late.
func endsSoon(end, now time.Time) error {
	if !end.After(now) || end.Sub(now) > maxAhead {
		return errWindow
	}
	return nil
}
