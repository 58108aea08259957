package catalog

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func mustLoad(t *testing.T) *Catalog {
	t.Helper()
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestMatrix_Golden shows every grant of every role, inclusions expanded, as one
// line, so that a change of the catalogue is reviewed grant by grant.
func TestMatrix_Golden(t *testing.T) {
	c := mustLoad(t)
	var got strings.Builder
	for _, r := range c.Roles() {
		fmt.Fprintf(&got, "%s: %d permissions\n", r.ID, len(r.Permissions))
		for _, p := range r.Permissions {
			fmt.Fprintf(&got, "%s %s\n", r.ID, p)
		}
	}
	golden(t, "testdata/matrix.golden", got.String())
}

// TestAssignable_Golden shows where each role may be set, and by whom.
func TestAssignable_Golden(t *testing.T) {
	c := mustLoad(t)
	var got strings.Builder
	for _, r := range c.Roles() {
		var on []string
		for _, rt := range c.ResourceTypes() {
			if c.Assignable(r.ID, rt.ID) {
				on = append(on, rt.ID)
			}
		}
		fmt.Fprintf(&got, "%s: %s", r.ID, strings.Join(on, " "))
		if r.AssignPermission != "" {
			fmt.Fprintf(&got, "; needs %s", r.AssignPermission)
		}
		if len(r.NotForSubjects) > 0 {
			fmt.Fprintf(&got, "; not for %v", r.NotForSubjects)
		}
		if r.LastHolderProtected {
			got.WriteString("; last holder stays")
		}
		got.WriteString("\n")
	}
	golden(t, "testdata/assignable.golden", got.String())
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); d != "" {
		t.Errorf("%s differs; if it should, run go test ./pkg/catalog -update (-want +got):\n%s", file, d)
	}
}

func TestRH1_TypesStandInOneTree(t *testing.T) {
	c := mustLoad(t)
	for child, parent := range map[string]string{
		"organization-manager.organization": "", "resource-manager.cloud": "organization-manager.organization",
		"resource-manager.folder": "resource-manager.cloud", "iam.serviceAccount": "resource-manager.folder",
		"organization-manager.group": "organization-manager.organization", "marketplace.product": "marketplace.publisher",
	} {
		if got, ok := c.ResourceType(child); !ok || got.Parent != parent {
			t.Errorf("the parent of %s is %q, want %q", child, got.Parent, parent)
		}
	}
	if account, _ := c.ResourceType("billing.account"); !account.ParentOptional {
		t.Error("a billing account needs an organization, want that it may stand alone")
	}
	if got, ok := c.ResourceType("compute.disk"); ok {
		t.Errorf("compute.disk is catalogued: %v", got)
	}
}

func TestRH9_TypeWithoutBindings(t *testing.T) {
	c := mustLoad(t)
	var without []string
	for _, rt := range c.ResourceTypes() {
		if !rt.Bindings {
			without = append(without, rt.ID)
		}
	}
	if d := cmp.Diff([]string{"organization-manager.federation"}, without); d != "" {
		t.Errorf("types without bindings (-want +got):\n%s", d)
	}
	if c.Assignable("organization-manager.federations.admin", "organization-manager.federation") {
		t.Error("a role can be set on a federation, which has no bindings")
	}
	for _, rt := range []string{"organization-manager.federation", "compute.disk", "", "resource-manager.clouds"} {
		if p, ok := c.PermissionFor(rt, "updateAccessBindings"); ok {
			t.Errorf("%s has %s", rt, p)
		}
	}
}

func TestRH10_TypesWithBindings(t *testing.T) {
	c := mustLoad(t)
	for rt, prefix := range map[string]string{
		"organization-manager.organization":     "organization-manager.organizations",
		"resource-manager.cloud":                "resource-manager.clouds",
		"resource-manager.folder":               "resource-manager.folders",
		"iam.serviceAccount":                    "iam.serviceAccounts",
		"iam.workloadIdentityFederation":        "iam.workloadIdentityFederations",
		"organization-manager.group":            "organization-manager.groups",
		"organization-manager.userpool":         "organization-manager.userpools",
		"organization-manager.samlApplication":  "organization-manager.samlApplications",
		"organization-manager.oauthApplication": "organization-manager.oauthApplications",
		"billing.account":                       "billing.accounts",
		"marketplace.publisher":                 "marketplace.publishers",
		"marketplace.product":                   "marketplace.products",
		"marketplace.productInstance":           "marketplace.productInstances",
		"kms.key":                               "kms.keys",
	} {
		for _, verb := range []string{"listAccessBindings", "updateAccessBindings"} {
			want := prefix + "." + verb
			if got, ok := c.PermissionFor(rt, verb); !ok || got != want {
				t.Errorf("PermissionFor(%s, %s) = %q, %t, want %q", rt, verb, got, ok, want)
			}
			if !c.KnownPermission(want) {
				t.Errorf("%s is not catalogued", want)
			}
		}
		if got, _ := c.ResourceType(rt); !got.Bindings {
			t.Errorf("%s carries no bindings", rt)
		}
	}
}

