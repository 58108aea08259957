package jwttest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"
)

// Holder is who holds an authorized key.
type Holder struct {
	KeyID    string
	Account  string
	Private  *rsa.PrivateKey
	Audience string
	Now      time.Time
	T        testing.TB // fails when a token cannot be made
}

// Case is one token.
type Case struct{ Name, Text string }

// Header is what the clients write.
func (h Holder) Header() string {
	return fmt.Sprintf(`{"alg":"PS256","kid":%q,"typ":"JWT"}`, h.KeyID)
}

// claims are what the clients write, with changes; a nil value takes a claim away.
func (h Holder) claims(changes map[string]any) string {
	all := map[string]any{
		"iss": h.Account, "aud": h.Audience, "iat": h.Now.Unix(), "exp": h.Now.Add(time.Hour).Unix(),
	}
	maps.Copy(all, changes)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	raw, err := json.Marshal(all)
	if err != nil {
		h.T.Fatal(err)
	}
	return string(raw)
}

// Token is a token as a client makes it.
func (h Holder) Token() string { return h.sign(h.Header(), h.claims(nil)) }

// with is a well signed token with other claims.
func (h Holder) with(changes map[string]any) string { return h.sign(h.Header(), h.claims(changes)) }

// headed is a well signed token with another header.
func (h Holder) headed(format string, args ...any) string {
	return h.sign(fmt.Sprintf(format, args...), h.claims(nil))
}

// sign makes a token of any header and claims.
func (h Holder) sign(header, claims string) string {
	return h.seal(encode(header)+"."+encode(claims), rsa.PSSSaltLengthEqualsHash)
}

// seal signs what is encoded already.
func (h Holder) seal(signed string, salt int) string {
	hash := sha256.Sum256([]byte(signed))
	sig, err := rsa.SignPSS(rand.Reader, h.Private, crypto.SHA256, hash[:], &rsa.PSSOptions{SaltLength: salt})
	if err != nil {
		h.T.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// parts are the three of a token.
func parts(token string) (header, claims, signature string) {
	p := strings.Split(token, ".")
	return p[0], p[1], p[2]
}

// Good are tokens that are to be accepted at h.Now.
func Good(h Holder) []Case {
	at := h.Now.Unix()
	header, claims := encode(h.Header()), encode(h.claims(nil))
	return []Case{
		{"as Go makes it, aud an array", h.with(map[string]any{"aud": []string{h.Audience}})},
		{"as node makes it, aud a text", h.Token()},
		{"iat ahead, as node rounds it", h.with(map[string]any{"iat": at + 1, "exp": at + 3601})},
		{"iat ahead by the leeway", h.with(map[string]any{"iat": at + 60, "exp": at + 3660})},
		{"expired within the leeway", h.with(map[string]any{"iat": at - 3600, "exp": at - 59})},
		{"of one second", h.with(map[string]any{"exp": at + 1})},
		{"without typ", h.headed(`{"alg":"PS256","kid":%q}`, h.KeyID)},
		{"names in another order", h.headed(`{"typ":"JWT","kid":%q,"alg":"PS256"}`, h.KeyID)},
		{"spaces within the JSON", h.headed("{ \"alg\": \"PS256\",\n \"kid\": %q }", h.KeyID)},
		{"several audiences, one ours", h.with(map[string]any{"aud": []string{"https://other.example", h.Audience}})},
		{"times with fractions", h.with(map[string]any{"iat": json.RawMessage(fmt.Sprintf("%d.25", at)), "exp": json.RawMessage(fmt.Sprintf("%d.5", at+60))})},
		{"nbf that has come", h.with(map[string]any{"nbf": at - 5})},
		{"sub as iss", h.with(map[string]any{"sub": h.Account})},
		{"claims that say nothing", h.with(map[string]any{"jti": "1", "scope": []string{"a"}, "deep": map[string]any{"exp": 1}})},
		{"another salt length", h.seal(header+"."+claims, 20)},
		{"the longest salt", h.seal(header+"."+claims, rsa.PSSSaltLengthAuto)},
	}
}
