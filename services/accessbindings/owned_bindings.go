package accessbindings

import (
	"context"

	"github.com/bindery-iam/bindery/pkg/apierr"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// ListOwnedBindings lists the bindings of a resource for the unit that owns it. Fails:
// TYPE_NOT_OWNED.
func (s *Resources) ListOwnedBindings(ctx context.Context, req *accessv1.ListOwnedBindingsRequest) (*accessv1.ListAccessBindingsResponse, error) {
	if err := owned(ctx, req.GetResource().GetType()); err != nil {
		return nil, err
	}
	return s.bindings.ListAccessBindings(ctx, &accessv1.ListAccessBindingsRequest{
		Resource: req.GetResource(), PageSize: req.GetPageSize(), PageToken: req.GetPageToken(), ChangeableOnly: true,
	})
}

// UpdateOwnedBindings changes the bindings of a resource for the user who asks the unit
// that owns it, by a permission that the unit names (PT-22). Fails: TYPE_NOT_OWNED, and as
// UpdateAccessBindings does.
func (s *Resources) UpdateOwnedBindings(ctx context.Context, req *accessv1.UpdateOwnedBindingsRequest) (*operationpb.Operation, error) {
	permission := req.GetPermission()
	if err := owned(ctx, req.GetResource().GetType()); err != nil {
		return nil, err
	}
	if _, listed := s.catalog.Permission(permission); !listed {
		return nil, apierr.InvalidField("permission", "there is no permission %q", permission)
	}
	in, err := s.bindings.updateIntent(ctx, &accessv1.UpdateAccessBindingsRequest{
		Resource: req.GetResource(), AccessBindingDeltas: req.GetAccessBindingDeltas(),
	}, "")
	if err != nil {
		return nil, err
	}
	in.permission = permission
	in.record.Authorization.Permissions[0].Permission = permission
	return s.bindings.submit(ctx, in)
}
