package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	oauthpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/oauth"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	samlv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1/saml"
)

func (w *town) federations() samlv1.FederationServiceClient {
	return samlv1.NewFederationServiceClient(w.Conn)
}

// federation makes a federation of an organization.
func (w *town) federation(by citizen, org, name string, edit ...func(*samlv1.CreateFederationRequest)) *samlv1.Federation {
	w.t.Helper()
	req := &samlv1.CreateFederationRequest{
		OrganizationId: org, Name: name, Issuer: "https://idp.example/metadata", SsoBinding: samlv1.BindingType_POST, SsoUrl: "https://idp.example/sso",
	}
	for _, e := range edit {
		e(req)
	}
	op, err := w.federations().Create(by.ctx, req)
	f := new(samlv1.Federation)
	w.done(op, err, f)
	return f
}

// addUsers adds users to a federation and returns their ids.
func (w *town) addUsers(by citizen, federationID string, nameIDs ...string) (ids []string) {
	w.t.Helper()
	op, err := w.federations().AddUserAccounts(by.ctx, &samlv1.AddFederatedUserAccountsRequest{FederationId: federationID, NameIds: nameIDs})
	resp := new(samlv1.AddFederatedUserAccountsResponse)
	w.done(op, err, resp)
	for _, u := range resp.GetUserAccounts() {
		ids = append(ids, u.GetId())
	}
	return ids
}

// usersOf lists the name ids of a federation.
func (w *town) usersOf(by citizen, federationID, filter string) (names []string) {
	w.t.Helper()
	req := &samlv1.ListFederatedUserAccountsRequest{FederationId: federationID, PageSize: 2, Filter: filter}
	for {
		resp, err := w.federations().ListUserAccounts(by.ctx, req)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, u := range resp.GetUserAccounts() {
			if u.GetSamlUserAccount().GetFederationId() != federationID {
				w.t.Errorf("of another federation: %v", u)
			}
			names = append(names, u.GetSamlUserAccount().GetNameId())
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return names
		}
	}
}

