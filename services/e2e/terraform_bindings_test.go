package e2e

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// binder is what all services of resources with access bindings have.
type binder interface {
	ListAccessBindings(context.Context, *accesspb.ListAccessBindingsRequest, ...grpc.CallOption) (*accesspb.ListAccessBindingsResponse, error)
	SetAccessBindings(context.Context, *accesspb.SetAccessBindingsRequest, ...grpc.CallOption) (*operationpb.Operation, error)
	UpdateAccessBindings(context.Context, *accesspb.UpdateAccessBindingsRequest, ...grpc.CallOption) (*operationpb.Operation, error)
}

func listBindings(id string) *accesspb.ListAccessBindingsRequest {
	return &accesspb.ListAccessBindingsRequest{ResourceId: id, PageSize: 1000}
}

func binding(role, subjectType, subjectID string) *accesspb.AccessBinding {
	return &accesspb.AccessBinding{RoleId: role, Subject: &accesspb.Subject{Type: subjectType, Id: subjectID}}
}

func add(id, role, subjectType, subjectID string) *accesspb.UpdateAccessBindingsRequest {
	return &accesspb.UpdateAccessBindingsRequest{ResourceId: id, AccessBindingDeltas: []*accesspb.AccessBindingDelta{
		{Action: accesspb.AccessBindingAction_ADD, AccessBinding: binding(role, subjectType, subjectID)},
	}}
}

func remove(id, role, subjectType, subjectID string) *accesspb.UpdateAccessBindingsRequest {
	req := add(id, role, subjectType, subjectID)
	req.AccessBindingDeltas[0].Action = accesspb.AccessBindingAction_REMOVE
	return req
}

// written is how the provider writes a binding: the role, and a subject that it splits at
// the first colon.
func written(b *accesspb.AccessBinding) string {
	return b.GetRoleId() + " " + b.GetSubject().GetType() + ":" + b.GetSubject().GetId()
}

// read lists all bindings of a resource, as the provider writes them, in order.
func (p *provider) read(of binder, id string) (members []string) {
	p.t.Helper()
	for _, b := range p.all(of, id) {
		members = append(members, written(b))
	}
	slices.Sort(members)
	return members
}

// all lists all bindings of a resource, page by page.
func (p *provider) all(of binder, id string) (all []*accesspb.AccessBinding) {
	p.t.Helper()
	for req := listBindings(id); ; {
		page, err := of.ListAccessBindings(p.ctx(), req)
		p.must(err)
		all = append(all, page.GetAccessBindings()...)
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			return all
		}
	}
}

// primitive roles fit anything; the roles after them are for what lies in clouds.
const primitive = 4

// roleOf are roles that may be given on a folder.
func roleOf(n int) string {
	return []string{
		"viewer", "editor", "admin", "auditor", "resource-manager.viewer", "resource-manager.editor", "resource-manager.admin",
		"resource-manager.auditor", "iam.viewer", "iam.editor",
	}[n]
}

// bindings drives the three resources that every service with bindings has: *_iam_binding,
// *_iam_member and, where nobody has to own the resource, *_iam_policy.
func (p *provider) bindings(of binder, id string, owned bool) {
	p.t.Helper()
	before := p.read(of, id)
	given := map[bool]int{true: 1}[owned]
	if id == p.org {
		given += 2 // the roles of its two groups (SC-2)
	}
	if len(before) != given {
		p.t.Fatalf("new, it has the bindings %v", before)
	}
	p.iamBinding(of, id, before)
	p.iamMember(of, id, before)
	if !owned {
		p.iamPolicy(of, id)
	}
}

// set replaces all bindings and wants them read at once.
func (p *provider) set(of binder, id string, to []*accesspb.AccessBinding) {
	p.t.Helper()
	op, err := of.SetAccessBindings(p.ctx(), &accesspb.SetAccessBindingsRequest{ResourceId: id, AccessBindings: to})
	p.bound(of, op, err, id)
	var want []string
	for _, b := range to {
		want = append(want, written(b))
	}
	slices.Sort(want)
	if got := p.read(of, id); !slices.Equal(got, slices.Compact(want)) {
		p.t.Errorf("set %v, and read %v", want, got)
	}
}

