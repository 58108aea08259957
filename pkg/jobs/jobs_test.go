package jobs_test

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/revision"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

type payload struct{ Name string }

const lease = 600 * time.Millisecond

func forEach(t *testing.T, f func(t *testing.T, db *sqldb.DB)) {
	sqldbtest.ForEach(t, "unit", []sqldb.Migrations{jobs.Migrations("unit")}, f)
}

func newQueue(t *testing.T, db *sqldb.DB, unit string) *jobs.Queue {
	return jobs.New(jobs.Config{DB: db, Unit: unit, Log: zaptest.NewLogger(t), Lease: lease, Poll: 20 * time.Millisecond})
}

// enqueue commits one job.
func enqueue(t *testing.T, db *sqldb.DB, q *jobs.Queue, job jobs.Job) jobs.Ticket {
	t.Helper()
	var ticket jobs.Ticket
	err := sqldb.InTx(t.Context(), db, func(ctx context.Context, tx *sql.Tx) (err error) {
		ticket, err = q.Enqueue(ctx, tx, job)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

// run starts a worker and returns what stops it and waits.
func run(t *testing.T, q *jobs.Queue) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- q.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func depth(t *testing.T, q *jobs.Queue) int64 {
	t.Helper()
	n, err := q.Depth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) { // between two looks
		if time.Now().After(end) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

func TestDo(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, "unit")
		var got []payload
		jobs.Register(q, "greet", func(ctx context.Context, p payload) error {
			if idempotency.FromContext(ctx) != nil {
				t.Error("the job has the idempotency key of the call that made it")
			}
			got = append(got, p)
			return nil
		})
		ticket := enqueue(t, db, q, jobs.Job{Kind: "greet", Payload: payload{"é😀"}})
		if n := depth(t, q); n != 1 {
			t.Errorf("depth before Do = %d, want 1", n)
		}
		if err := q.Do(idempotency.NewContext(t.Context(), new(idempotency.Key)), ticket); err != nil {
			t.Fatal(err)
		}
		if len(got) != 1 || got[0].Name != "é😀" {
			t.Errorf("handled %v, want the payload once", got)
		}
		if n := depth(t, q); n != 0 {
			t.Errorf("depth after Do = %d, want 0", n)
		}
		other := enqueue(t, db, q, jobs.Job{Kind: "greet"})
		if other.ID() == ticket.ID() || other.ID() == "" {
			t.Errorf("ids %q and %q, want two", ticket.ID(), other.ID())
		}
	})
}

func TestEnqueueIsPartOfTheTransaction(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, "unit")
		jobs.Register(q, "greet", func(context.Context, payload) error { return nil })
		err := sqldb.InTx(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error {
			if _, err := q.Enqueue(ctx, tx, jobs.Job{Kind: "greet"}); err != nil {
				t.Error(err)
			}
			return errors.New("the change fails")
		})
		if err == nil || depth(t, q) != 0 {
			t.Errorf("after a rollback: %v, depth %d; want no job", err, depth(t, q))
		}
		err = sqldb.InTx(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error {
			_, err := q.Enqueue(ctx, tx, jobs.Job{Kind: "unknown"})
			return err
		})
		if err == nil {
			t.Error("a job of a kind that nobody handles was enqueued")
		}
	})
}

// A process that dies between commit and Do leaves the job to a worker, which
// waits for the lease.
func TestWorkerTakesOver(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, "unit")
		handled := make(chan time.Time, 9)
		jobs.Register(q, "greet", func(context.Context, payload) error {
			handled <- time.Now()
			return nil
		})
		run(t, q)
		before := time.Now()
		enqueue(t, db, q, jobs.Job{Kind: "greet"})
		if at := <-handled; at.Sub(before) < lease-2*time.Millisecond { // goqite keeps milliseconds
			t.Errorf("a worker took the job after %v, want not within its lease of %v", at.Sub(before), lease)
		}
		eventually(t, "job deleted", func() bool { return depth(t, q) == 0 })
	})
}

