package resourcemanager

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/bindery-iam/bindery/pkg/apierr"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// accessClient is the access methods that the three services have in common.
type accessClient interface {
	ListAccessBindings(context.Context, *accesspb.ListAccessBindingsRequest, ...grpc.CallOption) (*accesspb.ListAccessBindingsResponse, error)
	SetAccessBindings(context.Context, *accesspb.SetAccessBindingsRequest, ...grpc.CallOption) (*operationpb.Operation, error)
	UpdateAccessBindings(context.Context, *accesspb.UpdateAccessBindingsRequest, ...grpc.CallOption) (*operationpb.Operation, error)
	ListAccessPolicyBindings(context.Context, *accesspb.ListAccessPolicyBindingsRequest, ...grpc.CallOption) (*accesspb.ListAccessPolicyBindingsResponse, error)
	BindAccessPolicy(context.Context, *accesspb.BindAccessPolicyRequest, ...grpc.CallOption) (*operationpb.Operation, error)
	UnbindAccessPolicy(context.Context, *accesspb.UnbindAccessPolicyRequest, ...grpc.CallOption) (*operationpb.Operation, error)
	UpdateAccessPolicyBindingParameters(context.Context, *accesspb.UpdateAccessPolicyBindingParametersRequest, ...grpc.CallOption) (*operationpb.Operation, error)
}

// forEachKind runs f for the access methods of every kind, on a resource owned by ann.
func forEachKind(t *testing.T, f func(t *testing.T, w *world, client accessClient, k *kind, resourceID string)) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		web := w.folder("ann", c.GetId(), "web")
		t.Run("organization", func(t *testing.T) { f(t, w, w.orgs, organization, c.GetOrganizationId()) })
		t.Run("cloud", func(t *testing.T) { f(t, w, w.clouds, cloud, c.GetId()) })
		t.Run("folder", func(t *testing.T) { f(t, w, w.folders, folder, web.GetId()) })
	})
}

// What a caller asks is asked of accessbindings, whole, and its answer is the
// caller's.
func TestAB_AccessMethodsArePassedOn(t *testing.T) {
	forEachKind(t, func(t *testing.T, w *world, client accessClient, k *kind, resourceID string) {
		ann := w.User("ann")
		resource := &accessv1.Resource{Type: k.typ, Id: resourceID}
		subject := &accesspb.Subject{Type: "system", Id: "group:organization:org1:users"}
		same := &accessv1.Subject{Type: "system", Id: "group:organization:org1:users"}

		op := must[*operationpb.Operation](t)(client.SetAccessBindings(ann, &accesspb.SetAccessBindingsRequest{
			ResourceId: resourceID, AccessBindings: []*accesspb.AccessBinding{{RoleId: "viewer", Subject: subject}},
		}))
		set := new(accessv1.SetAccessBindingsRequest)
		w.unpack(op, nil, set)
		if diff := cmp.Diff(&accessv1.SetAccessBindingsRequest{
			Resource: resource, AccessBindings: []*accessv1.AccessBinding{{RoleId: "viewer", Subject: same}},
		}, set, protocmp.Transform()); diff != "" {
			t.Errorf("SetAccessBindings (-want +got):\n%s", diff)
		}

		op = must[*operationpb.Operation](t)(client.UpdateAccessBindings(ann, &accesspb.UpdateAccessBindingsRequest{
			ResourceId: resourceID, AccessBindingDeltas: []*accesspb.AccessBindingDelta{
				{Action: accesspb.AccessBindingAction_ADD, AccessBinding: &accesspb.AccessBinding{RoleId: "editor", Subject: subject}},
				{Action: accesspb.AccessBindingAction_REMOVE, AccessBinding: &accesspb.AccessBinding{RoleId: "viewer", Subject: subject}},
			},
		}))
		update := new(accessv1.UpdateAccessBindingsRequest)
		w.unpack(op, nil, update)
		if diff := cmp.Diff(&accessv1.UpdateAccessBindingsRequest{
			Resource: resource, AccessBindingDeltas: []*accessv1.AccessBindingDelta{
				{Action: accesspb.AccessBindingAction_ADD, AccessBinding: &accessv1.AccessBinding{RoleId: "editor", Subject: same}},
				{Action: accesspb.AccessBindingAction_REMOVE, AccessBinding: &accessv1.AccessBinding{RoleId: "viewer", Subject: same}},
			},
		}, update, protocmp.Transform()); diff != "" {
			t.Errorf("UpdateAccessBindings (-want +got):\n%s", diff)
		}

		_, err := client.UpdateAccessBindings(ann, &accesspb.UpdateAccessBindingsRequest{
			ResourceId: resourceID, AccessBindingDeltas: []*accesspb.AccessBindingDelta{
				{Action: accesspb.AccessBindingAction_REMOVE, AccessBinding: &accesspb.AccessBinding{RoleId: k.ownerRole + "x", Subject: subject}},
			},
		})
		wantRefusal(t, "a refusal of accessbindings", err, codes.FailedPrecondition, "LAST_OWNER")

		w.access.grant("gus", "auditor", k.typ, resourceID)
		list := must[*accesspb.ListAccessBindingsResponse](t)(client.ListAccessBindings(ann, &accesspb.ListAccessBindingsRequest{ResourceId: resourceID, PageToken: "here"}))
		found := false
		for _, b := range list.GetAccessBindings() {
			found = found || cmp.Diff(&accesspb.AccessBinding{RoleId: "auditor", Subject: &accesspb.Subject{Type: "userAccount", Id: "gus"}}, b, protocmp.Transform()) == ""
		}
		if !found || list.GetNextPageToken() != "next to here" {
			t.Errorf("ListAccessBindings = %v, want the binding of gus and the token as given", list)
		}
	})
}

