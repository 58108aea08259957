package samltest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/xml"
	"math/big"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/beevik/etree"
	saml2 "github.com/crewjam/saml"
	dsig "github.com/russellhaering/goxmldsig"
)

// Provider is an identity provider.
type Provider struct {
	*saml2.IdentityProvider
	t   testing.TB
	now func() time.Time
}

// NewKey makes an RSA key and a certificate of it that is in force from an hour before to
// a day after a time.
func NewKey(t testing.TB, now time.Time) (*rsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key, Certificate(t, key, now)
}

// Certificate makes a certificate of a key.
func Certificate(t testing.TB, key crypto.Signer, now time.Time) *x509.Certificate {
	t.Helper()
	about := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "idp.example"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// NewProvider makes a provider whose entity id is at, which signs by a key.
func NewProvider(t testing.TB, at string, key crypto.Signer, c *x509.Certificate, now func() time.Time) *Provider {
	t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	return &Provider{t: t, now: now, IdentityProvider: &saml2.IdentityProvider{
		Signer: key, Certificate: c, MetadataURL: *u, SSOURL: *u, SignatureMethod: dsig.RSASHA256SignatureMethod,
	}}
}

// Answer is an answer on its way: what is in it may be changed before it is signed.
type Answer struct {
	To        string // id of the request
	NameID    string
	Format    saml2.NameIDFormat // of the name id; that of an e-mail address when empty
	Groups    []string           // in the attribute member
	Edit      func(*saml2.Assertion)
	Assertion bool // whether the assertion alone is signed, and not the answer
	Answer    bool // whether the answer alone is signed, and not the assertion
}

// Make answers a request of a federation with such metadata.
func (p *Provider) Make(metadata []byte, a Answer) *etree.Document {
	p.t.Helper()
	var sp saml2.EntityDescriptor
	if err := xml.Unmarshal(metadata, &sp); err != nil {
		p.t.Fatal(err)
	}
	idp := *p.IdentityProvider
	idp.Clock = dsig.NewFakeClockAt(p.now())
	role := sp.SPSSODescriptors[0]
	req := &saml2.IdpAuthnRequest{
		IDP: &idp, Now: p.now(), HTTPRequest: &http.Request{RemoteAddr: "192.0.2.1:1"}, Request: saml2.AuthnRequest{ID: a.To, IssueInstant: p.now()},
		ServiceProviderMetadata: &sp, SPSSODescriptor: &role, ACSEndpoint: &role.AssertionConsumerServices[0],
	}
	session := &saml2.Session{
		ID: "s", Index: "i", CreateTime: p.now(), ExpireTime: p.now().Add(time.Hour), NameID: a.NameID, NameIDFormat: string(a.Format),
		UserEmail: a.NameID, UserGivenName: "Ann", UserSurname: "Example",
	}
	if a.Format == "" {
		session.NameIDFormat = string(saml2.EmailAddressNameIDFormat)
	}
	if len(a.Groups) > 0 {
		member := saml2.Attribute{Name: "member"}
		for _, g := range a.Groups {
			member.Values = append(member.Values, saml2.AttributeValue{Type: "xs:string", Value: g})
		}
		session.CustomAttributes = []saml2.Attribute{member}
	}
	if err := (saml2.DefaultAssertionMaker{}).MakeAssertion(req, session); err != nil {
		p.t.Fatal(err)
	}
	if a.Edit != nil {
		a.Edit(req.Assertion)
	}
	if a.Answer { // so that it is not signed by itself
		req.AssertionEl = req.Assertion.Element()
	}
	if err := req.MakeResponse(); err != nil {
		p.t.Fatal(err)
	}
	doc := etree.NewDocument()
	doc.SetRoot(req.ResponseEl)
	doc = Copy(p.t, doc)
	if a.Assertion {
		Unsign(doc.Root())
	}
	return doc
}

// Text is a document as it is sent.
func Text(t testing.TB, doc *etree.Document) string {
	t.Helper()
	text, err := doc.WriteToString()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Copy is a document as it is read.
func Copy(t testing.TB, doc *etree.Document) *etree.Document {
	t.Helper()
	made := etree.NewDocument()
	if err := made.ReadFromString(Text(t, doc)); err != nil {
		t.Fatal(err)
	}
	return made
}

// Unsign takes its own signature off an element.
func Unsign(e *etree.Element) *etree.Element {
	if s := e.SelectElement("Signature"); s != nil {
		e.RemoveChild(s)
	}
	return e
}
