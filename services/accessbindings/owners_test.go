package accessbindings

import (
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

func move(t *testing.T, w *world, r, parent Ref) {
	t.Helper()
	_, err := w.resources.MoveResource(t.Context(), &accessv1.MoveResourceRequest{Resource: r.proto(), Parent: parent.proto()})
	w.must(err)
}

func removeRequest(r Ref) *accessv1.RemoveResourceRequest {
	return &accessv1.RemoveResourceRequest{Resource: r.proto()}
}

func TestOW1_AGroupIsNeverTheOwnerWhoRemains(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ops := w.group(org1, "ops")
		w.join(ops, vera)
		w.mustUpdate(carl, cloud1, add(cloudOwner, memberOf(ops)))
		if !w.allowed(vera, "resource-manager.clouds.assignOwner", cloud1) {
			t.Error("a member of an owning group does not own")
		}
		_, err := w.update(carl, cloud1, remove(cloudOwner, carl))
		refused(t, err, codes.FailedPrecondition, "LAST_OWNER")
		_, err = w.set(carl, cloud1, Pair{cloudOwner, memberOf(ops)})
		refused(t, err, codes.FailedPrecondition, "LAST_OWNER")
		w.must(w.change(ops, nil, []Subject{vera})) // so the last member may go, and the group
		_, err = w.groups.Delete(w.User(olga.ID), &orgv1.DeleteGroupRequest{GroupId: ops.ID})
		w.must(err)
		if !w.allowed(carl, "resource-manager.clouds.assignOwner", cloud1) {
			t.Error("the cloud has lost its owner")
		}
	})
}

func TestOW1_AServiceAccountAsTheOnlyOwner(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		bot, account := robot("bot"), Ref{typeServiceAccount, "bot"}
		w.register(account, folder1, nil)
		w.know(bot)
		cloud2 := Ref{typeCloud, "cloud2"}
		w.register(cloud2, org1, []Pair{{cloudOwner, bot}}) // CR-4: it made the cloud
		_, err := w.identity.RemoveResource(t.Context(), removeRequest(account))
		refused(t, err, codes.FailedPrecondition, "LAST_OWNER")
		w.mustUpdate(olga, org1, add(orgOwner, bot))
		_, err = w.leave(org1, olga) // an account in a folder does not keep the organization
		refused(t, err, codes.FailedPrecondition, "LAST_OWNER")
		_, err = w.update(olga, org1, remove(orgOwner, olga))
		refused(t, err, codes.FailedPrecondition, "LAST_OWNER")
		w.mustUpdate(olga, cloud2, add(cloudOwner, vera)) // OW-6
		_, err = w.identity.RemoveResource(t.Context(), removeRequest(account))
		w.must(err)
	})
}

func TestOW1_AnOwnershipThatEndsDoesNotKeep(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.mustUpdate(carl, cloud1, until(add(cloudOwner, vera), w.clock.now().Add(time.Hour)))
		_, err := w.update(vera, cloud1, remove(cloudOwner, carl))
		refused(t, err, codes.FailedPrecondition, "LAST_OWNER")
		w.clock.advance(2 * time.Hour)
		w.service.sweep(t.Context())
		if !w.allowed(carl, "resource-manager.clouds.assignOwner", cloud1) {
			t.Error("the cloud has lost its owner")
		}
	})
}

// TestOW1_RacingWaysOut has the owners of a cloud go at once, each by another way:
// taken out of the list, out of the organization, suspended, deleted. One of them
// stays.
func TestOW1_RacingWaysOut(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		leaver, sleeper, ender := user("leaver"), user("sleeper"), user("ender")
		for _, who := range []Subject{leaver, sleeper, ender} {
			w.know(who)
		}
		w.must(w.members(org1, []Subject{leaver}, nil))
		w.mustUpdate(carl, cloud1, add(cloudOwner, leaver), add(cloudOwner, sleeper), add(cloudOwner, ender))
		set := func(who Subject, state State) error {
			_, err := w.subjects.SetSubject(t.Context(), &accessv1.SetSubjectRequest{Subject: who.proto(), State: state})
			return err
		}
		ways := []func() error{
			func() error { _, err := w.update(olga, cloud1, remove(cloudOwner, carl)); return err },
			func() error { _, err := w.leave(org1, leaver); return err },
			func() error { return set(sleeper, stateSuspended) },
			func() error { return set(ender, stateDeleted) },
		}
		errs := make([]error, len(ways))
		var all sync.WaitGroup
		for i, way := range ways {
			all.Go(func() { errs[i] = way() })
		}
		all.Wait()
		stayed := 0
		for i, err := range errs {
			if err == nil {
				continue
			}
			stayed++
			if apierr.ReasonOf(err) != "LAST_OWNER" {
				t.Errorf("way %d: %v", i, err)
			}
		}
		if stayed != 1 {
			t.Errorf("%d owners stayed, want 1: %v", stayed, errs)
		}
	})
}
