// Package tracing sends OpenTelemetry spans to a collector over OTLP. It is made
// only where an endpoint is given: without one nothing of it runs. It keeps no global
// state but the handler of OpenTelemetry's own errors.
package tracing

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/zap"
)

// shutdownTimeout bounds how long the last spans may take at the end.
const shutdownTimeout = 5 * time.Second

// Config says where spans go and who sends them.
type Config struct {
	// Endpoint is the URL of a collector's gRPC port; https:// means TLS.
	Endpoint string
	// Service and Version name the program. OTEL_SERVICE_NAME and
	// OTEL_RESOURCE_ATTRIBUTES win over them.
	Service, Version string
	Log              *zap.Logger
}

// Provider makes tracers. Spans are sent in batches, beside the work; what a
// collector cannot take in time is dropped, never waited for. Which traces are kept
// the caller's traceparent says; of those that begin here OTEL_TRACES_SAMPLER, all
// without it.
type Provider struct{ *trace.TracerProvider }

// errEndpoint does not show the URL, which may hold a password.
var errEndpoint = errors.New("the OTLP endpoint is no URL like http://localhost:4317")

// Start begins to send. A collector that is away is not an error.
func Start(ctx context.Context, cfg Config) (*Provider, error) {
	u, err := url.Parse(cfg.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errEndpoint
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", cfg.Service), attribute.String("service.version", cfg.Version)),
		resource.WithFromEnv(), resource.WithTelemetrySDK())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("OpenTelemetry resource: %w", err)
	}
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(cfg.Endpoint))
	if err != nil {
		return nil, fmt.Errorf("OTLP exporter: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { cfg.Log.Warn("spans not sent", zap.Error(err)) }))
	return &Provider{trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(about))}, nil
}

// Close sends what is left. It is fine without a provider.
func (p *Provider) Close() error {
	if p == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	return p.Shutdown(ctx)
}
