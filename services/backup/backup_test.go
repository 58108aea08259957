package backup

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

var madeAt = time.Date(2026, 11, 22, 19, 0, 0, 0, time.UTC)

// units are two small ones that have everything difficult: a table that refers to
// itself, a counter, the shared table of jobs, booleans, bytes, empty tables.
func units(more ...string) []Unit {
	tree := fstest.MapFS{
		"migrations/0001_a.sql": {Data: []byte(`
			CREATE TABLE tree_head (one BIGINT PRIMARY KEY, revision BIGINT NOT NULL, epoch BIGINT NOT NULL) {{strict}};
			INSERT INTO tree_head (one, revision, epoch) VALUES (1, 0, 1);
			CREATE TABLE tree_nodes (id {{text}} PRIMARY KEY, parent_id {{text}} REFERENCES tree_nodes (id), done BOOLEAN NOT NULL, raw {{blob}} NOT NULL) {{strict}};
			CREATE TABLE tree_never (id {{text}} PRIMARY KEY) {{strict}};`)},
	}
	for i, text := range more {
		tree[fmt.Sprintf("migrations/%04d_more.sql", i+2)] = &fstest.MapFile{Data: []byte(text)}
	}
	book := fstest.MapFS{
		"migrations/0001_a.sql": {Data: []byte(`
			CREATE TABLE book_epoch (one BIGINT PRIMARY KEY, epoch BIGINT NOT NULL) {{strict}};
			INSERT INTO book_epoch (one, epoch) VALUES (1, 1);
			CREATE TABLE book_log (number {{identity}}, text TEXT NOT NULL) {{strict}};`)},
	}
	return []Unit{
		{Name: "tree", Migrations: []sqldb.Migrations{{Name: "tree", Unit: "tree", FS: tree}, jobs.Migrations("tree")}, EpochTable: "tree_head", HeadTable: "tree_head"},
		{Name: "book", Migrations: []sqldb.Migrations{{Name: "book", Unit: "book", FS: book}, jobs.Migrations("book")}, EpochTable: "book_epoch"},
	}
}

// target is an installation without anything in it.
type target struct {
	t   testing.TB
	url string
}

func newTarget(t testing.TB, engine sqldb.Engine) target {
	t.Helper()
	if engine == sqldb.PostgreSQL {
		return target{t, sqldbtest.URL(t)}
	}
	return target{t, filepath.Join(t.TempDir(), "bindery.db")}
}

// open opens the database without a schema; schema is "" for that.
func (g target) open(schema string) *sqldb.DB {
	g.t.Helper()
	db, err := sqldb.Open(context.Background(), sqldb.Config{URL: g.url, Schema: schema, MaxConns: 4, NoSync: true})
	if err != nil {
		g.t.Fatal(err)
	}
	return db
}

func (g target) migrate(us []Unit) {
	g.t.Helper()
	for _, u := range us {
		db := g.open(u.Name)
		if err := sqldb.Migrate(context.Background(), db, u.Migrations...); err != nil {
			g.t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			g.t.Fatal(err)
		}
	}
}

