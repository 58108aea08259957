package accessbindings

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/log"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/revision"
	"github.com/bindery-iam/bindery/pkg/sqldb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// Bounds of a batch.
const (
	maxBatch        = 256  // writes
	maxBatchChanges = 4096 // changes of them, after which no further write is begun
)

// batch is the writes of one transaction, in the order of their revisions. Why each of
// them is planned right:
//
//   - All are planned while the head is locked, one after the other. A later one reads
//     rows that the earlier ones have stored, or their draft (draft).
//   - The graph is that of the locked head, without the earlier ones: it must not show
//     what is not committed. A write that asks the graph (asker) is planned only while
//     nothing before it in the batch can change the answer (draft.concerns); else it
//     waits for the next batch, whose graph knows. The first of a batch never waits.
//   - Nobody is answered before the transaction has ended, refused ones neither: what
//     they were refused for may be another write of the batch.
//   - A batch that the database refuses is made in halves, and so are these, until
//     the write that it refuses is alone.
type batch struct {
	waiting []*pending // in the order in which they came
	open    bool       // those that wait in the queue may still join

	planned []*pending
	later   []*pending // not in this batch
	last    *pending   // whose revision is the head; nil when nothing is written
}

// asker is an intent that asks the graph, about the rights of one subject.
type asker interface{ asks() Subject }

// narrow is an intent that reads nothing but what it wants and what it asks the graph,
// or, when it wants nothing, the bindings of a resource. All of that is seen without
// storing the draft.
type narrow interface{ wants() wants }

// wants are what an intent has to know of the store.
type wants struct {
	pairs  []place
	grants []string // ids, that may be used up
}

// errNext says that a write waits for the next batch.
var errNext = errors.New("the write waits for the next batch")

// work makes the writes of a batch and returns those that wait for the next one.
func (c *committer) work(b *batch) []*pending {
	if err := c.graph.lost(); err != nil {
		answerAll(b.waiting, err)
		return nil
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), commitTimeout)
	defer cancel()
	ctx = log.NewContext(ctx, log.RequestFrom(b.waiting[0].ctx), c.log)
	asked := false // the database was asked to commit
	err := c.inTx(ctx, c.db, func(ctx context.Context, tx *sql.Tx) (err error) {
		asked = false
		if err = c.prepare(ctx, tx, b); err == nil {
			asked = true
		}
		return err
	})
	switch {
	case err != nil && (asked || sqldb.Unsure(err)):
		if err = c.resolve(b.last, err); err != nil {
			answerAll(b.planned, err)
			return b.later
		}
	case err != nil && len(b.waiting) > 1 && !sqldb.Away(err) && c.graph.lost() == nil:
		return c.halves(b, err)
	case err != nil:
		answerAll(b.waiting, err)
		return nil
	}
	fault := c.applyOwn(b)
	for _, p := range b.planned {
		if fault != nil && p.answer.changed && p.answer.err == nil {
			p.answer = answer{err: fault}
		}
		c.took.Observe(time.Since(begun).Seconds())
	}
	c.acknowledge(b.planned)
	return b.later
}

// acknowledge answers the writes of a batch: those that were refused at once, the others
// when all of them are in force. The next batch need not wait for that.
func (c *committer) acknowledge(planned []*pending) {
	var good []*pending
	for _, p := range planned {
		if p.answer.err != nil {
			p.done <- p.answer
			continue
		}
		good = append(good, p)
	}
	if len(good) == 0 {
		return
	}
	last := good[len(good)-1].answer // the revisions of a batch go up, and its members are the same
	c.done.Go(func() {
		ctx, cancel := context.WithCancel(context.WithoutCancel(c.ctx))
		defer cancel()
		stop := context.AfterFunc(c.ctx, func() { time.AfterFunc(leaveTimeout, cancel) })
		defer stop()
		err := c.enforced(ctx, last.members, last.line, last.revision)
		if err != nil && c.ctx.Err() != nil {
			err = errStoppedLate.WithCause(err)
		}
		for _, p := range good {
			p.answer.err = err
			p.done <- p.answer
		}
	})
}

