// Package cluster runs a whole cluster of real processes on loopback: for the
// demo, the benchmark and the end-to-end tests. Nodes can be killed without
// warning and started again on the same data.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// Role is the kind of a node.
type Role string

// The roles, as the program's commands name them.
const (
	Coordinator Role = "coordinator"
	Partition   Role = "partition"
)

// Config describes a cluster. Zero values take the stated defaults.
type Config struct {
	// Binary is the oncelog program.
	Binary string
	// Dir gets one directory per node, with its data and its log file.
	Dir string
	// Coordinators and Partitions are the numbers of nodes. Default: 3 each.
	Coordinators, Partitions int
	// Env is added to the environment of every node, as KEY=value.
	Env []string
	// Wire, if there, is called before the first node starts, when all have their
	// addresses. What it returns of a node is added to that node's environment and
	// may override all of it.
	Wire func(nodes []*Node) (map[*Node][]string, error)
	// Started, if there, is told of every process as soon as it runs.
	Started func(n *Node, pid int)
}

// Cluster is a running cluster.
type Cluster struct {
	cfg   Config
	nodes []*Node
}

// Node is one process of a cluster.
type Node struct {
	Role Role
	// ID is the node's id among the nodes of its role.
	ID uint64
	// Client and Peer are its addresses.
	Client, Peer string

	binary  string
	dir     string
	env     []string
	started func(n *Node, pid int)
	mu      sync.Mutex
	process *process
}

// Start starts all nodes and returns when every one of them serves.
func Start(ctx context.Context, cfg Config) (_ *Cluster, err error) {
	if cfg.Coordinators == 0 {
		cfg.Coordinators = 3
	}
	if cfg.Partitions == 0 {
		cfg.Partitions = 3
	}
	c := &Cluster{cfg: cfg}
	defer func() {
		if err != nil {
			c.Stop(context.WithoutCancel(ctx))
		}
	}()
	if err := c.plan(); err != nil {
		return nil, err
	}
	for _, n := range c.nodes {
		if err := n.Start(); err != nil {
			return nil, err
		}
	}
	for _, n := range c.nodes {
		if err := n.AwaitServing(ctx); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// plan gives every node its addresses and settings.
func (c *Cluster) plan() error {
	ports, err := freePorts(2 * (c.cfg.Coordinators + c.cfg.Partitions))
	if err != nil {
		return err
	}
	add := func(role Role, id int) *Node {
		n := &Node{
			Role: role, ID: uint64(id), Client: ports[0], Peer: ports[1],
			binary: c.cfg.Binary, dir: filepath.Join(c.cfg.Dir, fmt.Sprintf("%s-%d", role, id)), started: c.cfg.Started,
		}
		ports = ports[2:]
		c.nodes = append(c.nodes, n)
		return n
	}
	var members, peers []string
	for id := 1; id <= c.cfg.Coordinators; id++ {
		n := add(Coordinator, id)
		members = append(members, fmt.Sprintf("%d=%s/%s", id, n.Client, n.Peer))
		peers = append(peers, n.Peer)
	}
	for id := 1; id <= c.cfg.Partitions; id++ {
		add(Partition, id)
	}
	for _, n := range c.nodes {
		n.env = append(append(foreignEnv(os.Environ()), c.cfg.Env...),
			fmt.Sprintf("ONCELOG_NODE_ID=%d", n.ID),
			"ONCELOG_DATA_DIR="+n.dir,
			"ONCELOG_CLIENT_LISTEN="+n.Client,
			"ONCELOG_PEER_LISTEN="+n.Peer,
		)
		if n.Role == Coordinator {
			n.env = append(n.env, "ONCELOG_MEMBERS="+strings.Join(members, ","))
		} else {
			n.env = append(n.env, "ONCELOG_COORDINATORS="+strings.Join(peers, ","))
		}
	}
	if c.cfg.Wire == nil {
		return nil
	}
	wiring, err := c.cfg.Wire(c.nodes)
	for n, env := range wiring {
		n.env = append(n.env, env...) // the last one of a name counts
	}
	return err
}

// foreignEnv leaves out settings of oncelog: what is set for the user's own
// cluster must not get into this one.
func foreignEnv(environ []string) []string {
	return slices.DeleteFunc(environ, func(kv string) bool { return strings.HasPrefix(kv, "ONCELOG_") })
}

// freePorts returns loopback addresses that were free a moment ago.
func freePorts(count int) ([]string, error) {
	var addresses []string
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			_ = l.Close() // only its port was wanted
		}
	}()
	for range count {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		listeners = append(listeners, l)
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

// Nodes returns all nodes, coordinators first.
func (c *Cluster) Nodes() []*Node { return c.nodes }

// Node returns one node; nil when there is none.
func (c *Cluster) Node(role Role, id uint64) *Node {
	for _, n := range c.nodes {
		if n.Role == role && n.ID == id {
			return n
		}
	}
	return nil
}

// Servers returns the client addresses of the coordinators: what a client
// dials.
func (c *Cluster) Servers() []string {
	var out []string
	for _, n := range c.nodes {
		if n.Role == Coordinator {
			out = append(out, n.Client)
		}
	}
	return out
}

// CoordinatorLeader returns the coordinator that leads, asking those that run
// until one is known.
func (c *Cluster) CoordinatorLeader(ctx context.Context) (*Node, error) {
	return c.leader(ctx, Coordinator, 1)
}

// ShardLeader returns the partition node that leads a shard.
func (c *Cluster) ShardLeader(ctx context.Context, shard uint64) (*Node, error) {
	return c.leader(ctx, Partition, shard)
}

func (c *Cluster) leader(ctx context.Context, role Role, group uint64) (*Node, error) {
	for {
		for _, n := range c.nodes {
			if n.Role != role || !n.Running() {
				continue
			}
			st, err := n.Status(ctx)
			if err != nil {
				continue
			}
			for _, g := range st.GetGroups() {
				if g.GetGroupId() == group && g.GetReady() {
					return n, nil
				}
			}
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return nil, fmt.Errorf("no %s leads group %d: %w", role, group, err)
		}
	}
}

// Stop ends all nodes: politely, then not.
func (c *Cluster) Stop(ctx context.Context) {
	var wg sync.WaitGroup
	for _, n := range c.nodes {
		wg.Go(func() { n.Stop(ctx) })
	}
	wg.Wait()
}

// Start starts the node's process on its data.
func (n *Node) Start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process != nil {
		return fmt.Errorf("%s is running", n)
	}
	if err := os.MkdirAll(n.dir, 0o755); err != nil {
		return err
	}
	p, err := startProcess(n.binary, string(n.Role), n.env, n.LogFile())
	if err != nil {
		return fmt.Errorf("start %s: %w", n, err)
	}
	n.process = p
	if n.started != nil {
		n.started(n, p.cmd.Process.Pid)
	}
	return nil
}

// String names the node, as in "coordinator 2".
func (n *Node) String() string { return fmt.Sprintf("%s %d", n.Role, n.ID) }

// LogFile is where the node logs.
func (n *Node) LogFile() string { return filepath.Join(n.dir, "node.log") }

// DataDir is where the node keeps its data.
func (n *Node) DataDir() string { return n.dir }

// Running reports whether the node has a process.
func (n *Node) Running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process != nil
}

