// Package access is what a service does about the access of its resources, which is
// a fact of the unit accessbindings: it answers the access methods of its public API
// by it, and shows in the operations on a resource those that changed its access.
package access

import (
	"context"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// Bindings is the access methods of one type of resource. They are the same for all:
// accessbindings answers them, with the token of the caller, whose rights it judges
// again (AB, AS, OW), and with the idempotency key. Its operations are passed on as
// they are. A service embeds it.
type Bindings struct {
	Client accessv1.AccessBindingServiceClient
	Type   string // of the resources, e.g. "iam.serviceAccount"
}

func (b Bindings) resource(resourceID string) *accessv1.Resource {
	return &accessv1.Resource{Type: b.Type, Id: resourceID}
}

// ListAccessBindings lists the bindings set on the resource itself (AB-7). Those that
// grant policies alone give are left out: SetAccessBindings could not take them away, and
// a client that keeps a list as it wants it, as Terraform does, would never be done
// (SC-20).
func (b Bindings) ListAccessBindings(ctx context.Context, req *accesspb.ListAccessBindingsRequest) (*accesspb.ListAccessBindingsResponse, error) {
	got, err := b.Client.ListAccessBindings(ctx, &accessv1.ListAccessBindingsRequest{
		Resource: b.resource(req.GetResourceId()), PageSize: req.GetPageSize(), PageToken: req.GetPageToken(), ChangeableOnly: true,
	})
	if err != nil {
		return nil, apierr.FromRPC(err)
	}
	return &accesspb.ListAccessBindingsResponse{AccessBindings: Public(got.GetAccessBindings()), NextPageToken: got.GetNextPageToken()}, nil
}

// Public are the platform's messages of bindings.
func Public(bindings []*accessv1.AccessBinding) []*accesspb.AccessBinding {
	var all []*accesspb.AccessBinding
	for _, x := range bindings {
		all = append(all, &accesspb.AccessBinding{
			RoleId: x.GetRoleId(), Subject: &accesspb.Subject{Type: x.GetSubject().GetType(), Id: x.GetSubject().GetId()},
		})
	}
	return all
}

// SetAccessBindings replaces the direct bindings of the resource (AB-2).
func (b Bindings) SetAccessBindings(ctx context.Context, req *accesspb.SetAccessBindingsRequest) (*operationpb.Operation, error) {
	set := &accessv1.SetAccessBindingsRequest{Resource: b.resource(req.GetResourceId())}
	for _, x := range req.GetAccessBindings() {
		set.AccessBindings = append(set.AccessBindings, binding(x))
	}
	op, err := b.Client.SetAccessBindings(idempotency.PassOn(ctx), set)
	return op, apierr.FromRPC(err)
}

// UpdateAccessBindings adds and removes direct bindings of the resource (AB-3).
func (b Bindings) UpdateAccessBindings(ctx context.Context, req *accesspb.UpdateAccessBindingsRequest) (*operationpb.Operation, error) {
	op, err := b.Client.UpdateAccessBindings(idempotency.PassOn(ctx), Update(b.resource(req.GetResourceId()), req.GetAccessBindingDeltas()))
	return op, apierr.FromRPC(err)
}

// Update is our own message of what to add and to remove on a resource.
func Update(on *accessv1.Resource, deltas []*accesspb.AccessBindingDelta) *accessv1.UpdateAccessBindingsRequest {
	update := &accessv1.UpdateAccessBindingsRequest{Resource: on}
	for _, d := range deltas {
		update.AccessBindingDeltas = append(update.AccessBindingDeltas, &accessv1.AccessBindingDelta{
			Action: d.GetAction(), AccessBinding: binding(d.GetAccessBinding()),
		})
	}
	return update
}

func binding(b *accesspb.AccessBinding) *accessv1.AccessBinding {
	return &accessv1.AccessBinding{
		RoleId: b.GetRoleId(), Subject: &accessv1.Subject{Type: b.GetSubject().GetType(), Id: b.GetSubject().GetId()},
	}
}
