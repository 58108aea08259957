package resourcemanager

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/operation"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

func (w *world) deleteCloud(user, cloudID string, at *timestamppb.Timestamp) (*operationpb.Operation, error) {
	return w.clouds.Delete(w.User(user), &rmv1.DeleteCloudRequest{CloudId: cloudID, DeleteAfter: at})
}

func (w *world) deleteFolder(user, folderID string, at *timestamppb.Timestamp) (*operationpb.Operation, error) {
	return w.folders.Delete(w.User(user), &rmv1.DeleteFolderRequest{FolderId: folderID, DeleteAfter: at})
}

// state returns the status of a cloud, as seen by a subject.
func (w *world) state(user, cloudID string) brmv1.CloudState_Status {
	w.t.Helper()
	return must[*brmv1.CloudState](w.t)(w.deletions.GetCloudState(w.User(user), &brmv1.GetCloudStateRequest{CloudId: cloudID})).GetStatus()
}

// rows counts what the store holds.
func (w *world) rows() (n int) {
	w.t.Helper()
	if err := w.db.QueryRowContext(w.t.Context(), `SELECT COUNT(*) FROM resourcemanager_resources`).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func TestDL4_AtOnce(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		ann := w.User("ann")
		for name, at := range map[string]*timestamppb.Timestamp{
			"the-epoch": timestamppb.New(time.Unix(0, 0)), "a-while-ago": w.in(-time.Hour), "now": w.in(0), "clock-ahead": w.in(4 * time.Second),
		} {
			t.Run(name, func(t *testing.T) {
				f := w.folder("ann", c.GetId(), name)
				op := must[*operationpb.Operation](t)(w.deleteFolder("ann", f.GetId(), at))
				meta := new(rmv1.DeleteFolderMetadata)
				w.done(op, new(emptypb.Empty), meta)
				if meta.GetFolderId() != f.GetId() || meta.GetDeleteAfter() != nil || meta.GetCancelledBy() != "" {
					t.Errorf("metadata = %v", meta)
				}
				_, err := w.folders.Get(ann, &rmv1.GetFolderRequest{FolderId: f.GetId()})
				wantRefusal(t, "Get after the deletion", err, codes.NotFound, apierr.ReasonResourceNotFound)
				_, err = w.deleteFolder("ann", f.GetId(), at)
				wantRefusal(t, "deletion again", err, codes.NotFound, apierr.ReasonResourceNotFound)
				w.folder("ann", c.GetId(), name) // the name is free again
			})
		}
	})
}

func TestDL14_CloudGoesWithItsFolders(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		f, g := w.folder("ann", c.GetId(), "one"), w.folder("ann", c.GetId(), "two")
		other := w.cloud("ann", c.GetOrganizationId(), "other")
		stays := w.folder("ann", other.GetId(), "one")
		pending := must[*operationpb.Operation](t)(w.deleteFolder("ann", g.GetId(), nil))

		w.done(must[*operationpb.Operation](t)(w.deleteCloud("ann", c.GetId(), w.in(0))), new(emptypb.Empty), new(rmv1.DeleteCloudMetadata))
		ann := w.User("ann")
		_, err := w.clouds.Get(ann, &rmv1.GetCloudRequest{CloudId: c.GetId()})
		wantRefusal(t, "the cloud", err, codes.NotFound, apierr.ReasonResourceNotFound)
		_, err = w.folders.Get(ann, &rmv1.GetFolderRequest{FolderId: f.GetId()})
		wantRefusal(t, "a folder", err, codes.NotFound, apierr.ReasonResourceNotFound)
		// A deletion below that was pending has come true.
		w.done(must[*operationpb.Operation](t)(w.operations.Get(ann, &operationpb.GetOperationRequest{OperationId: pending.GetId()})), new(emptypb.Empty), nil)
		must[*rmv1.Folder](t)(w.folders.Get(ann, &rmv1.GetFolderRequest{FolderId: stays.GetId()}))
		if n := w.rows(); n != 3 {
			t.Errorf("%d rows remain, want the organization, the other cloud and its folder", n)
		}
		if w.access.knows(folder.typ, f.GetId()) || w.access.knows(cloud.typ, c.GetId()) {
			t.Error("the tree still knows what was deleted")
		}
	})
}

func TestDL1_OnlyAnOwnerDeletesACloud(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		for _, role := range []string{"viewer", "editor", "admin", "resource-manager.admin"} {
			w.access.grant(role+"-user", role, cloud.typ, c.GetId())
			_, err := w.deleteCloud(role+"-user", c.GetId(), nil)
			wantRefusal(t, role, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		}
		w.access.grant("bob", cloud.ownerRole, cloud.typ, c.GetId())
		if _, err := w.deleteCloud("bob", c.GetId(), nil); err != nil {
			t.Errorf("an owner: %v", err)
		}
	})
}

