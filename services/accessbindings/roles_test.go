package accessbindings

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

func TestRoleService(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ctx := w.User(nick.ID)
		role, err := w.roles.Get(ctx, &iamv1.GetRoleRequest{RoleId: viewer})
		w.must(err)
		if role.GetId() != viewer || role.GetDescription() == "" {
			t.Errorf("role %v", role)
		}
		for _, id := range []string{"no.such.role", "billing.accounts.customer"} {
			_, err := w.roles.Get(ctx, &iamv1.GetRoleRequest{RoleId: id})
			refused(t, err, codes.NotFound, ReasonRoleNotFound)
		}
		var all []string
		req := &iamv1.ListRolesRequest{PageSize: 7}
		for {
			resp, err := w.roles.List(ctx, req)
			w.must(err)
			for _, r := range resp.GetRoles() {
				all = append(all, r.GetId())
			}
			if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
				break
			}
		}
		var want []string
		for _, r := range testCatalog(t).Roles() {
			if r.Public {
				want = append(want, r.ID)
			}
		}
		if !slices.Equal(all, want) || !slices.IsSorted(all) {
			t.Errorf("%d roles listed, %d are public", len(all), len(want))
		}
		resp, err := w.roles.List(ctx, &iamv1.ListRolesRequest{Filter: `id = "viewer"`})
		w.must(err)
		if len(resp.GetRoles()) != 1 || resp.GetNextPageToken() != "" {
			t.Errorf("filtered: %v", resp)
		}
		_, err = w.roles.List(ctx, &iamv1.ListRolesRequest{Filter: `colour = "red"`})
		refused(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
		_, err = w.roles.List(t.Context(), &iamv1.ListRolesRequest{})
		refused(t, err, codes.Unauthenticated, "TOKEN_MISSING")
	})
}

// holders lists the roles that hold a permission.
func holders(t *testing.T, permission string) []string {
	t.Helper()
	var out []string
	for _, r := range testCatalog(t).Roles() {
		if slices.Contains(r.Permissions, permission) {
			out = append(out, r.ID)
		}
	}
	return out
}

// hold checks who holds the permission to update the bindings of a type.
func hold(t *testing.T, resourceType string, yes, no []string) {
	t.Helper()
	permission := newRoleBook(testCatalog(t)).permission(resourceType, "updateAccessBindings")
	have := holders(t, permission)
	for _, role := range yes {
		if !slices.Contains(have, role) {
			t.Errorf("%s does not hold %s", role, permission)
		}
	}
	for _, role := range no {
		if slices.Contains(have, role) {
			t.Errorf("%s holds %s", role, permission)
		}
	}
}

func TestAS1_TheRolesThatManageAccess(t *testing.T) {
	managers := []string{admin, "organization-manager.admin", orgOwner}
	hold(t, typeFolder, append(managers, "resource-manager.admin", cloudOwner), []string{editor, viewer, "auditor", "iam.serviceAccounts.admin"})
	hold(t, "resource-manager.cloud", append(managers, "resource-manager.admin", cloudOwner), []string{editor, "resource-manager.editor"})
	hold(t, typeOrganization, managers, []string{editor, "resource-manager.admin"})
}

func TestAS2_TheRolesThatManageServiceAccounts(t *testing.T) {
	hold(t, typeServiceAccount, []string{admin, "iam.admin", "iam.serviceAccounts.admin"}, []string{"iam.editor", "iam.serviceAccounts.user"})
	hold(t, "iam.workloadIdentityFederation", []string{admin, "iam.admin"}, []string{"iam.serviceAccounts.admin"})
}

func TestAS8_EditorAssignsNothing(t *testing.T) {
	for _, typ := range testCatalog(t).ResourceTypes() {
		if typ.Bindings {
			hold(t, typ.ID, nil, []string{"auditor", viewer, editor})
		}
	}
}

