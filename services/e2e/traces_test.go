package e2e

import (
	"context"
	"encoding/hex"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
)

// TestTraceCrossesProcesses follows one REST call through split units: the gateway,
// resourcemanager and accessbindings are processes of their own, each sends its spans
// to the collector, and all of them are of the caller's trace, each below the one that
// called it.
func TestTraceCrossesProcesses(t *testing.T) {
	binary(t)
	c, endpoint := startCollector(t)
	s := newSplit(t)
	for _, one := range s.processes {
		one.flags = append(slices.Clone(one.flags), "--otlp-endpoint", endpoint)
	}
	s.start()
	s.createUser("ann")
	const trace = "0af7651916cd43dd8448eb211c80319c"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.http+"/resource-manager/v1/clouds", strings.NewReader(`{"name":"first"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.createToken("ann"))
	req.Header.Set("Traceparent", "00-"+trace+"-b7ad6b7169203331-01")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("create a cloud: %s", resp.Status)
	}
	s.stop() // each sends what it has
	spans := c.of(trace)
	units := make(map[string]bool)
	for id, one := range spans {
		units[one.unit] = true
		if _, known := spans[one.parent]; !known && one.parent != "b7ad6b7169203331" {
			t.Errorf("%s (%s of %s) is below %s, which nobody sent", one.name, id, one.unit, one.parent)
		}
	}
	for _, unit := range []string{"gateway", "resourcemanager", "accessbindings"} {
		if !units[unit] {
			t.Errorf("no span of %s, only of %v", unit, slices.Sorted(maps.Keys(units)))
		}
	}
}

// span is what a collector got.
type span struct{ parent, name, unit string }

// collector keeps the spans that it is sent, by trace and id.
type collector struct {
	collectorv1.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans map[string]map[string]span
}

// startCollector starts a collector that ends with the test, and returns its URL.
func startCollector(t *testing.T) (c *collector, endpoint string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c = &collector{spans: make(map[string]map[string]span)}
	s := grpc.NewServer()
	collectorv1.RegisterTraceServiceServer(s, c)
	go func() { _ = s.Serve(l) }() // ends by Stop
	t.Cleanup(s.Stop)
	return c, "http://" + l.Addr().String()
}

// Export takes spans.
func (c *collector) Export(_ context.Context, req *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range req.GetResourceSpans() {
		for _, scope := range r.GetScopeSpans() {
			for _, got := range scope.GetSpans() {
				one := span{parent: hex.EncodeToString(got.GetParentSpanId()), name: got.GetName()}
				for _, a := range got.GetAttributes() {
					if a.GetKey() == "bindery.unit" {
						one.unit = a.GetValue().GetStringValue()
					}
				}
				trace := hex.EncodeToString(got.GetTraceId())
				if c.spans[trace] == nil {
					c.spans[trace] = make(map[string]span)
				}
				c.spans[trace][hex.EncodeToString(got.GetSpanId())] = one
			}
		}
	}
	return new(collectorv1.ExportTraceServiceResponse), nil
}

// of returns the spans of a trace, by id.
func (c *collector) of(trace string) map[string]span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.spans[trace])
}
