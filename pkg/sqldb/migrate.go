package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Migrations is one numbered series of schema changes: those of a unit, or those
// that a package of the kit contributes for it.
//
// Files lie in the folder migrations of FS and are named NNNN_verb_noun.sql,
// numbered from 0001 without a gap. Each is run in one transaction. A file that
// no single text can express has two forms, NNNN_verb_noun.sqlite.sql and
// NNNN_verb_noun.postgresql.sql. These words are replaced:
//
//	{{unit}}      name of the unit, for tables of the kit      resourcemanager
//	{{text}}      text that compares byte by byte              TEXT            TEXT COLLATE "C"
//	{{blob}}      bytes                                        BLOB            BYTEA
//	{{identity}}  a number the database counts up, never again INTEGER PRIMARY KEY AUTOINCREMENT
//	                                                           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY
//	{{jsonb}}     after a text: it is JSON, for -> and ->>     (nothing)       ::JSONB
//	{{strict}}    end of CREATE TABLE (…)                      STRICT          (nothing)
//
// On SQLite BIGINT and BOOLEAN are replaced by INTEGER, since STRICT knows no
// other word.
type Migrations struct {
	// Name of the series, unique in the database: the name of the unit, or
	// <unit>_<package>.
	Name string

	// Unit is put for {{unit}}.
	Unit string

	// Owner is the column that names the unit of a row, when the units share the
	// tables of the series on SQLite; else empty.
	Owner string

	// FS holds the folder migrations.
	FS fs.FS
}

// Migrate brings every series to its last version, making the schema of db first.
// It may run in several processes at once: they take turns. A database that is
// newer than the program is refused.
func Migrate(ctx context.Context, db *DB, series ...Migrations) error {
	if err := prepare(ctx, db); err != nil {
		return fmt.Errorf("prepare migrations: %w", err)
	}
	for _, m := range series {
		steps, err := m.load(db.engine)
		if err != nil {
			return fmt.Errorf("read migrations of %s: %w", m.Name, err)
		}
		if err := m.run(ctx, db, steps); err != nil {
			return fmt.Errorf("migrate %s: %w", m.Name, err)
		}
	}
	return nil
}

// Verify checks that every series is at the version of the program, for a process
// that is not to change the schema itself.
func Verify(ctx context.Context, db *DB, series ...Migrations) error {
	for _, m := range series {
		steps, err := m.load(db.engine)
		if err != nil {
			return fmt.Errorf("read migrations of %s: %w", m.Name, err)
		}
		have, err := version(ctx, db, m.Name)
		if err != nil {
			return fmt.Errorf("the schema of %s is not there; run bindery migrate: %w", m.Name, err)
		}
		if err := tooNew(m.Name, have, len(steps)); err != nil {
			return err
		}
		if have < len(steps) {
			return fmt.Errorf("the schema of %s is at version %d and this program needs %d: run bindery migrate", m.Name, have, len(steps))
		}
	}
	return nil
}

func tooNew(name string, have, known int) error {
	if have > known {
		return fmt.Errorf("the schema of %s is at version %d and this program knows only %d: it is too old for this database", name, have, known)
	}
	return nil
}

// prepare makes the schema and the table of versions.
func prepare(ctx context.Context, db *DB) error {
	return InTx(ctx, db, func(ctx context.Context, tx *sql.Tx) error {
		if err := Lock(ctx, db, tx, "bindery migrations"); err != nil {
			return err
		}
		if err := makeSchema(ctx, db, tx); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, expand(db.engine, "", `
			CREATE TABLE IF NOT EXISTS schema_versions (
				name       {{text}} PRIMARY KEY,
				version    BIGINT NOT NULL,
				changed_at BIGINT NOT NULL
			) {{strict}}`))
		return err
	})
}

// makeSchema makes the schema unless it is there. IF NOT EXISTS would not do: it
// asks for the right to make schemas first, and a unit's own role has it not.
func makeSchema(ctx context.Context, db *DB, tx *sql.Tx) error {
	if db.schema == "" {
		return nil
	}
	var there bool
	err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1)`, db.schema).Scan(&there)
	if err != nil || there {
		return err
	}
	_, err = tx.ExecContext(ctx, `CREATE SCHEMA `+pgx.Identifier{db.schema}.Sanitize())
	return err
}

func (m Migrations) run(ctx context.Context, db *DB, steps []string) error {
	for {
		more := false
		err := InTx(ctx, db, func(ctx context.Context, tx *sql.Tx) error {
			if err := Lock(ctx, db, tx, "bindery migrations"); err != nil {
				return err
			}
			have, err := version(ctx, tx, m.Name)
			if err != nil {
				return err
			}
			if err := tooNew(m.Name, have, len(steps)); err != nil {
				return err
			}
			if more = have < len(steps); !more {
				return nil
			}
			if _, err := tx.ExecContext(ctx, steps[have]); err != nil {
				return fmt.Errorf("version %d: %w", have+1, err)
			}
			_, err = tx.ExecContext(ctx, `
				INSERT INTO schema_versions (name, version, changed_at) VALUES ($1, $2, $3)
				ON CONFLICT (name) DO UPDATE SET version = excluded.version, changed_at = excluded.changed_at`,
				m.Name, have+1, Micros(time.Now()))
			return err
		})
		if err != nil || !more {
			return err
		}
	}
}

// version reads how many steps of a series were run.
func version(ctx context.Context, q Querier, name string) (int, error) {
	var v int
	err := q.QueryRowContext(ctx, `SELECT version FROM schema_versions WHERE name = $1`, name).Scan(&v)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return v, err
}

var fileName = regexp.MustCompile(`^(\d{4})_[a-z0-9_]+(?:\.(sqlite|postgresql))?\.sql$`)

// load reads the steps of a series for an engine, in order.
func (m Migrations) load(engine Engine) ([]string, error) {
	entries, err := fs.ReadDir(m.FS, "migrations")
	if err != nil {
		return nil, err
	}
	names := map[int]string{}
	for _, e := range entries {
		match := fileName.FindStringSubmatch(e.Name())
		if match == nil {
			return nil, fmt.Errorf("%s: not NNNN_verb_noun.sql", e.Name())
		}
		if match[2] != "" && match[2] != string(engine) {
			continue
		}
		n, err := strconv.Atoi(match[1])
		if err != nil {
			return nil, err
		}
		if names[n] != "" {
			return nil, fmt.Errorf("%s and %s have one number", names[n], e.Name())
		}
		names[n] = e.Name()
	}
	var steps []string
	for n := range len(names) {
		text, err := fs.ReadFile(m.FS, "migrations/"+names[n+1])
		if names[n+1] == "" || err != nil {
			return nil, fmt.Errorf("number %04d is missing: %w", n+1, err)
		}
		steps = append(steps, expand(engine, m.Unit, string(text)))
	}
	return slices.Clip(steps), nil
}

// expand puts the words of an engine for those of Migrations.
func expand(engine Engine, unit, text string) string {
	words := []string{
		"{{unit}}", unit, "{{text}}", "TEXT", "{{blob}}", "BLOB", "BIGINT", "INTEGER", "BOOLEAN", "INTEGER", "{{strict}}", "STRICT",
		"{{jsonb}}", "",
		"{{identity}}", "INTEGER PRIMARY KEY AUTOINCREMENT",
	}
	if engine == PostgreSQL {
		words = []string{
			"{{unit}}", unit, "{{text}}", `TEXT COLLATE "C"`, "{{blob}}", "BYTEA", "{{strict}}", "", "{{jsonb}}", "::JSONB",
			"{{identity}}", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
		}
	}
	return strings.NewReplacer(words...).Replace(text)
}
