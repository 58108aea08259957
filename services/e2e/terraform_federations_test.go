package e2e

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"

	oauthpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/oauth"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	samlv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1/saml"
)

// samlFederation makes a federation as its resource does: the id is read out of the
// metadata.
func (p *provider) samlFederation(name string) *samlv1.Federation {
	p.t.Helper()
	op, err := samlv1.NewFederationServiceClient(p.conn).Create(p.ctx(), &samlv1.CreateFederationRequest{
		OrganizationId: p.org, Name: name, Description: "by the provider", Labels: map[string]string{"env": "test"},
		Issuer: "https://idp.example", SsoUrl: "https://idp.example/sso", SsoBinding: samlv1.BindingType_POST,
		SecuritySettings: &samlv1.FederationSecuritySettings{EncryptedAssertions: false},
	})
	f := done(p, op, err, new(samlv1.Federation))
	named(p, op, "federation_id", f.GetId())
	return f
}

// samlFederations is the row of yandex_organizationmanager_saml_federation, its data
// source, and yandex_organizationmanager_saml_federation_user_account.
func (p *provider) samlFederations() {
	federations := samlv1.NewFederationServiceClient(p.conn)
	f := p.samlFederation("tf-federation")
	get := &samlv1.GetFederationRequest{FederationId: f.GetId()}
	read, err := federations.Get(p.ctx(), get)
	p.same(f, read, err)
	if !f.GetCreatedAt().IsValid() || f.GetOrganizationId() != p.org || f.GetLabels()["env"] != "test" {
		p.t.Errorf("created %v", f)
	}
	list, err := federations.List(p.ctx(), &samlv1.ListFederationsRequest{OrganizationId: p.org, PageSize: 100, Filter: byName("tf-federation")})
	p.must(err)
	oneOf(p, list.GetFederations(), f)
	op, err := federations.Update(p.ctx(), &samlv1.UpdateFederationRequest{
		FederationId: f.GetId(), UpdateMask: fields("name", "labels", "cookie_max_age"), Name: "tf-federation-2", CookieMaxAge: &durationpb.Duration{Seconds: 3600},
	})
	updated := done(p, op, err, new(samlv1.Federation))
	named(p, op, "federation_id", f.GetId())
	f.Name, f.Labels, f.CookieMaxAge = "tf-federation-2", nil, &durationpb.Duration{Seconds: 3600}
	p.same(f, updated, nil)
	read, err = federations.Get(p.ctx(), get)
	p.same(f, read, err)

	p.federatedAccount(f)

	remove := &samlv1.DeleteFederationRequest{FederationId: f.GetId()}
	op, err = federations.Delete(p.ctx(), remove)
	done(p, op, err, new(emptypb.Empty))
	named(p, op, "federation_id", f.GetId())
	_, err = federations.Get(p.ctx(), get)
	p.code(err, codes.NotFound)
	_, err = federations.Delete(p.ctx(), remove)
	p.code(err, codes.NotFound)
}

// federatedAccount adds a user by name id, finds it by its filter and among the members,
// and takes it away by its membership.
func (p *provider) federatedAccount(f *samlv1.Federation) {
	federations, users := samlv1.NewFederationServiceClient(p.conn), orgv1.NewUserServiceClient(p.conn)
	const nameID = "ann@corp.example"
	byNameID := &samlv1.ListFederatedUserAccountsRequest{FederationId: f.GetId(), Filter: `name_id="` + nameID + `"`}
	found := func() []*orgv1.UserAccount {
		p.t.Helper()
		list, err := federations.ListUserAccounts(p.ctx(), byNameID)
		p.must(err)
		return list.GetUserAccounts()
	}
	if got := found(); len(got) != 0 {
		p.t.Errorf("before it is added there is %v", got)
	}
	op, err := federations.AddUserAccounts(p.ctx(), &samlv1.AddFederatedUserAccountsRequest{FederationId: f.GetId(), NameIds: []string{nameID, "other"}})
	done(p, op, err, new(samlv1.AddFederatedUserAccountsResponse))
	named(p, op, "federation_id", f.GetId())
	got := found()
	if len(got) != 1 || got[0].GetSamlUserAccount().GetNameId() != nameID || got[0].GetSamlUserAccount().GetFederationId() != f.GetId() {
		p.t.Fatalf("by the name id there is %v", got)
	}
	claims := func() *oauthpb.SubjectClaims {
		p.t.Helper()
		for req := (&orgv1.ListMembersRequest{OrganizationId: p.org, PageSize: 1000}); ; {
			page, err := users.ListMembers(p.ctx(), req)
			p.must(err)
			for _, u := range page.GetUsers() {
				if u.GetSubjectClaims().GetSub() == got[0].GetId() {
					return u.GetSubjectClaims()
				}
			}
			if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
				return nil
			}
		}
	}
	if c := claims(); c.GetPreferredUsername() != nameID || c.GetFederation().GetId() != f.GetId() {
		p.t.Errorf("among the members it is %v", c)
	}
	op, err = users.DeleteMembership(p.ctx(), &orgv1.DeleteMembershipRequest{OrganizationId: p.org, SubjectId: got[0].GetId()})
	done(p, op, err, new(orgv1.DeleteMembershipResponse))
	if c := claims(); c != nil || len(found()) != 0 {
		p.t.Errorf("taken away, it is %v and %v", c, found())
	}
}

