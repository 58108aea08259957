package saml

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	saml2 "github.com/crewjam/saml"
)

// Bounds of an answer.
const (
	maxAnswer   = 256 << 10 // bytes of XML
	maxElements = 5_000
)

// skew is how far the clocks of provider and installation may be apart.
const skew = 3 * time.Minute

// Refusal is why an answer was not accepted: a word for records, and what was found,
// which is for the log.
type Refusal struct {
	Reason string
	Cause  error
}

// Error is what was found.
func (r *Refusal) Error() string {
	if r.Cause == nil {
		return r.Reason
	}
	return r.Reason + ": " + r.Cause.Error()
}

// Unwrap is the cause.
func (r *Refusal) Unwrap() error { return r.Cause }

func refuse(reason string, cause error) *Refusal { return &Refusal{reason, cause} }

// ReasonDeclined is the refusal of a provider itself.
const ReasonDeclined = "DECLINED"

// Asked is the request that an answer must be one to.
type Asked struct {
	ID string
	At time.Time
}

// Answered says who an answer is about: posted is SAMLResponse as it came, spend notes an
// assertion that is accepted, once, until it would not be anyway, and fails with
// ErrSpent for one that was. Fails: *Refusal; other errors are those of spend.
func (s Site) Answered(f Federation, asked Asked, posted string, spend func(assertion string, until time.Time) error) (Identity, error) {
	if len(posted) > base64.StdEncoding.EncodedLen(maxAnswer)+maxAnswer/16 { // and line breaks
		return Identity{}, refuse("TOO_LARGE", nil)
	}
	text, err := base64.StdEncoding.DecodeString(posted)
	if err != nil {
		return Identity{}, refuse("MALFORMED", err)
	}
	encrypted, err := looked(text)
	if err != nil {
		return Identity{}, err
	}
	if f.Encrypted && !encrypted {
		return Identity{}, refuse("NOT_ENCRYPTED", nil)
	}
	sp, err := s.service(f)
	if err != nil {
		return Identity{}, err
	}
	var unspent error
	sp.ReplayCache = once(func(assertion string, until time.Time) error {
		unspent = spend(assertion, until.Add(skew)) // longer: another replica's clock may be behind
		if errors.Is(unspent, ErrSpent) {
			unspent = nil
			return saml2.ErrAssertionReplayed
		}
		return unspent
	})
	at, err := url.Parse(s.ACS(f.ID))
	if err != nil {
		return Identity{}, fmt.Errorf("address of answers: %w", err)
	}
	a, err := sp.ParseXMLResponse(text, []string{asked.ID}, *at)
	if unspent != nil {
		return Identity{}, unspent
	}
	if err != nil {
		return Identity{}, refuse(reasonOf(err), cause(err))
	}
	if f.ForceAuthn && !signedInSince(a, asked.At.Add(-skew)) {
		return Identity{}, refuse("NOT_SIGNED_IN_ANEW", nil)
	}
	who, err := identity(a)
	if err == nil && !who.Ends.IsZero() && !who.Ends.After(s.Now()) {
		err = refuse("EXPIRED", errors.New("the provider's session is over"))
	}
	return who, err
}

// ErrSpent is of an assertion that was accepted before.
var ErrSpent = errors.New("accepted before")

// once is the memory of assertions, as the library asks it.
type once func(assertion string, until time.Time) error

// Consume notes an assertion.
func (o once) Consume(assertion string, until time.Time) error { return o(assertion, until) }

// looked refuses what no answer of a provider needs and much of what attacks do, before
// anything is made of the text, and says whether its assertion is encrypted.
func looked(text []byte) (encrypted bool, err error) {
	if len(text) > maxAnswer {
		return false, refuse("TOO_LARGE", nil)
	}
	d := xml.NewDecoder(bytes.NewReader(text))
	elements, assertions, depth := 0, 0, 0
	for {
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return false, refuse("MALFORMED", err)
		}
		switch t := token.(type) {
		case xml.Directive:
			return false, refuse("DOCUMENT_TYPE", nil)
		case xml.ProcInst:
			if t.Target != "xml" || d.InputOffset() > 100 { // the declaration, at the beginning
				return false, refuse("MALFORMED", fmt.Errorf("processing instruction %.20q", t.Target))
			}
		case xml.EndElement:
			depth--
		case xml.StartElement:
			if depth == 0 && elements > 0 {
				return false, refuse("MALFORMED", errors.New("more than one document"))
			}
			depth++
			if elements++; elements > maxElements {
				return false, refuse("TOO_LARGE", nil)
			}
			switch t.Name.Local {
			case "Assertion":
				assertions++
			case "EncryptedAssertion":
				assertions++
				encrypted = true
			}
		}
	}
	if assertions > 1 {
		return false, refuse("MALFORMED", fmt.Errorf("%d assertions", assertions))
	}
	return encrypted, nil
}

// signedInSince reports whether somebody proved who they are after a time.
func signedInSince(a *saml2.Assertion, since time.Time) bool {
	for _, s := range a.AuthnStatements {
		if s.AuthnInstant.After(since) {
			return true
		}
	}
	return false
}

// reasons are the words for what the library finds, the first that fits.
var reasons = []struct {
	err  error
	word string
}{
	{saml2.ErrAssertionReplayed, "REPLAYED"},
	{saml2.ErrCertificateNotValidNow, "CERTIFICATE_EXPIRED"},
	{saml2.ErrUntrustedCertificate, "SIGNATURE_INVALID"},
	{saml2.ErrInvalidSignature, "SIGNATURE_INVALID"},
	{saml2.ErrDecryptionFailed, "DECRYPTION_FAILED"},
	{saml2.ErrIssuerMismatch, "ISSUER_MISMATCH"},
	{saml2.ErrDestinationMismatch, "RECIPIENT_MISMATCH"},
	{saml2.ErrRequestIDMismatch, "REQUEST_MISMATCH"},
	{saml2.ErrAudienceMismatch, "AUDIENCE_MISMATCH"},
	{saml2.ErrExpired, "EXPIRED"},
	{saml2.ErrNotYetValid, "NOT_YET_VALID"},
	{saml2.ErrMalformedMessage, "MALFORMED"},
}

func reasonOf(err error) string {
	var bad saml2.ErrBadStatus
	if errors.As(err, &bad) {
		return ReasonDeclined
	}
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return r.word
		}
	}
	return "INVALID"
}

// cause is what the library found; its own text says nothing, and the error holds the
// answer, which is not for the log.
func cause(err error) error {
	var invalid *saml2.InvalidResponseError
	if !errors.As(err, &invalid) || invalid.PrivateErr == nil {
		return err
	}
	text := strings.ToValidUTF8(invalid.PrivateErr.Error(), "")
	return errors.New(text[:min(len(text), 300)])
}
