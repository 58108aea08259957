package accessbindings

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/catalog"
)

// TestAS3_StrictGrantingWhereThePolicyIs is the strict mode of C-4 by RPC: nobody
// adds a role with a permission that they lack, by Update or by Set.
func TestAS3_StrictGrantingWhereThePolicyIs(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		boss := user("boss") // resource-manager.admin: may change bindings, and holds little else
		w.know(boss)
		w.mustUpdate(olga, cloud1, add("resource-manager.admin", boss))
		w.mustUpdate(boss, folder1, add(editor, vera)) // C-4: not strict

		w.mustBind(olga, cloud1, catalog.DenyGrantAboveOwn)
		for _, on := range []Ref{cloud1, folder1} {
			_, err := w.update(boss, on, add(editor, nick))
			refused(t, err, codes.PermissionDenied, reasonAbove)
			if got := fieldOf(err); got != "access_binding_deltas[0].access_binding" {
				t.Errorf("the refusal names %q", got)
			}
			w.mustUpdate(boss, on, add("resource-manager.viewer", nick), remove(editor, vera)) // taking away is free
			w.mustUpdate(adam, on, add(editor, nick))                                          // an admin holds all that an editor does
			w.mustUpdate(boss, on, remove(editor, nick), remove("resource-manager.viewer", nick))
		}
		_, err := w.set(boss, folder2, Pair{"resource-manager.viewer", vera}, Pair{editor, vera})
		refused(t, err, codes.PermissionDenied, reasonAbove)
		if got := w.list(olga, folder2, 0); len(got) != 0 {
			t.Errorf("a refused Set left %v", got)
		}

		// What is there already is not asked about again (AB-5).
		w.mustUpdate(adam, folder2, add(editor, vera))
		_, err = w.set(boss, folder2, Pair{editor, vera}, Pair{"resource-manager.viewer", nick})
		w.must(err)

		// AP-10: the owner of the cloud, who owns no organization's roles. A policy that
		// denies something to everybody keeps nobody from giving what else a role holds.
		w.mustBind(olga, org1, denyAccounts)
		_, err = w.update(carl, cloud1, add("billing.usagerecords.admin", vera))
		refused(t, err, codes.PermissionDenied, reasonAbove)
		w.mustUpdate(carl, cloud1, add(admin, vera))

		// Beside the cloud granting is as before, and after the policy is gone.
		w.register(Ref{typeCloud, "cloud2"}, org1, []Pair{{cloudOwner, boss}})
		w.mustUpdate(boss, Ref{typeCloud, "cloud2"}, add("billing.usagerecords.admin", vera))
		w.mustUnbind(olga, cloud1, catalog.DenyGrantAboveOwn)
		w.mustUpdate(boss, cloud1, add(editor, nick))
		w.sameAsStore()
	})
}

// TestAS3_StrictMembership is the same for who joins a group: whoever adds a member gives
// the roles that the group has there, by itself or by the groups that it is in.
func TestAS3_StrictMembership(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		host := user("host") // may change the members of every group, and holds little else
		w.know(host)
		w.must(w.members(org1, []Subject{host, vera, nick}, nil))
		w.mustUpdate(olga, org1, add("organization-manager.groups.memberAdmin", host))
		outer, inner := w.group(org1, "outer"), w.group(org1, "inner")
		w.must(w.change(outer, []Subject{memberOf(inner)}, nil))
		w.mustUpdate(olga, folder1, add(editor, memberOf(outer)))
		w.must(w.changeAs(host, inner, []Subject{vera}, nil)) // not strict
		if !w.allowed(vera, "resource-manager.folders.update", folder1) {
			t.Error("a member of the inner group does not have what the outer one has")
		}

		w.mustBind(olga, cloud1, catalog.DenyGrantAboveOwn)
		for _, g := range []Ref{outer, inner} {
			err := w.changeAs(host, g, []Subject{nick}, nil)
			refused(t, err, codes.PermissionDenied, reasonAbove)
			if got := fieldOf(err); got != "member_deltas[0].subject_id" {
				t.Errorf("the refusal names %q", got)
			}
		}
		w.must(w.changeAs(host, inner, []Subject{vera}, nil)) // who is in already gains nothing
		w.must(w.changeAs(host, inner, nil, []Subject{vera})) // taking away is free
		w.must(w.change(inner, []Subject{vera}, []Subject{})) // the owner holds everything
		refused(t, w.changeAs(host, inner, []Subject{nick}, nil), codes.PermissionDenied, reasonAbove)
		w.mustUpdate(olga, cloud1, add(editor, host))
		w.must(w.changeAs(host, inner, []Subject{nick}, nil)) // holds all of it now
		w.must(w.changeAs(host, inner, nil, []Subject{nick}))
		w.mustUpdate(olga, cloud1, remove(editor, host))

		// A group into the group, and a role that has ended.
		third := w.group(org1, "third")
		refused(t, w.changeAs(host, outer, []Subject{memberOf(third)}, nil), codes.PermissionDenied, reasonAbove)
		w.mustUpdate(olga, folder1, remove(editor, memberOf(outer)), until(add(admin, memberOf(third)), w.clock.now().Add(time.Hour)))
		w.must(w.changeAs(host, outer, []Subject{nick}, nil))
		refused(t, w.changeAs(host, third, []Subject{nick}, nil), codes.PermissionDenied, reasonAbove)
		w.clock.advance(2 * time.Hour)
		w.must(w.changeAs(host, third, []Subject{nick}, nil))
		w.sameAsStore()
	})
}

// TestSU9_ByWayOfAGroup is SU-9 for what a service account gets by a group: neither does a
// group with one in it hold roles in another organization, nor does one join a group that
// does.
func TestSU9_ByWayOfAGroup(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		bot := w.account("bot", folder1)
		abroad := Ref{cloud1.Type, "abroad"}
		w.register(abroad, org2, []Pair{{cloudOwner, olga}})
		w.must(w.members(org1, []Subject{vera}, nil))
		outer, inner := w.group(org1, "outer"), w.group(org1, "inner")
		w.must(w.change(outer, []Subject{memberOf(inner)}, nil))
		w.must(w.change(inner, []Subject{vera}, nil))
		w.mustUpdate(olga, abroad, add(viewer, memberOf(outer))) // people may
		for _, g := range []Ref{outer, inner} {
			refused(t, w.change(g, []Subject{bot}, nil), codes.FailedPrecondition, "SERVICE_ACCOUNT_FOREIGN")
		}
		bots := w.group(org1, "bots")
		w.must(w.change(bots, []Subject{bot}, nil))
		refused(t, w.change(inner, []Subject{memberOf(bots)}, nil), codes.FailedPrecondition, "SERVICE_ACCOUNT_FOREIGN")
		w.mustUpdate(olga, abroad, remove(viewer, memberOf(outer)))
		w.must(w.change(inner, []Subject{memberOf(bots)}, nil))
		for _, g := range []Ref{outer, bots} {
			_, err := w.update(olga, abroad, add(viewer, memberOf(g)))
			refused(t, err, codes.FailedPrecondition, "SERVICE_ACCOUNT_FOREIGN")
		}
		w.mustUpdate(olga, cloud1, add(viewer, memberOf(outer)))
		if w.allowed(bot, getCloud, abroad) || !w.allowed(bot, getCloud, cloud1) {
			t.Error("the account has what it must not have, or lacks what it has")
		}
		w.sameAsStore()
	})
}
