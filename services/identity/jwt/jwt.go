package jwt

import (
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// Bounds of a token.
const (
	MaxLen  = 8000 // characters, as the contract has it
	MaxLife = time.Hour
	Leeway  = time.Minute

	maxAudiences = 16
)

// PublicAudience is what the official clients put into aud, whatever the address of
// the installation is.
const PublicAudience = "https://iam.api.cloud.yandex.net/iam/v1/tokens"

// ErrInvalid is every refusal. What it wraps is for the log, holds nothing of the
// token and must not reach the caller.
var ErrInvalid = errors.New("the JWT is not good")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
}

// Token is a token whose claims are good, if its signature is: see Verify.
type Token struct {
	KeyID  string // kid of the header
	Issuer string // iss, the account that the key must belong to
	signed *jose.JSONWebSignature
}

// Parse reads a token that is for one of the audiences and good at that time. Fails:
// ErrInvalid.
func Parse(text string, audiences []string, now time.Time) (Token, error) {
	header, body, err := split(text)
	if err != nil {
		return Token{}, err
	}
	kid, err := readHeader(header)
	if err != nil {
		return Token{}, err
	}
	c, err := readClaims(body)
	if err != nil {
		return Token{}, err
	}
	if err := c.good(audiences, now); err != nil {
		return Token{}, err
	}
	signed, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.PS256})
	if err != nil {
		return Token{}, invalid("read signature")
	}
	return Token{KeyID: kid, Issuer: c.issuer, signed: signed}, nil
}

// Verify proves that the holder of a key has signed the token. Fails: ErrInvalid.
func (t Token) Verify(key *rsa.PublicKey) error {
	if _, err := t.signed.Verify(key); err != nil {
		return invalid("another signature")
	}
	return nil
}

var strict = base64.RawURLEncoding.Strict()

// split takes a token apart and decodes header and claims; all three parts must be
// in their one spelling.
func split(text string) (header, body []byte, err error) {
	if len(text) > MaxLen {
		return nil, nil, invalid("%d characters", len(text))
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return nil, nil, invalid("%d parts", len(parts))
	}
	var decoded [3][]byte
	for i, part := range parts {
		if part == "" || strings.ContainsAny(part, "\r\n") { // which the decoder would skip
			return nil, nil, invalid("part %d is empty or broken", i)
		}
		if decoded[i], err = strict.DecodeString(part); err != nil {
			return nil, nil, invalid("part %d is no base64url", i)
		}
	}
	return decoded[0], decoded[1], nil
}

// readHeader returns kid.
func readHeader(raw []byte) (string, error) {
	var params map[string]json.RawMessage
	if err := json.Unmarshal(raw, &params); err != nil || params == nil {
		return "", invalid("the header is no object of distinct names")
	}
	for name := range params {
		if name != "alg" && name != "typ" && name != "kid" {
			return "", invalid("a header parameter that nothing needs")
		}
	}
	alg, kid := text(params["alg"]), text(params["kid"])
	switch {
	case alg != string(jose.PS256):
		return "", invalid("another algorithm")
	case kid == "":
		return "", invalid("no kid")
	case params["typ"] != nil && text(params["typ"]) != "JWT":
		return "", invalid("another type")
	}
	return kid, nil
}

// claims are those that count. Times are seconds since 1970.
type claims struct {
	issuer        string
	audiences     []string
	issued, ends  int64
	begins        int64 // nbf; issued when it is not there
	otherSubjects bool  // sub is not iss
}

func readClaims(raw []byte) (claims, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil || all == nil {
		return claims{}, invalid("the claims are no object of distinct names")
	}
	c := claims{issuer: text(all["iss"]), audiences: texts(all["aud"])}
	var issued, ends, begins bool
	c.issued, issued = seconds(all["iat"])
	c.ends, ends = seconds(all["exp"])
	if c.begins, begins = c.issued, issued; all["nbf"] != nil {
		c.begins, begins = seconds(all["nbf"])
	}
	c.otherSubjects = all["sub"] != nil && text(all["sub"]) != c.issuer
	if c.issuer == "" || len(c.audiences) == 0 || !issued || !ends || !begins {
		return claims{}, invalid("a claim is missing or of another type")
	}
	return c, nil
}

// good judges the claims at a time.
func (c claims) good(audiences []string, now time.Time) error {
	leeway, at := int64(Leeway/time.Second), now.Unix()
	switch {
	case c.otherSubjects:
		return invalid("sub is not iss")
	case !slices.ContainsFunc(c.audiences, func(a string) bool { return slices.Contains(audiences, a) }):
		return invalid("for another audience")
	case c.ends <= c.issued:
		return invalid("ends before it begins")
	case c.ends-c.issued > int64(MaxLife/time.Second):
		return invalid("lives longer than %v", MaxLife)
	case c.issued > at+leeway || c.begins > at+leeway:
		return invalid("not yet good")
	case c.ends <= at-leeway:
		return invalid("expired")
	}
	return nil
}

// text reads a JSON string; "" for anything else.
func text(raw json.RawMessage) string {
	var s string
	if len(raw) == 0 || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// texts reads a JSON string or an array of them; nil for anything else.
func texts(raw json.RawMessage) []string {
	if one := text(raw); one != "" {
		return []string{one}
	}
	var items []json.RawMessage
	if len(raw) == 0 || json.Unmarshal(raw, &items) != nil || len(items) > maxAudiences {
		return nil
	}
	many := make([]string, len(items))
	for i, item := range items {
		if many[i] = text(item); many[i] == "" {
			return nil
		}
	}
	return many
}

// number is a time as clients write it: seconds, with a fraction from some.
var number = regexp.MustCompile(`^(0|[1-9][0-9]{0,11})(\.[0-9]{1,9})?$`)

// seconds reads a NumericDate, of which the fraction is dropped.
func seconds(raw json.RawMessage) (at int64, ok bool) {
	m := number.FindSubmatch(raw)
	if m == nil {
		return 0, false
	}
	at, err := strconv.ParseInt(string(m[1]), 10, 64)
	return at, err == nil
}
