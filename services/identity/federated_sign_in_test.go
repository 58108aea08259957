package identity

import (
	"context"
	"database/sql"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	samlv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1/saml"
	"github.com/bindery-iam/bindery/services/identity/saml/samltest"
)

// Somebody signs in through a federation, calls the API as a user of it until the
// organization wants them asked again, and is told of nowhere else (TK-5).
func TestTK5_SignInThroughFederation(t *testing.T) {
	inSignInSuite(t, func(t *testing.T, w *signInSuite) {
		p := samltest.NewServer(t)
		p.Person("ann", "ann@corp.example")
		p.Person("bob", "Bob@corp.example")
		f := w.federate(p, func(r *samlv1.CreateFederationRequest) { r.CookieMaxAge = durationpb.New(20 * time.Minute) })

		// Nobody whom the federation does not have, unless it takes who comes.
		b := newBrowser(t)
		if got := b.federated(w, p, f, "ann"); got.StatusCode != http.StatusForbidden || !strings.Contains(got.text, "no account") {
			t.Fatalf("a stranger: %d %s", got.StatusCode, got.text)
		}
		ann := w.addFederated(f, "ann@corp.example")[0]
		if got := b.federated(w, p, f, "ann"); got.StatusCode != http.StatusOK || !strings.Contains(got.text, "signed in as ann@corp.example") {
			t.Fatalf("%d at %s: %s", got.StatusCode, b.last, got.text)
		}
		token, userID := b.iamToken(w)
		if userID != ann || !slices.Contains(b.cookies(w), cookieOfSession) || slices.Contains(b.cookies(w), "bindery_federation") {
			t.Errorf("signed in as %s, cookies %v", userID, b.cookies(w))
		}
		w.must(w.works(token))
		members, err := orgv1.NewUserServiceClient(w.Conn).ListMembers(w.asOwner, &orgv1.ListMembersRequest{OrganizationId: w.org})
		w.must(err)
		if !slices.ContainsFunc(members.GetUsers(), func(u *orgv1.ListMembersResponse_OrganizationUser) bool {
			c := u.GetSubjectClaims()
			return c.GetSub() == ann && c.GetPreferredUsername() == "ann@corp.example" && c.GetEmail() == "ann@corp.example" &&
				c.GetGivenName() == "Ann" && c.GetFamilyName() == "Example" && c.GetFederation().GetId() == f
		}) {
			t.Errorf("members %v", members)
		}

		// The same by a posted request, with names in any case, of who comes.
		w.reform(&samlv1.UpdateFederationRequest{FederationId: f, SsoBinding: samlv1.BindingType_POST, AutoCreateAccountOnLogin: true, CaseInsensitiveNameIds: true},
			"sso_binding", "auto_create_account_on_login", "case_insensitive_name_ids")
		other := newBrowser(t)
		if got := other.federated(w, p, f, "bob"); got.StatusCode != http.StatusOK || !strings.Contains(got.text, "signed in as Bob@corp.example") {
			t.Fatalf("by a posted request: %d %s", got.StatusCode, got.text)
		}
		_, bob := other.iamToken(w)
		p.Person("bob", "BOB@corp.example")
		if got := newBrowser(t).federated(w, p, f, "bob"); !strings.Contains(got.text, "signed in as Bob@corp.example") {
			t.Errorf("under another spelling: %d %s", got.StatusCode, got.text)
		}

		// Encrypted, where the federation wants it: what is not is refused.
		w.reform(&samlv1.UpdateFederationRequest{FederationId: f, SecuritySettings: &samlv1.FederationSecuritySettings{EncryptedAssertions: true, ForceAuthn: true}}, "security_settings")
		if got := newBrowser(t).federated(w, p, f, "ann"); got.StatusCode != http.StatusForbidden {
			t.Errorf("in the clear: %d %s", got.StatusCode, got.text)
		}
		w.trust(p, f)
		if got := newBrowser(t).federated(w, p, f, "ann"); !strings.Contains(got.text, "signed in as ann@corp.example") {
			t.Errorf("encrypted: %d %s", got.StatusCode, got.text)
		}

		// Signing out ends the one session; the others end when the organization says.
		b.submit(b.get(w.at+"/logout"), "/logout")
		wantCode(t, w.works(token), codes.Unauthenticated, apierr.ReasonTokenRevoked)
		second, _ := other.iamToken(w)
		w.must(w.works(second))
		w.advance(21 * time.Minute)
		if late, _ := other.iamToken(w); late != "" || w.works(second) == nil {
			t.Error("a session beyond cookie_max_age")
		}
		w.clock.Store(0)

		// Whom the federation suspends, or lets go, comes in no more.
		op, err := samlv1.NewFederationServiceClient(w.Conn).SuspendUserAccounts(w.asOwner, &samlv1.SuspendFederatedUserAccountsRequest{FederationId: f, SubjectIds: []string{bob}})
		w.done(op, err, new(samlv1.SuspendFederatedUserAccountsResponse))
		if got := newBrowser(t).federated(w, p, f, "bob"); got.StatusCode != http.StatusForbidden || !strings.Contains(got.text, "suspended") {
			t.Errorf("a suspended user: %d %s", got.StatusCode, got.text)
		}
		op, err = samlv1.NewFederationServiceClient(w.Conn).Delete(w.asOwner, &samlv1.DeleteFederationRequest{FederationId: f})
		w.done(op, err, new(emptypb.Empty))
		for _, at := range []string{"", "/metadata"} {
			if got := newBrowser(t).get(w.at + "/login/saml/" + f + at); got.StatusCode != http.StatusNotFound {
				t.Errorf("%q of a federation that is gone: %d", at, got.StatusCode)
			}
		}
		if events := w.events(); events["CreateIamCookieForSubject"] < 6 {
			t.Errorf("events %v", events)
		}
		for _, secret := range []string{token, "SAMLResponse", "PRIVATE"} {
			if strings.Contains(w.log.String(), secret) {
				t.Errorf("%.12s… is in the log", secret)
			}
		}
	})
}

