package sim

import (
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

// SendSnapshot implements raftstore.Transport.
func (t *raftNet) SendSnapshot(to raftstore.NodeID, msg raftstore.Message, report func(delivered bool)) {
	peer := t.peers(to)
	m := encode(msg)
	n := t.n
	told := func(delivered bool) { n.w.at(n.delay(), t.from, func() { report(delivered) }) }
	switch {
	case peer == nil || !peer.alive || n.blocked(t.from, peer) || n.chance(2*n.weather.Loss):
		n.reach.hit(snapshotLost)
		told(false)
		return
	case n.chance(n.weather.Loss):
		n.reach.hit(snapshotLost)
		return // and nobody is told: its sender must time out
	}
	transfer := n.delay() + n.upTo(100*time.Millisecond)
	n.w.at(transfer, peer, func() {
		if s := t.stores(peer); s != nil {
			n.reach.hit(snapshotDelivered)
			s.Deliver(m.group, m.decode())
			told(true)
		}
	})
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
