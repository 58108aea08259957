package jobs

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// Run executes jobs that are due until ctx ends, then waits for those that it
// began, at most one lease; what has not ended by then is cancelled, and executed
// again later. It returns nil.
func (q *Queue) Run(ctx context.Context) error {
	jobs, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var workers sync.WaitGroup
	for range q.cfg.Workers {
		workers.Go(func() { q.work(ctx, jobs) })
	}
	q.poll(ctx)
	idle := make(chan struct{})
	go func() {
		workers.Wait()
		close(idle)
	}()
	select {
	case <-idle:
	case <-time.After(q.cfg.Lease):
		q.cfg.Log.Warn("jobs cancelled at the end", zap.String("queue", q.cfg.Unit))
	}
	return nil
}

// poll wakes an idle worker now and then, for the jobs that nobody kicks for:
// those whose time has come, and those whose process has died.
func (q *Queue) poll(ctx context.Context) {
	tick := time.NewTicker(q.cfg.Poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			q.Kick()
		}
	}
}

// work executes one job after the other. Each worker that finds a job wakes the
// next one, so that one kick is enough for a full queue.
func (q *Queue) work(ctx, jobs context.Context) {
	for ctx.Err() == nil {
		t, attempt, err := q.receive(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			q.cfg.Log.Error("jobs not received", zap.String("queue", q.cfg.Unit), zap.Error(err))
		case err == nil && attempt > 0:
			q.Kick()
			_ = q.execute(jobs, t, attempt) // logged there, and tried again
			continue
		}
		select {
		case <-ctx.Done():
		case <-q.kick:
		}
	}
}

// receive takes the job that is due for longest, for one lease; attempt is 0 when there
// is none, else how often it was taken.
func (q *Queue) receive(ctx context.Context) (t Ticket, attempt int, err error) {
	if q.cfg.DB.Engine() == sqldb.SQLite {
		if due, err := q.due(ctx); err != nil || !due {
			return Ticket{}, 0, err
		}
	}
	// goqite's own ReceiveTx would have two receivers at once take the same row.
	aside := ""
	if q.cfg.DB.Engine() == sqldb.PostgreSQL {
		aside = ` FOR UPDATE SKIP LOCKED`
	}
	err = sqldb.InBatches(ctx, q.cfg.DB, func(ctx context.Context, tx *sql.Tx) error {
		t, attempt = Ticket{}, 0
		now := time.Now()
		var b sqldb.Batch
		b.Query(func(row sqldb.Scanner) error {
			var raw []byte
			var m message
			if err := row.Scan(&t.id, &raw, &attempt); err != nil {
				return fmt.Errorf("read job: %w", err)
			}
			if json.Unmarshal(raw, &m) != nil {
				m = message{} // of no kind: it fails, and stays where it can be looked at
			}
			t.kind, t.body = m.Kind, m.Payload
			return nil
		}, `
			UPDATE goqite SET timeout = $1, received = received + 1
			WHERE id = (
				SELECT id FROM goqite WHERE queue = $2 AND timeout <= $3
				ORDER BY timeout LIMIT 1`+aside+`
			)
			RETURNING id, body, received`, q.moment(now.Add(q.cfg.Lease)), q.cfg.Unit, q.moment(now))
		return b.Commit(ctx, q.cfg.DB, tx)
	})
	return t, attempt, err
}

// due looks without a lock whether a job may be due, so that idle workers do not keep the
// one writer of SQLite busy. PostgreSQL locks and writes nothing where no job is due.
func (q *Queue) due(ctx context.Context) (bool, error) {
	var one int
	err := q.cfg.DB.QueryRowContext(ctx, `SELECT 1 FROM goqite WHERE queue = $1 AND timeout <= $2 LIMIT 1`, q.cfg.Unit, q.moment(time.Now())).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for jobs: %w", err)
	}
	return true, nil
}
