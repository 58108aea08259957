package workload

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/bindery-iam/bindery/services/identity/outbound"
)

// Bounds of a token.
const (
	MaxLen = 16384          // characters
	MaxAge = 24 * time.Hour // since it was issued, however long its issuer lets it live
	Leeway = time.Minute    // that clocks may differ by

	maxAudiences = 100
	maxSubject   = 1000 // characters, as the contract has it
)

// ErrInvalid is every refusal. What it wraps is for the log, holds nothing of the token
// and must not reach the caller.
var ErrInvalid = errors.New("the token is not good")

var compact = regexp.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$`)

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
}

// Token is a token that is good at a time, if its issuer has signed it.
type Token struct {
	Issuer  string // iss, to the letter
	Subject string // sub, to the letter
	claims  jwt.Claims
	signed  *jose.JSONWebSignature
}

// Parse reads a token: a JWS in compact form of an algorithm with a key pair, typed JWT
// or not at all, with the claims iss, sub, aud, exp and iat, of distinct names, that is
// good at that time. Fails: ErrInvalid.
func Parse(text string, now time.Time) (Token, error) {
	if len(text) > MaxLen {
		return Token{}, invalid("%d characters", len(text))
	}
	if !compact.MatchString(text) { // the library reads over white space, and reads other forms
		return Token{}, invalid("not three parts of base64url")
	}
	signed, err := jose.ParseSignedCompact(text, outbound.Algorithms)
	if err != nil {
		return Token{}, invalid("no token of an algorithm that is taken")
	}
	if err := goodHeader(signed); err != nil {
		return Token{}, err
	}
	t := Token{signed: signed}
	payload := signed.UnsafePayloadWithoutVerification()
	var all map[string]json.RawMessage // refuses a name that is there twice
	if json.Unmarshal(payload, &all) != nil || all == nil {
		return Token{}, invalid("the claims are no object of distinct names")
	}
	if json.Unmarshal(payload, &t.claims) != nil {
		return Token{}, invalid("a claim is of another type")
	}
	t.Issuer, t.Subject = t.claims.Issuer, t.claims.Subject
	return t, t.good(now)
}

// goodHeader refuses headers that say more than which key signed.
func goodHeader(signed *jose.JSONWebSignature) error {
	if len(signed.Signatures) != 1 {
		return invalid("%d signatures", len(signed.Signatures))
	}
	header := signed.Signatures[0].Protected
	if header.JSONWebKey != nil {
		return invalid("it brings a key of its own")
	}
	for name, value := range header.ExtraHeaders {
		switch name {
		case jose.HeaderType:
			if typ, ok := value.(string); !ok || !strings.EqualFold(typ, "JWT") {
				return invalid("another type")
			}
		case "crit", "b64", "jku", "x5u", "zip", "enc", "cty":
			return invalid("header parameter %s", name)
		}
	}
	return nil
}

// good judges the claims by themselves.
func (t Token) good(now time.Time) error {
	c := t.claims
	switch {
	case c.Issuer == "" || len(c.Audience) == 0 || c.Expiry == nil || c.IssuedAt == nil:
		return invalid("a claim is missing")
	case c.Subject == "" || len([]rune(c.Subject)) > maxSubject:
		return invalid("no subject")
	case len(c.Audience) > maxAudiences:
		return invalid("%d audiences", len(c.Audience))
	case now.Sub(c.IssuedAt.Time()) > MaxAge:
		return invalid("issued more than %v ago", MaxAge)
	case c.Expiry.Time().Before(c.IssuedAt.Time()):
		return invalid("ends before it begins")
	}
	if err := c.ValidateWithLeeway(jwt.Expected{Time: now}, Leeway); err != nil {
		return invalid("not good now: %v", err)
	}
	return nil
}

// For refuses a token of another issuer, or for none of the audiences. Fails:
// ErrInvalid.
func (t Token) For(issuer string, audiences []string) error {
	if t.Issuer != issuer || !slices.ContainsFunc(audiences, t.claims.Audience.Contains) {
		return invalid("of another issuer, or for another audience")
	}
	return nil
}

// Verify proves that the holder of one of the keys has signed the token. Fails:
// ErrInvalid; outbound.ErrUnread and outbound.ErrAddress when the keys cannot be read.
func (t Token) Verify(ctx context.Context, keys *outbound.KeySet) error {
	_, err := keys.Verify(ctx, t.signed)
	if errors.Is(err, outbound.ErrSignature) {
		return invalid("signed by no key of the issuer")
	}
	return err
}
