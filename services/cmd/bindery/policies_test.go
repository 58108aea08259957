package main

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// policyClient is what the three public services have in common.
type policyClient interface {
	ListAccessPolicyBindings(context.Context, *accesspb.ListAccessPolicyBindingsRequest, ...grpc.CallOption) (*accesspb.ListAccessPolicyBindingsResponse, error)
	BindAccessPolicy(context.Context, *accesspb.BindAccessPolicyRequest, ...grpc.CallOption) (*operationpb.Operation, error)
	UnbindAccessPolicy(context.Context, *accesspb.UnbindAccessPolicyRequest, ...grpc.CallOption) (*operationpb.Operation, error)
	UpdateAccessPolicyBindingParameters(context.Context, *accesspb.UpdateAccessPolicyBindingParametersRequest, ...grpc.CallOption) (*operationpb.Operation, error)
}

// TestAccessPolicyBindings drives the public methods in the order of the Terraform
// provider's resource: create and read, read again, update and read, delete and
// read; then what it finds when somebody else was faster.
func TestAccessPolicyBindings(t *testing.T) {
	sqldbtest.ForEach(t, "bindery", nil, func(t *testing.T, db *sqldb.DB) {
		w := newAccessWorld(t, db)
		f := w.grow(folder)
		for _, n := range []*node{f, f.up(cloud), f.up(organization)} {
			t.Run(n.kind.word(), func(t *testing.T) { p := policyDoor{t: t, n: n}; p.live() })
		}
	})
}

// policyDoor is the policies of one node, as its owner meets them.
type policyDoor struct {
	t *testing.T
	n *node
}

func (p policyDoor) client() policyClient {
	switch p.n.kind {
	case folder:
		return rmv1.NewFolderServiceClient(p.n.w.Conn)
	case cloud:
		return rmv1.NewCloudServiceClient(p.n.w.Conn)
	default:
		return orgv1.NewOrganizationServiceClient(p.n.w.Conn)
	}
}

func (p policyDoor) live() {
	ctx, client := p.n.w.as(p.n.owner), p.client()
	b := &accesspb.AccessPolicyBinding{AccessPolicyTemplateId: "iam.denyServiceAccountApiKeysCreation"}
	bind := &accesspb.BindAccessPolicyRequest{ResourceId: p.n.id, AccessPolicyBinding: b}
	unbind := &accesspb.UnbindAccessPolicyRequest{ResourceId: p.n.id, AccessPolicyTemplateId: b.GetAccessPolicyTemplateId()}
	update := &accesspb.UpdateAccessPolicyBindingParametersRequest{ResourceId: p.n.id, AccessPolicyBinding: b}
	for range 2 { // a second life
		op, err := client.BindAccessPolicy(ctx, bind)
		p.done(op, err, &accesspb.BindAccessPolicyMetadata{ResourceId: p.n.id, AccessPolicyBinding: b}, new(accesspb.BindAccessPolicyResponse))
		p.reads(b)
		op, err = client.UpdateAccessPolicyBindingParameters(ctx, update)
		p.done(op, err, &accesspb.UpdateAccessPolicyBindingParametersMetadata{ResourceId: p.n.id, AccessPolicyBinding: b},
			new(accesspb.UpdateAccessPolicyBindingParametersResponse))
		p.reads(b)
		_, err = client.BindAccessPolicy(ctx, bind)
		p.refused(err, codes.AlreadyExists, "ACCESS_POLICY_ALREADY_BOUND")
		op, err = client.UnbindAccessPolicy(ctx, unbind)
		p.done(op, err, &accesspb.UnbindAccessPolicyMetadata{ResourceId: p.n.id, AccessPolicyTemplateId: b.GetAccessPolicyTemplateId()},
			new(accesspb.UnbindAccessPolicyResponse))
		p.reads()
	}
	_, err := client.UnbindAccessPolicy(ctx, unbind)
	p.refused(err, codes.NotFound, "ACCESS_POLICY_NOT_BOUND")
	_, err = client.UpdateAccessPolicyBindingParameters(ctx, update)
	p.refused(err, codes.NotFound, "ACCESS_POLICY_NOT_BOUND")
}

// done checks an operation as strictly as the provider does.
func (p policyDoor) done(op *operationpb.Operation, err error, metadata, response proto.Message) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
	got, answer := metadata.ProtoReflect().New().Interface(), response.ProtoReflect().New().Interface()
	if !op.GetDone() || op.GetMetadata().UnmarshalTo(got) != nil || op.GetResponse().UnmarshalTo(answer) != nil {
		p.t.Fatalf("operation %v, want it done with %s and %s", op, metadata.ProtoReflect().Descriptor().FullName(), response.ProtoReflect().Descriptor().FullName())
	}
	if d := cmp.Diff(metadata, got, protocmp.Transform()); d != "" {
		p.t.Errorf("metadata (-want +got):\n%s", d)
	}
	again, err := operationpb.NewOperationServiceClient(p.n.w.Conn).Get(p.n.w.as(p.n.owner), &operationpb.GetOperationRequest{OperationId: op.GetId()})
	if d := cmp.Diff(op, again, protocmp.Transform()); err != nil || d != "" {
		p.t.Errorf("asked for again: %v (-first +again)\n%s", err, d)
	}
}