func TestPR1_PrimitiveRolesContainOneAnother(t *testing.T) {
	c := mustLoad(t)
	chain := []string{"auditor", "viewer", "editor", "admin"} // AS-18
	for i, id := range chain {
		wide, ok := c.Role(id)
		if !ok || wide.Kind != Primitive {
			t.Fatalf("%s is not a primitive role", id)
		}
		for _, inside := range chain[:i] {
			narrow, _ := c.Role(inside)
			for _, p := range narrow.Permissions {
				if !slices.Contains(wide.Permissions, p) {
					t.Errorf("%s lacks %s of %s", id, p, inside)
				}
			}
		}
	}
}

func TestPG3_PG5_RolesThatGroupsMayNotHold(t *testing.T) {
	c := mustLoad(t)
	public, any := []SubjectClass{PublicGroups, SystemGroups}, []SubjectClass{PublicGroups, SystemGroups, Groups}
	want := map[string][]SubjectClass{
		"resource-manager.clouds.owner": public, "resource-manager.clouds.member": public,
		"organization-manager.organizations.owner": any, "billing.accounts.owner": any,
	}
	got := map[string][]SubjectClass{}
	for _, r := range c.Roles() {
		if len(r.NotForSubjects) > 0 {
			got[r.ID] = r.NotForSubjects
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("roles kept from groups (-want +got):\n%s", d)
	}
}

func TestAS_WhereRolesMayBeSet(t *testing.T) {
	const (
		org, cloud, folder = "organization-manager.organization", "resource-manager.cloud", "resource-manager.folder"
		group, account     = "organization-manager.group", "billing.account"
	)
	c := mustLoad(t)
	for _, row := range []struct {
		rule, role string
		on         []string
	}{
		{"AS-9", "kms.admin", []string{"kms.key", org, cloud, folder}},
		{"AS-9", "iam.serviceAccounts.admin", []string{"iam.serviceAccount", org, cloud, folder}},
		{"AS-10", "resource-manager.clouds.owner", []string{cloud}},
		{"AS-10", "resource-manager.clouds.member", []string{cloud}},
		{"AS-11", "iam.userAccounts.refreshTokenViewer", []string{org}},
		{"AS-11", "iam.userAccounts.refreshTokenRevoker", []string{org}},
		{"AS-11", "organization-manager.organizations.owner", []string{org}},
		{"AS-12", "organization-manager.groups.admin", []string{group, org}},
		{"AS-13", "billing.usagerecords.admin", []string{org, cloud, folder}},
		{"AS-14", "billing.accounts.viewer", []string{account, org}},
		{"AS-15", "billing.accounts.customer", nil},
		{"AS-15", "marketplace.publishers.owner", nil},
		{"AS-16", "audit-trails.configViewer", nil},
		{"AS-16", "organization-manager.idpInstances.admin", nil},
		{"AS-17", "my.own.role", nil},
	} {
		var got []string
		for _, rt := range c.ResourceTypes() {
			if c.Assignable(row.role, rt.ID) {
				got = append(got, rt.ID)
			}
		}
		slices.Sort(row.on)
		if d := cmp.Diff(row.on, got); d != "" {
			t.Errorf("%s: %s may be set on (-want +got):\n%s", row.rule, row.role, d)
		}
	}
}

func TestAS5_AS6_AS7_OwnersAreAssignedByOwners(t *testing.T) {
	c := mustLoad(t)
	want := map[string]string{
		"resource-manager.clouds.owner":            "resource-manager.clouds.assignOwner",
		"organization-manager.organizations.owner": "organization-manager.organizations.assignOwner",
		"billing.accounts.owner":                   "billing.accounts.assignOwner",
	}
	got, protected := map[string]string{}, []string(nil)
	for _, r := range c.Roles() {
		if r.AssignPermission != "" {
			got[r.ID] = r.AssignPermission
		}
		if r.LastHolderProtected {
			protected = append(protected, r.ID)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("roles that owners assign (-want +got):\n%s", d)
	}
	owners := []string{"billing.accounts.owner", "organization-manager.organizations.owner", "resource-manager.clouds.owner"}
	if d := cmp.Diff(owners, protected); d != "" {
		t.Errorf("OW-1, OW-4: roles whose last holder stays (-want +got):\n%s", d)
	}
	holders := func(p string) (ids []string) {
		for _, r := range c.Roles() {
			if slices.Contains(r.Permissions, p) {
				ids = append(ids, r.ID)
			}
		}
		return ids
	}
	for permission, want := range map[string][]string{ // AS-4: admin is nowhere; OW-6: the owner of the organization is everywhere
		"resource-manager.clouds.assignOwner":            {"organization-manager.organizations.owner", "resource-manager.clouds.owner"},
		"organization-manager.organizations.assignOwner": {"organization-manager.organizations.owner"},
		"billing.accounts.assignOwner":                   {"billing.accounts.owner", "organization-manager.organizations.owner"},
	} {
		if d := cmp.Diff(want, holders(permission)); d != "" {
			t.Errorf("holders of %s (-want +got):\n%s", permission, d)
		}
	}
}

func TestLookups(t *testing.T) {
	c := mustLoad(t)
	again, err := Load()
	if err != nil || again != c {
		t.Errorf("Load parses twice: %v", err)
	}
	if _, ok := c.Role("my.own.role"); ok {
		t.Error("my.own.role is a role")
	}
	if r, _ := c.Role("billing.accounts.customer"); !r.ByPlatform || r.Public {
		t.Errorf("billing.accounts.customer: %+v", r)
	}
	if r, _ := c.Role("audit-trails.configViewer"); !r.Deprecated || r.ReplacedBy != "audit-trails.auditor" {
		t.Errorf("audit-trails.configViewer: %+v", r)
	}
	if p, ok := c.Permission("resource-manager.folders.create"); !ok || p.CheckedOn != "resource-manager.cloud" {
		t.Errorf("resource-manager.folders.create is checked on %q", p.CheckedOn)
	}
	if _, ok := c.Permission("doc.get"); ok || c.KnownPermission("doc.get") {
		t.Error("doc.get is a permission")
	}
	roles, permissions := c.Matrix()
	if len(roles) != len(c.Roles()) || len(permissions) != len(c.Permissions()) {
		t.Errorf("Matrix has %d roles and %d permissions, the lists %d and %d", len(roles), len(permissions), len(c.Roles()), len(c.Permissions()))
	}
	if !slices.IsSorted(permissions) || !slices.IsSortedFunc(c.Roles(), func(a, b Role) int { return strings.Compare(a.ID, b.ID) }) {
		t.Error("a list is not ordered")
	}
}

// TestQL_Defaults is the table QL of the rules: what exists here, with the numbers
// of the pages. The one that differs is named.
func TestQL_Defaults(t *testing.T) {
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{
		QuotaClouds:               1000, // C-3
		QuotaFolders:              50,
		QuotaMemberships:          10000,
		QuotaSubjectOrganizations: 100,
		QuotaOrganizations:        10,
		QuotaInvites:              100,
		QuotaFederations:          10,
		QuotaCertificates:         100,
		QuotaFederatedUsers:       10000,
		QuotaAccessBindings:       100000, // the page says 2000 (AB-13); ours is higher
		QuotaGroups:               100,
		QuotaGrantPolicies:        1000,
		QuotaGroupMembers:         1000,
		QuotaSubjectGroups:        1000,
		QuotaBillingAccounts:      10,
		QuotaServiceAccounts:      100,
		QuotaAPIKeys:              1000,
		QuotaAuthorizedKeys:       1000,
		QuotaAccessKeys:           1000,
		QuotaOAuthClients:         100, // ours
		QuotaOsLoginProfiles:      4000,
		QuotaWorkloadFederations:  50,
		QuotaFederatedCredentials: 200,
	}
	got := map[string]int64{}
	for _, q := range c.Quotas() {
		got[q.ID] = q.Limit
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}
