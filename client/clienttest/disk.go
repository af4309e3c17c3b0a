package clienttest

import (
	"bytes"
	"errors"
	"sync"

	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
)

// errEnded is what a process gets of its disk and network when it has ended.
var errEnded = errors.New("clienttest: the process has ended")

// gate stands before everything that leaves a node's process: while it is shut,
// who comes to it waits.
type gate struct {
	mu     sync.Mutex
	dead   bool
	opened chan struct{} // closed when it is opened; nil: it is open
}

// pass waits until the gate is open; errEnded: the process has ended.
func (g *gate) pass() error {
	for {
		g.mu.Lock()
		dead, opened := g.dead, g.opened
		g.mu.Unlock()
		switch {
		case dead:
			return errEnded
		case opened == nil:
			return nil
		}
		<-opened
	}
}

// set changes the gate; whoever waits looks again.
func (g *gate) set(dead, shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
	g.dead = dead
	if shut && !dead {
		g.opened = make(chan struct{})
	}
}

func (g *gate) isOpen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.dead && g.opened == nil
}

// disk is what a node leaves behind: its log, and its small files.
type disk struct {
	gate *gate
	log  *memlog.Store

	mu    sync.Mutex
	files map[string][]byte
}

func newDisk(g *gate) *disk {
	return &disk{gate: g, log: memlog.New(func(bool) error { return g.pass() }), files: map[string][]byte{}}
}

// powerCut loses what was not synced. The process has ended.
func (d *disk) powerCut() { d.log = d.log.Crash(0) }

// Read implements datafile.Files.
func (d *disk) Read(name string) (data []byte, ok bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	data, ok = d.files[name]
	return bytes.Clone(data), ok, nil
}

// Write implements datafile.Files.
func (d *disk) Write(name string, data []byte) error {
	if err := d.gate.pass(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files[name] = bytes.Clone(data)
	return nil
}

// transport is a node's way to the Raft groups of the others.
type transport struct {
	raftstore.Transport
	n *Node
}

// reaches waits while the process is paused, and reports whether a message gets
// through.
func (t transport) reaches(to raftstore.NodeID) bool {
	return t.n.gate.pass() == nil && !t.n.cluster.net.isCut(t.n.name, t.n.kind.name(uint64(to)))
}

// Send implements raftstore.Transport.
func (t transport) Send(to raftstore.NodeID, msgs []raftstore.Message) error {
	if !t.reaches(to) {
		return raftstore.ErrUnreachable
	}
	return t.Transport.Send(to, msgs)
}

// SendChunk implements raftstore.Transport.
func (t transport) SendChunk(to raftstore.NodeID, c raftstore.SnapshotChunk, done func(raftstore.SnapshotAnswer)) {
	if !t.reaches(to) {
		done(raftstore.SnapshotAnswer{Err: raftstore.ErrUnreachable})
		return
	}
	t.Transport.SendChunk(to, c, done)
}
