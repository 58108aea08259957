package accessbindings

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/sqldb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

var errLost = errors.New("the connection was lost")

type txFunc = func(context.Context, *sqldb.DB, func(context.Context, *sql.Tx) error) error

// committed commits and then loses the answer; rolledBack loses the commit itself.
func committed(ctx context.Context, db *sqldb.DB, fn func(context.Context, *sql.Tx) error) error {
	return errors.Join(sqldb.InBatches(ctx, db, fn), errLost)
}

func rolledBack(ctx context.Context, db *sqldb.DB, fn func(context.Context, *sql.Tx) error) error {
	return sqldb.InBatches(context.WithValue(ctx, losing{}, true), db, func(ctx context.Context, tx *sql.Tx) error {
		return errors.Join(fn(ctx, tx), errLost)
	})
}

// losing marks the context of a transaction that is not to be committed by its last batch.
type losing struct{}

func commitUnlessLosing(ctx context.Context, last *sqldb.Batch, db *sqldb.DB, tx *sql.Tx) error {
	if ctx.Value(losing{}) != nil {
		return last.Run(ctx, db, tx)
	}
	return commit(ctx, last, db, tx)
}

// unreachable does not even begin.
func unreachable(context.Context, *sqldb.DB, func(context.Context, *sql.Tx) error) error {
	return errLost
}

// script makes the committer's next transactions run so, and those after them
// normally.
func (w *world) script(steps ...txFunc) {
	w.service.committer.inTx = func(ctx context.Context, db *sqldb.DB, fn func(context.Context, *sql.Tx) error) error {
		if len(steps) == 0 {
			return sqldb.InBatches(ctx, db, fn)
		}
		next := steps[0]
		steps = steps[1:]
		return next(ctx, db, fn)
	}
}

func TestACommitOfUnknownOutcomeIsReadBack(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.script(committed)
		op := w.mustUpdate(adam, folder1, add(viewer, vera))
		if got := effective(t, op); !slices.Equal(got, []string{"+viewer userAccount:vera"}) || !w.allowed(vera, getFolder, folder1) {
			t.Errorf("it was committed: %v", got)
		}
		w.script(committed, unreachable, unreachable)
		w.mustUpdate(adam, folder1, remove(viewer, vera))
		if w.allowed(vera, getFolder, folder1) {
			t.Error("it was committed while the database was away")
		}
		before := w.service.committer.graph.Revision()
		w.script(rolledBack)
		_, err := w.update(adam, folder1, add(viewer, vera))
		refused(t, err, codes.Unavailable, apierr.ReasonUnavailable)
		if w.allowed(vera, getFolder, folder1) || w.service.committer.graph.Revision() != before {
			t.Error("it was not committed")
		}
		w.script(committed)
		w.mustUpdate(adam, folder1, remove(viewer, vera)) // changes nothing, and is an operation all the same
		w.mustUpdate(adam, folder1, add(viewer, vera))
		w.sameAsStore()
	})
}

func TestGivingUpEndsOnlyTheWait(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		begun, release := make(chan struct{}), make(chan struct{})
		w.script(func(ctx context.Context, db *sqldb.DB, fn func(context.Context, *sql.Tx) error) error {
			close(begun)
			<-release
			return sqldb.InBatches(ctx, db, fn)
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, err := w.service.committer.submit(ctx, &setSubject{subject: vera, standing: standing{State: stateSuspended}, record: recordOf(ctx, "test", "Test")})
			done <- err
		}()
		<-begun
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up got %v", err)
		}
		close(release)
		w.must(w.service.committer.settle(t.Context()))
		w.know(nick) // the write before it has ended
		if got := w.service.committer.graph.View().State(checker.Subject(vera)); got != checker.Suspended {
			t.Errorf("the write of a caller that gave up was lost: state %d", got)
		}
		w.sameAsStore()
	})
}

