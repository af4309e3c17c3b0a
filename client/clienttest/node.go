package clienttest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator"
	"github.com/oncelog/oncelog/internal/dial"
	"github.com/oncelog/oncelog/internal/task"
	"github.com/oncelog/oncelog/internal/wire"
	"github.com/oncelog/oncelog/partition"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memtransport"
)

// Node is one process of the cluster: a coordinator or a partition node. Its
// methods are safe for concurrent use, and those that change its life take turns.
type Node struct {
	cluster *Cluster
	kind    kind
	id      uint64
	name    string
	raft    *memtransport.Network // of its kind
	gate    *gate
	disk    *disk

	changing task.Lock // held by Start, Stop or Crash

	mu   sync.Mutex
	life *life // nil: it does not run
}

// kind tells coordinators from partition nodes.
type kind string

const (
	coordinators kind = "coordinator"
	partitions   kind = "node"
)

func (k kind) name(id uint64) string { return fmt.Sprintf("%s-%d", k, id) }

func (k kind) clientAddress(id uint64) string { return k.name(id) + ":7000" }

func (k kind) peerAddress(id uint64) string { return k.name(id) + ":7001" }

// life is a node from a start to the end that follows.
type life struct {
	store       *raftstore.Store
	coordinator *coordinator.Coordinator
	partition   *partition.Node
	asks        *partition.CoordinatorClient
	servers     []*grpc.Server
	ended       chan struct{} // closed when the end begins
}

func newNode(c *Cluster, k kind, id uint64, raft *memtransport.Network) *Node {
	n := &Node{cluster: c, kind: k, id: id, name: k.name(id), raft: raft, gate: &gate{dead: true}, changing: task.NewLock()}
	n.disk = newDisk(n.gate)
	c.net.place(k.clientAddress(id), n.name)
	c.net.place(k.peerAddress(id), n.name)
	return n
}

// Name is what faults of the network, and errors, call the node: "coordinator-1",
// "node-2".
func (n *Node) Name() string { return n.name }

// ID is the node's id, from 1 among those of its kind.
func (n *Node) ID() uint64 { return n.id }

// Address is where clients reach the node.
func (n *Node) Address() string { return n.kind.clientAddress(n.id) }

// Running reports whether the node runs, paused or not.
func (n *Node) Running() bool { return n.current() != nil }

func (n *Node) current() *life {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.life
}

// Start starts a node that was stopped or has crashed, with what its disk has. It
// returns when the node serves, which is before it has caught up. Starting one
// that runs does nothing.
func (n *Node) Start() {
	n.cluster.t.Helper()
	n.changing.Lock(nil)
	defer n.changing.Unlock()
	if n.Running() {
		return
	}
	n.gate.set(false, false)
	n.cluster.net.live(n.name)
	l := &life{ended: make(chan struct{})}
	var err error
	if n.kind == coordinators {
		err = n.startCoordinator(l)
	} else {
		err = n.startPartition(l)
	}
	if err != nil {
		n.end(l, false)
		n.cluster.t.Fatalf("clienttest: %s does not start: %v", n.name, err)
	}
	n.mu.Lock()
	n.life = l
	n.mu.Unlock()
}

// Stop ends the node as an operator does, with SIGTERM: it hands leadership over
// first, for up to a second. A paused node crashes.
func (n *Node) Stop() { n.finish(true) }

// Crash ends the node between two instructions, as a power cut does: connections
// break, and writes that were not synced are lost.
func (n *Node) Crash() { n.finish(false) }

func (n *Node) finish(gracefully bool) {
	n.changing.Lock(nil)
	defer n.changing.Unlock()
	n.mu.Lock()
	l := n.life
	n.life = nil
	n.mu.Unlock()
	if l == nil {
		return
	}
	n.end(l, gracefully && n.gate.isOpen())
}

