package sqldb

import (
	"context"
	"database/sql/driver"
	"errors"
	"net/url"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/bindery-iam/bindery/pkg/log"
)

// commenting makes connections whose transactions say, in BEGIN and COMMIT, for
// which request they are, so that whoever reads PostgreSQL's own log, or finds a
// session that holds a lock, finds the request:
//
//	begin /*request_id='8f0c…',traceparent='00-…-01'*/
//
// The statements in between have no comment: pgx keeps prepared statements by their
// text, and each would be a text of its own. The session's process id joins them.
// The form is that of sqlcommenter (https://google.github.io/sqlcommenter/spec/),
// whose percent-encoding leaves nothing of a caller's text that could end a comment.
type commenting struct{ driver.Connector }

// Connect opens a connection.
func (c commenting) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &commented{Conn: conn.(*stdlib.Conn)}, nil // what stdlib's connector makes
}

// commented is a connection. It belongs to one caller at a time.
type commented struct {
	*stdlib.Conn
	tx *commentedTx // that writes and is under way; nil for none
}

// ResetSession says whether the connection, which waited in the pool, is still good.
func (c *commented) ResetSession(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, aliveTimeout)
	defer cancel()
	return c.Conn.ResetSession(ctx)
}

// BeginTx begins a transaction: one that writes, and is made for a request, says so.
func (c *commented) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if opts != (driver.TxOptions{}) {
		return c.Conn.BeginTx(ctx, opts)
	}
	if c.raw().IsClosed() {
		return nil, driver.ErrBadConn
	}
	t := &commentedTx{ctx: ctx, conn: c, begin: "begin", commit: "commit"}
	if comment := comment(log.RequestFrom(ctx)); comment != "" {
		t.begin, t.commit = t.begin+" "+comment, t.commit+" "+comment
	}
	c.tx = t
	if ctx.Value(batchesKey{}) != nil {
		return t, nil
	}
	if err := c.start(ctx); err != nil {
		c.tx = nil
		return nil, err
	}
	return t, nil
}

func (c *commented) raw() *pgx.Conn { return c.Conn.Conn() }

// start sends BEGIN unless that has been done, or no transaction is under way.
func (c *commented) start(ctx context.Context) error {
	switch {
	case c.tx == nil || c.tx.begun && !c.tx.ended:
		return nil
	case c.tx.ended:
		return errCommitted
	}
	if _, err := c.raw().Exec(ctx, c.tx.begin); err != nil {
		_ = c.raw().Close(ctx) // nobody knows what state it is in
		return err
	}
	c.tx.begun = true
	return nil
}

// errCommitted refuses statements after Batch.Commit.
var errCommitted = errors.New("the transaction is committed, and takes no more statements")

// ExecContext executes a statement.
func (c *commented) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.start(ctx); err != nil {
		return nil, err
	}
	return c.Conn.ExecContext(ctx, query, args)
}

// QueryContext executes a statement that reads.
func (c *commented) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.start(ctx); err != nil {
		return nil, err
	}
	return c.Conn.QueryContext(ctx, query, args)
}

// PrepareContext prepares a statement.
func (c *commented) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if err := c.start(ctx); err != nil {
		return nil, err
	}
	return c.Conn.PrepareContext(ctx, query)
}

// commentedTx is a transaction that writes. It ends with the context that it began
// with, as those of stdlib do.
type commentedTx struct {
	ctx           context.Context //nolint:containedctx // driver.Tx takes none
	conn          *commented
	begin, commit string // the statements
	begun, ended  bool   // they were sent; ended by a batch alone
}

// Commit commits, unless a batch has done it or nothing was done.
func (t *commentedTx) Commit() error {
	t.conn.tx = nil
	if !t.begun || t.ended {
		return nil
	}
	tag, err := t.conn.raw().Exec(t.ctx, t.commit)
	if err != nil {
		if t.conn.raw().PgConn().TxStatus() != idle {
			_ = t.conn.raw().Close(t.ctx) // nobody knows what state it is in
		}
		return err
	}
	return committed(tag)
}

// idle is the status of a session that is in no transaction.
const idle = 'I'

// committed wants the answer to COMMIT to be that of a transaction that was sound.
func committed(tag pgconn.CommandTag) error {
	if tag.String() == "ROLLBACK" {
		return pgx.ErrTxCommitRollback
	}
	return nil
}

// Rollback rolls back, unless a batch has committed or nothing was done.
func (t *commentedTx) Rollback() error {
	t.conn.tx = nil
	if !t.begun || t.ended {
		return nil
	}
	_, err := t.conn.raw().Exec(t.ctx, "rollback")
	if err != nil {
		_ = t.conn.raw().Close(t.ctx) // the server rolls back then
	}
	return err
}

// comment is what the transaction of a request says; "" for one of nobody's.
func comment(r log.Request) string {
	if r.ID == "" {
		return ""
	}
	text := "/*request_id='" + url.QueryEscape(r.ID) + "'"
	if r.TraceParent != "" {
		text += ",traceparent='" + url.QueryEscape(r.TraceParent) + "'"
	}
	return text + "*/"
}
