package catalog

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The golden file shows what each scope lets a key do.
func TestScopes_Golden(t *testing.T) {
	var got strings.Builder
	for _, s := range mustLoad(t).Scopes() {
		fmt.Fprintf(&got, "%s: %s\n", s.ID, s.Description)
		if s.ID == mustLoad(t).DefaultScope() {
			got.WriteString("  everything\n")
			continue
		}
		for _, p := range s.Permissions {
			fmt.Fprintf(&got, "  %s\n", p)
		}
	}
	golden(t, "testdata/scopes.golden", got.String())
}

func TestSK4_ScopesCoverTheirPermissions(t *testing.T) {
	c := mustLoad(t)
	for _, tt := range []struct {
		scopes     []string
		permission string
		want       bool
	}{
		{nil, "iam.serviceAccounts.get", false},
		{[]string{"yc.unknown.manage"}, "iam.serviceAccounts.get", false},
		{[]string{"yc.iam.view"}, "iam.serviceAccounts.get", true},
		{[]string{"yc.iam.view"}, "iam.serviceAccounts.delete", false},
		{[]string{"yc.iam.view"}, "resource-manager.folders.get", false},
		{[]string{"yc.iam.view", "yc.resource-manager.manage"}, "resource-manager.folders.delete", true},
		{[]string{"yc.all.view"}, "resource-manager.folders.listAccessBindings", true},
		{[]string{"yc.all.view"}, "resource-manager.folders.updateAccessBindings", false},
		{[]string{"yc.iam.manage"}, "not.in.catalogue", false},
	} {
		if got := c.Covers(tt.scopes, tt.permission); got != tt.want {
			t.Errorf("%v cover %s: %t, want %t", tt.scopes, tt.permission, got, tt.want)
		}
	}
	for _, p := range c.Permissions() {
		if !c.Covers([]string{c.DefaultScope()}, p.ID) {
			t.Errorf("the default scope does not cover %s", p.ID)
		}
	}
	if _, ok := c.Scope(c.DefaultScope()); !ok {
		t.Error("the default scope is not listed")
	}
	ids := make([]string, 0, len(c.Scopes()))
	for _, s := range c.Scopes() {
		ids = append(ids, s.ID)
	}
	if !slices.IsSorted(ids) || len(ids) < 2 {
		t.Errorf("the scopes are %v", ids)
	}
}
