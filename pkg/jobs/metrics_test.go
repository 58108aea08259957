package jobs_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// gauges scrapes a queue.
func gauges(t *testing.T, q *jobs.Queue) map[string]float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(q)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]float64)
	for _, f := range families {
		out[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
	}
	return out
}

func TestMetricsTellTheBacklog(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, "unit")
		jobs.Register(q, "greet", func(context.Context, payload) error { return nil })
		if got := gauges(t, q); len(got) != 3 || got["bindery_jobs"] != 0 || got["bindery_jobs_oldest_seconds"] != 0 || got["bindery_jobs_overdue_seconds"] != 0 {
			t.Errorf("without jobs: %v, want three zeros", got)
		}
		enqueue(t, db, q, jobs.Job{Kind: "greet", NotBefore: time.Now().Add(time.Hour)})
		old := func(name string) map[string]float64 { // the store's own clock tells ages, so the test waits for it
			for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) { // and reads again until then
				if got := gauges(t, q); got[name] >= .04 || time.Now().After(end) {
					return got
				}
			}
		}
		if got := old("bindery_jobs_oldest_seconds"); got["bindery_jobs"] != 1 || got["bindery_jobs_oldest_seconds"] < .04 || got["bindery_jobs_overdue_seconds"] != 0 {
			t.Errorf("with a job of a later time: %v, want it to be old and not due", got)
		}
		enqueue(t, db, q, jobs.Job{Kind: "greet", NotBefore: time.Unix(0, 0)})
		if got := old("bindery_jobs_overdue_seconds"); got["bindery_jobs"] != 2 || got["bindery_jobs_overdue_seconds"] < .04 || got["bindery_jobs_overdue_seconds"] > 60 {
			t.Errorf("with a job that nobody takes: %v, want it to be overdue", got)
		}
	})
}

func TestMetricsWithoutAStore(t *testing.T) {
	forEach(t, func(t *testing.T, db *sqldb.DB) {
		q := newQueue(t, db, "unit")
		err := sqldb.InTx(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `DROP TABLE goqite`)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := gauges(t, q); len(got) != 0 {
			t.Errorf("scraped %v of a store without the table", got)
		}
	})
}