func TestNotBefore(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, "unit")
		type greeted struct {
			name string
			at   time.Time
		}
		handled := make(chan greeted, 9)
		jobs.Register(q, "greet", func(_ context.Context, p payload) error {
			handled <- greeted{p.Name, time.Now()}
			return nil
		})
		run(t, q)
		later := time.Now().Add(200 * time.Millisecond)
		enqueue(t, db, q, jobs.Job{Kind: "greet", Payload: payload{"later"}, NotBefore: later})
		enqueue(t, db, q, jobs.Job{Kind: "greet", Payload: payload{"tomorrow"}, NotBefore: time.Now().Add(24 * time.Hour)})
		enqueue(t, db, q, jobs.Job{Kind: "greet", Payload: payload{"now"}, NotBefore: time.Unix(0, 0)})
		q.Kick()
		at := map[string]time.Time{}
		for range 2 {
			g := <-handled
			at[g.name] = g.at
		}
		if at["now"].IsZero() || at["later"].Before(later.Add(-2*time.Millisecond)) { // goqite keeps milliseconds
			t.Errorf("handled at %v, want now, and later not before %v", at, later)
		}
		eventually(t, "two jobs done", func() bool { return depth(t, q) == 1 })
	})
}

// What a job has changed is told to its operation by a worker too, and to the call that
// waits for the job.
func TestRevisionsAreNoted(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, "unit")
		made := revision.Revision{Epoch: 1, Line: 1, Number: 7}
		noted := make(chan revision.Revision, 9)
		jobs.Register(q, "greet", func(ctx context.Context, _ payload) error {
			revision.Note(ctx, made)
			r, _ := revision.Noted(ctx)
			noted <- r
			return nil
		})
		notes := new(revision.Notes)
		if err := q.Do(revision.NewContext(t.Context(), notes), enqueue(t, db, q, jobs.Job{Kind: "greet"})); err != nil {
			t.Fatal(err)
		}
		if r, ok := notes.Latest(); !ok || r != made || <-noted != made {
			t.Errorf("the call was told of %v, %v", r, ok)
		}
		run(t, q)
		enqueue(t, db, q, jobs.Job{Kind: "greet", NotBefore: time.Unix(0, 0)})
		q.Kick()
		if r := <-noted; r != made {
			t.Errorf("a worker noted %v", r)
		}
		eventually(t, "job deleted", func() bool { return depth(t, q) == 0 })
	})
}

// A job that fails, inline and by a worker, or panics, is tried until it succeeds.
func TestRetries(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, "unit")
		var attempts atomic.Int32
		jobs.Register(q, "greet", func(context.Context, payload) error {
			switch attempts.Add(1) {
			case 1:
				return errors.New("peer away")
			case 2:
				panic("bug")
			}
			return nil
		})
		ticket := enqueue(t, db, q, jobs.Job{Kind: "greet"})
		if err := q.Do(t.Context(), ticket); err == nil {
			t.Error("Do of a failing job succeeded")
		}
		run(t, q)
		eventually(t, "third attempt", func() bool { return attempts.Load() == 3 && depth(t, q) == 0 })
	})
}

// A caller that goes away ends its wait, not the job; and the lease of a job that
// runs long is renewed, so that no worker takes it as well.
func TestDoOutlivesItsCaller(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, "unit")
		var attempts atomic.Int32
		jobs.Register(q, "greet", func(ctx context.Context, _ payload) error {
			attempts.Add(1)
			select {
			case <-time.After(3 * lease):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		stop := run(t, q)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := q.Do(ctx, enqueue(t, db, q, jobs.Job{Kind: "greet"})); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Do = %v, want the caller's deadline", err)
		}
		eventually(t, "job deleted", func() bool { return depth(t, q) == 0 })
		stop()
		if n := attempts.Load(); n != 1 {
			t.Errorf("the job ran %d times, want once", n)
		}
	})
}

// An attempt that hangs ends, and the job is tried again.
func TestTimeout(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB) {
		q := jobs.New(jobs.Config{DB: db, Unit: "unit", Log: zaptest.NewLogger(t), Lease: lease, Poll: 20 * time.Millisecond, Timeout: 50 * time.Millisecond})
		var attempts atomic.Int32
		jobs.Register(q, "greet", func(ctx context.Context, _ payload) error {
			if attempts.Add(1) == 1 {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		if err := q.Do(t.Context(), enqueue(t, db, q, jobs.Job{Kind: "greet"})); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Do of a hanging job = %v, want its timeout", err)
		}
		run(t, q)
		eventually(t, "second attempt", func() bool { return attempts.Load() == 2 && depth(t, q) == 0 })
	})
}

