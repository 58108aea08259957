package accessbindings

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

const (
	addCustomers = "billing.customers.create"
	useProjects  = "AllProductsReadOnly"
	manageAll    = "AllProductsFullAccess"
	openPortal   = "ResellerFullAccess"
	seeProjects  = "ProjectReadOnly"
)

func (w *world) grants() accessv1.GrantPolicyServiceClient {
	return accessv1.NewGrantPolicyServiceClient(w.Conn)
}

// onOrganization and on are rules of the two kinds of scopes.
func onOrganization(sets ...string) *accessv1.GrantRule {
	return &accessv1.GrantRule{PermissionSets: sets, Scope: &accessv1.GrantRule_Organization{Organization: true}}
}

func onPlaces(places []Ref, sets ...string) *accessv1.GrantRule {
	at := new(accessv1.GrantPlaces)
	for _, r := range places {
		if r.Type == typeCloud {
			at.CloudIds = append(at.CloudIds, r.ID)
		} else {
			at.FolderIds = append(at.FolderIds, r.ID)
		}
	}
	return &accessv1.GrantRule{PermissionSets: sets, Scope: &accessv1.GrantRule_Places{Places: at}}
}

// newPolicy is a request for a policy in org1; without a principal when who is zero.
func newPolicy(name string, who Subject, rules ...*accessv1.GrantRule) *accessv1.CreateGrantPolicyRequest {
	req := &accessv1.CreateGrantPolicyRequest{
		OrganizationId: org1.ID, Name: name, Rules: rules, Principal: &accessv1.CreateGrantPolicyRequest_NoPrincipal{NoPrincipal: true},
	}
	if who != (Subject{}) {
		req.Principal = &accessv1.CreateGrantPolicyRequest_Subject{Subject: who.proto()}
	}
	return req
}

// mustGrant makes a policy and reads it back.
func (w *world) mustGrant(as Subject, req *accessv1.CreateGrantPolicyRequest) *accessv1.GrantPolicy {
	w.t.Helper()
	op, err := w.grants().CreateGrantPolicy(w.as(as), req)
	w.must(err)
	return w.policyOf(op)
}

func (w *world) policyOf(op *operationpb.Operation) *accessv1.GrantPolicy {
	w.t.Helper()
	p := new(accessv1.GrantPolicy)
	w.must(op.GetResponse().UnmarshalTo(p))
	return p
}

func (w *world) readGrant(id string) *accessv1.GrantPolicy {
	w.t.Helper()
	p, err := w.grants().GetGrantPolicy(w.as(olga), &accessv1.GetGrantPolicyRequest{PolicyId: id})
	w.must(err)
	return p
}

func (w *world) setRules(as Subject, id string, rules ...*accessv1.GrantRule) error {
	_, err := w.grants().SetGrantPolicyRules(w.as(as), &accessv1.SetGrantPolicyRulesRequest{PolicyId: id, Rules: rules})
	return err
}

func (w *world) deleteGrant(as Subject, id string) error {
	_, err := w.grants().DeleteGrantPolicy(w.as(as), &accessv1.DeleteGrantPolicyRequest{PolicyId: id})
	return err
}

// sources lists the pairs on a resource with their sources, sorted.
func (w *world) sources(r Ref, changeable bool) []string {
	w.t.Helper()
	resp, err := w.bindings.ListAccessBindings(w.as(olga), &accessv1.ListAccessBindingsRequest{Resource: r.proto(), PageSize: 1000, ChangeableOnly: changeable})
	w.must(err)
	var all []string
	for _, b := range resp.GetAccessBindings() {
		line := b.GetRoleId() + " " + b.GetSubject().GetId()
		for _, s := range b.GetSources() {
			line += " " + strings.ToLower(s.GetKind().String()) + s.GetId()
		}
		all = append(all, line)
	}
	slices.Sort(all)
	return all
}

// staff makes vera and nick members of org1, with a group that vera is in.
func (w *world) staff() Subject {
	w.t.Helper()
	w.must(w.members(org1, []Subject{vera, nick}, nil))
	op, err := w.groups.Create(w.as(olga), &orgv1.CreateGroupRequest{OrganizationId: org1.ID, Name: "staff"})
	w.must(err)
	g := new(orgv1.Group)
	w.must(op.GetResponse().UnmarshalTo(g))
	w.enlist(g.GetId(), vera)
	return group(g.GetId())
}

func (w *world) enlist(group string, who Subject) {
	w.t.Helper()
	_, err := w.groups.UpdateMembers(w.as(olga), &orgv1.UpdateGroupMembersRequest{
		GroupId: group, MemberDeltas: []*orgv1.MemberDelta{{Action: orgv1.MemberDelta_ADD, SubjectId: who.ID}},
	})
	w.must(err)
}