// groupMapping is the rows of yandex_organizationmanager_group_mapping and its items.
func (p *provider) groupMapping() {
	mappings, groups := orgv1.NewGroupMappingServiceClient(p.conn), orgv1.NewGroupServiceClient(p.conn)
	f := p.samlFederation("tf-mapping")
	op, err := groups.Create(p.ctx(), &orgv1.CreateGroupRequest{OrganizationId: p.org, Name: "tf-mapped"})
	group := done(p, op, err, new(orgv1.Group))
	get := &orgv1.GetGroupMappingRequest{FederationId: f.GetId()}
	_, err = mappings.Get(p.ctx(), get)
	p.code(err, codes.NotFound)
	op, err = mappings.Create(p.ctx(), &orgv1.CreateGroupMappingRequest{FederationId: f.GetId(), Enabled: true})
	m := done(p, op, err, new(orgv1.GroupMapping))
	named(p, op, "federation_id", f.GetId())
	read, err := mappings.Get(p.ctx(), get)
	p.same(m, read.GetGroupMapping(), err)
	items := func(want int) {
		p.t.Helper()
		list, err := mappings.ListItems(p.ctx(), &orgv1.ListGroupMappingItemsRequest{FederationId: f.GetId(), PageSize: 1000})
		p.must(err)
		if len(list.GetGroupMappingItems()) != want {
			p.t.Errorf("there are the items %v, want %d", list.GetGroupMappingItems(), want)
		}
	}
	change := &orgv1.UpdateGroupMappingItemsRequest{FederationId: f.GetId(), GroupMappingItemDeltas: []*orgv1.GroupMappingItemDelta{
		{Item: &orgv1.GroupMappingItem{ExternalGroupId: "admins", InternalGroupId: group.GetId()}},
	}}
	for left, action := range []orgv1.GroupMappingItemDelta_Action{orgv1.GroupMappingItemDelta_REMOVE, orgv1.GroupMappingItemDelta_ADD} { // what is not there may go
		change.GroupMappingItemDeltas[0].Action = action
		op, err = mappings.UpdateItems(p.ctx(), change)
		done(p, op, err, new(orgv1.UpdateGroupMappingItemsResponse))
		named(p, op, "federation_id", f.GetId())
		items(left)
	}
	op, err = mappings.Update(p.ctx(), &orgv1.UpdateGroupMappingRequest{FederationId: f.GetId(), UpdateMask: fields("enabled")})
	m.Enabled = false
	p.same(m, done(p, op, err, new(orgv1.GroupMapping)), nil)
	op, err = mappings.Delete(p.ctx(), &orgv1.DeleteGroupMappingRequest{FederationId: f.GetId()})
	done(p, op, err, new(emptypb.Empty))
	named(p, op, "federation_id", f.GetId())
	_, err = mappings.Get(p.ctx(), get)
	p.code(err, codes.NotFound)
	op, err = mappings.Create(p.ctx(), &orgv1.CreateGroupMappingRequest{FederationId: f.GetId()})
	done(p, op, err, new(orgv1.GroupMapping))
	op, err = samlv1.NewFederationServiceClient(p.conn).Delete(p.ctx(), &samlv1.DeleteFederationRequest{FederationId: f.GetId()})
	done(p, op, err, new(emptypb.Empty))
	_, err = mappings.Get(p.ctx(), get)
	p.code(err, codes.NotFound)
}
