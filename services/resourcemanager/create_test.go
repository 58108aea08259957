package resourcemanager

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/catalog"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	quotapb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/quota"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

func TestCR2_CR4_CR11_FirstCloudNeedsNoRole(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		ann := w.User("ann")
		op := must[*operationpb.Operation](t)(w.clouds.Create(ann, &rmv1.CreateCloudRequest{
			Name: "first", Description: "my cloud", Labels: map[string]string{"a": "b"},
		}))
		c, meta := new(rmv1.Cloud), new(rmv1.CreateCloudMetadata)
		w.done(op, c, meta)
		if meta.GetCloudId() != c.GetId() || op.GetCreatedBy() != "ann" || op.GetDescription() != "Create cloud" {
			t.Errorf("operation %v with metadata %v about cloud %v", op, meta, c)
		}
		// Read your writes, by the call's own answer.
		got := must[*rmv1.Cloud](t)(w.clouds.Get(ann, &rmv1.GetCloudRequest{CloudId: c.GetId()}))
		want := &rmv1.Cloud{
			Id: c.GetId(), OrganizationId: c.GetOrganizationId(), CreatedAt: c.GetCreatedAt(),
			Name: "first", Description: "my cloud", Labels: map[string]string{"a": "b"},
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" || !strings.HasPrefix(c.GetId(), "cld") || !strings.HasPrefix(c.GetOrganizationId(), "org") {
			t.Errorf("cloud (-want +got):\n%s", diff)
		}
		// CR-2, CR-4, CR-11: owner of both, by the platform; CR-11: member.
		if got := w.access.rolesOn(cloud.typ, c.GetId()); !slices.Equal(got, []string{"ann resource-manager.clouds.owner"}) {
			t.Errorf("roles on the cloud = %q", got)
		}
		if got := w.access.rolesOn(organization.typ, c.GetOrganizationId()); !slices.Equal(got, []string{"ann organization-manager.organizations.owner"}) {
			t.Errorf("roles on the organization = %q", got)
		}
		if got := w.access.members[organization.resource(c.GetOrganizationId())]; !slices.Equal(got, []string{"userAccount:ann"}) {
			t.Errorf("members = %q, want the creator", got)
		}
		org := must[*orgv1.Organization](t)(w.orgs.Get(ann, &orgv1.GetOrganizationRequest{OrganizationId: c.GetOrganizationId()}))
		if org.GetTitle() != "first" || !strings.HasPrefix(org.GetName(), "organization-") {
			t.Errorf("organization = %v", org)
		}
		wantEvents := []string{
			"organizationmanager.CreateOrganization STARTED ann", "resourcemanager.CreateCloud STARTED ann",
			"organizationmanager.CreateOrganization DONE ann", "resourcemanager.CreateCloud DONE ann",
		}
		if diff := cmp.Diff(wantEvents, w.events()); diff != "" {
			t.Errorf("audit (-want +got):\n%s", diff)
		}
	})
}

func TestCR3_OnlyTheFirstCloudIsFree(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		w.first("ann")
		_, err := w.clouds.Create(w.User("ann"), &rmv1.CreateCloudRequest{Name: "second"})
		wantRefusal(t, "a second cloud without organization", err, codes.InvalidArgument, "organization_id")

		// A member of an organization without a cloud still has a first one.
		must[*operationpb.Operation](t)(w.life.CreateOrganization(w.User("bob"), &brmv1.CreateOrganizationRequest{Name: "empty"}))
		w.first("bob")
		_, err = w.clouds.Create(w.User("bob"), &rmv1.CreateCloudRequest{Name: "second"})
		wantRefusal(t, "a second cloud of bob", err, codes.InvalidArgument, "organization_id")
	})
}

func TestCR3_ConcurrentFirstClouds(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		made := 0
		for range 8 {
			wg.Go(func() {
				_, err := w.clouds.Create(w.User("ann"), &rmv1.CreateCloudRequest{Name: "first"})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					made++
				} else {
					wantRefusal(t, "one of several first clouds", err, codes.InvalidArgument, "organization_id")
				}
			})
		}
		wg.Wait()
		if made != 1 {
			t.Errorf("%d first clouds were made at once, want 1", made)
		}
	})
}

