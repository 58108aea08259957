// Package email says what is taken as an e-mail address, and which two are one.
//
// An address is user@example.com in ASCII: no name, comment, quotes or address of a
// host in brackets. A domain in another script stands in its xn-- form. So an
// address holds no character that looks like another one, has no width or turns the
// direction of text, and what people are shown is what mail is sent to.
package email

import (
	"fmt"
	"net/mail"
	"strings"

	"golang.org/x/net/idna"
)

// Lengths of an address and of its part before the @ (RFC 5321, 4.5.3.1).
const (
	MaxLength = 254
	maxLocal  = 64
)

// domains holds a domain to what may be registered, xn-- labels included.
var domains = idna.New(
	idna.ValidateForRegistration(), idna.StrictDomainName(true), idna.VerifyDNSLength(true), idna.BidiRule(),
)

// Problem says what keeps s from being an address, as the description of a field
// violation; "" when nothing does.
func Problem(s string) string {
	for _, r := range s {
		if r <= ' ' || r > '~' {
			return fmt.Sprintf("must be an e-mail address in ASCII, a domain in another script in its xn-- form, and has %U", r)
		}
	}
	if len(s) > MaxLength {
		return fmt.Sprintf("must have at most %d characters", MaxLength)
	}
	parsed, err := mail.ParseAddress(s)
	if err != nil || parsed.Name != "" || parsed.Address != s {
		return "must be an e-mail address, user@example.com without a name"
	}
	at := strings.LastIndexByte(s, '@')
	if at > maxLocal {
		return fmt.Sprintf("must have at most %d characters before the @", maxLocal)
	}
	if ascii, err := domains.ToASCII(strings.ToLower(s[at+1:])); err != nil || !strings.EqualFold(ascii, s[at+1:]) {
		return "must have the name of a domain after the @"
	}
	return ""
}

// Fold returns an address as addresses are compared: two are one when only the case
// of their letters differs.
func Fold(s string) string { return strings.ToLower(s) }
