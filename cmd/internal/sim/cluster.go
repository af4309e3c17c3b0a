package sim

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	"github.com/oncelog/oncelog/coordinator"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/internal/task"
	"github.com/oncelog/oncelog/partition"
	"github.com/oncelog/oncelog/raftstore"
)

// node is one server process: what it is, what its disk has, and what runs in
// its present life.
type node struct {
	c    *cluster
	id   uint64
	kind string // "c" a coordinator, "p" a partition node
	proc *Proc
	disk *disk

	store       *raftstore.Store
	coordinator *coordinator.Coordinator
	partition   *partition.Node

	// stopped says that the node ended by itself and why.
	stopped error
	// down: a fault wants the node to stay down.
	down bool
	// lost counts how often the disk was lost, and refused says that the node was
	// told so: it stays away.
	lost    int
	refused bool
	spoke   bool // as a member nevertheless
	// restored: an operator had it come back. forgot are the lives, by group, that it
	// had on the disks before this one.
	restored bool
	forgot   map[raftstore.GroupID]uint32
	// damaged: a copy of a shard was damaged here, and found.
	damaged bool
	// fresh: it was removed, begins again with an empty disk, and has not been told yet
	// that it is registered.
	fresh bool
	// joins: the node came later. replaced: another one is to take its place.
	joins, replaced bool
}

// cluster is the servers of one simulation, started from the same constructors
// as the binary.
type cluster struct {
	w      *World
	net    *network
	sizes  sizes
	coords []*node
	parts  []*node
	reach  Reach
	log    *slog.Logger
	// leaders are the nodes that were last heard as leaders of a Raft group.
	leaders map[groupKey]*node
	// applied is the committed log of every group.
	applied map[groupKey]archive
	// died is told of a node that stopped itself, checkpoint of what nodes write as
	// their state.
	died  func(n *node, why error)
	spoke func(n *node, what string)
	// replace has another coordinator take the place of one. lastCoordinator is the
	// highest number of one; none is used twice.
	replace         func(n *node, how replacement)
	lastCoordinator uint64
	checkpoint      func(n *node, g raftstore.GroupID, s raftstore.Snapshot)
}

// sizes are the settings of servers that a seed draws.
type sizes struct {
	Coordinators, Partitions int
	ShardsPerNode            uint32
	CoordinatorSnapshot      uint64 // entries between checkpoints; 0: the default
	ShardSnapshot            uint64
	Tick                     time.Duration
	ElectionTicks            int
	Fsync                    time.Duration
	ExpireGrace              time.Duration
	NodeTimeout              time.Duration // 0: the default
	// RequestIDsKept is txn.Config's: late copies of InitProducer come from no
	// further back where clients fight over an id many times a second.
	RequestIDsKept int
	CheckProducers time.Duration
	EnlistInterval time.Duration
	EnlistDelay    time.Duration // 0: the default
	AckDelay       time.Duration // coordinator.Config's; 0: the default
	// RetentionInterval is partition.Config's; 0: the default.
	RetentionInterval time.Duration
	RelocateBytes     uint64 // partition.Config's; 0: the default
	CompactionKeys    int    // likewise
	Limits            limits
}

func newCluster(w *World, n *network, s sizes, r Reach, log *slog.Logger) *cluster {
	c := &cluster{
		w: w, net: n, sizes: s, reach: r, log: log,
		leaders: map[groupKey]*node{}, applied: map[groupKey]archive{}, died: func(*node, error) {},
		spoke: func(*node, string) {}, checkpoint: func(*node, raftstore.GroupID, raftstore.Snapshot) {},
	}
	for range s.Coordinators {
		c.coords = append(c.coords, c.newNode("c", c.nextCoordinator()))
	}
	for i := range s.Partitions {
		c.parts = append(c.parts, c.newNode("p", uint64(i+1)))
	}
	return c
}

