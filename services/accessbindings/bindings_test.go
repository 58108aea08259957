package accessbindings

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
)

func TestUpdateAccessBindings(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		if w.allowed(vera, getFolder, folder1) {
			t.Fatal("vera may before anything was given")
		}
		op := w.mustUpdate(adam, folder1, add(viewer, vera))
		if !op.GetDone() || !strings.HasPrefix(op.GetId(), "oab") || op.GetCreatedBy() != adam.ID {
			t.Errorf("operation %v", op)
		}
		meta := new(accesspb.UpdateAccessBindingsMetadata)
		if err := op.GetMetadata().UnmarshalTo(meta); err != nil || meta.GetResourceId() != folder1.ID {
			t.Errorf("metadata %v: %v", op.GetMetadata(), err)
		}
		if diff := cmp.Diff([]string{"+viewer userAccount:vera"}, effective(t, op)); diff != "" {
			t.Errorf("effective deltas (-want +got):\n%s", diff)
		}
		if !w.allowed(vera, getFolder, folder1) || w.allowed(vera, getFolder, folder2) || w.allowed(vera, getCloud, cloud1) {
			t.Error("RH-3: the role counts on the folder and nowhere else")
		}
		if got := effective(t, w.mustUpdate(adam, folder1, remove(viewer, vera))); !slices.Equal(got, []string{"-viewer userAccount:vera"}) {
			t.Errorf("effective deltas of the removal %v", got)
		}
		if w.allowed(vera, getFolder, folder1) {
			t.Error("vera may after the removal")
		}
	})
}

func TestAB2_SetReplaces(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.mustUpdate(adam, folder1, add(viewer, vera), add(editor, nick))
		op, err := w.set(adam, folder1, Pair{viewer, vera}, Pair{admin, carl}, Pair{viewer, vera})
		w.must(err)
		meta := new(accesspb.SetAccessBindingsMetadata)
		if err := op.GetMetadata().UnmarshalTo(meta); err != nil || meta.GetResourceId() != folder1.ID {
			t.Errorf("metadata %v: %v", op.GetMetadata(), err)
		}
		if diff := cmp.Diff([]string{"+admin userAccount:carl", "-editor userAccount:nick"}, effective(t, op)); diff != "" {
			t.Errorf("effective deltas (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"viewer userAccount:vera", "admin userAccount:carl"}, w.list(adam, folder1, 0)); diff != "" {
			t.Errorf("list (-want +got):\n%s", diff)
		}
		op, err = w.set(adam, folder1)
		w.must(err)
		if got := w.list(adam, folder1, 0); len(got) != 0 || len(effective(t, op)) != 2 {
			t.Errorf("after Set of nothing: %v", got)
		}
	})
}

// The creator's ownership is a direct binding (CR-4), so a Set replaces it too: an
// admin must send it back, and the last owner cannot leave it out.
func TestOW3_SetCannotLeaveNoOwner(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		_, err := w.set(adam, cloud1, Pair{viewer, vera})
		refused(t, err, codes.PermissionDenied, "OWNER_NOT_ASSIGNABLE")
		_, err = w.set(carl, cloud1, Pair{viewer, vera})
		refused(t, err, codes.FailedPrecondition, "LAST_OWNER")
		op, err := w.set(carl, cloud1, Pair{cloudOwner, vera})
		w.must(err)
		want := []string{"+resource-manager.clouds.owner userAccount:vera", "-admin userAccount:adam", "-resource-manager.clouds.owner userAccount:carl"}
		if diff := cmp.Diff(want, effective(t, op)); diff != "" {
			t.Errorf("effective deltas (-want +got):\n%s", diff)
		}
	})
}

func TestAB5_NothingToDoSucceeds(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.mustUpdate(adam, folder1, add(viewer, vera))
		for _, d := range []*accessv1.AccessBindingDelta{add(viewer, vera), remove(editor, vera), remove("no.such.role", user("nobody"))} {
			op := w.mustUpdate(adam, folder1, d)
			if got := effective(t, op); !op.GetDone() || len(got) != 0 {
				t.Errorf("%v: effective deltas %v", d, got)
			}
		}
	})
}

func TestAB6_WholeOrNotAtAll(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		_, err := w.update(adam, folder1, add(viewer, vera), add("no.such.role", vera))
		refused(t, err, codes.NotFound, ReasonRoleNotFound)
		_, err = w.update(adam, folder1, add(viewer, vera), add(viewer, user("nobody")))
		refused(t, err, codes.NotFound, ReasonSubjectNotFound)
		_, err = w.update(adam, folder1, add(viewer, vera), add(cloudOwner, vera))
		refused(t, err, codes.PermissionDenied, "OWNER_NOT_ASSIGNABLE")
		_, err = w.update(carl, folder1, add(viewer, vera), add(cloudOwner, vera))
		refused(t, err, codes.InvalidArgument, "ROLE_DOES_NOT_FIT")
		_, err = w.update(adam, folder1, add(viewer, vera), remove(viewer, vera))
		refused(t, err, codes.InvalidArgument, "DELTAS_CONTRADICT")
		if got := w.list(adam, folder1, 0); len(got) != 0 || w.allowed(vera, getFolder, folder1) {
			t.Errorf("a refused call left %v", got)
		}
		op := w.mustUpdate(adam, folder1, add(viewer, vera), add(viewer, vera))
		if got := effective(t, op); len(got) != 1 {
			t.Errorf("a repeated pair counts %d times: %v", len(got), got)
		}
	})
}