// Kill ends the node at once, as kill -9 does, and waits until it is gone.
func (n *Node) Kill() error {
	p, err := n.take()
	if err != nil {
		return err
	}
	return p.kill()
}

// Pause stops the node's process where it is; Resume lets it go on.
func (n *Node) Pause() error { return n.with((*process).pause) }

// Resume is the opposite of Pause.
func (n *Node) Resume() error { return n.with((*process).resume) }

// Stop ends the node politely, and at the end of ctx or after 15 s not.
func (n *Node) Stop(ctx context.Context) {
	p, err := n.take()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	p.stop(ctx)
}

func (n *Node) take() (*process, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil {
		return nil, fmt.Errorf("%s is not running", n)
	}
	p := n.process
	n.process = nil
	return p, nil
}

func (n *Node) with(fn func(*process) error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil {
		return fmt.Errorf("%s is not running", n)
	}
	return fn(n.process)
}

// Exited returns what ended the process, if something did; nil while it runs. A
// process that ended by itself still has to be taken away, by Kill or Stop.
func (n *Node) Exited() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil {
		return errors.New("it was stopped")
	}
	return n.process.exited()
}

// AwaitServing returns when the node answers health checks.
func (n *Node) AwaitServing(ctx context.Context) error {
	conn, err := n.dial()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	health := healthv1.NewHealthClient(conn)
	for {
		res, err := health.Check(ctx, &healthv1.HealthCheckRequest{}, grpc.WaitForReady(false))
		if err == nil && res.GetStatus() == healthv1.HealthCheckResponse_SERVING {
			return nil
		}
		if dead := n.Exited(); dead != nil {
			return fmt.Errorf("%s ended: %w; its log is %s\n%s", n, dead, n.LogFile(), n.LogTail())
		}
		conn.ResetConnectBackoff()
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("%s does not serve: %w; its log is %s\n%s", n, err, n.LogFile(), n.LogTail())
		}
	}
}

// Status asks the node about itself.
func (n *Node) Status(ctx context.Context) (*oncelogv1.GetStatusResponse, error) {
	conn, err := n.dial()
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return oncelogv1.NewStatusServiceClient(conn).GetStatus(ctx, &oncelogv1.GetStatusRequest{})
}

func (n *Node) dial() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+n.Client, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// LogTail returns the end of the node's log.
func (n *Node) LogTail() string {
	b, err := os.ReadFile(n.LogFile())
	if err != nil {
		return ""
	}
	const tail = 4000
	if len(b) > tail {
		b = b[len(b)-tail:]
	}
	return string(b)
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
