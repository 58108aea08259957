package marketplacerequests

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
)

// benchWorld is a world over PostgreSQL with products and people who asked for each.
func benchWorld(b *testing.B, products, people int) (w *world, ids []string) {
	b.Helper()
	w = newWorld(b, sqldbtest.Open(b, sqldb.PostgreSQL, Name, servertest.Series(append(neighbours(), Unit())...)))
	var who []person
	for i := range people {
		who = append(who, w.person(fmt.Sprint("person", i)))
	}
	for range products {
		id := w.product(onRequest)
		w.must(sqldb.InTx(b.Context(), w.db, func(ctx context.Context, tx *sql.Tx) error {
			for _, p := range who {
				r, err := w.service.requests.Create(ctx, tx, request.Request{
					ID: w.unique("bench"), Thing: request.Ref{Type: typeProduct, ID: id}, Requester: request.Ref{Type: "userAccount", ID: p.id}, Body: []byte(`{}`),
				})
				if err != nil {
					return err
				}
				ids = append(ids, r.ID)
			}
			return nil
		}))
	}
	return w, ids
}

// BenchmarkDecide approves 2,560 requests by 64 callers, each call until it is in force,
// with everything in one process, its client too, and reports how many in a second.
func BenchmarkDecide(b *testing.B) {
	for range b.N {
		b.StopTimer()
		w, ids := benchWorld(b, 40, 64)
		b.StartTimer()
		var next atomic.Int64
		var all sync.WaitGroup
		for range 64 {
			all.Go(func() {
				for i := next.Add(1); int(i) <= len(ids); i = next.Add(1) {
					_, err := w.requests.ApproveProductAccessRequest(w.as(w.pia), &marketplacev1.ApproveProductAccessRequestRequest{RequestId: ids[i-1]})
					if err != nil {
						b.Error(err)
					}
				}
			})
		}
		all.Wait()
	}
	b.ReportMetric(2560*float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
}

// BenchmarkCheckAccess asks whether the caller may install, one call after another:
// the call of a check and of nothing else.
func BenchmarkCheckAccess(b *testing.B) {
	w, ids := benchWorld(b, 1, 1)
	w.must(w.approve(w.pia, ids[0]))
	r, err := w.service.requests.Store.Get(b.Context(), w.db, ids[0])
	w.must(err)
	token, err := w.operator.CreateToken(b.Context(), &identityv1.CreateTokenRequest{Login: "person0"})
	w.must(err)
	ctx, req := w.Context(token.GetIamToken()), &marketplacev1.CheckAccessRequest{ProductId: r.Thing.ID}
	for b.Loop() {
		if _, err := w.products.CheckAccess(ctx, req); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPending reads, by a call of the publisher's side, the first page of the pending
// requests for a product that a million people asked for, one of a publisher's thousand.
// One in a hundred is pending.
func BenchmarkPending(b *testing.B) {
	w, _ := benchWorld(b, 1, 0)
	product := w.product(onRequest)
	for query, args := range map[string][]any{
		`INSERT INTO marketplacerequests_products (id, publisher_id, slug, type, names, description, access, state, review, opened, openings, placed, created_by, created_at)
		SELECT 'prd' || n, $1, 'bench-' || n, 'SAAS', '{"en":"Thing"}', '', 'ON_REQUEST', 'APPROVED', '', 0, 0, TRUE, $2, n FROM generate_series(1, 998) AS n`: {w.publisher, w.olga.id},
		`INSERT INTO marketplacerequests_requests (id, thing_type, thing_id, requester_type, requester_id, reason, state, steps, step, created_at, pending_until,
			lasts, ends_at, decided_by, decided_at, decision, plea_by, plea_at, plea, ended_by, ended_at, end_reason, settled, body)
		SELECT 'r' || n, $1, $2, 'userAccount', 'u' || n, 'To work.', CASE WHEN n % 100 = 0 THEN 'PENDING' ELSE 'REJECTED' END, '[{"need":1}]', 0, n,
			0, 0, 0, '', 0, '', '', 0, '', '', 0, '', TRUE, '{}' FROM generate_series(1, 1000000) AS n`: {typeProduct, product},
		`INSERT INTO marketplacerequests_threads (id, messages) SELECT 'r' || n, 0 FROM generate_series(1, 1000000) AS n`: nil,
	} {
		_, err := w.db.Pool().ExecContext(b.Context(), query, args...)
		w.must(err)
	}
	_, err := w.db.Pool().ExecContext(b.Context(), `ANALYZE`)
	w.must(err)
	ctx, req := w.as(w.pia), &marketplacev1.ListProductAccessRequestsRequest{ProductId: product, Filter: `state = "PENDING"`}
	for b.Loop() {
		resp, err := w.requests.ListProductAccessRequests(ctx, req)
		if w.must(err); len(resp.GetRequests()) != 100 || resp.GetNextPageToken() == "" {
			b.Fatal(resp)
		}
	}
}
