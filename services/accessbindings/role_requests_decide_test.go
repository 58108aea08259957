package accessbindings

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/request"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

func TestRQ4_OnlyWhoMayGrantDecides(t *testing.T) {
	forEachRoleWorld(t, func(t *testing.T, w *roleWorld) {
		w.must(w.members(org1, []Subject{adam}, nil))
		id := w.mustAsk(vera, func(r *accessv1.CreateRoleRequestRequest) { r.Resource, r.RoleId = cloud1.proto(), cloudOwner })
		refused(t, w.take(adam, id, request.Approve), codes.PermissionDenied, "OWNER_NOT_ASSIGNABLE") // above what an admin may grant
		if s := w.read(id).GetState(); s != accessv1.RoleRequest_PENDING {
			t.Errorf("it is %s, and another one may decide", s)
		}
		w.mustTake(carl, id, request.Approve)
		if !w.allowed(vera, "resource-manager.clouds.delete", cloud1) {
			t.Error("an owner may not delete the cloud")
		}
		w.mustTake(vera, id, request.Revoke)

		w.mustBind(carl, cloud1, catalog.DenyGrantAboveOwn)
		w.mustUpdate(carl, cloud1, remove(admin, adam), add("resource-manager.admin", adam))
		id = w.mustAsk(vera, func(r *accessv1.CreateRoleRequestRequest) { r.RoleId = admin })
		refused(t, w.take(adam, id, request.Approve), codes.PermissionDenied, "GRANT_ABOVE_OWN")
		w.mustTake(adam, id, request.Reject) // which grants nothing

		w.mustUpdate(carl, folder1, add(admin, vera))
		id = w.mustAsk(vera, func(r *accessv1.CreateRoleRequestRequest) { r.RoleId = editor })
		refused(t, w.take(vera, id, request.Approve), codes.PermissionDenied, request.ReasonOwn)
		refused(t, w.take(vera, id, request.Reject), codes.PermissionDenied, request.ReasonOwn)
		w.mustUpdate(carl, folder1, remove(admin, vera))
		w.state(vera, stateSuspended)
		refused(t, w.take(carl, id, request.Approve), codes.FailedPrecondition, ReasonRequesterNotEligible)
		w.state(vera, stateActive)
		w.manager.set(catalog.QuotaAccessBindings, org1.ID, 1)
		w.clock.advance(2 * time.Minute) // limits are remembered for a minute
		refused(t, w.take(carl, id, request.Approve), codes.ResourceExhausted, apierr.ReasonQuotaExceeded)
		w.manager.set(catalog.QuotaAccessBindings, org1.ID, 1000)
		w.clock.advance(2 * time.Minute)
		w.mustTake(carl, id, request.Approve)
	})
}

// What was approved is given only where the decider may still grant it: here the role
// goes between the decision and the gift.
func TestRQ4_ADeciderWithoutTheRightGivesNothing(t *testing.T) {
	forEachRoleWorld(t, func(t *testing.T, w *roleWorld) {
		id := w.mustAsk(vera)
		r, err := w.service.requests.engine.Store.Get(t.Context(), w.db, id)
		w.must(err)
		r.State, r.DecidedBy, r.EndsAt = request.Approved, request.Ref(adam), w.clock.now().Add(time.Hour)
		w.mustUpdate(carl, cloud1, remove(admin, adam))
		err = (&roleConsequence{w.service.requests}).Grant(t.Context(), r)
		refused(t, err, codes.FailedPrecondition, ReasonDeciderMayNotGrant)
		w.holds("given by who may not", false)
	})
}

// Approvals race with the end of the approver's own role: what is given is given at a
// revision at which the approver may, and what fails has given nothing.
func TestRQ4_DecidingWhileTheRoleGoes(t *testing.T) {
	forEachRoleWorld(t, func(t *testing.T, w *roleWorld) {
		ends := map[accessv1.RoleRequest_State]int{}
		for range 12 {
			id := w.mustAsk(vera)
			var both sync.WaitGroup
			var err error
			both.Go(func() { err = w.take(adam, id, request.Approve) })
			both.Go(func() {
				time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond) // so that each of them is first now and then
				w.mustUpdate(carl, cloud1, remove(admin, adam))
			})
			both.Wait()
			r := w.read(id)
			ends[r.GetState()]++
			w.holds(r.GetState().String(), r.GetState() == accessv1.RoleRequest_APPROVED)
			if (err == nil) != (r.GetState() == accessv1.RoleRequest_APPROVED) {
				t.Errorf("the approval answers %v, and the request is %s", err, r.GetState())
			}
			if r.GetState() == accessv1.RoleRequest_APPROVED {
				e, err := w.explain(carl, &accessv1.ExplainRequest{Resource: folder1.proto(), Permission: getFolder, Subject: vera.proto()})
				w.must(err)
				at := &accessv1.Moment{Moment: &accessv1.Moment_Revision{Revision: e.GetGrants()[0].GetGrantedRevision()}}
				before, err := w.explain(carl, &accessv1.ExplainRequest{Resource: folder1.proto(), Permission: "resource-manager.folders.updateAccessBindings", Subject: adam.proto(), At: at})
				w.must(err)
				if !before.GetAllowed() || e.GetGrants()[0].GetGrantedBy().GetId() != adam.ID {
					t.Errorf("given by %v, who might not at that revision: %v", e.GetGrants()[0].GetGrantedBy(), before)
				}
				w.mustTake(carl, id, request.Revoke)
			} else if r.GetState() == accessv1.RoleRequest_PENDING {
				w.mustTake(vera, id, request.Cancel)
			}
			w.mustUpdate(carl, cloud1, add(admin, adam))
		}
		t.Logf("ends: %v", ends)
	})
}

func TestRQ4_DecisionsAtOnce(t *testing.T) {
	forEachRoleWorld(t, func(t *testing.T, w *roleWorld) {
		for i := range 8 {
			id := w.mustAsk(vera)
			errs := make([]error, 2)
			var both sync.WaitGroup
			both.Go(func() { errs[0] = w.take(adam, id, request.Approve) })
			both.Go(func() { errs[1] = w.take(carl, id, request.Reject) })
			both.Wait()
			state := w.read(id).GetState()
			want := []codes.Code{codes.OK, codes.FailedPrecondition}
			if state == accessv1.RoleRequest_REJECTED {
				want = []codes.Code{codes.FailedPrecondition, codes.OK}
			}
			if got := []codes.Code{status.Code(errs[0]), status.Code(errs[1])}; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("round %d: %v, and it is %s", i, errs, state)
			}
			w.holds(state.String(), state == accessv1.RoleRequest_APPROVED)
			if state == accessv1.RoleRequest_APPROVED {
				w.mustTake(adam, id, request.Approve) // again, without a change
				w.mustTake(carl, id, request.Revoke)
			}
		}
	})
}
