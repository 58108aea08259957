package request

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/thread"
)

// Consequence is what decisions mean in the world. Its methods are called by durable
// jobs, so each may be called again, for a request that was settled before, too.
type Consequence interface {
	// Grant gives what was approved. A refusal for good (NOT_FOUND,
	// FAILED_PRECONDITION, INVALID_ARGUMENT) revokes the request.
	Grant(ctx context.Context, r Request) error

	// Withdraw takes back what was granted. After it no Grant of the same request may
	// take effect any more, also one that began before.
	Withdraw(ctx context.Context, r Request) error

	// Settled is told, in a transaction, that the state of a request is in force.
	// operationID is what Settle was given; cause is why a grant was refused, if so.
	// What it adds to b is written last, together with COMMIT.
	Settled(ctx context.Context, tx *sql.Tx, b *sqldb.Batch, r Request, operationID string, cause error) error
}

// Config is what an Engine needs. All fields are required, but for Own.
type Config struct {
	DB          *sqldb.DB
	Unit        string
	Jobs        *jobs.Queue
	Grid        Grid
	Consequence Consequence
	Now         func() time.Time // to a microsecond, as it is stored

	// Own lets requesters decide their own requests.
	Own bool
}

// Engine is the requests of one unit at work. It is safe for concurrent use.
type Engine struct {
	cfg     Config
	Store   *Store
	Threads *thread.Store
}

// jobSettle is the kind of the jobs that make decisions true.
const jobSettle = "settle-request"

// settling is their payload.
type settling struct {
	Request   string `json:"request"`
	Operation string `json:"operation,omitempty"`
}

// New returns the engine of a unit, whose jobs become jobs of cfg.Jobs.
func New(cfg Config) *Engine {
	e := &Engine{cfg: cfg, Store: NewStore(cfg.DB, cfg.Unit), Threads: thread.NewStore(cfg.DB, cfg.Unit)}
	jobs.Register(cfg.Jobs, jobSettle, e.settle)
	return e
}

// Create files a request, with its thread. A live one of the same requester whose
// time is over makes room for it. Fails: REQUEST_EXISTS.
func (e *Engine) Create(ctx context.Context, tx *sql.Tx, r Request) (Request, error) {
	r.State, r.CreatedAt, r.Settled = Pending, e.cfg.Now(), true
	if len(r.Steps) == 0 {
		r.Steps = []Step{{Need: 1}}
	}
	if before, err := e.Store.Live(ctx, tx, r.Thing, r.Aspect, r.Requester); err == nil {
		if _, _, err := e.expire(ctx, tx, before.ID); err != nil {
			return Request{}, err
		}
	} else if apierr.CodeOf(err) != codes.NotFound {
		return Request{}, err
	}
	if err := e.Store.Insert(ctx, tx, r); err != nil {
		return Request{}, err
	}
	return r, e.Threads.Open(ctx, tx, r.ID)
}

// expire ends a request whose time is over.
func (e *Engine) expire(ctx context.Context, tx *sql.Tx, requestID string) (Request, bool, error) {
	r, err := e.Store.Lock(ctx, tx, requestID)
	if err != nil {
		return Request{}, false, err
	}
	over := r.At(e.cfg.Now())
	if over.State == r.State {
		return r, false, nil
	}
	over.Settled = !over.Granted()
	return over, true, e.update(ctx, tx, over)
}

// update writes a request at once.
func (e *Engine) update(ctx context.Context, tx *sql.Tx, r Request) error {
	var b sqldb.Batch
	e.Store.Update(&b, r)
	if err := b.Run(ctx, e.cfg.DB, tx); err != nil {
		return fmt.Errorf("update request: %w", err)
	}
	return nil
}

// Act takes an action other than Post on a request. changed is false when it was taken
// before, or when an approval is not the last one that is needed. Fails:
// REQUEST_NOT_FOUND, ACTION_NOT_ALLOWED, REQUEST_STATE, OWN_REQUEST.
func (e *Engine) Act(ctx context.Context, tx *sql.Tx, requestID string, a Act) (r Request, changed bool, err error) {
	var b sqldb.Batch
	if r, changed, err = e.ActIn(ctx, tx, &b, requestID, a); err != nil {
		return r, changed, err
	}
	return r, changed, b.Run(ctx, e.cfg.DB, tx)
}

