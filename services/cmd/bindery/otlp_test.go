package main

import (
	"context"
	"encoding/hex"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"

	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	"github.com/bindery-iam/bindery/pkg/tracing"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// span is what a collector got.
type span struct{ trace, id, parent, name, unit string }

// collector keeps the spans that it is sent, over gRPC.
type collector struct {
	collectorv1.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans []span
}

// Export takes spans.
func (c *collector) Export(_ context.Context, req *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range req.GetResourceSpans() {
		for _, s := range r.GetScopeSpans() {
			for _, got := range s.GetSpans() {
				one := span{hex.EncodeToString(got.GetTraceId()), hex.EncodeToString(got.GetSpanId()), hex.EncodeToString(got.GetParentSpanId()), got.GetName(), ""}
				for _, a := range got.GetAttributes() {
					if a.GetKey() == "bindery.unit" {
						one.unit = a.GetValue().GetStringValue()
					}
				}
				c.spans = append(c.spans, one)
			}
		}
	}
	return new(collectorv1.ExportTraceServiceResponse), nil
}

// of returns the spans of a trace by id.
func (c *collector) of(trace string) map[string]span {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]span)
	for _, s := range c.spans {
		if s.trace == trace {
			out[s.id] = s
		}
	}
	return out
}

// newTracedWorld is the whole process, which sends its spans to a collector. flush
// sends what it has.
func newTracedWorld(t *testing.T) (w *accessWorld, c *collector, flush func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c = new(collector)
	s := grpc.NewServer()
	collectorv1.RegisterTraceServiceServer(s, c)
	go func() { _ = s.Serve(l) }() // ends by Stop
	t.Cleanup(s.Stop)
	traces, err := tracing.Start(t.Context(), tracing.Config{Endpoint: "http://" + l.Addr().String(), Service: "bindery", Version: "test", Log: zaptest.NewLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	cat, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	w = &accessWorld{t: t, catalog: cat}
	w.World = servertest.Start(t, servertest.Options{
		Units: units(), DB: sqldbtest.Open(t, sqldb.SQLite, "bindery", nil), Catalog: cat, Change: func(o *server.Options) { o.Traces = traces },
	})
	if w.socket, err = server.DialOperator(w.DataDir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.socket.Close() }) // the test is over
	return w, c, func() {
		t.Helper()
		if err := traces.ForceFlush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// A REST call is one trace, from the gateway through resourcemanager to
// accessbindings, each span below the one that called it.
func TestSpansCrossUnits(t *testing.T) {
	w, c, flush := newTracedWorld(t)
	owner := w.person()
	cloud := w.cloud(owner)
	for name, parent := range map[string]string{"new": "", "brought": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"} {
		t.Run(name, func(t *testing.T) {
			var headers []string
			if parent != "" {
				headers = []string{"Traceparent", parent}
			}
			trace := w.postFolder(owner, cloud, headers...).Get("X-Server-Trace-Id")
			if parent != "" && !strings.Contains(parent, trace) {
				t.Errorf("trace %s of a call within %s", trace, parent)
			}
			const leaf = "bindery.access.v1.ResourceService/RegisterResource"
			var path []string
			for deadline := time.Now().Add(5 * time.Second); len(path) == 0 && time.Now().Before(deadline); {
				flush()
				path = unitsAbove(c.of(trace), leaf)
			}
			if want := []string{"gateway", "resourcemanager", "accessbindings"}; !slices.Equal(path, want) {
				t.Errorf("%s stands below %v, want %v: %v", leaf, path, want, c.of(trace))
			}
		})
	}
}

// unitsAbove returns the units that a call went through, from the outermost; nil
// until a whole path is there.
func unitsAbove(spans map[string]span, leaf string) []string {
	for _, s := range spans {
		if s.name != leaf || s.unit == "" {
			continue
		}
		var units []string
		for at, ok := s, true; ok; at, ok = spans[at.parent] {
			if at.unit != "" {
				units = append([]string{at.unit}, units...)
			}
		}
		if units[0] == "gateway" {
			return units
		}
	}
	return nil
}

// The check has a span only in a trace that its caller keeps.
func TestSpansOfChecks(t *testing.T) {
	w, c, flush := newTracedWorld(t)
	me := w.person()
	check := func(flags string) string {
		const trace = "1af7651916cd43dd8448eb211c8031"
		ctx := t.Context()
		if flags != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "traceparent", "00-"+trace+flags+"-b7ad6b7169203331-"+flags)
		}
		req := &accessservicev2.AuthenticateRequest{Credentials: &accessservicev2.AuthenticateRequest_IamToken{IamToken: me.token}}
		_, err := accessservicev2.NewAccessServiceClient(w.Conn).Authenticate(ctx, req)
		w.must(err)
		return trace + flags
	}
	check("")
	unkept := check("00")
	kept := check("01")
	for deadline := time.Now().Add(5 * time.Second); len(c.of(kept)) == 0 && time.Now().Before(deadline); {
		flush()
	}
	if got := c.of(kept); len(got) != 1 {
		t.Errorf("a check in a trace that is kept has the spans %v, want one", got)
	}
	if got := c.of(unkept); len(got) != 0 {
		t.Errorf("a check in a trace that is not kept has the spans %v", got)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if strings.HasSuffix(s.name, "AccessService/Authenticate") && s.parent == "" {
			t.Errorf("a check began the trace %v", s)
		}
	}
}

func TestEndpointOfTracesIsAURL(t *testing.T) {
	for _, endpoint := range []string{"localhost:4317", "http://", "ftp://localhost", "\x00"} {
		if _, err := tracing.Start(t.Context(), tracing.Config{Endpoint: endpoint, Log: zaptest.NewLogger(t)}); err == nil {
			t.Errorf("%q is taken", endpoint)
		}
	}
}
