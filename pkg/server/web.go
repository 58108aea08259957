package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// Bounds of an HTTP request: its sender may not be slow for longer, nor may who reads
// the answer. The longest call takes a minute in between.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = 2 * time.Minute
)

// webServer is an HTTP server and its listener. A nil one does nothing.
type webServer struct {
	listener net.Listener
	server   *http.Server
}

func openWeb(addr string, h http.Handler, log *zap.Logger) (*webServer, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return &webServer{listener: l, server: &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaders,
		ErrorLog:          zap.NewStdLog(log), // a handler that panics, a bad handshake
	}}, nil
}

func (w *webServer) addr() string {
	if w == nil {
		return ""
	}
	return w.listener.Addr().String()
}

// serve serves until shutdown.
func (w *webServer) serve() error {
	if w == nil {
		return nil
	}
	if err := w.server.Serve(w.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	return nil
}

func (w *webServer) shutdown(ctx context.Context) {
	if w != nil {
		_ = w.server.Shutdown(ctx) // what is left is closed by close
	}
}

func (w *webServer) close() {
	if w != nil {
		_ = w.server.Close()   // both may have ended before
		_ = w.listener.Close() // also when it never served
	}
}

// openHTTP opens the port of the one unit that serves HTTP. On an address that
// other machines reach it speaks TLS, unless plaintext is allowed.
func (p *Process) openHTTP() (*webServer, error) {
	var h http.Handler
	for _, u := range p.units {
		if u.HTTP == nil {
			continue
		}
		if h != nil {
			return nil, fmt.Errorf("unit %s: another unit serves HTTP already", u.Name)
		}
		h = p.tracing().http(u.Name, u.HTTP)
	}
	if h == nil || p.opts.HTTP == "" {
		return nil, nil
	}
	w, err := openWeb(p.opts.HTTP, h, p.opts.Log)
	if err != nil {
		return nil, err
	}
	if !p.opts.AllowPlaintext && !isLoopback(w.listener.Addr()) {
		conf := p.tls.Clone()
		conf.NextProtos = []string{"h2", "http/1.1"}
		w.listener = tls.NewListener(w.listener, conf)
	}
	return w, nil
}

// openOps opens the port of the operator's tools. It tells nothing about tenants,
// and has a profiler only where it is asked for.
func (p *Process) openOps() (*webServer, error) {
	if p.opts.Ops == "" {
		return nil, nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.opts.Metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		answer(w, p.Ready(ctx))
	})
	if p.opts.Pprof {
		profiler(mux)
	}
	return openWeb(p.opts.Ops, mux, p.opts.Log)
}

func answer(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintf(w, "not ready: %v\n", err) // the caller is gone if it fails
		return
	}
	_, _ = fmt.Fprintln(w, "ok")
}
