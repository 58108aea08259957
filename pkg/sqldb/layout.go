package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Kind is what a column holds, on either engine. Booleans are integers 0 and 1,
// and times of libraries are text, as on SQLite.
type Kind string

// The kinds.
const (
	Text    Kind = "text"
	Integer Kind = "integer"
	Bytes   Kind = "bytes"
)

// Column is a column of a Table.
type Column struct {
	Name string
	Kind Kind
}

// Table is a table that migrations make.
type Table struct {
	Name    string
	Columns []Column
	Owner   string // see Migrations
	Counted bool   // the first column is {{identity}}
	Seeded  int    // rows that the migrations put there
}

// Layout returns the tables of a unit at the version of the program, without any
// database of its own: parents come before the tables that refer to them.
func Layout(ctx context.Context, series ...Migrations) (tables []Table, err error) {
	scratch, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	scratch.SetMaxOpenConns(1) // each connection has a memory of its own
	for _, m := range series {
		steps, err := m.load(SQLite)
		if err != nil {
			return nil, fmt.Errorf("read migrations of %s: %w", m.Name, err)
		}
		for i, step := range steps {
			if _, err := scratch.ExecContext(ctx, step); err != nil {
				return nil, fmt.Errorf("version %d of %s: %w", i+1, m.Name, err)
			}
		}
		made, err := layoutAfter(ctx, scratch, len(tables))
		if err != nil {
			return nil, fmt.Errorf("read layout of %s: %w", m.Name, err)
		}
		for i := range made {
			made[i].Owner = m.Owner
		}
		tables = append(tables, made...)
	}
	return tables, nil
}

// layoutAfter reads all but the first tables, in the order in which they were made.
func layoutAfter(ctx context.Context, scratch *sql.DB, first int) ([]Table, error) {
	rows, err := scratch.QueryContext(ctx, `
		SELECT m.name, m.sql, c.name, c.type
		FROM sqlite_master m JOIN pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT IN ('sqlite_sequence')
		ORDER BY m.rowid, c.cid`)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	kinds := map[string]Kind{"TEXT": Text, "INTEGER": Integer, "BLOB": Bytes}
	var tables []Table
	for rows.Next() {
		var table, text, column, typ string
		if err := rows.Scan(&table, &text, &column, &typ); err != nil {
			return nil, err
		}
		if kinds[typ] == "" {
			return nil, fmt.Errorf("column %s of %s: a %s is not portable", column, table, typ)
		}
		if len(tables) == 0 || tables[len(tables)-1].Name != table {
			tables = append(tables, Table{Name: table, Counted: strings.Contains(text, "AUTOINCREMENT")})
		}
		last := &tables[len(tables)-1]
		last.Columns = append(last.Columns, Column{column, kinds[typ]})
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	tables = tables[first:]
	for i := range tables {
		if err := scratch.QueryRowContext(ctx, `SELECT COUNT(*) FROM `+tables[i].Name).Scan(&tables[i].Seeded); err != nil {
			return nil, err
		}
	}
	return tables, nil
}

// Versions returns at which version each series of a unit is at the version of the
// program.
func Versions(series ...Migrations) (map[string]int, error) {
	known := make(map[string]int, len(series))
	for _, m := range series {
		steps, err := m.load(SQLite)
		if err != nil {
			return nil, fmt.Errorf("read migrations of %s: %w", m.Name, err)
		}
		known[m.Name] = len(steps)
	}
	return known, nil
}

// Qualified names a table of a unit for a DB that was opened without a schema: all
// units are reached through it.
func (db *DB) Qualified(unit, table string) string {
	if db.engine == SQLite {
		return table
	}
	return pgx.Identifier{unit, table}.Sanitize()
}

// Exists reports whether a unit has a table.
func (db *DB) Exists(ctx context.Context, q Querier, unit, table string) (bool, error) {
	query, args := `SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = $1`, []any{table}
	if db.engine == PostgreSQL {
		query = `SELECT COUNT(*) FROM pg_tables WHERE tablename = $1 AND schemaname = $2`
		args = append(args, unit)
	}
	var n int
	if err := q.QueryRowContext(ctx, query, args...).Scan(&n); err != nil {
		return false, fmt.Errorf("look for table %s of %s: %w", table, unit, err)
	}
	return n > 0, nil
}

// Version returns at which version a series of a unit is, through a DB that was
// opened without a schema; 0 when nothing of it is there.
func Version(ctx context.Context, db *DB, q Querier, unit, series string) (int, error) {
	exists, err := db.Exists(ctx, q, unit, "schema_versions")
	if err != nil || !exists {
		return 0, err
	}
	var v int
	err = q.QueryRowContext(ctx, `SELECT version FROM `+db.Qualified(unit, "schema_versions")+` WHERE name = $1`, series).Scan(&v)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read version of %s: %w", series, err)
	}
	return v, nil
}
