package sqldb_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

func files(texts ...string) fstest.MapFS {
	fs := fstest.MapFS{}
	for i := 0; i < len(texts); i += 2 {
		fs["migrations/"+texts[i]] = &fstest.MapFile{Data: []byte(texts[i+1])}
	}
	return fs
}

var series = []sqldb.Migrations{{Name: "test", Unit: "test", FS: files(
	"0001_create_all.sql", `
	CREATE TABLE clouds (id {{text}} NOT NULL PRIMARY KEY) {{strict}};
	CREATE TABLE folders (
		id       {{text}} NOT NULL,
		cloud_id {{text}} NOT NULL REFERENCES clouds (id),
		name     {{text}} NOT NULL,
		status   BIGINT NOT NULL DEFAULT 1,
		body     {{blob}},
		done     BOOLEAN NOT NULL DEFAULT FALSE,
		PRIMARY KEY (id),
		UNIQUE (cloud_id, name),
		CONSTRAINT folders_status_check CHECK (status > 0)
	) {{strict}};
	CREATE UNIQUE INDEX folders_body_key ON folders (body) WHERE done;
	CREATE TABLE {{unit}}_numbers (number {{identity}}, name {{text}} NOT NULL) {{strict}};`,
)}}

// forEach runs a test on both engines with a cloud c in place.
func forEach(t *testing.T, f func(t *testing.T, db *sqldb.DB)) {
	sqldbtest.ForEach(t, "test", series, func(t *testing.T, db *sqldb.DB) {
		exec(t, db, `INSERT INTO clouds (id) VALUES ('c')`)
		f(t, db)
	})
}

func try(db *sqldb.DB, query string, args ...any) error {
	return sqldb.InTx(context.Background(), db, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	})
}

func exec(t *testing.T, db *sqldb.DB, query string, args ...any) {
	t.Helper()
	if err := try(db, query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func strs(t *testing.T, q sqldb.Querier, query string, args ...any) []string {
	t.Helper()
	rows, err := q.QueryContext(context.Background(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestConstraintName(t *testing.T) {
	tests := []struct{ name, query, want string }{
		{"primary key", `INSERT INTO folders (id, cloud_id, name) VALUES ('f', 'c', 'other')`, "folders_pkey"},
		{"unique", `INSERT INTO folders (id, cloud_id, name) VALUES ('g', 'c', 'name')`, "folders_cloud_id_name_key"},
		{"unique index with a condition", `INSERT INTO folders (id, cloud_id, name, body, done) SELECT 'g', 'c', 'b', body, TRUE FROM folders`, "folders_body_key"},
		{"foreign key", `INSERT INTO folders (id, cloud_id, name) VALUES ('g', 'nowhere', 'name')`, sqldb.ForeignKey},
		{"foreign key of a deleted row", `DELETE FROM clouds`, sqldb.ForeignKey},
		{"check", `UPDATE folders SET status = 0`, "folders_status_check"},
		{"not null", `UPDATE folders SET name = NULL`, ""},
		{"no such table", `DELETE FROM nowhere`, ""},
	}
	forEach(t, func(t *testing.T, db *sqldb.DB) {
		exec(t, db, `INSERT INTO folders (id, cloud_id, name, body, done) VALUES ('f', 'c', 'name', $1, TRUE)`, []byte{1})
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				err := try(db, tt.query)
				if err == nil {
					t.Fatalf("%s: no error", tt.query)
				}
				if got := sqldb.ConstraintName(err); got != tt.want {
					t.Errorf("ConstraintName(%v) = %q, want %q", err, got, tt.want)
				}
			})
		}
	})
	if got := sqldb.ConstraintName(errors.New("x")); got != "" {
		t.Errorf("ConstraintName of another error = %q, want none", got)
	}
}

func TestTextIsComparedByByte(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB) {
		want := []string{"", "-", "0", "A", "Z", "_", "a", "ab", "aé", "b", "ß", "é", "日本", "😀"}
		for i, name := range slices.Backward(want) {
			exec(t, db, `INSERT INTO folders (id, cloud_id, name) VALUES ($1, 'c', $2)`, string(rune('a'+i)), name)
		}
		if diff := cmp.Diff(want, strs(t, db, `SELECT name FROM folders ORDER BY name`)); diff != "" {
			t.Errorf("order of names (-want +got):\n%s", diff)
		}
		if got := strs(t, db, `SELECT name FROM folders WHERE name = $1`, "a"); len(got) != 1 || got[0] != "a" {
			t.Errorf(`names equal to "a" = %q, want "a" alone`, got)
		}
		if got := strs(t, db, `SELECT name FROM folders WHERE (name, id) > ($1, $2) ORDER BY name, id LIMIT 2`, "A", "zzz"); !slices.Equal(got, []string{"Z", "_"}) {
			t.Errorf(`names after "A" = %q, want Z and _`, got)
		}
	})
}

