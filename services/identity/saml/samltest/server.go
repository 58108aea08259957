package samltest

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	saml2 "github.com/crewjam/saml"
	"github.com/crewjam/saml/samlidp"
)

// Server is an identity provider that runs: the server samlidp of crewjam/saml, with people
// of the test. Its entity id is its URL with /metadata, people are sent to /sso.
type Server struct {
	*httptest.Server
	Certificate string // by whose key it signs, PEM

	t testing.TB
}

// Password is that of everybody at a Server.
const Password = "correct horse"

// NewServer starts a provider that ends with the test.
func NewServer(t testing.TB) *Server {
	t.Helper()
	p := &Server{t: t}
	var handler http.Handler
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(p.Close)
	key, c := NewKey(t, time.Now())
	at, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	s, err := samlidp.New(samlidp.Options{URL: *at, Key: key, Certificate: c, Store: &samlidp.MemoryStore{}, Logger: log.New(io.Discard, "", 0)})
	if err != nil {
		t.Fatal(err)
	}
	s.IDP.SessionProvider = withGroups{s.IDP.SessionProvider}
	handler = s
	p.Certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	return p
}

// withGroups has a provider tell the groups of people in the attribute member.
type withGroups struct{ saml2.SessionProvider }

// GetSession is whom the provider has in front of it.
func (p withGroups) GetSession(w http.ResponseWriter, r *http.Request, req *saml2.IdpAuthnRequest) *saml2.Session {
	s := p.SessionProvider.GetSession(w, r, req)
	if s == nil {
		return nil
	}
	member := saml2.Attribute{Name: "member"}
	for _, g := range s.Groups {
		member.Values = append(member.Values, saml2.AttributeValue{Type: "xs:string", Value: g})
	}
	shown := *s
	if len(member.Values) > 0 {
		shown.CustomAttributes = []saml2.Attribute{member}
	}
	return &shown
}

// Person makes somebody known, or changes them; their name id is the address.
func (p *Server) Person(login, address string, groups ...string) {
	p.t.Helper()
	text, err := json.Marshal(map[string]any{
		"name": login, "password": Password, "email": address, "given_name": "Ann", "surname": "Example", "groups": groups,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.put("/users/"+login, string(text))
}

// Trust makes a federation known by its metadata.
func (p *Server) Trust(federationID, metadata string) {
	p.t.Helper()
	p.put("/services/"+federationID, metadata)
}

func (p *Server) put(path, text string) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodPut, p.URL+path, strings.NewReader(text))
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	_ = resp.Body.Close() // nothing is read of it
	if resp.StatusCode >= 300 {
		p.t.Fatalf("PUT %s: %s", path, resp.Status)
	}
}
