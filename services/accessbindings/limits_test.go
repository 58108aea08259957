package accessbindings

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/catalog"

	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

const exhausted = "QUOTA_EXCEEDED"

func TestQL2_LimitsOfGroups(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		create := func(name string) error {
			_, err := w.groups.Create(w.User(olga.ID), &orgv1.CreateGroupRequest{OrganizationId: org1.ID, Name: name})
			return err
		}
		w.noGroups(org1)
		w.manager.set(catalog.QuotaGroups, org1.ID, 2)
		one, two := w.group(org1, "one"), w.group(org1, "two")
		refused(t, create("three"), codes.ResourceExhausted, exhausted)
		w.manager.set(catalog.QuotaGroups, org1.ID, 3)
		w.clock.advance(2 * time.Second) // a limit that was raised counts at once, but for a second
		w.must(create("three"))
		w.group(org2, "one") // another organization has its own limit

		w.manager.set(catalog.QuotaGroupMembers, one.ID, 3)
		w.manager.set(catalog.QuotaSubjectGroups, vera.ID, 1)
		w.must(w.members(org1, []Subject{vera, nick, carl, adam}, nil))
		w.must(w.change(one, []Subject{vera, nick}, nil))
		refused(t, w.change(one, []Subject{carl, adam}, nil), codes.ResourceExhausted, exhausted)
		w.must(w.change(one, []Subject{carl, adam}, []Subject{nick})) // who goes makes room
		w.must(w.change(one, []Subject{carl, adam}, nil))             // nothing more than there is
		refused(t, w.change(two, []Subject{vera}, nil), codes.ResourceExhausted, exhausted)
		w.must(w.change(one, nil, []Subject{vera}))
		w.must(w.change(two, []Subject{vera}, nil))
	})
}

func TestQL2_LimitsOfOrganizations(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.manager.set(catalog.QuotaMemberships, org1.ID, 3)
		w.manager.set(catalog.QuotaSubjectOrganizations, vera.ID, 1)
		w.must(w.members(org1, []Subject{vera, nick}, nil)) // olga is the first
		refused(t, w.members(org1, []Subject{carl}, nil), codes.ResourceExhausted, exhausted)
		w.must(w.members(org1, []Subject{carl}, []Subject{nick}))
		refused(t, w.members(org2, []Subject{vera}, nil), codes.ResourceExhausted, exhausted)
		w.must(w.members(org1, nil, []Subject{vera}))
		w.must(w.members(org2, []Subject{vera}, nil))
	})
}

// counted compares the number of pairs that is kept for an organization with all
// bindings below it, counted one by one.
func (w *world) counted(organization Ref) int64 {
	w.t.Helper()
	st := w.service.committer.store
	n, err := st.countAssignments(w.t.Context(), w.db, organization.ID)
	w.must(err)
	tree, err := st.subtree(w.t.Context(), w.db, organization)
	w.must(err)
	var pairs int64
	for _, r := range tree {
		bindings, err := st.bindingsOn(w.t.Context(), w.db, r.Ref, nil)
		w.must(err)
		pairs += int64(len(bindings))
	}
	if n != pairs {
		w.t.Errorf("%s has %d pairs, and %d are counted", organization.ID, pairs, n)
	}
	return n
}

func TestAB13_BindingsOfAnOrganization(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		had := w.counted(org1)
		w.manager.set(catalog.QuotaAccessBindings, org1.ID, had+2)
		w.clock.advance(2 * time.Minute) // one that was lowered counts within a minute
		w.mustUpdate(adam, folder1, add(viewer, vera), add(editor, vera))
		_, err := w.update(adam, folder2, add(viewer, vera))
		refused(t, err, codes.ResourceExhausted, exhausted)
		_, err = w.update(adam, folder1, add(viewer, nick), add(admin, nick), remove(viewer, vera))
		refused(t, err, codes.ResourceExhausted, exhausted)
		w.mustUpdate(adam, folder1, add(viewer, nick), remove(viewer, vera)) // no more than before
		w.mustUpdate(adam, folder1, add(viewer, nick))                       // nothing at all
		_, err = w.set(adam, folder1, Pair{viewer, nick}, Pair{admin, nick})
		w.must(err)
		w.mustUpdate(olga, org2, add(viewer, vera)) // another organization
		w.manager.set(catalog.QuotaAccessBindings, org1.ID, had+3)
		w.clock.advance(2 * time.Second)
		w.mustUpdate(adam, folder2, add(viewer, vera))
		if got := w.counted(org1); got != had+3 {
			t.Errorf("%d pairs, want %d", got, had+3)
		}
	})
}

// TestAB13_TheCountFollowsEveryWrite has all kinds of writes make, take and move
// bindings.
func TestAB13_TheCountFollowsEveryWrite(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		both := func(what string) {
			t.Helper()
			if w.counted(org1); t.Failed() {
				t.Fatalf("after %s", what)
			}
			if w.counted(org2); t.Failed() {
				t.Fatalf("after %s", what)
			}
		}
		ops := w.group(org1, "ops")
		w.join(ops, vera)
		for n := range 3 {
			who := user(fmt.Sprint(n))
			w.know(who)
			w.mustUpdate(adam, folder1, until(add(viewer, who), w.clock.now().Add(time.Hour)), add(editor, who))
			w.mustUpdate(olga, org2, add(viewer, who))
		}
		w.mustUpdate(adam, folder2, add(viewer, memberOf(ops)))
		w.mustUpdate(olga, ops, add("organization-manager.groups.viewer", vera))
		both("bindings")
		w.clock.advance(2 * time.Hour)
		w.service.sweep(t.Context())
		both("ended bindings")
		w.state(user("1"), stateDeleted)
		both("a deleted subject")
		move(t, w, cloud1, org2)
		both("a move")
		if n := w.counted(org2); n < 6 {
			t.Errorf("only %d pairs came along", n)
		}
		w.must(w.members(org2, []Subject{user("2")}, nil))
		if _, err := w.leave(org2, user("2")); err != nil {
			t.Fatal(err)
		}
		both("a member who left")
		_, err := w.groups.Delete(w.User(olga.ID), &orgv1.DeleteGroupRequest{GroupId: ops.ID})
		w.must(err)
		both("a deleted group")
		remove := func(r Ref) {
			t.Helper()
			_, err := w.resources.RemoveResource(t.Context(), removeRequest(r))
			w.must(err)
		}
		remove(folder1)
		both("a removed folder")
		remove(cloud1)
		both("a removed cloud")
		remove(org2)
		both("a removed organization")
	})
}
