package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Type is the type of a column of Rows.
type Type string

// The types there are, as PostgreSQL names them.
const (
	Texts Type = "text"
	Ints  Type = "bigint"
	Blobs Type = "bytea" // []byte; nil is NULL
	Bools Type = "boolean"
)

// Rows are values to be stored or looked for by one statement, however many. Each row
// has a value for each column, of string, int64, []byte or bool.
type Rows struct {
	Columns []Type
	Values  [][]any
}

// Add appends a row.
func (r *Rows) Add(values ...any) { r.Values = append(r.Values, values) }

// maxParameters is what SQLite takes in one statement (SQLITE_MAX_VARIABLE_NUMBER).
const maxParameters = 32766

// Batch is statements of one transaction that are sent together: on PostgreSQL all
// of them in one round trip. Their order is kept. The zero Batch is empty.
type Batch struct{ list []statement }

type statement struct {
	query  string
	args   []any
	before string // of one with rows: what stands before them, and after
	after  string
	rows   *Rows
	each   func(Scanner) error // of one that reads
}

// Scanner reads the columns of a row that a statement returns.
type Scanner interface{ Scan(dest ...any) error }

// Exec adds a statement.
func (b *Batch) Exec(query string, args ...any) {
	b.list = append(b.list, statement{query: query, args: args})
}

// Query adds a statement that reads; each is called for every row. On PostgreSQL it
// sees what is committed when its turn comes, also after an earlier statement of the
// batch has waited for a lock.
func (b *Batch) Query(each func(Scanner) error, query string, args ...any) {
	b.list = append(b.list, statement{query: query, args: args, each: each})
}

// Append moves the statements of another batch to the end of this one.
func (b *Batch) Append(other *Batch) {
	b.list = append(b.list, other.list...)
	other.list = nil
}

// QueryRows adds a statement that reads around rows, as ExecRows does.
func (b *Batch) QueryRows(each func(Scanner) error, before string, rows *Rows, after string) {
	if len(rows.Values) > 0 {
		b.list = append(b.list, statement{before: before, after: after, rows: rows, each: each})
	}
}

// ExecRows adds a statement around rows, such as INSERT INTO t (a, b) before them and
// ON CONFLICT DO NOTHING after them, unless there are none. On SQLite many of them
// are several statements.
func (b *Batch) ExecRows(before string, rows *Rows, after string) {
	if len(rows.Values) > 0 {
		b.list = append(b.list, statement{before: before, after: after, rows: rows})
	}
}

// Run runs the statements in a transaction of InTx, whose ctx it needs, and empties
// the batch. It ends with the first that fails.
func (b *Batch) Run(ctx context.Context, db *DB, tx *sql.Tx) error { return b.run(ctx, db, tx, false) }

// Commit runs the statements as Run does, as the last ones of the transaction: on
// PostgreSQL it is committed in the same round trip, unless one of them fails. The
// function of InTx has nothing more to do, and returns what this returns.
func (b *Batch) Commit(ctx context.Context, db *DB, tx *sql.Tx) error {
	return b.run(ctx, db, tx, true)
}