// reads checks the list.
func (p policyDoor) reads(want ...*accesspb.AccessPolicyBinding) {
	p.t.Helper()
	got, err := p.client().ListAccessPolicyBindings(p.n.w.as(p.n.owner), &accesspb.ListAccessPolicyBindingsRequest{ResourceId: p.n.id, PageSize: 1000})
	if err != nil {
		p.t.Fatal(err)
	}
	if d := cmp.Diff(&accesspb.ListAccessPolicyBindingsResponse{AccessPolicyBindings: want}, got, protocmp.Transform()); d != "" {
		p.t.Errorf("listed (-want +got):\n%s", d)
	}
}

func (p policyDoor) refused(err error, code codes.Code, reason string) {
	p.t.Helper()
	if status.Code(err) != code || apierr.ReasonOf(err) != reason {
		p.t.Errorf("refused with %v, want %v %s", err, code, reason)
	}
}

// TestAP5_EveryGuardedMethodIsDenied calls, as the owner of the organization, every
// RPC that a permission guards which a template denies: with the policy it is
// refused by it, without it is not. Methods that are yet to come are among them as
// soon as they have a fixture.
func TestAP5_EveryGuardedMethodIsDenied(t *testing.T) {
	sqldbtest.ForEach(t, "bindery", nil, func(t *testing.T, db *sqldb.DB) {
		w, called := newAccessWorld(t, db), map[string]bool{}
		for _, template := range w.catalog.Policies() {
			for _, r := range allRPCs() {
				if !slices.Contains(template.Denies, r.permission) {
					continue
				}
				called[r.permission] = true
				n := w.grow(r.on)
				if r.prepare != nil {
					r.prepare(n)
				}
				p := policyDoor{t: t, n: n.up(organization)}
				_, err := p.client().BindAccessPolicy(w.as(n.owner), &accesspb.BindAccessPolicyRequest{
					ResourceId: p.n.id, AccessPolicyBinding: &accesspb.AccessPolicyBinding{AccessPolicyTemplateId: template.ID},
				})
				w.must(err)
				if err := invoke(w.as(n.owner), w.Conn, r.method, r.request(n)); status.Code(err) != codes.PermissionDenied || apierr.ReasonOf(err) != apierr.ReasonDeniedByPolicy {
					t.Errorf("%s below %s: %v", r.name(), template.ID, err)
				}
				_, err = p.client().UnbindAccessPolicy(w.as(n.owner), &accesspb.UnbindAccessPolicyRequest{ResourceId: p.n.id, AccessPolicyTemplateId: template.ID})
				w.must(err)
				if err := invoke(w.as(n.owner), w.Conn, r.method, r.request(n)); r.refused(status.Code(err)) {
					t.Errorf("%s without %s: %v", r.name(), template.ID, err)
				}
			}
		}
		for _, permission := range []string{
			"resource-manager.clouds.delete", "resource-manager.folders.delete", "organization-manager.invitations.create", "organization-manager.users.list",
			"iam.serviceAccounts.createToken", "iam.authorizedKeys.create", "iam.apiKeys.create", "iam.accessKeys.create", "iam.ephemeralAccessKeys.create",
		} {
			if !called[permission] {
				t.Errorf("no method that %s guards was called", permission)
			}
		}
	})
}

// TestAP8_DeletingProtectedThings is the rule through the doors of the whole
// process: the refusal names the policy, and unbinding it lets the cloud go.
func TestAP8_DeletingProtectedThings(t *testing.T) {
	sqldbtest.ForEach(t, "bindery", nil, func(t *testing.T, db *sqldb.DB) {
		w := newAccessWorld(t, db)
		f := w.grow(folder)
		c, sibling := f.up(cloud), w.child(f.up(cloud), folder)
		p := policyDoor{t: t, n: f}
		const template = "resourceManager.denyFolderRemoval"
		_, err := p.client().BindAccessPolicy(w.as(f.owner), &accesspb.BindAccessPolicyRequest{
			ResourceId: f.id, AccessPolicyBinding: &accesspb.AccessPolicyBinding{AccessPolicyTemplateId: template},
		})
		w.must(err)
		clouds, folders, now := rmv1.NewCloudServiceClient(w.Conn), rmv1.NewFolderServiceClient(w.Conn), timestamppb.Now()

		_, err = clouds.Delete(w.as(f.owner), &rmv1.DeleteCloudRequest{CloudId: c.id, DeleteAfter: now})
		p.refused(err, codes.PermissionDenied, apierr.ReasonDeniedByPolicy)
		if e, ok := apierr.As(apierr.FromRPC(err)); !ok || e.Meta["accessPolicyTemplateId"] != template || e.Meta["accessPolicyResourceId"] != f.id {
			t.Errorf("the refusal says %+v", e)
		}
		_, err = folders.Delete(w.as(f.owner), &rmv1.DeleteFolderRequest{FolderId: f.id, DeleteAfter: now})
		p.refused(err, codes.PermissionDenied, apierr.ReasonDeniedByPolicy)
		_, err = folders.Delete(w.as(f.owner), &rmv1.DeleteFolderRequest{FolderId: sibling.id, DeleteAfter: now})
		w.must(err)

		_, err = p.client().UnbindAccessPolicy(w.as(f.owner), &accesspb.UnbindAccessPolicyRequest{ResourceId: f.id, AccessPolicyTemplateId: template})
		w.must(err)
		op, err := clouds.Delete(w.as(f.owner), &rmv1.DeleteCloudRequest{CloudId: c.id, DeleteAfter: now})
		if err != nil || !op.GetDone() {
			t.Errorf("the cloud without the policy: %v, %v", op, err)
		}
	})
}
