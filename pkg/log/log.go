// Package log carries the facts of a request and its logger in the context. It
// is zap and nothing more: constant messages, snake_case fields, no payloads. One
// line per RPC is written by the server's chain; a handler logs what an operator
// must know beside it. An error is logged or returned, never both.
package log

import (
	"context"
	"fmt"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// New returns a logger that writes JSON lines to standard error. level is one of
// debug, info, warn, error.
func New(level string) (*zap.Logger, error) {
	l, err := zapcore.ParseLevel(level)
	if err != nil {
		return nil, fmt.Errorf("log level: %w", err)
	}
	cfg := zap.NewProductionConfig()
	cfg.Level = zap.NewAtomicLevelAt(l)
	cfg.Sampling = nil       // a line per request that says something: none may be lost
	cfg.DisableCaller = true // messages are constant: they say where
	cfg.EncoderConfig.TimeKey = "time"
	cfg.EncoderConfig.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	cfg.EncoderConfig.EncodeDuration = zapcore.SecondsDurationEncoder
	return cfg.Build()
}

// Request is what the chain knows of the call under way. All of it came from
// outside and none of it is identity. Of a quiet method (server.Parts.Quiet) it
// holds the method alone.
type Request struct {
	ID      string // request id: the caller's, or a new one
	TraceID string // 32 hex digits: of the caller's traceparent, or new
	// TraceParent is the W3C header of the trace, which travels on to other units.
	TraceParent string
	Method      string // /package.Service/Method
	Remote      string // address of the peer
	UserAgent   string

	logger *zap.Logger
}

type requestKey struct{}

// NewContext returns a context that carries the request and its logger.
func NewContext(ctx context.Context, r Request, logger *zap.Logger) context.Context {
	r.logger = logger
	return context.WithValue(ctx, requestKey{}, &r)
}

// RequestFrom returns the request under way; the zero Request outside of one.
func RequestFrom(ctx context.Context) Request {
	if r, ok := ctx.Value(requestKey{}).(*Request); ok {
		return *r
	}
	return Request{}
}

// From returns the logger of the request, whose lines carry its id and method; a
// logger that writes nothing outside of a request.
func From(ctx context.Context) *zap.Logger {
	r, ok := ctx.Value(requestKey{}).(*Request)
	if !ok || r.logger == nil {
		return zap.NewNop()
	}
	return r.logger.With(zap.String("request_id", r.ID), zap.String("method", r.Method))
}
