package sqldb_test

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"testing"

	"go.uber.org/zap"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/log"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

// named are rows of folders of the cloud c.
func named(names ...string) *sqldb.Rows {
	rows := &sqldb.Rows{Columns: []sqldb.Type{sqldb.Texts, sqldb.Texts, sqldb.Texts}}
	for _, name := range names {
		rows.Add("id-"+name, "c", name)
	}
	return rows
}

const insertFolders = `INSERT INTO folders (id, cloud_id, name)`

// A batch reads what the one before has written, and the last one commits, or nothing
// is stored.
func TestBatches(t *testing.T) {
	for name, run := range map[string]func(context.Context, *sqldb.DB, func(context.Context, *sql.Tx) error) error{
		"InTx": sqldb.InTx, "InBatches": sqldb.InBatches,
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *testing.T, db *sqldb.DB) {
				ctx := log.NewContext(t.Context(), log.Request{ID: "r"}, zap.NewNop())
				var seen []string
				see := func(row sqldb.Scanner) error {
					var text string
					err := row.Scan(&text)
					seen = append(seen, text)
					return err
				}
				write := func(last ...string) error {
					seen = nil
					return run(ctx, db, func(ctx context.Context, tx *sql.Tx) error {
						var b, c sqldb.Batch
						b.ExecRows(insertFolders, named("a", "b"), ``)
						b.Query(see, `SELECT name FROM folders WHERE cloud_id = $1 ORDER BY name`, "c")
						if err := b.Run(ctx, db, tx); err != nil {
							return err
						}
						c.QueryRows(see, `SELECT name FROM folders WHERE (id, cloud_id, name) IN (`, named("b", "z"), `)`)
						c.ExecRows(insertFolders, named(last...), ``)
						return c.Commit(ctx, db, tx)
					})
				}
				if err := write("c", "a"); sqldb.ConstraintName(err) == "" || sqldb.Unsure(err) {
					t.Errorf("a batch that breaks a constraint: %v", err)
				}
				if got := strs(t, db, `SELECT name FROM folders`); len(got) > 0 {
					t.Errorf("stored though refused: %q", got)
				}
				if err := write("c"); err != nil {
					t.Fatal(err)
				}
				if want := []string{"a", "b", "b"}; !slices.Equal(seen, want) {
					t.Errorf("read %q, want %q", seen, want)
				}
				if got := strs(t, db, `SELECT name FROM folders ORDER BY name`); !slices.Equal(got, []string{"a", "b", "c"}) {
					t.Errorf("stored %q", got)
				}
				if err := run(ctx, db, func(context.Context, *sql.Tx) error { return nil }); err != nil {
					t.Errorf("a transaction of nothing: %v", err)
				}
				gone := errors.New("gone")
				err := run(ctx, db, func(ctx context.Context, tx *sql.Tx) error {
					var b sqldb.Batch
					b.ExecRows(insertFolders, named("d"), ``)
					return errors.Join(b.Run(ctx, db, tx), gone)
				})
				if !errors.Is(err, gone) || len(strs(t, db, `SELECT name FROM folders WHERE name = 'd'`)) > 0 {
					t.Errorf("a transaction that is given up: %v", err)
				}
			})
		})
	}
}

// After the last batch a transaction takes nothing more: it would be made without one.
func TestNothingComesAfterTheLastBatch(t *testing.T) {
	db := sqldbtest.Open(t, sqldb.PostgreSQL, "test", series)
	exec(t, db, `INSERT INTO clouds (id) VALUES ('c')`)
	for name, more := range map[string]func(context.Context, *sql.Tx) error{
		"statement": func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, insertFolders+` VALUES ('late', 'c', 'late')`)
			return err
		},
		"batch": func(ctx context.Context, tx *sql.Tx) error {
			var b sqldb.Batch
			b.ExecRows(insertFolders, named("late"), ``)
			return b.Run(ctx, db, tx)
		},
	} {
		err := sqldb.InBatches(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error {
			var b sqldb.Batch
			b.ExecRows(insertFolders, named(name), ``)
			if err := b.Commit(ctx, db, tx); err != nil {
				return err
			}
			return more(ctx, tx)
		})
		if got := strs(t, db, `SELECT name FROM folders WHERE name = 'late'`); err == nil || len(got) > 0 {
			t.Errorf("a %s after the last batch: %v, stored %q", name, err, got)
		}
	}
	if err := sqldb.InTx(t.Context(), db, func(context.Context, *sql.Tx) error { return nil }); err != nil {
		t.Errorf("the next transaction: %v", err)
	}
}

// What breaks before the last batch is done again; what breaks with it is not repeated,
// and its caller learns that the outcome is unknown.
func TestCutBatches(t *testing.T) {
	db, proxy := behind(t, 2)
	for _, tt := range []struct {
		name   string
		where  sqldbtest.Cut
		tries  int
		reason string
	}{
		{"after a statement", sqldbtest.AfterStatement, 2, ""},
		{"before commit", sqldbtest.BeforeCommit, 1, apierr.ReasonOutcomeUnknown},
		{"after commit", sqldbtest.AfterCommit, 1, apierr.ReasonOutcomeUnknown},
	} {
		insert := func(cut func()) (tries int, err error) {
			err = sqldb.InBatches(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error {
				tries++
				var b, c sqldb.Batch
				b.Query(func(sqldb.Scanner) error { return nil }, `SELECT number FROM numbers WHERE number = $1`, "x")
				c.Exec(`INSERT INTO numbers VALUES ($1)`, tt.name)
				c.Exec(`DELETE FROM numbers WHERE number = $1`, "prepared")
				if tries == 1 {
					cut()
				}
				if err := b.Run(ctx, db, tx); err != nil {
					return err
				}
				return c.Commit(ctx, db, tx)
			})
			return tries, err
		}
		t.Run(tt.name, func(t *testing.T) {
			var done <-chan struct{}
			tries, err := insert(func() { done = proxy.Cut(tt.where) })
			<-done
			if unsure := sqldb.Unsure(err); unsure != (tt.reason != "") {
				t.Errorf("unsure %v: %v", unsure, err)
			}
			if got := apierr.ReasonOf(sqldb.Outward(t.Context(), err)); tries != tt.tries || got != tt.reason {
				t.Errorf("%d tries, %v; want %d, %q", tries, err, tt.tries, tt.reason)
			}
		})
	}
	want := []string{"after a statement", "after commit"}
	if got := strs(t, db, `SELECT number FROM numbers ORDER BY number`); !slices.Equal(got, want) {
		t.Errorf("stored %q, want %q", got, want)
	}
}
