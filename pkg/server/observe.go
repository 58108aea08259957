package server

import (
	"net/http"
	"net/http/pprof"
	"runtime"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// observe registers the metrics of the process itself: what is running, and the
// pools of its databases.
func (p *Process) observe() error {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "bindery_build_info", Help: "1, with the version of the program and of Go.",
		ConstLabels: prometheus.Labels{"version": p.opts.Version, "go": runtime.Version()},
	})
	info.Set(1)
	if err := p.opts.Metrics.Register(info); err != nil {
		return err
	}
	return p.opts.Metrics.Register(p.pools())
}

// pools are the databases of a process, each once.
type pools []pool

// pool is a database and whose it is.
type pool struct {
	unit string // "all" of several units
	db   *sqldb.DB
}

func (p *Process) pools() pools {
	var out pools
	for _, u := range p.opts.Units {
		if len(u.Migrations) == 0 {
			continue
		}
		db := p.opts.DB(u.Name)
		if i := slices.IndexFunc(out, func(known pool) bool { return known.db == db }); i >= 0 {
			out[i].unit = "all"
			continue
		}
		out = append(out, pool{u.Name, db})
	}
	return out
}

var (
	poolLabels   = []string{"unit", "pool"}
	connsDesc    = prometheus.NewDesc("bindery_db_connections", "Connections to the database, by what they do.", []string{"unit", "pool", "state"}, nil)
	connsMaxDesc = prometheus.NewDesc("bindery_db_connections_max", "Connections to the database at most.", poolLabels, nil)
	waitsDesc    = prometheus.NewDesc("bindery_db_waits_total", "Times that somebody waited for a connection.", poolLabels, nil)
	waitedDesc   = prometheus.NewDesc("bindery_db_wait_seconds_total", "Time waited for connections.", poolLabels, nil)
)

// Describe lists the metrics of the pools.
func (pools) Describe(to chan<- *prometheus.Desc) {
	to <- connsDesc
	to <- connsMaxDesc
	to <- waitsDesc
	to <- waitedDesc
}

// Collect reads the state of each pool.
func (ps pools) Collect(to chan<- prometheus.Metric) {
	for _, p := range ps {
		for _, s := range p.db.Stats() {
			send := func(desc *prometheus.Desc, kind prometheus.ValueType, v float64, more ...string) {
				to <- prometheus.MustNewConstMetric(desc, kind, v, append([]string{p.unit, s.Pool}, more...)...)
			}
			send(connsDesc, prometheus.GaugeValue, float64(s.InUse), "in_use")
			send(connsDesc, prometheus.GaugeValue, float64(s.Idle), "idle")
			send(connsMaxDesc, prometheus.GaugeValue, float64(s.MaxOpenConnections))
			send(waitsDesc, prometheus.CounterValue, float64(s.WaitCount))
			send(waitedDesc, prometheus.CounterValue, s.WaitDuration.Seconds())
		}
	}
}

// profiler serves the profiles of the process. Its command line is not among them:
// the address of the database is in it.
func profiler(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
}
