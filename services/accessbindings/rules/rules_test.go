package rules

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bindery-iam/bindery/pkg/apierr"
)

var (
	viewer      = Role{ID: "viewer", AssignableOn: []string{Organization, "resource-manager.cloud", "resource-manager.folder"}}
	cloudOwner  = Role{ID: "resource-manager.clouds.owner", AssignableOn: []string{"resource-manager.cloud"}, Assign: "resource-manager.clouds.assignOwner", Owns: "resource-manager.cloud", Holders: NoSystemGroups}
	orgOwner    = Role{ID: "organization-manager.organizations.owner", AssignableOn: []string{Organization}, Assign: "organization-manager.organizations.assignOwner", Owns: Organization, Holders: NoGroups}
	payer       = Role{ID: "billing.accounts.owner", AssignableOn: []string{"billing.account", Organization}, Assign: "billing.accounts.assignOwner", Owns: "billing.account", Holders: NoGroups}
	withdrawn   = Role{ID: "old", AssignableOn: viewer.AssignableOn, Withdrawn: true}
	customer    = Role{ID: "billing.accounts.customer", AssignableOn: []string{"billing.account"}, ByPlatform: true}
	refresh     = Role{ID: "iam.userAccounts.refreshTokenViewer", AssignableOn: []string{Organization}}
	groupAdmin  = Role{ID: "organization-manager.groups.admin", AssignableOn: []string{Organization, "organization-manager.group"}}
	usageAdmin  = Role{ID: "billing.usagerecords.admin", AssignableOn: []string{Organization, "resource-manager.cloud", "resource-manager.folder"}}
	org         = Resource{Type: Organization, ID: "o1", Organization: "o1"}
	cloud       = Resource{Type: "resource-manager.cloud", ID: "c1", Organization: "o1"}
	folder      = Resource{Type: "resource-manager.folder", ID: "f1", Organization: "o1"}
	account     = Resource{Type: "billing.account", ID: "b1"}
	key         = Resource{Type: "kms.key", ID: "k1", Organization: "o1"}
	ann         = Subject{Type: UserAccount, ID: "ann"}
	robot       = Subject{Type: ServiceAccount, ID: "robot", Home: "o1"}
	team        = Subject{Type: Group, ID: "team"}
	everybody   = Subject{Type: System, ID: "allAuthenticatedUsers"}
	staff       = Subject{Type: System, ID: "group:organization:o1:users"}
	nothing     = holding()
	everything  = Holds(func(string) bool { return true })
	ownersOnly  = holding("resource-manager.clouds.assignOwner")
	orgOwnerAll = holding("resource-manager.clouds.assignOwner", "organization-manager.organizations.assignOwner", "billing.accounts.assignOwner")
)

func holding(permissions ...string) Holds {
	return func(p string) bool { return slices.Contains(permissions, p) }
}

// row is one question and the reason of the refusal, "" for a yes.
type row struct {
	name  string
	delta Delta
	holds Holds
	want  string
}

func ask(t *testing.T, rows []row) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if got := apierr.ReasonOf(May(r.delta, r.holds)); got != r.want {
				t.Errorf("May(%s %s for %s on %s) refuses with %q, want %q",
					sign(r.delta.Add), r.delta.Role.ID, r.delta.Subject.ID, r.delta.Resource.Type, got, r.want)
			}
		})
	}
}

func sign(add bool) string {
	if add {
		return "+"
	}
	return "-"
}

func TestAS1_ManagingNeedsThePermission(t *testing.T) {
	const p = "resource-manager.folders.updateAccessBindings"
	if err := MayManage(p, holding(p)); err != nil {
		t.Errorf("MayManage by a holder: %v", err)
	}
	if got := apierr.ReasonOf(MayManage(p, nothing)); got != "PERMISSION_DENIED" {
		t.Errorf("MayManage by anybody else refuses with %q, want PERMISSION_DENIED", got)
	}
}

func TestAS3_CommonRolesNeedNoMoreThanTheCommonPermission(t *testing.T) {
	ask(t, []row{
		{"a viewer of a folder", Delta{Add: true, Role: viewer, Subject: ann, Resource: folder}, nothing, ""},
		{"taken away", Delta{Role: viewer, Subject: ann, Resource: folder}, nothing, ""},
	})
}