func (b *Batch) run(ctx context.Context, db *DB, tx *sql.Tx, last bool) error {
	list := b.list
	b.list = nil
	if len(list) == 0 {
		return nil
	}
	if db.engine == PostgreSQL {
		return send(ctx, list, last)
	}
	for _, s := range list {
		if err := s.exec(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}

// exec runs a statement on SQLite.
func (s statement) exec(ctx context.Context, tx *sql.Tx) error {
	if s.rows == nil {
		return s.one(ctx, tx, s.query, s.args)
	}
	most := maxParameters / len(s.rows.Columns)
	for values := s.rows.Values; len(values) > 0; {
		n := min(most, len(values))
		text, args := tuples(values[:n])
		if err := s.one(ctx, tx, s.before+" "+text+" "+s.after, args); err != nil {
			return err
		}
		values = values[n:]
	}
	return nil
}

func (s statement) one(ctx context.Context, tx *sql.Tx, query string, args []any) (err error) {
	if s.each == nil {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	}
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := s.each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// send runs statements on PostgreSQL by the connection of the transaction.
func send(ctx context.Context, list []statement, last bool) error {
	conn, ok := ctx.Value(connKey{}).(*sql.Conn)
	if !ok {
		return errors.New("run a batch: the context is not that of a transaction")
	}
	return conn.Raw(func(raw any) error {
		c := raw.(*commented) //nolint:forcetypeassert // what Connect makes
		switch {
		case c.tx == nil:
			return errors.New("run a batch: the transaction does not write")
		case c.tx.ended:
			return errCommitted
		}
		return c.send(ctx, list, last)
	})
}

// send runs statements of the transaction in one round trip, with BEGIN before the first
// one of it and, if they are the last, COMMIT after them: they are prepared before, each
// once for the connection.
func (c *commented) send(ctx context.Context, list []statement, last bool) (err error) {
	pg := c.raw()
	ready := make([]prepared, len(list))
	for i, s := range list {
		if ready[i], err = s.prepare(ctx, pg); err != nil {
			return err
		}
	}
	pipe := pg.PgConn().StartPipeline(ctx)
	open := true
	defer func() {
		if open {
			err = errors.Join(err, pipe.Close())
		}
		if err != nil && last && !refused(err) {
			err = &unknownError{err}
		}
	}()
	if !c.tx.begun {
		pipe.SendQueryParams(c.tx.begin, nil, nil, nil, nil)
	}
	for _, p := range ready {
		pipe.SendQueryStatement(p.StatementDescription, p.values, p.formats, p.results)
	}
	if last {
		pipe.SendQueryParams(c.tx.commit, nil, nil, nil, nil)
	}
	if err := pipe.Sync(); err != nil {
		return err
	}
	if !c.tx.begun {
		if _, err := done(pipe); err != nil {
			return err
		}
		c.tx.begun = true
	}
	for _, s := range list {
		if err := s.receive(pg, pipe); err != nil {
			return err
		}
	}
	if last {
		tag, err := done(pipe)
		if err == nil {
			err = committed(tag)
		}
		if err != nil {
			return err
		}
		c.tx.ended = true
	}
	open = false
	return pipe.Close()
}

// refused reports whether an error is the server's word that it did not do what it was
// sent.
func refused(err error) bool {
	return state(err) != "" && !lost(err) || errors.Is(err, pgx.ErrTxCommitRollback)
}

// prepared is a statement with its arguments, as it travels.
type prepared struct {
	*pgconn.StatementDescription
	values           [][]byte
	formats, results []int16
}

// prepare makes a statement ready for PostgreSQL.
func (s statement) prepare(ctx context.Context, pg *pgx.Conn) (p prepared, err error) {
	text, args := s.query, s.args
	if s.rows != nil {
		if text, args, err = s.rows.unnest(); err != nil {
			return p, err
		}
		text = s.before + " " + text + " " + s.after
	}
	if p.StatementDescription, err = pg.Prepare(ctx, text, text); err != nil {
		return p, err
	}
	var b pgx.ExtendedQueryBuilder
	if err = b.Build(pg.TypeMap(), p.StatementDescription, args); err != nil {
		return p, err
	}
	p.values, p.formats, p.results = b.ParamValues, b.ParamFormats, b.ResultFormats
	return p, nil
}

// receive reads what came of one statement.
func (s statement) receive(pg *pgx.Conn, pipe *pgconn.Pipeline) error {
	if s.each == nil {
		_, err := done(pipe)
		return err
	}
	result, err := next(pipe)
	if err != nil {
		return err
	}
	rows := pgx.RowsFromResultReader(pg.TypeMap(), result)
	defer rows.Close()
	for rows.Next() {
		if err := s.each(rows); err != nil {
			return err
		}
	}
	rows.Close()
	return rows.Err()
}

// next is the result of the next statement.
func next(pipe *pgconn.Pipeline) (*pgconn.ResultReader, error) {
	got, err := pipe.GetResults()
	if err != nil {
		return nil, err
	}
	result, ok := got.(*pgconn.ResultReader)
	if !ok {
		return nil, fmt.Errorf("run a batch: the next result is a %T", got)
	}
	return result, nil
}

// done reads the result of the next statement, of which no row matters.
func done(pipe *pgconn.Pipeline) (pgconn.CommandTag, error) {
	result, err := next(pipe)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	return result.Close()
}

// connKey finds the connection of a transaction in its context.
type connKey struct{}

// unnest is the form for PostgreSQL: an array for each column, so that the text, and
// with it the prepared statement, is the same for any number of rows.
func (r *Rows) unnest() (text string, args []any, err error) {
	parts := make([]string, len(r.Columns))
	args = make([]any, len(r.Columns))
	for i, typ := range r.Columns {
		parts[i] = "$" + strconv.Itoa(i+1) + "::" + string(typ) + "[]"
		switch typ {
		case Texts:
			args[i], err = column[string](r.Values, i)
		case Ints:
			args[i], err = column[int64](r.Values, i)
		case Blobs:
			args[i], err = column[[]byte](r.Values, i)
		case Bools:
			args[i], err = column[bool](r.Values, i)
		}
		if err != nil {
			return "", nil, err
		}
	}
	return "SELECT * FROM unnest(" + strings.Join(parts, ", ") + ")", args, nil
}

// column is one column of rows.
func column[T any](rows [][]any, i int) ([]T, error) {
	all := make([]T, len(rows))
	for n, row := range rows {
		value, ok := row[i].(T)
		if !ok {
			return nil, fmt.Errorf("column %d of row %d is a %T", i, n, row[i])
		}
		all[n] = value
	}
	return all, nil
}

// tuples is the form for SQLite. Its parameters have no names: SQLite would look
// through the names of all others for each of them.
func tuples(rows [][]any) (string, []any) {
	one := "(?" + strings.Repeat(", ?", len(rows[0])-1) + ")"
	args := make([]any, 0, len(rows)*len(rows[0]))
	for _, row := range rows {
		args = append(args, row...)
	}
	return "VALUES " + one + strings.Repeat(", "+one, len(rows)-1), args
}
