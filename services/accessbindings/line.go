package accessbindings

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// line is one history of the store. A restored backup begins another epoch; a database
// that lost commits, as a standby does that is promoted, begins another line of the
// same epoch. What was read of one says nothing about another.
type line struct{ Epoch, Number int64 }

// before reports whether another line was begun after this one.
func (l line) before(other line) bool {
	return l.Epoch < other.Epoch || l.Epoch == other.Epoch && l.Number < other.Number
}

// strand is the facts of a line.
type strand struct {
	*checker.Graph
	line
}

// point is how far a graph is: the revision, the write that made it ("" when that is
// not known), and the line.
type point struct {
	revision int64
	writeID  string
	line     line
}

var (
	errLostLine = errors.New("the store was restored, or lost commits, while in use")

	// errGone is the end of a wait for a revision of a line that is lost, and the
	// revision perhaps with it.
	errGone = apierr.Unavailable(apierr.ReasonOutcomeUnknown,
		"the store lost its newest changes, and perhaps this one: send it again with the same idempotency key")
)

// sameLine refuses a head that does not continue what the graph had before the head
// was read.
func (c *committer) sameLine(h head, was point) error {
	other := h.Revision == was.revision && was.writeID != "" && h.WriteID != was.writeID
	if h.line == was.line && h.Revision >= was.revision && !other && !h.promoted() {
		return nil
	}
	return c.graph.failFrom(was, fmt.Errorf("%w: it is at %d (%s) of %v in timeline %s (%s now), the graph at %d (%s) of %v",
		errLostLine, h.Revision, h.WriteID, h.line, h.Timeline, h.Now, was.revision, was.writeID, was.line))
}

// promoted reports whether the database has begun another timeline since it was looked
// at. SQLite has none: what stands there was brought along from PostgreSQL by a backup.
func (h head) promoted() bool { return h.Timeline != "" && h.Now != "" && h.Timeline != h.Now }

// reload puts the facts that the store has now in place of those of a graph that
// failed. Nobody may be answered meanwhile.
func (c *committer) reload(ctx context.Context) error {
	c.graph.lease.Drop()
	begun := time.Now()
	if err := c.beginLine(ctx); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	fresh, err := c.store.load(ctx, c.graph.catalog)
	if err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	c.graph.replace(fresh)
	c.log.Warn("loaded the store anew", zap.Int64("revision", c.graph.Revision()), zap.Any("line", fresh.now()), zap.Duration("took", time.Since(begun)))
	return nil
}

// beginLine begins another line of the store when the one that the graph followed is
// not the store's any more, unless another replica has done so. The leases of the lost
// line are void; but who holds one may answer until it ends, and a lease may be lost
// with the commits. So an entry that nobody renews stands for all of them, and holds
// writes up until it is called dead.
func (c *committer) beginLine(ctx context.Context) error {
	was := c.graph.at()
	return sqldb.InTx(ctx, c.db, func(ctx context.Context, tx *sql.Tx) error {
		h, err := c.store.head(ctx, tx, true)
		if err != nil {
			return err
		}
		if h.line != was.line {
			return nil // begun by a restore, or by another replica
		}
		lost := h.promoted() || h.Revision < was.revision
		if !lost && was.revision > 0 && was.writeID != "" {
			there, err := c.store.wrote(ctx, tx, was.revision, was.writeID)
			if err != nil {
				return err
			}
			lost = !there
		}
		if !lost {
			return nil
		}
		if _, err := tx.ExecContext(ctx, `UPDATE access_revision SET line = line + 1, timeline = $1 WHERE one = 1`, h.Now); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM access_replicas`); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO access_replicas (id, renewals, applied, joined_at) VALUES ($1, 0, -1, $2)`,
			id.New("rep"), sqldb.Micros(c.now()))
		return err
	})
}

// at is how far the graph is.
func (g *graph) at() point {
	g.applying.Lock()
	defer g.applying.Unlock()
	f := g.strand.Load()
	return point{f.Revision(), g.writeID, f.line}
}

// now is the line that the graph follows.
func (g *graph) now() line { return g.strand.Load().line }

// replace lets a graph follow what another one has loaded.
func (g *graph) replace(fresh *graph) {
	g.applying.Lock()
	was := g.now()
	g.writeID = fresh.writeID
	g.strand.Store(fresh.strand.Load())
	g.followers.anew(g.Revision(), was != g.now())
	g.broken.Store(nil)
	g.applying.Unlock()
	g.wake()
}

// failFrom is fail for a fault that was found with what the graph was at a point; when
// it follows another line by now, the fault is an old one.
func (g *graph) failFrom(was point, cause error) error {
	g.applying.Lock()
	defer g.applying.Unlock()
	if g.strand.Load().line != was.line {
		return errUnavailable.WithCause(cause)
	}
	return g.fail(cause)
}

// View is the facts of the newest revision.
func (g *graph) View() *checker.View { return g.strand.Load().View() }

// Revision is the newest revision.
func (g *graph) Revision() int64 { return g.strand.Load().Revision() }

// Decide answers from the newest revision.
func (g *graph) Decide(q checker.Query) checker.Decision { return g.strand.Load().Decide(q) }

// Apply makes the next revision visible.
func (g *graph) Apply(revision int64, changes ...checker.Change) error {
	return g.strand.Load().Apply(revision, changes...)
}

// ApplyAll makes several revisions visible at once, the first of which is revision.
func (g *graph) ApplyAll(revision int64, changes ...[]checker.Change) error {
	return g.strand.Load().ApplyAll(revision, changes...)
}

// Forget drops revoked tokens that have ended.
func (g *graph) Forget(now int64) { g.strand.Load().Forget(now) }
