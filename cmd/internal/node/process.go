package node

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/authn"
	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/limits"
	"github.com/oncelog/oncelog/cmd/internal/tracing"
	"github.com/oncelog/oncelog/internal/task"
	"github.com/oncelog/oncelog/raftstore"
)

// process is what both kinds of node have in common: listeners and an end.
type process struct {
	log    *slog.Logger
	run    *task.Runtime // nil: the machine
	client *listener
	peer   *listener
	bounds *bounds // of the client address
	// started: the listeners serve.
	started bool
	// metrics is the third one, where it is asked for.
	metrics monitoring
	tracing *tracing.Tracing // nil: off
	once    sync.Once
	closed  chan struct{}
	failed  chan error
}

// Option changes how a node runs.
type Option func(*process)

// WithRuntime has the node run by another clock than the machine's; see [task.Ahead].
func WithRuntime(rt *task.Runtime) Option { return func(p *process) { p.run = rt } }

func newProcess(log *slog.Logger) process {
	return process{log: log, closed: make(chan struct{}), failed: make(chan error, 1)}
}

func (p *process) change(options []Option) {
	for _, o := range options {
		o(p)
	}
}

// fail ends the process: a node that cannot write, or cannot listen, must not
// linger. Only the first failure counts.
func (p *process) fail(err error) {
	select {
	case p.failed <- err:
	default:
	}
}

// Failed receives an error when the node can no longer go on.
func (p *process) Failed() <-chan error { return p.failed }

// ClientAddress is where clients reach the node, with the real port.
func (p *process) ClientAddress() string { return p.client.address() }

// PeerAddress is where nodes reach the node, with the real port.
func (p *process) PeerAddress() string { return p.peer.address() }

// listen opens both addresses. The gate is the client address's: at the other one are
// nodes only.
func (p *process) listen(client, peer string, s security, g *authn.Gate, l config.Limits) (err error) {
	p.bounds = newBounds(l, g, p.log)
	if p.client, err = listen("client", client, s.clients, p.log, p.metrics, p.bounds, p.tracing.ServerOptions()...); err != nil {
		return err
	}
	p.bounds.connections = limits.Listen(p.client.net, l.MaxConnections, l.MaxConnectionsPerAddress, p.log)
	p.client.net = p.bounds.connections
	p.peer, err = listen("peer", peer, s.peers, p.log, p.metrics, nil)
	return err
}

func (p *process) serve() {
	p.bounds.meter.Start()
	p.started = true
	p.peer.serve(p.fail)
	p.client.serve(p.fail)
	p.metrics.serve(p.fail)
	p.log.Info("serving", "client_address", p.client.address(), "peer_address", p.peer.address(), "metrics_address", p.MetricsAddress())
}

// diskInterval is how often the health of a service follows the disk. The store
// looks about once a second.
const diskInterval = time.Second

// followDisk has the health of a service for clients say NOT_SERVING while the
// disk is below the low-water mark, until the node closes.
func (p *process) followDisk(store *raftstore.Store, service string) {
	ticks := time.NewTicker(diskInterval)
	defer ticks.Stop()
	for low := false; ; {
		if now := store.Disk().Low; now != low {
			low = now
			p.client.writable(service, !low)
		}
		select {
		case <-ticks.C:
		case <-p.closed:
			return
		}
	}
}

// drain tells health checks that the node goes away.
func (p *process) drain() {
	p.metrics.drain()
	for _, l := range []*listener{p.client, p.peer} {
		if l != nil {
			l.drain()
		}
	}
}

// stopListeners ends what is under way, after the log was closed: clients get
// the answers that they wait for, while nothing that other nodes send matters any
// more.
func (p *process) stopListeners(ctx context.Context) {
	if p.peer != nil {
		p.peer.kill()
	}
	if p.client != nil {
		p.client.stop(ctx)
	}
	if p.started {
		p.bounds.meter.Stop()
	}
	p.metrics.close(ctx)
}

// Version is the version of the program as it was built: that of its module, or
// "devel" with the revision.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	version := info.Main.Version
	if version == "" || version == "(devel)" {
		version = "devel"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && version == "devel" && len(s.Value) >= 12 {
			version += "-" + s.Value[:12]
		}
	}
	return version
}

// stopTracing sends the last spans.
func (p *process) stopTracing(ctx context.Context) {
	if err := p.tracing.Close(ctx); err != nil {
		p.log.Debug("the last spans were not sent", "error", err)
	}
}
