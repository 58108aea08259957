package accessbindings

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/lease"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// graphAt is an empty graph of a line, at a revision.
func graphAt(t *testing.T, of line, revision int64) *graph {
	t.Helper()
	g := newGraph(testCatalog(t), of)
	if err := g.strand.Load().Load(revision, func(func(checker.Change, error) bool) {}); err != nil {
		t.Fatal(err)
	}
	return g
}

// A store that a backup brought from PostgreSQL to SQLite brings a timeline along, which
// says nothing there.
func TestATimelineFromElsewhere(t *testing.T) {
	w := serve(t, sqldbtest.Open(t, sqldb.SQLite, Name, migrationsOf()))
	w.populate()
	_, err := w.db.Pool().ExecContext(t.Context(), `UPDATE access_revision SET timeline = '00000007'`)
	w.must(err)
	w.mustUpdate(adam, folder1, add(viewer, vera))
	w.sameAsStore()
}

// What was read of a line before it was lost does not go into the one after it.
func TestAnEntryOfALostLineIsNotApplied(t *testing.T) {
	g := graphAt(t, line{1, 1}, 9)
	g.replace(graphAt(t, line{1, 2}, 3))
	c := &committer{graph: g}
	late := []entry{{Revision: 4, WriteID: "w4", Change: placed(org1, Ref{})}}
	if err := c.enter(line{1, 1}, late); !errors.Is(err, errLostLine) {
		t.Errorf("entries that were read before: %v", err)
	}
	own := &pending{id: "w4", changes: []*accessv1.Change{late[0].Change}, answer: answer{result: result{line: line{1, 1}, revision: 4, changed: true}}}
	if err := c.applyOwn(&batch{planned: []*pending{own}, last: own}); err != nil {
		t.Errorf("an own write: %v", err)
	}
	if err := c.graph.settle(t.Context(), own.answer.line, 4); apierr.ReasonOf(err) != apierr.ReasonOutcomeUnknown {
		t.Errorf("the wait for it ends with %v", err)
	}
	if g.Revision() != 3 || g.lost() != nil {
		t.Errorf("the graph is at %d: %v", g.Revision(), g.lost())
	}
	if err := c.enter(line{1, 2}, late); err != nil || g.Revision() != 4 {
		t.Errorf("of its own line: at %d, %v", g.Revision(), err)
	}
}

// What a graph had of a lost line is not told as settled of the next one: writers would
// not wait for what this process has not applied.
func TestWhatIsSettledIsOfTheLine(t *testing.T) {
	g := graphAt(t, line{1, 1}, 9)
	next := graphAt(t, line{1, 2}, 3)
	told := make(chan int64)
	g.followers.mu.Lock()
	go func() { told <- g.settled() }()
	time.Sleep(50 * time.Millisecond) // it waits for the lock
	g.strand.Store(next.strand.Load())
	g.followers.told, g.followers.heard = 3, 3 // as anew does
	g.followers.mu.Unlock()
	if n := <-told; n != 3 {
		t.Errorf("%d is settled of a line that is at 3", n)
	}
}

// A number that was of the line before does not end a wait.
func TestAWaitDoesNotEndByTheLineBefore(t *testing.T) {
	g := graphAt(t, line{1, 1}, 9)
	err := g.until(t.Context(), line{1, 2}, 5, func() int64 {
		g.replace(graphAt(t, line{1, 2}, 3))
		return 9
	})
	if apierr.ReasonOf(err) != apierr.ReasonOutcomeUnknown {
		t.Errorf("it ended with %v", err)
	}
}

// aheadOf is a world whose store has begun a line that its process has not noticed.
func aheadOf(t *testing.T) (w *world, at *accessv1.Position) {
	t.Helper()
	w = serve(t, sqldbtest.Open(t, sqldb.SQLite, Name, migrationsOf()))
	w.populate()
	first := w.talk(org1.ID, nil)
	at = first.snapshot()
	first.stop()
	w.mustUpdate(adam, folder1, add(viewer, vera))
	w.eventually("the tail is gone", func() error { // what follows is read from the log
		h := w.service.committer.graph.followers
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.tail.on {
			return fmt.Errorf("it is there")
		}
		return nil
	})
	w.must(sqldb.InTx(t.Context(), w.db, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE access_revision SET line = line + 1`)
		return err
	}))
	return w, at
}

// A revision of the line that the store has begun is not lost.
func TestAtLeastARevisionOfTheNextLine(t *testing.T) {
	w, _ := aheadOf(t)
	is := w.service.committer.graph.now()
	refused(t, w.after(line{is.Epoch, is.Number + 1}.at(1).String()), codes.Unavailable, apierr.ReasonCheckerUnavailable)
	refused(t, w.after(line{is.Epoch, is.Number + 2}.at(1).String()), codes.FailedPrecondition, "REVISION_LOST")
	refused(t, w.after(line{is.Epoch, is.Number - 1}.at(1).String()), codes.FailedPrecondition, "REVISION_LOST")
}

// A follower is not sent facts of two lines.
func TestAFollowerIsSentOneLine(t *testing.T) {
	w, at := aheadOf(t)
	for what, from := range map[string]*accessv1.Position{"a snapshot": nil, "the log": at} {
		c := w.talk(org1.ID, from)
		var err error
		for err == nil {
			var m *accessv1.FollowResponse
			if m, err = c.Recv(); m.GetRevision() != nil || m.GetFacts().GetPosition() != nil {
				t.Errorf("%s of the next line is sent: %v", what, m)
				c.stop()
			}
		}
		if errors.Is(err, io.EOF) || apierr.ReasonOf(apierr.FromRPC(err)) != "FOLLOWED_LINE_LOST" {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Who waits when the process ends is not told that a write is in force while another
// replica answers from before it.
func TestAcknowledgedMeansEnforcedAtTheEnd(t *testing.T) {
	all := replicasOf(t, 2, lease.Default)
	c := all[0].service.committer
	all[1].frozen.Store(true)
	defer all[1].frozen.Store(false)
	c.inTx = func(ctx context.Context, db *sqldb.DB, fn func(context.Context, *sql.Tx) error) error {
		c.stop()
		return sqldb.InBatches(ctx, db, fn)
	}
	_, err := c.submit(t.Context(), &setSubject{
		subject: user("one"), standing: standing{State: stateActive}, record: recordOf(t.Context(), "test", "Test"),
	})
	if apierr.ReasonOf(err) != apierr.ReasonOutcomeUnknown {
		t.Errorf("it ended with %v", err)
	}
	if err := all[0].service.committer.graph.lost(); err != nil {
		t.Error(err)
	}
}
