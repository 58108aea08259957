package saml_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"
	saml2 "github.com/crewjam/saml"
	"github.com/crewjam/saml/xmlenc"
	dsig "github.com/russellhaering/goxmldsig"

	"github.com/bindery-iam/bindery/services/identity/saml"
	"github.com/bindery-iam/bindery/services/identity/saml/samltest"
)

const (
	issuer  = "https://idp.example/metadata"
	ann     = "ann@corp.example"
	request = "id-0123456789"
)

// fixture is a federation and its provider.
type fixture struct {
	t          testing.TB
	site       saml.Site
	federation saml.Federation
	provider   *samltest.Provider
	now        time.Time
	asked      saml.Asked
	spent      map[string]bool
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	x := &fixture{t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), spent: map[string]bool{}}
	key, c := samltest.NewKey(t, x.now)
	x.provider = samltest.NewProvider(t, issuer, key, c, func() time.Time { return x.now })
	x.site = saml.Site{PublicURL: "https://iam.example", Now: func() time.Time { return x.now }}
	own, err := saml.NewKey("fed1", x.now)
	if err != nil {
		t.Fatal(err)
	}
	x.federation = saml.Federation{ID: "fed1", Issuer: issuer, SSOURL: "https://idp.example/sso", Certificates: []*x509.Certificate{c}, Key: own}
	x.asked = saml.Asked{ID: request, At: x.now}
	return x
}

// answer has the provider answer.
func (x *fixture) answer(a samltest.Answer) *etree.Document {
	x.t.Helper()
	metadata, err := x.site.Metadata(x.federation)
	if err != nil {
		x.t.Fatal(err)
	}
	if a.To == "" {
		a.To = request
	}
	if a.NameID == "" {
		a.NameID = ann
	}
	return x.provider.Make(metadata, a)
}

func (x *fixture) accept(text string) (saml.Identity, error) {
	return x.site.Answered(x.federation, x.asked, base64.StdEncoding.EncodeToString([]byte(text)), func(assertion string, _ time.Time) error {
		if x.spent[assertion] {
			return saml.ErrSpent
		}
		x.spent[assertion] = true
		return nil
	})
}

func TestAnswerIsAccepted(t *testing.T) {
	for name, change := range map[string]func(x *fixture, a *samltest.Answer){
		"both signed":          func(*fixture, *samltest.Answer) {},
		"the assertion signed": func(_ *fixture, a *samltest.Answer) { a.Assertion = true },
		"the answer signed":    func(_ *fixture, a *samltest.Answer) { a.Answer = true },
		"encrypted":            func(x *fixture, _ *samltest.Answer) { x.federation.Encrypted = true },
		"encrypted, the assertion signed": func(x *fixture, a *samltest.Answer) {
			x.federation.Encrypted, a.Assertion = true, true
		},
		"encrypted by CBC in a signed answer": func(x *fixture, _ *samltest.Answer) {
			x.federation.Encrypted, x.provider.AssertionEncrypter = true, cbc()
		},
		"signed in anew": func(x *fixture, _ *samltest.Answer) { x.federation.ForceAuthn = true },
		"by the second certificate": func(x *fixture, _ *samltest.Answer) {
			_, other := samltest.NewKey(x.t, x.now)
			x.federation.Certificates = append([]*x509.Certificate{other}, x.federation.Certificates...)
		},
		"by ECDSA": func(x *fixture, _ *samltest.Answer) {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				x.t.Fatal(err)
			}
			c := samltest.Certificate(x.t, key, x.now)
			x.federation.Certificates = []*x509.Certificate{c}
			x.provider = samltest.NewProvider(x.t, issuer, key, c, func() time.Time { return x.now })
			x.provider.SignatureMethod = dsig.ECDSASHA256SignatureMethod
		},
		"a clock two minutes ahead": func(x *fixture, a *samltest.Answer) {
			a.Edit = func(s *saml2.Assertion) { s.Conditions.NotBefore = x.now.Add(2 * time.Minute) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := newFixture(t)
			a := samltest.Answer{Groups: []string{"staff", "ops", "staff"}}
			change(x, &a)
			who, err := x.accept(samltest.Text(t, x.answer(a)))
			if err != nil {
				t.Fatal(err)
			}
			if who.NameID != ann || who.Email != ann || who.GivenName != "Ann" || who.FamilyName != "Example" || !slices.Equal(who.Groups, []string{"staff", "ops"}) {
				t.Errorf("read %+v", who)
			}
			if _, grouped := who.Attributes["member"]; grouped || len(who.Attributes) == 0 {
				t.Errorf("attributes %v", who.Attributes)
			}
		})
	}
}