func TestAB4_OrganizationsAnswerEmpty(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		op := w.mustUpdate(olga, org1, add(viewer, vera))
		if err := op.GetResponse().UnmarshalTo(new(emptypb.Empty)); err != nil {
			t.Errorf("response %v: %v", op.GetResponse(), err)
		}
		if !w.allowed(vera, getFolder, folder1) {
			t.Error("RH-3: a role on the organization counts on its folders")
		}
		if w.allowed(vera, "organization-manager.organizations.get", org2) {
			t.Error("RH-6: a role in one organization counts in another")
		}
	})
}

func TestAB7_ListIsCompleteAndPaged(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		var deltas []*accessv1.AccessBindingDelta
		var want []string
		for i := range 25 {
			who := user(fmt.Sprintf("u%02d", (i*7)%25))
			w.know(who)
			deltas = append(deltas, add(viewer, who))
			want = append(want, "viewer userAccount:"+who.ID)
		}
		w.mustUpdate(adam, folder1, deltas...)
		for _, size := range []int64{1, 4, 5, 24, 25, 26, 1000} {
			if diff := cmp.Diff(want, w.list(adam, folder1, size)); diff != "" {
				t.Errorf("pages of %d (-want +got):\n%s", size, diff)
			}
		}
		w.mustUpdate(adam, cloud1, add(viewer, vera))
		if got := w.list(adam, folder1, 0); slices.Contains(got, "viewer userAccount:vera") {
			t.Errorf("the list shows an inherited binding: %v", got)
		}
		req := &accessv1.ListAccessBindingsRequest{Resource: folder1.proto(), PageSize: 3}
		page, err := w.bindings.ListAccessBindings(w.User(adam.ID), req)
		w.must(err)
		_, err = w.bindings.ListAccessBindings(w.User(adam.ID),
			&accessv1.ListAccessBindingsRequest{Resource: folder2.proto(), PageToken: page.GetNextPageToken()})
		refused(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
		w.mustUpdate(adam, folder1, remove(viewer, user("u07")))
		req.PageToken = page.GetNextPageToken()
		page, err = w.bindings.ListAccessBindings(w.User(adam.ID), req)
		w.must(err)
		if got := page.GetAccessBindings()[0].GetSubject().GetId(); got != "u21" {
			t.Errorf("the second page begins with %s after a change, want u21", got)
		}
	})
}

func TestAS1_WhoMayChangeBindings(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.mustUpdate(olga, cloud1, add(editor, vera))
		for _, row := range []struct {
			name string
			who  Subject
			on   Ref
			code codes.Code
		}{
			{"AS-8: an editor", vera, folder1, codes.PermissionDenied},
			{"nobody in particular", nick, folder1, codes.PermissionDenied},
			{"a stranger to the platform", user("ghost"), folder1, codes.Unauthenticated},
			{"an admin of the cloud, on its folder", adam, folder1, codes.OK},
			{"an admin of the cloud, on its organization", adam, org1, codes.PermissionDenied},
			{"the owner of the organization, on a folder", olga, folder1, codes.OK},
			{"an unknown folder", olga, Ref{folder1.Type, "nowhere"}, codes.NotFound},
		} {
			_, err := w.update(row.who, row.on, add(viewer, nick))
			if got := status.Code(err); got != row.code {
				t.Errorf("%s: %v (%v), want %v", row.name, got, err, row.code)
			}
			w.mustUpdate(olga, folder1, remove(viewer, nick))
		}
		_, err := w.bindings.UpdateAccessBindings(t.Context(),
			&accessv1.UpdateAccessBindingsRequest{Resource: folder1.proto(), AccessBindingDeltas: []*accessv1.AccessBindingDelta{add(viewer, nick)}})
		refused(t, err, codes.Unauthenticated, "TOKEN_MISSING")
	})
}