func TestACrashBetweenCommitAndApplyLosesNothing(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		stop := w.service.committer.stop
		w.script(func(ctx context.Context, db *sqldb.DB, fn func(context.Context, *sql.Tx) error) error {
			err := committed(ctx, db, fn)
			stop()
			return err
		}, unreachable)
		_, err := w.update(adam, folder1, add(viewer, vera))
		refused(t, err, codes.Unavailable, apierr.ReasonUnavailable)
		if w.service.committer.graph.decide(w.query(vera, getFolder, folder1)) == nil {
			t.Error("the dead process applied what it did not acknowledge")
		}
		w.Stop()
		again := serve(t, w.db)
		if !again.allowed(vera, getFolder, folder1) {
			t.Error("a committed change is lost")
		}
		again.sameAsStore()
	})
}

func TestAStoreThatWentBackIsNotAnswered(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		_, err := w.db.Pool().ExecContext(t.Context(), `UPDATE access_revision SET revision = 1, epoch = 2`)
		w.must(err)
		_, err = w.update(adam, folder1, add(viewer, vera))
		refused(t, err, codes.Unavailable, apierr.ReasonCheckerUnavailable)
		_, err = w.authorize(olga, getFolder, folder1)
		refused(t, err, codes.Unavailable, apierr.ReasonCheckerUnavailable)
	})
}

func TestAnotherWriterIsCaughtUpWith(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		c, err := w.service.committer.store.load(t.Context(), testCatalog(t))
		w.must(err)
		other := newCommitter(w.db, c, w.service.operations, w.clock.now, w.service.log)
		other.start()
		defer other.close()
		_, err = other.submit(t.Context(), &setSubject{subject: vera, standing: standing{State: stateSuspended}, record: recordOf(t.Context(), "test", "Test")})
		w.must(err)
		w.mustUpdate(adam, folder1, add(viewer, nick))
		if got := w.service.committer.graph.View().State(checker.Subject(vera)); got != checker.Suspended {
			t.Errorf("vera's state is %d after another writer suspended her", got)
		}
		w.sameAsStore()
	})
}

// TestOW1_RacingOwnersLeaveOne has every owner of a cloud drop their own ownership
// at once.
func TestOW1_RacingOwnersLeaveOne(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		const owners = 8
		for i := range owners {
			w.know(user(fmt.Sprintf("o%d", i)))
			w.mustUpdate(carl, cloud1, add(cloudOwner, user(fmt.Sprintf("o%d", i))))
		}
		w.mustUpdate(carl, cloud1, remove(cloudOwner, carl))
		var gone atomic.Int32
		var all sync.WaitGroup
		for i := range owners {
			all.Go(func() {
				who := user(fmt.Sprintf("o%d", i))
				_, err := w.update(who, cloud1, remove(cloudOwner, who))
				switch apierr.ReasonOf(err) {
				case "":
					gone.Add(1)
				case "LAST_OWNER":
				default:
					t.Errorf("owner %d: %v", i, err)
				}
			})
		}
		all.Wait()
		if got := w.list(olga, cloud1, 0); gone.Load() != owners-1 || len(got) != 2 { // adam's admin and one owner
			t.Errorf("%d of %d owners left, these stay: %v", gone.Load(), owners, got)
		}
		w.sameAsStore()
	})
}

// TestAcknowledgedMeansEnforced asks all the time while roles come and go: a check
// that begins after a revoke was acknowledged never allows, one that begins after
// a grant never denies.
func TestAcknowledgedMeansEnforced(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		const rounds, callers = 40, 4
		var granted, stop atomic.Bool
		var toggles atomic.Int64 // odd while a change is on its way
		var wrong, asked atomic.Int64
		var all sync.WaitGroup
		for range callers {
			all.Go(func() {
				for !stop.Load() {
					before, want := toggles.Load(), granted.Load()
					_, err := w.authorize(vera, getFolder, folder1)
					if before%2 == 0 && toggles.Load() == before && (err == nil) != want {
						wrong.Add(1)
					}
					asked.Add(1)
				}
			})
		}
		for i := range rounds {
			toggles.Add(1)
			if i%2 == 0 {
				w.mustUpdate(adam, folder1, add(viewer, vera))
			} else {
				w.mustUpdate(adam, folder1, remove(viewer, vera))
			}
			granted.Store(i%2 == 0)
			toggles.Add(1)
			time.Sleep(2 * time.Millisecond)
		}
		stop.Store(true)
		all.Wait()
		if wrong.Load() != 0 || asked.Load() == 0 {
			t.Errorf("%d of %d checks fell behind what was acknowledged", wrong.Load(), asked.Load())
		}
	})
}

