package partner

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
)

// The size that is measured: a partner with this many customers, each with one cloud and
// some products, and this many records of one month.
const (
	benchCustomers = 10_000
	benchProducts  = 10
	benchRecords   = 10_000_000
	benchIngested  = 400_000 // more, while it is measured
)

// BenchmarkUsage measures what a partner with many customers waits for, on PostgreSQL with
// everything in one process, its clients too: a page of customers, the report of a month by
// customer, and how fast records of usage are taken. The month is filled by SQL with what
// taking its records would have left.
func BenchmarkUsage(b *testing.B) {
	w := benchWorld(b)
	ann := w.person("ann")
	partner := w.partner(ann)
	month := dayOf(w.now()).month() - 1
	w.fill(partner, month.month())
	for _, size := range []int64{100, 1000} {
		b.Run(fmt.Sprint("list-", size), func(b *testing.B) {
			for b.Loop() {
				page := must(w.subaccounts.ListSubaccounts(w.as(ann), &partnerv1.ListSubaccountsRequest{ResellerId: partner, PageSize: size}))(b)
				if len(page.GetSubaccounts()) != int(size) {
					b.Fatalf("%d subaccounts", len(page.GetSubaccounts()))
				}
			}
			b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(b.N), "ms/page")
		})
	}
	b.Run("list-public-1000", func(b *testing.B) {
		for b.Loop() {
			must(w.customers.List(w.as(ann), &billingv1.ListCustomersRequest{ResellerId: partner, PageSize: 1000}))(b)
		}
		b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(b.N), "ms/page")
	})
	filter := func(axis partnerv1.UsageReport_Axis) *partnerv1.UsageFilter {
		return &partnerv1.UsageFilter{FromDate: month.month().String(), ToDate: month.monthEnd().String(), Axis: axis}
	}
	for axis, want := range map[partnerv1.UsageReport_Axis]int{
		partnerv1.UsageReport_SUBACCOUNT: benchCustomers, partnerv1.UsageReport_SKU: benchProducts,
	} {
		b.Run("month-by-"+axis.String(), func(b *testing.B) {
			for b.Loop() {
				if n := w.exported(ann, partner, filter(axis)); n != want {
					b.Fatalf("%d rows, want %d", n, want)
				}
			}
			b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(b.N), "ms/report")
		})
	}
	b.Run("month-first-page", func(b *testing.B) {
		for b.Loop() {
			must(w.reports().GetUsageReport(w.as(ann), &partnerv1.GetUsageReportRequest{
				BillingAccountId: partner, Filter: filter(partnerv1.UsageReport_SUBACCOUNT), PageSize: 1000,
			}))(b)
		}
		b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(b.N), "ms/page")
	})
	b.Run("ingest", func(b *testing.B) {
		for b.Loop() {
			w.ingestMany(b)
		}
		b.ReportMetric(benchIngested*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	})
}

// benchWorld is a world over PostgreSQL.
func benchWorld(b *testing.B) *world {
	b.Helper()
	w := &world{t: b, db: sqldbtest.Open(b, sqldb.PostgreSQL, Name, Unit().Migrations), dir: b.TempDir(), ahead: new(atomic.Int64)}
	w.start()
	return w
}

// exported reads a report to its end and counts its rows.
func (w *world) exported(who person, accountID string, f *partnerv1.UsageFilter) (rows int) {
	stream := must(w.reports().ExportUsageReport(w.as(who), &partnerv1.ExportUsageReportRequest{BillingAccountId: accountID, Filter: f}))(w.t)
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return rows - 1 // without the names of the columns
		}
		for _, c := range must(part, err)(w.t).GetData() {
			if c == '\n' {
				rows++
			}
		}
		rows++
	}
}

func benchAccount(i int) string { return fmt.Sprintf("bacbench%012d", i) }
func benchCloud(i int) string   { return fmt.Sprintf("cldbench%012d", i) }