// TestSC1_SC2_APolicyOpensThePartnerSpace is the documented way: a policy for a default
// group of the organization, its features as the scope, the reseller's set; then a user
// of that group may work with the customers of the partner account below it.
func TestSC1_SC2_APolicyOpensThePartnerSpace(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		account := Ref{typeBillingAccount, "partner1"}
		_, err := w.unit(typeBillingAccount).RegisterResource(t.Context(), registerRequest(account, org1))
		w.must(err)
		w.staff()
		list, err := w.groups.List(w.as(olga), &orgv1.ListGroupsRequest{OrganizationId: org1.ID, Filter: `name = "Administrators"`})
		w.must(err)
		if len(list.GetGroups()) != 1 {
			t.Fatalf("groups named Administrators: %v", list.GetGroups())
		}
		admins := group(list.GetGroups()[0].GetId())
		// Whoever is in Administrators has admin, which is more than the set: a group of its own shows what the policy does.
		op, err := w.groups.Create(w.as(olga), &orgv1.CreateGroupRequest{OrganizationId: org1.ID, Name: "resellers"})
		w.must(err)
		g := new(orgv1.Group)
		w.must(op.GetResponse().UnmarshalTo(g))
		if w.allowed(vera, addCustomers, account) || w.allowed(nick, addCustomers, account) {
			t.Fatal("the partner space is open to anybody")
		}
		w.mustGrant(olga, newPolicy("partner space", group(g.GetId()), onOrganization(openPortal)))
		w.mustGrant(olga, newPolicy("partner space of administrators", admins, onOrganization(openPortal)))
		w.enlist(g.GetId(), vera)
		w.enlist(admins.ID, nick)
		if !w.allowed(vera, addCustomers, account) || !w.allowed(nick, addCustomers, account) {
			t.Error("members of the groups do not get into the partner space")
		}
		if w.allowed(vera, getCloud, cloud1) {
			t.Error("the set opens more than the partner space")
		}
	})
}

// TestSC2_DefaultGroups: every organization begins with two groups and their roles, and
// they are groups as others: deleted, they stay away.
func TestSC2_DefaultGroups(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		names := func() map[string]string {
			list, err := w.groups.List(w.as(olga), &orgv1.ListGroupsRequest{OrganizationId: org2.ID})
			w.must(err)
			ids := map[string]string{}
			for _, g := range list.GetGroups() {
				ids[g.GetName()] = g.GetId()
			}
			return ids
		}
		ids := names()
		if len(ids) != 2 || ids["Administrators"] == "" || ids["Billing Administrators"] == "" {
			t.Fatalf("groups of a new organization: %v", ids)
		}
		want := []string{"admin " + ids["Administrators"] + " direct", "billing.accounts.admin " + ids["Billing Administrators"] + " direct", orgOwner + " olga direct"}
		slices.Sort(want)
		if got := w.sources(org2, true); !slices.Equal(got, want) {
			t.Errorf("bindings of a new organization: %v, want %v", got, want)
		}
		w.must(w.members(org2, []Subject{vera}, nil))
		w.enlist(ids["Administrators"], vera)
		if !w.allowed(vera, "organization-manager.organizations.updateAccessBindings", org2) {
			t.Error("a member of Administrators does not administer")
		}
		_, err := w.groups.Update(w.as(olga), &orgv1.UpdateGroupRequest{
			GroupId: ids["Administrators"], Name: "bosses", UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"name"}},
		})
		w.must(err)
		_, err = w.groups.Delete(w.as(olga), &orgv1.DeleteGroupRequest{GroupId: ids["Billing Administrators"]})
		w.must(err)
		w.must(w.service.giveDefaultGroups(t.Context()))
		if ids := names(); len(ids) != 1 || ids["bosses"] == "" {
			t.Errorf("groups after renaming one and deleting the other: %v", ids)
		}
	})
}

