package raftstore_test

import (
	"errors"
	"fmt"
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

// unreadable is a log device of which entries, or their terms, cannot be read.
type unreadable struct {
	raftstore.LogStore
	entries, terms bool
}

var errUnreadable = fmt.Errorf("entry 3 of group 1: %w", raftstore.ErrUnreadable)

func (u *unreadable) Entries(g raftstore.GroupID, lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	if u.entries {
		return nil, errUnreadable
	}
	return u.LogStore.Entries(g, lo, hi, maxBytes)
}

func (u *unreadable) Term(g raftstore.GroupID, index uint64) (uint64, error) {
	if u.terms {
		return 0, errUnreadable
	}
	return u.LogStore.Term(g, index)
}

// TestUnreadableLogEndsTheStore: Raft panics with what its log says of a read. It took the process
// with it, and nobody noted the damage: the node could only be started in vain.
func TestUnreadableLogEndsTheStore(t *testing.T) {
	t.Parallel()
	for _, broken := range []unreadable{{entries: true}, {terms: true}} {
		log := memlog.New(nil)
		s, err := raftstore.Open(raftstore.Config{NodeID: 1, Log: log, MinFreeBytes: -1, StallTimeout: -1})
		if err != nil {
			t.Fatal(err)
		}
		g, err := s.CreateGroup(raftstore.GroupConfig{ID: 1, Members: []raftstore.NodeID{1}, Machine: &chain{}})
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if _, err := g.WaitLeadership(t.Context(), func(l raftstore.Leadership) bool { return l.Ready }); err != nil {
				t.Fatal(err)
			}
			if _, _, err := g.Propose(t.Context(), []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		device := broken
		device.LogStore = log.Crash(0) // without the last checkpoint
		fatal := make(chan error, 1)
		again, err := raftstore.Open(raftstore.Config{NodeID: 1, Log: &device, MinFreeBytes: -1, StallTimeout: -1, OnFatal: func(err error) { fatal <- err }})
		if err != nil {
			t.Fatal(err)
		}
		_, err = again.CreateGroup(raftstore.GroupConfig{ID: 1, Members: []raftstore.NodeID{1}, Machine: &chain{}})
		if err != nil && !errors.Is(err, raftstore.ErrUnreadable) {
			t.Errorf("%+v: open: %v", broken, err)
		}
		if err := <-fatal; !errors.Is(err, raftstore.ErrUnreadable) {
			t.Errorf("%+v: the store ended with %v", broken, err)
		}
		_ = again.Close(t.Context())
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
