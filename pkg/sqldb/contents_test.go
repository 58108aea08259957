package sqldb_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

// everything has a column of each kind that the units use, a seed, and what only
// one engine has.
var everything = sqldb.Migrations{Name: "everything", Unit: "kit", FS: files(
	"0001_make_parent.sql", `CREATE TABLE parents (id {{text}} PRIMARY KEY) {{strict}}; INSERT INTO parents (id) VALUES ('seed');`,
	"0002_make_all.sql", `CREATE TABLE things (
		number {{identity}}, parent {{text}} NOT NULL REFERENCES parents (id), raw {{blob}} NOT NULL, maybe {{blob}}, done BOOLEAN NOT NULL,
		many BIGINT NOT NULL, name TEXT) {{strict}};`,
	"0003_make_times.sqlite.sql", `CREATE TABLE times (queue TEXT NOT NULL, at TEXT NOT NULL) STRICT;`,
	"0003_make_times.postgresql.sql", `CREATE TABLE times (queue TEXT NOT NULL, at TIMESTAMPTZ NOT NULL);`)}

// thing rows: every value that is easily lost on the way.
var thingRows = [][]any{
	{int64(3), "seed", []byte{}, nil, int64(0), int64(-1 << 63), nil},
	{int64(7), "b\u202e\"\\\n", []byte{0, 255}, []byte("x"), int64(1), int64(1<<63 - 1), ""},
}

// What Each gives on one engine, Insert takes on either, and nothing is changed.
func TestContents(t *testing.T) {
	ctx := t.Context()
	layout, err := sqldb.Layout(ctx, everything)
	if err != nil {
		t.Fatal(err)
	}
	if layout[0].Seeded != 1 || !layout[1].Counted || layout[0].Counted {
		t.Errorf("layout %+v: want one seed in parents, a counter in things", layout)
	}
	want := map[string][][]any{
		"parents": {{"seed"}, {"b\u202e\"\\\n"}},
		"things":  thingRows,
		"times":   {{"kit", "2026-11-22T19:00:00.125Z"}},
	}
	eachPair(t, func(t *testing.T, own, db *sqldb.DB) {
		err := sqldb.InTx(ctx, db, func(ctx context.Context, tx *sql.Tx) error {
			for _, table := range layout {
				c, err := db.Contents(ctx, tx, "kit", table)
				if err != nil {
					return err
				}
				if holds, err := c.Holds(ctx, tx); err != nil || holds {
					t.Errorf("%s holds rows before any was inserted (%v)", table.Name, err)
				}
				err = errors.Join(c.Lock(ctx, tx), c.Clear(ctx, tx), c.Insert(ctx, tx, want[table.Name]), c.SetCounter(ctx, tx, 40))
				if err != nil {
					return err
				}
				if holds, err := c.Holds(ctx, tx); err != nil || !holds {
					t.Errorf("%s holds nothing (%v)", table.Name, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range layout {
			c, err := db.Contents(ctx, db, "kit", table)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want[table.Name], all(t, db, c)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", table.Name, diff)
			}
			if n, err := c.Counter(ctx, db); err != nil || n != map[bool]int64{true: 40}[c.Counted] {
				t.Errorf("counter of %s = %d, %v", table.Name, n, err)
			}
		}
		exec(t, own, `INSERT INTO things (parent, raw, done, many) VALUES ('seed', $1, $2, 1)`, []byte{1}, true)
		if got := strs(t, own, `SELECT MAX(number) FROM things`); got[0] != "41" {
			t.Errorf("the next number is %s, want 41", got[0])
		}
	})
}

// A row of a table that units share is its owner's alone.
func TestContentsOfOwner(t *testing.T) {
	m := everything
	m.Owner = "queue"
	layout, err := sqldb.Layout(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	db := sqldbtest.Open(t, sqldb.SQLite, "kit", []sqldb.Migrations{m})
	exec(t, db, `INSERT INTO times (queue, at) VALUES ('kit', '1'), ('other', '2')`)
	c, err := db.Contents(t.Context(), db, "other", layout[2])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]any{{"other", "2"}}, all(t, db, c)); diff != "" {
		t.Errorf("rows of other (-want +got):\n%s", diff)
	}
}

// A second process reads a SQLite file while the first one writes, and cannot
// write itself.
func TestReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bindery.db")
	if _, err := sqldb.Open(t.Context(), sqldb.Config{URL: path, ReadOnly: true}); err == nil {
		t.Error("a file that is not there was opened")
	}
	owner, err := sqldb.Open(t.Context(), sqldb.Config{URL: path})
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close()
	exec(t, owner, `CREATE TABLE a (id TEXT)`)
	reader, err := sqldb.Open(t.Context(), sqldb.Config{URL: path, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	exec(t, owner, `INSERT INTO a VALUES ('1')`)
	if got := strs(t, reader, `SELECT id FROM a`); len(got) != 1 {
		t.Errorf("the reader sees %q, want one row", got)
	}
	if _, err := reader.Pool().ExecContext(t.Context(), `INSERT INTO a VALUES ('2')`); err == nil {
		t.Error("the reader wrote")
	}
	if err := reader.Close(); err != nil {
		t.Error(err)
	}
	exec(t, owner, `INSERT INTO a VALUES ('3')`)
}

// eachPair runs f on both engines with a database of the unit kit, and one through
// which the tables of all units are reached; SQLite knows no difference.
func eachPair(t *testing.T, f func(t *testing.T, own, db *sqldb.DB)) {
	t.Run("sqlite", func(t *testing.T) {
		db := sqldbtest.Open(t, sqldb.SQLite, "kit", []sqldb.Migrations{everything})
		f(t, db, db)
	})
	t.Run("postgresql", func(t *testing.T) {
		url := sqldbtest.URL(t)
		var dbs []*sqldb.DB
		for _, schema := range []string{"kit", ""} {
			db, err := sqldb.Open(t.Context(), sqldb.Config{URL: url, Schema: schema, MaxConns: 4})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			dbs = append(dbs, db)
		}
		if err := sqldb.Migrate(t.Context(), dbs[0], everything); err != nil {
			t.Fatal(err)
		}
		f(t, dbs[0], dbs[1])
	})
}

func all(t *testing.T, q sqldb.Querier, c *sqldb.Contents) (rows [][]any) {
	t.Helper()
	err := c.Each(t.Context(), q, func(values []any) error {
		rows = append(rows, append([]any(nil), values...))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}
