package saml

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"net/url"
	"time"

	"github.com/beevik/etree"
	saml2 "github.com/crewjam/saml"
	dsig "github.com/russellhaering/goxmldsig"
)

// Federation is an identity provider as an organization describes it, and how this side
// shows itself to it.
type Federation struct {
	ID     string
	Name   string // in its organization
	Issuer string // entity id of the provider
	SSOURL string // where people are sent
	ByPost bool   // whether by a form that is posted; by redirect otherwise

	// Certificates hold the keys that the provider signs by.
	Certificates []*x509.Certificate

	// Encrypted says that assertions must be encrypted; they may be anyway.
	Encrypted bool

	// ForceAuthn says that people must sign in anew at the provider.
	ForceAuthn bool

	Key Key
}

// Site is where an installation has the pages of its federations.
type Site struct {
	PublicURL string // https://iam.example: no path
	Now       func() time.Time
}

// Begin is the page that sends people to the provider of a federation.
func (s Site) Begin(id string) string { return s.PublicURL + "/login/saml/" + id }

// ACS is where the answers of its provider are posted.
func (s Site) ACS(id string) string { return s.Begin(id) + "/acs" }

// EntityID is what the federation is called at its provider: where its metadata is.
func (s Site) EntityID(id string) string { return s.Begin(id) + "/metadata" }

// service is a federation as the library takes it, at this moment.
func (s Site) service(f Federation) (*saml2.ServiceProvider, error) {
	acs, err := url.Parse(s.ACS(f.ID))
	if err != nil {
		return nil, fmt.Errorf("address of answers: %w", err)
	}
	at, err := url.Parse(s.EntityID(f.ID))
	if err != nil {
		return nil, fmt.Errorf("address of metadata: %w", err)
	}
	idp := &saml2.EntityDescriptor{EntityID: f.Issuer, IDPSSODescriptors: []saml2.IDPSSODescriptor{{
		SingleSignOnServices: []saml2.Endpoint{
			{Binding: saml2.HTTPRedirectBinding, Location: f.SSOURL}, {Binding: saml2.HTTPPostBinding, Location: f.SSOURL},
		},
	}}}
	for _, c := range f.Certificates {
		idp.IDPSSODescriptors[0].KeyDescriptors = append(idp.IDPSSODescriptors[0].KeyDescriptors, saml2.KeyDescriptor{
			Use: "signing", KeyInfo: saml2.KeyInfo{X509Data: saml2.X509Data{
				X509Certificates: []saml2.X509Certificate{{Data: base64.StdEncoding.EncodeToString(c.Raw)}},
			}},
		})
	}
	return &saml2.ServiceProvider{
		EntityID: s.EntityID(f.ID), MetadataURL: *at, AcsURL: *acs, IDPMetadata: idp,
		Key: f.Key.Private, Certificate: f.Key.Certificate, SignatureMethod: dsig.RSASHA256SignatureMethod,
		ForceAuthn: &f.ForceAuthn, AuthnNameIDFormat: saml2.UnspecifiedNameIDFormat,
		AssertionConsumerServiceBindings: []string{saml2.HTTPPostBinding}, MetadataOmitValidUntil: true,
		Clock: dsig.NewFakeClockAt(s.Now()), RejectSHA1Signatures: true, RejectUnknownConditions: true,
		// What nobody signed is not decrypted, where decrypting it tells what it says.
		RequireSignedResponseForCBC: true,
	}, nil
}

// Metadata is the entity descriptor of a federation, for its provider
// (saml-metadata-2.0). It names a key to encrypt assertions for where that is wanted.
func (s Site) Metadata(f Federation) ([]byte, error) {
	sp, err := s.service(f)
	if err != nil {
		return nil, err
	}
	d := sp.Metadata()
	if !f.Encrypted {
		role := &d.SPSSODescriptors[0]
		kept := role.KeyDescriptors[:0]
		for _, k := range role.KeyDescriptors {
			if k.Use != "encryption" {
				kept = append(kept, k)
			}
		}
		role.KeyDescriptors = kept
	}
	text, err := xml.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write metadata: %w", err)
	}
	return append([]byte(xml.Header), append(text, '\n')...), nil
}

// Request is a question to the provider of a federation: who is in front of the browser?
type Request struct {
	ID string // that the answer must name
	At string // where the browser goes; with what it takes along unless that is posted

	// Posted is what a form posts to At; "" when the browser is redirected.
	Posted string
}

// Request asks the provider of a federation. relayState comes back with the answer, and
// has 80 bytes at most.
func (s Site) Request(f Federation, relayState string) (Request, error) {
	sp, err := s.service(f)
	if err != nil {
		return Request{}, err
	}
	binding := saml2.HTTPRedirectBinding
	if f.ByPost {
		binding = saml2.HTTPPostBinding
	}
	r, err := sp.MakeAuthenticationRequest(f.SSOURL, binding, saml2.HTTPPostBinding)
	if err != nil {
		return Request{}, fmt.Errorf("make request: %w", err)
	}
	if !f.ByPost {
		at, err := r.Redirect(relayState, sp)
		if err != nil {
			return Request{}, fmt.Errorf("make request: %w", err)
		}
		return Request{ID: r.ID, At: at.String()}, nil
	}
	doc := etree.NewDocument()
	doc.SetRoot(r.Element())
	text, err := doc.WriteToBytes()
	if err != nil {
		return Request{}, fmt.Errorf("write request: %w", err)
	}
	return Request{ID: r.ID, At: f.SSOURL, Posted: base64.StdEncoding.EncodeToString(text)}, nil
}

// Key is how a federation shows itself to its provider: requests are signed by it, and
// assertions may be encrypted for it.
type Key struct {
	Private     *rsa.PrivateKey
	Certificate *x509.Certificate // of itself
}