// TestWhoWasRevokedGrantsNothing asks for a grant that was let in before its
// maker's own role was revoked, and is planned after.
func TestWhoWasRevokedGrantsNothing(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		in := w.service.bindings.intent(w.User(adam.ID), folder1.proto(), "Update", []wish{{Pair: Pair{viewer, vera}, Add: true}})
		in.caller.Subject = checker.Subject(adam)
		w.mustUpdate(carl, cloud1, remove(admin, adam))
		_, err := w.service.bindings.submit(t.Context(), in)
		if got := apierr.ReasonOf(err); got != "PERMISSION_DENIED" || w.allowed(vera, getFolder, folder1) {
			t.Errorf("adam granted after his role was gone: %v", err)
		}
	})
}

func (w *world) query(who Subject, permission string, r Ref) checker.Query {
	return checker.Query{
		Subject: checker.Subject(who), Permission: permission,
		Resource: checker.Resource(r), Now: nowMicros(w.clock.now),
	}
}

// sameAsStore compares the live graph with one made from the rows of the store and
// one made from its log, by every question about what they know.
func (w *world) sameAsStore() {
	w.t.Helper()
	ctx, c := w.t.Context(), w.service.committer
	w.must(c.settle(ctx))
	fromRows, err := c.store.load(ctx, c.graph.catalog)
	w.must(err)
	fromLog := newGraph(c.graph.catalog, c.graph.now())
	entries, err := c.store.since(ctx, w.db, 0)
	w.must(err)
	for len(entries) > 0 {
		revision, n := entries[0].Revision, 0
		var changes []*accessv1.Change
		for ; n < len(entries) && entries[n].Revision == revision; n++ {
			changes = append(changes, entries[n].Change)
		}
		w.must(fromLog.put([]step{{revision, "", changes}}))
		entries = entries[n:]
	}
	live, rows, log := w.answers(c.graph), w.answers(fromRows), w.answers(fromLog)
	if diff := cmp.Diff(rows, live); diff != "" {
		w.t.Errorf("the graph differs from the rows (-rows +graph):\n%s", diff)
	}
	if diff := cmp.Diff(rows, log); diff != "" {
		w.t.Errorf("the log differs from the rows (-rows +log):\n%s", diff)
	}
}

// answers are a graph's to every question about the subjects and resources of the
// store, for a few telling permissions.
func (w *world) answers(g *graph) map[string]string {
	w.t.Helper()
	ctx := w.t.Context()
	var r Ref
	var resources []Ref
	w.must(each(ctx, w.db, "resources", `SELECT type, id FROM access_resources`, []any{&r.Type, &r.ID}, func() error {
		resources = append(resources, r)
		return nil
	}))
	var who Subject
	var subjects []Subject
	w.must(each(ctx, w.db, "subjects", `SELECT type, id FROM access_subjects`, []any{&who.Type, &who.ID}, func() error {
		subjects = append(subjects, who)
		return nil
	}))
	out := make(map[string]string)
	for _, r := range resources {
		for _, who := range subjects {
			for _, permission := range []string{getCloud, getFolder, "resource-manager.clouds.updateAccessBindings", "resource-manager.clouds.assignOwner"} {
				reason := g.Decide(w.query(who, permission, r)).Reason
				out[who.ID+" "+permission+" "+r.ID] = reason.String()
			}
		}
	}
	return out
}
