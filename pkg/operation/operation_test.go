package operation_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/revision"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

var folder = authz.Resource{Type: "resource-manager.folder", ID: "fld1"}

type world struct {
	db    *sqldb.DB
	store *operation.Store
	now   time.Time
}

func forEach(t *testing.T, f func(t *testing.T, w *world)) {
	sqldbtest.ForEach(t, "unit", []sqldb.Migrations{operation.Migrations("unit")}, func(t *testing.T, db *sqldb.DB) {
		w := &world{db: db, now: time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.UTC)}
		w.store = operation.NewStore(db, "unit", "orm", func() time.Time { return w.now })
		f(t, w)
	})
}

func (w *world) tx(t *testing.T, f func(ctx context.Context, tx *sql.Tx) error) {
	t.Helper()
	if err := sqldb.InTx(t.Context(), w.db, f); err != nil {
		t.Fatal(err)
	}
}

// insert makes an operation on a resource, with a response when done.
func (w *world) insert(t *testing.T, r authz.Resource, response proto.Message) operation.Operation {
	t.Helper()
	return w.insertFor(t, r, authz.Resource{}, response)
}

// insertFor is insert of one that is viewed by the rights on another resource.
func (w *world) insertFor(t *testing.T, r, viewOn authz.Resource, response proto.Message) operation.Operation {
	t.Helper()
	var op operation.Operation
	w.tx(t, func(ctx context.Context, tx *sql.Tx) (err error) {
		op, err = w.store.Insert(ctx, tx, operation.New{
			Resource: r, ViewOn: viewOn, ViewPermission: "resource-manager.folders.get", Description: "Create folder", CreatedBy: "usr1",
			Metadata: &rmv1.CreateFolderMetadata{FolderId: r.ID}, Response: response,
		})
		return err
	})
	return op
}

func (w *world) get(t *testing.T, id string) *operationpb.Operation {
	t.Helper()
	op, err := w.store.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return op.Proto()
}

func TestInsertAndEnd(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		created := timestamppb.New(w.now.Truncate(time.Microsecond))
		op := w.insert(t, folder, nil)
		if diff := cmp.Diff(op.Proto(), w.get(t, op.ID), protocmp.Transform()); diff != "" {
			t.Errorf("what Insert returned and what was stored differ:\n%s", diff)
		}
		got := w.get(t, op.ID)
		meta := new(rmv1.CreateFolderMetadata)
		if err := got.GetMetadata().UnmarshalTo(meta); err != nil || meta.GetFolderId() != "fld1" {
			t.Errorf("metadata = %v, %v", got.GetMetadata(), err)
		}
		if got.GetDone() || got.GetResult() != nil || got.GetCreatedBy() != "usr1" || got.GetDescription() != "Create folder" ||
			!proto.Equal(got.GetCreatedAt(), created) || !proto.Equal(got.GetModifiedAt(), created) || len(got.GetId()) != 20 {
			t.Errorf("operation = %v, want one under way", got)
		}

		w.now = w.now.Add(time.Minute)
		w.tx(t, func(ctx context.Context, tx *sql.Tx) error {
			return w.store.Finish(ctx, tx, op.ID, nil, &rmv1.Folder{Id: "fld1"})
		})
		done := w.get(t, op.ID)
		resp := new(rmv1.Folder)
		if err := done.GetResponse().UnmarshalTo(resp); err != nil || resp.GetId() != "fld1" || !done.GetDone() ||
			!proto.Equal(done.GetCreatedAt(), created) || !proto.Equal(done.GetModifiedAt(), timestamppb.New(w.now.Truncate(time.Microsecond))) ||
			done.GetMetadata() == nil {
			t.Errorf("finished = %v, %v", done, err)
		}
		// A repeated job, or one that comes too late, changes nothing.
		w.tx(t, func(ctx context.Context, tx *sql.Tx) error {
			return errors.Join(w.store.Finish(ctx, tx, op.ID, nil, &rmv1.Folder{Id: "other"}),
				w.store.Fail(ctx, tx, op.ID, nil, errors.New("late")))
		})
		if diff := cmp.Diff(done, w.get(t, op.ID), protocmp.Transform()); diff != "" {
			t.Errorf("a finished operation changed:\n%s", diff)
		}
	})
}

