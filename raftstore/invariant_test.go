package raftstore_test

import (
	"errors"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
)

// A node that was started on an older disk hears of commits that it has lost.
// That ends the store with a word, not the process with a trace.
func TestALostLogEndsTheStore(t *testing.T) {
	t.Parallel()
	fatal := make(chan error, 1)
	s, err := raftstore.Open(raftstore.Config{
		NodeID: 1, Log: memlog.New(nil), OnFatal: func(err error) { fatal <- err },
	})
	if err != nil {
		t.Fatal(err)
	}
	g, err := s.CreateGroup(raftstore.GroupConfig{ID: 7, Members: []raftstore.NodeID{1, 2, 3}, Machine: &chain{}})
	if err != nil {
		t.Fatal(err)
	}
	s.Deliver(7, &raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(2), To: proto.Uint64(1), Term: proto.Uint64(5), Commit: proto.Uint64(15),
	})
	if err := <-fatal; !errors.Is(err, raftstore.ErrCorrupt) {
		t.Errorf("the store ended with %v", err)
	}
	if _, _, err := g.Propose(t.Context(), []byte("x")); !errors.Is(err, raftstore.ErrStopped) {
		t.Errorf("a proposal afterwards: %v", err)
	}
}