// world makes an installation with something of everything; children stand before
// their parents, in more rows than one statement takes.
func world(t testing.TB, engine sqldb.Engine) *sqldb.DB {
	t.Helper()
	g := newTarget(t, engine)
	g.migrate(units())
	db := g.open("")
	t.Cleanup(func() { db.Close() })
	err := sqldb.InTx(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error {
		settle, err := db.DeferKeys(ctx, tx, []string{"tree"})
		if err != nil {
			return err
		}
		do := func(unit, table, query string, args ...any) {
			if err == nil {
				_, err = tx.ExecContext(ctx, strings.ReplaceAll(query, "{}", db.Qualified(unit, table)), args...)
			}
		}
		for i := 3000; i > 0; i-- {
			do("tree", "tree_nodes", `INSERT INTO {} (id, parent_id, done, raw) VALUES ($1, $2, $3, $4)`,
				fmt.Sprintf("n%05d", i), fmt.Sprintf("n%05d", i/2), i%2 == 0, []byte{byte(i)})
		}
		do("tree", "tree_nodes", `INSERT INTO {} (id, parent_id, done, raw) VALUES ('n00000', NULL, $1, $2)`, false, []byte{})
		do("tree", "tree_head", `UPDATE {} SET revision = 3000, epoch = 5`)
		do("book", "book_epoch", `UPDATE {} SET epoch = 5`)
		for _, text := range []string{"", "a\"\\\n\u2028\u202e<é>", strings.Repeat("x", 3<<20), "gone"} {
			do("book", "book_log", `INSERT INTO {} (text) VALUES ($1)`, text)
		}
		do("book", "book_log", `DELETE FROM {} WHERE text = 'gone'`)
		for _, unit := range []string{"tree", "book", "book"} {
			do(unit, "goqite", `INSERT INTO {} (queue, body) VALUES ($1, $2)`, unit, []byte("job of "+unit))
		}
		if err != nil {
			return err
		}
		return settle(ctx)
	})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// dump is everything in an installation, one line a row.
func dump(t testing.TB, db *sqldb.DB) map[string][]string {
	t.Helper()
	l, err := newLayout(t.Context(), units())
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]string)
	err = l.each(func(u Unit, table sqldb.Table) error {
		c, err := db.Contents(t.Context(), db, u.Name, table)
		if err != nil {
			return err
		}
		var rows []string
		err = c.Each(t.Context(), db, func(values []any) error {
			line, err := encode(nil, table.Columns, values)
			rows = append(rows, string(line))
			return err
		})
		slices.Sort(rows)
		all[u.Name+"/"+table.Name] = rows
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func file(t testing.TB, db *sqldb.DB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "backup")
	if _, err := Create(t.Context(), path, db, units(), "v1", madeAt); err != nil {
		t.Fatal(err)
	}
	return path
}

var engines = []sqldb.Engine{sqldb.SQLite, sqldb.PostgreSQL}

// From either engine to either: the same rows, counters, and everything but the
// epoch, which is new and the same for all units, unless it is to be kept.
func TestRestoreElsewhere(t *testing.T) {
	for _, from := range engines {
		t.Run("from "+string(from), func(t *testing.T) {
			source := world(t, from)
			path := file(t, source)
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v; want 0600: there are keys in it", info.Mode(), err)
			}
			want := dump(t, source)
			for _, to := range engines {
				for _, keep := range []bool{true, false} {
					t.Run(fmt.Sprintf("to %s, keep epoch %v", to, keep), func(t *testing.T) {
						g := newTarget(t, to)
						g.migrate(units())
						db := g.open("")
						defer db.Close()
						epoch := restore(t, db, path, Options{KeepEpoch: keep, Now: madeAt.Add(time.Hour)})
						if wantEpoch := map[bool]int64{true: 5, false: madeAt.Add(time.Hour).UnixMilli()}[keep]; epoch != wantEpoch {
							t.Errorf("epoch %d, want %d", epoch, wantEpoch)
						}
						got := dump(t, db)
						want["tree/tree_head"] = []string{fmt.Sprintf("[1,3000,%d]\n", epoch)}
						want["book/book_epoch"] = []string{fmt.Sprintf("[1,%d]\n", epoch)}
						if diff := cmp.Diff(want, got); diff != "" {
							t.Errorf("(-want +got):\n%s", diff)
						}
						var next int64
						err := db.Pool().QueryRowContext(t.Context(),
							`INSERT INTO `+db.Qualified("book", "book_log")+` (text) VALUES ('next') RETURNING number`).Scan(&next)
						if err != nil || next != 5 {
							t.Errorf("the next number is %d, %v; want 5, since 4 was used", next, err)
						}
					})
				}
			}
		})
	}
}

func restore(t testing.TB, db *sqldb.DB, path string, o Options) int64 {
	t.Helper()
	b, err := Open(t.Context(), path, units())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	epoch, err := b.Restore(t.Context(), db, o)
	if err != nil {
		t.Fatal(err)
	}
	return epoch
}

// Two lines that go on from one backup never share an epoch, whatever the clock.
func TestEpochsDiffer(t *testing.T) {
	first := nextEpoch(5, madeAt)
	if second := nextEpoch(5, madeAt.Add(time.Second)); second == first {
		t.Errorf("the second restore of a backup has the epoch %d of the first", second)
	}
	if back := nextEpoch(first, madeAt.Add(-time.Hour)); back <= first {
		t.Errorf("with a clock that was set back the epoch goes from %d to %d", first, back)
	}
}

