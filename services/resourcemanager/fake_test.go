package resourcemanager

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/server"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// fakeAccess stands in for accessbindings: a tree with roles in memory, which can
// be told to fail. The production chain asks it as it asks the real one.
type fakeAccess struct {
	accessv1.UnimplementedResourceServiceServer
	accessv1.UnimplementedSubjectServiceServer
	accessv1.UnimplementedAccessBindingServiceServer
	accessv1.UnimplementedAccessPolicyServiceServer
	accessv1.UnimplementedOperationLogServiceServer
	accessservicev2.UnimplementedAccessServiceServer

	catalog *catalog.Catalog
	tokens  *authn.Verifier

	mu      sync.Mutex
	parents map[authz.Resource]authz.Resource
	roles   map[authz.Resource]map[string][]string // resource -> subject id -> roles
	members map[authz.Resource][]string
	denied  map[string]bool // permissions that an access policy takes from everybody
	log     []*operationpb.Operation
	away    error // what every call of the tree fails with
	removed []authz.Resource
}

func newFake(c *catalog.Catalog) *fakeAccess {
	return &fakeAccess{
		catalog: c, parents: map[authz.Resource]authz.Resource{},
		roles: map[authz.Resource]map[string][]string{}, members: map[authz.Resource][]string{},
		denied: map[string]bool{},
	}
}

// deny has an access policy take permissions from everybody.
func (f *fakeAccess) deny(permissions ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range permissions {
		f.denied[p] = true
	}
}

func (f *fakeAccess) unit() server.Unit {
	return server.Unit{Name: "accessbindings", Build: func(_ context.Context, base server.Base) (*server.Parts, error) {
		f.tokens = base.Tokens
		return &server.Parts{Decider: fakeDecider{f}, Register: func(r grpc.ServiceRegistrar) {
			accessv1.RegisterResourceServiceServer(r, f)
			accessv1.RegisterSubjectServiceServer(r, f)
			accessv1.RegisterAccessBindingServiceServer(r, f)
			accessv1.RegisterAccessPolicyServiceServer(r, f)
			accessv1.RegisterOperationLogServiceServer(r, f)
			accessservicev2.RegisterAccessServiceServer(r, f)
		}}, nil
	}}
}

// fail makes the tree fail from now on; nil mends it.
func (f *fakeAccess) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = err
}

// grant gives a subject a role on a resource.
func (f *fakeAccess) grant(subject, role, typ, resourceID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := authz.Resource{Type: typ, ID: resourceID}
	if f.roles[r] == nil {
		f.roles[r] = map[string][]string{}
	}
	f.roles[r][subject] = append(f.roles[r][subject], role)
}

// rolesOn returns the roles set on a resource, as "subject role".
func (f *fakeAccess) rolesOn(typ, resourceID string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for subject, roles := range f.roles[authz.Resource{Type: typ, ID: resourceID}] {
		for _, role := range roles {
			all = append(all, subject+" "+role)
		}
	}
	slices.Sort(all)
	return all
}

func (f *fakeAccess) knows(typ, resourceID string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.parents[authz.Resource{Type: typ, ID: resourceID}]
	return ok
}

// GetResourcePath leads from a resource to the root.
func (f *fakeAccess) GetResourcePath(_ context.Context, req *accessv1.GetResourcePathRequest) (*accessv1.GetResourcePathResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := authz.Resource{Type: req.GetResource().GetType(), ID: req.GetResource().GetId()}
	if _, ok := f.parents[at]; !ok {
		return nil, authz.NotFound(at)
	}
	resp := new(accessv1.GetResourcePathResponse)
	for ; at != (authz.Resource{}); at = f.parents[at] {
		resp.Path = append(resp.Path, &accessv1.Resource{Type: at.Type, Id: at.ID})
	}
	return resp, nil
}

// Authenticate lets everybody in.
func (f *fakeAccess) Authenticate(context.Context, *accessservicev2.AuthenticateRequest) (*accessservicev2.AuthenticateResponse, error) {
	return &accessservicev2.AuthenticateResponse{}, nil
}

func (f *fakeAccess) decide(subject, permission string, r authz.Resource) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.parents[r]; !ok {
		return authz.NotFound(r)
	}
	if f.denied[permission] {
		return apierr.Denied(apierr.ReasonDeniedByPolicy, "a policy denies %s", permission)
	}
	for at := r; at != (authz.Resource{}); at = f.parents[at] {
		for _, id := range f.roles[at][subject] {
			if role, _ := f.catalog.Role(id); slices.Contains(role.Permissions, permission) {
				return nil
			}
		}
	}
	return authz.Denied(permission, r)
}