// update sends deltas.
func (p *provider) update(of binder, req *accesspb.UpdateAccessBindingsRequest) {
	p.t.Helper()
	op, err := of.UpdateAccessBindings(p.ctx(), req)
	p.bound(of, op, err, req.GetResourceId())
}

// bound waits for the operation of a change of bindings: organizations answer Empty, all
// others what became of the deltas.
func (p *provider) bound(of binder, op *operationpb.Operation, err error, id string) {
	p.t.Helper()
	var response proto.Message = new(accesspb.AccessBindingsOperationResult)
	if _, ok := of.(orgv1.OrganizationServiceClient); ok {
		response = new(emptypb.Empty)
	}
	done(p, op, err, response)
	named(p, op, "resource_id", id)
}

// iamBinding reads all, changes the members of its role, and sets all.
func (p *provider) iamBinding(of binder, id string, before []string) {
	p.t.Helper()
	without := func(role string) []*accesspb.AccessBinding {
		return slices.DeleteFunc(p.all(of, id), func(b *accesspb.AccessBinding) bool { return b.GetRoleId() == role })
	}
	everybody := binding("viewer", "system", "allAuthenticatedUsers")
	ours := binding("viewer", "userAccount", p.user)
	p.set(of, id, append(p.all(of, id), ours, proto.CloneOf(ours))) // created: it adds; twice is once
	p.set(of, id, append(without("viewer"), everybody))             // updated: the old members go
	p.set(of, id, append(without("viewer"), everybody, ours))       // and again
	members := binding("viewer", "system", "group:organization:"+p.org+":users")
	p.set(of, id, append(without("viewer"), members)) // split at the first colon, and read back so
	p.set(of, id, without("viewer"))                  // deleted
	if got := p.read(of, id); !slices.Equal(got, before) {
		p.t.Errorf("with the role gone, it has %v, want %v", got, before)
	}
}

// iamMember lists, sends one delta, and lists; what is there already and what is gone
// already is no error.
func (p *provider) iamMember(of binder, id string, before []string) {
	p.t.Helper()
	want := append(slices.Clone(before), "viewer userAccount:"+p.user)
	slices.Sort(want)
	for range 2 {
		p.read(of, id)
		p.update(of, add(id, "viewer", "userAccount", p.user))
		if got := p.read(of, id); !slices.Equal(got, want) {
			p.t.Errorf("with the member, it has %v, want %v", got, want)
		}
	}
	for range 2 {
		p.update(of, remove(id, "viewer", "userAccount", p.user))
		if got := p.read(of, id); !slices.Equal(got, before) {
			p.t.Errorf("without the member, it has %v, want %v", got, before)
		}
	}
}

// iamPolicy sets exactly its list, and nothing at its end; and takes as many deltas as
// the provider sends at most.
func (p *provider) iamPolicy(of binder, id string) {
	p.t.Helper()
	p.set(of, id, []*accesspb.AccessBinding{binding("editor", "userAccount", p.user), binding("viewer", "system", "allUsers")})
	p.set(of, id, nil)
	for _, action := range []accesspb.AccessBindingAction{accesspb.AccessBindingAction_ADD, accesspb.AccessBindingAction_REMOVE} {
		req := &accesspb.UpdateAccessBindingsRequest{ResourceId: id}
		for i := range 1000 {
			req.AccessBindingDeltas = append(req.AccessBindingDeltas, &accesspb.AccessBindingDelta{
				Action: action, AccessBinding: binding(roleOf(i%primitive), "userAccount", p.user),
			})
		}
		p.update(of, req)
		if got, want := len(p.read(of, id)), map[accesspb.AccessBindingAction]int{accesspb.AccessBindingAction_ADD: primitive}[action]; got != want {
			p.t.Errorf("after a thousand deltas to %s there are %d bindings, want %d", action, got, want)
		}
	}
}

