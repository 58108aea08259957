package resourcemanager

import (
	"context"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// access is the access methods of a kind. They are the same for all: accessbindings
// answers them, with the token of the caller, whose rights it judges again (AB,
// AS, OW), and with the idempotency key. Its operations are passed on as they are.
type access struct {
	service *Service
	kind    *kind
}

func (a access) resource(resourceID string) *accessv1.Resource {
	return &accessv1.Resource{Type: a.kind.typ, Id: resourceID}
}

// ListAccessBindings lists the bindings set on the resource itself (AB-7).
func (a access) ListAccessBindings(ctx context.Context, req *accesspb.ListAccessBindingsRequest) (*accesspb.ListAccessBindingsResponse, error) {
	got, err := a.service.bindings.ListAccessBindings(ctx, &accessv1.ListAccessBindingsRequest{
		Resource: a.resource(req.GetResourceId()), PageSize: req.GetPageSize(), PageToken: req.GetPageToken(),
	})
	if err != nil {
		return nil, apierr.FromRPC(err)
	}
	resp := &accesspb.ListAccessBindingsResponse{NextPageToken: got.GetNextPageToken()}
	for _, b := range got.GetAccessBindings() {
		resp.AccessBindings = append(resp.AccessBindings, &accesspb.AccessBinding{
			RoleId: b.GetRoleId(), Subject: &accesspb.Subject{Type: b.GetSubject().GetType(), Id: b.GetSubject().GetId()},
		})
	}
	return resp, nil
}

// SetAccessBindings replaces the direct bindings of the resource (AB-2).
func (a access) SetAccessBindings(ctx context.Context, req *accesspb.SetAccessBindingsRequest) (*operationpb.Operation, error) {
	set := &accessv1.SetAccessBindingsRequest{Resource: a.resource(req.GetResourceId())}
	for _, b := range req.GetAccessBindings() {
		set.AccessBindings = append(set.AccessBindings, binding(b))
	}
	op, err := a.service.bindings.SetAccessBindings(idempotency.PassOn(ctx), set)
	if err != nil {
		return nil, apierr.FromRPC(err)
	}
	return op, nil
}

// UpdateAccessBindings adds and removes direct bindings of the resource (AB-3).
func (a access) UpdateAccessBindings(ctx context.Context, req *accesspb.UpdateAccessBindingsRequest) (*operationpb.Operation, error) {
	update := &accessv1.UpdateAccessBindingsRequest{Resource: a.resource(req.GetResourceId())}
	for _, d := range req.GetAccessBindingDeltas() {
		update.AccessBindingDeltas = append(update.AccessBindingDeltas, &accessv1.AccessBindingDelta{
			Action: d.GetAction(), AccessBinding: binding(d.GetAccessBinding()),
		})
	}
	op, err := a.service.bindings.UpdateAccessBindings(idempotency.PassOn(ctx), update)
	if err != nil {
		return nil, apierr.FromRPC(err)
	}
	return op, nil
}

func binding(b *accesspb.AccessBinding) *accessv1.AccessBinding {
	return &accessv1.AccessBinding{
		RoleId: b.GetRoleId(), Subject: &accessv1.Subject{Type: b.GetSubject().GetType(), Id: b.GetSubject().GetId()},
	}
}

// errPolicies answers the four methods on access policies (AP) until they are
// built. Authorization has run by then, as for any method.
var errPolicies = apierr.Unimplemented("access policies are not offered by this installation yet")

// ListAccessPolicyBindings is not offered yet.
func (access) ListAccessPolicyBindings(context.Context, *accesspb.ListAccessPolicyBindingsRequest) (*accesspb.ListAccessPolicyBindingsResponse, error) {
	return nil, errPolicies
}

// BindAccessPolicy is not offered yet.
func (access) BindAccessPolicy(context.Context, *accesspb.BindAccessPolicyRequest) (*operationpb.Operation, error) {
	return nil, errPolicies
}

// UnbindAccessPolicy is not offered yet.
func (access) UnbindAccessPolicy(context.Context, *accesspb.UnbindAccessPolicyRequest) (*operationpb.Operation, error) {
	return nil, errPolicies
}

// UpdateAccessPolicyBindingParameters is not offered yet.
func (access) UpdateAccessPolicyBindingParameters(context.Context, *accesspb.UpdateAccessPolicyBindingParametersRequest) (*operationpb.Operation, error) {
	return nil, errPolicies
}