// halves makes the writes of a batch that the database refused.
func (c *committer) halves(b *batch, cause error) []*pending {
	c.log.Warn("a batch of writes was refused, making it in halves", zap.Int("writes", len(b.waiting)), zap.Error(cause))
	half := len(b.waiting) / 2
	var later []*pending
	for _, some := range [][]*pending{b.waiting[:half], b.waiting[half:]} {
		later = append(later, c.work(&batch{waiting: slices.Clone(some)})...)
	}
	return later
}

func answerAll(all []*pending, err error) {
	for _, p := range all {
		p.done <- answer{err: err}
	}
}

// prepare does all of a batch, and commits it if anything is written. It may be run
// again.
func (c *committer) prepare(ctx context.Context, tx *sql.Tx, b *batch) error {
	d, earlier := newDraft(), make(map[*idempotency.Key]idempotency.Earlier)
	var reading sqldb.Batch
	c.look(&reading, d, b.waiting, earlier)
	on, err := c.lock(ctx, tx, &reading)
	if err != nil {
		return err
	}
	on.draft = d
	looked := len(b.waiting)
	c.join(b)
	c.look(&reading, d, b.waiting[looked:], earlier)
	if err := reading.Run(ctx, c.db, tx); err != nil {
		return err
	}
	b.planned, b.later, b.last = nil, nil, nil
	used := make(map[idempotency.Ref]bool)
	for _, p := range b.waiting {
		switch err := c.member(ctx, on, b, p, earlier, used); {
		case errors.Is(err, errNext):
			b.later = append(b.later, p)
		case err != nil:
			return err
		default:
			b.planned = append(b.planned, p)
		}
	}
	return c.put(ctx, on, b)
}

// look adds to a batch what reads, all at once, what is known of the keys of writes, and
// what narrow intents need. Where the graph has gone on by the time at which it is
// read, what else is needed is read then.
func (c *committer) look(reading *sqldb.Batch, d *draft, writes []*pending, earlier map[*idempotency.Key]idempotency.Earlier) {
	var keys []*idempotency.Key
	var needed wants
	organizations := make(map[string]bool)
	for _, p := range writes {
		if p.key != nil {
			keys = append(keys, p.key)
		}
		in, ok := p.intent.(narrow)
		if !ok {
			continue
		}
		n := in.wants()
		needed.pairs, needed.grants = append(needed.pairs, n.pairs...), append(needed.grants, n.grants...)
		for _, at := range n.pairs {
			if id := organizationOf(c.graph.above(at.On)); id != "" {
				organizations[id] = true
			}
		}
	}
	c.keys.Earlier(reading, keys, earlier)
	d.want(reading, needed.pairs)
	d.wantGrants(reading, needed.grants)
	d.wantCounts(reading, organizations)
}

// join lets those that wait in the queue into an open batch.
func (c *committer) join(b *batch) {
	for b.open && len(b.waiting) < maxBatch {
		select {
		case p := <-c.queue:
			if p.ctx.Err() == nil { // else nobody waits and nothing has begun
				b.waiting = append(b.waiting, p)
			}
		default:
			return
		}
	}
}

// member makes one write part of a batch, or finds out how it is to be answered. Fails
// with errNext, or when the transaction has failed.
func (c *committer) member(ctx context.Context, on *state, b *batch, p *pending, earlier map[*idempotency.Key]idempotency.Earlier, used map[idempotency.Ref]bool) error {
	p.answer, p.changes = answer{}, nil
	if p.key != nil {
		if used[p.key.Ref()] {
			return errNext // the same call twice: the second is a replay
		}
		used[p.key.Ref()] = true
		if e, again := earlier[p.key]; again {
			return c.replay(ctx, on, p, e)
		}
	}
	made, err := c.plan(ctx, on, p)
	switch {
	case errors.Is(err, errNext):
		return err
	case err != nil && refusalOf(err):
		p.answer.err = err
		return nil
	case err != nil:
		return err
	case made.record == nil:
		p.answer.result = result{line: on.line, revision: on.revision, members: on.members}
		return nil
	}
	return c.make(ctx, on, b, p, made)
}

