package accessbindings

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// stand sets where a subject stands.
func (w *world) stand(who Subject, is standing) error {
	_, err := w.subjects.SetSubject(w.t.Context(), &accessv1.SetSubjectRequest{
		Subject: who.proto(), State: is.State, ExpiresAt: stamp(is.End), Version: is.Version,
	})
	return err
}

// account registers an active service account in a folder.
func (w *world) account(id string, folder Ref) Subject {
	w.t.Helper()
	w.register(Ref{typeServiceAccount, id}, folder, nil)
	w.know(robot(id))
	return robot(id)
}

// An account acts until its end, by each way of asking, without anything being
// written at that time; also in a process that starts later (SK-1).
func TestSK1_ExpiryIsJudgedByTheClock(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		bot := w.account("bot", folder1)
		w.mustUpdate(olga, cloud1, add(viewer, bot))
		start := time.Now().Truncate(time.Microsecond)
		w.clock.set(start)
		end := start.Add(time.Minute)
		w.must(w.stand(bot, standing{State: stateActive, End: end.UnixMicro()}))
		revision := w.service.committer.graph.Revision()
		for _, step := range []struct {
			at   time.Time
			acts bool
		}{{start, true}, {end.Add(-time.Microsecond), true}, {end, false}, {end.Add(time.Hour), false}, {start, true}} {
			w.clock.set(step.at)
			if got := w.allowed(bot, getFolder, folder1); got != step.acts {
				t.Errorf("%v before its end: allowed %t", end.Sub(step.at), got)
			}
			_, err := w.bindings.ListAccessBindings(w.Subject(bot.Type, bot.ID), &accessv1.ListAccessBindingsRequest{Resource: folder1.proto()})
			if !step.acts {
				refused(t, err, codes.Unauthenticated, apierr.ReasonSubjectInactive)
			} else if err != nil {
				t.Error(err)
			}
		}
		w.clock.set(end)
		if got := w.service.committer.graph.Revision(); got != revision {
			t.Errorf("revision %d, want %d: nothing is written when an account ends", got, revision)
		}
		g, err := w.service.committer.store.load(t.Context(), testCatalog(t))
		w.must(err)
		if v := g.View(); v.MayAct(subjectFact(bot.proto()), end.UnixMicro()) || !v.MayAct(subjectFact(bot.proto()), end.UnixMicro()-1) {
			t.Error("a process that starts now does not know the end")
		}
		w.must(w.stand(bot, standing{State: stateActive}))
		if !w.allowed(bot, getFolder, folder1) {
			t.Error("without an end it acts again")
		}
		err = w.stand(group("staff"), standing{State: stateActive, End: end.UnixMicro()})
		refused(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
	})
}

// What an owner tells late does not undo what it told before.
func TestSetSubject_Version(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		bot := w.account("bot", folder1)
		w.mustUpdate(olga, cloud1, add(viewer, bot))
		for i, step := range []struct {
			is   standing
			acts bool
		}{
			{standing{State: stateActive, Version: 1}, true},
			{standing{State: stateSuspended, Version: 3}, false},
			{standing{State: stateActive, Version: 2}, false}, // it was on the way for long
			{standing{State: stateSuspended, Version: 3}, false},
			{standing{State: stateActive, Version: 4}, true},
			{standing{State: stateSuspended}, false}, // by one who does not count
			{standing{State: stateActive, Version: 3}, false},
			{standing{State: stateActive, Version: 4}, true},
		} {
			w.must(w.stand(bot, step.is))
			if got := w.allowed(bot, getFolder, folder1); got != step.acts {
				t.Errorf("step %d: allowed %t", i, got)
			}
		}
		_, err := w.identity.RemoveResource(t.Context(), &accessv1.RemoveResourceRequest{Resource: (Ref{typeServiceAccount, "bot"}).proto()})
		w.must(err)
		refused(t, w.stand(bot, standing{State: stateActive, Version: 9}), codes.FailedPrecondition, "SUBJECT_DELETED")
	})
}

// The last owner can neither be suspended, nor be given an end, nor be deleted; and
// whoever is suspended or ends is not an owner who remains (OW-1).
func TestOW1_OwnerWhoStopsActing(t *testing.T) {
	soon := time.Now().Add(time.Hour).UnixMicro()
	forEach(t, func(t *testing.T, w *world) {
		bot := w.account("bot", folder1)
		w.mustUpdate(olga, cloud1, add(cloudOwner, bot), remove(cloudOwner, carl))
		gone := &accessv1.RemoveResourceRequest{Resource: (Ref{typeServiceAccount, "bot"}).proto()}
		for name, is := range map[string]standing{
			"suspended": {State: stateSuspended}, "to end": {State: stateActive, End: soon}, "deleted": {State: stateDeleted},
		} {
			t.Run(name, func(t *testing.T) { refused(t, w.stand(bot, is), codes.FailedPrecondition, "LAST_OWNER") })
		}
		_, err := w.identity.RemoveResource(t.Context(), gone)
		refused(t, err, codes.FailedPrecondition, "LAST_OWNER")

		w.mustUpdate(olga, cloud1, add(cloudOwner, vera))
		w.must(w.stand(vera, standing{State: stateActive, End: soon}))
		refused(t, w.stand(bot, standing{State: stateSuspended}), codes.FailedPrecondition, "LAST_OWNER")
		_, err = w.update(olga, cloud1, remove(cloudOwner, bot))
		refused(t, err, codes.FailedPrecondition, "LAST_OWNER")

		w.must(w.stand(vera, standing{State: stateActive}))
		w.must(w.stand(bot, standing{State: stateSuspended}))
		_, err = w.update(olga, cloud1, remove(cloudOwner, vera))
		refused(t, err, codes.FailedPrecondition, "LAST_OWNER")
		_, err = w.identity.RemoveResource(t.Context(), gone)
		w.must(err)
	})
}

