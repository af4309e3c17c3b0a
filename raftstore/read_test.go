package raftstore_test

import (
	"bytes"
	"errors"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
	"github.com/oncelog/oncelog/raftstore/memtransport"
)

// TestReadEndsWithoutALeader cuts a follower off between the answer to its
// read index and the entries up to it: the read must end all the same.
func TestReadEndsWithoutALeader(t *testing.T) {
	t.Parallel()
	queue := memtransport.NewQueue(nil)
	stores := map[raftstore.NodeID]*raftstore.Store{}
	groups := map[raftstore.NodeID]*raftstore.Group{}
	for id := raftstore.NodeID(1); id <= 3; id++ {
		s, err := raftstore.Open(raftstore.Config{NodeID: id, Log: memlog.New(nil), Transport: queue.Transport(id), Manual: true})
		if err != nil {
			t.Fatal(err)
		}
		if groups[id], err = s.CreateGroup(raftstore.GroupConfig{ID: 3, Members: []raftstore.NodeID{1, 2, 3}, Machine: &chain{}}); err != nil {
			t.Fatal(err)
		}
		stores[id] = s
	}
	// run turns all nodes and delivers what pass lets through until it is quiet.
	run := func(pass func(memtransport.Envelope) bool) {
		for {
			for id := raftstore.NodeID(1); id <= 3; id++ {
				for stores[id].Turn() {
				}
			}
			sent := queue.Take()
			if len(sent) == 0 {
				return
			}
			for _, e := range sent {
				if pass(e) {
					stores[e.To].Deliver(e.Group, e.Raft)
				}
			}
		}
	}
	const lead, follower = 1, 2 // group 3 is led first by the first member
	run(func(memtransport.Envelope) bool { return true })
	groups[lead].Campaign()
	run(func(memtransport.Envelope) bool { return true })
	if !groups[lead].Leadership().Ready || groups[follower].Leadership().Leader != lead {
		t.Fatalf("%+v", groups[lead].Leadership())
	}
	groups[lead].ProposeAsync([]byte("12345678"), 0, func(res raftstore.ProposalResult) {
		if res.Err != nil {
			t.Error(res.Err)
		}
	})
	run(func(e memtransport.Envelope) bool { return e.To != follower })
	answers, confirmed := 0, false
	groups[follower].ReadIndexAsync(func(_ uint64, err error) {
		answers++
		var away *raftstore.NotLeaderError
		if !errors.As(err, &away) {
			t.Errorf("the end of the read: %v", err)
		}
	})
	run(func(e memtransport.Envelope) bool {
		answer := e.Raft.GetType() == raftpb.MsgReadIndexResp
		confirmed = confirmed || answer
		return e.To != follower || answer
	})
	if !confirmed || answers > 0 {
		t.Fatalf("confirmed: %v, answers: %d", confirmed, answers)
	}
	for range 100 { // ten election timeouts
		stores[follower].Tick()
		run(func(e memtransport.Envelope) bool { return e.To != follower && e.From != follower })
	}
	if answers != 1 {
		t.Errorf("%d answers without a leader", answers)
	}
	for _, s := range stores {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// What was proposed is the caller's again once it is answered: raft has a copy, and
// neither the log, nor a follower, nor a reader sees what becomes of the original.
func TestProposalMayBeReused(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := newCluster(t, raftstore.GroupConfig{RetainLog: true}, pebbleLogs(t))
	buf := make([]byte, 3000)
	indexes := map[uint64]byte{}
	for i := byte(1); i <= 20; {
		for j := range buf {
			buf[j] = i
		}
		_, index, err := c.groups[c.leader(ctx)].Propose(ctx, buf)
		var notLeader *raftstore.NotLeaderError
		switch {
		case err == nil:
			indexes[index] = i
			i++
		case errors.As(err, &notLeader), errors.Is(err, raftstore.ErrUnknownResult):
		default:
			t.Fatal(err)
		}
	}
	clear(buf)
	c.converged(ctx)
	for id, g := range c.groups {
		for index, i := range indexes {
			data, err := g.Entry(index)
			if err != nil || len(data) != len(buf) || bytes.ContainsFunc(data, func(r rune) bool { return r != rune(i) }) {
				t.Fatalf("node %d: entry %d is not what was proposed: %v", id, index, err)
			}
		}
	}
}
