package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Contents are the rows of a table, in a form that is the same on both engines. The
// DB was opened without a schema.
type Contents struct {
	Table
	db         *DB
	unit, name string
	get, put   []string // a column in a SELECT; the end of a placeholder
}

// Contents returns the contents of a unit's table.
func (db *DB) Contents(ctx context.Context, q Querier, unit string, t Table) (*Contents, error) {
	c := &Contents{Table: t, db: db, unit: unit, name: db.Qualified(unit, t.Name)}
	types, err := c.types(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("read columns of %s: %w", t.Name, err)
	}
	for _, col := range t.Columns {
		get, put := col.Name, ""
		switch types[col.Name] {
		case "boolean":
			get, put = `CASE WHEN `+col.Name+` THEN 1 ELSE 0 END`, "::bigint::int::boolean"
		case "timestamp with time zone":
			get, put = `to_char(`+col.Name+` AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`, "::text::timestamptz"
		}
		c.get, c.put = append(c.get, get), append(c.put, put)
	}
	return c, nil
}

// types reads the types of the columns, on PostgreSQL.
func (c *Contents) types(ctx context.Context, q Querier) (types map[string]string, err error) {
	if c.db.engine == SQLite {
		return nil, nil
	}
	rows, err := q.QueryContext(ctx, `
		SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2`, c.unit, c.Name)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	types = make(map[string]string)
	for rows.Next() {
		var column, typ string
		if err := rows.Scan(&column, &typ); err != nil {
			return nil, err
		}
		types[column] = typ
	}
	return types, rows.Err()
}

// of restricts a statement to the rows of the unit.
func (c *Contents) of() (where string, args []any) {
	if c.Owner == "" {
		return "", nil
	}
	return " WHERE " + c.Owner + " = $1", []any{c.unit}
}