// Pause stops the node as SIGSTOP does, as far as anybody can see: nothing leaves
// it and nothing arrives, and its disk finishes no write. What was under way goes
// on with Resume, however late that is. Its timers run on.
func (n *Node) Pause() {
	if n.Running() {
		n.gate.set(false, true)
		n.cluster.net.pause(n.name, true)
	}
}

// Resume lets a paused node go on.
func (n *Node) Resume() {
	if n.Running() {
		n.cluster.net.pause(n.name, false)
		n.gate.set(false, false)
	}
}

// HandOver has the node hand the leadership of every group that it leads to
// another one, as it is done for maintenance.
func (n *Node) HandOver() {
	n.cluster.t.Helper()
	l := n.current()
	if l == nil || !n.gate.isOpen() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ids, err := l.store.Groups()
	if err != nil {
		n.cluster.t.Fatalf("clienttest: groups of %s: %v", n.name, err)
	}
	for _, id := range ids {
		g, err := l.store.Group(id)
		if err != nil {
			continue // it is being opened, or the node ends
		}
		n.handOver(ctx, g)
	}
}

// handOver tries one member after the other for as long as the node leads.
func (n *Node) handOver(ctx context.Context, g *raftstore.Group) {
	n.cluster.t.Helper()
	var looks pauses
	for g.Leadership().IsLeader {
		for _, to := range g.Status().Members {
			if uint64(to.Process()) != n.id && g.TransferLeader(ctx, to) == nil {
				return
			}
		}
		if !looks.pause(ctx) {
			n.cluster.t.Fatalf("clienttest: nobody takes group %d over from %s", g.ID(), n.name)
		}
	}
}

// end ends a life. Gracefully, the network still works meanwhile.
func (n *Node) end(l *life, gracefully bool) {
	net := n.cluster.net
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	close(l.ended)
	if !gracefully {
		cancel()
		net.die(n.name)
		n.gate.set(true, false)
		n.raft.Attach(raftstore.NodeID(n.id), nil)
	}
	if l.coordinator != nil {
		l.coordinator.Close()
	}
	// What does not close in time is of no more use than what does.
	switch {
	case l.partition != nil:
		_ = l.partition.Close(ctx)
	case l.store != nil:
		_ = l.store.Close(ctx)
	}
	if gracefully {
		net.die(n.name)
		n.gate.set(true, false)
		n.raft.Attach(raftstore.NodeID(n.id), nil)
	}
	if l.asks != nil {
		_ = l.asks.Close()
	}
	for _, s := range l.servers {
		s.Stop()
	}
	if !gracefully {
		n.disk.powerCut()
	}
}

func (n *Node) openStore(l *life) (*raftstore.Store, error) {
	store, err := raftstore.Open(raftstore.Config{
		NodeID: raftstore.NodeID(n.id), Log: n.disk.log,
		Transport: transport{n.raft.Transport(raftstore.NodeID(n.id)), n},
		// A write that takes long is one of a paused node.
		StallTimeout: -1,
		Logger:       n.cluster.logger.With("node", n.name),
		OnFatal:      func(err error) { n.fatal(l, err) },
	})
	if err != nil {
		return nil, err
	}
	l.store = store
	n.raft.Attach(raftstore.NodeID(n.id), store)
	return store, nil
}

// ReplaceDisk gives a node that does not run an empty disk. It is refused by the
// cluster until client.Admin's ReplaceDisk, or RemoveNode, was called for it.
func (n *Node) ReplaceDisk() {
	n.cluster.t.Helper()
	n.changing.Lock(nil)
	defer n.changing.Unlock()
	if n.Running() {
		n.cluster.t.Fatalf("clienttest: %s runs; stop it before its disk is replaced", n.name)
	}
	n.disk = newDisk(n.gate)
}

// fatal is told when a node cannot go on. One that was removed ends; that is no
// failure.
func (n *Node) fatal(l *life, err error) {
	if apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_NODE_REMOVED {
		go n.Crash()
		return
	}
	if !task.Closed(l.ended) {
		n.cluster.t.Errorf("clienttest: %s cannot go on: %v", n.name, err)
	}
}