func TestAS15_TheRolesOfThePlatform(t *testing.T) {
	var got []string
	for id, r := range newRoleBook(testCatalog(t)).roles {
		if r.ByPlatform {
			got = append(got, id)
		}
	}
	slices.Sort(got)
	if want := []string{"billing.accounts.customer", "marketplace.products.user", "marketplace.publishers.owner"}; !slices.Equal(got, want) {
		t.Errorf("given by the platform alone: %v, want %v", got, want)
	}
}

func TestAS17_NobodyMakesRoles(t *testing.T) {
	var methods []string
	for _, m := range iamv1.RoleService_ServiceDesc.Methods {
		methods = append(methods, m.MethodName)
	}
	if !slices.Equal(methods, []string{"Get", "List"}) {
		t.Errorf("RoleService has %v", methods)
	}
}

func TestAS18_RoleIDs(t *testing.T) {
	form := regexp.MustCompile(`^[a-z][a-z0-9-]*(\.[a-zA-Z0-9]+){1,2}$`)
	for _, r := range testCatalog(t).Roles() {
		if primitive := slices.Contains(rules.Primitive, r.ID); !primitive && !form.MatchString(r.ID) {
			t.Errorf("%q is neither primitive nor service.resources.role", r.ID)
		}
	}
	for i, wider := range rules.Primitive[1:] {
		w, _ := testCatalog(t).Role(wider)
		n, _ := testCatalog(t).Role(rules.Primitive[i])
		for _, p := range n.Permissions {
			if !slices.Contains(w.Permissions, p) {
				t.Errorf("%s lacks %s of %s", wider, p, n.ID)
			}
		}
	}
}

func TestPG3_PG5_WhoMayHoldOwnerRoles(t *testing.T) {
	want := map[string]rules.Holders{
		cloudOwner: rules.NoSystemGroups, "resource-manager.clouds.member": rules.NoSystemGroups,
		orgOwner: rules.NoGroups, "billing.accounts.owner": rules.NoGroups,
	}
	for id, r := range newRoleBook(testCatalog(t)).roles {
		if r.Holders != want[id] {
			t.Errorf("%s may be held as %d, want %d", id, r.Holders, want[id])
		}
	}
}

func TestOW4_WhatKeepsItsOwner(t *testing.T) {
	want := map[string]string{cloudOwner: "resource-manager.cloud", orgOwner: typeOrganization, "billing.accounts.owner": typeBillingAccount}
	for id, r := range newRoleBook(testCatalog(t)).roles {
		if r.Owns != want[id] {
			t.Errorf("%s owns %q, want %q", id, r.Owns, want[id])
		}
		if owner := want[id] != ""; owner && (r.Assign == "" || !strings.HasSuffix(r.Assign, ".assignOwner")) {
			t.Errorf("%s is assigned by %q", id, r.Assign)
		}
	}
}

func TestOW5_OW6_OwnersHoldAllBelow(t *testing.T) {
	role := func(id string) []string { r, _ := testCatalog(t).Role(id); return r.Permissions }
	for _, p := range role(admin) {
		if !slices.Contains(role(cloudOwner), p) {
			t.Errorf("the cloud owner lacks %s of admin", p)
		}
	}
	for _, lower := range []string{cloudOwner, admin, "billing.accounts.owner", "organization-manager.admin"} {
		for _, p := range role(lower) {
			if !slices.Contains(role(orgOwner), p) {
				t.Errorf("the organization owner lacks %s of %s", p, lower)
			}
		}
	}
}

func TestOW7_OW8_WhoDoesNotOwn(t *testing.T) {
	for _, p := range []string{"organization-manager.organizations.assignOwner", "organization-manager.organizations.delete", "resource-manager.clouds.assignOwner"} {
		for _, role := range []string{editor, admin, "resource-manager.admin", "organization-manager.admin"} {
			if slices.Contains(holders(t, p), role) {
				t.Errorf("OW-7: %s holds %s", role, p)
			}
		}
	}
	for _, p := range []string{"resource-manager.clouds.listAccessBindings", getFolder} {
		if slices.Contains(holders(t, p), "resource-manager.clouds.member") {
			t.Errorf("OW-8: the member of a cloud holds %s", p)
		}
	}
}