// membersOf are the subjects of a container.
func (w *town) membersOf(typ, containerID string) (ids []string) {
	w.t.Helper()
	resp, err := w.subjects.ListMembers(w.t.Context(), &accessv1.ListMembersRequest{Container: &accessv1.Resource{Type: typ, Id: containerID}, PageSize: 1000})
	if apierr.CodeOf(err) == codes.NotFound {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	for _, m := range resp.GetMembers() {
		ids = append(ids, m.GetId())
	}
	return ids
}

func TestAU5_FederationAndItsEvents(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga := w.citizen("olga")
		org := w.organization(olga, "acme")
		f := w.federation(olga, org, "corp", func(req *samlv1.CreateFederationRequest) {
			req.Description, req.Labels = "ours", map[string]string{"a": "b"}
			req.SecuritySettings = &samlv1.FederationSecuritySettings{ForceAuthn: true}
		})
		want := &samlv1.Federation{
			Id: f.GetId(), OrganizationId: org, Name: "corp", Description: "ours", Labels: map[string]string{"a": "b"}, CreatedAt: f.GetCreatedAt(),
			CookieMaxAge: durationpb.New(8 * time.Hour), Issuer: "https://idp.example/metadata", SsoBinding: samlv1.BindingType_POST,
			SsoUrl: "https://idp.example/sso", SecuritySettings: &samlv1.FederationSecuritySettings{ForceAuthn: true},
		}
		if diff := cmp.Diff(want, f, protocmp.Transform()); diff != "" {
			t.Errorf("made (-want +got):\n%s", diff)
		}
		for _, tt := range []struct {
			mask []string
			req  *samlv1.UpdateFederationRequest
			edit func(*samlv1.Federation)
		}{
			{[]string{"name", "labels"}, &samlv1.UpdateFederationRequest{Name: "corp-2"}, func(f *samlv1.Federation) { f.Name, f.Labels = "corp-2", nil }},
			{[]string{"cookie_max_age"}, &samlv1.UpdateFederationRequest{CookieMaxAge: durationpb.New(time.Hour)}, func(f *samlv1.Federation) { f.CookieMaxAge = durationpb.New(time.Hour) }},
			{
				[]string{"sso_binding", "sso_url", "issuer", "auto_create_account_on_login", "case_insensitive_name_ids", "security_settings"},
				&samlv1.UpdateFederationRequest{
					SsoBinding: samlv1.BindingType_REDIRECT, SsoUrl: "http://other.example/sso", Issuer: "urn:other", AutoCreateAccountOnLogin: true,
					CaseInsensitiveNameIds: true, SecuritySettings: &samlv1.FederationSecuritySettings{EncryptedAssertions: true},
				},
				func(f *samlv1.Federation) {
					f.SsoBinding, f.SsoUrl, f.Issuer, f.AutoCreateAccountOnLogin = samlv1.BindingType_REDIRECT, "http://other.example/sso", "urn:other", true
					f.CaseInsensitiveNameIds, f.SecuritySettings = true, &samlv1.FederationSecuritySettings{EncryptedAssertions: true}
				},
			},
		} {
			tt.req.FederationId, tt.req.UpdateMask = f.GetId(), &fieldmaskpb.FieldMask{Paths: tt.mask}
			op, err := w.federations().Update(olga.ctx, tt.req)
			updated := new(samlv1.Federation)
			w.done(op, err, updated)
			tt.edit(want)
			read, err := w.federations().Get(olga.ctx, &samlv1.GetFederationRequest{FederationId: f.GetId()})
			if err != nil || !proto.Equal(read, want) || !proto.Equal(updated, want) {
				t.Errorf("%v: read %v (%v), want %v", tt.mask, read, err, want)
			}
		}
		list, err := w.federations().List(olga.ctx, &samlv1.ListFederationsRequest{OrganizationId: org, Filter: `name = "corp-2"`})
		if err != nil || len(list.GetFederations()) != 1 {
			t.Errorf("found %v (%v)", list.GetFederations(), err)
		}
		_, err = w.federations().List(w.citizen("stranger").ctx, &samlv1.ListFederationsRequest{OrganizationId: org})
		wantCode(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		_, err = w.federations().Create(olga.ctx, &samlv1.CreateFederationRequest{
			OrganizationId: org, Name: "corp-2", Issuer: "x", SsoBinding: samlv1.BindingType_POST, SsoUrl: "https://idp.example",
		})
		wantCode(t, err, codes.AlreadyExists, ReasonFederationNameTaken)
		for _, edit := range []func(*samlv1.CreateFederationRequest){
			func(req *samlv1.CreateFederationRequest) { req.SsoUrl = "javascript:alert(1)" },
			func(req *samlv1.CreateFederationRequest) { req.SsoUrl = "https://user@idp.example/" },
			func(req *samlv1.CreateFederationRequest) { req.SsoUrl = "https:///sso" },
			func(req *samlv1.CreateFederationRequest) { req.SsoUrl = "https://idp.example/\"onload" + "\n" },
			func(req *samlv1.CreateFederationRequest) { req.SsoBinding = samlv1.BindingType_ARTIFACT },
			func(req *samlv1.CreateFederationRequest) { req.SsoBinding = 77 },
			func(req *samlv1.CreateFederationRequest) { req.Issuer = " " },
		} {
			req := &samlv1.CreateFederationRequest{OrganizationId: org, Name: "bad", Issuer: "x", SsoBinding: samlv1.BindingType_POST, SsoUrl: "https://idp.example"}
			edit(req)
			_, err = w.federations().Create(olga.ctx, req)
			wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
		}
		remove := &samlv1.DeleteFederationRequest{FederationId: f.GetId()}
		op, err := w.federations().Delete(olga.ctx, remove)
		w.done(op, err, new(emptypb.Empty))
		_, err = w.federations().Get(olga.ctx, &samlv1.GetFederationRequest{FederationId: f.GetId()})
		wantCode(t, err, codes.NotFound, apierr.ReasonResourceNotFound)
		_, err = w.federations().Delete(olga.ctx, remove)
		wantCode(t, err, codes.NotFound, apierr.ReasonResourceNotFound)
		for name, n := range map[string]int{"saml.CreateFederation STARTED": 1, "saml.CreateFederation DONE": 1, "saml.UpdateFederation DONE": 3, "saml.DeleteFederation DONE": 1} {
			if got := w.organizationEvents()[name]; got != n {
				t.Errorf("%d records %s, want %d", got, name, n)
			}
		}
	})
}

