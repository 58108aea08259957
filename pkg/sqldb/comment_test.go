package sqldb_test

import (
	"context"
	"database/sql"
	"net/url"
	"testing"

	"go.uber.org/zap"

	"github.com/bindery-iam/bindery/pkg/log"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

// Whoever finds a session of PostgreSQL finds the request that it works for, whatever
// the caller chose for an id.
func TestTransactionsNameTheirRequest(t *testing.T) {
	db := sqldbtest.Open(t, sqldb.PostgreSQL, "kit", nil)
	for _, id := range []string{"7b6f3c0e", `*/; DROP TABLE x; --' /*`, "\x00é\n"} {
		ctx := log.NewContext(t.Context(), log.Request{ID: id}, zap.NewNop())
		comment := "/*request_id='" + url.QueryEscape(id) + "'*/"
		var pid int
		err := sqldb.InTx(ctx, db, func(ctx context.Context, tx *sql.Tx) error {
			if got := lastStatement(t, db, "idle in transaction"); got != "begin "+comment {
				t.Errorf("request %q: its session says %q", id, got)
			}
			return tx.QueryRowContext(ctx, `SELECT pg_backend_pid()`).Scan(&pid)
		})
		if err != nil {
			t.Fatal(err)
		}
		var last string
		if err := db.QueryRowContext(t.Context(), `SELECT query FROM pg_stat_activity WHERE pid = $1`, pid).Scan(&last); err != nil {
			t.Fatal(err)
		}
		// The connection may serve the question itself by now.
		if last != "commit "+comment && last != `SELECT query FROM pg_stat_activity WHERE pid = $1` {
			t.Errorf("request %q: after it, its session says %q", id, last)
		}
	}
	err := sqldb.InTx(t.Context(), db, func(context.Context, *sql.Tx) error {
		if got := lastStatement(t, db, "idle in transaction"); got != "begin" {
			t.Errorf("without a request: %q", got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// lastStatement is what the only session in a state ran last.
func lastStatement(t *testing.T, db *sqldb.DB, state string) (query string) {
	t.Helper()
	err := db.QueryRowContext(t.Context(), `
		SELECT query FROM pg_stat_activity WHERE datname = current_database() AND state = $1`, state).Scan(&query)
	if err != nil {
		t.Fatal(err)
	}
	return query
}
