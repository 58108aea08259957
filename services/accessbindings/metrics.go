package accessbindings

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// checks counts what the graph was asked, by answer.
type checks struct {
	*prometheus.CounterVec
	allowed, denied, notFound, invalid, unauthenticated, unavailable prometheus.Counter
}

func newChecks() checks {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "bindery_checks_total", Help: "Questions answered by the permission checker, each of a bulk check and those of the unit itself included.",
	}, []string{"result"})
	of := vec.WithLabelValues
	return checks{
		CounterVec: vec,
		allowed:    of("allowed"), denied: of("denied"), notFound: of("not_found"), invalid: of("invalid"),
		unauthenticated: of("unauthenticated"), unavailable: of("unavailable"),
	}
}

// commitBuckets reach from a write into memory to commitTimeout, in seconds.
var commitBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

func newCommitDuration() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "bindery_commit_duration_seconds", Help: "Time of one write of deciding facts, from the head of the queue until it is in force.",
		Buckets: commitBuckets,
	})
}

func newEnforceDuration() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "bindery_enforce_duration_seconds", Help: "Time that an acknowledgement waited until every replica had applied the change.",
		Buckets: commitBuckets,
	})
}

// observe registers the metrics of the committer and the graph.
func (c *committer) observe(reg prometheus.Registerer) error {
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "bindery_commits_waiting", Help: "Writes of deciding facts in the queue.",
	}, func() float64 { return float64(len(c.queue)) })
	all := []prometheus.Collector{c.graph.asked, c.took, waiting, revisions{c}}
	all = append(all, c.graph.followers.metrics()...)
	if c.replicas != nil {
		all = append(all, c.replicas.metrics()...)
	}
	for _, m := range all {
		if err := reg.Register(m); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

// revisions tells how far the graph is behind the store.
type revisions struct{ *committer }

var revisionDesc = prometheus.NewDesc("bindery_revision", "Last revision of the deciding facts, of the store and of the graph that decides.", []string{"of"}, nil)

// Describe lists the metric.
func (revisions) Describe(to chan<- *prometheus.Desc) { to <- revisionDesc }

// Collect reads both. A store that does not answer leaves its own out. The graph is
// read first: it is never told to be ahead.
func (r revisions) Collect(to chan<- prometheus.Metric) {
	to <- prometheus.MustNewConstMetric(revisionDesc, prometheus.GaugeValue, float64(r.graph.Revision()), "graph")
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if h, err := r.store.head(ctx, r.db, false); err == nil {
		to <- prometheus.MustNewConstMetric(revisionDesc, prometheus.GaugeValue, float64(h.Revision), "store")
	}
}