func (f *fakeAccess) Authorize(ctx context.Context, req *accessservicev2.AuthorizeRequest) (*accessservicev2.AuthorizeResponse, error) {
	p, err := f.tokens.Verify(ctx, req.GetIamToken())
	if err != nil {
		return nil, err
	}
	r := authz.Resource{Type: req.GetResourcePath()[0].GetType(), ID: req.GetResourcePath()[0].GetId()}
	err = f.decide(p.ID, req.GetPermission(), r)
	if apierr.ReasonOf(err) == apierr.ReasonResourceNotFound {
		err = apierr.Denied(apierr.ReasonResourceNotFound, "unknown")
	}
	return &accessservicev2.AuthorizeResponse{}, err
}

func (f *fakeAccess) BulkAuthorize(ctx context.Context, req *accessservicev2.BulkAuthorizeRequest) (*accessservicev2.BulkAuthorizeResponse, error) {
	p, err := f.tokens.Verify(ctx, req.GetIamToken())
	if err != nil {
		return nil, err
	}
	results := new(accessservicev2.BulkAuthorizeResponse_Results)
	for _, a := range req.GetActions().GetItems() {
		result := &accessservicev2.BulkAuthorizeResponse_Result{Permission: a.GetPermission(), ResourcePath: a.GetResourcePath()}
		r := authz.Resource{Type: a.GetResourcePath()[0].GetType(), ID: a.GetResourcePath()[0].GetId()}
		if err := f.decide(p.ID, a.GetPermission(), r); err != nil {
			result.PermissionDeniedError = &accessservicev2.BulkAuthorizeResponse_Error{Message: err.Error()}
		}
		results.Items = append(results.Items, result)
	}
	return &accessservicev2.BulkAuthorizeResponse{Results: results}, nil
}

// fakeDecider judges the methods of the fake unit itself.
type fakeDecider struct{ f *fakeAccess }

func (fakeDecider) Authenticate(context.Context, authn.Principal) error { return nil }

func (d fakeDecider) Authorize(_ context.Context, p authn.Principal, permission string, r authz.Resource) error {
	return d.f.decide(p.ID, permission, r)
}

func (fakeDecider) AuthorizeEach(context.Context, authn.Principal, string, []authz.Resource) ([]bool, error) {
	return nil, apierr.Unimplemented("not asked in tests")
}

func ref(r *accessv1.Resource) authz.Resource {
	return authz.Resource{Type: r.GetType(), ID: r.GetId()}
}

func (f *fakeAccess) RegisterResource(_ context.Context, req *accessv1.RegisterResourceRequest) (*accessv1.RegisterResourceResponse, error) {
	r, parent := ref(req.GetResource()), ref(req.GetParent())
	f.mu.Lock()
	if f.away != nil {
		defer f.mu.Unlock()
		return nil, f.away
	}
	if _, ok := f.parents[parent]; !ok && parent != (authz.Resource{}) {
		f.mu.Unlock()
		return nil, authz.NotFound(parent)
	}
	_, known := f.parents[r]
	f.parents[r] = parent
	for _, m := range req.GetMembers() {
		f.members[r] = append(f.members[r], m.GetType()+":"+m.GetId())
	}
	f.mu.Unlock()
	if !known { // repeating changes nothing
		for _, b := range req.GetAccessBindings() {
			f.grant(b.GetSubject().GetId(), b.GetRoleId(), r.Type, r.ID)
		}
	}
	return &accessv1.RegisterResourceResponse{}, nil
}

func (f *fakeAccess) RemoveResource(_ context.Context, req *accessv1.RemoveResourceRequest) (*accessv1.RemoveResourceResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if apierr.CodeOf(f.away) == codes.Unavailable {
		return nil, f.away
	}
	gone := []authz.Resource{ref(req.GetResource())}
	for i := 0; i < len(gone); i++ {
		for child, parent := range f.parents {
			if parent == gone[i] {
				gone = append(gone, child)
			}
		}
		delete(f.parents, gone[i])
		delete(f.roles, gone[i])
		delete(f.members, gone[i])
	}
	f.removed = append(f.removed, gone[0])
	return &accessv1.RemoveResourceResponse{}, nil
}

func (f *fakeAccess) ListMemberships(_ context.Context, req *accessv1.ListMembershipsRequest) (*accessv1.ListMembershipsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := new(accessv1.ListMembershipsResponse)
	for container, members := range f.members {
		if container.Type == req.GetContainerType() && slices.Contains(members, req.GetSubject().GetType()+":"+req.GetSubject().GetId()) {
			resp.Containers = append(resp.Containers, &accessv1.Resource{Type: container.Type, Id: container.ID})
		}
	}
	return resp, nil
}