func TestCR1_CloudInAnOrganization(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		org := w.first("ann").GetOrganizationId()
		create := func(user string) error {
			_, err := w.clouds.Create(w.User(user), &rmv1.CreateCloudRequest{OrganizationId: org, Name: "second"})
			return err
		}
		wantRefusal(t, "a stranger", create("eve"), codes.PermissionDenied, apierr.ReasonPermissionDenied)
		w.access.grant("eve", "resource-manager.viewer", organization.typ, org)
		wantRefusal(t, "a viewer", create("eve"), codes.PermissionDenied, apierr.ReasonPermissionDenied)
		w.access.grant("eve", "resource-manager.editor", organization.typ, org)
		if err := create("eve"); err != nil {
			t.Errorf("an editor: %v", err)
		}
		_, err := w.clouds.Create(w.User("eve"), &rmv1.CreateCloudRequest{OrganizationId: "org00000000000000000", Name: "second"})
		wantRefusal(t, "an unknown organization", err, codes.NotFound, apierr.ReasonResourceNotFound)
		// NM-3: names of clouds need not be unique; CR-4: the creator owns it.
		c := w.cloud("eve", org, "second")
		if got := w.access.rolesOn(cloud.typ, c.GetId()); !slices.Equal(got, []string{"eve resource-manager.clouds.owner"}) {
			t.Errorf("roles on the cloud = %q", got)
		}
	})
}

func TestCR6_Folder(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		create := func(user, name string) (*operationpb.Operation, error) {
			return w.folders.Create(w.User(user), &rmv1.CreateFolderRequest{CloudId: c.GetId(), Name: name, Labels: map[string]string{"k": ""}})
		}
		_, err := create("eve", "web")
		wantRefusal(t, "a stranger", err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		w.access.grant("eve", "editor", cloud.typ, c.GetId())
		f, meta := new(rmv1.Folder), new(rmv1.CreateFolderMetadata)
		w.done(must[*operationpb.Operation](t)(create("eve", "web")), f, meta)
		if f.GetCloudId() != c.GetId() || f.GetStatus() != rmv1.Folder_ACTIVE || meta.GetFolderId() != f.GetId() || f.GetLabels()["k"] != "" || len(f.GetLabels()) != 1 {
			t.Errorf("folder = %v, metadata = %v", f, meta)
		}
		if got := w.access.rolesOn(folder.typ, f.GetId()); len(got) != 0 {
			t.Errorf("roles on the folder = %q, want none: the creator gets no binding", got)
		}
		got := must[*rmv1.Folder](t)(w.folders.Get(w.User("ann"), &rmv1.GetFolderRequest{FolderId: f.GetId()}))
		if diff := cmp.Diff(f, got, protocmp.Transform()); diff != "" {
			t.Errorf("Get after Create (-want +got):\n%s", diff)
		}

		// NM-3: unique in the cloud, case does not come into it (NM-1).
		_, err = create("eve", "web")
		wantRefusal(t, "the same name again", err, codes.AlreadyExists, ReasonFolderNameTaken)
		other := w.cloud("ann", c.GetOrganizationId(), "other")
		w.folder("ann", other.GetId(), "web")
		_, err = w.folders.Create(w.User("ann"), &rmv1.CreateFolderRequest{CloudId: "cld00000000000000000", Name: "web"})
		wantRefusal(t, "an unknown cloud", err, codes.NotFound, apierr.ReasonResourceNotFound)
	})
}

