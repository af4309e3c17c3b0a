// Package memtransport carries Raft messages between stores of one process.
// It has two forms: Network delivers at once and suits tests and benchmarks
// with running stores; Queue holds every message until the test delivers,
// drops, repeats or delays it, and suits deterministic simulation.
//
// Messages cross in encoded form, so that two nodes never share memory.
package memtransport

import (
	"sync"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/raftstore"
)

// Receiver is what a node takes messages with; *raftstore.Store is one.
type Receiver interface {
	Deliver(group raftstore.GroupID, m *raftpb.Message)
}

// Network connects running stores. It is safe for concurrent use.
type Network struct {
	mu    sync.RWMutex
	nodes map[raftstore.NodeID]Receiver
	cut   map[[2]raftstore.NodeID]bool
}

// NewNetwork returns a network without nodes.
func NewNetwork() *Network {
	return &Network{
		nodes: make(map[raftstore.NodeID]Receiver),
		cut:   make(map[[2]raftstore.NodeID]bool),
	}
}

// Attach makes messages for the node go to r; nil detaches the node.
func (n *Network) Attach(id raftstore.NodeID, r Receiver) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r == nil {
		delete(n.nodes, id)
		return
	}
	n.nodes[id] = r
}

// Cut stops (or restores) the traffic between two nodes in both directions.
func (n *Network) Cut(a, b raftstore.NodeID, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]raftstore.NodeID{a, b}] = cut
	n.cut[[2]raftstore.NodeID{b, a}] = cut
}

// Isolate cuts (or restores) a node from all the others.
func (n *Network) Isolate(id raftstore.NodeID, cut bool) {
	n.mu.RLock()
	others := make([]raftstore.NodeID, 0, len(n.nodes))
	for other := range n.nodes {
		others = append(others, other)
	}
	n.mu.RUnlock()
	for _, other := range others {
		if other != id {
			n.Cut(id, other, cut)
		}
	}
}

func (n *Network) receiver(from, to raftstore.NodeID) Receiver {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.cut[[2]raftstore.NodeID{from, to}] {
		return nil
	}
	return n.nodes[to]
}

// Transport returns the transport of one node.
func (n *Network) Transport(self raftstore.NodeID) raftstore.Transport {
	return &endpoint{net: n, self: self}
}

type endpoint struct {
	net  *Network
	self raftstore.NodeID
}

func (e *endpoint) Send(to raftstore.NodeID, msgs []raftstore.Message) error {
	r := e.net.receiver(e.self, to)
	if r == nil {
		return raftstore.ErrUnreachable
	}
	for _, m := range msgs {
		r.Deliver(m.Group, clone(m.Raft))
	}
	return nil
}

func (e *endpoint) SendSnapshot(to raftstore.NodeID, m raftstore.Message, report func(bool)) {
	r := e.net.receiver(e.self, to)
	if r == nil {
		report(false)
		return
	}
	r.Deliver(m.Group, clone(m.Raft))
	report(true)
}

func clone(m *raftpb.Message) *raftpb.Message {
	data, err := proto.Marshal(m)
	if err != nil {
		panic(err) // a message raft made is always valid
	}
	c := &raftpb.Message{}
	if err := proto.Unmarshal(data, c); err != nil {
		panic(err)
	}
	return c
}

// Envelope is a message on its way.
type Envelope struct {
	From, To raftstore.NodeID
	Group    raftstore.GroupID
	Raft     *raftpb.Message
	// Report is set for snapshots and must be called once with their fate.
	Report func(delivered bool)
}

// Queue collects the messages of all nodes in the order in which they were
// sent. It is for one goroutine.
type Queue struct {
	waiting []Envelope
	refuse  func(from, to raftstore.NodeID) bool
}

// NewQueue returns an empty queue. refuse, which may be nil, makes Send fail
// between two nodes.
func NewQueue(refuse func(from, to raftstore.NodeID) bool) *Queue {
	return &Queue{refuse: refuse}
}

// Take returns what was sent since the last call.
func (q *Queue) Take() []Envelope {
	w := q.waiting
	q.waiting = nil
	return w
}

// Transport returns the transport of one node.
func (q *Queue) Transport(self raftstore.NodeID) raftstore.Transport {
	return &queueEnd{q: q, self: self}
}

type queueEnd struct {
	q    *Queue
	self raftstore.NodeID
}

func (e *queueEnd) Send(to raftstore.NodeID, msgs []raftstore.Message) error {
	if e.q.refuse != nil && e.q.refuse(e.self, to) {
		return raftstore.ErrUnreachable
	}
	for _, m := range msgs {
		e.q.waiting = append(e.q.waiting, Envelope{From: e.self, To: to, Group: m.Group, Raft: clone(m.Raft)})
	}
	return nil
}

func (e *queueEnd) SendSnapshot(to raftstore.NodeID, m raftstore.Message, report func(bool)) {
	e.q.waiting = append(e.q.waiting, Envelope{From: e.self, To: to, Group: m.Group, Raft: clone(m.Raft), Report: report})
}