// The work of an operation tells its revision where the metadata has a place for it, and
// nowhere else; the fields beside it stay.
func TestRevision(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ours, theirs := operation.Operation{}, w.insert(t, folder, nil)
		w.tx(t, func(ctx context.Context, tx *sql.Tx) (err error) {
			ours, err = w.store.Insert(ctx, tx, operation.New{
				Resource: folder, ViewPermission: "resource-manager.folders.get", Description: "End role request", CreatedBy: "usr1",
				Metadata: &accessv1.EndRoleRequestMetadata{RequestId: "req1"},
			})
			return err
		})
		w.tx(t, func(ctx context.Context, tx *sql.Tx) error {
			ctx = revision.NewContext(ctx, new(revision.Notes))
			revision.Note(ctx, revision.Revision{Epoch: 1, Line: 2, Number: 3})
			return errors.Join(w.store.Finish(ctx, tx, ours.ID, nil, new(accessv1.RoleRequest)), w.store.Finish(ctx, tx, theirs.ID, nil, new(rmv1.Folder)))
		})
		for id, want := range map[string]proto.Message{
			ours.ID:   &accessv1.EndRoleRequestMetadata{RequestId: "req1", Revision: "1.2.3"},
			theirs.ID: &rmv1.CreateFolderMetadata{FolderId: folder.ID},
		} {
			op := w.get(t, id)
			if got, err := op.GetMetadata().UnmarshalNew(); err != nil || !op.GetDone() || !proto.Equal(got, want) {
				t.Errorf("%v, %v; want the metadata %v", op, err, want)
			}
		}
	})
}

func TestFail(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		refused, broken := w.insert(t, folder, nil), w.insert(t, folder, nil)
		w.tx(t, func(ctx context.Context, tx *sql.Tx) error {
			return errors.Join(
				w.store.Fail(ctx, tx, refused.ID, &rmv1.CreateFolderMetadata{FolderId: "new"}, apierr.Precondition("CLOUD_NOT_ACTIVE", "cloud is pending deletion")),
				w.store.Fail(ctx, tx, broken.ID, nil, errors.New("password of the database")))
		})
		got := w.get(t, refused.ID)
		meta := new(rmv1.CreateFolderMetadata)
		if err := got.GetMetadata().UnmarshalTo(meta); err != nil || meta.GetFolderId() != "new" {
			t.Errorf("metadata = %v, %v; want the one given to Fail", meta, err)
		}
		if e := got.GetError(); !got.GetDone() || codes.Code(e.GetCode()) != codes.FailedPrecondition || e.GetMessage() != "cloud is pending deletion" || len(e.GetDetails()) == 0 {
			t.Errorf("failed = %v", got)
		}
		if op, err := w.store.Get(t.Context(), refused.ID); err != nil || apierr.ReasonOf(op.Err()) != "CLOUD_NOT_ACTIVE" || apierr.CodeOf(op.Err()) != codes.FailedPrecondition {
			t.Errorf("Err = %v, %v; want CLOUD_NOT_ACTIVE", op.Err(), err)
		}
		if e := w.get(t, broken.ID).GetError(); codes.Code(e.GetCode()) != codes.Internal || e.GetMessage() != "internal error" {
			t.Errorf("error shown = %v, want internal error and no more", e)
		}
	})
}

func TestInsertDoneAtOnce(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		op := w.get(t, w.insert(t, folder, &emptypb.Empty{}).ID)
		if !op.GetDone() || op.GetResponse().GetTypeUrl() != "type.googleapis.com/google.protobuf.Empty" {
			t.Errorf("operation = %v, want it done with Empty", op)
		}
		err := sqldb.InTx(t.Context(), w.db, func(ctx context.Context, tx *sql.Tx) error {
			_, err := w.store.Insert(ctx, tx, operation.New{Resource: folder, CreatedBy: "usr1"})
			return err
		})
		if err == nil {
			t.Error("an operation without metadata was made")
		}
	})
}

func TestList(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		var want []string
		for i := range 7 {
			if i != 3 { // two of one moment
				w.now = w.now.Add(time.Second)
			}
			want = append([]string{w.insert(t, folder, nil).ID}, want...)
			w.insert(t, authz.Resource{Type: folder.Type, ID: "fld2"}, nil)
			w.insert(t, authz.Resource{Type: "resource-manager.cloud", ID: "fld1"}, nil)
		}
		if want[3] < want[4] { // of one moment: by id, descending
			want[3], want[4] = want[4], want[3]
		}
		for _, size := range []int{1, 2, 3, 7, 100} {
			var got []string
			var after page.Position
			for {
				ops, err := w.store.List(t.Context(), folder, after, size)
				if err != nil {
					t.Fatal(err)
				}
				if len(ops) == 0 {
					break
				}
				for _, op := range ops {
					got, after = append(got, op.ID), op.Position()
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("in pages of %d (-want +got):\n%s", size, diff)
			}
		}
	})
}

