package raftstore

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
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
	done func(ProposalResult)
}

// waiter waits for the entry (index, term) to be applied.
type waiter struct {
	index, term uint64
	done        func(ProposalResult)
}

// read waits for a linearizable read index.
type read struct {
	done func(index uint64, err error)
}

// readBatch is a set of reads that share one round of heartbeats.
type readBatch struct {
	ctx       string // unique for ever: a reused one could return an old index
	reads     []read
	index     uint64 // valid once confirmed
	confirmed bool
	age       int // ticks since the context was sent
	tries     int
}

// snapshotSend is a MsgSnap on its way to a follower.
type snapshotSend struct {
	id uint64 // tells a late report from the current one
	// ticksLeft counts down to the moment raft hears of the failure: the
	// timeout while the transfer runs, a pause after it failed.
	ticksLeft int
}

// replica is this node's member of one group. Everything in it belongs to the
// owner loop except what group and log guard themselves.
type replica struct {
	loop  *loop
	cfg   GroupConfig
	rn    *raft.RawNode
	log   *groupLog
	group *Group

	active  bool // queued for the next pass over Readys
	removed bool
	rd      raft.Ready

	role      raft.StateType
	leader    uint64
	hard      HardState
	hardDirty bool // hard.Commit is ahead of what was written

	applied     uint64
	appliedTerm uint64

	checkpointIndex uint64
	checkpointBytes uint64 // entry data applied since

	queued   []proposal // of this turn, not yet stepped
	stepped  []proposal // accepted by raft, index not yet known
	waiters  []waiter   // in index order
	reads    []read
	batches  []readBatch
	sends    map[NodeID]snapshotSend
	transfer *transfer
	// propEntries is scratch space for one MsgProp.
	propEntries []*raftpb.Entry
}

// transfer is a leadership transfer somebody waits for.
type transfer struct {
	to        uint64
	ticksLeft int
	done      func(error)
}

func (r *replica) id() GroupID { return r.cfg.ID }

func (r *replica) touch() {
	if !r.active && !r.removed {
		r.active = true
		r.loop.active = append(r.loop.active, r)
	}
}

// tick advances the group's clock by one.
func (r *replica) tick() {
	r.rn.Tick()
	for i := range r.batches {
		r.batches[i].age++
	}
	r.expireReads()
	for _, to := range slices.Sorted(maps.Keys(r.sends)) {
		s := r.sends[to]
		if s.ticksLeft--; s.ticksLeft > 0 {
			r.sends[to] = s
			continue
		}
		delete(r.sends, to)
		r.rn.ReportSnapshot(uint64(to), raft.SnapshotFailure)
	}
	if t := r.transfer; t != nil {
		if t.ticksLeft--; t.ticksLeft <= 0 {
			r.transfer = nil
			t.done(ErrTransferFailed)
		}
	}
}

// step hands one received message to raft.
func (r *replica) step(m *raftpb.Message) {
	// The errors are about messages that come too late: nothing to do.
	_ = r.rn.Step(m)
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
		r.propEntries = append(r.propEntries, &raftpb.Entry{Data: p.data})
		r.stepped = append(r.stepped, p)
	}
	if len(r.propEntries) == 0 {
		return
	}
	self := uint64(r.loop.cfg.NodeID)
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
		return &NotLeaderError{Group: r.id(), Leader: NodeID(st.Lead)}
	case st.LeadTransferee != 0: // about to lead; the hint saves a round
		return &NotLeaderError{Group: r.id(), Leader: NodeID(st.LeadTransferee)}
	default:
		return ErrOverloaded
	}
}

func (r *replica) notLeader() error {
	return &NotLeaderError{Group: r.id(), Leader: NodeID(r.rn.BasicStatus().Lead)}
}

