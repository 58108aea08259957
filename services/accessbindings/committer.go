package accessbindings

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/lease"
	"github.com/bindery-iam/bindery/pkg/notice"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/revision"
	"github.com/bindery-iam/bindery/pkg/slot"
	"github.com/bindery-iam/bindery/pkg/sqldb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// committer makes all writes of deciding facts, as many as wait in one transaction
// (batch), and keeps the graph in step with the store. What it promises, and why it
// holds:
//
//   - Commit order is revision order. Each transaction locks the one row of the head
//     first, and takes the next numbers from it, one for each write.
//   - Rules see the state that they change. An intent is planned after the head is
//     locked and the graph has caught up with it; nobody can change either until
//     the transaction ends. What others of its batch change it sees as well (batch).
//   - The graph is never ahead of the store. A revision is applied to it only when
//     its commit is known, in order: by who committed it, or read from the log.
//   - Acknowledged means enforced. A writer is answered after its revision is in
//     the graph of every process that answers (replicas), so a check that begins after
//     the answer sees it, wherever. Whoever tells a state without writing waits for
//     the revision it read (enforced).
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
	outbox     *notice.Outbox // nil in tests of the committer alone
	now        func() time.Time
	at         *storeTime // which now is, to be set; nil in tests that give the time
	log        *zap.Logger
	inTx       func(context.Context, *sqldb.DB, func(context.Context, *sql.Tx) error) error // sqldb.InBatches, but for tests
	commit     func(context.Context, *sqldb.Batch, *sqldb.DB, *sql.Tx) error                // commit, but for tests

	replicas *replicas // nil where the store is not shared

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

// intent is one write that is asked for: a typed value, not a function, so that the
// committer knows what it needs to see (asker, narrow).
type intent interface {
	// plan says what the write changes on a state, or refuses. It writes nothing
	// and may be called again for the same write.
	plan(ctx context.Context, on *state) (plan, error)
}

// plan is what a write changes. The zero plan changes nothing and leaves no trace:
// the answer to a repeated call that finds everything in place.
type plan struct {
	changes   []*accessv1.Change
	record    *audit.Record  // required with anything else
	operation *operation.New // of the public calls
}

// errStopped is what callers get when the process ends.
var errStopped = apierr.Unavailable(apierr.ReasonUnavailable, "the service is stopping, try again")

// errStoppedLate is for who waits still when the process ends, though the write is made.
var errStoppedLate = apierr.Unavailable(apierr.ReasonOutcomeUnknown,
	"the service is stopping, and the change is not in force everywhere yet: send it again with the same idempotency key")

func newCommitter(db *sqldb.DB, g *graph, ops *operation.Store, now func() time.Time, log *zap.Logger) *committer {
	c := &committer{
		db: db, store: &store{db: db}, graph: g, operations: ops, keys: idempotency.NewStore(db, Name, now), now: now, log: log,
		inTx: sqldb.InBatches, commit: commit, took: newCommitDuration(), queue: make(chan *pending, maxWaiting),
	}
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c
}

func commit(ctx context.Context, last *sqldb.Batch, db *sqldb.DB, tx *sql.Tx) error {
	return last.Commit(ctx, db, tx)
}

// start begins to work; close ends it.
func (c *committer) start() { c.done.Go(c.run) }

// leaveTimeout bounds the farewell to the other replicas: without it they wait for the
// lease to run out.
const leaveTimeout = 2 * time.Second

// close waits for the write under way, answers those that wait, and ends.
func (c *committer) close() error {
	c.stop()
	c.done.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	if c.replicas == nil {
		_, err := c.graph.followers.unnote(ctx)
		return err
	}
	if err := c.replicas.leave(ctx); err != nil {
		c.log.Warn("the lease was not given back", zap.Error(err))
	}
	return c.replicas.mark.close()
}

// place makes the committer one of several over its store, or the only one where that is
// not shared.
func (c *committer) place(ctx context.Context, dataDir string, terms lease.Terms) error {
	c.graph.followers.terms = terms
	if c.db.Shared() {
		return c.share(dataDir, terms)
	}
	return c.alone(ctx)
}

// share makes the committer one of several over its store.
func (c *committer) share(dataDir string, terms lease.Terms) error {
	mark, err := openPredecessor(dataDir)
	if err != nil {
		return err
	}
	c.graph.lease = &lease.Lease{Clock: lease.Boot}
	c.replicas = newReplicas(c, terms, mark)
	c.graph.followers.mark, c.graph.followers.row = c.replicas.note, c.replicas.name
	return nil
}

// submit has a write made and waits until it is in force or refused. Its own end
// is all that an ending ctx causes: the write may still happen.
func (c *committer) submit(ctx context.Context, in intent) (result, error) {
	defer slot.Aside(ctx)()
	p := newPending(ctx, in)
	select {
	case c.queue <- p:
	case <-ctx.Done():
		return result{}, ctx.Err()
	case <-c.ctx.Done():
		return result{}, errStopped
	}
	select {
	case a := <-p.done:
		return a.tell(ctx)
	case <-ctx.Done():
		return result{}, ctx.Err()
	case <-c.ctx.Done():
		c.done.Wait() // the one under way may be ours
		select {
		case a := <-p.done:
			return a.tell(ctx)
		default:
			return result{}, errStopped
		}
	}
}