// organization is the row of yandex_organizationmanager_organization_iam_binding and
// _member; the organization was made with the first cloud.
func (p *provider) organization() {
	organizations := orgv1.NewOrganizationServiceClient(p.conn)
	p.bindings(organizations, p.org, true)
	_, err := organizations.ListAccessBindings(p.ctx(), listBindings("bpf00000000000000000"))
	p.code(err, codes.NotFound)
	// Whoever takes the last owner away gets the error from the call itself.
	_, err = organizations.SetAccessBindings(p.ctx(), &accesspb.SetAccessBindingsRequest{ResourceId: p.org})
	p.code(err, codes.FailedPrecondition)
}

// policyBinder is what services of resources with access policies have.
type policyBinder interface {
	ListAccessPolicyBindings(context.Context, *accesspb.ListAccessPolicyBindingsRequest, ...grpc.CallOption) (*accesspb.ListAccessPolicyBindingsResponse, error)
	BindAccessPolicy(context.Context, *accesspb.BindAccessPolicyRequest, ...grpc.CallOption) (*operationpb.Operation, error)
	UnbindAccessPolicy(context.Context, *accesspb.UnbindAccessPolicyRequest, ...grpc.CallOption) (*operationpb.Operation, error)
	UpdateAccessPolicyBindingParameters(context.Context, *accesspb.UpdateAccessPolicyBindingParametersRequest, ...grpc.CallOption) (*operationpb.Operation, error)
}

// accessPolicies is the row of the *_iam_policy_binding of newer releases.
func (p *provider) accessPolicies() {
	for id, of := range map[string]policyBinder{
		p.folder: rmv1.NewFolderServiceClient(p.conn), p.cloud: rmv1.NewCloudServiceClient(p.conn), p.org: orgv1.NewOrganizationServiceClient(p.conn),
	} {
		reads := func(want ...string) {
			p.t.Helper()
			list, err := of.ListAccessPolicyBindings(p.ctx(), &accesspb.ListAccessPolicyBindingsRequest{ResourceId: id, PageSize: 1000})
			p.must(err)
			var got []string
			for _, b := range list.GetAccessPolicyBindings() {
				got = append(got, b.GetAccessPolicyTemplateId())
			}
			if !slices.Equal(got, want) {
				p.t.Errorf("policies of %s: %v, want %v", id, got, want)
			}
		}
		b := &accesspb.AccessPolicyBinding{AccessPolicyTemplateId: "iam.denyServiceAccountImpersonation"}
		reads()
		op, err := of.BindAccessPolicy(p.ctx(), &accesspb.BindAccessPolicyRequest{ResourceId: id, AccessPolicyBinding: b})
		done(p, op, err, new(accesspb.BindAccessPolicyResponse))
		named(p, op, "resource_id", id)
		reads(b.GetAccessPolicyTemplateId())
		op, err = of.UpdateAccessPolicyBindingParameters(p.ctx(), &accesspb.UpdateAccessPolicyBindingParametersRequest{ResourceId: id, AccessPolicyBinding: b})
		done(p, op, err, new(accesspb.UpdateAccessPolicyBindingParametersResponse))
		reads(b.GetAccessPolicyTemplateId())
		unbind := &accesspb.UnbindAccessPolicyRequest{ResourceId: id, AccessPolicyTemplateId: b.GetAccessPolicyTemplateId()}
		op, err = of.UnbindAccessPolicy(p.ctx(), unbind)
		done(p, op, err, new(accesspb.UnbindAccessPolicyResponse))
		reads()
		_, err = of.UnbindAccessPolicy(p.ctx(), unbind)
		p.code(err, codes.NotFound)
	}
}
