package request_test

import (
	"testing"
	"time"

	"github.com/bindery-iam/bindery/pkg/page"
	. "github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	"github.com/bindery-iam/bindery/pkg/thread"
)

// BenchmarkPending reads the first page of the pending requests for a thing that a
// million people asked for, as a list of the publisher's side does: the page and the
// sizes of its threads. One in a hundred is pending.
func BenchmarkPending(b *testing.B) {
	db := sqldbtest.Open(b, sqldb.PostgreSQL, "desk", []sqldb.Migrations{Migrations("desk"), thread.Migrations("desk")})
	for _, query := range []string{
		`INSERT INTO desk_requests (id, thing_type, thing_id, requester_type, requester_id, reason, state, steps, step, created_at, pending_until,
			lasts, ends_at, decided_by, decided_at, decision, plea_by, plea_at, plea, ended_by, ended_at, end_reason, settled, body)
		SELECT 'r' || n, 'room', 'one', 'user', 'u' || n, 'to work', CASE WHEN n % 100 = 0 THEN 'PENDING' ELSE 'APPROVED' END, '[{"need":1}]', 0, n,
			0, 0, 0, '', 0, '', '', 0, '', '', 0, '', TRUE, '' FROM generate_series(1, 1000000) AS n`,
		`INSERT INTO desk_threads (id, messages) SELECT 'r' || n, 0 FROM generate_series(1, 1000000) AS n`,
		`ANALYZE`,
	} {
		if _, err := db.Pool().ExecContext(b.Context(), query); err != nil {
			b.Fatal(err)
		}
	}
	store, threads := NewStore(db, "desk"), thread.NewStore(db, "desk")
	for b.Loop() {
		all, err := store.List(b.Context(), db, Query{Thing: Ref{Type: "room", ID: "one"}, State: Pending, Now: time.Now()}, page.Position{}, 101)
		if err != nil || len(all) != 101 {
			b.Fatal(len(all), err)
		}
		ids := make([]string, len(all))
		for i, r := range all {
			ids[i] = r.ID
		}
		if _, err := threads.Sizes(b.Context(), db, string(Decider), ids...); err != nil {
			b.Fatal(err)
		}
	}
}