// A sign-in goes on after a restart in its middle, its answer is good once, and the key of
// the federation stays.
func TestFederatedSignInOutlivesRestart(t *testing.T) {
	inSignInSuite(t, func(t *testing.T, w *signInSuite) {
		p := samltest.NewServer(t)
		p.Person("ann", "ann@corp.example")
		f := w.federate(p, func(r *samlv1.CreateFederationRequest) { r.AutoCreateAccountOnLogin = true })
		at, _ := url.Parse(w.at)
		metadata := newBrowser(t).get(w.at + "/login/saml/" + f + "/metadata").text
		b := newBrowser(t)
		to, form := b.toAnswer(w, p, w.at+"/login/saml/"+f, "ann")
		before := b.client.Jar.Cookies(at)
		w.restart()
		if got := b.postFrom(p.URL, to, form); !strings.Contains(got.text, "signed in as ann@corp.example") {
			t.Fatalf("after a restart: %d %s", got.StatusCode, got.text)
		}
		w.restart()
		token, _ := b.iamToken(w)
		w.must(w.works(token))
		if again := newBrowser(t).get(w.at + "/login/saml/" + f + "/metadata").text; again != metadata {
			t.Error("the metadata changed")
		}
		for name, cookies := range map[string][]*http.Cookie{"without the cookie": nil, "with the cookie": before} {
			thief := newBrowser(t)
			thief.client.Jar.SetCookies(at, cookies)
			if got := thief.postFrom(p.URL, to, form); got.StatusCode != http.StatusBadRequest || slices.Contains(thief.cookies(w), cookieOfSession) {
				t.Errorf("the same answer again, %s: %d %s", name, got.StatusCode, got.text)
			}
		}
		// A link by which somebody else leads here signs nobody in or out: it takes a click of
		// hers, and she is told what she leaves.
		got := b.get(w.at + "/login/saml/" + f)
		if got.StatusCode != http.StatusOK || b.last.Host != strings.TrimPrefix(w.at, "http://") || toProvider.FindString(got.text) == "" {
			t.Errorf("the way to the provider: %d at %s: %s", got.StatusCode, b.last, got.text)
		}
		for _, said := range []string{"&#34;corp&#34;", f, p.URL, "signed in as ann@corp.example, by the federation"} {
			if !strings.Contains(got.text, said) {
				t.Errorf("the way to the provider does not say %q: %s", said, got.text)
			}
		}
		w.must(w.works(token))
		// A sign-in in place of another one ends that session.
		if got := b.federated(w, p, f, "ann"); got.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", got.StatusCode, got.text)
		}
		wantCode(t, w.works(token), codes.Unauthenticated, apierr.ReasonTokenRevoked)
	})
}

