package gateway

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// counted counts the REST calls that h answers. The labels are bounded: methods
// that HTTP does not have are "unknown".
func counted(reg prometheus.Registerer, h http.Handler) (http.Handler, error) {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "bindery_http_requests_total", Help: "REST calls answered, by method and HTTP code.",
	}, []string{"method", "code"})
	if err := reg.Register(requests); err != nil {
		return nil, err
	}
	return promhttp.InstrumentHandlerCounter(requests, h), nil
}
