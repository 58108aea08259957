package resourcemanager

import (
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
	"github.com/bindery-iam/bindery/services/accessbindings"
)

// together runs a test with the real accessbindings beside the unit, and with the
// named users known.
func together(t *testing.T, users []string, f func(t *testing.T, w *world)) {
	decider := accessbindings.Unit()
	series := slices.Concat(decider.Migrations, Config{}.Unit().Migrations)
	sqldbtest.ForEach(t, Name, series, func(t *testing.T, db *sqldb.DB) {
		c, err := catalog.Load()
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, db: db}
		w.World = servertest.Start(t, servertest.Options{Units: []server.Unit{decider, Unit()}, DB: db, Catalog: c})
		w.clients()
		subjects := accessv1.NewSubjectServiceClient(w.Unit("identity", "accessbindings"))
		for _, u := range users {
			must[*accessv1.SetSubjectResponse](t)(subjects.SetSubject(t.Context(), &accessv1.SetSubjectRequest{
				Subject: &accessv1.Subject{Type: "userAccount", Id: u}, State: accessv1.SetSubjectRequest_ACTIVE,
			}))
		}
		f(t, w)
	})
}

// The main job, with nothing faked: make, grant, use, list, revoke, delete.
func TestTogether(t *testing.T) {
	together(t, []string{"ann", "eve"}, func(t *testing.T, w *world) {
		ann, eve := w.User("ann"), w.User("eve")
		c := w.first("ann")
		_, err := w.clouds.Create(ann, &rmv1.CreateCloudRequest{Name: "second"})
		wantRefusal(t, "CR-3: another first cloud", err, codes.InvalidArgument, "organization_id")
		web, db := w.folder("ann", c.GetId(), "web"), w.folder("ann", c.GetId(), "data")

		get := func(id string) error {
			_, err := w.folders.Get(eve, &rmv1.GetFolderRequest{FolderId: id})
			return err
		}
		wantRefusal(t, "before the grant", get(web.GetId()), codes.PermissionDenied, apierr.ReasonPermissionDenied)
		change := func(action accesspb.AccessBindingAction) *operationpb.Operation {
			return must[*operationpb.Operation](t)(w.folders.UpdateAccessBindings(ann, &accesspb.UpdateAccessBindingsRequest{
				ResourceId: web.GetId(), AccessBindingDeltas: []*accesspb.AccessBindingDelta{{Action: action, AccessBinding: &accesspb.AccessBinding{
					RoleId: "viewer", Subject: &accesspb.Subject{Type: "userAccount", Id: "eve"},
				}}},
			}))
		}
		result := new(accesspb.AccessBindingsOperationResult)
		w.done(change(accesspb.AccessBindingAction_ADD), result, new(accesspb.UpdateAccessBindingsMetadata))
		if len(result.GetEffectiveDeltas()) != 1 {
			t.Errorf("effective deltas = %v, want the one", result)
		}
		if err := get(web.GetId()); err != nil {
			t.Errorf("after the grant: %v", err)
		}
		wantRefusal(t, "the sibling", get(db.GetId()), codes.PermissionDenied, apierr.ReasonPermissionDenied)
		names, err := w.allFolders(eve, c.GetId(), "", 10)
		if err != nil || !slices.Equal(names, []string{"web"}) {
			t.Errorf("folders that eve sees = %q, %v; want web", names, err)
		}
		ops := must[*rmv1.ListFolderOperationsResponse](t)(w.folders.ListOperations(ann, &rmv1.ListFolderOperationsRequest{FolderId: web.GetId()}))
		if len(ops.GetOperations()) != 2 {
			t.Errorf("operations on the folder = %v, want its creation and the grant", ops.GetOperations())
		}
		for _, op := range ops.GetOperations() { // both units' operations at one door
			if got := must[*operationpb.Operation](t)(w.operations.Get(ann, &operationpb.GetOperationRequest{OperationId: op.GetId()})); !got.GetDone() {
				t.Errorf("operation %v is not done", got)
			}
		}
		w.done(change(accesspb.AccessBindingAction_REMOVE), nil, nil)
		wantRefusal(t, "after the revoke", get(web.GetId()), codes.PermissionDenied, apierr.ReasonPermissionDenied)

		org := must[*operationpb.Operation](t)(w.orgs.UpdateAccessBindings(ann, &accesspb.UpdateAccessBindingsRequest{
			ResourceId: c.GetOrganizationId(), AccessBindingDeltas: []*accesspb.AccessBindingDelta{{Action: accesspb.AccessBindingAction_ADD, AccessBinding: &accesspb.AccessBinding{
				RoleId: "viewer", Subject: &accesspb.Subject{Type: "userAccount", Id: "eve"},
			}}},
		}))
		w.done(org, new(emptypb.Empty), nil)
		if err := get(web.GetId()); err != nil {
			t.Errorf("RH-3: by a role on the organization: %v", err)
		}
		w.done(must[*operationpb.Operation](t)(w.deleteCloud("ann", c.GetId(), w.in(0))), new(emptypb.Empty), nil)
		wantRefusal(t, "after the deletion", get(web.GetId()), codes.NotFound, apierr.ReasonResourceNotFound)
	})
}