// Of two owners who are suspended at once one remains (OW-1).
func TestOW1_SuspendedAtOnce(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.mustUpdate(olga, cloud1, add(cloudOwner, vera))
		errs := make(chan error, 2)
		for _, who := range []Subject{carl, vera} {
			go func() { errs <- w.stand(who, standing{State: stateSuspended}) }()
		}
		one, other := <-errs, <-errs
		if (one == nil) == (other == nil) {
			t.Fatalf("%v, %v: want one refusal", one, other)
		}
		if one == nil {
			one = other
		}
		refused(t, one, codes.FailedPrecondition, "LAST_OWNER")
	})
}

// Public groups contain service accounts, system groups do not, also when an
// account was made a member (SU-8, PG-1).
func TestSU8_ServiceAccountsInPublicGroupsOnly(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		bot := w.account("bot", folder1)
		w.must(w.members(org1, []Subject{bot, vera}, nil))
		everybody := Subject{"system", "allAuthenticatedUsers"}
		members := Subject{"system", "group:organization:org1:users"}
		w.mustUpdate(olga, folder1, add(viewer, members))
		if w.allowed(bot, getFolder, folder1) || !w.allowed(vera, getFolder, folder1) {
			t.Error("the system group holds for a service account, or not for a user")
		}
		w.mustUpdate(olga, folder2, add(viewer, everybody))
		if !w.allowed(bot, getFolder, folder2) {
			t.Error("the public group does not hold for a service account")
		}
	})
}

// removals reads what was removed of a type, page by page.
func (w *world) removals(typ string, after *accessv1.RemovalPlace, size int64) (ids []string, last *accessv1.RemovalPlace) {
	w.t.Helper()
	for {
		resp, err := w.identity.ListRemovedResources(w.t.Context(), &accessv1.ListRemovedResourcesRequest{Type: typ, After: after, PageSize: size})
		w.must(err)
		ids, after = append(ids, resp.GetIds()...), resp.GetLast()
		if int64(len(resp.GetIds())) < size {
			return ids, after
		}
	}
}

// Who follows removals learns of each, whatever was above it (DL-6, SK-2), also when
// many go at once and the pages are small.
func TestListRemovedResources(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		if ids, _ := w.removals(typeServiceAccount, nil, 10); len(ids) > 0 {
			t.Errorf("removed %q, want none", ids)
		}
		var want []string
		for i := range 7 {
			id := fmt.Sprintf("bot%d", i)
			w.account(id, folder1)
			want = append(want, id)
		}
		w.account("kept", folder2)
		remove := func(c accessv1.ResourceServiceClient, r Ref) {
			_, err := c.RemoveResource(context.Background(), &accessv1.RemoveResourceRequest{Resource: r.proto()})
			w.must(err)
		}
		remove(w.identity, Ref{typeServiceAccount, "bot3"})
		ids, place := w.removals(typeServiceAccount, nil, 10)
		if !slices.Equal(ids, []string{"bot3"}) {
			t.Errorf("removed %q, want bot3", ids)
		}
		remove(w.resources, folder1)
		for _, size := range []int64{1, 2, 6, 100} {
			ids, last := w.removals(typeServiceAccount, place, size)
			if rest := slices.Delete(slices.Clone(want), 3, 4); !slices.Equal(ids, rest) {
				t.Errorf("in pages of %d: %q, want %q", size, ids, rest)
			}
			if again, _ := w.removals(typeServiceAccount, last, size); len(again) > 0 {
				t.Errorf("after the last one: %q", again)
			}
		}
		if ids, _ := w.removals(folder1.Type, nil, 10); !slices.Equal(ids, []string{folder1.ID}) {
			t.Errorf("removed folders %q", ids)
		}
		elsewhere := &accessv1.RemovalPlace{Epoch: place.GetEpoch() + 1, Revision: 1 << 40}
		if ids, _ := w.removals(typeServiceAccount, elsewhere, 100); len(ids) != len(want) {
			t.Errorf("from a place in a lost line: %q, want all", ids)
		}
	})
}

// A service account is given roles in its own organization only, wherever in it
// (SU-9), by Set and by Update, to itself and to whoever is in a group with it.
func TestSU9_AccountsOfAnotherOrganization(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		bot := w.account("bot", folder1)
		abroad := Ref{cloud1.Type, "abroad"}
		w.register(abroad, org2, []Pair{{cloudOwner, olga}})
		for _, r := range []Ref{org1, cloud1, folder1, folder2, {typeServiceAccount, "bot"}} {
			if _, err := w.update(olga, r, add(viewer, bot)); err != nil {
				t.Errorf("on %s %s at home: %v", r.Type, r.ID, err)
			}
		}
		for _, r := range []Ref{org2, abroad} {
			_, err := w.update(olga, r, add(viewer, bot))
			refused(t, err, codes.FailedPrecondition, "SERVICE_ACCOUNT_FOREIGN")
		}
		_, err := w.set(olga, abroad, Pair{cloudOwner, olga}, Pair{viewer, bot})
		refused(t, err, codes.FailedPrecondition, "SERVICE_ACCOUNT_FOREIGN")
		if w.allowed(bot, getCloud, abroad) {
			t.Error("a refused binding holds")
		}
		stray := robot("stray") // known as a subject, but a resource nowhere
		w.know(stray)
		_, err = w.update(olga, folder1, add(viewer, stray))
		refused(t, err, codes.FailedPrecondition, "SERVICE_ACCOUNT_FOREIGN")
	})
}
