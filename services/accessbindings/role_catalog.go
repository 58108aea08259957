package accessbindings

import (
	"context"
	"slices"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/page"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// RoleCatalog is bindery.access.v1.RoleCatalogService: what roles are made of.
type RoleCatalog struct {
	accessv1.UnsafeRoleCatalogServiceServer // a missing method does not compile
	catalog                                 *catalog.Catalog
	pages                                   *page.Sealer
}

func describe(r catalog.Role) *accessv1.RoleDescription {
	return &accessv1.RoleDescription{
		Id: r.ID, Description: r.Description, Deprecated: r.Deprecated, ReplacedBy: r.ReplacedBy,
		PermissionCount: int32(len(r.Permissions)), //nolint:gosec // hundreds
	}
}

// GetRoleContents reads what a role is made of. Fails: ROLE_NOT_FOUND, also for
// roles of the platform.
func (s *RoleCatalog) GetRoleContents(_ context.Context, req *accessv1.GetRoleContentsRequest) (*accessv1.GetRoleContentsResponse, error) {
	r, ok := s.catalog.Role(req.GetRoleId())
	if !ok || !r.Public {
		return nil, apierr.NotFound(ReasonRoleNotFound, "role %q not found", req.GetRoleId())
	}
	resp := &accessv1.GetRoleContentsResponse{
		Role: describe(r), Includes: r.Includes, Permissions: r.Permissions, AssignableOn: slices.Sorted(slices.Values(r.AssignableOn)),
	}
	if req.GetExpand() {
		return resp, nil
	}
	resp.Permissions = slices.DeleteFunc(slices.Clone(r.Permissions), func(p string) bool {
		return slices.ContainsFunc(r.Includes, func(id string) bool {
			included, _ := s.catalog.Role(id)
			return slices.Contains(included.Permissions, p)
		})
	})
	return resp, nil
}

// ListRolesByPermission lists the roles that hold a permission. Fails:
// PERMISSION_NOT_FOUND.
func (s *RoleCatalog) ListRolesByPermission(_ context.Context, req *accessv1.ListRolesByPermissionRequest) (*accessv1.ListRolesByPermissionResponse, error) {
	if !s.catalog.KnownPermission(req.GetPermission()) {
		return nil, apierr.NotFound("PERMISSION_NOT_FOUND", "permission %q not found", req.GetPermission())
	}
	roles, token, err := s.page(req, []string{"ListRolesByPermission", req.GetPermission()}, func(r catalog.Role) bool {
		return slices.Contains(r.Permissions, req.GetPermission())
	})
	if err != nil {
		return nil, err
	}
	return &accessv1.ListRolesByPermissionResponse{Roles: roles, NextPageToken: token}, nil
}

// ListAssignableRoles lists the roles that can be set by hand on resources of a
// type (AS-9 to AS-16). Fails: RESOURCE_TYPE_NOT_FOUND.
func (s *RoleCatalog) ListAssignableRoles(_ context.Context, req *accessv1.ListAssignableRolesRequest) (*accessv1.ListAssignableRolesResponse, error) {
	if _, ok := s.catalog.ResourceType(req.GetResourceType()); !ok {
		return nil, apierr.NotFound("RESOURCE_TYPE_NOT_FOUND", "type of resource %q not found", req.GetResourceType())
	}
	roles, token, err := s.page(req, []string{"ListAssignableRoles", req.GetResourceType()}, func(r catalog.Role) bool {
		return s.catalog.Assignable(r.ID, req.GetResourceType())
	})
	if err != nil {
		return nil, err
	}
	return &accessv1.ListAssignableRolesResponse{Roles: roles, NextPageToken: token}, nil
}

// page lists the roles that people can have and that match, ordered by id.
func (s *RoleCatalog) page(req interface {
	GetPageSize() int64
	GetPageToken() string
}, scope []string, match func(catalog.Role) bool) ([]*accessv1.RoleDescription, string, error) {
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, "", err
	}
	size := page.Size(req.GetPageSize())
	all := s.catalog.Roles()
	start := min(int(after.Time), len(all))
	var roles []*accessv1.RoleDescription
	for i, r := range all[start:] {
		if !r.Public || !match(r) {
			continue
		}
		if len(roles) == size {
			token, err := s.pages.Seal(page.Position{Time: int64(start + i)}, scope...)
			return roles, token, err
		}
		roles = append(roles, describe(r))
	}
	return roles, "", nil
}