func TestDL2_EditorDeletesAFolder(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		f := w.folder("ann", w.first("ann").GetId(), "web")
		w.access.grant("eve", "viewer", folder.typ, f.GetId())
		_, err := w.deleteFolder("eve", f.GetId(), w.in(0))
		wantRefusal(t, "a viewer", err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		w.access.grant("eve", "resource-manager.editor", folder.typ, f.GetId())
		w.done(must[*operationpb.Operation](t)(w.deleteFolder("eve", f.GetId(), w.in(0))), new(emptypb.Empty), nil)
	})
}

func TestDL3_DL5_DL12_DeletionIsPendingFor24Hours(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		f := w.folder("ann", c.GetId(), "web")
		ann := w.User("ann")
		before := time.Now()
		op := must[*operationpb.Operation](t)(w.deleteFolder("ann", f.GetId(), nil))
		after := time.Now()
		meta := new(rmv1.DeleteFolderMetadata)
		w.unpack(op, nil, meta)
		if at := meta.GetDeleteAfter().AsTime(); op.GetDone() || at.Before(before.Add(24*time.Hour)) || at.After(after.Add(24*time.Hour)) {
			t.Errorf("operation %v, delete_after %v; want it under way until in 24 hours", op, at)
		}
		// DL-5, DL-12: readable, and it says so.
		if got := must[*rmv1.Folder](t)(w.folders.Get(ann, &rmv1.GetFolderRequest{FolderId: f.GetId()})); got.GetStatus() != rmv1.Folder_PENDING_DELETION {
			t.Errorf("status = %v, want PENDING_DELETION", got.GetStatus())
		}
		// The job that comes too early waits.
		w.pass(23 * time.Hour)
		time.Sleep(1200 * time.Millisecond)
		ann = w.User("ann") // the token has expired
		if got := must[*rmv1.Folder](t)(w.folders.Get(ann, &rmv1.GetFolderRequest{FolderId: f.GetId()})); got.GetStatus() != rmv1.Folder_PENDING_DELETION {
			t.Errorf("status an hour before = %v, want PENDING_DELETION", got.GetStatus())
		}
		w.pass(2 * time.Hour)
		ended := w.poll(w.User("ann"), op.GetId())
		w.done(ended, new(emptypb.Empty), meta)
		_, err := w.folders.Get(w.User("ann"), &rmv1.GetFolderRequest{FolderId: f.GetId()})
		wantRefusal(t, "Get after it", err, codes.NotFound, apierr.ReasonResourceNotFound)
		events := w.events()
		if last := events[len(events)-1]; last != "resourcemanager.DeleteFolder DONE " {
			t.Errorf("last audit event = %q, want the deletion by the unit", last)
		}
	})
}

func TestDL7_DL8_DL9_Cancel(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		ann := w.User("ann")
		op := must[*operationpb.Operation](t)(w.deleteCloud("ann", c.GetId(), nil))
		if got := w.state("ann", c.GetId()); got != brmv1.CloudState_PENDING_DELETION {
			t.Errorf("state = %v, want PENDING_DELETION", got)
		}
		cancel := func(user string) (*operationpb.Operation, error) {
			return w.deletions.CancelCloudDeletion(w.User(user), &brmv1.CancelCloudDeletionRequest{CloudId: c.GetId()})
		}
		w.access.grant("eve", "admin", cloud.typ, c.GetId())
		_, err := cancel("eve")
		wantRefusal(t, "DL-8: an admin", err, codes.PermissionDenied, apierr.ReasonPermissionDenied)

		got, meta := new(rmv1.Cloud), new(rmv1.DeleteCloudMetadata)
		w.done(must[*operationpb.Operation](t)(cancel("ann")), got, meta)
		if got.GetId() != c.GetId() || w.state("ann", c.GetId()) != brmv1.CloudState_ACTIVE {
			t.Errorf("cloud = %v, state = %v; want it active", got, w.state("ann", c.GetId()))
		}
		// DL-9: the deletion's own operation ended, and says by whom.
		ended := must[*operationpb.Operation](t)(w.operations.Get(ann, &operationpb.GetOperationRequest{OperationId: op.GetId()}))
		endedMeta := new(rmv1.DeleteCloudMetadata)
		w.unpack(ended, nil, endedMeta)
		if !ended.GetDone() || codes.Code(ended.GetError().GetCode()) != codes.Canceled || endedMeta.GetCancelledBy() != "ann" || endedMeta.GetCancelledAt() == nil ||
			endedMeta.GetDeleteAfter() == nil || endedMeta.GetCloudId() != c.GetId() || !proto.Equal(meta, endedMeta) {
			t.Errorf("operation of the deletion = %v, metadata = %v", ended, endedMeta)
		}
		_, err = cancel("ann")
		wantRefusal(t, "cancelled twice", err, codes.FailedPrecondition, ReasonNotPendingDeletion)
		// Its job finds nothing to do when its time comes.
		w.pass(25 * time.Hour)
		time.Sleep(1200 * time.Millisecond)
		if got := w.state("ann", c.GetId()); got != brmv1.CloudState_ACTIVE {
			t.Errorf("state after the time of the cancelled deletion = %v, want ACTIVE", got)
		}
		if events := strings.Join(w.events(), "\n"); !strings.Contains(events, "resourcemanager.CancelCloudDeletion DONE ann") {
			t.Errorf("audit lacks the cancellation (AU-8):\n%s", events)
		}
	})
}