// TestDefaultGroupsOfOldOrganizations: a store of an older program is brought up once,
// and a name that somebody has used is left to them.
func TestDefaultGroupsOfOldOrganizations(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		for _, g := range []string{"Administrators", "Billing Administrators"} {
			list, err := w.groups.List(w.as(olga), &orgv1.ListGroupsRequest{OrganizationId: org1.ID, Filter: fmt.Sprintf("name = %q", g)})
			w.must(err)
			_, err = w.groups.Delete(w.as(olga), &orgv1.DeleteGroupRequest{GroupId: list.GetGroups()[0].GetId()})
			w.must(err)
		}
		op, err := w.groups.Create(w.as(olga), &orgv1.CreateGroupRequest{OrganizationId: org1.ID, Name: "Administrators"})
		w.must(err)
		own := new(orgv1.Group)
		w.must(op.GetResponse().UnmarshalTo(own))
		if _, err := w.db.Pool().ExecContext(t.Context(), `DELETE FROM access_upgrades`); err != nil {
			t.Fatal(err)
		}
		w.must(w.service.giveDefaultGroups(t.Context()))
		w.must(w.service.giveDefaultGroups(t.Context()))
		list, err := w.groups.List(w.as(olga), &orgv1.ListGroupsRequest{OrganizationId: org1.ID})
		w.must(err)
		var names []string
		for _, g := range list.GetGroups() {
			names = append(names, g.GetName())
		}
		if slices.Sort(names); !slices.Equal(names, []string{"Administrators", "Billing Administrators"}) {
			t.Errorf("groups of an old organization: %v", names)
		}
		if got := w.sources(org1, true); slices.Contains(got, "admin "+own.GetId()+" direct") {
			t.Errorf("a group of the same name was given the role: %v", got)
		}
	})
}

// TestSC13_SC14_SC15_APolicyGivesWhatItsRulesSay: create, read, change of principal and
// of rules, and what is in force after each.
func TestSC13_SC14_SC15_APolicyGivesWhatItsRulesSay(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		staff := w.staff()
		req := newPolicy("readers", staff, onPlaces([]Ref{folder1}, useProjects), onOrganization(seeProjects, "BillingReadOnly"))
		req.Description, req.Tags = "who reads", []string{"b", "a"}
		p := w.mustGrant(olga, req)
		if got := w.readGrant(p.GetId()); !proto.Equal(got, p) || got.GetName() != "readers" || got.GetDescription() != "who reads" ||
			!slices.Equal(got.GetTags(), []string{"b", "a"}) || got.GetSubject().GetId() != staff.ID || len(got.GetRules()) != 2 ||
			!slices.Equal(got.GetRules()[0].GetPlaces().GetFolderIds(), []string{folder1.ID}) || !got.GetRules()[1].GetOrganization() {
			t.Errorf("read back: %v, made: %v", got, p)
		}
		if got, want := w.sources(folder1, false), []string{"viewer " + staff.ID + " policy" + p.GetId()}; !slices.Equal(got, want) {
			t.Errorf("on the folder: %v, want %v", got, want)
		}
		if !w.allowed(vera, getFolder, folder1) || w.allowed(nick, getFolder, folder1) || !w.allowed(vera, getCloud, cloud1) {
			t.Error("the policy gives something else than its rules say")
		}
		_, err := w.grants().UpdateGrantPolicy(w.as(olga), &accessv1.UpdateGrantPolicyRequest{
			PolicyId: p.GetId(), Principal: &accessv1.UpdateGrantPolicyRequest_Subject{Subject: nick.proto()},
			UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"principal"}},
		})
		w.must(err)
		if w.allowed(vera, getFolder, folder1) || !w.allowed(nick, getFolder, folder1) {
			t.Error("another principal: the old one keeps, or the new one lacks, what the policy gives")
		}
		if got := w.readGrant(p.GetId()); got.GetName() != "readers" || len(got.GetTags()) != 2 {
			t.Errorf("a field that the mask does not name was changed: %v", got)
		}
		w.must(w.setRules(olga, p.GetId(), onPlaces([]Ref{folder2}, useProjects)))
		if w.allowed(nick, getFolder, folder1) || !w.allowed(nick, getFolder, folder2) || w.allowed(nick, getCloud, cloud1) {
			t.Error("set rules: what is in force is not what they say")
		}
		w.must(w.deleteGrant(olga, p.GetId()))
		if w.allowed(nick, getFolder, folder2) {
			t.Error("what a deleted policy gave is in force (SC-16)")
		}
		_, err = w.grants().GetGrantPolicy(w.as(olga), &accessv1.GetGrantPolicyRequest{PolicyId: p.GetId()})
		refused(t, err, codes.NotFound, "GRANT_POLICY_NOT_FOUND")
	})
}

