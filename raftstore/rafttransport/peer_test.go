package rafttransport

import (
	"errors"
	"runtime"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/wire"
	"github.com/oncelog/oncelog/raftstore"
)

// frames is a stream that notes the groups of every frame, or breaks.
type frames struct {
	grpc.ClientStreamingClient[oncelogv1.ExchangeRequest, oncelogv1.ExchangeResponse]
	broken bool
	sent   [][]uint64
}

func (s *frames) SendMsg(v any) error {
	if s.broken {
		return errors.New("broken")
	}
	data, err := wire.Codec{}.Marshal(v)
	if err != nil {
		return err
	}
	f := &oncelogv1.ExchangeRequest{}
	if err := proto.Unmarshal(data.Materialize(), f); err != nil {
		return err
	}
	var groups []uint64
	for _, m := range f.GetMessages() {
		groups = append(groups, m.GetGroupId())
	}
	s.sent = append(s.sent, groups)
	return nil
}

func message(group raftstore.GroupID, bytes int) raftstore.Message {
	return raftstore.Message{Group: group, Raft: &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), Entries: []*raftpb.Entry{{Data: make([]byte, bytes)}},
	}}
}

// TestBrokenStreamLeavesNothing checks that what could not be sent on one
// stream is not in the frames of the next. It would grow with every broken
// stream, and once it is larger than a frame may be no stream would live.
func TestBrokenStreamLeavesNothing(t *testing.T) {
	t.Parallel()
	transport := New(Config{})
	defer transport.Close()
	p := newPeer(transport, 2)
	for range 3 {
		if err := p.send(&frames{broken: true}, []raftstore.Message{message(1, 10)}); err == nil {
			t.Fatal("sent on a broken stream")
		}
	}
	var s frames
	if err := p.send(&s, []raftstore.Message{message(2, 10)}); err != nil {
		t.Fatal(err)
	}
	if len(s.sent) != 1 || len(s.sent[0]) != 1 || s.sent[0][0] != 2 {
		t.Errorf("frames of groups %v, want one of group 2", s.sent)
	}
}

// TestPeerWithoutAddress: nothing is kept for a node that is not known, or no more,
// and a message to it begins anew.
func TestPeerWithoutAddress(t *testing.T) {
	t.Parallel()
	asked := make(chan raftstore.NodeID, 8)
	transport := New(Config{Resolve: func(id raftstore.NodeID) (string, bool) {
		asked <- id
		return "", false
	}})
	defer transport.Close()
	for range 3 {
		// The peer may have found no address before the message is in its queue: then
		// the message is refused, which is as good.
		if err := transport.Send(2, []raftstore.Message{message(1, 10)}); err != nil && !errors.Is(err, raftstore.ErrUnreachable) {
			t.Fatal(err)
		}
		if id := <-asked; id != 2 {
			t.Errorf("asked for node %d", id)
		}
		gone := func() bool {
			transport.mu.Lock()
			defer transport.mu.Unlock()
			return len(transport.peers) == 0
		}
		for !gone() {
			runtime.Gosched()
		}
	}
	answered := make(chan raftstore.SnapshotAnswer, 1)
	transport.SendChunk(2, raftstore.SnapshotChunk{}, func(a raftstore.SnapshotAnswer) { answered <- a })
	if a := <-answered; a.Err == nil {
		t.Error("a part of a snapshot was sent to nobody")
	}
}