// Users of a federation are members of it and of the organization, with the claims
// that clients look for (clients.md B3).
func TestSU7_FederatedUsers(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga := w.citizen("olga")
		org := w.organization(olga, "acme")
		f := w.federation(olga, org, "corp")
		ids := w.addUsers(olga, f.GetId(), "ann@corp.example", "Bob", "bob", "Bob", "zed")
		if len(ids) != 4 || w.addUsers(olga, f.GetId(), "Bob")[0] != ids[1] {
			t.Fatalf("added %v", ids)
		}
		if got := w.usersOf(olga, f.GetId(), ""); !slices.Equal(got, []string{"ann@corp.example", "Bob", "bob", "zed"}) {
			t.Errorf("listed %v", got)
		}
		for filter, want := range map[string][]string{`name_id="Bob"`: {"Bob"}, `name_id = "BOB"`: nil, `name_id="nobody"`: nil} {
			if got := w.usersOf(olga, f.GetId(), filter); !slices.Equal(got, want) {
				t.Errorf("%s finds %v, want %v", filter, got, want)
			}
		}
		all := w.listMembers(olga, org, 2)
		i := slices.IndexFunc(all, func(c *oauthpb.SubjectClaims) bool { return c.GetSub() == ids[0] })
		want := &oauthpb.SubjectClaims{
			Sub: ids[0], PreferredUsername: "ann@corp.example", SubType: oauthpb.SubjectType_USER_ACCOUNT, Federation: &oauthpb.Federation{Id: f.GetId(), Name: "corp"},
		}
		if i < 0 {
			t.Fatalf("not among the members %v", all)
		}
		if diff := cmp.Diff(want, all[i], protocmp.Transform()); diff != "" {
			t.Errorf("claims (-want +got):\n%s", diff)
		}
		if got := w.membersOf(typeSAMLFederation, f.GetId()); !slices.Equal(sorted(got), sorted(ids)) {
			t.Errorf("the federation has the members %v, want %v", got, ids)
		}
		account, err := w.users.Get(olga.ctx, &iamv1.GetUserAccountRequest{UserAccountId: ids[0]})
		if err != nil || account.GetSamlUserAccount().GetNameId() != "ann@corp.example" || account.GetSamlUserAccount().GetFederationId() != f.GetId() {
			t.Errorf("read %v (%v)", account, err)
		}
		_, err = w.logins.GetByLogin(olga.ctx, &iamv1.GetUserAccountByLoginRequest{Login: "ann@corp.example"})
		wantCode(t, err, codes.NotFound, ReasonUserNotFound)
		_, err = w.logins.GetByLogin(olga.ctx, &iamv1.GetUserAccountByLoginRequest{Login: ids[0]})
		wantCode(t, err, codes.NotFound, ReasonUserNotFound)

		// Name ids that differ in case only: the federation cannot take them for one.
		rekey := &samlv1.UpdateFederationRequest{FederationId: f.GetId(), UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"case_insensitive_name_ids"}}, CaseInsensitiveNameIds: true}
		_, err = w.federations().Update(olga.ctx, rekey)
		wantCode(t, err, codes.FailedPrecondition, ReasonNameIDsCollide)

		// Who leaves is gone, and comes back as somebody else.
		op, err := w.members.DeleteMembership(olga.ctx, &orgv1.DeleteMembershipRequest{OrganizationId: org, SubjectId: ids[2]})
		w.done(op, err, new(orgv1.DeleteMembershipResponse))
		op, err = w.federations().Update(olga.ctx, rekey)
		w.done(op, err, new(samlv1.Federation))
		if got := w.usersOf(olga, f.GetId(), `name_id="BOB"`); !slices.Equal(got, []string{"Bob"}) {
			t.Errorf("BOB finds %v", got)
		}
		if got := w.addUsers(olga, f.GetId(), "BOB"); got[0] != ids[1] {
			t.Errorf("BOB is another one: %v", got)
		}

		op, err = w.federations().DeleteUserAccounts(olga.ctx, &samlv1.DeleteFederatedUserAccountsRequest{FederationId: f.GetId(), SubjectIds: []string{ids[0], ids[0], "nobody", ids[2]}})
		deleted := new(samlv1.DeleteFederatedUserAccountsResponse)
		w.done(op, err, deleted)
		if !slices.Equal(deleted.GetDeletedSubjects(), ids[:1]) || !slices.Equal(deleted.GetNonExistingSubjects(), []string{"nobody", ids[2]}) {
			t.Errorf("deleted %v", deleted)
		}
		if again := w.addUsers(olga, f.GetId(), "ann@corp.example"); again[0] == ids[0] {
			t.Error("a deleted user came back with its id")
		}
		for _, nameIDs := range [][]string{{""}, {strings.Repeat("x", 257)}, {"a\x00b"}, nil} {
			_, err = w.federations().AddUserAccounts(olga.ctx, &samlv1.AddFederatedUserAccountsRequest{FederationId: f.GetId(), NameIds: nameIDs})
			wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
		}
	})
}

