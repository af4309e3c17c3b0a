package metrics

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

// Limits of the listener.
const (
	// maxScrapes bounds the scrapes at a time; more are told 503.
	maxScrapes = 4
	// scrapeTimeout is after how long a scrape is told 503: Prometheus' own limit is
	// ten seconds by default.
	scrapeTimeout = 9 * time.Second
	// maxConnections bounds the connections; more wait to be accepted.
	maxConnections    = 64
	readTimeout       = 5 * time.Second
	writeTimeout      = 15 * time.Second
	idleTimeout       = 2 * time.Minute
	maxRequestHeaders = 16 << 10
)

// Server serves a registry over HTTP or HTTPS, to read only: GET /metrics, and GET
// /healthz, which says 200 from Serve on and 503 from Drain on.
type Server struct {
	net    net.Listener
	tls    *tls.Config // nil: none
	http   *http.Server
	health atomic.Bool
}

// Listen opens the address, with the error of package net; port 0 takes a free one. Scrapes are answered from Serve
// on, over TLS as secured says; nil: over plain HTTP.
func Listen(address string, secured *tls.Config, r *Registry, log *slog.Logger) (*Server, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	s := &Server{net: l, tls: secured}
	problems := slog.NewLogLogger(log.Handler(), slog.LevelWarn)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(r.all, promhttp.HandlerOpts{
		ErrorLog: problems, ErrorHandling: promhttp.HTTPErrorOnError,
		MaxRequestsInFlight: maxScrapes, Timeout: scrapeTimeout,
	}))
	mux.HandleFunc("GET /healthz", s.healthz)
	s.http = &http.Server{
		Handler: mux, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxRequestHeaders,
	}
	return s, nil
}

// Address is where the server listens, with the real port.
func (s *Server) Address() string { return s.net.Addr().String() }

// Serve answers in the background until Close; failed is told when that ends by
// itself.
func (s *Server) Serve(failed func(error)) {
	s.health.Store(true)
	go func() {
		l := netutil.LimitListener(s.net, maxConnections)
		if s.tls != nil {
			l = tls.NewListener(l, s.tls)
		}
		err := s.http.Serve(l)
		if err != nil && !errors.Is(err, http.ErrServerClosed) {
			failed(fmt.Errorf("metrics listener %s ended: %w", s.Address(), err))
		}
	}()
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !s.health.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, "the node is going away")
		return
	}
	fmt.Fprintln(w, "ok")
}

// Drain says that the node goes away. Scrapes are still answered.
func (s *Server) Drain() { s.health.Store(false) }

// Close ends everything at once when ctx ends, and before that lets scrapes finish.
func (s *Server) Close(ctx context.Context) {
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
	_ = s.net.Close() // what was never served is not the HTTP server's to close
}
