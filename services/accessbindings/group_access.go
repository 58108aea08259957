package accessbindings

import (
	"context"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// groupAccess is the access methods of GroupService: those of AccessBindingService
// for groups (AB, AS-12).
type groupAccess struct{ bindings *Bindings }

func (a groupAccess) resource(id string) *accessv1.Resource {
	return &accessv1.Resource{Type: typeGroup, Id: id}
}

// ListAccessBindings lists the bindings set on the group itself (AB-7).
func (a groupAccess) ListAccessBindings(ctx context.Context, req *accesspb.ListAccessBindingsRequest) (*accesspb.ListAccessBindingsResponse, error) {
	got, err := a.bindings.ListAccessBindings(ctx, &accessv1.ListAccessBindingsRequest{
		Resource: a.resource(req.GetResourceId()), PageSize: req.GetPageSize(), PageToken: req.GetPageToken(), ChangeableOnly: true,
	})
	if err != nil {
		return nil, err
	}
	resp := &accesspb.ListAccessBindingsResponse{NextPageToken: got.GetNextPageToken()}
	for _, b := range got.GetAccessBindings() {
		resp.AccessBindings = append(resp.AccessBindings, &accesspb.AccessBinding{
			RoleId: b.GetRoleId(), Subject: &accesspb.Subject{Type: b.GetSubject().GetType(), Id: b.GetSubject().GetId()},
		})
	}
	return resp, nil
}

// SetAccessBindings replaces the direct bindings of the group (AB-2).
func (a groupAccess) SetAccessBindings(ctx context.Context, req *accesspb.SetAccessBindingsRequest) (*operationpb.Operation, error) {
	set := &accessv1.SetAccessBindingsRequest{Resource: a.resource(req.GetResourceId())}
	for _, b := range req.GetAccessBindings() {
		set.AccessBindings = append(set.AccessBindings, ownBinding(b))
	}
	return a.bindings.SetAccessBindings(ctx, set)
}

// UpdateAccessBindings adds and removes direct bindings of the group (AB-3).
func (a groupAccess) UpdateAccessBindings(ctx context.Context, req *accesspb.UpdateAccessBindingsRequest) (*operationpb.Operation, error) {
	update := &accessv1.UpdateAccessBindingsRequest{Resource: a.resource(req.GetResourceId())}
	for _, d := range req.GetAccessBindingDeltas() {
		update.AccessBindingDeltas = append(update.AccessBindingDeltas, &accessv1.AccessBindingDelta{
			Action: d.GetAction(), AccessBinding: ownBinding(d.GetAccessBinding()),
		})
	}
	return a.bindings.UpdateAccessBindings(ctx, update)
}

func ownBinding(b *accesspb.AccessBinding) *accessv1.AccessBinding {
	return &accessv1.AccessBinding{
		RoleId: b.GetRoleId(), Subject: &accessv1.Subject{Type: b.GetSubject().GetType(), Id: b.GetSubject().GetId()},
	}
}
