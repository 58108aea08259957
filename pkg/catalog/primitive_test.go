package catalog

import (
	"slices"
	"strings"
	"testing"
)

// rightsOf are the permissions of a role, inclusions expanded.
func rightsOf(t *testing.T, c *Catalog, role string) []string {
	t.Helper()
	r, listed := c.Role(role)
	if !listed {
		t.Fatalf("there is no role %s", role)
	}
	return r.Permissions
}

// within fails the test for each permission of the first role that the second lacks.
func within(t *testing.T, c *Catalog, inner, outer string) {
	t.Helper()
	wide := rightsOf(t, c, outer)
	for _, p := range rightsOf(t, c, inner) {
		if !slices.Contains(wide, p) {
			t.Errorf("%s holds %s, and %s does not", inner, p, outer)
		}
	}
}

// TestPR2_AuditorsReadNoData: an auditor looks and lists; what trails and keys hide it does
// not read.
func TestPR2_AuditorsReadNoData(t *testing.T) {
	c := mustLoad(t)
	auditor := rightsOf(t, c, "auditor")
	for _, p := range auditor {
		verb := p[strings.LastIndexByte(p, '.')+1:]
		if !strings.HasPrefix(verb, "get") && !strings.HasPrefix(verb, "list") && !slices.Contains(mereSights, p) {
			t.Errorf("an auditor may %s", p)
		}
	}
	for _, p := range []string{"kms.keys.decrypt", "audit-trails.logs.read"} {
		if !c.KnownPermission(p) {
			t.Errorf("there is no permission %s", p)
		}
		if slices.Contains(auditor, p) {
			t.Errorf("an auditor holds %s", p)
		}
	}
}

// mereSights are permissions of auditors that look, by another word.
var mereSights = []string{"iam.access.check", "iam.access.explain"}

// TestPR3_WhoDeletesKeys: of the wide roles of key management and of all, the administrators.
func TestPR3_WhoDeletesKeys(t *testing.T) {
	c := mustLoad(t)
	for role, want := range map[string]bool{"editor": false, "kms.editor": false, "kms.admin": true, "admin": true} {
		if got := slices.Contains(rightsOf(t, c, role), "kms.keys.delete"); got != want {
			t.Errorf("%s deletes keys: %v, want %v", role, got, want)
		}
	}
}

// TestPR4_PT25_PrimitiveRolesOnBillingAccounts: each is the billing role of its name, and an
// auditor a viewer within limits: one who sees the account and none of its money. Who may be
// given one is AS-20.
func TestPR4_PT25_PrimitiveRolesOnBillingAccounts(t *testing.T) {
	c := mustLoad(t)
	for primitive, role := range map[string]string{
		"viewer": "billing.accounts.viewer", "editor": "billing.accounts.editor", "admin": "billing.accounts.admin",
	} {
		want := ofBilling(rightsOf(t, c, role))
		if got := ofBilling(rightsOf(t, c, primitive)); !slices.Equal(got, want) {
			t.Errorf("%s holds %q of billing, and %s %q", primitive, got, role, want)
		}
	}
	if got := ofBilling(rightsOf(t, c, "auditor")); !slices.Equal(got, []string{"billing.accounts.get", "billing.accounts.list"}) {
		t.Errorf("an auditor holds %q of billing", got)
	}
	within(t, c, "billing.accounts.member", "auditor")
}

// ofBilling are the permissions of billing accounts and of what stands on them.
func ofBilling(permissions []string) []string {
	return slices.DeleteFunc(slices.Clone(permissions), func(p string) bool { return !strings.HasPrefix(p, "billing.") })
}

// TestPR5_WideRolesUseServiceAccounts, as iam.serviceAccounts.user does.
func TestPR5_WideRolesUseServiceAccounts(t *testing.T) {
	c := mustLoad(t)
	for _, wide := range []string{"editor", "admin", "resource-manager.clouds.owner"} {
		within(t, c, "iam.serviceAccounts.user", wide)
	}
}

// TestPR6_WideRolesRequestQuotas, as quota-manager.requestOperator does.
func TestPR6_WideRolesRequestQuotas(t *testing.T) {
	c := mustLoad(t)
	for _, wide := range []string{"editor", "admin"} {
		within(t, c, "quota-manager.requestOperator", wide)
	}
}

// TestPR7_IdentityRolesKeepFolders: surprising, and kept.
func TestPR7_IdentityRolesKeepFolders(t *testing.T) {
	c := mustLoad(t)
	for _, role := range []string{"iam.editor", "iam.admin"} {
		for _, p := range []string{"create", "update", "delete"} {
			if !slices.Contains(rightsOf(t, c, role), "resource-manager.folders."+p) {
				t.Errorf("%s does not %s folders", role, p)
			}
		}
	}
}