func (n *Node) startCoordinator(l *life) error {
	store, err := n.openStore(l)
	if err != nil {
		return err
	}
	cfg := coordinator.Config{
		NodeID: n.id, Store: store, Settings: n.cluster.cfg.settings,
		DialPeer: func(address string) (grpc.ClientConnInterface, error) { return n.cluster.dialPeer(n.name, address) },
		Logger:   n.cluster.logger.With("node", n.name), Version: "clienttest",
	}
	for _, m := range n.cluster.coordinators {
		cfg.Members = append(cfg.Members, coordinator.Member{
			ID: m.id, ClientAddress: m.kind.clientAddress(m.id), PeerAddress: m.kind.peerAddress(m.id),
		})
	}
	if l.coordinator, err = coordinator.New(cfg); err != nil {
		return err
	}
	n.serve(l, n.kind.clientAddress(n.id), l.coordinator.RegisterClient)
	n.serve(l, n.kind.peerAddress(n.id), l.coordinator.RegisterPeer)
	return nil
}

func (n *Node) startPartition(l *life) (err error) {
	seeds := make([]string, 0, len(n.cluster.coordinators))
	for _, m := range n.cluster.coordinators {
		seeds = append(seeds, m.kind.peerAddress(m.id))
	}
	if l.asks, err = partition.NewCoordinatorClient(partition.CoordinatorClientConfig{
		Seeds: seeds, Dial: func(address string) (dial.Conn, error) { return n.cluster.dialPeer(n.name, address) },
	}); err != nil {
		return err
	}
	node, err := partition.New(partition.Config{
		NodeID: n.id, ClientAddress: n.kind.clientAddress(n.id), PeerAddress: n.kind.peerAddress(n.id),
		Files: n.disk, Coordinator: l.asks,
		OpenStore: func(string) (*raftstore.Store, error) { return n.openStore(l) },
		Logger:    n.cluster.logger.With("node", n.name), Version: "clienttest",
	})
	if err != nil {
		return err
	}
	l.partition = node
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := node.Start(ctx); err != nil {
		return err
	}
	n.serve(l, n.kind.clientAddress(n.id), node.RegisterClient)
	n.serve(l, n.kind.peerAddress(n.id), node.RegisterPeer)
	go n.watch(l)
	return nil
}

// watch passes on that a partition node cannot go on.
func (n *Node) watch(l *life) {
	select {
	case err := <-l.partition.Fatal():
		n.fatal(l, err)
	case <-l.ended:
	}
}

// Limits of a server, as the shipping processes have them.
const (
	maxMessageBytes = partition.MaxRequestBytes + 1<<20
	maxStreams      = 4096
)

// serve opens an address.
func (n *Node) serve(l *life, address string, register func(grpc.ServiceRegistrar)) {
	s := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessageBytes), grpc.MaxSendMsgSize(maxMessageBytes), grpc.MaxConcurrentStreams(maxStreams),
		grpc.ForceServerCodecV2(wire.Codec{}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(n.unary(l)), grpc.StreamInterceptor(n.stream(l)),
		grpc.WaitForHandlers(true), // nothing of a life outlasts it
	)
	register(s)
	l.servers = append(l.servers, s)
	lis := n.cluster.net.listen(address)
	go func() {
		_ = s.Serve(lis) // until the server is stopped, which closes the listener
	}()
}

// leads reports whether this node leads a group, and in which term.
func (n *Node) leads(group raftstore.GroupID) (term uint64, ok bool) {
	l := n.current()
	if l == nil || !n.gate.isOpen() {
		return 0, false
	}
	g, err := l.store.Group(group)
	if err != nil {
		return 0, false // not opened yet, or the node ends
	}
	lead := g.Leadership()
	return lead.Term, lead.Ready
}
