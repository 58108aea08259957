package server

import (
	"context"
	"net/http"
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/stats"

	"github.com/bindery-iam/bindery/pkg/log"
)

// propagator reads and writes traceparent. Nothing else of a trace travels, no
// baggage above all.
var propagator = propagation.TraceContext{}

// unitKey is the attribute that names the unit of a span.
const unitKey = attribute.Key("bindery.unit")

// tracing makes spans of calls; its zero value makes none, at no cost.
type tracing struct {
	provider trace.TracerProvider // nil when off
	units    map[string]string    // by full name of a service
	quiet    map[string]bool      // by full name of a service
}

// tracing is made when all units are built.
func (p *Process) tracing() tracing {
	t := tracing{provider: p.opts.Traces, units: make(map[string]string), quiet: map[string]bool{healthv1.Health_ServiceDesc.ServiceName: true}}
	for _, u := range p.units {
		for _, svc := range u.services {
			t.units[svc.desc.ServiceName] = u.Name
		}
		for _, name := range u.Quiet {
			t.quiet[name] = true
		}
	}
	return t
}

// server makes spans of the calls that a server answers.
func (t tracing) server() []grpc.ServerOption {
	if t.provider == nil {
		return nil
	}
	h := otelgrpc.NewServerHandler(otelgrpc.WithTracerProvider(t.provider), otelgrpc.WithPropagators(propagator))
	return []grpc.ServerOption{grpc.StatsHandler(serverSpans{h, t})}
}

// client makes spans of the calls of a connection, and puts them into traceparent.
func client(provider trace.TracerProvider) []grpc.DialOption {
	if provider == nil {
		return nil
	}
	return []grpc.DialOption{grpc.WithStatsHandler(otelgrpc.NewClientHandler(
		otelgrpc.WithTracerProvider(provider), otelgrpc.WithPropagators(propagator)))}
}

// serverSpans is OpenTelemetry's handler but for calls of quiet methods, which it
// sees only within a trace that is kept already.
type serverSpans struct {
	stats.Handler
	tracing
}

type noSpanKey struct{}

// TagRPC begins a span.
func (s serverSpans) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	service, _, _ := strings.Cut(strings.TrimPrefix(info.FullMethodName, "/"), "/")
	if s.quiet[service] && !sampled(one(ctx, headerTraceParent)) {
		return context.WithValue(ctx, noSpanKey{}, true)
	}
	ctx = s.Handler.TagRPC(ctx, info)
	if unit := s.units[service]; unit != "" {
		trace.SpanFromContext(ctx).SetAttributes(unitKey.String(unit))
	}
	return ctx
}

// HandleRPC follows and ends a span.
func (s serverSpans) HandleRPC(ctx context.Context, rs stats.RPCStats) {
	if ctx.Value(noSpanKey{}) == nil {
		s.Handler.HandleRPC(ctx, rs)
	}
}

// sampled reports whether a traceparent belongs to a trace that is kept.
func sampled(parent string) bool {
	header := propagation.MapCarrier{headerTraceParent: parent}
	return parent != "" && trace.SpanContextFromContext(propagator.Extract(context.Background(), header)).IsSampled()
}

// http makes spans of the REST calls that h answers, as calls of a unit. Paths stand
// in them, queries do not.
func (t tracing) http(unit string, h http.Handler) http.Handler {
	if t.provider == nil {
		return h
	}
	tracer := t.provider.Tracer("github.com/bindery-iam/bindery/pkg/server")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, span := tracer.Start(propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header)), "HTTP "+r.Method,
			trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(unitKey.String(unit), attribute.String("http.request.method", r.Method), attribute.String("url.path", printable(r.URL.Path, 1024))))
		defer span.End()
		answer := &codeWriter{ResponseWriter: w, code: http.StatusOK}
		h.ServeHTTP(answer, r.WithContext(ctx))
		span.SetAttributes(attribute.Int("http.response.status_code", answer.code))
		if answer.code >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, "")
		}
	})
}

// codeWriter remembers the code of an answer.
type codeWriter struct {
	http.ResponseWriter
	code int
}

// WriteHeader sends the code.
func (w *codeWriter) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (w *codeWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// ofSpan gives the request the ids of the span that was begun for it, which are its
// caller's or, of a trace that begins here, new.
func ofSpan(ctx context.Context, r *log.Request) {
	span := trace.SpanContextFromContext(ctx)
	if !span.IsValid() {
		return
	}
	header := make(propagation.MapCarrier, 1)
	propagator.Inject(ctx, header)
	r.TraceID, r.TraceParent = span.TraceID().String(), header.Get(headerTraceParent)
}