// collect takes a Ready and adds what must be durable to the batch. It reports
// whether the batch must be synced.
func (r *replica) collect(batch LogBatch) (sync bool) {
	r.rd = r.rn.Ready()
	rd := &r.rd
	r.assignWaiters()
	if ss := rd.SoftState; ss != nil {
		r.role, r.leader = ss.RaftState, ss.Lead
	}
	if hs := rd.HardState; !raft.IsEmptyHardState(hs) {
		r.hard = HardState{Term: hs.GetTerm(), Vote: hs.GetVote(), Commit: hs.GetCommit()}
		r.hardDirty = true
	}
	snap := !raft.IsEmptySnap(rd.Snapshot)
	if snap {
		s := Snapshot{
			Index: rd.Snapshot.GetMetadata().GetIndex(),
			Term:  rd.Snapshot.GetMetadata().GetTerm(),
			Data:  rd.Snapshot.GetData(),
		}
		batch.Reset(r.id(), s.Index, s.Term)
		batch.SetSnapshot(r.id(), s)
		batch.SetMembers(r.id(), rd.Snapshot.GetMetadata().GetConfState())
	}
	if len(rd.Entries) > 0 {
		_, last := r.log.bounds()
		if snap {
			last = rd.Snapshot.GetMetadata().GetIndex()
		}
		batch.Append(r.id(), rd.Entries, last)
		r.loop.counters.Entries.Add(uint64(len(rd.Entries)))
	}
	if sync = rd.MustSync || snap; sync {
		r.writeHard(batch)
	}
	return sync
}

// writeHard adds the hard state if it changed since it was last written.
func (r *replica) writeHard(batch LogBatch) {
	if r.hardDirty {
		batch.SetHardState(r.id(), r.hard)
		r.hardDirty = false
	}
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
	for i, e := range r.rd.Entries[len(r.rd.Entries)-n:] {
		if done := r.stepped[i].done; done != nil {
			r.waiters = append(r.waiters, waiter{index: e.GetIndex(), term: e.GetTerm(), done: done})
		}
	}
	clear(r.stepped)
	r.stepped = r.stepped[:0]
}

// persisted takes note that the Ready's changes are durable.
func (r *replica) persisted() error {
	rd := &r.rd
	if !raft.IsEmptySnap(rd.Snapshot) {
		meta := rd.Snapshot.GetMetadata()
		index, term := meta.GetIndex(), meta.GetTerm()
		r.log.reset(index, term)
		if err := r.cfg.Machine.Restore(index, rd.Snapshot.GetData()); err != nil {
			return fmt.Errorf("group %d: restore received snapshot at %d: %w", r.id(), index, err)
		}
		r.applied, r.appliedTerm = index, term
		r.checkpointIndex, r.checkpointBytes = index, 0
		r.loop.counters.SnapshotsReceived.Add(1)
	}
	r.log.appended(rd.Entries)
	return nil
}

// apply applies what is committed. Rows go into rows.
func (r *replica) apply(rows *rowBatch) {
	w := rowWriter{batch: rows, group: r.id()}
	for _, e := range r.rd.CommittedEntries {
		index, term := e.GetIndex(), e.GetTerm()
		if index <= r.applied {
			continue // covered by a snapshot in the same Ready
		}
		var result any
		if data := e.GetData(); len(data) > 0 && e.GetType() == raftpb.EntryNormal {
			result = r.cfg.Machine.Apply(Entry{Index: index, Term: term, Data: data}, &w)
			r.checkpointBytes += uint64(len(data))
		}
		r.applied, r.appliedTerm = index, term
		r.answerUpTo(index, term, result)
	}
	r.loop.counters.Applied.Add(uint64(len(r.rd.CommittedEntries)))
}

// answerUpTo answers the waiter of the entry just applied. A waiter at this
// index with another term lost: its entry was replaced and surely has no
// effect.
func (r *replica) answerUpTo(index, term uint64, result any) {
	n := 0
	for ; n < len(r.waiters) && r.waiters[n].index <= index; n++ {
		w := r.waiters[n]
		switch {
		case w.index == index && w.term == term:
			r.loop.answer(w.done, ProposalResult{Value: result, Index: index})
		case w.index == index:
			r.loop.answer(w.done, ProposalResult{Err: &NotLeaderError{Group: r.id(), Leader: NodeID(r.leader)}})
		default: // jumped over by a snapshot
			r.loop.answer(w.done, ProposalResult{Err: ErrUnknownResult})
		}
	}
	r.dropWaiters(n)
}

func (r *replica) dropWaiters(n int) {
	if n == 0 {
		return
	}
	rest := copy(r.waiters, r.waiters[n:])
	clear(r.waiters[rest:])
	r.waiters = r.waiters[:rest]
}

// failStale ends the waiters whose entries this node no longer leads.
func (r *replica) failStale() {
	n := 0
	for ; n < len(r.waiters); n++ {
		w := r.waiters[n]
		if r.role == raft.StateLeader && w.term == r.hard.Term {
			break
		}
		r.loop.answer(w.done, ProposalResult{Err: ErrUnknownResult})
	}
	r.dropWaiters(n)
}