func sorted(ids []string) []string { return slices.Sorted(slices.Values(ids)) }

// A federated user is a subject like any other: it is given roles, stopped, let act
// again, and takes all that it has with it (GR-6), unless it is the last owner (OW-3).
func TestGR6_FederatedUserTakesEverything(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga := w.citizen("olga")
		org := w.organization(olga, "acme")
		f := w.federation(olga, org, "corp")
		ids := w.addUsers(olga, f.GetId(), "ann", "bob")
		federated := func(userID string) *accessv1.Subject { return &accessv1.Subject{Type: authn.FederatedUser, Id: userID} }
		asAnn := w.federatedContext(ids[0])
		_, err := w.federations().Get(asAnn, &samlv1.GetFederationRequest{FederationId: f.GetId()})
		wantCode(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		w.bind(olga, typeOrganization, org, ownerOfOrganizations, federated(ids[0]))
		if _, err = w.federations().Get(asAnn, &samlv1.GetFederationRequest{FederationId: f.GetId()}); err != nil {
			t.Errorf("an owner of the organization: %v", err)
		}

		suspend := &samlv1.SuspendFederatedUserAccountsRequest{FederationId: f.GetId(), SubjectIds: []string{ids[0], ids[1]}, Reason: "leave"}
		op, err := w.federations().SuspendUserAccounts(olga.ctx, suspend)
		suspended := new(samlv1.SuspendFederatedUserAccountsResponse)
		w.done(op, err, suspended)
		if !slices.Equal(suspended.GetSubjectIds(), ids) {
			t.Errorf("suspended %v", suspended)
		}
		_, err = w.federations().Get(asAnn, &samlv1.GetFederationRequest{FederationId: f.GetId()})
		wantCode(t, err, codes.Unauthenticated, apierr.ReasonSubjectInactive)
		op, err = w.federations().ReactivateUserAccounts(olga.ctx, &samlv1.ReactivateFederatedUserAccountsRequest{FederationId: f.GetId(), SubjectIds: ids[:1]})
		w.done(op, err, new(samlv1.ReactivateFederatedUserAccountsResponse))
		if _, err = w.federations().Get(asAnn, &samlv1.GetFederationRequest{FederationId: f.GetId()}); err != nil {
			t.Errorf("after the suspension: %v", err)
		}
		suspend.SubjectIds = []string{olga.id}
		_, err = w.federations().SuspendUserAccounts(olga.ctx, suspend)
		wantCode(t, err, codes.NotFound, ReasonFederatedUserNotFound)

		// The last owner stays, and so do the others of the same call and the federation.
		if err := w.leave(olga, org, olga.id); err != nil {
			t.Fatal(err)
		}
		_, err = w.federations().DeleteUserAccounts(asAnn, &samlv1.DeleteFederatedUserAccountsRequest{FederationId: f.GetId(), SubjectIds: ids})
		wantCode(t, err, codes.FailedPrecondition, "LAST_OWNER")
		if got := w.usersOf(citizen{ctx: asAnn}, f.GetId(), ""); len(got) != 2 {
			t.Errorf("left %v", got)
		}
		_, err = w.federations().Delete(asAnn, &samlv1.DeleteFederationRequest{FederationId: f.GetId()})
		wantCode(t, err, codes.FailedPrecondition, "LAST_OWNER")
		vera := w.citizen("vera")
		w.join(citizen{ctx: asAnn}, org, vera)
		w.bind(citizen{ctx: asAnn}, typeOrganization, org, ownerOfOrganizations, vera.subject())
		op, err = w.federations().Delete(vera.ctx, &samlv1.DeleteFederationRequest{FederationId: f.GetId()})
		w.done(op, err, new(emptypb.Empty))
		if got := w.membersOf(typeOrganization, org); !slices.Equal(got, []string{vera.id}) {
			t.Errorf("the organization has the members %v", got)
		}
		_, err = w.users.Get(asAnn, &iamv1.GetUserAccountRequest{UserAccountId: ids[0]})
		wantCode(t, err, codes.Unauthenticated, apierr.ReasonSubjectInactive)
		_, err = w.users.Get(vera.ctx, &iamv1.GetUserAccountRequest{UserAccountId: ids[0]})
		wantCode(t, err, codes.NotFound, ReasonUserNotFound)
	})
}