func TestDL7_CancelByOperation(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		f := w.folder("ann", c.GetId(), "web")
		cancel := func(user, opID string) error {
			_, err := w.operations.Cancel(w.User(user), &operationpb.CancelOperationRequest{OperationId: opID})
			return err
		}
		w.access.grant("eve", "editor", folder.typ, f.GetId())
		w.access.grant("vic", "viewer", folder.typ, f.GetId())
		op := must[*operationpb.Operation](t)(w.deleteFolder("eve", f.GetId(), nil))
		wantRefusal(t, "a stranger", cancel("bob", op.GetId()), codes.PermissionDenied, apierr.ReasonPermissionDenied)
		wantRefusal(t, "a viewer", cancel("vic", op.GetId()), codes.PermissionDenied, apierr.ReasonPermissionDenied)
		if err := cancel("ann", op.GetId()); err != nil {
			t.Errorf("the owner: %v", err)
		}
		if got := must[*rmv1.Folder](t)(w.folders.Get(w.User("ann"), &rmv1.GetFolderRequest{FolderId: f.GetId()})); got.GetStatus() != rmv1.Folder_ACTIVE {
			t.Errorf("status = %v, want ACTIVE", got.GetStatus())
		}
		wantRefusal(t, "cancelled twice", cancel("ann", op.GetId()), codes.FailedPrecondition, operation.ReasonDone)

		w.access.fail(apierr.Unavailable(apierr.ReasonUnavailable, "away"))
		creating := must[*operationpb.Operation](t)(w.folders.Create(w.User("ann"), &rmv1.CreateFolderRequest{CloudId: c.GetId(), Name: "late"}))
		wantRefusal(t, "a creation under way", cancel("ann", creating.GetId()), codes.FailedPrecondition, operation.ReasonNotCancellable)
		w.access.fail(nil)
		w.poll(w.User("ann"), creating.GetId())
	})
}

// A deletion that is pending gives way to a new one: later, or now.
func TestDeletionReplaced(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		f := w.folder("ann", w.first("ann").GetId(), "web")
		ann := w.User("ann")
		first := must[*operationpb.Operation](t)(w.deleteFolder("ann", f.GetId(), nil))
		second := must[*operationpb.Operation](t)(w.deleteFolder("ann", f.GetId(), w.in(48*time.Hour)))
		got := must[*operationpb.Operation](t)(w.operations.Get(ann, &operationpb.GetOperationRequest{OperationId: first.GetId()}))
		if codes.Code(got.GetError().GetCode()) != codes.Canceled {
			t.Errorf("the first deletion = %v, want it cancelled", got)
		}
		w.pass(30 * time.Hour) // the first one's time
		time.Sleep(1200 * time.Millisecond)
		ann = w.User("ann")
		if got := must[*rmv1.Folder](t)(w.folders.Get(ann, &rmv1.GetFolderRequest{FolderId: f.GetId()})); got.GetStatus() != rmv1.Folder_PENDING_DELETION {
			t.Errorf("status at the first one's time = %v, want PENDING_DELETION", got.GetStatus())
		}
		w.done(must[*operationpb.Operation](t)(w.deleteFolder("ann", f.GetId(), w.in(0))), new(emptypb.Empty), nil)
		got = must[*operationpb.Operation](t)(w.operations.Get(ann, &operationpb.GetOperationRequest{OperationId: second.GetId()}))
		if codes.Code(got.GetError().GetCode()) != codes.Canceled {
			t.Errorf("the second deletion = %v, want it cancelled", got)
		}
	})
}

