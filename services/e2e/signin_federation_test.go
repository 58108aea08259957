package e2e

import (
	"html"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	samlv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1/saml"
	"github.com/bindery-iam/bindery/services/identity/saml/samltest"
)

// TestLoginByFederation signs somebody in by the command line and a browser, through the
// SAML federation of an organization and a real provider, with everything restarted in the
// middle of it. A group of the provider is one of the organization: whoever is in it there
// may do what it may (AS-19), until the next sign-in finds them out of it.
func TestLoginByFederation(t *testing.T) {
	binary(t)
	t.Run("all", func(t *testing.T) {
		s := newServer(t, "")
		loginByFederation(t, s, s, s)
	})
	t.Run("split", func(t *testing.T) {
		s := newSplit(t)
		loginByFederation(t, s.server, s.unit["identity"], s.unit["gateway"])
	})
}

func loginByFederation(t *testing.T, s, identity, gateway *server) {
	at := "http://" + gateway.http
	identity.flags = append(identity.flags, "--public-url", at)
	s.start()
	w := newWorld(t, s)
	provider := samltest.NewServer(t)
	federation := w.federate(t, provider)
	provider.Trust(federation, newVisitor(t).get(at+"/login/saml/"+federation+"/metadata"))
	team := w.crews[0] // its group may see its folder
	w.mapGroup(t, federation, "Staff", team.group)

	for _, tt := range []struct {
		groups  []string
		allowed bool
	}{{[]string{"Staff", "Others"}, true}, {nil, false}} {
		provider.Person("ada", "ada@corp.example", tt.groups...)
		token := strings.TrimSpace(string(command(t, "token", "--session", loggedIn(t, at, federation, provider, func() { s.stop(); s.start() }))))
		if got := restStatus(t, at, token); got != http.StatusOK {
			t.Errorf("in the groups %q: the token gives %d", tt.groups, got)
		}
		if ok, err := w.allowed(token, team.folder); err != nil || ok != tt.allowed {
			t.Errorf("in the groups %q: sees the folder: %v %v, want %v", tt.groups, ok, err, tt.allowed)
		}
	}
}

// federate makes a federation of the world's organization that takes whoever comes.
func (w *world) federate(t *testing.T, p *samltest.Server) (id string) {
	t.Helper()
	var f samlv1.Federation
	op, err := samlv1.NewFederationServiceClient(w.conn).Create(w.as(w.owner), &samlv1.CreateFederationRequest{
		OrganizationId: w.org, Name: "corp", Issuer: p.URL + "/metadata", SsoUrl: p.URL + "/sso", SsoBinding: samlv1.BindingType_REDIRECT, AutoCreateAccountOnLogin: true,
	})
	if err == nil {
		err = op.GetResponse().UnmarshalTo(&f)
	}
	if err == nil {
		_, err = samlv1.NewCertificateServiceClient(w.conn).Create(w.as(w.owner), &samlv1.CreateCertificateRequest{FederationId: f.GetId(), Data: p.Certificate})
	}
	if err != nil {
		t.Fatal(err)
	}
	return f.GetId()
}

// mapGroup says that a group of the provider is one of the organization.
func (w *world) mapGroup(t *testing.T, federation, external, internal string) {
	t.Helper()
	mappings := orgv1.NewGroupMappingServiceClient(w.conn)
	_, err := mappings.Create(w.as(w.owner), &orgv1.CreateGroupMappingRequest{FederationId: federation, Enabled: true})
	var op *operationpb.Operation
	if err == nil {
		op, err = mappings.UpdateItems(w.as(w.owner), &orgv1.UpdateGroupMappingItemsRequest{
			FederationId: federation,
			GroupMappingItemDeltas: []*orgv1.GroupMappingItemDelta{{
				Action: orgv1.GroupMappingItemDelta_ADD, Item: &orgv1.GroupMappingItem{ExternalGroupId: external, InternalGroupId: internal},
			}},
		})
	}
	if err != nil || op.GetError() != nil {
		t.Fatalf("map a group: %v %v", op, err)
	}
}

// loggedIn signs ada in by `bindery login` and a browser, and returns the file of the
// session. between happens while her answer is on its way.
func loggedIn(t *testing.T, at, federation string, provider *samltest.Server, between func()) (session string) {
	t.Helper()
	session = filepath.Join(t.TempDir(), "session.json")
	asked, signedInAs := startLogin(t, at, session, "--federation", federation)

	b := newVisitor(t)
	b.post(provider.URL+"/login", url.Values{"user": {"ada"}, "password": {samltest.Password}})
	b.get(asked)                                       // ends at the way to the provider
	b.get(b.link(`<a href="([^"]+SAMLRequest[^"]+)"`)) // ends at its answer
	answer := b.hidden()
	if !answer.Has("SAMLResponse") {
		t.Fatalf("no answer of the provider, but %s: %s", b.at, b.text)
	}
	between()
	b.post(at+"/login/saml/"+federation+"/acs", answer) // ends at the question
	if p := b.post(at+"/login/authorize", b.hidden()); !strings.Contains(p, "You may close this window") {
		t.Fatalf("the program got %s", p)
	}
	signedInAs("ada@corp.example")
	return session
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)"`)

// hidden are the fields of the form on the page that is shown.
func (v *visitor) hidden() url.Values {
	fields := url.Values{}
	for _, m := range hiddenField.FindAllStringSubmatch(v.text, -1) {
		fields.Set(m[1], html.UnescapeString(m[2]))
	}
	return fields
}