// Of what a provider did not say, or said elsewhere, nothing is accepted.
func TestFederatedSignInRefusesBadAnswers(t *testing.T) {
	inSignInSuite(t, func(t *testing.T, w *signInSuite) {
		p := samltest.NewServer(t)
		p.Person("ann", "ann@corp.example")
		f := w.federate(p, func(r *samlv1.CreateFederationRequest) { r.AutoCreateAccountOnLogin = true })
		next := w.federate(p, func(r *samlv1.CreateFederationRequest) { r.AutoCreateAccountOnLogin, r.Name = true, "next" })
		users, sessions := w.count("identity_users"), w.count("identity_sessions")
		b := newBrowser(t)
		refused := func(name string, b *browser, to string, form url.Values) {
			t.Helper()
			got := b.postFrom(p.URL, to, form)
			if got.StatusCode < 400 || got.StatusCode >= 500 || got.StatusCode == http.StatusTooManyRequests || slices.Contains(b.cookies(w), cookieOfSession) {
				t.Errorf("%s: %d %s", name, got.StatusCode, got.text)
			}
		}
		for _, way := range samltest.Forgeries() {
			to, form := b.toAnswer(w, p, w.at+"/login/saml/"+f, "ann")
			refused(way, b, to, twisted(t, form, func(doc *etree.Document) string {
				samltest.Forge(doc, way, "eve@corp.example")
				return samltest.Text(t, doc)
			}))
		}
		for name, change := range map[string]func(text string) string{
			"a document type": func(text string) string { return "<!DOCTYPE a>" + text },
			"truncated":       func(text string) string { return text[:len(text)-20] },
			"empty":           func(string) string { return "" },
			"large":           func(text string) string { return text + "<!--" + strings.Repeat("x", 270<<10) + "-->" },
			"huge":            func(text string) string { return text + "<!--" + strings.Repeat("x", 600<<10) + "-->" },
		} {
			to, form := b.toAnswer(w, p, w.at+"/login/saml/"+f, "ann")
			refused(name, b, to, twisted(t, form, func(doc *etree.Document) string { return change(samltest.Text(t, doc)) }))
		}
		to, form := b.toAnswer(w, p, w.at+"/login/saml/"+f, "ann")
		refused("another browser", newBrowser(t), to, form)
		other := newBrowser(t)
		_, theirs := other.toAnswer(w, p, w.at+"/login/saml/"+f, "ann")
		refused("the answer of another browser", b, to, url.Values{"SAMLResponse": theirs["SAMLResponse"], "RelayState": form["RelayState"]})
		to, form = b.toAnswer(w, p, w.at+"/login/saml/"+f, "ann")
		refused("another state", b, to, url.Values{"SAMLResponse": form["SAMLResponse"], "RelayState": {"x"}})
		refused("no state", b, to, url.Values{"SAMLResponse": form["SAMLResponse"]})
		refused("two states", b, to, url.Values{"SAMLResponse": form["SAMLResponse"], "RelayState": {form.Get("RelayState"), form.Get("RelayState")}})
		refused("to the next federation", b, w.at+"/login/saml/"+next+"/acs", form)
		refused("two answers", b, to, url.Values{"SAMLResponse": {form.Get("SAMLResponse"), form.Get("SAMLResponse")}, "RelayState": form["RelayState"]})
		to, form = b.toAnswer(w, p, w.at+"/login/saml/"+f, "ann")
		w.advance(5 * time.Minute)
		refused("late", b, to, form)
		w.clock.Store(0)

		// No certificate, no sign-in; nothing that another key signed, either.
		certificates := samlv1.NewCertificateServiceClient(w.Conn)
		all, err := certificates.List(w.asOwner, &samlv1.ListCertificatesRequest{FederationId: f})
		w.must(err)
		to, form = b.toAnswer(w, p, w.at+"/login/saml/"+f, "ann")
		op, err := certificates.Create(w.asOwner, &samlv1.CreateCertificateRequest{FederationId: f, Data: samltest.NewServer(t).Certificate})
		w.done(op, err, new(samlv1.Certificate))
		op, err = certificates.Delete(w.asOwner, &samlv1.DeleteCertificateRequest{CertificateId: all.GetCertificates()[0].GetId()})
		w.done(op, err, new(emptypb.Empty))
		refused("by a certificate that was deleted", b, to, form)
		if n := w.count("identity_users") - users; n != 0 {
			t.Errorf("%d users came of it", n)
		}
		if n := w.count("identity_sessions") - sessions; n != 0 {
			t.Errorf("%d sessions came of it", n)
		}
	})
}

