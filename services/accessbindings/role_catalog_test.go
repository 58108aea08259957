package accessbindings

import (
	"slices"
	"testing"

	"google.golang.org/grpc/codes"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

func TestGetRoleContents(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		c := testCatalog(t)
		roles := accessv1.NewRoleCatalogServiceClient(w.Conn)
		get := func(id string, expand bool) *accessv1.GetRoleContentsResponse {
			t.Helper()
			resp, err := roles.GetRoleContents(w.User(nick.ID), &accessv1.GetRoleContentsRequest{RoleId: id, Expand: expand})
			w.must(err)
			return resp
		}
		all := get(editor, true)
		want, _ := c.Role(editor)
		if !slices.Equal(all.GetPermissions(), want.Permissions) || int(all.GetRole().GetPermissionCount()) != len(want.Permissions) {
			t.Errorf("expanded: %d permissions, want %d", len(all.GetPermissions()), len(want.Permissions))
		}
		own := get(editor, false)
		if !slices.Contains(own.GetIncludes(), viewer) || len(own.GetPermissions()) == 0 {
			t.Fatalf("editor is made of %v and %v", own.GetIncludes(), own.GetPermissions())
		}
		together := slices.Clone(own.GetPermissions()) // with what it includes, it is all
		for _, id := range own.GetIncludes() {
			for _, p := range get(id, true).GetPermissions() {
				if slices.Contains(own.GetPermissions(), p) {
					t.Errorf("%s is in %s already", p, id)
				}
				together = append(together, p)
			}
		}
		slices.Sort(together)
		if !slices.Equal(slices.Compact(together), want.Permissions) {
			t.Error("its own permissions and those that it includes are not all of them")
		}
		if got := get(cloudOwner, false).GetAssignableOn(); !slices.Equal(got, []string{typeCloud}) {
			t.Errorf("%s can be set on %v", cloudOwner, got)
		}
		for _, id := range []string{"none", "billing.accounts.customer"} {
			r, listed := c.Role(id)
			if listed && r.Public {
				continue
			}
			_, err := roles.GetRoleContents(w.User(nick.ID), &accessv1.GetRoleContentsRequest{RoleId: id})
			refused(t, err, codes.NotFound, ReasonRoleNotFound)
		}
	})
}

func TestRolesByPermissionAndByType(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		c := testCatalog(t)
		roles := accessv1.NewRoleCatalogServiceClient(w.Conn)
		var holding, fitting []string
		for _, r := range c.Roles() {
			if r.Public && slices.Contains(r.Permissions, getFolder) {
				holding = append(holding, r.ID)
			}
			if r.Public && c.Assignable(r.ID, typeGroup) {
				fitting = append(fitting, r.ID)
			}
		}
		ids := func(roles []*accessv1.RoleDescription) (all []string) {
			for _, r := range roles {
				all = append(all, r.GetId())
			}
			return all
		}
		for _, size := range []int64{0, 1, 3} {
			var got []string
			byPermission := &accessv1.ListRolesByPermissionRequest{Permission: getFolder, PageSize: size}
			for {
				resp, err := roles.ListRolesByPermission(w.User(nick.ID), byPermission)
				w.must(err)
				got = append(got, ids(resp.GetRoles())...)
				if byPermission.PageToken = resp.GetNextPageToken(); byPermission.GetPageToken() == "" {
					break
				}
			}
			if len(got) < 5 || !slices.Equal(got, holding) {
				t.Errorf("roles with %s: %v, want %v", getFolder, got, holding)
			}
			got = nil
			byType := &accessv1.ListAssignableRolesRequest{ResourceType: typeGroup, PageSize: size}
			for {
				resp, err := roles.ListAssignableRoles(w.User(nick.ID), byType)
				w.must(err)
				got = append(got, ids(resp.GetRoles())...)
				if byType.PageToken = resp.GetNextPageToken(); byType.GetPageToken() == "" {
					break
				}
			}
			if len(got) < 5 || !slices.Equal(got, fitting) || slices.Contains(got, cloudOwner) {
				t.Errorf("roles for groups: %v, want %v", got, fitting)
			}
		}
		_, err := roles.ListRolesByPermission(w.User(nick.ID), &accessv1.ListRolesByPermissionRequest{Permission: "folders.eat"})
		refused(t, err, codes.NotFound, "PERMISSION_NOT_FOUND")
		_, err = roles.ListAssignableRoles(w.User(nick.ID), &accessv1.ListAssignableRolesRequest{ResourceType: "a.b"})
		refused(t, err, codes.NotFound, "RESOURCE_TYPE_NOT_FOUND")
	})
}