// tell notes the revision that is in force with an answer.
func (a answer) tell(ctx context.Context) (result, error) {
	if a.err == nil {
		revision.Note(ctx, a.line.at(a.revision))
	}
	return a.result, a.err
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
			for waiting := []*pending{p}; len(waiting) > 0 && c.ctx.Err() == nil; {
				waiting = c.work(&batch{waiting: waiting, open: true})
			}
		}
	}
}

// lock locks the head and brings the graph up to it. It reads the log and the replicas,
// and what more reads, in the same round trip, after it has the lock.
func (c *committer) lock(ctx context.Context, tx *sql.Tx, more *sqldb.Batch) (*state, error) {
	was := c.graph.at()
	var h head
	var entries []entry
	var members []string
	var b sqldb.Batch
	b.Query(h.scan, c.store.headQuery()+c.db.ForUpdate())
	b.Query(func(row sqldb.Scanner) error {
		e, err := scanEntry(row, c.graph.Revision()) // others may have told of it meanwhile
		entries = append(entries, e)
		return err
	}, sinceQuery, was.revision-1, int64(math.MaxInt64)) // and what the graph has last: it must be the same (graph.apply)
	if c.db.Shared() {
		b.Query(func(row sqldb.Scanner) error {
			var id string
			err := row.Scan(&id)
			members = append(members, id)
			return err
		}, membersQuery)
	}
	b.Append(more)
	if err := b.Run(ctx, c.db, tx); err != nil {
		return nil, fmt.Errorf("lock the head: %w", err)
	}
	if err := c.sameLine(h, was); err != nil {
		return nil, err
	}
	if err := c.enter(h.line, entries); err != nil {
		return nil, err
	}
	return &state{store: c.store, tx: tx, graph: c.graph, draft: newDraft(), line: h.line, revision: h.Revision, members: members, now: nowMicros(c.now)}, nil
}

// catchUp brings the graph to the head, which is locked: all of the log is committed.
func (c *committer) catchUp(ctx context.Context, tx *sql.Tx, h head) error {
	return c.advance(ctx, tx, h, c.graph.at())
}

// follow applies what other processes have committed.
func (c *committer) follow(ctx context.Context) error {
	was := c.graph.at()
	h, err := c.store.head(ctx, c.db, false)
	if err != nil {
		return err
	}
	return c.advance(ctx, c.db, h, was)
}

// advance applies what the log has after a revision up to a head that was read later.
func (c *committer) advance(ctx context.Context, q sqldb.Querier, h head, was point) error {
	if err := c.sameLine(h, was); err != nil || h.Revision == was.revision {
		return err
	}
	entries, err := c.store.since(ctx, q, was.revision-1) // and what the graph has last: it must be the same (graph.apply)
	if err != nil {
		return err
	}
	return c.enter(h.line, entries)
}

// enter applies entries of the log of a line, in order.
func (c *committer) enter(of line, entries []entry) error {
	var all []step
	at := c.graph.Revision()
	for _, e := range entries {
		if e.Change == nil && e.Revision > at {
			return fmt.Errorf("apply revision %d: it was not read, the graph has gone back to %d", e.Revision, at)
		}
		if n := len(all); n == 0 || all[n-1].revision != e.Revision {
			all = append(all, step{revision: e.Revision, writeID: e.WriteID})
		}
		last := &all[len(all)-1]
		last.changes = append(last.changes, e.Change)
	}
	return c.graph.apply(of, all...)
}

// resolve finds out how a commit ended that the database did not answer. It does
// not return before it knows or the process stops. last is the last write of the
// transaction; nil when it wrote nothing.
func (c *committer) resolve(last *pending, cause error) error {
	c.log.Warn("the outcome of a commit is unknown, reading it back", zap.Error(cause))
	found := false // once seen it stays, also when the reading itself is repeated
	for {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), commitTimeout)
		err := c.inTx(ctx, c.db, func(ctx context.Context, tx *sql.Tx) error {
			h, err := c.store.head(ctx, tx, true)
			if err != nil {
				return err
			}
			if err := c.catchUp(ctx, tx, h); err != nil {
				return err
			}
			if last == nil {
				return nil
			}
			seen, err := c.store.wrote(ctx, tx, last.answer.revision, last.id)
			found = found || seen
			return err
		})
		cancel()
		switch fault := c.graph.lost(); {
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

// enforced returns when every process that answers does so from a revision, or from a
// later one.
func (c *committer) enforced(ctx context.Context, members []string, of line, revision int64) error {
	defer slot.Aside(ctx)()
	if c.replicas == nil {
		return c.graph.settle(ctx, of, revision)
	}
	return c.replicas.enforced(ctx, members, of, revision)
}

// read runs a reading on one moment of the store and returns when all that it saw
// is in force.
func (c *committer) read(ctx context.Context, fn func(ctx context.Context, s *store, q sqldb.Querier) error) error {
	var h head
	var members []string
	err := sqldb.Snapshot(ctx, c.db, func(ctx context.Context, tx *sql.Tx) (err error) {
		if h, err = c.store.head(ctx, tx, false); err != nil {
			return err
		}
		if members, err = c.store.members(ctx, tx); err != nil {
			return err
		}
		return fn(ctx, c.store, tx)
	})
	if err != nil {
		return err
	}
	return c.enforced(ctx, members, h.line, h.Revision)
}

// settle returns when all that the store had at the call is in force.
func (c *committer) settle(ctx context.Context) error {
	return c.read(ctx, func(context.Context, *store, sqldb.Querier) error { return nil })
}