// Groups of the provider become memberships at sign-in and go with the next one (AS-19);
// those that others gave stay.
func TestAS19_GroupsOfTheProviderBecomeMemberships(t *testing.T) {
	inSignInSuite(t, func(t *testing.T, w *signInSuite) {
		p := samltest.NewServer(t)
		f := w.federate(p, func(*samlv1.CreateFederationRequest) {})
		ann := w.addFederated(f, "ann@corp.example")[0]
		groups := orgv1.NewGroupServiceClient(w.Conn)
		group := func(name string) string {
			t.Helper()
			op, err := groups.Create(w.asOwner, &orgv1.CreateGroupRequest{OrganizationId: w.org, Name: name})
			g := new(orgv1.Group)
			w.done(op, err, g)
			return g.GetId()
		}
		staff, ops, given := group("staff"), group("ops"), group("given")
		mappings := orgv1.NewGroupMappingServiceClient(w.Conn)
		op, err := mappings.Create(w.asOwner, &orgv1.CreateGroupMappingRequest{FederationId: f, Enabled: true})
		w.done(op, err, new(orgv1.GroupMapping))
		op, err = mappings.UpdateItems(w.asOwner, &orgv1.UpdateGroupMappingItemsRequest{FederationId: f, GroupMappingItemDeltas: []*orgv1.GroupMappingItemDelta{
			itemDelta(orgv1.GroupMappingItemDelta_ADD, "Staff", staff), itemDelta(orgv1.GroupMappingItemDelta_ADD, "Ops", ops),
			itemDelta(orgv1.GroupMappingItemDelta_ADD, "Ops", given),
		}})
		w.done(op, err, new(orgv1.UpdateGroupMappingItemsResponse))
		op, err = groups.UpdateMembers(w.asOwner, &orgv1.UpdateGroupMembersRequest{GroupId: given, MemberDeltas: []*orgv1.MemberDelta{
			{Action: orgv1.MemberDelta_ADD, SubjectId: ann},
		}})
		w.done(op, err, new(emptypb.Empty))
		in := func() (all []string) {
			t.Helper()
			resp, err := w.asIdentity.ListMemberships(t.Context(), &accessv1.ListMembershipsRequest{
				Subject: &accessv1.Subject{Type: "federatedUser", Id: ann}, ContainerType: typeGroup,
			})
			w.must(err)
			for _, c := range resp.GetContainers() {
				all = append(all, c.GetId())
			}
			return sorted(all)
		}
		for _, step := range []struct {
			told []string
			want []string
		}{
			{[]string{"Staff", "Ops", "Other"}, []string{staff, ops, given}},
			{[]string{"Staff"}, []string{staff, given}}, // given by hand, so it stays
			{[]string{"staff"}, []string{given}},        // by the letter
			{[]string{"Ops"}, []string{ops, given}},
			{nil, []string{given}},
		} {
			p.Person("ann", "ann@corp.example", step.told...)
			if got := newBrowser(t).federated(w, p, f, "ann"); got.StatusCode != http.StatusOK {
				t.Fatalf("%d %s", got.StatusCode, got.text)
			}
			if got := in(); !slices.Equal(got, sorted(step.want)) {
				t.Errorf("told %v, in %v, want %v", step.told, got, step.want)
			}
		}
		op, err = mappings.Update(w.asOwner, &orgv1.UpdateGroupMappingRequest{FederationId: f, Enabled: false})
		w.done(op, err, new(orgv1.GroupMapping))
		p.Person("ann", "ann@corp.example", "Staff")
		newBrowser(t).federated(w, p, f, "ann")
		if got := in(); !slices.Equal(got, []string{given}) {
			t.Errorf("with the mapping off, in %v", got)
		}
	})
}