func TestValues(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB) {
		at := time.Date(2105, 12, 31, 23, 59, 59, 123456789, time.FixedZone("x", 3600))
		body := []byte{0, 1, 255}
		exec(t, db, `INSERT INTO folders (id, cloud_id, name, status, body, done) VALUES ('f', 'c', 'n', $1, $2, $3)`, sqldb.Micros(at), body, true)
		exec(t, db, `INSERT INTO folders (id, cloud_id, name, body) VALUES ('g', 'c', 'm', $1)`, []byte(nil))
		var (
			micros int64
			got    []byte
			done   bool
		)
		if err := db.QueryRowContext(t.Context(), `SELECT status, body, done FROM folders WHERE done`).Scan(&micros, &got, &done); err != nil {
			t.Fatal(err)
		}
		if want := at.Truncate(time.Microsecond).UTC(); sqldb.Time(micros) != want {
			t.Errorf("time read back = %v, want %v", sqldb.Time(micros), want)
		}
		if !slices.Equal(got, body) || !done {
			t.Errorf("read back %v, %v; want %v, true", got, done, body)
		}
		if n := strs(t, db, `SELECT id FROM folders WHERE body IS NULL`); !slices.Equal(n, []string{"g"}) {
			t.Errorf("rows whose body is NULL = %q, want g", n)
		}
	})
	if !sqldb.Time(sqldb.Micros(time.Time{})).IsZero() {
		t.Error("the zero time does not survive")
	}
}

func TestIdentityIsNeverUsedAgain(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB) {
		exec(t, db, `INSERT INTO test_numbers (name) VALUES ('a'), ('b')`)
		exec(t, db, `DELETE FROM test_numbers`)
		exec(t, db, `INSERT INTO test_numbers (name) VALUES ('c')`)
		if got := strs(t, db, `SELECT number FROM test_numbers`); !slices.Equal(got, []string{"3"}) {
			t.Errorf("numbers = %q, want 3", got)
		}
	})
}

func TestCheckText(t *testing.T) {
	for _, s := range []string{"a\x00b", "\xff", "a\xc3"} {
		if sqldb.CheckText("fine", s) == nil {
			t.Errorf("CheckText(%q) = nil, want an error", s)
		}
	}
	if err := sqldb.CheckText("", "é日😀\n\u0001"); err != nil {
		t.Errorf("CheckText of good text: %v", err)
	}
}

