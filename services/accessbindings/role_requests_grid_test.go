package accessbindings

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/request"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// roleCells is the table of actions: who may take one in which states; again succeeds.
// What is missing is refused. It is written from the rules, not from the grid.
var roleCells = map[request.Action]struct{ requester, decider []request.State }{
	request.Post:    {[]request.State{request.Pending, request.Approved}, []request.State{request.Pending, request.Approved}},
	request.Approve: {nil, []request.State{request.Pending, request.Approved}},
	request.Reject:  {nil, []request.State{request.Pending, request.Rejected}},
	request.Cancel:  {[]request.State{request.Pending, request.Canceled}, nil},
	request.Revoke:  {[]request.State{request.Approved, request.Revoked}, []request.State{request.Approved, request.Revoked}},
}

var roleOutcomes = map[request.Action]request.State{
	request.Approve: request.Approved, request.Reject: request.Rejected, request.Cancel: request.Canceled, request.Revoke: request.Revoked,
}

// TestRQ4_RQ6_EveryActionOfEveryone takes every action as everyone in every state, for
// real, and looks at what became of the request and of the role.
func TestRQ4_RQ6_EveryActionOfEveryone(t *testing.T) {
	forEachRoleWorld(t, func(t *testing.T, w *roleWorld) {
		reader, elsewhere := user("reader"), user("elsewhere")
		w.know(reader)
		w.know(elsewhere)
		w.mustUpdate(carl, cloud1, add(viewer, reader))
		w.mustUpdate(carl, folder2, add(admin, elsewhere))
		deciders, others := []Subject{adam, carl, olga}, []Subject{reader, elsewhere, nick}
		in := func(s request.State) string {
			t.Helper()
			id := w.mustAsk(vera)
			switch s {
			case request.Approved:
				w.mustTake(adam, id, request.Approve)
			case request.Rejected:
				w.mustTake(adam, id, request.Reject)
			case request.Canceled:
				w.mustTake(vera, id, request.Cancel)
			case request.Revoked:
				w.mustTake(adam, id, request.Approve)
				w.mustTake(adam, id, request.Revoke)
			case request.Expired:
				w.mustTake(adam, id, request.Approve)
				w.clock.advance(time.Hour)
			case request.Pending:
			}
			return id
		}
		for _, state := range request.States {
			for _, who := range slices.Concat([]Subject{vera}, deciders, others) {
				for action, cell := range roleCells {
					id := in(state)
					allowed := cell.decider
					if who == vera {
						allowed = cell.requester
					} else if slices.Contains(others, who) {
						allowed = nil
					}
					want := slices.Contains(allowed, state)
					name := fmt.Sprintf("%s by %s in %s", action, who.ID, state)
					err := w.take(who, id, action)
					if (err == nil) != want {
						t.Errorf("%s: %v, want allowed %v", name, err, want)
					}
					if code := apierr.CodeOf(err); err != nil && code != codes.PermissionDenied && code != codes.FailedPrecondition {
						t.Errorf("%s: refused with %v", name, err)
					}
					after := state
					if want && roleOutcomes[action] != "" {
						after = roleOutcomes[action]
					}
					if got := w.read(id).GetState().String(); got != string(after) {
						t.Errorf("%s: it is %s, want %s", name, got, after)
					}
					w.holds(name, after == request.Approved)
					_, err = w.client.GetRoleRequest(w.as(who), &accessv1.GetRoleRequestRequest{RequestId: id})
					if sees := err == nil; sees == slices.Contains(others, who) {
						t.Errorf("%s in %s sees it: %v", who.ID, state, sees)
					}
					switch after { // room for the next one
					case request.Pending:
						w.mustTake(vera, id, request.Cancel)
					case request.Approved:
						w.mustTake(adam, id, request.Revoke)
					default:
					}
				}
			}
		}
	})
}