// A person finds their federation by its id, and a program may name it; it gets a session
// that ends with the organization's time.
func TestProgramsSignInThroughFederations(t *testing.T) {
	inSignInSuite(t, func(t *testing.T, w *signInSuite) {
		p := samltest.NewServer(t)
		p.Person("ann", "ann@corp.example")
		f := w.federate(p, func(r *samlv1.CreateFederationRequest) {
			r.AutoCreateAccountOnLogin, r.CookieMaxAge = true, durationpb.New(15*time.Minute)
		})
		b := newBrowser(t)
		if got := b.get(w.at + "/login"); !strings.Contains(got.text, `href="/login/saml"`) {
			t.Errorf("the choice is %s", got.text)
		}
		if got := b.post(w.at+"/login/saml", url.Values{"federation": {" " + f + " "}}); !strings.Contains(got.text, `href="/login/saml/`+f+`"`) {
			t.Errorf("found %d %s", got.StatusCode, got.text)
		}
		for _, text := range []string{"", "nobody.example", "ann@corp.example", f + "x", strings.Repeat("x", 300), "a\x00b"} {
			if got := b.post(w.at+"/login/saml", url.Values{"federation": {text}}); got.StatusCode != http.StatusNotFound {
				t.Errorf("%.20q found %d", text, got.StatusCode)
			}
		}
		const verifier, redirect = "0123456789012345678901234567890123456789012", "http://127.0.0.1:4321/callback"
		at, form := b.toAnswer(w, p, w.at+"/login/authorize?"+url.Values{
			"response_type": {"code"}, "client_id": {"bindery-cli"}, "redirect_uri": {redirect}, "state": {"st"}, "device": {"laptop"},
			"code_challenge": {challengeOf(verifier)}, "code_challenge_method": {"S256"}, "federation": {f},
		}.Encode(), "ann")
		question := b.postFrom(p.URL, at, form)
		if !strings.Contains(question.text, "on laptop asks to act as ann@corp.example") {
			t.Fatalf("no question but %s", question.text)
		}
		b.hold, b.held = redirect, nil
		b.submit(question, "/login/authorize")
		if b.held == nil {
			t.Fatal("the program was sent nothing")
		}
		got := newBrowser(t).post(w.at+"/login/token", url.Values{
			"grant_type": {"authorization_code"}, "client_id": {"bindery-cli"}, "code": {b.held.Query().Get("code")}, "redirect_uri": {redirect}, "code_verifier": {verifier},
		})
		token := between(got.text, `"access_token":"`, `"`)
		w.must(w.works(token))
		w.advance(16 * time.Minute)
		if w.works(token) == nil {
			t.Error("the program's session goes on")
		}
	})
}

// A sign-in forgets a membership as it read it, and not as another one has noted it since:
// who is in a group by the provider's word alone always leaves it by that.
func TestMappedMembershipsAreForgottenAsTheyWereRead(t *testing.T) {
	inSignInSuite(t, func(t *testing.T, w *signInSuite) {
		p := samltest.NewServer(t)
		f := w.federate(p, func(*samlv1.CreateFederationRequest) {})
		ann := w.addFederated(f, "ann@corp.example")[0]
		store := &Store{db: w.db}
		change := func(in, out []mapped) {
			t.Helper()
			w.must(sqldb.InTx(t.Context(), w.db, func(ctx context.Context, tx *sql.Tx) error {
				return store.ChangeMappedMemberships(ctx, tx, ann, in, out)
			}))
		}
		noted := func() []mapped {
			t.Helper()
			all, err := store.MappedMemberships(t.Context(), w.db, ann)
			w.must(err)
			return all
		}
		change([]mapped{{"g", "first"}, {"h", "first"}}, nil)
		read := noted()
		change([]mapped{{"g", "second"}}, nil)
		change(nil, read)
		if got := noted(); !slices.Equal(got, []mapped{{"g", "second"}}) {
			t.Errorf("noted %v", got)
		}
	})
}

// Of name ids those are refused that could be taken for another one.
func TestNameIDs(t *testing.T) {
	for nameID, good := range map[string]bool{
		"ann@corp.example": true, "ANN": true, "Ännchen": true, "和子": true, "a b": true, strings.Repeat("x", maxNameID): true,
		"": false, " ann": false, "ann ": false, "ann\n": false, "a\tb": false, "a\x00": false, "a\xff": false, "a\u202eb": false,
		"\u212aate": false, "adm\u0130n": false, strings.Repeat("x", maxNameID+1): false,
	} {
		if problem := nameIDProblem(nameID); (problem == "") != good {
			t.Errorf("%.20q: %q", nameID, problem)
		}
	}
}

// Whoever posts bad answers all day writes little into the trail of an organization.
func TestRefusedSignInsAreRecordedAFewAtATime(t *testing.T) {
	var r refusals
	now, n := time.Unix(0, 0), 0
	for range 1000 {
		if r.record("bpf1", now) {
			n++
		}
	}
	if n != refusalsAtOnce || !r.record("bpf2", now) || r.record("bpf1", now) || !r.record("bpf1", now.Add(refusalsEvery)) {
		t.Errorf("%d at once", n)
	}
}