func cbc() xmlenc.Encrypter {
	e := xmlenc.OAEP()
	e.BlockCipher, e.DigestMethod = xmlenc.AES256CBC, &xmlenc.SHA1
	return e
}

// bad is an answer that must not be accepted.
type bad struct {
	name   string
	reason string // "" for any
	setUp  func(x *fixture)
	answer samltest.Answer
	text   func(x *fixture, text string) string
}

func edit(name, reason string, change func(x *fixture, a *saml2.Assertion)) bad {
	return bad{name: name, reason: reason, text: func(x *fixture, _ string) string {
		return samltest.Text(x.t, x.answer(samltest.Answer{Edit: func(a *saml2.Assertion) { change(x, a) }}))
	}}
}

func confirmation(a *saml2.Assertion) *saml2.SubjectConfirmationData {
	return a.Subject.SubjectConfirmations[0].SubjectConfirmationData
}

func badAnswers() []bad {
	text := func(name, reason string, change func(x *fixture, text string) string) bad {
		return bad{name: name, reason: reason, text: change}
	}
	return []bad{
		edit("for another audience", "AUDIENCE_MISMATCH", func(_ *fixture, a *saml2.Assertion) {
			a.Conditions.AudienceRestrictions[0].Audience.Value = "https://other.example"
		}),
		edit("for the next federation", "AUDIENCE_MISMATCH", func(x *fixture, a *saml2.Assertion) {
			a.Conditions.AudienceRestrictions[0].Audience.Value = x.site.EntityID("fed2")
		}),
		edit("for everybody", "AUDIENCE_MISMATCH", func(_ *fixture, a *saml2.Assertion) { a.Conditions.AudienceRestrictions = nil }),
		edit("to another recipient", "RECIPIENT_MISMATCH", func(_ *fixture, a *saml2.Assertion) { confirmation(a).Recipient = "https://other.example/acs" }),
		edit("to no recipient", "RECIPIENT_MISMATCH", func(_ *fixture, a *saml2.Assertion) { confirmation(a).Recipient = "" }),
		edit("an assertion for another request", "REQUEST_MISMATCH", func(_ *fixture, a *saml2.Assertion) { confirmation(a).InResponseTo = "id-other" }),
		edit("an assertion for no request", "REQUEST_MISMATCH", func(_ *fixture, a *saml2.Assertion) { confirmation(a).InResponseTo = "" }),
		edit("of another issuer", "ISSUER_MISMATCH", func(_ *fixture, a *saml2.Assertion) { a.Issuer.Value = "https://other.example" }),
		edit("confirmed for too short", "EXPIRED", func(x *fixture, a *saml2.Assertion) { confirmation(a).NotOnOrAfter = x.now.Add(-10 * time.Minute) }),
		edit("under conditions that are past", "EXPIRED", func(x *fixture, a *saml2.Assertion) { a.Conditions.NotOnOrAfter = x.now.Add(-10 * time.Minute) }),
		edit("under conditions to come", "NOT_YET_VALID", func(x *fixture, a *saml2.Assertion) { a.Conditions.NotBefore = x.now.Add(10 * time.Minute) }),
		edit("an old assertion", "EXPIRED", func(x *fixture, a *saml2.Assertion) { a.IssueInstant = x.now.Add(-time.Hour) }),
		edit("an assertion of the future", "NOT_YET_VALID", func(x *fixture, a *saml2.Assertion) { a.IssueInstant = x.now.Add(time.Hour) }),
		edit("without conditions", "", func(_ *fixture, a *saml2.Assertion) { a.Conditions = nil }),
		edit("without a subject", "", func(_ *fixture, a *saml2.Assertion) { a.Subject = nil }),
		edit("without a name id", "", func(_ *fixture, a *saml2.Assertion) { a.Subject.NameID = nil }),
		edit("with an empty name id", "", func(_ *fixture, a *saml2.Assertion) { a.Subject.NameID.Value = "" }),
		edit("without a confirmation", "", func(_ *fixture, a *saml2.Assertion) { a.Subject.SubjectConfirmations = nil }),
		edit("confirmed by the holder of a key", "", func(_ *fixture, a *saml2.Assertion) {
			a.Subject.SubjectConfirmations[0].Method = "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key"
		}),
		edit("without a sign-in", "", func(_ *fixture, a *saml2.Assertion) { a.AuthnStatements = nil }),
		edit("without an id", "", func(_ *fixture, a *saml2.Assertion) { a.ID = "" }),
		text("of another version", "", func(x *fixture, _ string) string {
			doc := x.answer(samltest.Answer{Assertion: true})
			doc.Root().CreateAttr("Version", "1.1")
			return samltest.Text(x.t, doc)
		}),
		edit("of a session that is over", "EXPIRED", func(x *fixture, a *saml2.Assertion) {
			over := x.now.Add(-time.Minute)
			a.AuthnStatements[0].SessionNotOnOrAfter = &over
		}),
		edit("with attributes without end", "TOO_LARGE", func(_ *fixture, a *saml2.Assertion) {
			a.AttributeStatements[0].Attributes = append(a.AttributeStatements[0].Attributes, saml2.Attribute{
				Name: "x", Values: []saml2.AttributeValue{{Type: "xs:string", Value: strings.Repeat("x", 70<<10)}},
			})
		}),
		edit("with groups without end", "TOO_MANY_GROUPS", func(_ *fixture, a *saml2.Assertion) {
			groups := saml2.Attribute{Name: "member"}
			for i := range 1001 {
				groups.Values = append(groups.Values, saml2.AttributeValue{Type: "xs:string", Value: strings.Repeat("g", i%40) + string(rune('a'+i%26)) + strings.Repeat("h", i/40)})
			}
			a.AttributeStatements[0].Attributes = append(a.AttributeStatements[0].Attributes, groups)
		}),
		{name: "a transient name id", reason: "NAME_ID_TRANSIENT", answer: samltest.Answer{Format: saml2.TransientNameIDFormat}},
		{name: "to another request", reason: "REQUEST_MISMATCH", answer: samltest.Answer{To: "id-other"}},
		{name: "late", reason: "EXPIRED", text: func(x *fixture, text string) string { x.now = x.now.Add(10 * time.Minute); return text }},
		{name: "early", reason: "NOT_YET_VALID", text: func(x *fixture, text string) string { x.now = x.now.Add(-10 * time.Minute); return text }},
		{name: "signed by another key", reason: "SIGNATURE_INVALID", setUp: func(x *fixture) {
			key, c := samltest.NewKey(x.t, x.now)
			x.provider = samltest.NewProvider(x.t, issuer, key, c, func() time.Time { return x.now })
		}},
		{name: "signed by another key under the certificate", reason: "SIGNATURE_INVALID", setUp: func(x *fixture) {
			key, _ := samltest.NewKey(x.t, x.now)
			x.provider = samltest.NewProvider(x.t, issuer, key, x.federation.Certificates[0], func() time.Time { return x.now })
		}},
		{name: "signed by SHA-1", reason: "SIGNATURE_INVALID", setUp: func(x *fixture) { x.provider.SignatureMethod = dsig.RSASHA1SignatureMethod }},
		{name: "signed when the certificate was over", reason: "CERTIFICATE_EXPIRED", setUp: func(x *fixture) { x.now = x.now.Add(48 * time.Hour); x.asked.At = x.now }},
		{name: "to a federation without certificates", setUp: func(x *fixture) { x.federation.Certificates = nil }},
		{name: "not encrypted", reason: "NOT_ENCRYPTED", text: func(x *fixture, text string) string { x.federation.Encrypted = true; return text }},
		{name: "encrypted for another", setUp: func(x *fixture) { x.federation.Encrypted = true }, text: func(x *fixture, text string) string {
			own, err := saml.NewKey("fed1", x.now)
			if err != nil {
				x.t.Fatal(err)
			}
			x.federation.Key = own
			return text
		}},
		{name: "encrypted by CBC in an answer that nobody signed", setUp: func(x *fixture) { x.federation.Encrypted, x.provider.AssertionEncrypter = true, cbc() }, answer: samltest.Answer{Assertion: true}},
		{name: "encrypted and signed by nobody", setUp: func(x *fixture) { x.federation.Encrypted = true }, answer: samltest.Answer{Assertion: true, Answer: true}},
		{name: "signed in before", reason: "NOT_SIGNED_IN_ANEW", setUp: func(x *fixture) { x.federation.ForceAuthn = true }, answer: samltest.Answer{
			Edit: func(a *saml2.Assertion) { a.AuthnStatements[0].AuthnInstant = a.IssueInstant.Add(-time.Hour) },
		}},
		text("that says no", saml.ReasonDeclined, func(x *fixture, _ string) string {
			doc := x.answer(samltest.Answer{Assertion: true})
			doc.Root().FindElement("./Status/StatusCode").CreateAttr("Value", saml2.StatusResponder)
			return samltest.Text(x.t, doc)
		}),
		text("to another destination", "RECIPIENT_MISMATCH", func(x *fixture, _ string) string {
			doc := x.answer(samltest.Answer{Assertion: true})
			doc.Root().CreateAttr("Destination", "https://other.example/acs")
			return samltest.Text(x.t, doc)
		}),
		text("again", "REPLAYED", func(x *fixture, text string) string {
			if _, err := x.accept(text); err != nil {
				x.t.Fatal(err)
			}
			return text
		}),
		text("again in another answer", "REPLAYED", func(x *fixture, _ string) string {
			doc := x.answer(samltest.Answer{Assertion: true})
			if _, err := x.accept(samltest.Text(x.t, doc)); err != nil {
				x.t.Fatal(err)
			}
			doc.Root().CreateAttr("ID", "id-another")
			return samltest.Text(x.t, doc)
		}),
		text("with a document type", "DOCUMENT_TYPE", func(_ *fixture, text string) string { return "<!DOCTYPE Response>" + text }),
		text("with entities", "DOCUMENT_TYPE", func(_ *fixture, text string) string {
			return `<!DOCTYPE r [<!ENTITY a "` + ann + `"><!ENTITY b "&a;&a;&a;&a;">]>` + strings.Replace(text, ">"+ann+"<", ">&b;<", 1)
		}),
		text("with an external entity", "DOCUMENT_TYPE", func(_ *fixture, text string) string {
			return `<!DOCTYPE r [<!ENTITY a SYSTEM "file:///etc/passwd">]>` + strings.Replace(text, ">"+ann+"<", ">&a;<", 1)
		}),
		text("with an entity of nowhere", "", func(_ *fixture, text string) string { return strings.Replace(text, ">"+ann+"<", ">&a;<", 1) }),
		text("with a processing instruction", "MALFORMED", func(_ *fixture, text string) string { return text + `<?php x?>` }),
		text("with a style sheet", "MALFORMED", func(_ *fixture, text string) string { return `<?xml-stylesheet href="http://evil.example"?>` + text }),
		text("truncated", "MALFORMED", func(_ *fixture, text string) string { return text[:len(text)/2] }),
		text("with something behind", "MALFORMED", func(_ *fixture, text string) string { return text + "<x/>" }),
		text("twice", "MALFORMED", func(_ *fixture, text string) string { return text + text }),
		text("nothing", "", func(*fixture, string) string { return "" }),
		text("no XML", "", func(*fixture, string) string { return "{}" }),
		text("another document", "", func(*fixture, string) string { return `<a xmlns="urn:b"/>` }),
		text("the assertion alone", "", func(x *fixture, _ string) string {
			doc := etree.NewDocument()
			doc.SetRoot(x.answer(samltest.Answer{}).Root().SelectElement("Assertion").Copy())
			return samltest.Text(x.t, doc)
		}),
		text("without an assertion", "", func(x *fixture, _ string) string {
			doc := x.answer(samltest.Answer{Assertion: true})
			doc.Root().RemoveChild(doc.Root().SelectElement("Assertion"))
			return samltest.Text(x.t, doc)
		}),
		text("huge", "TOO_LARGE", func(_ *fixture, text string) string { return text + "<!--" + strings.Repeat("x", 256<<10) + "-->" }),
		text("of elements without end", "TOO_LARGE", func(x *fixture, _ string) string {
			doc := x.answer(samltest.Answer{Assertion: true})
			for range 6000 {
				doc.Root().CreateElement("x")
			}
			return samltest.Text(x.t, doc)
		}),
		// The assertion alone is signed: the rest could be accepted, were there no bound.
		text("too deep", "MALFORMED", func(x *fixture, _ string) string {
			text := samltest.Text(x.t, x.answer(samltest.Answer{Assertion: true}))
			return strings.Replace(text, "</samlp:Response>", strings.Repeat("<a>", 1000)+strings.Repeat("</a>", 1000)+"</samlp:Response>", 1)
		}),
		text("with namespaces without end", "MALFORMED", func(x *fixture, _ string) string {
			text := samltest.Text(x.t, x.answer(samltest.Answer{Assertion: true}))
			var many strings.Builder
			for i := range 1000 {
				many.WriteString(` xmlns:p` + strings.Repeat("p", i) + `="urn:p"`)
				if many.Len() > 100<<10 {
					break
				}
			}
			return strings.Replace(text, "<samlp:Response", "<samlp:Response"+many.String(), 1)
		}),
	}
}