// fill makes the customers of a partner and the usage of one month.
func (w *world) fill(partner string, month Day) {
	w.t.Helper()
	ctx := w.t.Context()
	exec := func(query string, args ...any) {
		w.t.Helper()
		must(w.db.Pool().ExecContext(ctx, query, args...))(w.t)
	}
	now := sqldb.Micros(w.now())
	exec(`INSERT INTO partner_accounts (id, partner_id, organization_id, name, country_code, currency, state, phase, suspended_at, created_by, created_at, operation, version)
		SELECT 'bacbench' || lpad(i::text, 12, '0'), $1, '', 'Customer ' || i, 'RU', 'RUB', 'ACTIVE', 'LIVING', 0, '', $2::bigint + i, '', 1
		FROM generate_series(0, $3::bigint - 1) i`, partner, now, benchCustomers)
	exec(`INSERT INTO partner_customers (account_id, partner_id, email, open, person, external_id, comment, organization_id, creator_type, creator_id, sends, suspended_by, reason)
		SELECT id, partner_id, id || '@customers.example', 1, '{"name":"ACME","phone":"+7 900"}', '', '', '', '', '', 1, '', ''
		FROM partner_accounts WHERE partner_id = $1`, partner)
	exec(`INSERT INTO partner_links (cloud_id, account_id, linked_at, unlinked_at, linked_by)
		SELECT replace(id, 'bac', 'cld'), id, 1, 0, '' FROM partner_accounts WHERE partner_id = $1`, partner)
	tree := accessv1.NewResourceServiceClient(w.Unit(Name, "accessbindings"))
	w.each(benchCustomers, 64, func(i int) error {
		_, err := tree.RegisterResource(ctx, &accessv1.RegisterResourceRequest{
			Resource: treeResource(accountResource(benchAccount(i))), Parent: treeResource(accountResource(partner)),
		})
		return err
	})
	exec(`CREATE TABLE bench_keys (n BIGINT PRIMARY KEY, key BYTEA NOT NULL)`)
	must(0, sqldb.InTx(ctx, w.db, func(ctx context.Context, tx *sql.Tx) error {
		keys, numbers := make(map[hash]usageKey), &sqldb.Rows{Columns: []sqldb.Type{sqldb.Ints, sqldb.Blobs}}
		var all []hash
		for i := range benchCustomers * benchProducts {
			k := usageKey{root: partner, account: benchAccount(i / benchProducts), cloud: benchCloud(i / benchProducts), service: "compute", sku: fmt.Sprint("sku", i%benchProducts)}
			h := k.hash()
			keys[h], all = k, append(all, h)
			numbers.Add(int64(i), slices.Clone(h[:]))
		}
		b := new(sqldb.Batch)
		(&Store{db: w.db}).insertKeys(b, keys, all)
		b.ExecRows(`INSERT INTO bench_keys (n, key)`, numbers, ``)
		return b.Run(ctx, w.db, tx)
	}))(w.t)
	first := sqldb.Micros(time.Unix(int64(month)*secondsPerDay, 0))
	exec(`INSERT INTO partner_usage_records (id, digest, key, used_at, quantity, cost, discount, reward, adjustment, taken_at)
		SELECT 'bench-' || g, decode(md5(g::text), 'hex'), k.key, $1::bigint + (g / $2::bigint) % 28 * 86400000000, '1', '0.25', '0.05', '0.01', '0', $3::bigint
		FROM generate_series(0, $4::bigint - 1) g JOIN bench_keys k ON k.n = g % $2::bigint`, first, int64(benchCustomers*benchProducts), now, int64(benchRecords))
	const sums = `COUNT(*), 0, COUNT(*) * 1000000000, 0, COUNT(*) * 250000000, 0, COUNT(*) * 50000000, 0, COUNT(*) * 10000000, 0, 0`
	exec(`INSERT INTO partner_usage_days SELECT key, $1::bigint + (used_at - $2::bigint) / 86400000000, $1::bigint, `+sums+`
		FROM partner_usage_records GROUP BY 1, 2`, int64(month), first)
	exec(`INSERT INTO partner_usage_months SELECT key, $1::bigint, `+sums+` FROM partner_usage_records GROUP BY 1`, int64(month))
	exec(`VACUUM ANALYZE`)
}

// each calls f with 0 to n - 1, several at a time.
func (w *world) each(n, atOnce int, f func(i int) error) {
	w.t.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if err := f(int(i - 1)); err != nil {
					w.t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// ingestMany sends new records of random customers in full batches, four at a time.
func (w *world) ingestMany(b *testing.B) {
	client, run := w.ingests(), fmt.Sprintf("run%d", rand.Uint32())
	now := w.now()
	w.each(benchIngested/5000, 4, func(n int) error {
		req := new(partnerv1.IngestUsageRequest)
		for i := range 5000 {
			at := now.Add(-time.Duration(rand.IntN(3600)) * time.Second)
			req.Records = append(req.Records, &partnerv1.UsageRecord{
				Id: fmt.Sprintf("%s-%d-%d", run, n, i), UsedAt: timestamppb.New(at), CloudId: benchCloud(rand.IntN(benchCustomers)),
				ServiceId: "compute", SkuId: fmt.Sprint("sku", rand.IntN(benchProducts)), Quantity: "1", Cost: "0.25", Discount: "0.05", Reward: "0.01",
			})
		}
		resp, err := client.IngestUsage(b.Context(), req)
		if err == nil && resp.GetAccepted() != 5000 {
			err = fmt.Errorf("taken: %v", resp)
		}
		return err
	})
}
