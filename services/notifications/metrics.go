package notifications

import (
	"context"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what becomes of deliveries.
type metrics struct {
	store    *Store
	attempts *prometheus.CounterVec
}

var pendingDesc = prometheus.NewDesc("bindery_deliveries_pending", "Recipients of notices who are yet to be told.", []string{"channel"}, nil)

var _ prometheus.Collector = (*metrics)(nil)

func newMetrics(store *Store) *metrics {
	m := &metrics{store: store, attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "bindery_deliveries_total",
		Help: "Attempts to tell a recipient of a notice, by how they ended.",
	}, []string{"channel", "result"})}
	for _, channel := range []Channel{Mail, Webhook} {
		for _, result := range []string{"delivered", "failed", "dead", "dropped"} {
			m.attempts.WithLabelValues(string(channel), result) // there from the start, at 0
		}
	}
	return m
}

// ended counts an attempt: delivered, failed (it is tried again), dead or dropped.
func (m *metrics) ended(d Delivery, sent error) {
	result := strings.ToLower(string(d.State))
	if sent != nil && d.State == Pending {
		result = "failed"
	}
	m.attempts.WithLabelValues(string(d.Channel), result).Inc()
}

// Describe lists the metrics. The registerer says which unit's they are.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	m.attempts.Describe(to)
	to <- pendingDesc
}

// scrapeTimeout bounds how long a store that hangs holds a scrape.
const scrapeTimeout = time.Second

// Collect reads the store. One that does not answer leaves its metric out.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	m.attempts.Collect(to)
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	pending, err := m.store.PendingByChannel(ctx, m.store.db)
	if err != nil {
		return // other metrics say that the store is away
	}
	for channel, n := range pending {
		to <- prometheus.MustNewConstMetric(pendingDesc, prometheus.GaugeValue, float64(n), string(channel))
	}
}
