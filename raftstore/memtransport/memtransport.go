// Package memtransport carries Raft messages between stores of one process.
// It has two forms: Network delivers at once and suits tests and benchmarks
// with running stores; Queue holds every message until the test delivers,
// drops, repeats or delays it, and suits deterministic simulation.
//
// Messages cross in encoded form, so that two nodes never share memory.
package memtransport

import (
	"bytes"
	"sync"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/raftstore"
)

// Receiver is what a node takes messages with; *raftstore.Store is one.
type Receiver interface {
	Deliver(group raftstore.GroupID, m *raftpb.Message)
	DeliverChunk(c raftstore.SnapshotChunk, done func(raftstore.SnapshotAnswer))
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

func (e *endpoint) SendChunk(to raftstore.NodeID, c raftstore.SnapshotChunk, done func(raftstore.SnapshotAnswer)) {
	r := e.net.receiver(e.self, to)
	if r == nil {
		done(raftstore.SnapshotAnswer{Err: raftstore.ErrUnreachable})
		return
	}
	r.DeliverChunk(cloneChunk(c), done)
}

func cloneChunk(c raftstore.SnapshotChunk) raftstore.SnapshotChunk {
	c.Data = bytes.Clone(c.Data)
	if c.Header != nil {
		c.Header = clone(c.Header)
	}
	return c
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
	// Chunk is a part of a snapshot, in place of Raft, and Done is to be called
	// with the receiver's answer, or with an error.
	Chunk *raftstore.SnapshotChunk
	Done  func(raftstore.SnapshotAnswer)
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

func (e *queueEnd) SendChunk(to raftstore.NodeID, c raftstore.SnapshotChunk, done func(raftstore.SnapshotAnswer)) {
	c = cloneChunk(c)
	e.q.waiting = append(e.q.waiting, Envelope{From: e.self, To: to, Group: c.Group, Chunk: &c, Done: done})
}
