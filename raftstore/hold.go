package raftstore

import (
	"maps"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// After every commit Raft sends each follower an append without entries that
// tells the new commit index: with its answer, half of all messages. The next
// append tells it as well, and so does the next heartbeat, so such a message is
// held back until one of them goes out.
//
// It is not only that, though: to a follower that has not acknowledged what came
// before, it is also the probe that finds out about a lost append. Whatever is
// still held at the next tick and could be one is sent then.

// holdBack takes a message that may wait. A later append to the same follower
// makes it needless.
func (r *replica) holdBack(m *raftpb.Message) bool {
	if m.GetType() != raftpb.MsgApp {
		return false
	}
	to := m.GetTo()
	if len(m.GetEntries()) > 0 {
		delete(r.held, to)
		return false
	}
	if p := r.progress(to); p.State != tracker.StateReplicate {
		return false
	}
	if r.held == nil {
		r.held = map[uint64]*raftpb.Message{}
	}
	r.held[to] = m
	return true
}

// releaseHeld is called at every tick.
func (r *replica) releaseHeld() {
	if len(r.held) == 0 {
		return
	}
	if r.role == raft.StateLeader {
		for _, to := range slices.Sorted(maps.Keys(r.held)) {
			m := r.held[to]
			p := r.progress(to)
			caughtUp := p.State == tracker.StateReplicate && p.Match >= m.GetIndex()
			if !caughtUp && m.GetTerm() == r.hard.Term {
				r.loop.route(r, m)
			}
		}
	}
	clear(r.held)
}

// progress is what a leader knows of a follower.
func (r *replica) progress(id uint64) (found tracker.Progress) {
	r.rn.WithProgress(func(follower uint64, _ raft.ProgressType, p tracker.Progress) {
		if follower == id {
			found = p
		}
	})
	return found
}