// Each calls row with the values of every row: nil, string, int64 or []byte. They
// are good until it returns.
func (c *Contents) Each(ctx context.Context, q Querier, row func(values []any) error) error {
	where, args := c.of()
	rows, err := q.QueryContext(ctx, `SELECT `+strings.Join(c.get, ", ")+` FROM `+c.name+where, args...)
	if err != nil {
		return fmt.Errorf("read %s: %w", c.Name, err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	var (
		dest   = make([]any, len(c.Columns))
		values = make([]any, len(c.Columns))
	)
	for i := range c.Columns {
		dest[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return fmt.Errorf("read %s: %w", c.Name, err)
		}
		for i, v := range values {
			if b, ok := v.([]byte); ok && b == nil { // how SQLite's driver gives no bytes
				values[i] = []byte{}
			}
		}
		if err := row(values); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read %s: %w", c.Name, err)
	}
	return nil
}

// Holds reports whether the table has more rows than its migrations put there.
func (c *Contents) Holds(ctx context.Context, q Querier) (bool, error) {
	where, args := c.of()
	var n int
	err := q.QueryRowContext(ctx, fmt.Sprintf(`SELECT COUNT(*) FROM (SELECT 1 FROM %s%s LIMIT %d) few`, c.name, where, c.Seeded+1), args...).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("count %s: %w", c.Name, err)
	}
	return n > c.Seeded, nil
}

// Lock keeps everybody else out of the table until the transaction ends.
func (c *Contents) Lock(ctx context.Context, tx *sql.Tx) error {
	if c.db.engine == SQLite {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `LOCK TABLE `+c.name+` IN ACCESS EXCLUSIVE MODE`); err != nil {
		return fmt.Errorf("lock %s: %w", c.Name, err)
	}
	return nil
}

// Clear removes the rows that the migrations put there.
func (c *Contents) Clear(ctx context.Context, tx *sql.Tx) error {
	if c.Seeded == 0 {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM `+c.name); err != nil { //nolint:gosec // a name of our migrations
		return fmt.Errorf("clear %s: %w", c.Name, err)
	}
	return nil
}

// MaxRows is how many rows one Insert may take: both engines bound the placeholders
// of a statement.
func (c *Contents) MaxRows() int { return max(1, 4000/len(c.Columns)) }

// Insert adds rows as Each gave them, at most MaxRows.
func (c *Contents) Insert(ctx context.Context, tx *sql.Tx, rows [][]any) error {
	if len(rows) == 0 {
		return nil
	}
	var b strings.Builder
	b.WriteString(`INSERT INTO ` + c.name + ` (`)
	for i, col := range c.Columns {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(col.Name)
	}
	b.WriteString(")")
	if c.Counted && c.db.engine == PostgreSQL {
		b.WriteString(" OVERRIDING SYSTEM VALUE")
	}
	b.WriteString(" VALUES ")
	var args []any
	for r, row := range rows {
		for i, v := range row {
			b.WriteString(map[bool]string{true: "(", false: ", "}[i == 0])
			args = append(args, v)
			b.WriteString("$" + strconv.Itoa(len(args)) + c.put[i])
		}
		b.WriteString(map[bool]string{true: ")", false: "), "}[r == len(rows)-1])
	}
	if _, err := tx.ExecContext(ctx, b.String(), args...); err != nil {
		return fmt.Errorf("insert into %s: %w", c.Name, err)
	}
	return nil
}

// Counter returns the highest number that the counted column ever had; 0 for a
// table without one.
func (c *Contents) Counter(ctx context.Context, q Querier) (int64, error) {
	if !c.Counted {
		return 0, nil
	}
	query := `SELECT seq FROM sqlite_sequence WHERE name = $1`
	arg := c.Name
	if c.db.engine == PostgreSQL {
		query = `SELECT COALESCE(pg_sequence_last_value(pg_get_serial_sequence($1, '` + c.Columns[0].Name + `')::regclass), 0)`
		arg = c.name
	}
	var n int64
	if err := q.QueryRowContext(ctx, query, arg).Scan(&n); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("read counter of %s: %w", c.Name, err)
	}
	return n, nil
}

// SetCounter makes the counted column go on after n, which is no less than what the
// table holds.
func (c *Contents) SetCounter(ctx context.Context, tx *sql.Tx, n int64) error {
	if !c.Counted || n == 0 {
		return nil
	}
	var err error
	if c.db.engine == PostgreSQL {
		_, err = tx.ExecContext(ctx, `SELECT setval(pg_get_serial_sequence($1, '`+c.Columns[0].Name+`'), $2)`, c.name, n) //nolint:gosec // a name of our migrations
	} else if _, err = tx.ExecContext(ctx, `DELETE FROM sqlite_sequence WHERE name = $1`, c.Name); err == nil {
		_, err = tx.ExecContext(ctx, `INSERT INTO sqlite_sequence (name, seq) VALUES ($1, $2)`, c.Name, n)
	}
	if err != nil {
		return fmt.Errorf("set counter of %s: %w", c.Name, err)
	}
	return nil
}

// DeferKeys lets rows be inserted before those that they refer to, in the tables of
// units, until settle, which is called last in the transaction, has checked them.
func (db *DB) DeferKeys(ctx context.Context, tx *sql.Tx, units []string) (settle func(context.Context) error, err error) {
	if db.engine == SQLite {
		_, err := tx.ExecContext(ctx, `PRAGMA defer_foreign_keys = ON`) // until the commit, which checks
		return func(context.Context) error { return nil }, err
	}
	var keys []string
	for _, unit := range units {
		found, err := texts(ctx, tx, `
			SELECT format('ALTER TABLE %s ALTER CONSTRAINT %I', conrelid::regclass, conname) FROM pg_constraint
			WHERE contype = 'f' AND connamespace = to_regnamespace(quote_ident($1)) ORDER BY 1`, unit)
		if err != nil {
			return nil, err
		}
		keys = append(keys, found...)
	}
	all := func(ctx context.Context, how string) error {
		for _, key := range keys {
			if _, err := tx.ExecContext(ctx, key+how); err != nil {
				return fmt.Errorf("foreign keys: %w", err)
			}
		}
		return nil
	}
	settle = func(ctx context.Context) error {
		if _, err := tx.ExecContext(ctx, `SET CONSTRAINTS ALL IMMEDIATE`); err != nil {
			return fmt.Errorf("foreign keys: %w", err)
		}
		return all(ctx, ` NOT DEFERRABLE`)
	}
	return settle, all(ctx, ` DEFERRABLE INITIALLY DEFERRED`)
}
