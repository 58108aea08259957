package accessbindings

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// Policies is bindery.access.v1.AccessPolicyService.
type Policies struct {
	accessv1.UnimplementedAccessPolicyServiceServer
	committer *committer
	catalog   *roleBook
	pages     *page.Sealer
}

// ReasonTemplateNotFound refuses a template that the catalogue does not name.
const ReasonTemplateNotFound = "ACCESS_POLICY_TEMPLATE_NOT_FOUND"

// ListAccessPolicyBindings lists the policies bound on the resource itself, oldest
// first. What it tells is in force: it waits for the revision it read.
func (s *Policies) ListAccessPolicyBindings(ctx context.Context, req *accessv1.ListAccessPolicyBindingsRequest) (*accessv1.ListAccessPolicyBindingsResponse, error) {
	resource, size := refOf(req.GetResource()), page.Size(req.GetPageSize())
	scope := []string{"ListAccessPolicyBindings", resource.Type, resource.ID}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	var found []PolicyBinding
	err = s.committer.read(ctx, func(ctx context.Context, st *store, q sqldb.Querier) (err error) {
		found, err = st.policiesOn(ctx, q, resource, after.Time, size+1)
		return err
	})
	if err != nil {
		return nil, err
	}
	resp := new(accessv1.ListAccessPolicyBindingsResponse)
	if len(found) > size {
		found = found[:size]
		if resp.NextPageToken, err = s.pages.Seal(page.Position{Time: found[size-1].Number}, scope...); err != nil {
			return nil, err
		}
	}
	for _, b := range found {
		resp.AccessPolicyBindings = append(resp.AccessPolicyBindings, b.proto())
	}
	return resp, nil
}

// BindAccessPolicy binds a policy (AP-2, AP-3, AP-6). Fails, in this order:
// ACCESS_POLICY_TEMPLATE_NOT_FOUND, ACCESS_POLICY_DOES_NOT_FIT,
// ACCESS_POLICY_PARAMETER_UNKNOWN, RESOURCE_NOT_FOUND, PERMISSION_DENIED,
// ACCESS_POLICY_ALREADY_BOUND.
func (s *Policies) BindAccessPolicy(ctx context.Context, req *accessv1.BindAccessPolicyRequest) (*operationpb.Operation, error) {
	r, b := req.GetResource(), req.GetAccessPolicyBinding()
	if err := s.check(b, r.GetType()); err != nil {
		return nil, err
	}
	in := s.intent(ctx, r, bindPolicy, policyOf(b))
	in.metadata = &accesspb.BindAccessPolicyMetadata{ResourceId: r.GetId(), AccessPolicyBinding: b}
	in.response = new(accesspb.BindAccessPolicyResponse)
	return s.submit(ctx, in)
}

// UnbindAccessPolicy takes a policy away. Fails, in this order: RESOURCE_NOT_FOUND,
// PERMISSION_DENIED, ACCESS_POLICY_NOT_BOUND (AP-3), which covers templates that do
// not exist.
func (s *Policies) UnbindAccessPolicy(ctx context.Context, req *accessv1.UnbindAccessPolicyRequest) (*operationpb.Operation, error) {
	r, template := req.GetResource(), req.GetAccessPolicyTemplateId()
	if err := checkText("access_policy_template_id", template); err != nil {
		return nil, err
	}
	in := s.intent(ctx, r, unbindPolicy, PolicyBinding{Template: template})
	in.metadata = &accesspb.UnbindAccessPolicyMetadata{ResourceId: r.GetId(), AccessPolicyTemplateId: template}
	in.response = new(accesspb.UnbindAccessPolicyResponse)
	return s.submit(ctx, in)
}

// UpdateAccessPolicyBindingParameters replaces the parameters of a bound policy.
// Fails as BindAccessPolicy does, but with ACCESS_POLICY_NOT_BOUND in the end.
func (s *Policies) UpdateAccessPolicyBindingParameters(ctx context.Context, req *accessv1.UpdateAccessPolicyBindingParametersRequest) (*operationpb.Operation, error) {
	r, b := req.GetResource(), req.GetAccessPolicyBinding()
	if err := s.check(b, r.GetType()); err != nil {
		return nil, err
	}
	in := s.intent(ctx, r, updatePolicy, policyOf(b))
	in.metadata = &accesspb.UpdateAccessPolicyBindingParametersMetadata{ResourceId: r.GetId(), AccessPolicyBinding: b}
	in.response = new(accesspb.UpdateAccessPolicyBindingParametersResponse)
	return s.submit(ctx, in)
}

// check judges a binding by itself: its template, the type of the resource, the
// names of its parameters.
func (s *Policies) check(b *accesspb.AccessPolicyBinding, resourceType string) error {
	const field, parameters = "access_policy_binding.access_policy_template_id", "access_policy_binding.parameters"
	id := b.GetAccessPolicyTemplateId()
	t, ok := s.catalog.Policy(id)
	if !ok {
		return named(apierr.NotFound(ReasonTemplateNotFound, "access policy template %q not found", id), field)
	}
	p := rules.Policy{ID: t.ID, BindOn: t.BindOn, Parameters: t.Parameters}
	if err := rules.PolicyFits(p, resourceType); err != nil {
		return named(err, field)
	}
	for _, name := range slices.Sorted(maps.Keys(b.GetParameters())) {
		if err := rules.PolicyParameter(p, name); err != nil {
			return named(err, fmt.Sprintf("%s[%q]", parameters, name))
		}
		if err := checkText(fmt.Sprintf("%s[%q]", parameters, name), name, b.GetParameters()[name]); err != nil {
			return err
		}
	}
	return nil
}

// intent is what a call asks for, with who asks and what the door checked.
func (s *Policies) intent(ctx context.Context, r *accessv1.Resource, verb policyVerb, b PolicyBinding) *changePolicy {
	p := authn.FromContext(ctx)
	source, event := policyEvent(verb, r.GetType())
	permission := s.catalog.permission(r.GetType(), "updateAccessPolicyBindings")
	return &changePolicy{
		verb: verb, resource: refOf(r), binding: b, permission: permission, viewPermission: s.catalog.viewPermission(r.GetType()),
		caller: checker.Query{Subject: checker.Subject{Type: p.Type, ID: p.ID}, Token: checker.TokenID(p.TokenID)},
		record: recordOf(ctx, source, event, audit.Permission{
			Permission: permission, ResourceType: r.GetType(), ResourceID: r.GetId(), Authorized: true,
		}),
	}
}

func (s *Policies) submit(ctx context.Context, in *changePolicy) (*operationpb.Operation, error) {
	r, err := s.committer.submit(ctx, in)
	if err != nil {
		return nil, err
	}
	return r.operation.Proto(), nil
}

func policyOf(b *accesspb.AccessPolicyBinding) PolicyBinding {
	return PolicyBinding{Template: b.GetAccessPolicyTemplateId(), Parameters: b.GetParameters()}
}

func (b PolicyBinding) proto() *accesspb.AccessPolicyBinding {
	return &accesspb.AccessPolicyBinding{AccessPolicyTemplateId: b.Template, Parameters: b.Parameters}
}
