package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bindery-iam/bindery/pkg/slot"
)

// Bounds of what is tried again.
const (
	maxAttempts = 10              // of a transaction that conflicts with others
	patience    = 2 * time.Second // for a database that is away
	maxPause    = 200 * time.Millisecond
)

// InTx runs fn in one transaction that writes: it commits when fn returns nil and
// rolls back otherwise, also on a panic. It is the only way to begin one.
//
// The isolation is read committed; a rule that reads state reads it with
// ForUpdate. When PostgreSQL ends the transaction for a conflict with another
// (deadlock, serialization failure), or the connection is lost before COMMIT was
// sent, fn is run again from the start, so it must have no effect outside tx.
// After a statement has failed fn must return: the transaction is lost on
// PostgreSQL. A COMMIT that was not answered is not repeated: its outcome is
// unknown.
func InTx(ctx context.Context, db *DB, fn func(ctx context.Context, tx *sql.Tx) error) error {
	conflicts := 0
	return db.again(ctx, func() (bool, error) {
		err := inTx(ctx, db.write, nil, fn)
		if conflict(err) {
			conflicts++
			return conflicts < maxAttempts, err
		}
		return lost(err) && !errors.As(err, new(*unknownError)), err
	})
}

// InBatches is InTx for a transaction whose statements are batches, most of them: on
// PostgreSQL its BEGIN travels with the first, and its COMMIT with Batch.Commit.
func InBatches(ctx context.Context, db *DB, fn func(ctx context.Context, tx *sql.Tx) error) error {
	return InTx(context.WithValue(ctx, batchesKey{}, true), db, fn)
}

type batchesKey struct{}

// again runs try until it does not ask to be run again, the database has been lost
// for longer than patience, or ctx ends. Who waits for PostgreSQL lets
// another call run; SQLite runs in this process.
func (db *DB) again(ctx context.Context, try func() (retry bool, err error)) error {
	if db.engine == PostgreSQL {
		defer slot.Aside(ctx)()
	}
	var since time.Time // when the database was lost
	for attempt := int64(1); ; attempt++ {
		retry, err := try()
		switch {
		case !retry:
			return err
		case !lost(err):
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > patience:
			return err
		}
		pause := time.Duration(rand.Int64N(min(attempt*int64(5*time.Millisecond), int64(maxPause)))) //nolint:gosec // spreads the attempts, no secret
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(pause):
		}
	}
}

// Snapshot runs fn in a transaction that only reads and sees one moment of the
// database, however many statements it takes. fn is run once.
func Snapshot(ctx context.Context, db *DB, fn func(ctx context.Context, tx *sql.Tx) error) error {
	opts := &sql.TxOptions{ReadOnly: true}
	if db.engine == PostgreSQL {
		opts.Isolation = sql.LevelRepeatableRead
	}
	begun := false
	return db.again(ctx, func() (bool, error) {
		err := inTx(ctx, db.read, opts, func(ctx context.Context, tx *sql.Tx) error {
			begun = true
			return fn(ctx, tx)
		})
		return lost(err) && !begun, err
	})
}

func inTx(ctx context.Context, pool *sql.DB, opts *sql.TxOptions, fn func(context.Context, *sql.Tx) error) (err error) {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { release(conn, err) }()
	tx, err := conn.BeginTx(ctx, opts)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	committed := false
	defer func() {
		if committed {
			return
		}
		if rerr := tx.Rollback(); rerr != nil && !errors.Is(rerr, sql.ErrTxDone) {
			err = errors.Join(err, fmt.Errorf("roll back: %w", rerr))
		}
	}()
	if err := fn(context.WithValue(ctx, connKey{}, conn), tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		if opts == nil && unsure(err) { // a transaction that writes
			return &unknownError{err}
		}
		return fmt.Errorf("commit: %w", err)
	}
	committed = true
	return nil
}

// release gives a connection back to its pool; but one to a server that takes no
// changes any more, as after a failover, is closed: the next may reach another.
func release(conn *sql.Conn, err error) {
	if state(err) == readOnlyTransaction {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // it answers what it is given
	}
	_ = conn.Close() // closed before, or given back
}

// Lock makes transactions that take the same name follow one another: the lock
// is held until the transaction ends. On SQLite they do so anyway.
func Lock(ctx context.Context, db *DB, tx *sql.Tx, name string) error {
	if db.engine == SQLite {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, name); err != nil {
		return fmt.Errorf("take lock %s: %w", name, err)
	}
	return nil
}

// LockShared is Lock for transactions that need not follow one another, but those that
// take the lock by Lock.
func LockShared(ctx context.Context, db *DB, tx *sql.Tx, name string) error {
	if db.engine == SQLite {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0))`, name); err != nil {
		return fmt.Errorf("share lock %s: %w", name, err)
	}
	return nil
}

// conflict reports whether PostgreSQL gave up a transaction that may be tried
// again: serialization_failure or deadlock_detected.
func conflict(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == "40001" || e.Code == "40P01")
}