// TestAS3_StrictGranting is AS-3 where the access policy asks for it (C-4).
func TestAS3_StrictGranting(t *testing.T) {
	pair := Role{ID: "pair", AssignableOn: viewer.AssignableOn, Permissions: []string{"a.things.get", "a.things.update"}}
	empty := Role{ID: "empty", AssignableOn: viewer.AssignableOn}
	limit := func(granted ...string) *Limit { return &Limit{Policy: "strict", On: org, Granted: holding(granted...)} }
	ask(t, []row{
		{"not strict", Delta{Add: true, Role: pair, Subject: ann, Resource: folder}, nothing, ""},
		{"holds all", Delta{Add: true, Role: pair, Subject: ann, Resource: folder, Limit: limit("a.things.update", "a.things.get", "b")}, nothing, ""},
		{"lacks one", Delta{Add: true, Role: pair, Subject: ann, Resource: folder, Limit: limit("a.things.get")}, everything, "GRANT_ABOVE_OWN"},
		{"lacks all", Delta{Add: true, Role: pair, Subject: ann, Resource: folder, Limit: limit()}, everything, "GRANT_ABOVE_OWN"},
		{"takes it away", Delta{Role: pair, Subject: ann, Resource: folder, Limit: limit()}, nothing, ""},
		{"nothing in it", Delta{Add: true, Role: empty, Subject: ann, Resource: folder, Limit: limit()}, nothing, ""},
	})
	e, _ := apierr.As(May(Delta{Add: true, Role: pair, Subject: ann, Resource: folder, Limit: limit("a.things.get")}, nothing))
	want := map[string]string{
		"permission": "a.things.update", "accessPolicyTemplateId": "strict", "accessPolicyResourceType": Organization, "accessPolicyResourceId": "o1",
	}
	if d := cmp.Diff(want, e.Meta); d != "" {
		t.Errorf("the refusal says (-want +got):\n%s", d)
	}
}

func TestAS4_AdminCannotAssignOwner(t *testing.T) {
	const no = "OWNER_NOT_ASSIGNABLE"
	ask(t, []row{
		{"cloud owner given", Delta{Add: true, Role: cloudOwner, Subject: ann, Resource: cloud}, nothing, no},
		{"cloud owner taken", Delta{Role: cloudOwner, Subject: ann, Resource: cloud}, nothing, no},
		{"organization owner given", Delta{Add: true, Role: orgOwner, Subject: ann, Resource: org}, nothing, no},
		{"organization owner taken", Delta{Role: orgOwner, Subject: ann, Resource: org}, nothing, no},
	})
}

func TestAS5_CloudOwnerAssignsCloudOwner(t *testing.T) {
	ask(t, []row{
		{"given", Delta{Add: true, Role: cloudOwner, Subject: ann, Resource: cloud}, ownersOnly, ""},
		{"taken", Delta{Role: cloudOwner, Subject: ann, Resource: cloud}, ownersOnly, ""},
	})
}

func TestAS6_OnlyOrganizationOwnerAppointsOrganizationOwners(t *testing.T) {
	ask(t, []row{
		{"cloud owner asks", Delta{Add: true, Role: orgOwner, Subject: ann, Resource: org}, ownersOnly, "OWNER_NOT_ASSIGNABLE"},
		{"organization owner asks", Delta{Add: true, Role: orgOwner, Subject: ann, Resource: org}, orgOwnerAll, ""},
	})
}

func TestAS7_BillingOwnerIsAssignedByBillingOwners(t *testing.T) {
	ask(t, []row{
		{"by the account's admin", Delta{Add: true, Role: payer, Subject: ann, Resource: account}, nothing, "OWNER_NOT_ASSIGNABLE"},
		{"by an owner", Delta{Add: true, Role: payer, Subject: ann, Resource: account, Listed: true}, holding("billing.accounts.assignOwner"), ""},
		{"the creator removed by an owner", Delta{Role: payer, Subject: ann, Resource: account}, holding("billing.accounts.assignOwner"), ""},
	})
}

func TestAS20_UsersListOfAnAccount(t *testing.T) {
	below, member, watcher := account, Role{ID: Member, AssignableOn: []string{Account}}, Role{ID: "billing.accounts.viewer", AssignableOn: []string{Account}}
	below.Organization = org.ID
	team := Subject{Type: Group, ID: "team"}
	ask(t, []row{
		{"somebody who is not listed", Delta{Add: true, Role: watcher, Subject: ann, Resource: account}, nothing, "NOT_A_USER_OF_THE_ACCOUNT"},
		{"somebody who is listed", Delta{Add: true, Role: watcher, Subject: ann, Resource: account, Listed: true}, nothing, ""},
		{"who is put on the list", Delta{Add: true, Role: member, Subject: ann, Resource: account}, nothing, ""},
		{"a group is never", Delta{Add: true, Role: member, Subject: team, Resource: account}, nothing, "NOT_A_USER_OF_THE_ACCOUNT"},
		{"below an organization", Delta{Add: true, Role: watcher, Subject: ann, Resource: below}, nothing, ""},
		{"what is taken away", Delta{Role: watcher, Subject: ann, Resource: account}, nothing, ""},
	})
}