func (c *cluster) newNode(kind string, id uint64) *node {
	n := &node{
		c: c, id: id, kind: kind, proc: c.w.newProc(fmt.Sprintf("%s%d", kind, id)),
		disk: newDisk(c.w, c.sizes.Fsync, c.reach),
	}
	n.disk.checkpoint = func(g raftstore.GroupID, s raftstore.Snapshot) { c.checkpoint(n, g, s) }
	return n
}

func (c *cluster) nextCoordinator() uint64 {
	c.lastCoordinator++
	return c.lastCoordinator
}

// nodes returns all servers.
func (c *cluster) nodes() []*node { return append(append([]*node(nil), c.coords...), c.parts...) }

// start starts every node that is not running.
func (c *cluster) start() {
	for _, n := range c.nodes() {
		n.start()
	}
}

func (n *node) clientAddress() string { return n.proc.name + ".client:1" }
func (n *node) peerAddress() string   { return n.proc.name + ".peer:1" }

// founders are the coordinators that the cluster began with: all that clients and
// nodes are told of.
func (c *cluster) founders() []*node { return c.coords[:c.sizes.Coordinators] }

// seeds are the addresses that clients are given.
func (c *cluster) seeds() (out []string) {
	for _, n := range c.founders() {
		out = append(out, n.clientAddress())
	}
	return out
}

func (c *cluster) peerSeeds() (out []string) {
	for _, n := range c.founders() {
		out = append(out, n.peerAddress())
	}
	return out
}

// crash ends a node. A power cut may lose what was not synced, the end of a
// process does not.
func (n *node) crash(powerCut bool) {
	if !n.proc.alive {
		return
	}
	n.proc.kill()
	n.c.net.processEnded(n.proc)
	n.store, n.coordinator, n.partition = nil, nil, nil
	if powerCut {
		n.disk.powerCut()
	} else {
		n.disk.log = n.disk.log.Crash(n.disk.log.Unsynced())
	}
}

// start begins a new life of the node with what its disk has.
func (n *node) start() {
	if n.proc.alive || n.down || n.refused {
		return
	}
	n.stopped = nil
	n.proc.start(func() {
		var err error
		if n.kind == "c" {
			err = n.startCoordinator()
		} else {
			err = n.startPartition()
		}
		if err != nil {
			n.fatal(err)
		}
	})
}

// fatal is what a node tells the process that it is in: it cannot go on.
func (n *node) fatal(err error) {
	if n.stopped != nil || !n.proc.alive {
		return
	}
	n.stopped = err
	n.noteDamage(err)
	n.c.log.Info("node stops itself", "node", n.proc.name, "error", err)
	n.proc.exit(func() {
		n.c.net.processEnded(n.proc)
		n.store, n.coordinator, n.partition = nil, nil, nil
		n.disk.log = n.disk.log.Crash(n.disk.log.Unsynced())
		n.c.died(n, err)
	})
}

func (n *node) logger() *slog.Logger { return n.c.log.With("node", n.proc.name) }

// openStore opens the Raft store on the node's disk.
func (n *node) openStore(peers func() []*node) (*raftstore.Store, error) {
	byID := func(id raftstore.NodeID) *node {
		for _, p := range peers() {
			if p.id == uint64(id) {
				return p
			}
		}
		return nil
	}
	store, err := raftstore.Open(raftstore.Config{
		NodeID: raftstore.NodeID(n.id),
		Log:    n.disk.open(n.proc),
		Transport: memberOnly{n: n, Transport: &raftNet{
			n: n.c.net, from: n.proc,
			heard: func(g raftstore.GroupID) { n.c.leaders[groupKey{n.kind, uint64(g)}] = n },
			peers: func(id raftstore.NodeID) *Proc {
				if p := byID(id); p != nil {
					return p.proc
				}
				return nil
			},
			stores: func(p *Proc) *raftstore.Store {
				for _, peer := range peers() {
					if peer.proc == p {
						return peer.store
					}
				}
				return nil
			},
		}},
		Runtime:      task.New(n.proc),
		TickInterval: n.c.sizes.Tick, ElectionTicks: n.c.sizes.ElectionTicks,
		SnapshotTimeout: 5 * time.Second, SnapshotChunkBytes: 4 << 10,
		Logger:  n.logger(),
		OnFatal: n.fatal,
	})
	n.store = store
	return store, err
}

