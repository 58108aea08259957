// Package jobs runs work that must happen once a transaction has committed and
// that no transaction can do itself: calls to other units, deletion at a later
// time. A job is a row written in the transaction that decided it (Enqueue). It is
// executed at once by the process that made it (Do), and by a worker (Run) when
// that process crashed, failed or is not meant to: again and again, with growing
// pauses, until it succeeds. No job is ever discarded.
//
// A job may be executed more than once, also at the same time in two processes
// when one of them stalls: handlers are idempotent. A job that cannot succeed any
// more says so in its own data (a failed operation) and returns nil.
//
// The queue is a table of maragu.dev/goqite in the unit's own database; its name
// is the unit.
package jobs

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"go.uber.org/zap"
	"maragu.dev/goqite"

	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/revision"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

//go:embed migrations
var files embed.FS

// Migrations makes the table of the queue. On SQLite the units share it.
func Migrations(unit string) sqldb.Migrations {
	return sqldb.Migrations{Name: "goqite", Unit: unit, Owner: "queue", FS: files}
}

// Defaults of Config.
const (
	DefaultLease   = 5 * time.Second
	DefaultPoll    = time.Second
	DefaultWorkers = 4
	DefaultTimeout = time.Minute

	minBackoff = 500 * time.Millisecond
	maxBackoff = time.Minute
)

// Config is what a Queue needs. Fields with a default may be left zero.
type Config struct {
	DB   *sqldb.DB
	Unit string // name of the queue
	Log  *zap.Logger

	// Lease is how long a job stays with the process that executes it, or that
	// enqueued it, before another may take it. It is renewed while a handler runs.
	Lease time.Duration
	// Poll is the longest a job that is due waits for an idle worker.
	Poll time.Duration
	// Workers is the number of jobs that Run executes at a time.
	Workers int
	// Timeout ends an attempt that hangs; the job is tried again.
	Timeout time.Duration
}

// Job is work to be done after the transaction that enqueues it.
type Job struct {
	// Kind names the handler.
	Kind string
	// Payload is what the handler gets, stored as JSON.
	Payload any
	// NotBefore delays the job. Zero means that the caller executes it itself, by
	// Do after its transaction has committed; workers see it one lease later.
	NotBefore time.Time
}

// Ticket stands for one enqueued job.
type Ticket struct {
	id   goqite.ID
	kind string
	body []byte
}

// ID returns the unique id of the job.
func (t Ticket) ID() string { return string(t.id) }

// message is the body of a row.
type message struct {
	Kind    string          `json:"kind"`
	Payload json.RawMessage `json:"payload"`
}

type handler func(ctx context.Context, payload []byte) error

// Queue is the jobs of one unit. It is safe for concurrent use once all handlers
// are registered.
type Queue struct {
	cfg      Config
	goqite   *goqite.Queue
	handlers map[string]handler
	kick     chan struct{}
}