// ListAccessBindings shows the roles set on the resource, in pages by number.
func (f *fakeAccess) ListAccessBindings(_ context.Context, req *accessv1.ListAccessBindingsRequest) (*accessv1.ListAccessBindingsResponse, error) {
	resp := new(accessv1.ListAccessBindingsResponse)
	for _, b := range f.rolesOn(req.GetResource().GetType(), req.GetResource().GetId()) {
		subject, role, _ := strings.Cut(b, " ")
		resp.AccessBindings = append(resp.AccessBindings, &accessv1.AccessBinding{
			RoleId: role, Subject: &accessv1.Subject{Type: "userAccount", Id: subject},
		})
	}
	resp.NextPageToken = "next to " + req.GetPageToken()
	return resp, nil
}

// SetAccessBindings shows its request as the operation's metadata.
func (f *fakeAccess) SetAccessBindings(_ context.Context, req *accessv1.SetAccessBindingsRequest) (*operationpb.Operation, error) {
	return f.changed(req.GetResource(), req)
}

// UpdateAccessBindings shows its request as the operation's metadata.
func (f *fakeAccess) UpdateAccessBindings(_ context.Context, req *accessv1.UpdateAccessBindingsRequest) (*operationpb.Operation, error) {
	if req.GetAccessBindingDeltas()[0].GetAction() == accesspb.AccessBindingAction_REMOVE {
		return nil, apierr.Precondition("LAST_OWNER", "one owner must remain")
	}
	return f.changed(req.GetResource(), req)
}

// ListAccessPolicyBindings shows the resource in a parameter, and the page asked for.
func (f *fakeAccess) ListAccessPolicyBindings(_ context.Context, req *accessv1.ListAccessPolicyBindingsRequest) (*accessv1.ListAccessPolicyBindingsResponse, error) {
	return &accessv1.ListAccessPolicyBindingsResponse{
		AccessPolicyBindings: []*accesspb.AccessPolicyBinding{{
			AccessPolicyTemplateId: "on", Parameters: map[string]string{req.GetResource().GetType(): req.GetResource().GetId()},
		}},
		NextPageToken: fmt.Sprintf("%d next to %s", req.GetPageSize(), req.GetPageToken()),
	}, nil
}

// BindAccessPolicy shows its request as the operation's metadata.
func (f *fakeAccess) BindAccessPolicy(_ context.Context, req *accessv1.BindAccessPolicyRequest) (*operationpb.Operation, error) {
	return f.changed(req.GetResource(), req)
}

// UnbindAccessPolicy shows its request as the operation's metadata.
func (f *fakeAccess) UnbindAccessPolicy(_ context.Context, req *accessv1.UnbindAccessPolicyRequest) (*operationpb.Operation, error) {
	if req.GetAccessPolicyTemplateId() == "unbound" {
		return nil, apierr.NotFound("ACCESS_POLICY_NOT_BOUND", "it is not bound")
	}
	return f.changed(req.GetResource(), req)
}

// UpdateAccessPolicyBindingParameters shows its request as the operation's metadata.
func (f *fakeAccess) UpdateAccessPolicyBindingParameters(_ context.Context, req *accessv1.UpdateAccessPolicyBindingParametersRequest) (*operationpb.Operation, error) {
	return f.changed(req.GetResource(), req)
}

func (f *fakeAccess) changed(r *accessv1.Resource, shown proto.Message) (*operationpb.Operation, error) {
	meta, err := anypb.New(shown)
	if err != nil {
		return nil, err
	}
	op := &operationpb.Operation{
		Id: id.New(id.OperationAccessBindings), Description: r.GetType() + " " + r.GetId(), CreatedAt: timestamppb.New(time.Now().Truncate(time.Microsecond)),
		Done: true, Metadata: meta,
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append([]*operationpb.Operation{op}, f.log...)
	return op, nil
}

func (f *fakeAccess) ListOperations(_ context.Context, req *accessv1.ListOperationsRequest) (*accessv1.ListOperationsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := new(accessv1.ListOperationsResponse)
	for _, op := range f.log {
		at, b := op.GetCreatedAt().AsTime(), req.GetBefore()
		if b != nil && (at.After(b.GetCreatedAt().AsTime()) || at.Equal(b.GetCreatedAt().AsTime()) && op.GetId() >= b.GetId()) {
			continue
		}
		if op.GetDescription() == req.GetResource().GetType()+" "+req.GetResource().GetId() && len(resp.GetOperations()) < int(req.GetPageSize()) {
			resp.Operations = append(resp.Operations, op)
		}
	}
	return resp, nil
}