// Many jobs, two processes: each is executed once when nobody stalls.
func TestWorkersShare(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB) {
		const n = 60
		var mu sync.Mutex
		seen := map[string]int{}
		for range 2 {
			q := newQueue(t, db, "unit")
			jobs.Register(q, "greet", func(_ context.Context, p payload) error {
				mu.Lock()
				defer mu.Unlock()
				seen[p.Name]++
				return nil
			})
			run(t, q)
			for i := range n / 2 {
				enqueue(t, db, q, jobs.Job{Kind: "greet", Payload: payload{string(rune('A'+i)) + t.Name() + time.Now().String()}, NotBefore: time.Unix(0, 0)})
			}
			defer eventually(t, "queue empty", func() bool { return depth(t, q) == 0 })
		}
		eventually(t, "all seen", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(seen) == n
		})
		mu.Lock()
		defer mu.Unlock()
		for name, times := range seen {
			if times != 1 {
				t.Errorf("job %s ran %d times", name, times)
			}
		}
	})
}

// Queues of two units in one table do not take each other's jobs.
func TestQueuesKeepApart(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB) {
		a, b := newQueue(t, db, "a"), newQueue(t, db, "b")
		handled := make(chan string, 9)
		for name, q := range map[string]*jobs.Queue{"a": a, "b": b} {
			jobs.Register(q, "greet", func(context.Context, payload) error {
				handled <- name
				return nil
			})
		}
		run(t, a)
		enqueue(t, db, b, jobs.Job{Kind: "greet", NotBefore: time.Unix(0, 0)})
		enqueue(t, db, a, jobs.Job{Kind: "greet", NotBefore: time.Unix(0, 0)})
		if got := <-handled; got != "a" {
			t.Errorf("handled by %s, want a", got)
		}
		eventually(t, "a empty", func() bool { return depth(t, a) == 0 })
		if depth(t, b) != 1 {
			t.Error("the job of b is gone")
		}
	})
}

// Run waits for what runs.
func TestRunStopsGracefully(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, "unit")
		began, ended := make(chan bool), atomic.Bool{}
		jobs.Register(q, "greet", func(context.Context, payload) error {
			close(began)
			time.Sleep(100 * time.Millisecond) // still at work when Run is told to stop
			ended.Store(true)
			return nil
		})
		stop := run(t, q)
		enqueue(t, db, q, jobs.Job{Kind: "greet", NotBefore: time.Unix(0, 0)})
		<-began
		stop()
		if !ended.Load() || depth(t, q) != 0 {
			t.Errorf("Run returned with the job ended: %v, depth %d; want true, 0", ended.Load(), depth(t, q))
		}
	})
}

// A job may end with a transaction of its handler, and only if that commits.
func TestFinish(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB) {
		q, other := newQueue(t, db, "unit"), newQueue(t, db, "unit")
		gone := errors.New("rolled back")
		var left []int64
		end := func(fail error) func(context.Context, payload) error {
			return func(ctx context.Context, _ payload) error {
				err := sqldb.InTx(ctx, db, func(ctx context.Context, tx *sql.Tx) error {
					if err := errors.Join(other.Finish(ctx, tx), q.Finish(ctx, tx)); err != nil { // the first is not its queue
						return err
					}
					return fail
				})
				left = append(left, depth(t, q))
				return err
			}
		}
		jobs.Register(q, "end", end(nil))
		jobs.Register(q, "fail", end(gone))
		if err := q.Do(t.Context(), enqueue(t, db, q, jobs.Job{Kind: "end"})); err != nil {
			t.Error(err)
		}
		if err := q.Do(t.Context(), enqueue(t, db, q, jobs.Job{Kind: "fail"})); !errors.Is(err, gone) {
			t.Errorf("a transaction that is rolled back: %v", err)
		}
		if len(left) != 2 || left[0] != 0 || left[1] != 1 || depth(t, q) != 1 {
			t.Errorf("%v jobs were left after the transactions, and %d in the end", left, depth(t, q))
		}
	})
}
