package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
)

// metrics of the chain. Labels are bounded: methods are those registered, codes
// and results are listed.
type metrics struct {
	rpcs     *prometheus.CounterVec
	duration *prometheus.HistogramVec
	admitted *prometheus.CounterVec
	panics   prometheus.Counter
	shed     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		rpcs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bindery_rpc_total", Help: "Calls answered, by method and gRPC code.",
		}, []string{"method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "bindery_rpc_duration_seconds", Help: "Time to answer a call, by method.",
			Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}, []string{"method"}),
		admitted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bindery_authorization_total", Help: "Calls judged by the rule of their method, by result.",
		}, []string{"result"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bindery_rpc_panics_total", Help: "Handlers that panicked.",
		}),
		shed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bindery_rpc_shed_total", Help: "Calls refused because too many were under way.",
		}),
	}
	reg.MustRegister(m.rpcs, m.duration, m.admitted, m.panics, m.shed)
	return m
}

// methodMetrics are the metrics of one method, looked up once.
type methodMetrics struct {
	byCode   [codes.Unauthenticated + 1]prometheus.Counter
	duration prometheus.Observer
}

func (m *metrics) method(name string) methodMetrics {
	var mm methodMetrics
	for c := range mm.byCode {
		mm.byCode[c] = m.rpcs.WithLabelValues(name, codes.Code(c).String())
	}
	mm.duration = m.duration.WithLabelValues(name)
	return mm
}

func (mm *methodMetrics) observe(code codes.Code, d time.Duration) {
	if int(code) < len(mm.byCode) {
		mm.byCode[code].Inc()
	}
	mm.duration.Observe(d.Seconds())
}

// results of authorization, as metric values.
type results struct {
	allowed, denied, notFound, unauthenticated, invalid, unavailable, failed prometheus.Counter
}

func (m *metrics) results() results {
	of := m.admitted.WithLabelValues
	return results{
		allowed: of("allowed"), denied: of("denied"), notFound: of("not_found"), unauthenticated: of("unauthenticated"),
		invalid: of("invalid"), unavailable: of("unavailable"), failed: of("failed"),
	}
}

func (r *results) count(code codes.Code) {
	switch code {
	case codes.OK:
		r.allowed.Inc()
	case codes.PermissionDenied:
		r.denied.Inc()
	case codes.NotFound:
		r.notFound.Inc()
	case codes.Unauthenticated:
		r.unauthenticated.Inc()
	case codes.InvalidArgument:
		r.invalid.Inc()
	case codes.Unavailable:
		r.unavailable.Inc()
	default:
		r.failed.Inc()
	}
}