func TestAS9_RoleFitsTheTypeOrAnAncestor(t *testing.T) {
	ask(t, []row{
		{"on a folder", Delta{Add: true, Role: viewer, Subject: ann, Resource: folder}, nothing, ""},
		{"on its cloud", Delta{Add: true, Role: viewer, Subject: ann, Resource: cloud}, nothing, ""},
		{"on a type the role does not know", Delta{Add: true, Role: viewer, Subject: ann, Resource: key}, nothing, "ROLE_DOES_NOT_FIT"},
	})
}

func TestAS10_CloudRolesOnCloudsOnly(t *testing.T) {
	ask(t, []row{
		{"on the organization", Delta{Add: true, Role: cloudOwner, Subject: ann, Resource: org}, everything, "ROLE_DOES_NOT_FIT"},
		{"on a folder", Delta{Add: true, Role: cloudOwner, Subject: ann, Resource: folder}, everything, "ROLE_DOES_NOT_FIT"},
		{"on a cloud", Delta{Add: true, Role: cloudOwner, Subject: ann, Resource: cloud}, everything, ""},
	})
}

func TestAS11_OrganizationRolesOnOrganizationsOnly(t *testing.T) {
	ask(t, []row{
		{"on a cloud", Delta{Add: true, Role: refresh, Subject: ann, Resource: cloud}, everything, "ROLE_DOES_NOT_FIT"},
		{"owner on a cloud", Delta{Add: true, Role: orgOwner, Subject: ann, Resource: cloud}, everything, "ROLE_DOES_NOT_FIT"},
		{"on the organization", Delta{Add: true, Role: refresh, Subject: ann, Resource: org}, everything, ""},
	})
}

func TestAS12_GroupRolesOnOrganizationOrGroup(t *testing.T) {
	group := Resource{Type: "organization-manager.group", ID: "team", Organization: "o1"}
	ask(t, []row{
		{"on a group", Delta{Add: true, Role: groupAdmin, Subject: ann, Resource: group}, nothing, ""},
		{"on the organization", Delta{Add: true, Role: groupAdmin, Subject: ann, Resource: org}, nothing, ""},
		{"on a cloud", Delta{Add: true, Role: groupAdmin, Subject: ann, Resource: cloud}, nothing, "ROLE_DOES_NOT_FIT"},
	})
}

func TestAS13_UsageRecordsOnTheTreeOnly(t *testing.T) {
	ask(t, []row{
		{"on a folder", Delta{Add: true, Role: usageAdmin, Subject: ann, Resource: folder}, nothing, ""},
		{"on a billing account", Delta{Add: true, Role: usageAdmin, Subject: ann, Resource: account}, nothing, "ROLE_DOES_NOT_FIT"},
	})
}

func TestAS14_BillingRolesOnAnOrganization(t *testing.T) {
	ask(t, []row{
		{"on the organization", Delta{Add: true, Role: payer, Subject: ann, Resource: org}, everything, ""},
		{"on a cloud", Delta{Add: true, Role: payer, Subject: ann, Resource: cloud}, everything, "ROLE_DOES_NOT_FIT"},
	})
}

func TestAS15_NeverByHand(t *testing.T) {
	ask(t, []row{
		{"given", Delta{Add: true, Role: customer, Subject: ann, Resource: account}, everything, "ROLE_NOT_ASSIGNABLE"},
		{"taken", Delta{Role: customer, Subject: ann, Resource: account}, everything, "ROLE_NOT_ASSIGNABLE"},
	})
}

func TestAS16_WithdrawnRolesCanOnlyGo(t *testing.T) {
	ask(t, []row{
		{"given", Delta{Add: true, Role: withdrawn, Subject: ann, Resource: folder}, everything, "ROLE_WITHDRAWN"},
		{"taken", Delta{Role: withdrawn, Subject: ann, Resource: folder}, everything, ""},
		{"taken where it does not fit", Delta{Role: withdrawn, Subject: ann, Resource: key}, everything, ""},
	})
}