// DL-6: once it has begun a deletion goes on, whatever fails meanwhile; access ends
// before the rows do.
func TestDL6_DeletionIsFinishedAfterAFailure(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		f := w.folder("ann", w.first("ann").GetId(), "web")
		w.access.fail(apierr.Unavailable(apierr.ReasonUnavailable, "away"))
		op := must[*operationpb.Operation](t)(w.deleteFolder("ann", f.GetId(), w.in(0)))
		if op.GetDone() {
			t.Errorf("operation %v is done while the tree knows the folder", op)
		}
		got := must[*rmv1.Folder](t)(w.folders.Get(w.User("ann"), &rmv1.GetFolderRequest{FolderId: f.GetId()}))
		if got.GetStatus() != rmv1.Folder_DELETING {
			t.Errorf("status = %v, want DELETING", got.GetStatus())
		}
		_, err := w.deleteFolder("ann", f.GetId(), nil)
		wantRefusal(t, "deletion of it", err, codes.FailedPrecondition, ReasonBeingDeleted)
		_, err = w.deletions.CancelFolderDeletion(w.User("ann"), &brmv1.CancelFolderDeletionRequest{FolderId: f.GetId()})
		wantRefusal(t, "DL-7: cancelling it", err, codes.FailedPrecondition, ReasonNotPendingDeletion)
		_, err = w.folders.Update(w.User("ann"), &rmv1.UpdateFolderRequest{FolderId: f.GetId(), Name: "new"})
		wantRefusal(t, "an update", err, codes.FailedPrecondition, "FOLDER_NOT_ACTIVE")
		w.access.fail(nil)
		w.done(w.poll(w.User("ann"), op.GetId()), new(emptypb.Empty), nil)
	})
}

// A folder whose creation is late when its cloud goes has never been.
func TestCreationOvertakenByDeletion(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		w.access.fail(apierr.Unavailable(apierr.ReasonUnavailable, "away"))
		late := must[*operationpb.Operation](t)(w.folders.Create(w.User("ann"), &rmv1.CreateFolderRequest{CloudId: c.GetId(), Name: "late"}))
		gone := must[*operationpb.Operation](t)(w.deleteCloud("ann", c.GetId(), w.in(0)))
		w.access.fail(nil)
		w.done(w.poll(w.User("ann"), gone.GetId()), new(emptypb.Empty), nil)
		got := w.poll(w.User("ann"), late.GetId())
		if got.GetError() == nil && got.GetResponse() == nil {
			t.Errorf("operation %v is done with neither error nor response", got)
		}
		if n := w.rows(); n != 1 {
			t.Errorf("%d rows remain, want the organization alone", n)
		}
	})
}

func TestDeleteOrganization(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		w.folder("ann", c.GetId(), "web")
		remove := func(user string) (*operationpb.Operation, error) {
			return w.life.DeleteOrganization(w.User(user), &brmv1.DeleteOrganizationRequest{OrganizationId: c.GetOrganizationId()})
		}
		w.access.grant("eve", "admin", organization.typ, c.GetOrganizationId())
		_, err := remove("eve")
		wantRefusal(t, "OW-7: an admin", err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		_, err = remove("ann")
		wantRefusal(t, "with a cloud", err, codes.FailedPrecondition, ReasonOrganizationNotEmpty)
		must[*operationpb.Operation](t)(w.deleteCloud("ann", c.GetId(), nil))
		meta := new(brmv1.DeleteOrganizationMetadata)
		w.done(must[*operationpb.Operation](t)(remove("ann")), new(emptypb.Empty), meta)
		if meta.GetOrganizationId() != c.GetOrganizationId() || w.rows() != 0 {
			t.Errorf("metadata = %v, %d rows remain; want the organization's id, and none", meta, w.rows())
		}
		// CR-3: whoever has no cloud any more may have a first one again.
		w.first("ann")
	})
}

// After a crash between commit and the job, the next process finishes the work.
func TestWorkIsFinishedAfterARestart(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		w.access.fail(apierr.Unavailable(apierr.ReasonUnavailable, "away"))
		op := must[*operationpb.Operation](t)(w.folders.Create(w.User("ann"), &rmv1.CreateFolderRequest{CloudId: c.GetId(), Name: "late"}))
		w.Stop()
		w.access.fail(nil)
		again := w.restart()
		ctx, cancel := context.WithTimeout(again.User("ann"), 20*time.Second)
		defer cancel()
		f := new(rmv1.Folder)
		again.unpack(again.poll(ctx, op.GetId()), f, nil)
		if f.GetStatus() != rmv1.Folder_ACTIVE {
			t.Errorf("folder = %v, want it active", f)
		}
	})
}
