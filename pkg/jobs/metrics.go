package jobs

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// scrapeTimeout bounds how long a store that hangs holds a scrape.
const scrapeTimeout = time.Second

var (
	depthDesc   = prometheus.NewDesc("bindery_jobs", "Durable jobs not done, those of a later time included.", nil, nil)
	oldestDesc  = prometheus.NewDesc("bindery_jobs_oldest_seconds", "Age of the oldest job not done, 0 without any.", nil, nil)
	overdueDesc = prometheus.NewDesc("bindery_jobs_overdue_seconds", "For how long the job that waits longest for a worker has been due.", nil, nil)
)

var _ prometheus.Collector = (*Queue)(nil)

// Describe lists the metrics of a queue. The registerer says which unit's it is.
func (q *Queue) Describe(to chan<- *prometheus.Desc) {
	to <- depthDesc
	to <- oldestDesc
	to <- overdueDesc
}

// Collect reads the queue. A store that does not answer leaves its metrics out.
func (q *Queue) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	b, err := q.backlog(ctx)
	if err != nil {
		return // other metrics say that the store is away
	}
	gauge := func(desc *prometheus.Desc, v float64) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v)
	}
	gauge(depthDesc, float64(b.depth))
	gauge(oldestDesc, b.oldest.Seconds())
	gauge(overdueDesc, b.overdue.Seconds())
}

// backlog is what a queue has to do.
type backlog struct {
	depth           int64
	oldest, overdue time.Duration
}

func (q *Queue) backlog(ctx context.Context) (backlog, error) {
	var b backlog
	var created, due moment
	err := q.cfg.DB.QueryRowContext(ctx, `SELECT COUNT(*), MIN(created), MIN(timeout) FROM goqite WHERE queue = $1`, q.cfg.Unit).
		Scan(&b.depth, &created, &due)
	if err != nil {
		return backlog{}, fmt.Errorf("look at jobs: %w", err)
	}
	if b.depth > 0 {
		b.oldest, b.overdue = max(0, time.Since(created.Time)), max(0, time.Since(due.Time))
	}
	return b, nil
}

// moment is a time of goqite's: text on SQLite, a time on PostgreSQL, null of no job.
type moment struct{ time.Time }

var _ sql.Scanner = (*moment)(nil)

// Scan reads a column.
func (m *moment) Scan(v any) (err error) {
	switch v := v.(type) {
	case nil:
	case time.Time:
		m.Time = v
	case string:
		m.Time, err = time.Parse(time.RFC3339Nano, v)
	default:
		err = fmt.Errorf("a time of type %T in a job", v)
	}
	return err
}