func TestService(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		op := w.insert(t, folder, nil)
		gone := w.insert(t, authz.Resource{Type: folder.Type, ID: "gone"}, nil)
		done := w.insert(t, folder, &emptypb.Empty{})
		within := w.insertFor(t, authz.Resource{Type: "thing", ID: "gone"}, folder, nil)
		may := func(_ context.Context, p authn.Principal, permission string, r authz.Resource) error {
			switch {
			case r.ID == "gone":
				return authz.NotFound(r)
			case p.ID == "viewer" && permission == "resource-manager.folders.get" && r == folder:
				return nil
			case p.ID == "broken":
				return apierr.Unavailable(apierr.ReasonCheckerUnavailable, "away")
			}
			return authz.Denied(permission, r)
		}
		service := operation.NewService(map[string]operation.Route{"orm": operation.Local(w.store, may)})
		tests := []struct {
			name, caller, id string
			get, cancel      codes.Code
		}{
			{"creator", "usr1", op.ID, codes.OK, codes.FailedPrecondition},
			{"creator of one on a resource that is gone", "usr1", gone.ID, codes.OK, codes.FailedPrecondition},
			{"creator of one that is done", "usr1", done.ID, codes.OK, codes.FailedPrecondition},
			{"viewer of the resource", "viewer", op.ID, codes.OK, codes.FailedPrecondition},
			{"viewer, but the resource is gone", "viewer", gone.ID, codes.NotFound, codes.NotFound},
			{"viewer of what the rights come from", "viewer", within.ID, codes.OK, codes.FailedPrecondition},
			{"another, of that", "usr2", within.ID, codes.PermissionDenied, codes.PermissionDenied},
			{"another", "usr2", op.ID, codes.PermissionDenied, codes.PermissionDenied},
			{"nobody", "", op.ID, codes.PermissionDenied, codes.PermissionDenied},
			{"checker away", "broken", op.ID, codes.Unavailable, codes.Unavailable},
			{"unknown id", "usr1", "orm0123456789abcdefg", codes.NotFound, codes.NotFound},
			{"id of nobody's", "usr1", "xxx0123456789abcdefg", codes.NotFound, codes.NotFound},
			{"no id", "usr1", "orm", codes.NotFound, codes.NotFound},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				ctx := authn.NewContext(t.Context(), authn.Principal{Type: authn.UserAccount, ID: tt.caller})
				got, err := service.Get(ctx, &operationpb.GetOperationRequest{OperationId: tt.id})
				if apierr.CodeOf(err) != tt.get || (err == nil) != (got.GetId() == tt.id) {
					t.Errorf("Get = %v, %v; want %v", got, err, tt.get)
				}
				got, err = service.Cancel(ctx, &operationpb.CancelOperationRequest{OperationId: tt.id})
				if apierr.CodeOf(err) != tt.cancel || got != nil {
					t.Errorf("Cancel = %v, %v; want %v", got, err, tt.cancel)
				}
			})
		}

		w.store.OnCancel(func(_ context.Context, op operation.Operation) (operation.Operation, error) {
			op.Done, op.Description = true, "cancelled"
			return op, nil
		})
		for id, want := range map[string]string{op.ID: "", done.ID: operation.ReasonDone} {
			ctx := authn.NewContext(t.Context(), authn.Principal{ID: "usr1"})
			got, err := service.Cancel(ctx, &operationpb.CancelOperationRequest{OperationId: id})
			if apierr.ReasonOf(err) != want || (err == nil && got.GetDescription() != "cancelled") {
				t.Errorf("Cancel of %s = %v, %v; want reason %q", id, got, err, want)
			}
		}
	})
}

func ExampleNewService() {
	var store *operation.Store
	var decider authz.Decider
	service := operation.NewService(map[string]operation.Route{
		"orm": operation.Local(store, func(ctx context.Context, p authn.Principal, permission string, r authz.Resource) error {
			return decider.Authorize(ctx, p, permission, r)
		}),
	})
	_, err := service.Get(context.Background(), &operationpb.GetOperationRequest{OperationId: "abc"})
	fmt.Println(err)
	// Output: OPERATION_NOT_FOUND: operation abc not found
}
