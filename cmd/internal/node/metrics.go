package node

import (
	"context"
	"crypto/tls"
	"log/slog"

	"google.golang.org/grpc"

	"github.com/oncelog/oncelog/cmd/internal/metrics"
)

// monitoring is how a node is watched from outside; its zero value is not at all.
type monitoring struct {
	node   *metrics.Node
	server *metrics.Server // nil also where the process has one for all its nodes
}

// monitor opens the address for metrics, if there is one, over TLS if it is secured, and adds the node to all,
// or, if that is nil, to a registry of its own.
func (p *process) monitor(address string, secured *tls.Config, all *metrics.Registry, role string, id uint64) (err error) {
	if all == nil {
		if address == "" {
			return nil
		}
		all = metrics.NewRegistry()
		if p.metrics.server, err = metrics.Listen(address, secured, all, p.log); err != nil {
			return cannotListen("metrics_listen", address, err)
		}
	}
	p.metrics.node = all.Node(role, id, Version())
	return nil
}

// MetricsAddress is where metrics are read, with the real port; empty: nowhere.
func (p *process) MetricsAddress() string {
	if p.metrics.server == nil {
		return ""
	}
	return p.metrics.server.Address()
}

// interceptors are those of calls that are counted and measured; none without
// metrics.
func (m monitoring) interceptors() (unary []grpc.UnaryServerInterceptor, stream []grpc.StreamServerInterceptor) {
	if m.node == nil {
		return nil, nil
	}
	return []grpc.UnaryServerInterceptor{m.node.UnaryInterceptor()}, []grpc.StreamServerInterceptor{m.node.StreamInterceptor()}
}

func (m monitoring) serve(failed func(error)) {
	if m.server != nil {
		m.server.Serve(failed)
	}
}

func (m monitoring) drain() {
	if m.server != nil {
		m.server.Drain()
	}
}

func (m monitoring) close(ctx context.Context) {
	if m.server != nil {
		m.server.Close(ctx)
	}
}

// sharedMetrics serves the metrics of all nodes of one process.
type sharedMetrics struct {
	all    *metrics.Registry
	server *metrics.Server
	failed chan error
}

// serveMetrics opens the address, if there is one; nil: there is none.
func serveMetrics(address string, log *slog.Logger) (*sharedMetrics, error) {
	if address == "" {
		return nil, nil // none are wanted: no error
	}
	m := &sharedMetrics{all: metrics.NewRegistry(), failed: make(chan error, 1)}
	var err error
	if m.server, err = metrics.Listen(address, nil, m.all, log); err != nil {
		return nil, cannotListen("metrics_listen", address, err)
	}
	m.server.Serve(func(err error) { m.failed <- err })
	return m, nil
}

func (m *sharedMetrics) registry() *metrics.Registry {
	if m == nil {
		return nil
	}
	return m.all
}

// Close implements running.
func (m *sharedMetrics) Close(ctx context.Context) { m.server.Close(ctx) }

// Failed implements running.
func (m *sharedMetrics) Failed() <-chan error { return m.failed }