func TestAP_PolicyMethodsArePassedOn(t *testing.T) {
	forEachKind(t, func(t *testing.T, w *world, client accessClient, k *kind, resourceID string) {
		ann, resource := w.User("ann"), &accessv1.Resource{Type: k.typ, Id: resourceID}
		policy := &accesspb.AccessPolicyBinding{AccessPolicyTemplateId: "iam.denyServiceAccountCreation", Parameters: map[string]string{"a": "b"}}
		passedOn := func(op *operationpb.Operation, want proto.Message) {
			t.Helper()
			got := want.ProtoReflect().New().Interface()
			w.unpack(op, nil, got)
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("passed on (-want +got):\n%s", diff)
			}
		}
		passedOn(must[*operationpb.Operation](t)(client.BindAccessPolicy(ann, &accesspb.BindAccessPolicyRequest{ResourceId: resourceID, AccessPolicyBinding: policy})),
			&accessv1.BindAccessPolicyRequest{Resource: resource, AccessPolicyBinding: policy})
		passedOn(must[*operationpb.Operation](t)(client.UpdateAccessPolicyBindingParameters(ann, &accesspb.UpdateAccessPolicyBindingParametersRequest{
			ResourceId: resourceID, AccessPolicyBinding: policy,
		})), &accessv1.UpdateAccessPolicyBindingParametersRequest{Resource: resource, AccessPolicyBinding: policy})
		passedOn(must[*operationpb.Operation](t)(client.UnbindAccessPolicy(ann, &accesspb.UnbindAccessPolicyRequest{ResourceId: resourceID, AccessPolicyTemplateId: "x.y"})),
			&accessv1.UnbindAccessPolicyRequest{Resource: resource, AccessPolicyTemplateId: "x.y"})

		_, err := client.UnbindAccessPolicy(ann, &accesspb.UnbindAccessPolicyRequest{ResourceId: resourceID, AccessPolicyTemplateId: "unbound"})
		wantRefusal(t, "a refusal of accessbindings", err, codes.NotFound, "ACCESS_POLICY_NOT_BOUND")

		got := must[*accesspb.ListAccessPolicyBindingsResponse](t)(client.ListAccessPolicyBindings(ann,
			&accesspb.ListAccessPolicyBindingsRequest{ResourceId: resourceID, PageSize: 7, PageToken: "here"}))
		want := &accesspb.ListAccessPolicyBindingsResponse{
			AccessPolicyBindings: []*accesspb.AccessPolicyBinding{{AccessPolicyTemplateId: "on", Parameters: map[string]string{k.typ: resourceID}}},
			NextPageToken:        "7 next to here",
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("ListAccessPolicyBindings (-want +got):\n%s", diff)
		}
	})
}

func TestAccessMethodsAreAuthorized(t *testing.T) {
	forEachKind(t, func(t *testing.T, w *world, client accessClient, k *kind, resourceID string) {
		policy := &accesspb.AccessPolicyBinding{AccessPolicyTemplateId: "iam.denyServiceAccountCreation"}
		delta := &accesspb.AccessBindingDelta{Action: accesspb.AccessBindingAction_ADD, AccessBinding: &accesspb.AccessBinding{
			RoleId: "viewer", Subject: &accesspb.Subject{Type: "userAccount", Id: "eve"},
		}}
		calls := map[string]func(ctx context.Context, id string) error{
			"ListAccessBindings": func(ctx context.Context, id string) error {
				_, err := client.ListAccessBindings(ctx, &accesspb.ListAccessBindingsRequest{ResourceId: id})
				return err
			},
			"SetAccessBindings": func(ctx context.Context, id string) error {
				_, err := client.SetAccessBindings(ctx, &accesspb.SetAccessBindingsRequest{ResourceId: id})
				return err
			},
			"UpdateAccessBindings": func(ctx context.Context, id string) error {
				_, err := client.UpdateAccessBindings(ctx, &accesspb.UpdateAccessBindingsRequest{ResourceId: id, AccessBindingDeltas: []*accesspb.AccessBindingDelta{delta}})
				return err
			},
			"ListAccessPolicyBindings": func(ctx context.Context, id string) error {
				_, err := client.ListAccessPolicyBindings(ctx, &accesspb.ListAccessPolicyBindingsRequest{ResourceId: id})
				return err
			},
			"BindAccessPolicy": func(ctx context.Context, id string) error {
				_, err := client.BindAccessPolicy(ctx, &accesspb.BindAccessPolicyRequest{ResourceId: id, AccessPolicyBinding: policy})
				return err
			},
			"UnbindAccessPolicy": func(ctx context.Context, id string) error {
				_, err := client.UnbindAccessPolicy(ctx, &accesspb.UnbindAccessPolicyRequest{ResourceId: id, AccessPolicyTemplateId: "x"})
				return err
			},
			"UpdateAccessPolicyBindingParameters": func(ctx context.Context, id string) error {
				_, err := client.UpdateAccessPolicyBindingParameters(ctx, &accesspb.UpdateAccessPolicyBindingParametersRequest{ResourceId: id, AccessPolicyBinding: policy})
				return err
			},
		}
		for name, call := range calls {
			wantRefusal(t, name+" by nobody", call(t.Context(), resourceID), codes.Unauthenticated, apierr.ReasonTokenMissing)
			wantRefusal(t, name+" by a stranger", call(w.User("eve"), resourceID), codes.PermissionDenied, apierr.ReasonPermissionDenied)
			wantRefusal(t, name+" of an unknown resource", call(w.User("ann"), k.idPrefix+"00000000000000000"), codes.NotFound, apierr.ReasonResourceNotFound)
			if err := call(w.User("ann"), resourceID); err != nil {
				t.Errorf("%s by the owner: %v", name, err)
			}
		}
	})
}