func TestAS4_OwnersAreAppointedByOwners(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		_, err := w.update(adam, cloud1, add(cloudOwner, vera))
		refused(t, err, codes.PermissionDenied, "OWNER_NOT_ASSIGNABLE")
		_, err = w.update(adam, cloud1, remove(cloudOwner, carl))
		refused(t, err, codes.PermissionDenied, "OWNER_NOT_ASSIGNABLE")
		w.mustUpdate(carl, cloud1, add(cloudOwner, vera)) // AS-5
		w.mustUpdate(olga, cloud1, add(cloudOwner, nick)) // OW-6
		w.mustUpdate(vera, cloud1, remove(cloudOwner, carl))
		if w.allowed(carl, getCloud, cloud1) {
			t.Error("the creator still owns what another owner took")
		}
		_, err = w.set(adam, cloud1, Pair{admin, adam}, Pair{cloudOwner, vera})
		refused(t, err, codes.PermissionDenied, "OWNER_NOT_ASSIGNABLE")
		_, err = w.set(adam, cloud1, Pair{admin, adam}, Pair{cloudOwner, vera}, Pair{cloudOwner, nick}, Pair{viewer, carl})
		w.must(err) // an admin may send back a list with its owners
		_, err = w.update(olga, org1, add(orgOwner, group("team")))
		refused(t, err, codes.NotFound, ReasonSubjectNotFound)
	})
}

func TestOW2_TheLastOwnerStays(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		_, err := w.update(carl, cloud1, remove(cloudOwner, carl))
		refused(t, err, codes.FailedPrecondition, "LAST_OWNER")
		_, err = w.update(olga, org1, remove(orgOwner, olga)) // OW-4
		refused(t, err, codes.FailedPrecondition, "LAST_OWNER")
		_, err = w.update(carl, cloud1, remove(cloudOwner, carl), until(add(cloudOwner, vera), time.Now().Add(time.Hour)))
		refused(t, err, codes.FailedPrecondition, "LAST_OWNER")
		w.mustUpdate(carl, cloud1, add(cloudOwner, vera))
		w.mustUpdate(carl, cloud1, remove(cloudOwner, carl))
		_, err = w.set(vera, cloud1, Pair{viewer, nick}) // OW-3
		refused(t, err, codes.FailedPrecondition, "LAST_OWNER")
		_, err = w.subjects.SetSubject(t.Context(), &accessv1.SetSubjectRequest{Subject: vera.proto(), State: stateDeleted})
		refused(t, err, codes.FailedPrecondition, "LAST_OWNER")
		w.must(w.members(org1, []Subject{vera}, nil))
		refused(t, w.members(org1, nil, []Subject{vera}), codes.FailedPrecondition, "LAST_OWNER")
		w.mustUpdate(vera, cloud1, add(cloudOwner, carl))
		w.mustUpdate(vera, folder1, add(viewer, vera))
		w.must(w.members(org1, nil, []Subject{vera})) // GR-6
		if w.allowed(vera, getFolder, folder1) || w.allowed(vera, getCloud, cloud1) {
			t.Error("who left the organization still holds roles there")
		}
	})
}

func TestBindingsEnd(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		end := w.clock.now().Add(time.Hour)
		w.mustUpdate(adam, folder1, until(add(viewer, vera), end))
		_, err := w.update(adam, folder1, until(add(viewer, nick), w.clock.now()))
		refused(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
		if op := w.mustUpdate(adam, folder1, add(viewer, vera)); len(effective(t, op)) != 0 {
			t.Errorf("adding a pair again is effective: %v", effective(t, op))
		}
		if !w.allowed(vera, getFolder, folder1) || len(w.list(adam, folder1, 0)) != 1 {
			t.Error("the binding is not in force before its end")
		}
		w.clock.advance(time.Hour)
		if w.allowed(vera, getFolder, folder1) || len(w.list(adam, folder1, 0)) != 0 {
			t.Error("the binding is in force at its end")
		}
		w.service.sweep(t.Context())
		var rows int
		w.must(w.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM access_bindings WHERE expires_at > 0`).Scan(&rows))
		if rows != 0 {
			t.Errorf("%d expired rows after the sweep", rows)
		}
		if got := effective(t, w.mustUpdate(adam, folder1, add(viewer, vera))); len(got) != 1 {
			t.Errorf("adding an expired pair: %v", got)
		}
	})
}

func TestOperationsAreListed(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		var want []string
		for i := range 5 {
			d := add(viewer, vera)
			if i%2 == 1 {
				d = remove(viewer, vera)
			}
			want = append(want, w.mustUpdate(adam, folder1, d).GetId())
		}
		slices.Reverse(want)
		var got []string
		req := &accessv1.ListOperationsRequest{Resource: folder1.proto(), PageSize: 2}
		for {
			resp, err := w.oplog.ListOperations(t.Context(), req)
			w.must(err)
			for _, op := range resp.GetOperations() {
				got = append(got, op.GetId())
				req.Before = &accessv1.OperationPlace{CreatedAt: op.GetCreatedAt(), Id: op.GetId()}
			}
			if len(resp.GetOperations()) < 2 {
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("operations (-want +got):\n%s", diff)
		}
	})
}
