package accessbindings

import (
	"context"
	"slices"
	"strings"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

// Roles is yandex.cloud.iam.v1.RoleService: it shows the roles that a person can
// give. There is no way to make one (AS-17).
type Roles struct {
	iamv1.UnimplementedRoleServiceServer
	catalog *catalog.Catalog
	pages   *page.Sealer
}

// Get reads a role. Fails: ROLE_NOT_FOUND, also for roles of the platform.
func (s *Roles) Get(_ context.Context, req *iamv1.GetRoleRequest) (*iamv1.Role, error) {
	r, ok := s.catalog.Role(req.GetRoleId())
	if !ok || !r.Public {
		return nil, apierr.NotFound(ReasonRoleNotFound, "role %q not found", req.GetRoleId())
	}
	return roleProto(r), nil
}

// List lists the roles ordered by id. The filter is by id or name, which are the
// same.
func (s *Roles) List(_ context.Context, req *iamv1.ListRolesRequest) (*iamv1.ListRolesResponse, error) {
	only, err := filter.Parse(req.GetFilter(), "id", "name")
	if err != nil {
		return nil, err
	}
	scope := []string{"ListRoles", only.Value}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	roles := s.catalog.Roles()
	start := min(int(after.Time), len(roles))
	size := page.Size(req.GetPageSize())
	resp := new(iamv1.ListRolesResponse)
	for i, r := range roles[start:] {
		if !r.Public || only.Field != "" && r.ID != only.Value {
			continue
		}
		if len(resp.GetRoles()) == size {
			resp.NextPageToken, err = s.pages.Seal(page.Position{Time: int64(start + i)}, scope...)
			return resp, err
		}
		resp.Roles = append(resp.Roles, roleProto(r))
	}
	return resp, nil
}

func roleProto(r catalog.Role) *iamv1.Role {
	return &iamv1.Role{Id: r.ID, Description: r.Description}
}

// roleBook is the catalogue as the rules and the plans of writes read it.
type roleBook struct {
	*catalog.Catalog
	roles map[string]rules.Role
}

func newRoleBook(c *catalog.Catalog) *roleBook {
	b := &roleBook{Catalog: c, roles: make(map[string]rules.Role)}
	for _, r := range c.Roles() {
		b.roles[r.ID] = rules.Role{
			ID: r.ID, Withdrawn: r.Deprecated, ByPlatform: !r.Public || slices.Contains(r.AssignableBy, "system"),
			AssignableOn: r.AssignableOn, Permissions: r.Permissions, Assign: r.AssignPermission, Owns: ownedType(r), Holders: holdersOf(r),
		}
	}
	return b
}

// ownedType is the type that an owner role is named after: billing.account for
// billing.accounts.owner. "" for a role whose last holder is not protected.
func ownedType(r catalog.Role) string {
	if !r.LastHolderProtected {
		return ""
	}
	return strings.TrimSuffix(r.ID[:strings.LastIndexByte(r.ID, '.')], "s")
}

func holdersOf(r catalog.Role) rules.Holders {
	switch {
	case slices.Contains(r.NotForSubjects, catalog.Groups):
		return rules.NoGroups
	case len(r.NotForSubjects) > 0:
		return rules.NoSystemGroups
	default:
		return rules.Anybody
	}
}

// role returns what the rules know of a role. One that is not catalogued any more
// is a bare id, under which its bindings can be removed (AS-16).
func (b *roleBook) role(id string) (r rules.Role, listed bool) {
	if r, listed = b.roles[id]; !listed {
		r.ID = id
	}
	return r, listed
}

// permission returns the permission to do verb with resources of a type; "" when
// there is none, which nobody holds.
func (b *roleBook) permission(resourceType, verb string) string {
	p, _ := b.PermissionFor(resourceType, verb)
	return p
}

// viewPermission is what shows operations on a resource to others than their maker.
func (b *roleBook) viewPermission(resourceType string) string {
	if p, ok := b.PermissionFor(resourceType, "get"); ok {
		return p
	}
	return b.permission(resourceType, "listAccessBindings")
}
