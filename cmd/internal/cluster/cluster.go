// Package cluster runs a whole cluster of real processes on loopback: for the
// demo, the benchmark and the end-to-end tests. Nodes can be killed without
// warning and started again on the same data.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
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
	// Credentials are for connections to nodes that Env gives certificates. Nil: nodes
	// serve in plain text.
	Credentials credentials.TransportCredentials
	// Wire, if there, is called before the first node starts, when all have their
	// addresses. What it returns of a node is added to that node's environment and
	// may override all of it.
	Wire func(nodes []*Node) (map[*Node][]string, error)
	// Started, if there, is told of every process as soon as it runs.
	Started func(n *Node, pid int)
}

// Cluster is a running cluster.
type Cluster struct {
	cfg Config
	// members and peers are the coordinators, as nodes are told of them.
	members, peers []string

	ports ports

	mu    sync.Mutex
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
	creds   credentials.TransportCredentials
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
	ports, err := c.ports.take(2 * (c.cfg.Coordinators + c.cfg.Partitions))
	if err != nil {
		return err
	}
	add := func(role Role, id int) *Node {
		n := c.newNode(role, uint64(id), ports[0], ports[1])
		ports = ports[2:]
		c.nodes = append(c.nodes, n)
		return n
	}
	for id := 1; id <= c.cfg.Coordinators; id++ {
		n := add(Coordinator, id)
		c.members = append(c.members, fmt.Sprintf("%d=%s/%s", id, n.Client, n.Peer))
		c.peers = append(c.peers, n.Peer)
	}
	for id := 1; id <= c.cfg.Partitions; id++ {
		add(Partition, id)
	}
	for _, n := range c.nodes {
		n.env = c.environ(n)
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

func (c *Cluster) newNode(role Role, id uint64, clientAddress, peerAddress string) *Node {
	creds := c.cfg.Credentials
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	return &Node{
		Role: role, ID: id, Client: clientAddress, Peer: peerAddress,
		binary: c.cfg.Binary, creds: creds, dir: filepath.Join(c.cfg.Dir, fmt.Sprintf("%s-%d", role, id)), started: c.cfg.Started,
	}
}

// environ returns the environment of a node's process.
func (c *Cluster) environ(n *Node) []string {
	env := append(append(foreignEnv(os.Environ()), c.cfg.Env...),
		fmt.Sprintf("ONCELOG_NODE_ID=%d", n.ID),
		"ONCELOG_DATA_DIR="+n.dir,
		"ONCELOG_CLIENT_LISTEN="+n.Client,
		"ONCELOG_PEER_LISTEN="+n.Peer,
	)
	if c.cfg.Credentials == nil {
		env = append(env, "ONCELOG_INSECURE=true")
	}
	if n.Role == Coordinator {
		return append(env, "ONCELOG_MEMBERS="+strings.Join(c.members, ","))
	}
	return append(env, "ONCELOG_COORDINATORS="+strings.Join(c.peers, ","))
}

// AddPartition starts another partition node, under the next id, and returns when it
// serves.
func (c *Cluster) AddPartition(ctx context.Context) (*Node, error) {
	ports, err := c.ports.take(2)
	if err != nil {
		return nil, err
	}
	id := uint64(1)
	for c.Node(Partition, id) != nil {
		id++
	}
	n := c.newNode(Partition, id, ports[0], ports[1])
	n.env = c.environ(n)
	if err := n.Start(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.nodes = append(c.nodes, n)
	c.mu.Unlock()
	return n, n.AwaitServing(ctx)
}

// Join makes a coordinator that joins the cluster, knowing where seed is, at its own
// addresses or, if it is to take the place of another one, at that one's. It is not
// started, nor added to the members.
func (c *Cluster) Join(id uint64, seed, place *Node) (*Node, error) {
	var clientAddress, peerAddress string
	if place != nil {
		clientAddress, peerAddress = place.Client, place.Peer
	} else {
		ports, err := c.ports.take(2)
		if err != nil {
			return nil, err
		}
		clientAddress, peerAddress = ports[0], ports[1]
	}
	n := c.newNode(Coordinator, id, clientAddress, peerAddress)
	n.env = append(c.environ(n), "ONCELOG_JOIN=true",
		fmt.Sprintf("ONCELOG_MEMBERS=%d=%s/%s,%d=%s/%s", n.ID, n.Client, n.Peer, seed.ID, seed.Client, seed.Peer)) // the last one counts
	c.mu.Lock()
	c.nodes = append(c.nodes, n)
	c.mu.Unlock()
	return n, nil
}

// foreignEnv leaves out settings of oncelog: what is set for the user's own
// cluster must not get into this one.
func foreignEnv(environ []string) []string {
	return slices.DeleteFunc(environ, func(kv string) bool { return strings.HasPrefix(kv, "ONCELOG_") })
}

// Nodes returns all nodes, coordinators first, in the order in which they came.
func (c *Cluster) Nodes() []*Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.nodes)
}

// Node returns one node; nil when there is none.
func (c *Cluster) Node(role Role, id uint64) *Node {
	for _, n := range c.Nodes() {
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
	for _, n := range c.Nodes() {
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
		for _, n := range c.Nodes() {
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

// Stop ends all nodes, politely, then not, and gives their ports back.
func (c *Cluster) Stop(ctx context.Context) {
	var wg sync.WaitGroup
	for _, n := range c.Nodes() {
		wg.Go(func() { n.Stop(ctx) })
	}
	wg.Wait()
	c.ports.release()
}

// Kill ends all nodes at once, as if the power failed, and gives their ports back.
func (c *Cluster) Kill() {
	for _, n := range c.Nodes() {
		_ = n.Kill() // an error: it does not run
	}
	c.ports.release()
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

// Change has the node run another program from its next start on, unless binary is
// empty, and adds to its environment, as KEY=value: the last one of a name counts.
func (n *Node) Change(binary string, env ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if binary != "" {
		n.binary = binary
	}
	n.env = append(n.env, env...)
}

// String names the node, as in "coordinator 2".
func (n *Node) String() string { return fmt.Sprintf("%s %d", n.Role, n.ID) }

// LogFile is where the node logs.
func (n *Node) LogFile() string { return filepath.Join(n.dir, "node.log") }

// DataDir is where the node keeps its data.
func (n *Node) DataDir() string { return n.dir }

// ReplaceDisk deletes the data of a node that does not run.
func (n *Node) ReplaceDisk() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process != nil {
		return fmt.Errorf("%s is running", n)
	}
	entries, err := os.ReadDir(n.dir)
	for _, e := range entries {
		if path := filepath.Join(n.dir, e.Name()); path != n.LogFile() {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}
	return err
}

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
	return grpc.NewClient("passthrough:///"+n.Client, grpc.WithTransportCredentials(n.creds))
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