// TestSC20_APairStaysWhileOneSourceRemains: a role from two policies and by hand is lost
// with the last of them, and Set and Update leave to policies what is theirs.
func TestSC20_APairStaysWhileOneSourceRemains(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.staff()
		first := w.mustGrant(olga, newPolicy("one", vera, onPlaces([]Ref{folder1}, useProjects)))
		second := w.mustGrant(olga, newPolicy("two", vera, onPlaces([]Ref{folder1}, useProjects)))
		w.mustUpdate(olga, folder1, add(viewer, vera))
		both := []string{"policy" + first.GetId(), "policy" + second.GetId()}
		slices.Sort(both)
		if got, want := w.sources(folder1, true), []string{"viewer vera direct " + strings.Join(both, " ")}; !slices.Equal(got, want) {
			t.Errorf("sources: %v, want %v", got, want)
		}
		op := w.mustUpdate(olga, folder1, remove(viewer, vera))
		if len(effective(t, op)) != 0 || !strings.Contains(op.GetDescription(), "1 binding stays, which a grant policy gives") {
			t.Errorf("removing by hand what policies give: %v, %q", effective(t, op), op.GetDescription())
		}
		op, err := w.set(olga, folder1)
		w.must(err)
		if !strings.Contains(op.GetDescription(), "1 binding stays, which a grant policy gives") {
			t.Errorf("replacing the list: %q says nothing of what stays", op.GetDescription())
		}
		if got := w.sources(folder1, true); len(got) != 0 {
			t.Errorf("what only policies give is in the list that clients keep: %v", got)
		}
		if got, want := w.sources(folder1, false), []string{"viewer vera " + strings.Join(both, " ")}; !slices.Equal(got, want) {
			t.Errorf("sources after a Set: %v, want %v", got, want)
		}
		w.must(w.deleteGrant(olga, first.GetId()))
		if !w.allowed(vera, getFolder, folder1) {
			t.Error("the pair ended with one of its sources")
		}
		w.mustUpdate(olga, folder1, add(viewer, vera))
		w.must(w.deleteGrant(olga, second.GetId()))
		if !w.allowed(vera, getFolder, folder1) {
			t.Error("a binding made by hand went with the policy")
		}
		w.mustUpdate(olga, folder1, remove(viewer, vera))
		if w.allowed(vera, getFolder, folder1) {
			t.Error("the pair outlives its last source")
		}
	})
}

// TestSC16_WhatIsDeletedLeavesItsPolicies: the principal, and clouds and folders.
func TestSC16_WhatIsDeletedLeavesItsPolicies(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		staff := w.staff()
		mine := w.mustGrant(olga, newPolicy("of vera", vera, onPlaces([]Ref{cloud1, folder1, folder2}, useProjects), onPlaces([]Ref{folder1}, manageAll)))
		theirs := w.mustGrant(olga, newPolicy("of staff", staff, onPlaces([]Ref{folder1}, useProjects)))
		his := w.mustGrant(olga, newPolicy("of nick", nick, onOrganization(seeProjects)))
		_, err := w.resources.RemoveResource(t.Context(), &accessv1.RemoveResourceRequest{Resource: folder1.proto()})
		w.must(err)
		got := w.readGrant(mine.GetId())
		if at := got.GetRules()[0].GetPlaces(); !slices.Equal(at.GetCloudIds(), []string{cloud1.ID}) || !slices.Equal(at.GetFolderIds(), []string{folder2.ID}) {
			t.Errorf("a deleted folder is in the scope: %v", got)
		}
		if at := got.GetRules()[1].GetPlaces(); len(got.GetRules()) != 2 || at == nil || len(at.GetFolderIds())+len(at.GetCloudIds()) != 0 {
			t.Errorf("a rule whose last folder is deleted: %v", got)
		}
		_, err = w.groups.Delete(w.as(olga), &orgv1.DeleteGroupRequest{GroupId: staff.ID})
		w.must(err)
		w.state(vera, stateDeleted)
		w.must(w.members(org1, nil, []Subject{nick}))
		for _, p := range []*accessv1.GrantPolicy{mine, theirs, his} {
			if got := w.readGrant(p.GetId()); !got.GetNoPrincipal() {
				t.Errorf("%s has the principal %v", got.GetName(), got.GetSubject())
			}
		}
		if w.allowed(nick, getCloud, cloud1) {
			t.Error("who left the organization has what its policy gave")
		}
		w.know(user("fred"))
		w.must(w.members(org1, []Subject{user("fred")}, nil))
		_, err = w.grants().UpdateGrantPolicy(w.as(olga), &accessv1.UpdateGrantPolicyRequest{
			PolicyId: mine.GetId(), Principal: &accessv1.UpdateGrantPolicyRequest_Subject{Subject: user("fred").proto()},
		})
		w.must(err)
		if !w.allowed(user("fred"), getFolder, folder2) {
			t.Error("a policy with a new principal gives nothing")
		}
	})
}

