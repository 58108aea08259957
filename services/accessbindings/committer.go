package accessbindings

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/sqldb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// committer makes all writes of deciding facts, one after another, and keeps the
// graph in step with the store. What it promises, and why it holds:
//
//   - Commit order is revision order. Each write locks the one row of the head
//     first, and takes the next number from it.
//   - Rules see the state that they change. An intent is planned after the head is
//     locked and the graph has caught up with it; nobody can change either until
//     the transaction ends.
//   - The graph is never ahead of the store. A revision is applied to it only when
//     its commit is known, by the one goroutine that commits, in order.
//   - Acknowledged means enforced. A writer is answered after its revision is in
//     the graph, so a check that begins after the answer sees it. Whoever tells a
//     state without writing waits for the revision it read (await).
//   - A commit whose outcome is unknown is never guessed. The transaction held the
//     lock on the head; once the committer has that lock again it has ended, and
//     its entry of the log is there or is not. Until then nothing else is written.
//   - A write whose idempotency key was used before is not made again. It is
//     answered by the operation of the first one, which is in force by then.
//   - A caller that gives up ends only its own wait. The transaction runs on the
//     committer's own context.
type committer struct {
	db         *sqldb.DB
	store      *store
	graph      *graph
	operations *operation.Store
	keys       *idempotency.Store
	now        func() time.Time
	log        *zap.Logger
	inTx       func(context.Context, *sqldb.DB, func(context.Context, *sql.Tx) error) error // sqldb.InTx, but for tests

	took  prometheus.Histogram // of one write
	queue chan *pending
	ctx   context.Context // ends with stop
	stop  context.CancelFunc
	done  sync.WaitGroup
}

// Bounds of the committer.
const (
	maxWaiting    = 1024             // writes in the queue; more callers wait to enter
	commitTimeout = 30 * time.Second // one transaction
	resolvePause  = 200 * time.Millisecond
)

// intent is one write that is asked for: a typed value, not a function, so that
// writes can be put together into one transaction one day.
type intent interface {
	// plan says what the write changes on a state, or refuses. It writes nothing
	// and may be called again for the same write.
	plan(ctx context.Context, on *state) (plan, error)
}

// state is what an intent is planned on: the store as it is locked, and the graph
// of the same revision.
type state struct {
	*store
	tx       *sql.Tx
	graph    *graph
	revision int64
	now      int64 // microseconds
}

// plan is what a write changes. The zero plan changes nothing and leaves no trace:
// the answer to a repeated call that finds everything in place.
type plan struct {
	changes   []*accessv1.Change
	record    *audit.Record  // required with anything else
	operation *operation.New // of the public calls
}

// result is how a write ended. Its revision is in force.
type result struct {
	revision  int64
	changed   bool // it took a revision of its own
	operation operation.Operation
}

// pending is a write on its way. done has room for the one answer, so that the
// committer never waits for a caller.
type pending struct {
	ctx    context.Context // the caller's; its end before the write begins drops it
	intent intent
	done   chan answer
}

type answer struct {
	result
	err error
}

// errStopped is what callers get when the process ends.
var errStopped = apierr.Unavailable(apierr.ReasonUnavailable, "the service is stopping, try again")

func newCommitter(db *sqldb.DB, g *graph, ops *operation.Store, now func() time.Time, log *zap.Logger) *committer {
	c := &committer{
		db: db, store: &store{db: db}, graph: g, operations: ops, keys: idempotency.NewStore(db, Name, now), now: now, log: log,
		inTx: sqldb.InTx, took: newCommitDuration(), queue: make(chan *pending, maxWaiting),
	}
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c
}

// start begins to work; close ends it.
func (c *committer) start() { c.done.Go(c.run) }

// close waits for the write under way, answers those that wait, and ends.
func (c *committer) close() {
	c.stop()
	c.done.Wait()
}

// submit has a write made and waits until it is in force or refused. Its own end
// is all that an ending ctx causes: the write may still happen.
func (c *committer) submit(ctx context.Context, in intent) (result, error) {
	p := &pending{ctx: ctx, intent: in, done: make(chan answer, 1)}
	select {
	case c.queue <- p:
	case <-ctx.Done():
		return result{}, ctx.Err()
	case <-c.ctx.Done():
		return result{}, errStopped
	}
	select {
	case a := <-p.done:
		return a.result, a.err
	case <-ctx.Done():
		return result{}, ctx.Err()
	case <-c.ctx.Done():
		c.done.Wait() // the one under way may be ours
		select {
		case a := <-p.done:
			return a.result, a.err
		default:
			return result{}, errStopped
		}
	}
}

func (c *committer) run() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case p := <-c.queue:
			if p.ctx.Err() != nil {
				continue // nobody waits and nothing has begun
			}
			begin := time.Now()
			r, err := c.commit(p)
			c.took.Observe(time.Since(begin).Seconds())
			p.done <- answer{r, err}
		}
	}
}

// commit makes one write: planned, stored, in the graph.
func (c *committer) commit(w *pending) (result, error) {
	if err := c.graph.fault(); err != nil {
		return result{}, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), commitTimeout)
	defer cancel()
	ctx = idempotency.NewContext(ctx, idempotency.FromContext(w.ctx))
	writeID := id.New("wrt")
	var r result
	var p plan
	asked := false // the database was asked to commit
	err := c.inTx(ctx, c.db, func(ctx context.Context, tx *sql.Tx) (err error) {
		asked = false
		if r, p, err = c.prepare(ctx, tx, w.intent, writeID); err == nil {
			asked = true
		}
		return err
	})
	switch {
	case err != nil && asked:
		return r, c.resolve(writeID, err)
	case err != nil:
		return result{}, err
	default:
		return r, c.apply(r.revision, p.changes)
	}
}