// New returns the queue of a unit, without handlers.
func New(cfg Config) *Queue {
	if cfg.Lease == 0 {
		cfg.Lease = DefaultLease
	}
	if cfg.Poll == 0 {
		cfg.Poll = DefaultPoll
	}
	if cfg.Workers == 0 {
		cfg.Workers = DefaultWorkers
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	flavor := goqite.SQLFlavorSQLite
	if cfg.DB.Engine() == sqldb.PostgreSQL {
		flavor = goqite.SQLFlavorPostgreSQL
	}
	return &Queue{
		cfg:      cfg,
		handlers: map[string]handler{},
		kick:     make(chan struct{}, 1),
		goqite: goqite.New(goqite.NewOpts{
			DB: cfg.DB.Pool(), Name: cfg.Unit, SQLFlavor: flavor, Timeout: cfg.Lease, MaxReceive: math.MaxInt32,
		}),
	}
}

// Register says what executes the jobs of a kind. T is the type of their payload.
// It is called before the first Enqueue, Do or Run.
func Register[T any](q *Queue, kind string, handle func(ctx context.Context, payload T) error) {
	q.handlers[kind] = func(ctx context.Context, raw []byte) error {
		var payload T
		if err := json.Unmarshal(raw, &payload); err != nil {
			return fmt.Errorf("read payload: %w", err)
		}
		return handle(ctx, payload)
	}
}

// Enqueue writes a job in the transaction of the caller: it exists if and only if
// that commits.
func (q *Queue) Enqueue(ctx context.Context, tx *sql.Tx, job Job) (Ticket, error) {
	t, m, err := q.prepare(job)
	if err != nil {
		return Ticket{}, err
	}
	if t.id, err = q.goqite.SendAndGetIDTx(ctx, tx, m); err != nil {
		return Ticket{}, fmt.Errorf("enqueue job %s: %w", job.Kind, err)
	}
	return t, nil
}

// EnqueueIn adds to a batch what Enqueue does. The ticket is good once that has run.
func (q *Queue) EnqueueIn(b *sqldb.Batch, job Job) (*Ticket, error) {
	t, m, err := q.prepare(job)
	if err != nil {
		return nil, err
	}
	b.Query(func(row sqldb.Scanner) error { return row.Scan(&t.id) },
		`INSERT INTO goqite (queue, body, timeout) VALUES ($1, $2, $3) RETURNING id`, q.cfg.Unit, m.Body, q.moment(time.Now().Add(m.Delay)))
	return &t, nil
}

// prepare is a job as it is stored, and its ticket but for the id.
func (q *Queue) prepare(job Job) (Ticket, goqite.Message, error) {
	if q.handlers[job.Kind] == nil {
		return Ticket{}, goqite.Message{}, fmt.Errorf("enqueue job: nobody handles kind %q", job.Kind)
	}
	payload, err := json.Marshal(job.Payload)
	if err != nil {
		return Ticket{}, goqite.Message{}, fmt.Errorf("enqueue job %s: %w", job.Kind, err)
	}
	body, err := json.Marshal(message{Kind: job.Kind, Payload: payload})
	if err != nil {
		return Ticket{}, goqite.Message{}, fmt.Errorf("enqueue job %s: %w", job.Kind, err)
	}
	delay := q.cfg.Lease
	if !job.NotBefore.IsZero() {
		delay = max(0, time.Until(job.NotBefore))
	}
	return Ticket{kind: job.Kind, body: payload}, goqite.Message{Body: body, Delay: delay}, nil
}

// moment is a time as goqite stores and compares it.
func (q *Queue) moment(t time.Time) any {
	if q.cfg.DB.Engine() == sqldb.SQLite {
		return t.UTC().Format("2006-01-02T15:04:05.000Z07:00")
	}
	return t.UTC()
}

// Do executes a job of this process at once, after its transaction has committed.
// When the handler fails, or the caller goes away, the job stays with the workers
// and the error is returned: the work is late, not lost. The idempotency key of the
// caller stays with its own write: here or by a worker, a job has none.
func (q *Queue) Do(ctx context.Context, t Ticket) error {
	done := make(chan error, 1)
	go func() { done <- q.execute(idempotency.NewContext(context.WithoutCancel(ctx), nil), t, 1) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for job %s: %w", t.kind, ctx.Err())
	}
}

// Kick wakes an idle worker of this process.
func (q *Queue) Kick() {
	select {
	case q.kick <- struct{}{}:
	default:
	}
}

// Depth returns the number of jobs not done, those of a later time included.
func (q *Queue) Depth(ctx context.Context) (int64, error) {
	b, err := q.backlog(ctx)
	return b.depth, err
}

// execute runs a job under its lease and deletes it when it succeeded; otherwise
// it becomes due again after a pause that grows with attempt.
func (q *Queue) execute(ctx context.Context, t Ticket, attempt int) error {
	if !revision.Taken(ctx) { // a worker; else the call that waits for the job is told as well
		ctx = revision.NewContext(ctx, new(revision.Notes))
	}
	r := &running{queue: q, id: t.id}
	err := q.handle(context.WithValue(ctx, runningKey{}, r), t)
	if err == nil {
		if r.finished {
			return nil
		}
		if err := q.delete(ctx, t); err != nil {
			return fmt.Errorf("delete job %s: %w", t.kind, err) // it is executed again, which does no harm
		}
		return nil
	}
	pause := backoff(attempt)
	q.cfg.Log.Warn("job failed", zap.String("queue", q.cfg.Unit), zap.String("kind", t.kind), zap.String("job_id", t.ID()),
		zap.Int("attempt", attempt), zap.Duration("retry_in", pause), zap.Error(err))
	if eerr := q.extend(ctx, t, pause); eerr != nil {
		err = errors.Join(err, eerr) // the lease runs out by itself
	}
	return fmt.Errorf("job %s: %w", t.kind, err)
}

// running is a job that is executed, for its handler.
type running struct {
	queue    *Queue
	id       goqite.ID
	finished bool // its row went in a transaction of the handler
}

type runningKey struct{}

// Finish makes the job that ctx is executed for end with a transaction of its handler,
// which has nothing more to do after it and returns nil if and only if that commits.
// It saves the transaction of its own by which a job ends else.
func (q *Queue) Finish(ctx context.Context, tx *sql.Tx) error {
	r, ok := ctx.Value(runningKey{}).(*running)
	if !ok || r.queue != q {
		return nil
	}
	if err := q.goqite.DeleteTx(ctx, tx, r.id); err != nil {
		return fmt.Errorf("finish job: %w", err)
	}
	r.finished = true
	return nil
}

// FinishIn adds to a batch what Finish does.
func (q *Queue) FinishIn(ctx context.Context, b *sqldb.Batch) {
	if r, ok := ctx.Value(runningKey{}).(*running); ok && r.queue == q {
		b.Exec(deleteJob, q.cfg.Unit, string(r.id))
		r.finished = true
	}
}

const deleteJob = `DELETE FROM goqite WHERE queue = $1 AND id = $2`

// handle calls the handler and renews the lease meanwhile. A panic is an error.
func (q *Queue) handle(ctx context.Context, t Ticket) (err error) {
	handle := q.handlers[t.kind]
	if handle == nil {
		return fmt.Errorf("nobody handles kind %q", t.kind)
	}
	ctx, cancel := context.WithTimeout(ctx, q.cfg.Timeout)
	var renewing sync.WaitGroup
	renewing.Go(func() {
		tick := time.NewTicker(q.cfg.Lease / 3)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if err := q.extend(ctx, t, q.cfg.Lease); err != nil && ctx.Err() == nil {
					q.cfg.Log.Warn("job lease not renewed", zap.String("job_id", t.ID()), zap.Error(err))
				}
			}
		}
	})
	defer func() {
		cancel()
		renewing.Wait()
		if r := recover(); r != nil {
			err = fmt.Errorf("handler panicked: %v", r)
		}
	}()
	return handle(ctx, t.body)
}

func (q *Queue) extend(ctx context.Context, t Ticket, d time.Duration) error {
	return sqldb.InTx(ctx, q.cfg.DB, func(ctx context.Context, tx *sql.Tx) error {
		return q.goqite.ExtendTx(ctx, tx, t.id, d)
	})
}

func (q *Queue) delete(ctx context.Context, t Ticket) error {
	return sqldb.InBatches(ctx, q.cfg.DB, func(ctx context.Context, tx *sql.Tx) error {
		var b sqldb.Batch
		b.Exec(deleteJob, q.cfg.Unit, t.ID())
		return b.Commit(ctx, q.cfg.DB, tx)
	})
}

// backoff is the pause before an attempt is repeated: it doubles up to a
// minute.
func backoff(attempt int) time.Duration {
	doublings := min(max(attempt, 1)-1, 10)
	return min(minBackoff<<doublings, maxBackoff)
}