// ActIn is Act for a caller that has more to write: the request is locked and judged at
// once, and what becomes of it is written when the caller runs b.
func (e *Engine) ActIn(ctx context.Context, tx *sql.Tx, b *sqldb.Batch, requestID string, a Act) (r Request, changed bool, err error) {
	if r, err = e.Store.Lock(ctx, tx, requestID); err != nil {
		return Request{}, false, err
	}
	now := e.cfg.Now()
	r = r.At(now)
	err = e.cfg.Grid.Permit(a.Side, a.Action, r.State)
	switch {
	case apierr.ReasonOf(err) == ReasonState && r.State == a.Action.outcome():
		return r, false, nil
	case err != nil:
		return r, false, err
	case a.Side == Decider && !e.cfg.Own && a.By == r.Requester && (a.Action == Approve || a.Action == Reject):
		return r, false, errOwn
	}
	if a.Action == Approve {
		if last, err := e.approve(ctx, tx, &r, a, now); err != nil || !last {
			return r, false, err
		}
	}
	r.take(a, now)
	e.Store.Update(b, r)
	return r, true, nil
}

// approve counts an approval; last says that it is the last one that is needed.
func (e *Engine) approve(ctx context.Context, tx *sql.Tx, r *Request, a Act, now time.Time) (last bool, err error) {
	if len(r.Steps) == 1 && r.Steps[0].Need <= 1 {
		return true, nil // whose it is stands in the request
	}
	n, again, err := e.Store.vote(ctx, tx, *r, a.By.ID, now)
	if err != nil || again || n < r.Steps[r.Step].Need {
		return false, err
	}
	if r.Step+1 == len(r.Steps) {
		return true, nil
	}
	r.Step++
	return false, e.update(ctx, tx, *r)
}

// take puts an action into a request.
func (r *Request) take(a Act, now time.Time) {
	r.State, _ = r.State.Next(a.Action)
	switch a.Action {
	case Approve, Reject:
		r.DecidedBy, r.DecidedAt, r.Decision = a.By, now, a.Text
		if a.Action == Approve && r.Lasts > 0 {
			r.EndsAt = now.Add(r.Lasts)
		}
	case Plead:
		r.PleaBy, r.PleaAt, r.Plea = a.By.ID, now, a.Text
	case Cancel, Revoke, Expire:
		r.EndedBy, r.EndedAt, r.EndReason = a.By.ID, now, a.Text
	case Post:
	}
	if a.Action == Approve || r.Granted() && a.Action != Plead {
		r.Settled = false
	}
}

// Post adds a message to the thread of a request, whose state it returns. Fails:
// REQUEST_NOT_FOUND, ACTION_NOT_ALLOWED, REQUEST_STATE, THREAD_FULL, and for a text
// that is none.
func (e *Engine) Post(ctx context.Context, tx *sql.Tx, requestID string, side Side, author thread.Author, text string) (Request, thread.Message, error) {
	r, err := e.Store.Lock(ctx, tx, requestID)
	if err != nil {
		return Request{}, thread.Message{}, err
	}
	r = r.At(e.cfg.Now())
	if err := e.cfg.Grid.Permit(side, Post, r.State); err != nil {
		return r, thread.Message{}, err
	}
	m, err := e.Threads.Post(ctx, tx, thread.Message{Thread: requestID, Side: string(side), Author: author, Text: text, At: e.cfg.Now()})
	return r, m, err
}

// End ends a live request by the unit itself: a pending one is cancelled, an approved
// one revoked. changed is false for one that is not live. Fails: REQUEST_NOT_FOUND.
func (e *Engine) End(ctx context.Context, tx *sql.Tx, requestID, reason string) (r Request, a Act, changed bool, err error) {
	var b sqldb.Batch
	if r, a, changed, err = e.EndIn(ctx, tx, &b, requestID, reason); err != nil {
		return r, a, changed, err
	}
	return r, a, changed, b.Run(ctx, e.cfg.DB, tx)
}

// EndIn is End as ActIn is Act.
func (e *Engine) EndIn(ctx context.Context, tx *sql.Tx, b *sqldb.Batch, requestID, reason string) (r Request, a Act, changed bool, err error) {
	if r, err = e.Store.Lock(ctx, tx, requestID); err != nil {
		return r, a, false, err
	}
	a = Act{Action: Cancel, Side: System, Text: reason}
	switch r = r.At(e.cfg.Now()); r.State {
	case Pending:
	case Approved:
		a.Action = Revoke
	default:
		return r, a, false, nil
	}
	r, changed, err = e.ActIn(ctx, tx, b, requestID, a)
	return r, a, changed, err
}