func TestSQLiteFileIsOpenOnce(t *testing.T) {
	cfg := sqldb.Config{URL: filepath.Join(t.TempDir(), "a b?.db")}
	db, err := sqldb.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(cfg.URL); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the file = %v, %v; want 0600", info.Mode(), err)
	}
	if _, err := sqldb.Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "in use by another bindery process") {
		t.Errorf("second Open: %v, want a refusal that says the file is in use", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db, err = sqldb.Open(t.Context(), cfg)
	if err != nil {
		t.Fatalf("Open after Close: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenFails(t *testing.T) {
	for _, u := range []string{"", "postgres://%zz", "postgres://127.0.0.1:1/none?connect_timeout=1", filepath.Join(t.TempDir(), "no", "folder", "x.db")} {
		if _, err := sqldb.Open(t.Context(), sqldb.Config{URL: u}); err == nil {
			t.Errorf("Open(%q) succeeded", u)
		}
	}
}

func TestInTx(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB) {
		boom := errors.New("boom")
		insert := func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO clouds (id) VALUES ('x')`)
			return err
		}
		err := sqldb.InTx(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error {
			return errors.Join(insert(ctx, tx), boom)
		})
		if !errors.Is(err, boom) {
			t.Errorf("InTx = %v, want the function's error", err)
		}
		func() {
			defer func() {
				if r := recover(); r != "ouch" {
					t.Errorf("recovered %v, want the function's panic", r)
				}
			}()
			_ = sqldb.InTx(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error {
				_ = insert(ctx, tx)
				panic("ouch")
			})
		}()
		if got := strs(t, db, `SELECT id FROM clouds`); !slices.Equal(got, []string{"c"}) {
			t.Errorf("clouds = %q after two rollbacks, want c", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := sqldb.InTx(ctx, db, insert); !errors.Is(err, context.Canceled) {
			t.Errorf("InTx with a cancelled context = %v, want context.Canceled", err)
		}
	})
}

// Two hundred increments by ten writers, each a read and a write of the locked
// row, must all count.
func TestForUpdate(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB) {
		exec(t, db, `INSERT INTO folders (id, cloud_id, name) VALUES ('f', 'c', 'n')`)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				for range 20 {
					err := sqldb.InTx(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error {
						var n int
						if err := tx.QueryRowContext(ctx, `SELECT status FROM folders WHERE id = 'f'`+db.ForUpdate()).Scan(&n); err != nil {
							return err
						}
						_, err := tx.ExecContext(ctx, `UPDATE folders SET status = $1 WHERE id = 'f'`, n+1)
						return err
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if got := strs(t, db, `SELECT status FROM folders`); !slices.Equal(got, []string{"201"}) {
			t.Errorf("counter = %q, want 201", got)
		}
	})
}

// Two transactions that lock two rows in opposite order deadlock on PostgreSQL;
// both succeed, since the victim runs again.
func TestInTxRetriesConflicts(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB) {
		exec(t, db, `INSERT INTO folders (id, cloud_id, name) VALUES ('f', 'c', 'n'), ('g', 'c', 'm')`)
		var met sync.WaitGroup // both hold their first lock
		met.Add(2)
		update := func(first, second string, arrive *sync.Once) error {
			return sqldb.InTx(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error {
				if _, err := tx.ExecContext(ctx, `UPDATE folders SET status = status + 1 WHERE id = $1`, first); err != nil {
					return err
				}
				arrive.Do(met.Done)
				if db.Engine() == sqldb.PostgreSQL { // on SQLite they cannot meet
					met.Wait()
				}
				_, err := tx.ExecContext(ctx, `UPDATE folders SET status = status + 1 WHERE id = $1`, second)
				return err
			})
		}
		var wg sync.WaitGroup
		for _, order := range [][2]string{{"f", "g"}, {"g", "f"}} {
			wg.Go(func() {
				var arrive sync.Once
				if err := update(order[0], order[1], &arrive); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := strs(t, db, `SELECT status FROM folders`); !slices.Equal(got, []string{"3", "3"}) {
			t.Errorf("counters = %q, want 3 and 3", got)
		}
	})
}

// A snapshot sees one moment, and does not hold up a writer.
func TestSnapshot(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB) {
		err := sqldb.Snapshot(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error {
			before := strs(t, tx, `SELECT id FROM clouds`)
			exec(t, db, `INSERT INTO clouds (id) VALUES ('d')`)
			if after := strs(t, tx, `SELECT id FROM clouds`); !slices.Equal(before, after) {
				t.Errorf("a snapshot saw %q, then %q", before, after)
			}
			if got := strs(t, db, `SELECT id FROM clouds ORDER BY id`); !slices.Equal(got, []string{"c", "d"}) {
				t.Errorf("outside the snapshot = %q, want what was committed: c and d", got)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		err = sqldb.Snapshot(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `DELETE FROM clouds`)
			return err
		})
		if err == nil {
			t.Error("a snapshot could write")
		}
	})
}

func TestLock(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB) {
		var inside int
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				err := sqldb.InTx(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error {
					if err := sqldb.Lock(ctx, db, tx, "one"); err != nil {
						return err
					}
					mu.Lock()
					inside++
					alone := inside == 1
					mu.Unlock()
					time.Sleep(2 * time.Millisecond)
					mu.Lock()
					inside--
					mu.Unlock()
					if !alone {
						return errors.New("not alone")
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

func TestClock(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB) {
		var micros int64
		before := time.Now().Truncate(time.Millisecond) // as exact as SQLite is
		if err := db.QueryRowContext(t.Context(), `SELECT `+db.Clock()).Scan(&micros); err != nil {
			t.Fatal(err)
		}
		if is := sqldb.Time(micros); is.Before(before) || is.After(time.Now()) {
			t.Errorf("the database says %v, asked at %v", is, before)
		}
	})
}

// A transaction whose client is silent ends by itself, and what it had locked is free. It
// has made nothing, and is run again when its client goes on.
func TestAbandonedTransactionsEnd(t *testing.T) {
	url := sqldbtest.URL(t)
	open := func(abandon time.Duration) *sqldb.DB {
		db, err := sqldb.Open(t.Context(), sqldb.Config{URL: url, Abandon: abandon})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	change := func(db *sqldb.DB, statement string, then func()) error {
		return sqldb.InTx(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
			then()
			_, err := tx.ExecContext(ctx, `UPDATE counts SET n = n + 0`)
			return err
		})
	}
	silent, other := open(100*time.Millisecond), open(0)
	for _, statement := range []string{`CREATE TABLE counts (n BIGINT NOT NULL)`, `INSERT INTO counts VALUES (0)`} {
		if _, err := other.Pool().ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	runs := 0
	err := change(silent, `UPDATE counts SET n = n + 1`, func() {
		if runs++; runs > 1 {
			return
		}
		if err := change(other, `UPDATE counts SET n = n + 10`, func() {}); err != nil { // waits for the lock
			t.Error(err)
		}
	})
	if err != nil || runs != 2 {
		t.Errorf("run %d times: %v", runs, err)
	}
	var n int
	if err := other.QueryRowContext(t.Context(), `SELECT n FROM counts`).Scan(&n); err != nil || n != 11 {
		t.Errorf("the count is %d, want 11: %v", n, err)
	}
}