// prepare does all of a write but the commit, unless the write is a replay.
func (c *committer) prepare(ctx context.Context, tx *sql.Tx, in intent, writeID string) (r result, p plan, err error) {
	on, err := c.lock(ctx, tx)
	if err != nil {
		return result{}, plan{}, err
	}
	opID, again, err := c.keys.Operation(ctx, tx, func() (string, error) {
		r, p, err = c.make(ctx, on, in, writeID)
		return r.operation.ID, err
	})
	if again && err == nil {
		r.revision = on.revision // of the graph too, so that what is told is in force
		r.operation, err = c.operations.GetIn(ctx, tx, opID)
	}
	return r, p, err
}

// make plans a write and stores what it changes.
func (c *committer) make(ctx context.Context, on *state, in intent, writeID string) (result, plan, error) {
	p, err := in.plan(ctx, on)
	if err != nil {
		return result{}, plan{}, err
	}
	r := result{revision: on.revision}
	if p.record == nil {
		return r, p, nil
	}
	r.revision, r.changed = r.revision+1, true
	if err := c.store.write(ctx, on.tx, r.revision, writeID, on.now, p.changes); err != nil {
		return result{}, plan{}, err
	}
	if p.operation != nil {
		if r.operation, err = c.operations.Insert(ctx, on.tx, *p.operation); err != nil {
			return result{}, plan{}, err
		}
	}
	p.record.EventTime, p.record.EventStatus = sqldb.Time(on.now), audit.Done
	return r, p, audit.Write(ctx, on.tx, Name, *p.record)
}

// lock locks the head and brings the graph up to it.
func (c *committer) lock(ctx context.Context, tx *sql.Tx) (*state, error) {
	h, err := c.store.head(ctx, tx, true)
	if err != nil {
		return nil, err
	}
	if _, err := c.catchUp(ctx, tx, h, ""); err != nil {
		return nil, err
	}
	return &state{store: c.store, tx: tx, graph: c.graph, revision: h.Revision, now: nowMicros(c.now)}, nil
}

// catchUp applies what the log has after the graph's revision, and reports whether
// a write is among it. The head is locked, so all of it is committed.
func (c *committer) catchUp(ctx context.Context, tx *sql.Tx, h head, writeID string) (found bool, err error) {
	at := c.graph.Revision()
	if h.Epoch != c.graph.epoch || h.Revision < at {
		return false, c.graph.fail(fmt.Errorf("the store is at %d of epoch %d, the graph at %d of epoch %d: it was restored while in use",
			h.Revision, h.Epoch, at, c.graph.epoch))
	}
	if h.Revision == at {
		return false, nil
	}
	entries, err := c.store.since(ctx, tx, at)
	if err != nil {
		return false, err
	}
	for len(entries) > 0 {
		revision, n := entries[0].Revision, 0
		var changes []*accessv1.Change
		for n < len(entries) && entries[n].Revision == revision {
			changes = append(changes, entries[n].Change)
			found = found || entries[n].WriteID == writeID
			n++
		}
		if err := c.apply(revision, changes); err != nil {
			return found, err
		}
		entries = entries[n:]
	}
	return found, nil
}

// resolve finds out how a commit ended that the database did not answer. It does
// not return before it knows or the process stops.
func (c *committer) resolve(writeID string, cause error) error {
	c.log.Warn("the outcome of a commit is unknown, reading it back", zap.Error(cause))
	found := false // once seen it stays, also when the reading itself is repeated
	for {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), commitTimeout)
		err := c.inTx(ctx, c.db, func(ctx context.Context, tx *sql.Tx) error {
			h, err := c.store.head(ctx, tx, true)
			if err != nil {
				return err
			}
			seen, err := c.catchUp(ctx, tx, h, writeID)
			found = found || seen
			return err
		})
		cancel()
		switch fault := c.graph.fault(); {
		case fault != nil:
			return fault
		case found:
			return nil
		case err == nil:
			return apierr.Unavailable(apierr.ReasonUnavailable, "the change was not made, try again").WithCause(cause)
		}
		select {
		case <-c.ctx.Done():
			return errStopped.WithCause(errors.Join(cause, err))
		case <-time.After(resolvePause):
		}
	}
}

// apply puts a committed revision into the graph. A graph that cannot take it is
// not the store's any more, and answers nothing from then on.
func (c *committer) apply(revision int64, changes []*accessv1.Change) error {
	if revision <= c.graph.Revision() {
		return nil
	}
	if err := c.graph.apply(revision, changes); err != nil {
		return c.graph.fail(fmt.Errorf("apply revision %d: %w", revision, err))
	}
	return nil
}

// read runs a reading on one moment of the store and returns when all that it saw
// is in force.
func (c *committer) read(ctx context.Context, fn func(ctx context.Context, s *store, q sqldb.Querier) error) error {
	var h head
	err := sqldb.Snapshot(ctx, c.db, func(ctx context.Context, tx *sql.Tx) (err error) {
		if h, err = c.store.head(ctx, tx, false); err != nil {
			return err
		}
		return fn(ctx, c.store, tx)
	})
	if err != nil {
		return err
	}
	return c.graph.await(ctx, h.Revision)
}

// settle returns when all that the store had at the call is in force.
func (c *committer) settle(ctx context.Context) error {
	return c.read(ctx, func(context.Context, *store, sqldb.Querier) error { return nil })
}