func (n *node) startCoordinator() error {
	store, err := n.openStore(func() []*node { return n.c.coords })
	if err != nil {
		return err
	}
	members := make([]coordinator.Member, 0, len(n.c.coords))
	list := n.c.founders()
	if n.joins {
		list = append([]*node{n}, list...)
	}
	for _, m := range list {
		members = append(members, coordinator.Member{ID: m.id, ClientAddress: m.clientAddress(), PeerAddress: m.peerAddress()})
	}
	dialer := n.c.net.dialer(n.proc)
	n.coordinator, err = coordinator.New(coordinator.Config{
		NodeID: n.id, Members: members, Join: n.joins, Store: store, Runtime: task.New(n.proc),
		Files: directory{n.disk, n.proc}, LogID: n.logID(),
		DialPeer:        func(address string) (grpc.ClientConnInterface, error) { return dialer(address) },
		Txn:             n.c.sizes.rules(),
		Settings:        catalog.Settings{ShardsPerNode: n.c.sizes.ShardsPerNode},
		SnapshotEntries: n.c.sizes.CoordinatorSnapshot,
		NodeTimeout:     n.c.sizes.NodeTimeout,
		ExpireGrace:     n.c.sizes.ExpireGrace, IDExpiration: n.c.sizes.Limits.IDExpiration, IdleInterval: time.Second,
		AckDelay: n.c.sizes.AckDelay,
		Logger:   n.logger(), Version: "sim",
	})
	if err != nil {
		return err
	}
	n.coordinator.RegisterClient(n.c.net.listen(n.proc, n.clientAddress()))
	n.coordinator.RegisterPeer(n.c.net.listen(n.proc, n.peerAddress()))
	n.watch(n.coordinator.Fatal())
	return nil
}

func (n *node) startPartition() error {
	client, err := partition.NewCoordinatorClient(partition.CoordinatorClientConfig{
		Seeds: n.c.peerSeeds(), Dial: n.c.net.dialer(n.proc), Runtime: task.New(n.proc),
	})
	if err != nil {
		return err
	}
	p, err := partition.New(partition.Config{
		NodeID: n.id, ClientAddress: n.clientAddress(), PeerAddress: n.peerAddress(),
		Files: directory{n.disk, n.proc}, Coordinator: client, Runtime: task.New(n.proc),
		SalvageLog: n.salvage, ReplaceLog: n.replaceLog,
		OpenStore:       func(string) (*raftstore.Store, error) { return n.openStore(func() []*node { return n.c.parts }) },
		SnapshotEntries: n.c.sizes.ShardSnapshot, EnlistInterval: n.c.sizes.EnlistInterval, EnlistDelay: n.c.sizes.EnlistDelay,
		CheckProducersInterval: n.c.sizes.CheckProducers, RetentionInterval: n.c.sizes.RetentionInterval,
		RelocateBytes: n.c.sizes.RelocateBytes, CompactionKeys: n.c.sizes.CompactionKeys, Shard: n.c.sizes.Limits.Shard,
		Logger: n.logger(), Version: "sim",
	})
	if err != nil {
		return err
	}
	if err := p.Start(context.Background()); err != nil {
		return err
	}
	n.partition, n.fresh = p, false
	p.RegisterClient(n.c.net.listen(n.proc, n.clientAddress()))
	p.RegisterPeer(n.c.net.listen(n.proc, n.peerAddress()))
	n.watch(p.Fatal())
	return nil
}

// watch ends the process when the node says that it cannot go on.
func (n *node) watch(fatal <-chan error) {
	task.New(n.proc).Go(func() {
		err, _ := task.Receive(task.New(n.proc), fatal)
		n.fatal(err)
	})
}
