package clienttest

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/internal/dial"
	"github.com/oncelog/oncelog/raftstore/memtransport"
)

// patience is how long a method of this package waits before it fails the test.
const patience = 2 * time.Minute

// TB is what this package needs of a test. *testing.T and *testing.B are one;
// other frameworks have something like it.
type TB interface {
	Helper()
	// Cleanup calls fn when the test has ended, the last one first.
	Cleanup(fn func())
	// Errorf marks the test as failed; from any goroutine.
	Errorf(format string, args ...any)
	// Fatal and Fatalf do that and end the goroutine.
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// Option configures Start.
type Option func(*config)

type config struct {
	coordinators, nodes int
	settings            catalog.Settings
	logger              *slog.Logger
}

// WithCoordinators sets the number of coordinator nodes, 1 or more. Default 1,
// which is enough for everything but a change of its leader.
func WithCoordinators(n int) Option { return func(c *config) { c.coordinators = n } }

// WithNodes sets the number of partition nodes, 1 or more. Default 1. Topics are
// kept by three of them, or by all if they are fewer.
func WithNodes(n int) Option { return func(c *config) { c.nodes = n } }

// WithShardsPerNode sets how many Raft groups the partitions of a node are spread
// over. The default is the cluster's own.
func WithShardsPerNode(n int) Option {
	return func(c *config) { c.settings.ShardsPerNode = uint32(n) }
}

// WithLogger takes what the nodes log. Default: nothing.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.logger = l } }

// Cluster is a running cluster. Its methods fail the test when what they do, or
// wait for, is not done within two minutes; those that can are to be called by the
// goroutine of the test. The others are safe for concurrent use.
type Cluster struct {
	t      TB
	cfg    config
	logger *slog.Logger
	net    *network

	coordinators []*Node
	growing      sync.Mutex // guards nodes
	nodes        []*Node
	own          *client.Client // of the cluster's own calls

	mu     sync.Mutex
	hosts  map[string]*Host
	faults []*Injected
}

// Start starts a cluster and ends it with the test. It returns when the cluster
// can be used. Within a bubble of testing/synctest, t is the bubble's.
func Start(t TB, opts ...Option) *Cluster {
	t.Helper()
	cfg := config{coordinators: 1, nodes: 1, logger: slog.New(slog.DiscardHandler)}
	for _, o := range opts {
		o(&cfg)
	}
	if cfg.coordinators < 1 || cfg.nodes < 1 {
		t.Fatal("clienttest: a cluster has at least one coordinator and one partition node")
	}
	c := &Cluster{t: t, cfg: cfg, logger: cfg.logger, net: newNetwork(), hosts: map[string]*Host{}}
	c.coordinators = c.members(coordinators, cfg.coordinators)
	c.nodes = c.members(partitions, cfg.nodes)
	t.Cleanup(c.end)
	for _, n := range c.all() {
		n.Start()
	}
	c.own = c.Host(observer).Client(client.WithClientID(observer))
	return c
}

func (c *Cluster) members(k kind, count int) []*Node {
	raft := memtransport.NewNetwork()
	nodes := make([]*Node, count)
	for i := range nodes {
		nodes[i] = newNode(c, k, uint64(i+1), raft)
	}
	return nodes
}

// end ends all nodes at once.
func (c *Cluster) end() {
	for _, in := range c.injected() {
		in.Remove()
	}
	var all sync.WaitGroup
	for _, n := range c.all() {
		all.Go(n.Crash)
	}
	all.Wait()
}

func (c *Cluster) injected() []*Injected {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.faults)
}

// Coordinators returns the coordinator nodes, running or not, by id.
func (c *Cluster) Coordinators() []*Node { return slices.Clone(c.coordinators) }

// Nodes returns the partition nodes, running or not, by id.
func (c *Cluster) Nodes() []*Node {
	c.growing.Lock()
	defer c.growing.Unlock()
	return slices.Clone(c.nodes)
}

// AddNode starts another partition node, under the next id. It has nothing until
// something is created or moved; see client.Admin's Rebalance.
func (c *Cluster) AddNode() *Node {
	c.t.Helper()
	c.growing.Lock()
	n := newNode(c, partitions, c.nodes[len(c.nodes)-1].id+1, c.nodes[0].raft)
	c.nodes = append(c.nodes, n)
	c.growing.Unlock()
	n.Start()
	return n
}