// Of what the provider did not say, or said of another time, to another or to everybody,
// nothing is accepted.
func TestBadAnswersAreRefused(t *testing.T) {
	for _, b := range badAnswers() {
		t.Run(b.name, func(t *testing.T) {
			x := newFixture(t)
			if b.setUp != nil {
				b.setUp(x)
			}
			text := samltest.Text(t, x.answer(b.answer))
			if b.text != nil {
				text = b.text(x, text)
			}
			who, err := x.accept(text)
			var no *saml.Refusal
			if !errors.As(err, &no) {
				t.Fatalf("accepted %+v (%v)", who, err)
			}
			if b.reason != "" && no.Reason != b.reason {
				t.Errorf("refused by %v, want %s", no, b.reason)
			}
		})
	}
}

// No answer speaks of somebody whom the provider did not speak of.
func TestForgedAnswersAreRefused(t *testing.T) {
	const eve = "eve@corp.example"
	for _, way := range samltest.Forgeries() {
		for name, a := range map[string]samltest.Answer{"both signed": {}, "the assertion signed": {Assertion: true}} {
			t.Run(way+", "+name, func(t *testing.T) {
				x := newFixture(t)
				doc := x.answer(a)
				samltest.Forge(doc, way, eve)
				text := samltest.Text(t, doc)
				if !strings.Contains(text, eve) && way != "an attribute added" && way != "without signatures" {
					t.Fatal("it does not speak of somebody else")
				}
				if who, err := x.accept(text); err == nil {
					t.Errorf("accepted %+v", who)
				}
			})
		}
	}
	t.Run("an answer alone signed, its assertion changed", func(t *testing.T) {
		x := newFixture(t)
		doc := x.answer(samltest.Answer{Answer: true})
		samltest.Forge(doc, "another name", eve)
		if who, err := x.accept(samltest.Text(t, doc)); err == nil {
			t.Errorf("accepted %+v", who)
		}
	})
}

