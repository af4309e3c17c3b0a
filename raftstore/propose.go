package raftstore

import (
	"fmt"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// ProposalResult is the answer to a proposal.
type ProposalResult struct {
	// Value is what Machine.Apply returned.
	Value any
	// Index is the log index of the entry.
	Index uint64
	Err   error
}

// proposal waits to be handed to Raft.
type proposal struct {
	data []byte
	// term is the only term in which the proposal may be appended; 0 is any.
	term uint64
	// conf: data is a change of members.
	conf bool
	done func(ProposalResult)
}

// waiter waits for the entry (index, term) to be applied.
type waiter struct {
	index, term uint64
	taken       time.Duration // when the loop took the proposal
	done        func(ProposalResult)
}

// propose hands everything queued to raft in as few MsgProp as the size limit
// allows: each one is sent to the followers by itself.
func (r *replica) propose() {
	const maxEntries = 4096
	queued := r.queued
	for len(queued) > 0 {
		n, size := 0, 0
		for n < len(queued) && n < maxEntries {
			if size += len(queued[n].data); n > 0 && size > r.loop.proposalBatchBytes {
				break
			}
			n++
		}
		r.proposeBatch(queued[:n])
		queued = queued[n:]
	}
	clear(r.queued)
	r.queued = r.queued[:0]
}

func (r *replica) proposeBatch(batch []proposal) {
	term := r.rn.BasicStatus().GetTerm()
	from := len(r.stepped)
	r.propEntries = r.propEntries[:0]
	for _, p := range batch {
		r.group.queuedBytes.Add(-int64(len(p.data)))
		if p.term != 0 && p.term != term {
			r.loop.refuse(p, r.notLeader())
			continue
		}
		e := &raftpb.Entry{Data: p.data}
		if p.conf {
			e.Type = raftpb.EntryConfChangeV2.Enum()
		}
		r.propEntries = append(r.propEntries, e)
		r.stepped = append(r.stepped, p)
	}
	if len(r.propEntries) == 0 {
		return
	}
	self := uint64(r.self)
	err := r.rn.Step(&raftpb.Message{Type: raftpb.MsgProp.Enum(), From: &self, Entries: r.propEntries})
	clear(r.propEntries) // raft appends clones
	if err == nil {
		return
	}
	reason := r.dropReason()
	for _, p := range r.stepped[from:] {
		r.loop.refuse(p, reason)
	}
	clear(r.stepped[from:])
	r.stepped = r.stepped[:from]
}

// dropReason says why raft did not take a proposal.
func (r *replica) dropReason() error {
	st := r.rn.BasicStatus()
	switch {
	case st.RaftState != raft.StateLeader:
		return &NotLeaderError{Group: r.id(), Leader: NodeID(st.Lead).Process()}
	case st.LeadTransferee != 0: // about to lead; the hint saves a round
		return &NotLeaderError{Group: r.id(), Leader: NodeID(st.LeadTransferee).Process()}
	default:
		return ErrOverloaded
	}
}

func (r *replica) notLeader() error {
	return &NotLeaderError{Group: r.id(), Leader: NodeID(r.rn.BasicStatus().Lead).Process()}
}

// assignWaiters learns the indexes of this turn's proposals: raft appended
// them last, so they are the tail of the Ready's new entries.
func (r *replica) assignWaiters() {
	n := len(r.stepped)
	if n == 0 {
		return
	}
	if n > len(r.rd.Entries) {
		panic(fmt.Sprintf("raftstore: group %d: %d proposals accepted, %d entries appended", r.id(), n, len(r.rd.Entries)))
	}
	appended := r.rd.Entries[len(r.rd.Entries)-n:]
	r.dropReplaced(appended[0].GetIndex())
	for i, e := range appended {
		if done := r.stepped[i].done; done != nil {
			r.waiters = append(r.waiters, waiter{index: e.GetIndex(), term: e.GetTerm(), taken: r.loop.taken, done: done})
		}
	}
	clear(r.stepped)
	r.stepped = r.stepped[:0]
}

// dropReplaced ends waiters of an earlier term at indexes this node, leading
// again, now writes anew. Their entries may still come to be: another member
// may hold them and be elected before ours are committed. It keeps waiters in
// index order.
func (r *replica) dropReplaced(first uint64) {
	n := len(r.waiters)
	for n > 0 && r.waiters[n-1].index >= first {
		n--
		r.loop.answer(r.waiters[n], ProposalResult{Err: ErrUnknownResult})
	}
	clear(r.waiters[n:])
	r.waiters = r.waiters[:n]
}

// answerUpTo answers the waiter of the entry just applied. A waiter at this
// index with another term lost: another entry is committed in its place, so it
// surely has no effect.
func (r *replica) answerUpTo(index, term uint64, result any) {
	n := 0
	for ; n < len(r.waiters) && r.waiters[n].index <= index; n++ {
		w := r.waiters[n]
		switch {
		case w.index == index && w.term == term:
			r.loop.answer(w, ProposalResult{Value: result, Index: index})
		case w.index == index:
			r.loop.answer(w, ProposalResult{Err: &NotLeaderError{Group: r.id(), Leader: NodeID(r.leader).Process()}})
		default: // jumped over by a snapshot
			r.loop.answer(w, ProposalResult{Err: ErrUnknownResult})
		}
	}
	r.dropWaiters(n)
}

func (r *replica) dropWaiters(n int) {
	if n == 0 {
		return
	}
	clear(r.waiters[:n])
	r.waiters = r.waiters[n:] // append moves the rest when it needs room
}

// expireWaiters ends the waiters whose entries this node no longer leads, after
// half an election timeout of grace: a successor usually commits them, and then
// the result is known after all.
func (r *replica) expireWaiters() {
	n := 0
	for ; n < len(r.waiters); n++ {
		if r.role == raft.StateLeader && r.waiters[n].term == r.hard.Term {
			break
		}
	}
	if n == 0 {
		r.staleTicks = 0
		return
	}
	if r.staleTicks++; r.staleTicks <= r.loop.cfg.ElectionTicks/2 {
		return
	}
	r.staleTicks = 0
	for _, w := range r.waiters[:n] {
		r.loop.answer(w, ProposalResult{Err: ErrUnknownResult})
	}
	r.dropWaiters(n)
}