// bind gives a role to any subject.
func (w *town) bind(owner citizen, typ, resourceID, role string, to *accessv1.Subject) {
	w.t.Helper()
	_, err := w.bindings.UpdateAccessBindings(owner.ctx, &accessv1.UpdateAccessBindingsRequest{
		Resource:            &accessv1.Resource{Type: typ, Id: resourceID},
		AccessBindingDeltas: []*accessv1.AccessBindingDelta{{Action: 1, AccessBinding: &accessv1.AccessBinding{RoleId: role, Subject: to}}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// A federation goes with its organization, and its users with it.
func TestDL6_FederationGoesWithOrganization(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga := w.citizen("olga")
		org := w.organization(olga, "acme")
		f := w.federation(olga, org, "corp")
		ids := w.addUsers(olga, f.GetId(), "ann")
		op, err := brmv1.NewOrganizationServiceClient(w.Conn).DeleteOrganization(olga.ctx, &brmv1.DeleteOrganizationRequest{OrganizationId: org})
		w.done(op, err, new(emptypb.Empty))
		w.eventually("the rows go", func() bool {
			var n int
			if err := w.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM identity_saml_federations WHERE id = $1`, f.GetId()).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n == 0
		})
		_, err = w.users.Get(olga.ctx, &iamv1.GetUserAccountRequest{UserAccountId: ids[0]})
		wantCode(t, err, codes.NotFound, ReasonUserNotFound)
	})
}

// selfSigned makes a certificate in PEM.
func selfSigned(t *testing.T, key any, public any) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "idp"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestFederationCertificates(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	data := selfSigned(t, key, &key.PublicKey)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak := selfSigned(t, small, &small.PublicKey)
	inTown(t, func(t *testing.T, w *town) {
		olga := w.citizen("olga")
		f := w.federation(olga, w.organization(olga, "acme"), "corp")
		certificates := samlv1.NewCertificateServiceClient(w.Conn)
		op, err := certificates.Create(olga.ctx, &samlv1.CreateCertificateRequest{FederationId: f.GetId(), Name: "one", Description: "first", Data: data})
		c, meta := new(samlv1.Certificate), new(samlv1.CreateCertificateMetadata)
		w.done(op, err, c)
		if err := op.GetMetadata().UnmarshalTo(meta); err != nil || meta.GetCertificateId() != c.GetId() || c.GetData() != data || c.GetFederationId() != f.GetId() {
			t.Errorf("made %v, metadata %v (%v)", c, meta, err)
		}
		for range 2 { // no name is not unique
			op, err = certificates.Create(olga.ctx, &samlv1.CreateCertificateRequest{FederationId: f.GetId(), Data: data})
			w.done(op, err, new(samlv1.Certificate))
		}
		_, err = certificates.Create(olga.ctx, &samlv1.CreateCertificateRequest{FederationId: f.GetId(), Name: "one", Data: data})
		wantCode(t, err, codes.AlreadyExists, ReasonCertificateNameTaken)
		for _, bad := range []string{"x", weak, data + data, strings.ReplaceAll(data, "CERTIFICATE", "PRIVATE KEY"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
			_, err = certificates.Create(olga.ctx, &samlv1.CreateCertificateRequest{FederationId: f.GetId(), Data: bad})
			wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
		}
		op, err = certificates.Update(olga.ctx, &samlv1.UpdateCertificateRequest{CertificateId: c.GetId(), UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"description", "name"}}, Name: "two"})
		w.done(op, err, c)
		read, err := certificates.Get(olga.ctx, &samlv1.GetCertificateRequest{CertificateId: c.GetId()})
		if err != nil || read.GetName() != "two" || read.GetDescription() != "" || read.GetData() != data {
			t.Errorf("read %v (%v)", read, err)
		}
		list, err := certificates.List(olga.ctx, &samlv1.ListCertificatesRequest{FederationId: f.GetId(), PageSize: 2})
		if err != nil || len(list.GetCertificates()) != 2 || list.GetNextPageToken() == "" {
			t.Errorf("listed %v (%v)", list, err)
		}
		op, err = certificates.Delete(olga.ctx, &samlv1.DeleteCertificateRequest{CertificateId: c.GetId()})
		w.done(op, err, new(emptypb.Empty))
		_, err = certificates.Get(olga.ctx, &samlv1.GetCertificateRequest{CertificateId: c.GetId()})
		wantCode(t, err, codes.NotFound, ReasonCertificateNotFound)
	})
}

func TestFederationDomains(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		records := map[string][]string{}
		w.service.lookupTXT = func(_ context.Context, name string) ([]string, error) {
			if texts, ok := records[name]; ok {
				return texts, nil
			}
			return nil, &net.DNSError{IsNotFound: true}
		}
		olga := w.citizen("olga")
		org := w.organization(olga, "acme")
		one, two := w.federation(olga, org, "one"), w.federation(olga, org, "two")
		add := func(f *samlv1.Federation, domain string) *samlv1.Domain {
			t.Helper()
			op, err := w.federations().AddDomain(olga.ctx, &samlv1.AddFederationDomainRequest{FederationId: f.GetId(), Domain: domain})
			d := new(samlv1.Domain)
			w.done(op, err, d)
			return d
		}
		d := add(one, "Corp.Example.")
		if d.GetDomain() != "corp.example" || d.GetStatus() != samlv1.Domain_NEED_TO_VALIDATE || len(d.GetChallenges()) != 1 {
			t.Fatalf("added %v", d)
		}
		record := d.GetChallenges()[0].GetDnsChallenge()
		validate := func(f *samlv1.Federation) (*samlv1.Domain, error) {
			op, err := w.federations().ValidateDomain(olga.ctx, &samlv1.ValidateFederationDomainRequest{FederationId: f.GetId(), Domain: "corp.example"})
			d := new(samlv1.Domain)
			if err == nil {
				w.done(op, err, d)
			}
			return d, err
		}
		for _, step := range []struct {
			texts  []string
			status samlv1.Domain_Status
			code   string
		}{
			{nil, samlv1.Domain_INVALID, codeRecordNotFound}, {[]string{"other"}, samlv1.Domain_INVALID, codeRecordOther},
			{[]string{"other", record.GetValue()}, samlv1.Domain_VALID, ""},
		} {
			delete(records, record.GetName()+".")
			if step.texts != nil {
				records[record.GetName()+"."] = step.texts
			}
			got, err := validate(one)
			if err != nil || got.GetStatus() != step.status || got.GetStatusCode() != step.code {
				t.Errorf("with %v: %v (%v)", step.texts, got, err)
			}
		}
		other := add(two, "corp.example")
		records[record.GetName()+"."] = []string{other.GetChallenges()[0].GetDnsChallenge().GetValue()}
		_, err := validate(two)
		wantCode(t, err, codes.AlreadyExists, ReasonDomainTaken)
		op, err := w.federations().DeleteDomain(olga.ctx, &samlv1.DeleteFederationDomainRequest{FederationId: one.GetId(), Domain: "corp.example"})
		w.done(op, err, new(emptypb.Empty))
		if got, err := validate(two); err != nil || got.GetStatus() != samlv1.Domain_VALID {
			t.Errorf("once it is free: %v (%v)", got, err)
		}
		list, err := w.federations().ListDomains(olga.ctx, &samlv1.ListFederationDomainsRequest{FederationId: two.GetId(), Filter: `domain = "corp.example"`})
		if err != nil || len(list.GetDomains()) != 1 {
			t.Errorf("listed %v (%v)", list, err)
		}
		_, err = w.federations().GetDomain(olga.ctx, &samlv1.GetFederationDomainRequest{FederationId: one.GetId(), Domain: "corp.example"})
		wantCode(t, err, codes.NotFound, ReasonDomainNotFound)
		_, err = w.federations().AddDomain(olga.ctx, &samlv1.AddFederationDomainRequest{FederationId: two.GetId(), Domain: "corp.example"})
		wantCode(t, err, codes.AlreadyExists, ReasonDomainExists)
		for _, bad := range []string{"example", "a..b", "-a.example", "a_b.example", "a b.example", strings.Repeat("a", 64) + ".example"} {
			_, err = w.federations().AddDomain(olga.ctx, &samlv1.AddFederationDomainRequest{FederationId: two.GetId(), Domain: bad})
			wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
		}
	})
}
