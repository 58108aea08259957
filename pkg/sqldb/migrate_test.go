package sqldb_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

const (
	one = `CREATE TABLE {{unit}}_one (id BIGINT NOT NULL) {{strict}}; INSERT INTO {{unit}}_one (id) VALUES (1);`
	two = `UPDATE {{unit}}_one SET id = id + 1;`
)

func TestMigrate(t *testing.T) {
	unit := func(name string, fs fstest.MapFS) sqldb.Migrations {
		return sqldb.Migrations{Name: name, Unit: name, FS: fs}
	}
	first := unit("a", files("0001_one.sql", one))
	both := unit("a", files("0001_one.sql", one, "0002_two.sql", two))
	sqldbtest.ForEach(t, "kit", nil, func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		if err := sqldb.Verify(ctx, db, first); err == nil {
			t.Error("Verify of an empty database succeeded")
		}
		if err := sqldb.Migrate(ctx, db, first, unit("b", files("0001_one.sql", one))); err != nil {
			t.Fatal(err)
		}
		if err := sqldb.Verify(ctx, db, first); err != nil {
			t.Errorf("Verify after Migrate: %v", err)
		}
		if err := sqldb.Verify(ctx, db, both); err == nil || !strings.Contains(err.Error(), "run bindery migrate") {
			t.Errorf("Verify of an old database: %v, want the advice to migrate", err)
		}
		// Several processes start at once with the new version.
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				if err := sqldb.Migrate(ctx, db, both); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := strs(t, db, `SELECT id FROM a_one`); !slices.Equal(got, []string{"2"}) {
			t.Errorf("a_one = %q, want 2: each step once", got)
		}
		if got := strs(t, db, `SELECT id FROM b_one`); !slices.Equal(got, []string{"1"}) {
			t.Errorf("b_one = %q, want 1: a series of its own", got)
		}
		// The old program meets the new database.
		for name, f := range map[string]func() error{
			"Migrate": func() error { return sqldb.Migrate(ctx, db, first) },
			"Verify":  func() error { return sqldb.Verify(ctx, db, first) },
		} {
			if err := f(); err == nil || !strings.Contains(err.Error(), "too old for this database") {
				t.Errorf("%s by the old program: %v, want a refusal", name, err)
			}
		}
	})
}

func TestMigrateStepIsWholeOrNothing(t *testing.T) {
	sqldbtest.ForEach(t, "kit", nil, func(t *testing.T, db *sqldb.DB) {
		broken := sqldb.Migrations{Name: "a", Unit: "a", FS: files("0001_one.sql", one+` INSERT INTO nowhere (id) VALUES (1);`)}
		if err := sqldb.Migrate(t.Context(), db, broken); err == nil {
			t.Fatal("a broken step succeeded")
		}
		if err := sqldb.Migrate(t.Context(), db, sqldb.Migrations{Name: "a", Unit: "a", FS: files("0001_one.sql", one)}); err != nil {
			t.Errorf("the mended step: %v; the broken one left something behind", err)
		}
	})
}

func TestMigrationsByEngine(t *testing.T) {
	sqldbtest.ForEach(t, "kit", nil, func(t *testing.T, db *sqldb.DB) {
		m := sqldb.Migrations{Name: "a", FS: files(
			"0001_who.sqlite.sql", `CREATE TABLE who AS SELECT 'sqlite' AS engine;`,
			"0001_who.postgresql.sql", `CREATE TABLE who AS SELECT 'postgresql'::text AS engine;`)}
		if err := sqldb.Migrate(t.Context(), db, m); err != nil {
			t.Fatal(err)
		}
		if got := strs(t, db, `SELECT engine FROM who`); !slices.Equal(got, []string{string(db.Engine())}) {
			t.Errorf("engine = %q, want %s", got, db.Engine())
		}
	})
}

func TestBadMigrations(t *testing.T) {
	tests := []struct {
		name string
		fs   fstest.MapFS
	}{
		{"a gap", files("0001_one.sql", one, "0003_two.sql", two)},
		{"does not begin with 1", files("0002_one.sql", one)},
		{"one number twice", files("0001_one.sql", one, "0001_two.sql", two)},
		{"no number", files("one.sql", one)},
		{"unknown engine", files("0001_one.oracle.sql", one)},
		{"no folder", fstest.MapFS{}},
	}
	db := sqldbtest.Open(t, sqldb.SQLite, "kit", nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := sqldb.Migrate(t.Context(), db, sqldb.Migrations{Name: tt.name, FS: tt.fs}); err == nil {
				t.Error("Migrate succeeded")
			}
		})
	}
}

// Units keep apart on PostgreSQL by schemas, in one database.
func TestSchemas(t *testing.T) {
	url := sqldbtest.URL(t)
	m := sqldb.Migrations{Name: "x", Unit: "x", FS: files("0001_one.sql", one)}
	for _, unit := range []string{"first", "second"} {
		db, err := sqldb.Open(t.Context(), sqldb.Config{URL: url, Schema: unit})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := sqldb.Migrate(t.Context(), db, m); err != nil {
			t.Fatal(err)
		}
		exec(t, db, `UPDATE x_one SET id = $1`, len(unit))
		if got := strs(t, db, `SELECT schemaname FROM pg_tables WHERE tablename = 'x_one' ORDER BY schemaname`); got[len(got)-1] != unit {
			t.Errorf("schemas = %q, want %s last", got, unit)
		}
		if got := strs(t, db, `SELECT id FROM x_one`); len(got) != 1 {
			t.Errorf("rows seen by %s = %q, want its own one", unit, got)
		}
	}
}