// Settle enqueues, in the transaction of an action, the job that makes its outcome
// true. The caller executes it by Jobs.Do after the commit; operationID, which may be
// "", comes back to Consequence.Settled.
func (e *Engine) Settle(ctx context.Context, tx *sql.Tx, requestID, operationID string) (jobs.Ticket, error) {
	return e.cfg.Jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobSettle, Payload: settling{requestID, operationID}})
}

// SettleIn adds to a batch what Settle does. The ticket is good once that has run.
func (e *Engine) SettleIn(b *sqldb.Batch, requestID, operationID string) (*jobs.Ticket, error) {
	return e.cfg.Jobs.EnqueueIn(b, jobs.Job{Kind: jobSettle, Payload: settling{requestID, operationID}})
}

// settle is the job that brings the world in line with where a request stands by now.
func (e *Engine) settle(ctx context.Context, job settling) error {
	r, err := e.Store.Get(ctx, e.cfg.DB, job.Request)
	if apierr.CodeOf(err) == codes.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	r = r.At(e.cfg.Now())
	var refused error
	switch {
	case r.State == Approved:
		if err := e.cfg.Consequence.Grant(ctx, r); final(err) {
			refused = err
		} else if err != nil {
			return fmt.Errorf("grant: %w", err)
		}
	case r.Granted():
		if err := e.cfg.Consequence.Withdraw(ctx, r); err != nil {
			return fmt.Errorf("withdraw: %w", err)
		}
	}
	return sqldb.InBatches(ctx, e.cfg.DB, func(ctx context.Context, tx *sql.Tx) error {
		var b sqldb.Batch
		if err := e.settled(ctx, tx, &b, job, r.State, refused); err != nil {
			return err
		}
		e.cfg.Jobs.FinishIn(ctx, &b)
		return b.Commit(ctx, e.cfg.DB, tx)
	})
}

// final reports whether a refusal stays one when the call is repeated.
func final(err error) bool {
	switch apierr.CodeOf(err) {
	case codes.NotFound, codes.FailedPrecondition, codes.InvalidArgument:
		return err != nil
	default:
		return false
	}
}

// settled notes that a state is in force, unless the request has gone on: then the job
// of what came after it will. What could not be granted is revoked.
func (e *Engine) settled(ctx context.Context, tx *sql.Tx, b *sqldb.Batch, job settling, in State, refused error) error {
	r, err := e.Store.Lock(ctx, tx, job.Request)
	if err != nil {
		return err
	}
	r = r.At(e.cfg.Now())
	if r.State == in {
		if refused != nil {
			r.take(Act{Action: Revoke, Side: System, Text: apierr.ReasonOf(refused)}, e.cfg.Now())
		}
		r.Settled = true
		e.Store.Update(b, r)
	} else {
		refused = nil // whatever was refused is not wanted any more
	}
	return e.cfg.Consequence.Settled(ctx, tx, b, r, job.Operation, refused)
}

// sweepMost is how many requests one transaction of a sweep ends.
const sweepMost = 100

// Sweep ends the requests whose time is over and withdraws what they gave. told is
// called in the transaction that ends one.
func (e *Engine) Sweep(ctx context.Context, told func(context.Context, *sql.Tx, Request) error) error {
	for {
		n := 0
		err := sqldb.InTx(ctx, e.cfg.DB, func(ctx context.Context, tx *sql.Tx) error {
			over, err := e.Store.Over(ctx, tx, e.cfg.Now(), sweepMost)
			n = len(over)
			for i := 0; i < len(over) && err == nil; i++ {
				err = e.end(ctx, tx, over[i].ID, told)
			}
			return err
		})
		if err != nil || n < sweepMost {
			return err
		}
	}
}

func (e *Engine) end(ctx context.Context, tx *sql.Tx, requestID string, told func(context.Context, *sql.Tx, Request) error) error {
	r, changed, err := e.expire(ctx, tx, requestID)
	if err != nil || !changed {
		return err
	}
	if r.Granted() {
		if _, err := e.Settle(ctx, tx, r.ID, ""); err != nil {
			return err
		}
	}
	return told(ctx, tx, r)
}
