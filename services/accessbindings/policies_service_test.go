package accessbindings

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/idempotency"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

func TestPolicyOperations(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		binding := &accesspb.AccessPolicyBinding{AccessPolicyTemplateId: denyAccounts}
		for _, row := range []struct {
			op             *operationpb.Operation
			meta, response proto.Message
			event          string
		}{
			{
				w.mustBind(olga, cloud1, denyAccounts),
				&accesspb.BindAccessPolicyMetadata{ResourceId: cloud1.ID, AccessPolicyBinding: binding}, new(accesspb.BindAccessPolicyResponse),
				"resourcemanager.BindCloudAccessPolicy",
			},
			{
				func() *operationpb.Operation {
					op, err := w.setParameters(olga, cloud1, denyAccounts, nil)
					w.must(err)
					return op
				}(),
				&accesspb.UpdateAccessPolicyBindingParametersMetadata{ResourceId: cloud1.ID, AccessPolicyBinding: binding},
				new(accesspb.UpdateAccessPolicyBindingParametersResponse), "resourcemanager.UpdateCloudAccessPolicyBindingParameters",
			},
			{
				w.mustUnbind(olga, cloud1, denyAccounts),
				&accesspb.UnbindAccessPolicyMetadata{ResourceId: cloud1.ID, AccessPolicyTemplateId: denyAccounts}, new(accesspb.UnbindAccessPolicyResponse),
				"resourcemanager.UnbindCloudAccessPolicy",
			},
		} {
			if !row.op.GetDone() || row.op.GetCreatedBy() != olga.ID || !strings.HasPrefix(row.op.GetId(), operationPrefix) {
				t.Errorf("operation %v", row.op)
			}
			meta, response := row.meta.ProtoReflect().New().Interface(), row.response.ProtoReflect().New().Interface()
			w.must(row.op.GetMetadata().UnmarshalTo(meta))
			w.must(row.op.GetResponse().UnmarshalTo(response))
			if diff := cmp.Diff(row.meta, meta, protocmp.Transform()); diff != "" {
				t.Errorf("%s: metadata (-want +got):\n%s", row.event, diff)
			}
			_, name, _ := strings.Cut(row.event, ".")
			records := w.records(name)
			if len(records) != 1 {
				t.Fatalf("%d records of %s", len(records), row.event)
			}
			r := records[0]
			details, _ := r.Details.(map[string]any)
			if r.EventType != audit.EventType("resourcemanager", name) || details["access_policy_template_id"] != denyAccounts ||
				len(r.ResourceMetadata.Path) != 2 || r.Authorization.Permissions[0].Permission != "resource-manager.clouds"+managingPolicies {
				t.Errorf("record %+v", r)
			}
		}
		ops, err := w.oplog.ListOperations(t.Context(), &accessv1.ListOperationsRequest{Resource: cloud1.proto()})
		w.must(err)
		if len(ops.GetOperations()) < 3 || ops.GetOperations()[0].GetDescription() != "Unbind access policy" {
			t.Errorf("the log of operations: %v", ops)
		}
	})
}

func TestPolicyIdempotencyKeys(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		bind := func(key, template string) (*operationpb.Operation, error) {
			ctx := metadata.AppendToOutgoingContext(w.as(olga), idempotency.Header, key)
			return w.policies().BindAccessPolicy(ctx, &accessv1.BindAccessPolicyRequest{
				Resource: cloud1.proto(), AccessPolicyBinding: &accesspb.AccessPolicyBinding{AccessPolicyTemplateId: template},
			})
		}
		first, err := bind("k", denyAccounts)
		w.must(err)
		again, err := bind("k", denyAccounts)
		w.must(err)
		sameAnswer(t, first, again)
		_, err = bind("k", denyImpersonate)
		refused(t, err, codes.InvalidArgument, idempotency.ReasonReused)
		_, err = bind("l", denyAccounts)
		refused(t, err, codes.AlreadyExists, reasonBound)
	})
}

func TestPolicyListsAreCompleteAndPaged(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		var want []string
		for _, p := range slices.Backward(testCatalog(t).Policies()) { // listed as they were bound
			w.mustBind(olga, org1, p.ID)
			want = append(want, p.ID)
		}
		for _, size := range []int64{0, 1, 5, int64(len(want)), 1000} {
			if diff := cmp.Diff(want, w.bound(olga, org1, size)); diff != "" {
				t.Errorf("pages of %d (-want +got):\n%s", size, diff)
			}
		}
		resp, err := w.policies().ListAccessPolicyBindings(w.as(olga), &accessv1.ListAccessPolicyBindingsRequest{Resource: org1.proto(), PageSize: 1})
		w.must(err)
		_, err = w.policies().ListAccessPolicyBindings(w.as(olga), &accessv1.ListAccessPolicyBindingsRequest{Resource: org2.proto(), PageToken: resp.GetNextPageToken()})
		if status.Code(err) != codes.InvalidArgument || fieldOf(err) != "page_token" {
			t.Errorf("the token of another list: %v", err)
		}
		_, err = w.policies().ListAccessPolicyBindings(w.as(nick), &accessv1.ListAccessPolicyBindingsRequest{Resource: org1.proto()})
		refused(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
	})
}

func TestPolicyTemplates(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		var want, got []string
		for _, p := range testCatalog(t).Policies() {
			want = append(want, strings.Join([]string{p.ID, p.Name, p.Description}, "\n"))
		}
		req, pages := &iamv1.ListAccessPolicyTemplatesRequest{PageSize: 5}, 0
		for more := true; more; pages++ {
			resp, err := iamv1.NewAccessPolicyTemplateServiceClient(w.Conn).List(w.as(nick), req)
			w.must(err)
			for _, p := range resp.GetAccessPolicyTemplates() {
				got = append(got, strings.Join([]string{p.GetId(), p.GetName(), p.GetDescription()}, "\n"))
			}
			req.PageToken, more = resp.GetNextPageToken(), resp.GetNextPageToken() != ""
		}
		if diff := cmp.Diff(want, got); diff != "" || pages != (len(want)+4)/5 {
			t.Errorf("%d pages (-want +got):\n%s", pages, diff)
		}
	})
}

// A policy that a later program has bound could not be enforced by this one: it
// neither starts nor goes on.
func TestAnUnknownPolicyStopsTheProcess(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		err := (&oracle{world: w}).raw(policyBound(cloud1, PolicyBinding{Template: "later.denyEverything"}))
		refused(t, err, codes.Unavailable, apierr.ReasonCheckerUnavailable)
		if _, err := w.service.committer.store.load(t.Context(), testCatalog(t)); err == nil || !strings.Contains(err.Error(), "later.denyEverything") {
			t.Errorf("loading it: %v", err)
		}
	})
}

// Parameters are kept as they were given, and all replaced by an update: by the
// catalogue of a template that has some.
func TestPolicyParametersAreKept(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		o := &oracle{world: w}
		for _, parameters := range []map[string]string{{"a": "1", "b": "é\n"}, {"b": ""}, nil} {
			w.must(o.raw(policyBound(cloud1, PolicyBinding{Template: denyAccounts, Parameters: parameters})))
			resp, err := w.policies().ListAccessPolicyBindings(w.as(olga), &accessv1.ListAccessPolicyBindingsRequest{Resource: cloud1.proto()})
			w.must(err)
			if got := resp.GetAccessPolicyBindings(); len(got) != 1 || !maps.Equal(got[0].GetParameters(), parameters) {
				t.Errorf("kept %v of %v", got, parameters)
			}
		}
	})
}
