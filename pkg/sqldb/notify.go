package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Shared reports whether other processes may use the database at the same time:
// PostgreSQL, but not SQLite, whose file one process holds.
func (db *DB) Shared() bool { return db.engine == PostgreSQL }

// Timeline is an expression for the timeline of the database's log: another one after a
// standby was promoted, or the log was replayed up to a point. It is an empty text where
// there is no such thing.
func (db *DB) Timeline() string {
	if db.engine == PostgreSQL {
		return `left(pg_walfile_name(pg_current_wal_lsn()), 8)`
	}
	return `''`
}

// Clock is an expression for the time by the clock of the database, in microseconds UTC,
// when the statement comes to it.
func (db *DB) Clock() string {
	if db.engine == PostgreSQL {
		return `(extract(epoch FROM clock_timestamp()) * 1000000)::bigint`
	}
	return `CAST(unixepoch('subsec') * 1000000 AS INTEGER)`
}

// Notify tells those who Listen on a channel, when and if the transaction commits.
// It does nothing where nobody can: on SQLite.
func Notify(ctx context.Context, db *DB, tx *sql.Tx, channel, payload string) error {
	if !db.Shared() {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `SELECT pg_notify($1, $2)`, channel, payload); err != nil {
		return fmt.Errorf("notify %s: %w", channel, err)
	}
	return nil
}

// Listen calls on for every notification on the channels, until ctx ends or the
// connection is lost; then it returns why, within some seconds also where nothing says
// that it is. It calls on("", "") once it listens: what was told before that is not heard.
// It takes a connection of the pool for itself.
func Listen(ctx context.Context, db *DB, channels []string, on func(channel, payload string)) error {
	conn, err := within(ctx, db.write.Conn)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer conn.Close()                    //nolint:errcheck // Raw has thrown it away
	return conn.Raw(func(raw any) error { // nobody else may have a connection that listens
		c := raw.(*commented).raw() //nolint:forcetypeassert // what Connect makes
		err := listen(ctx, c, channels, on)
		return fmt.Errorf("listen: %w: %w", driver.ErrBadConn, err)
	})
}

// quiet is for how long a connection that listens may say nothing before it is asked
// whether it is still there, and how long that may take.
const quiet = 5 * time.Second

func listen(ctx context.Context, c *pgx.Conn, channels []string, on func(channel, payload string)) error {
	for _, channel := range channels {
		if _, err := within(ctx, func(ctx context.Context) (pgconn.CommandTag, error) {
			return c.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize())
		}); err != nil {
			return err
		}
	}
	on("", "")
	for {
		n, err := within(ctx, c.WaitForNotification)
		if err == nil {
			on(n.Channel, n.Payload)
			continue
		}
		if ctx.Err() != nil || c.IsClosed() {
			return err
		}
		if _, err := within(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, c.Ping(ctx) }); err != nil {
			return err
		}
	}
}

// within does something for a quiet time at most.
func within[T any](ctx context.Context, do func(ctx context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	return do(ctx)
}

// Unsynced is a connection whose commits PostgreSQL answers before they are on disk:
// for what is told again anyway, and is worth nothing after a crash.
type Unsynced struct{ conn *sql.Conn }

// OpenUnsynced takes such a connection from the pool.
func OpenUnsynced(ctx context.Context, db *DB) (*Unsynced, error) {
	conn, err := db.write.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if _, err := conn.ExecContext(ctx, `SET synchronous_commit TO off`); err != nil {
		_ = conn.Close() // unused and unchanged
		return nil, fmt.Errorf("connect: %w", err)
	}
	return &Unsynced{conn}, nil
}

// Exec runs one statement.
func (u *Unsynced) Exec(ctx context.Context, query string, args ...any) error {
	_, err := u.conn.ExecContext(ctx, query, args...)
	return err
}

// Close closes the connection: nobody else gets one that forgets.
func (u *Unsynced) Close() error {
	_ = u.conn.Raw(func(any) error { return driver.ErrBadConn }) // it answers what it is given
	return u.conn.Close()
}