// A comment, which no signature covers, cuts no name short.
func TestCommentsDoNotCutNames(t *testing.T) {
	x := newFixture(t)
	const whole = ann + ".evil.example"
	text := samltest.Text(t, x.answer(samltest.Answer{NameID: whole}))
	cut := strings.ReplaceAll(text, ">"+whole+"<", ">"+ann+"<!-- -->.evil.example<")
	if cut == text {
		t.Fatal("nothing to cut")
	}
	if who, err := x.accept(cut); err == nil && who.NameID != whole {
		t.Errorf("read %q", who.NameID)
	}
}

// An answer counts as one to its own federation alone: another one has another audience
// and recipient, and so has another installation.
func TestAnswersAreForOneFederation(t *testing.T) {
	x := newFixture(t)
	text := samltest.Text(t, x.answer(samltest.Answer{}))
	x.federation.ID = "fed2"
	if _, err := x.accept(text); err == nil {
		t.Error("accepted by the next federation")
	}
	x.federation.ID, x.site.PublicURL = "fed1", "https://iam2.example"
	if _, err := x.accept(text); err == nil {
		t.Error("accepted by another installation")
	}
}

// What cannot be noted as spent is not accepted, and is no fault of the provider.
func TestAnswerThatCannotBeSpent(t *testing.T) {
	x := newFixture(t)
	away := errors.New("the database is away")
	_, err := x.site.Answered(x.federation, x.asked, base64.StdEncoding.EncodeToString([]byte(samltest.Text(t, x.answer(samltest.Answer{})))), func(string, time.Time) error { return away })
	var no *saml.Refusal
	if !errors.Is(err, away) || errors.As(err, &no) {
		t.Errorf("got %v", err)
	}
}