// failAll ends everything that waits on this replica.
func (r *replica) failAll(reason error) {
	for _, w := range r.waiters {
		r.loop.answer(w.done, ProposalResult{Err: ErrUnknownResult})
	}
	for _, p := range r.stepped {
		r.loop.answer(p.done, ProposalResult{Err: ErrUnknownResult})
	}
	for _, p := range r.queued {
		r.group.queuedBytes.Add(-int64(len(p.data)))
		r.loop.refuse(p, reason)
	}
	for _, q := range r.reads {
		q.done(0, reason)
	}
	for _, b := range r.batches {
		for _, q := range b.reads {
			q.done(0, reason)
		}
	}
	if t := r.transfer; t != nil {
		t.done(reason)
	}
	r.waiters, r.stepped, r.queued, r.reads, r.batches, r.transfer = nil, nil, nil, nil, nil, nil
}

// ready reports whether this node leads and has applied an entry of its term.
func (r *replica) ready() bool {
	return r.role == raft.StateLeader && r.appliedTerm == r.hard.Term
}

// maxReadRounds bounds the read batches under way, so that under load reads
// gather into few rounds of heartbeats.
const maxReadRounds = 4

// canStartReads reports whether a batch of reads is waiting and may be sent. A
// leader that has not yet committed in its term must wait: in a group of one,
// raft would answer at once with a commit index that may lag behind what was
// acknowledged before a restart.
func (r *replica) canStartReads() bool {
	return len(r.reads) > 0 && len(r.batches) < maxReadRounds &&
		(r.ready() || r.rn.BasicStatus().RaftState != raft.StateLeader)
}

// startReads sends the waiting reads as one batch.
func (r *replica) startReads() {
	b := readBatch{ctx: r.loop.readContext(), reads: r.reads}
	r.reads = nil
	r.batches = append(r.batches, b)
	r.rn.ReadIndex([]byte(b.ctx))
	r.loop.counters.ReadRounds.Add(1)
}

// expireReads repeats, under a new context, batches that got no answer, and
// gives up on them after a few election timeouts.
func (r *replica) expireReads() {
	const maxTries = 6
	cfg := &r.loop.cfg
	kept := r.batches[:0]
	for _, b := range r.batches {
		if !b.confirmed && b.age > cfg.ElectionTicks/2 {
			if b.tries++; b.tries >= maxTries {
				for _, q := range b.reads {
					q.done(0, r.notLeader())
				}
				continue
			}
			b.age, b.ctx = 0, r.loop.readContext()
			r.rn.ReadIndex([]byte(b.ctx))
		}
		kept = append(kept, b)
	}
	clear(r.batches[len(kept):])
	r.batches = kept
}

// finishReads answers the batches whose index is confirmed and applied.
func (r *replica) finishReads() {
	for _, s := range r.rd.ReadStates {
		for i := range r.batches {
			if b := &r.batches[i]; b.ctx == string(s.RequestCtx) {
				b.index, b.confirmed = s.Index, true
			}
		}
	}
	kept := r.batches[:0]
	for _, b := range r.batches {
		if !b.confirmed || b.index > r.applied {
			kept = append(kept, b)
			continue
		}
		for _, q := range b.reads {
			r.loop.answerRead(q, b.index)
		}
	}
	clear(r.batches[len(kept):])
	r.batches = kept
}

// bestSuccessor returns the follower that can take over fastest, or 0.
func (r *replica) bestSuccessor() (best uint64) {
	var match uint64
	r.rn.WithProgress(func(id uint64, typ raft.ProgressType, pr tracker.Progress) {
		if id == uint64(r.loop.cfg.NodeID) || typ != raft.ProgressTypePeer || !pr.RecentActive {
			return
		}
		if best == 0 || pr.Match > match {
			best, match = id, pr.Match
		}
	})
	return best
}

// readContext makes a context that no read of any incarnation of any node had
// before.
func (l *loop) readContext() string {
	var b [24]byte
	l.readSeq++
	binary.BigEndian.PutUint64(b[0:], uint64(l.cfg.NodeID))
	binary.BigEndian.PutUint64(b[8:], l.incarnation)
	binary.BigEndian.PutUint64(b[16:], l.readSeq)
	return string(b[:])
}