// TestSC16_Clone makes policies of a policy.
func TestSC16_Clone(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.staff()
		p := w.mustGrant(olga, newPolicy("readers", vera, onPlaces([]Ref{folder1}, useProjects)))
		for _, name := range []string{"", "", "others"} {
			op, err := w.grants().CloneGrantPolicy(w.as(olga), &accessv1.CloneGrantPolicyRequest{PolicyId: p.GetId(), Name: name})
			w.must(err)
			w.policyOf(op)
		}
		list, err := w.grants().ListGrantPolicies(w.as(olga), &accessv1.ListGrantPoliciesRequest{OrganizationId: org1.ID})
		w.must(err)
		var names []string
		for _, q := range list.GetPolicies() {
			names = append(names, q.GetName())
			if !proto.Equal(q.GetRules()[0], p.GetRules()[0]) || q.GetSubject().GetId() != "vera" {
				t.Errorf("a copy is another one: %v", q)
			}
		}
		if want := []string{"readers", "readers (2)", "readers (3)", "others"}; !slices.Equal(names, want) {
			t.Errorf("names: %v, want %v", names, want)
		}
		_, err = w.grants().CloneGrantPolicy(w.as(olga), &accessv1.CloneGrantPolicyRequest{PolicyId: p.GetId(), Name: "others"})
		refused(t, err, codes.AlreadyExists, "GRANT_POLICY_NAME_TAKEN")
		w.must(w.deleteGrant(olga, p.GetId()))
		if !w.allowed(vera, getFolder, folder1) {
			t.Error("the copies went with the policy")
		}
	})
}

// TestSC15_ListsOfPolicies: pages and filters.
func TestSC15_ListsOfPolicies(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.staff()
		for i := range 7 {
			who := vera
			if i%2 == 1 {
				who = Subject{}
			}
			req := newPolicy(fmt.Sprintf("p%d", i), who, onPlaces([]Ref{folder1}, useProjects))
			req.Tags = []string{fmt.Sprintf("t%d", i%3)}
			w.mustGrant(olga, req)
		}
		for filter, want := range map[string]string{
			"": "p0 p1 p2 p3 p4 p5 p6", `name = "p3"`: "p3", `tag = "t1"`: "p1 p4", `subject_id = "vera"`: "p0 p2 p4 p6", `subject_id = ""`: "p1 p3 p5", `name = "q"`: "",
		} {
			var got []string
			for token := ""; ; {
				resp, err := w.grants().ListGrantPolicies(w.as(olga), &accessv1.ListGrantPoliciesRequest{OrganizationId: org1.ID, PageSize: 2, PageToken: token, Filter: filter})
				w.must(err)
				for _, p := range resp.GetPolicies() {
					got = append(got, p.GetName())
				}
				if token = resp.GetNextPageToken(); token == "" {
					break
				}
			}
			if strings.Join(got, " ") != want {
				t.Errorf("filter %q: %v, want %s", filter, got, want)
			}
		}
		resp, err := w.grants().ListPermissionSets(w.as(nick), &accessv1.ListPermissionSetsRequest{PageSize: 5})
		w.must(err)
		if len(resp.GetPermissionSets()) != 5 || resp.GetNextPageToken() == "" || len(resp.GetPermissionSets()[0].GetRoleIds()) == 0 {
			t.Errorf("permission sets: %v", resp)
		}
	})
}

// TestSC19_EventsOfPolicies reads the audit records of the four kinds of writes.
func TestSC19_EventsOfPolicies(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.staff()
		p := w.mustGrant(olga, newPolicy("readers", vera, onPlaces([]Ref{folder1}, useProjects)))
		w.must(w.setRules(olga, p.GetId(), onPlaces([]Ref{folder2}, useProjects)))
		w.must(w.deleteGrant(olga, p.GetId()))
		for event, n := range map[string]int{"CreateGrantPolicy": 1, "UpdateGrantPolicy": 1, "DeleteGrantPolicy": 1} {
			records := w.records(event)
			if len(records) != n {
				t.Fatalf("%d records of %s, want %d", len(records), event, n)
			}
			r := records[0]
			details, _ := r.Details.(map[string]any)
			deltas, _ := details["access_binding_deltas"].([]any)
			wantDeltas := map[string]int{"CreateGrantPolicy": 1, "UpdateGrantPolicy": 2, "DeleteGrantPolicy": 1}[event]
			if r.EventSource != "iam" || len(r.ResourceMetadata.Path) != 1 || r.ResourceMetadata.Path[0].ID != org1.ID ||
				r.Authentication.SubjectID != olga.ID || details["policy_id"] != p.GetId() || len(deltas) != wantDeltas {
				t.Errorf("record of %s: %+v", event, r)
			}
		}
	})
}