func TestNM1_NM4_NM5_NM6_RefusedFields(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		many := map[string]string{}
		for i := range 65 {
			many["k"+strings.Repeat("x", i%60)+string(rune('a'+i%26))] = "v"
		}
		tests := []struct {
			name  string
			req   *rmv1.CreateFolderRequest
			field string
		}{
			{"NM-1 empty name", &rmv1.CreateFolderRequest{}, "name"},
			{"NM-1 two characters (C-5)", &rmv1.CreateFolderRequest{Name: "ab"}, "name"},
			{"NM-1 64 characters", &rmv1.CreateFolderRequest{Name: strings.Repeat("a", 64)}, "name"},
			{"NM-1 upper case", &rmv1.CreateFolderRequest{Name: "Web"}, "name"},
			{"NM-1 digit first", &rmv1.CreateFolderRequest{Name: "1web"}, "name"},
			{"NM-1 dash last", &rmv1.CreateFolderRequest{Name: "web-"}, "name"},
			{"NM-1 line feed last", &rmv1.CreateFolderRequest{Name: "web\n"}, "name"},
			{"NM-4 description of 257", &rmv1.CreateFolderRequest{Name: "web", Description: strings.Repeat("é", 257)}, "description"},
			{"NM-4 description with NUL", &rmv1.CreateFolderRequest{Name: "web", Description: "a\x00"}, "description"},
			{"NM-5 65 labels", &rmv1.CreateFolderRequest{Name: "web", Labels: many}, "labels"},
			{"NM-5 upper case in a key", &rmv1.CreateFolderRequest{Name: "web", Labels: map[string]string{"A": "a"}}, `labels["A"]`},
			{"NM-5 upper case in a value", &rmv1.CreateFolderRequest{Name: "web", Labels: map[string]string{"a": "A"}}, `labels["a"]`},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				tt.req.CloudId = c.GetId()
				_, err := w.folders.Create(w.User("ann"), tt.req)
				wantRefusal(t, tt.name, err, codes.InvalidArgument, tt.field)
			})
		}
		w.folder("ann", c.GetId(), "abc")
		w.folder("ann", c.GetId(), strings.Repeat("a", 63))
		_, err := w.folders.Get(w.User("ann"), &rmv1.GetFolderRequest{FolderId: strings.Repeat("a", 51)})
		wantRefusal(t, "NM-6 an id of 51", err, codes.InvalidArgument, "folder_id")
	})
}

func TestQL2_Quotas(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		for quotaID, limit := range map[string]int64{catalog.QuotaClouds: 3, catalog.QuotaFolders: 4, catalog.QuotaOrganizations: 3} {
			w.limit(quotaID, installation, limit)
		}
		c := w.first("ann")
		ann := w.User("ann")
		for _, name := range []string{"one", "two", "three", "four"} {
			w.folder("ann", c.GetId(), name)
		}
		_, err := w.folders.Create(ann, &rmv1.CreateFolderRequest{CloudId: c.GetId(), Name: "five"})
		wantRefusal(t, "a fifth folder", err, codes.ResourceExhausted, apierr.ReasonQuotaExceeded)
		e, _ := apierr.As(apierr.FromRPC(err))
		found := false
		for _, d := range e.Details {
			if q, ok := d.(*quotapb.QuotaFailure); ok {
				v := q.GetViolations()[0]
				found = v.GetMetric().GetName() == "resource-manager.folders.count" && v.GetMetric().GetLimit() == 4 && v.GetMetric().GetUsage() == 4 && v.GetRequired() == 5
			}
		}
		if !found {
			t.Errorf("details of %v hold no QuotaFailure of the folder quota", err)
		}

		// Concurrent creations keep to the quota of clouds: two more fit.
		var wg sync.WaitGroup
		var mu sync.Mutex
		made := 0
		for range 6 {
			wg.Go(func() {
				_, err := w.clouds.Create(ann, &rmv1.CreateCloudRequest{OrganizationId: c.GetOrganizationId(), Name: "more"})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					made++
				} else {
					wantRefusal(t, "a cloud too many", err, codes.ResourceExhausted, apierr.ReasonQuotaExceeded)
				}
			})
		}
		wg.Wait()
		if made != 2 {
			t.Errorf("%d clouds were made beside the first, want 2", made)
		}

		for _, name := range []string{"org-two", "org-three"} {
			w.done(must[*operationpb.Operation](t)(w.life.CreateOrganization(ann, &brmv1.CreateOrganizationRequest{Name: name})), nil, nil)
		}
		_, err = w.life.CreateOrganization(ann, &brmv1.CreateOrganizationRequest{Name: "org-four"})
		wantRefusal(t, "an organization too many", err, codes.ResourceExhausted, apierr.ReasonQuotaExceeded)
	})
}