// refusalOf reports whether a plan failed by itself: with an answer to its caller, and
// not because the database failed.
func refusalOf(err error) bool {
	_, refused := apierr.As(err)
	return refused && !sqldb.Away(err)
}

// replay answers a write that was made before. It is in the head that is locked.
func (c *committer) replay(ctx context.Context, on *state, p *pending, e idempotency.Earlier) (err error) {
	p.answer.err = e.Err
	if p.answer.err == nil {
		p.answer.result = result{line: on.line, revision: on.revision, members: on.members}
		p.answer.operation, err = c.operations.GetIn(ctx, on.tx, e.Operation)
	}
	return err
}

// plan plans a write on what those before it have made.
func (c *committer) plan(ctx context.Context, on *state, p *pending) (plan, error) {
	if on.draft.changes >= maxBatchChanges {
		return plan{}, errNext
	}
	seen := *on
	if in, ok := p.intent.(asker); !ok {
		seen.graph = nil // it would not know what those before have changed
	} else if on.draft.concerns(on.graph, in.asks()) {
		return plan{}, errNext
	}
	if _, ok := p.intent.(narrow); !ok {
		if err := on.save(ctx); err != nil {
			return plan{}, err
		}
	}
	return p.intent.plan(ctx, &seen)
}

// make takes up what a write changes.
func (c *committer) make(ctx context.Context, on *state, b *batch, p *pending, made plan) (err error) {
	made.sign()
	if err := c.tell(ctx, on, made, p.id); err != nil {
		return err
	}
	if err := on.take(ctx, made, p.id); err != nil {
		return err
	}
	r := result{line: on.line, revision: on.revision, members: on.members, changed: true}
	if made.operation != nil {
		revision.Tell(made.operation.Metadata, on.line.at(on.revision)) // the types of the public API have no place for it
		if r.operation, err = c.operations.Make(&on.draft.operations, *made.operation); err != nil {
			return err
		}
	}
	made.record.EventTime, made.record.EventStatus = sqldb.Time(on.now), audit.Done
	if err := on.draft.records.Add(*made.record); err != nil {
		return err
	}
	on.draft.keys.Add(p.key, r.operation.ID)
	p.answer.result, p.changes, b.last = r, made.changes, p
	return nil
}

// put stores what a batch has changed.
func (c *committer) put(ctx context.Context, on *state, b *batch) error {
	if b.last == nil {
		return nil
	}
	var stored sqldb.Batch
	d := on.draft
	d.rows(&stored)
	d.entries(&stored, on.revision, b.last.id)
	c.operations.Store(&stored, &d.operations)
	d.records.Write(&stored, Name)
	c.keys.Keep(&stored, &d.keys)
	if len(on.members) > 1 {
		c.announce(&stored, d)
	}
	return c.commit(ctx, &stored, c.db, on.tx)
}

// applyOwn puts what this process has committed into the graph, unless that follows
// another line by now: then whoever waits for the revisions finds that out.
func (c *committer) applyOwn(b *batch) error {
	if b.last == nil {
		return nil
	}
	var own []step
	for _, p := range b.planned {
		if p.answer.changed {
			own = append(own, step{p.answer.revision, p.id, p.changes})
		}
	}
	of := b.last.answer.line
	err := c.graph.apply(of, own...)
	if c.graph.now() != of {
		return nil
	}
	return err
}

// pending is a write on its way. done has room for the one answer, so that the
// committer never waits for a caller.
type pending struct {
	ctx    context.Context // the caller's; its end before the write begins drops it
	key    *idempotency.Key
	id     string // of the write, in the log
	intent intent
	done   chan answer

	// How it ends, if the transaction commits.
	answer  answer
	changes []*accessv1.Change
}

func newPending(ctx context.Context, in intent) *pending {
	return &pending{ctx: ctx, key: idempotency.FromContext(ctx), id: id.New("wrt"), intent: in, done: make(chan answer, 1)}
}

type answer struct {
	result
	err error
}

// result is how a write ended. Its revision is in force.
type result struct {
	line      line
	revision  int64
	members   []string // the replicas that there were
	changed   bool     // it took a revision of its own
	operation operation.Operation
}
