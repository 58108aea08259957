package resourcemanager

import (
	"context"

	"github.com/bindery-iam/bindery/pkg/access"
	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// accessMethods is the access methods of a kind and those on access policies, which
// accessbindings answers in the same way (AP).
type accessMethods struct {
	access.Bindings
	service *Service
	kind    *kind
}

func (a accessMethods) resource(resourceID string) *accessv1.Resource {
	return &accessv1.Resource{Type: a.kind.typ, Id: resourceID}
}

// ListAccessPolicyBindings lists the policies bound to the resource itself (AP-2).
func (a accessMethods) ListAccessPolicyBindings(ctx context.Context, req *accesspb.ListAccessPolicyBindingsRequest) (*accesspb.ListAccessPolicyBindingsResponse, error) {
	got, err := a.service.policies.ListAccessPolicyBindings(ctx, &accessv1.ListAccessPolicyBindingsRequest{
		Resource: a.resource(req.GetResourceId()), PageSize: req.GetPageSize(), PageToken: req.GetPageToken(),
	})
	if err != nil {
		return nil, apierr.FromRPC(err)
	}
	return &accesspb.ListAccessPolicyBindingsResponse{
		AccessPolicyBindings: got.GetAccessPolicyBindings(), NextPageToken: got.GetNextPageToken(),
	}, nil
}

// BindAccessPolicy binds a policy to the resource (AP-3, AP-4, AP-6).
func (a accessMethods) BindAccessPolicy(ctx context.Context, req *accesspb.BindAccessPolicyRequest) (*operationpb.Operation, error) {
	op, err := a.service.policies.BindAccessPolicy(idempotency.PassOn(ctx), &accessv1.BindAccessPolicyRequest{
		Resource: a.resource(req.GetResourceId()), AccessPolicyBinding: req.GetAccessPolicyBinding(),
	})
	if err != nil {
		return nil, apierr.FromRPC(err)
	}
	return op, nil
}

// UnbindAccessPolicy takes a policy away from the resource (AP-3, AP-4).
func (a accessMethods) UnbindAccessPolicy(ctx context.Context, req *accesspb.UnbindAccessPolicyRequest) (*operationpb.Operation, error) {
	op, err := a.service.policies.UnbindAccessPolicy(idempotency.PassOn(ctx), &accessv1.UnbindAccessPolicyRequest{
		Resource: a.resource(req.GetResourceId()), AccessPolicyTemplateId: req.GetAccessPolicyTemplateId(),
	})
	if err != nil {
		return nil, apierr.FromRPC(err)
	}
	return op, nil
}

// UpdateAccessPolicyBindingParameters replaces the parameters of a policy on the
// resource (AP-4).
func (a accessMethods) UpdateAccessPolicyBindingParameters(ctx context.Context, req *accesspb.UpdateAccessPolicyBindingParametersRequest) (*operationpb.Operation, error) {
	op, err := a.service.policies.UpdateAccessPolicyBindingParameters(idempotency.PassOn(ctx), &accessv1.UpdateAccessPolicyBindingParametersRequest{
		Resource: a.resource(req.GetResourceId()), AccessPolicyBinding: req.GetAccessPolicyBinding(),
	})
	if err != nil {
		return nil, apierr.FromRPC(err)
	}
	return op, nil
}
