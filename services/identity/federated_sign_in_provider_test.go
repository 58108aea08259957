package identity

import (
	"encoding/base64"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/beevik/etree"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	samlv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1/saml"
	"github.com/bindery-iam/bindery/services/identity/saml/samltest"
)

// trust gives a provider the metadata of a federation, as its administrator would.
func (w *signInSuite) trust(p *samltest.Server, federationID string) {
	w.t.Helper()
	got := newBrowser(w.t).get(w.at + "/login/saml/" + federationID + "/metadata")
	if got.StatusCode != http.StatusOK || got.Header.Get("Content-Type") != "application/samlmetadata+xml" {
		w.t.Fatalf("metadata: %d %s", got.StatusCode, got.text)
	}
	p.Trust(federationID, got.text)
}

// federate makes a federation of the provider, which trusts it.
func (w *signInSuite) federate(p *samltest.Server, edit func(*samlv1.CreateFederationRequest)) string {
	w.t.Helper()
	req := &samlv1.CreateFederationRequest{
		OrganizationId: w.org, Name: "corp", Issuer: p.URL + "/metadata", SsoUrl: p.URL + "/sso", SsoBinding: samlv1.BindingType_REDIRECT,
	}
	edit(req)
	f := new(samlv1.Federation)
	op, err := samlv1.NewFederationServiceClient(w.Conn).Create(w.asOwner, req)
	w.done(op, err, f)
	op, err = samlv1.NewCertificateServiceClient(w.Conn).Create(w.asOwner, &samlv1.CreateCertificateRequest{FederationId: f.GetId(), Data: p.Certificate})
	w.done(op, err, new(samlv1.Certificate))
	w.trust(p, f.GetId())
	return f.GetId()
}

// done reads the response of an operation that is done.
func (w *signInSuite) done(op *operationpb.Operation, err error, resp proto.Message) {
	w.t.Helper()
	w.must(err)
	if op.GetError() != nil || !op.GetDone() {
		w.t.Fatalf("operation %v", op)
	}
	w.must(op.GetResponse().UnmarshalTo(resp))
}

func (w *signInSuite) reform(req *samlv1.UpdateFederationRequest, fields ...string) {
	w.t.Helper()
	req.UpdateMask = &fieldmaskpb.FieldMask{Paths: fields}
	op, err := samlv1.NewFederationServiceClient(w.Conn).Update(w.asOwner, req)
	w.done(op, err, new(samlv1.Federation))
}

func (w *signInSuite) addFederated(federationID string, nameIDs ...string) (ids []string) {
	w.t.Helper()
	resp := new(samlv1.AddFederatedUserAccountsResponse)
	op, err := samlv1.NewFederationServiceClient(w.Conn).AddUserAccounts(w.asOwner, &samlv1.AddFederatedUserAccountsRequest{FederationId: federationID, NameIds: nameIDs})
	w.done(op, err, resp)
	for _, u := range resp.GetUserAccounts() {
		ids = append(ids, u.GetId())
	}
	return ids
}

var (
	formAction = regexp.MustCompile(`<form method="post" action="([^"]+)"`)
	formField  = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)"`)
)

// toProvider is the link of our page that leads to a provider.
var toProvider = regexp.MustCompile(`<a href="([^"]+SAMLRequest[^"]+)"`)

// form is the form of a page: where it goes, and what with.
func (p browserPage) form() (action string, fields url.Values) {
	if m := formAction.FindStringSubmatch(p.text); m != nil {
		action = html.UnescapeString(m[1])
	}
	fields = url.Values{}
	for _, m := range formField.FindAllStringSubmatch(p.text, -1) {
		fields.Set(m[1], html.UnescapeString(m[2]))
	}
	return action, fields
}

// postFrom sends a form from another site.
func (b *browser) postFrom(origin, at string, form url.Values) browserPage {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, at, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", origin)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	return b.do(r)
}

// toAnswer goes from a page of ours to the answer of the provider: where it is to be
// posted, and what.
func (b *browser) toAnswer(w *signInSuite, p *samltest.Server, from, login string) (string, url.Values) {
	b.t.Helper()
	// To the provider first: its own form would lose the signature of a redirect.
	if got := b.post(p.URL+"/login", url.Values{"user": {login}, "password": {samltest.Password}}); got.StatusCode != http.StatusOK {
		b.t.Fatalf("the provider does not know %s: %d %s", login, got.StatusCode, got.text)
	}
	shown := b.get(from)
	if m := toProvider.FindStringSubmatch(shown.text); m != nil {
		shown = b.get(html.UnescapeString(m[1]))
	}
	action, fields := shown.form()
	if strings.HasPrefix(action, p.URL) && b.last.Host != strings.TrimPrefix(p.URL, "http://") { // a request that is posted
		shown = b.postFrom(w.at, action, fields)
		action, fields = shown.form()
	}
	if !fields.Has("SAMLResponse") { // the provider asks anew who it is
		fields.Set("user", login)
		fields.Set("password", samltest.Password)
		shown = b.post(action, fields)
		action, fields = shown.form()
	}
	if !fields.Has("SAMLResponse") {
		b.t.Fatalf("no answer of the provider, but %s: %d %s", b.last, shown.StatusCode, shown.text)
	}
	return action, fields
}

// federated signs in through a federation.
func (b *browser) federated(w *signInSuite, p *samltest.Server, federationID, login string) browserPage {
	b.t.Helper()
	at, form := b.toAnswer(w, p, w.at+"/login/saml/"+federationID, login)
	return b.postFrom(p.URL, at, form)
}

// twisted is an answer of which something was changed on its way.
func twisted(t *testing.T, form url.Values, change func(doc *etree.Document) string) url.Values {
	t.Helper()
	text, err := base64.StdEncoding.DecodeString(form.Get("SAMLResponse"))
	if err != nil {
		t.Fatal(err)
	}
	doc := etree.NewDocument()
	if err := doc.ReadFromBytes(text); err != nil {
		t.Fatal(err)
	}
	made := url.Values{"RelayState": form["RelayState"]}
	made.Set("SAMLResponse", base64.StdEncoding.EncodeToString([]byte(change(doc))))
	return made
}