func TestSU5_TypeAndIDAgree(t *testing.T) {
	rows := []struct {
		subject Subject
		ok      bool
	}{
		{ann, true},
		{robot, true},
		{team, true},
		{Subject{Type: FederatedUser, ID: "fed"}, true},
		{everybody, true},
		{Subject{Type: System, ID: "allUsers"}, true},
		{staff, true},
		{Subject{Type: System, ID: "group:federation:x:users"}, true},
		{Subject{Type: System, ID: "group:userpool:x:users"}, true},
		{Subject{Type: System, ID: "ann"}, false},
		{Subject{Type: System, ID: "group:cloud:x:users"}, false},
		{Subject{Type: System, ID: "group:organization::users"}, false},
		{Subject{Type: System, ID: "group:organization:x:owners"}, false},
		{Subject{Type: System, ID: "group:organization:x:users:y"}, false},
		{Subject{Type: System, ID: "ALLUSERS"}, false},
		{Subject{Type: UserAccount, ID: "allUsers"}, false},
		{Subject{Type: Group, ID: "group:organization:o1:users"}, false},
		{Subject{Type: UserAccount, ID: "a:b"}, false},
		{Subject{Type: "robot", ID: "x"}, false},
		{Subject{}, false},
	}
	for _, r := range rows {
		if got := Form(r.subject); (got == nil) != r.ok {
			t.Errorf("Form(%s:%s) = %v, want allowed %v", r.subject.Type, r.subject.ID, got, r.ok)
		}
	}
}

func TestSU3_SystemGroupsAreNamedAfterTheirContainer(t *testing.T) {
	for _, typ := range []string{Organization, Federation, UserPool} {
		id, ok := SystemGroup(typ, "x1")
		back, containerID, isGroup := Container(id)
		if !ok || !isGroup || back != typ || containerID != "x1" {
			t.Errorf("Container(SystemGroup(%s, x1)) = %s %s %v", typ, back, containerID, isGroup)
		}
	}
	if id, ok := SystemGroup("resource-manager.cloud", "c1"); ok {
		t.Errorf("a cloud makes the system group %q", id)
	}
}

func TestSU6_Lengths(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, r := range []struct {
		role, typ, id, resource int
		ok                      bool
	}{
		{64, 100, 100, 64, true},
		{65, 1, 1, 1, false},
		{1, 101, 1, 1, false},
		{1, 1, 101, 1, false},
		{1, 1, 1, 65, false},
	} {
		err := Lengths(long(r.role), Subject{Type: long(r.typ), ID: long(r.id)}, long(r.resource))
		if (err == nil) != r.ok {
			t.Errorf("Lengths(%d, %d, %d, %d) = %v, want allowed %v", r.role, r.typ, r.id, r.resource, err, r.ok)
		}
	}
}

func TestSU9_ServiceAccountsStayAtHome(t *testing.T) {
	stranger := Subject{Type: ServiceAccount, ID: "stranger", Home: "o2"}
	homeless := Subject{Type: ServiceAccount, ID: "homeless"}
	const no = "SERVICE_ACCOUNT_FOREIGN"
	ask(t, []row{
		{"at home", Delta{Add: true, Role: viewer, Subject: robot, Resource: folder}, nothing, ""},
		{"elsewhere", Delta{Add: true, Role: viewer, Subject: stranger, Resource: folder}, nothing, no},
		{"elsewhere, taken", Delta{Role: viewer, Subject: stranger, Resource: folder}, nothing, ""},
		{"outside of any organization", Delta{Add: true, Role: payer, Subject: robot, Resource: account}, everything, no},
		{"without a home", Delta{Add: true, Role: payer, Subject: homeless, Resource: account}, everything, no},
	})
}

func TestPG3_SystemGroupsOwnNoCloud(t *testing.T) {
	ask(t, []row{
		{"everybody", Delta{Add: true, Role: cloudOwner, Subject: everybody, Resource: cloud}, everything, "SUBJECT_NOT_ELIGIBLE"},
		{"the staff", Delta{Add: true, Role: cloudOwner, Subject: staff, Resource: cloud}, everything, "SUBJECT_NOT_ELIGIBLE"},
		{"a group", Delta{Add: true, Role: cloudOwner, Subject: team, Resource: cloud}, everything, ""},
		{"the staff as viewers", Delta{Add: true, Role: viewer, Subject: staff, Resource: cloud}, everything, ""},
	})
}

func TestPG5_NoGroupOwnsAnOrganizationOrAnAccount(t *testing.T) {
	ask(t, []row{
		{"a group", Delta{Add: true, Role: orgOwner, Subject: team, Resource: org}, everything, "SUBJECT_NOT_ELIGIBLE"},
		{"the staff", Delta{Add: true, Role: orgOwner, Subject: staff, Resource: org}, everything, "SUBJECT_NOT_ELIGIBLE"},
		{"a group of payers", Delta{Add: true, Role: payer, Subject: team, Resource: account}, everything, "SUBJECT_NOT_ELIGIBLE"},
		{"one person", Delta{Add: true, Role: orgOwner, Subject: ann, Resource: org}, everything, ""},
	})
}