// A target with a single row in any table is refused and not changed.
func TestRestoreIntoNonEmpty(t *testing.T) {
	path := file(t, world(t, sqldb.SQLite))
	for _, engine := range engines {
		t.Run(string(engine), func(t *testing.T) {
			g := newTarget(t, engine)
			db := g.open("")
			b, err := Open(t.Context(), path, units())
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if err := b.Empty(t.Context(), db); err != nil {
				t.Errorf("a database without tables: %v", err)
			}
			db.Close()
			g.migrate(units())
			db = g.open("")
			defer db.Close()
			if err := b.Empty(t.Context(), db); err != nil {
				t.Errorf("a database that was only migrated: %v", err)
			}
			if _, err := db.Pool().ExecContext(t.Context(), `INSERT INTO `+db.Qualified("tree", "tree_never")+` (id) VALUES ('mine')`); err != nil {
				t.Fatal(err)
			}
			before := dump(t, db)
			if err := b.Empty(t.Context(), db); err == nil || !strings.Contains(err.Error(), "(there are rows in tree_never)") {
				t.Errorf("Empty: %v", err)
			}
			if _, err := b.Restore(t.Context(), db, Options{Now: madeAt}); err == nil || !strings.Contains(err.Error(), "not empty") {
				t.Errorf("Restore: %v", err)
			}
			if diff := cmp.Diff(before, dump(t, db)); diff != "" {
				t.Errorf("the refused target has changed:\n%s", diff)
			}
		})
	}
}

// A restore that fails in the middle leaves nothing, and may be repeated.
func TestRestoreIsWholeOrNothing(t *testing.T) {
	path := file(t, world(t, sqldb.SQLite))
	for _, engine := range engines {
		t.Run(string(engine), func(t *testing.T) {
			g := newTarget(t, engine)
			g.migrate(units())
			db := g.open("")
			defer db.Close()
			empty := dump(t, db)
			b, err := Open(t.Context(), path, units())
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			size := b.size
			b.size -= 100 // as if the disk gave up near the end
			if _, err := b.Restore(t.Context(), db, Options{Now: madeAt}); err == nil {
				t.Fatal("half a file was restored")
			}
			if diff := cmp.Diff(empty, dump(t, db)); diff != "" {
				t.Errorf("something was left:\n%s", diff)
			}
			b.size = size
			if _, err := b.Restore(t.Context(), db, Options{Now: madeAt}); err != nil {
				t.Errorf("the second try: %v", err)
			}
		})
	}
}

// No byte can be changed, cut off or added.
func TestDamagedFile(t *testing.T) {
	g := newTarget(t, sqldb.SQLite)
	g.migrate(units())
	db := g.open("")
	defer db.Close()
	whole, err := os.ReadFile(file(t, db))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "damaged")
	try := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := Open(t.Context(), path, units()); err == nil {
			b.Close()
			t.Errorf("%s: it was taken", name)
		}
	}
	for i := range whole {
		changed := bytes.Clone(whole)
		changed[i] ^= 1 << (i % 8)
		try(fmt.Sprintf("byte %d changed", i), changed)
		try(fmt.Sprintf("cut to %d bytes", i), whole[:i])
	}
	try("more at the end", append(bytes.Clone(whole), '\n'))
	try("twice", append(bytes.Clone(whole), whole...))
}

// forge makes a file of the given lines with a right checksum.
func forge(t testing.TB, lines ...string) string {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(magic)
	zip := gzip.NewWriter(&b)
	if _, err := zip.Write([]byte(strings.Join(lines, "\n") + "\n")); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "%s%x\n", sumWord, sha256.Sum256(b.Bytes()))
	path := filepath.Join(t.TempDir(), "forged")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Files that are whole and still not what this program restores.