func TestCR11_Organization(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		op := must[*operationpb.Operation](t)(w.life.CreateOrganization(w.User("ann"), &brmv1.CreateOrganizationRequest{Name: "acme", Description: "d", Labels: map[string]string{"a": "b"}}))
		org, meta := new(orgv1.Organization), new(brmv1.CreateOrganizationMetadata)
		w.done(op, org, meta)
		if org.GetName() != "acme" || org.GetTitle() != "acme" || org.GetDescription() != "d" || org.GetLabels()["a"] != "b" || meta.GetOrganizationId() != org.GetId() {
			t.Errorf("organization = %v, metadata = %v", org, meta)
		}
		if got := w.access.rolesOn(organization.typ, org.GetId()); !slices.Equal(got, []string{"ann organization-manager.organizations.owner"}) {
			t.Errorf("roles = %q, want the creator as owner", got)
		}
		_, err := w.orgs.Get(w.User("eve"), &orgv1.GetOrganizationRequest{OrganizationId: org.GetId()})
		wantRefusal(t, "a stranger", err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
	})
}

func TestSU9_ServiceAccountsFoundNothing(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		robot := w.Subject("serviceAccount", "robot")
		_, err := w.clouds.Create(robot, &rmv1.CreateCloudRequest{Name: "first"})
		wantRefusal(t, "a first cloud", err, codes.PermissionDenied, ReasonServiceAccount)
		_, err = w.life.CreateOrganization(robot, &brmv1.CreateOrganizationRequest{Name: "acme"})
		wantRefusal(t, "an organization", err, codes.PermissionDenied, ReasonServiceAccount)
		c := w.first("ann")
		w.access.grant("robot", "editor", organization.typ, c.GetOrganizationId())
		must[*operationpb.Operation](t)(w.clouds.Create(robot, &rmv1.CreateCloudRequest{OrganizationId: c.GetOrganizationId(), Name: "made"}))
	})
}

// While accessbindings is away a creation is late, not lost; what can never be is
// the error of the call.
func TestCreateSurvivesItsPeer(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		ann := w.User("ann")
		w.access.fail(apierr.Unavailable(apierr.ReasonUnavailable, "away"))
		op := must[*operationpb.Operation](t)(w.folders.Create(ann, &rmv1.CreateFolderRequest{CloudId: c.GetId(), Name: "late"}))
		if op.GetDone() {
			t.Errorf("operation %v is done while the tree does not know the folder", op)
		}
		if got := must[*operationpb.Operation](t)(w.operations.Get(ann, &operationpb.GetOperationRequest{OperationId: op.GetId()})); got.GetDone() {
			t.Errorf("operation %v is done, want it under way", got)
		}
		_, err := w.folders.Create(ann, &rmv1.CreateFolderRequest{CloudId: c.GetId(), Name: "late"})
		wantRefusal(t, "its name, meanwhile", err, codes.AlreadyExists, ReasonFolderNameTaken)
		w.access.fail(nil)
		f := new(rmv1.Folder)
		w.unpack(w.poll(ann, op.GetId()), f, nil)
		if got := must[*rmv1.Folder](t)(w.folders.Get(ann, &rmv1.GetFolderRequest{FolderId: f.GetId()})); got.GetStatus() != rmv1.Folder_ACTIVE {
			t.Errorf("folder = %v, want it active", got)
		}

		w.access.fail(apierr.Precondition("RESOURCE_DELETED", "never again"))
		_, err = w.folders.Create(ann, &rmv1.CreateFolderRequest{CloudId: c.GetId(), Name: "never"})
		w.access.fail(nil)
		wantRefusal(t, "a creation that the tree refuses", err, codes.FailedPrecondition, "RESOURCE_DELETED")
		w.folder("ann", c.GetId(), "never") // nothing of it remains
	})
}