func TestPG4_Warnings(t *testing.T) {
	admin, editor := Role{ID: "admin"}, Role{ID: "editor"}
	for _, r := range []struct {
		name  string
		delta Delta
		warns bool
	}{
		{"admin for everybody", Delta{Add: true, Role: admin, Subject: everybody, Resource: cloud}, true},
		{"editor for the staff", Delta{Add: true, Role: editor, Subject: staff, Resource: cloud}, true},
		{"viewer for everybody", Delta{Add: true, Role: viewer, Subject: everybody, Resource: cloud}, false},
		{"admin for one", Delta{Add: true, Role: admin, Subject: ann, Resource: cloud}, false},
		{"admin taken", Delta{Role: admin, Subject: everybody, Resource: cloud}, false},
	} {
		if got := Warning(r.delta); (got != "") != r.warns {
			t.Errorf("%s: Warning = %q, want one: %v", r.name, got, r.warns)
		}
	}
}

func TestOW2_LastOwnerRemains(t *testing.T) {
	for _, r := range []struct {
		name          string
		role          Role
		on            Resource
		before, after int
		want          string
	}{
		{"the only cloud owner", cloudOwner, cloud, 1, 0, "LAST_OWNER"},
		{"one of two", cloudOwner, cloud, 2, 1, ""},
		{"OW-3: both at once", cloudOwner, cloud, 2, 0, "LAST_OWNER"},
		{"OW-4: the only organization owner", orgOwner, org, 1, 0, "LAST_OWNER"},
		{"OW-4: the only payer", payer, account, 1, 0, "LAST_OWNER"},
		{"a payer of all accounts of an organization", payer, org, 1, 0, ""},
		{"there was none", cloudOwner, cloud, 0, 0, ""},
		{"not an owner role", viewer, cloud, 1, 0, ""},
	} {
		if got := apierr.ReasonOf(OwnerRemains(r.role, r.on.Type, r.before, r.after)); got != r.want {
			t.Errorf("%s: refuses with %q, want %q", r.name, got, r.want)
		}
	}
}

func TestAB6_PairsAreDistinct(t *testing.T) {
	pair := func(role string) Pair { return Pair{Role: role, SubjectType: UserAccount, SubjectID: "ann"} }
	kept, _, err := Distinct([]Wish{{pair("a"), true}, {pair("b"), false}, {pair("a"), true}, {pair("c"), true}, {pair("b"), false}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{0, 1, 3}, kept); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	_, at, err := Distinct([]Wish{{pair("a"), true}, {pair("b"), true}, {pair("a"), false}})
	if got := apierr.ReasonOf(err); got != "DELTAS_CONTRADICT" || at != 2 {
		t.Errorf("Distinct of a contradiction = %q at %d, want DELTAS_CONTRADICT at 2", got, at)
	}
	if kept, _, err := Distinct(nil); err != nil || kept != nil {
		t.Errorf("Distinct of nothing = %v, %v", kept, err)
	}
}

func TestAP_Policies(t *testing.T) {
	p := Policy{ID: "a.deny", BindOn: []string{Organization}, Parameters: []string{"but"}}
	for _, row := range []struct {
		name string
		err  error
		want string
	}{
		{"AP-4 may", MayManagePolicies("x", everything), ""},
		{"AP-4 may not", MayManagePolicies("x", nothing), apierr.ReasonPermissionDenied},
		{"AP-6 fits", PolicyFits(p, Organization), ""},
		{"AP-6 does not fit", PolicyFits(p, "resource-manager.cloud"), "ACCESS_POLICY_DOES_NOT_FIT"},
		{"AP-9 a parameter", PolicyParameter(p, "but"), ""},
		{"AP-9 no parameter", PolicyParameter(p, "and"), "ACCESS_POLICY_PARAMETER_UNKNOWN"},
		{"AP-3 bind", PolicyBindable("a.deny", false), ""},
		{"AP-3 bind again", PolicyBindable("a.deny", true), "ACCESS_POLICY_ALREADY_BOUND"},
		{"AP-3 unbind", PolicyIsBound("a.deny", true), ""},
		{"AP-3 unbind again", PolicyIsBound("a.deny", false), "ACCESS_POLICY_NOT_BOUND"},
	} {
		if got := apierr.ReasonOf(row.err); (row.err == nil) != (row.want == "") || row.err != nil && got != row.want {
			t.Errorf("%s: refused with %q (%v), want %q", row.name, got, row.err, row.want)
		}
	}
}
