package catalog

import (
	"slices"
	"strings"
	"testing"
)

// TestSC18_PermissionSets names the sets of the second provider once more, and what
// the mapping says of the partner's.
func TestSC18_PermissionSets(t *testing.T) {
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	want := map[SetScope][]string{
		OfOrganization: {
			"AuditTrailReadOnly", "BillingManager", "BillingReadOnly", "IAMApplicationManager", "IAMApplicationReadOnly", "IAMGroupManager",
			"IAMGroupReadOnly", "IAMManager", "IAMPolicyManager", "IAMPolicyReadOnly", "IAMReadOnly", "IAMUserManager", "IAMUserReadOnly",
			"OrganizationManager", "OrganizationReadOnly", "ProjectManager", "ProjectReadOnly", "ResellerFullAccess",
		},
		OfProjects: {"AllProductsFullAccess", "AllProductsReadOnly", "KeyManagerFullAccess", "KeyManagerReadOnly"},
	}
	got := map[SetScope][]string{}
	for _, s := range c.PermissionSets() {
		got[s.Scope] = append(got[s.Scope], s.ID)
	}
	for scope := range want {
		if !slices.Equal(got[scope], want[scope]) {
			t.Errorf("sets of %s: %v, want %v", scope, got[scope], want[scope])
		}
	}
	if s, _ := c.PermissionSet("ResellerFullAccess"); !slices.Equal(s.Roles, []string{"billing.accounts.partnerAdmin"}) {
		t.Errorf("ResellerFullAccess gives %v", s.Roles)
	}
	within := func(inner, outer string) {
		t.Helper()
		for _, p := range held(c, inner) {
			if !slices.Contains(held(c, outer), p) {
				t.Errorf("%s gives %s, %s does not", inner, p, outer)
			}
		}
	}
	within("ProjectManager", "IAMManager") // SC-18: with all of ProjectManager
	for _, s := range []string{"ProjectManager", "IAMManager", "BillingManager", "IAMGroupManager"} {
		within(s, "OrganizationManager")
	}
	if slices.ContainsFunc(held(c, "OrganizationManager"), func(p string) bool { return strings.HasPrefix(p, "kms.") }) {
		t.Error("OrganizationManager reaches resources")
	}
}

// held are all permissions that a set gives.
func held(c *Catalog, set string) (all []string) {
	s, _ := c.PermissionSet(set)
	for _, id := range s.Roles {
		r, _ := c.Role(id)
		all = append(all, r.Permissions...)
	}
	return all
}

// TestPermissionSetsAreChecked gives the parser what it must refuse.
func TestPermissionSetsAreChecked(t *testing.T) {
	const good = "{id: A, scope: projects, description: D, roles: [viewer]}"
	for _, test := range []struct{ name, sets, want string }{
		{"good", good, ""},
		{"twice", good + ", " + good, "listed twice"},
		{"another scope", "{id: A, scope: galaxy, description: D, roles: [viewer]}", "needs a scope"},
		{"no roles", "{id: A, scope: projects, description: D, roles: []}", "and roles"},
		{"an unknown role", "{id: A, scope: projects, description: D, roles: [tsar]}", "cannot be given"},
		{"a role of another type", "{id: A, scope: organization, description: D, roles: [resource-manager.clouds.member]}", "cannot be given"},
		{"an owner role", "{id: A, scope: organization, description: D, roles: [organization-manager.organizations.owner]}", "cannot be given"},
		{"a bad id", "{id: a b, scope: projects, description: D, roles: [viewer]}", "letters and digits"},
		{"an unknown field", "{id: A, scope: projects, description: D, roles: [viewer], color: red}", "unknown field"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := Parse(rolesYAML, permissionsYAML, policiesYAML, quotasYAML, scopesYAML)
			if err != nil {
				t.Fatal(err)
			}
			err = c.takeSets([]byte("version: 1\npermission_sets: [" + test.sets + "]\n"))
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