// all returns the nodes of both kinds.
func (c *Cluster) all() []*Node { return slices.Concat(c.coordinators, c.Nodes()) }

// Seeds are the addresses to give to client.Dial, with [Cluster.Option].
func (c *Cluster) Seeds() []string {
	seeds := make([]string, len(c.coordinators))
	for i, n := range c.coordinators {
		seeds[i] = n.Address()
	}
	return seeds
}

// Client connects a client from the host "client" and closes it with the test.
func (c *Cluster) Client(opts ...client.Option) *client.Client {
	c.t.Helper()
	return c.Host(defaultHost).Client(opts...)
}

// Option has client.Dial reach the cluster from the host "client".
func (c *Cluster) Option() client.Option { return c.Host(defaultHost).Option() }

// Endpoint is a place in the network: a [*Node] or a [*Host].
type Endpoint interface {
	// Name is unique within the cluster.
	Name() string
}

// Host is a place in the network where clients run: as a rule one process of
// yours.
type Host struct {
	c    *Cluster
	name string
}

const (
	defaultHost = "client"
	observer    = "clienttest itself"
)

// Host returns the host of a name, which is there from now on and must not be that
// of a node. Clients that faults are to tell apart run on hosts of their own.
func (c *Cluster) Host(name string) *Host {
	c.t.Helper()
	for _, n := range c.all() {
		if n.name == name {
			c.t.Fatalf("clienttest: a host cannot be called %q: that is a node", name)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hosts[name] == nil {
		c.hosts[name] = &Host{c: c, name: name}
	}
	return c.hosts[name]
}

// Name returns the name of the host.
func (h *Host) Name() string { return h.name }

// Client connects a client from this host and closes it with the test.
func (h *Host) Client(opts ...client.Option) *client.Client {
	h.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := client.Dial(ctx, h.c.Seeds(), append([]client.Option{h.Option()}, opts...)...)
	if err != nil {
		h.c.t.Fatalf("clienttest: connect a client: %v", err)
	}
	h.c.t.Cleanup(func() { _ = c.Close() })
	return c
}

// Option has client.Dial reach the cluster from this host.
func (h *Host) Option() client.Option {
	return client.WithDialOptions(grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		return h.c.net.dial(ctx, h.name, address)
	}))
}

// Pause stops the host's processes as SIGSTOP does, as far as anybody can see:
// nothing leaves them and nothing arrives. What was under way goes on with Resume,
// however late that is. Their timers run on.
func (h *Host) Pause() { h.c.net.pause(h.name, true) }

// Resume ends Pause.
func (h *Host) Resume() { h.c.net.pause(h.name, false) }

// Cut stops all traffic between two endpoints, as a broken cable does: nobody is
// told. Connections stay, and go on after Heal unless somebody gave them up.
func (c *Cluster) Cut(a, b Endpoint) {
	c.CutOneWay(a, b)
	c.CutOneWay(b, a)
}

// CutOneWay stops what goes from one endpoint to another. The way back stays open,
// but new connections need both.
func (c *Cluster) CutOneWay(from, to Endpoint) { c.net.cut(from.Name(), to.Name()) }

// Isolate cuts an endpoint off from all others.
func (c *Cluster) Isolate(e Endpoint) {
	for _, other := range c.endpoints() {
		if other.Name() != e.Name() {
			c.Cut(e, other)
		}
	}
}

// Heal ends all cuts.
func (c *Cluster) Heal() { c.net.heal() }

// Break breaks the connections between two endpoints; both notice at once, and may
// connect again.
func (c *Cluster) Break(a, b Endpoint) { c.net.sever(a.Name(), b.Name()) }

func (c *Cluster) endpoints() []Endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []Endpoint
	for _, n := range c.all() {
		all = append(all, n)
	}
	for _, h := range c.hosts {
		all = append(all, h)
	}
	return all
}

// dialPeer connects a node to another one, in the background, as the shipping
// processes do.
func (c *Cluster) dialPeer(from, address string) (dial.Conn, error) {
	return grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return c.net.dial(ctx, from, address)
		}),
		grpc.WithDisableRetry(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.2, Jitter: 0.2, MaxDelay: 200 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes), grpc.MaxCallSendMsgSize(maxMessageBytes)),
	)
}