func TestRefusedFiles(t *testing.T) {
	const header = `{"header":{"program":"v1","epoch":1,"schemas":{"tree":{"tree":1,"goqite":2},"book":{"book":1,"goqite":2}}}}`
	const table = `{"table":{"unit":"tree","name":"tree_never","columns":["id"]}}`
	for _, tt := range []struct {
		name, want string
		lines      []string
	}{
		{"no header", "damaged", []string{table}},
		{"no end", "does not end", []string{header, table}},
		{"rows before a table", "a row of no table", []string{header, `["a"]`}},
		{"another table", "has no table", []string{header, `{"table":{"unit":"tree","name":"spies","columns":["id"]}}`}},
		{"a table of another unit", "has no table", []string{header, `{"table":{"unit":"book","name":"tree_never","columns":["id"]}}`}},
		{"other columns", "has the columns", []string{header, `{"table":{"unit":"tree","name":"tree_never","columns":["di"]}}`}},
		{"too few values", "a row of 0 values", []string{header, table, `[]`}},
		{"a number for a text", "column id", []string{header, table, `[1]`}},
		{"a table twice", "is there twice", []string{header, table, table}},
		{"no JSON", "damaged", []string{header, table, `["a"`}},
		{"a wrong count", "it holds 1 rows", []string{header, table, `["a"]`, `{"end":{"tables":1,"rows":2}}`}},
		{"a table left out", "it holds 0 rows of 1 tables", []string{header, table, `{"end":{"tables":1,"rows":0}}`}},
		{"a line after the end", "damaged", []string{header, `{"end":{"tables":0,"rows":0}}`, `["a"]`}},
		{"an unknown unit", "unit partner, which this program does not know: restore it with bindery v9", []string{strings.Replace(strings.Replace(header, `"tree":{`, `"partner":{"partner":1},"tree":{`, 1), "v1", "v9", 1)}},
		{"newer", "newer than this program", []string{strings.Replace(header, `"tree":1`, `"tree":2`, 1)}},
		{"without a series", "older than this program", []string{strings.Replace(header, `,"goqite":2},"book"`, `},"book"`, 1)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := Open(t.Context(), forge(t, tt.lines...), units())
			if err == nil {
				b.Close()
				t.Fatal("it was taken")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// A backup of an older schema is refused by the newer program, by name.
func TestOlderBackup(t *testing.T) {
	path := file(t, world(t, sqldb.SQLite))
	_, err := Open(t.Context(), path, units(`CREATE TABLE tree_more (id {{text}} PRIMARY KEY) {{strict}};`))
	if err == nil || !strings.Contains(err.Error(), "schema of tree is at version 1 and this program needs 2; restore it with bindery v1, then migrate") {
		t.Errorf("%v, want a refusal that names the versions", err)
	}
}

// What was not made by bindery, or by one with another format, is told apart.
func TestOtherFiles(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "no backup of bindery",
		"SQLite format 3\x00":               "no backup of bindery",
		"bindery backup 2\nwhatever":        `has format "2"`,
		strings.Repeat("bindery backup", 9): "no backup of bindery",
		magic:                               "ends early",
	} {
		path := filepath.Join(t.TempDir(), "other")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), path, units()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %q", text, err, want)
		}
	}
}

// A backup that cannot be made leaves no file, and one that was made stays.
func TestCreateFails(t *testing.T) {
	g := newTarget(t, sqldb.SQLite)
	db := g.open("")
	defer db.Close()
	dir := t.TempDir()
	path := filepath.Join(dir, "backup")
	if _, err := Create(t.Context(), path, db, units(), "v1", madeAt); err == nil || !strings.Contains(err.Error(), "the schema of goqite is at version 0 and this program needs 2") {
		t.Errorf("a database without tables: %v", err)
	}
	source := world(t, sqldb.SQLite)
	if _, err := source.Pool().ExecContext(t.Context(), `UPDATE book_epoch SET epoch = 6`); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(t.Context(), path, source, units(), "v1", madeAt); err == nil || !strings.Contains(err.Error(), "disagree about the epoch") {
		t.Errorf("a mixture: %v", err)
	}
	if _, err := source.Pool().ExecContext(t.Context(), `UPDATE book_epoch SET epoch = 5; INSERT INTO book_log (text) VALUES (CAST(X'ff' AS TEXT))`); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(t.Context(), path, source, units(), "v1", madeAt); err == nil || !strings.Contains(err.Error(), "column text holds a text that is not UTF-8") {
		t.Errorf("a text that no other engine takes: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(t.Context(), path, world(t, sqldb.SQLite), units(), "v1", madeAt); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("a file that is there: %v", err)
	}
	if mine, err := os.ReadFile(path); err != nil || string(mine) != "mine" {
		t.Errorf("it was replaced: %q, %v", mine, err)
	}
}
