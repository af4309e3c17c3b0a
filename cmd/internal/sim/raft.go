package sim

import (
	"bytes"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/raftstore"
)

// raftNet carries Raft messages of one store. It implements raftstore.Transport.
type raftNet struct {
	n      *network
	from   *Proc
	heard  func(raftstore.GroupID) // the node speaks as a leader of a group
	peers  func(raftstore.NodeID) *Proc
	stores func(*Proc) *raftstore.Store // nil: not up
}

// Send implements raftstore.Transport. A frame travels as one datagram: harsher
// than a connection, which Raft must take as well.
func (t *raftNet) Send(to raftstore.NodeID, msgs []raftstore.Message) error {
	peer := t.peers(to)
	if peer == nil || !peer.alive {
		return raftstore.ErrUnreachable
	}
	frame := make([]wireMessage, 0, len(msgs))
	for _, m := range msgs {
		t.n.elections.hear(t.from.name[:1], m)
		if m.Raft.GetType() == raftpb.MsgHeartbeat {
			t.heard(m.Group)
		}
		frame = append(frame, encode(m))
	}
	t.n.datagram(t.from, peer, func() {
		if s := t.stores(peer); s != nil {
			for _, m := range frame {
				s.Deliver(m.group, m.decode())
			}
		}
	})
	return nil
}

// SendChunk implements raftstore.Transport. A part of a snapshot travels like an
// answer to it: either may be lost, with or without a word.
func (t *raftNet) SendChunk(to raftstore.NodeID, c raftstore.SnapshotChunk, done func(raftstore.SnapshotAnswer)) {
	peer := t.peers(to)
	n := t.n
	tell := func(a raftstore.SnapshotAnswer) { n.w.at(n.delay(), t.from, func() { done(a) }) }
	lost := func() bool {
		if n.chance(n.weather.Loss) {
			n.reach.hit(snapshotLost)
			return true
		}
		return false
	}
	switch {
	case peer == nil || !peer.alive || n.blocked(t.from, peer) || n.chance(n.weather.Loss):
		n.reach.hit(snapshotLost)
		tell(raftstore.SnapshotAnswer{Err: raftstore.ErrUnreachable})
		return
	case lost():
		return // and nobody is told: its sender must time out
	}
	header := wireMessage{}
	if c.Header != nil {
		header = encode(raftstore.Message{Raft: c.Header})
	}
	data := bytes.Clone(c.Data)
	arrive := func() {
		s := t.stores(peer)
		if s == nil {
			return
		}
		got := c
		got.Data = bytes.Clone(data) // the receiver may keep it, and it may come twice
		if c.Header != nil {
			got.Header = header.decode()
		}
		s.DeliverChunk(got, func(a raftstore.SnapshotAnswer) {
			if a.Done {
				n.reach.hit(snapshotDelivered)
			}
			if !n.blocked(peer, t.from) && !lost() {
				tell(a)
			}
		})
	}
	n.w.at(n.delay()+n.upTo(20*time.Millisecond), peer, arrive)
	if n.chance(n.weather.Duplicate) {
		n.w.at(n.delay()+n.upTo(20*time.Millisecond), peer, arrive)
	}
}

// wireMessage is a Raft message as bytes: what is sent is what it was then, and
// nobody shares memory with anybody.
type wireMessage struct {
	group raftstore.GroupID
	body  []byte
}

func encode(m raftstore.Message) wireMessage {
	body, err := proto.Marshal(m.Raft)
	if err != nil {
		panic(err)
	}
	return wireMessage{group: m.Group, body: body}
}

func (m wireMessage) decode() *raftpb.Message {
	out := &raftpb.Message{}
	if err := proto.Unmarshal(m.body, out); err != nil {
		panic(err)
	}
	return out
}
