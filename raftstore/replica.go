package raftstore

import (
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// replica is this node's member of one group. Everything in it belongs to the
// owner loop except what group and log guard themselves.
type replica struct {
	loop  *loop
	cfg   GroupConfig
	self  NodeID // the member that this node is
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
	checkpointSize  uint64 // of the state in it, in bytes

	trimDue     bool   // a tick has passed since trim last looked
	trimWritten uint64 // the mark that is on disk
	// compacting is the entry up to which the batch that is being written
	// compacts the log; 0: it does not.
	compacting, compactingTerm uint64

	queued  []proposal // of this turn, not yet stepped
	stepped []proposal // accepted by raft, index not yet known
	waiters []waiter   // in index order
	// staleTicks counts how long waiters have outlived their leadership.
	staleTicks int
	reads      []read
	readsAge   int // ticks since reads was last sent off
	batches    []readBatch
	sends      map[NodeID]*snapshotSend
	receiving  *receiving
	// held are messages that wait for a better one; see holdBack.
	held     map[uint64]*raftpb.Message
	transfer *transfer

	// members is the configuration that is applied; membersChanged: and not yet
	// durable. leaving wait for the end of a joint one.
	members        *raftpb.ConfState
	membersChanged bool
	leaving        []func(error)
	// rebased: the log must not begin at 1, see membership.go.
	rebased bool
	notices map[NodeID]int // ticks for which removed members are told
	// confirmed are the members of whom a majority knows that they are it;
	// confirming: they are being told.
	confirmed, confirming *raftpb.ConfState
	unheard               int  // ticks since a leader was heard
	departed              bool // this node is no member any more
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
	if !r.active && !r.removed && !r.departed {
		r.active = true
		r.loop.active = append(r.loop.active, r)
	}
}

// tick advances the group's clock by one.
func (r *replica) tick() {
	if r.departed {
		return
	}
	r.releaseHeld()
	r.rn.Tick()
	r.trimDue = true
	r.expireReads()
	r.expireWaiters()
	r.tickNotices()
	r.tickSends()
	r.tickReceiving()
	if t := r.transfer; t != nil {
		if t.ticksLeft--; t.ticksLeft <= 0 {
			r.transfer = nil
			t.done(ErrTransferFailed)
		}
	}
}

// step hands one received message to raft.
func (r *replica) step(m *raftpb.Message) {
	switch {
	case r.departed:
		return
	case m.GetTo() != uint64(r.self):
		return // it is for another life of this node in the group
	case m.GetType() == removalNotice:
		r.noticed(m)
		return
	case r.answerStranger(m):
		return
	}
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgHeartbeat, raftpb.MsgSnap:
		r.unheard = 0
	}
	// The errors are about messages that come too late: nothing to do.
	_ = r.rn.Step(m)
}

// collect takes a Ready and adds what must be durable to the batch. It reports
// whether the batch must be synced.
func (r *replica) collect(batch LogBatch) (sync bool) {
	r.rd = r.rn.Ready()
	rd := &r.rd
	r.assignWaiters()
	if ss := rd.SoftState; ss != nil {
		if ss.Lead != r.leader && ss.Lead != 0 {
			r.hurryReads()
		}
		r.role, r.leader = ss.RaftState, ss.Lead
	}
	if hs := rd.HardState; !raft.IsEmptyHardState(hs) {
		r.hard = HardState{Term: hs.GetTerm(), Vote: hs.GetVote(), Commit: hs.GetCommit()}
		r.hardDirty = true
	}
	snap := !raft.IsEmptySnap(rd.Snapshot)
	if snap {
		r.install(batch, rd.Snapshot.GetMetadata())
	}
	if len(rd.Entries) > 0 {
		_, last := r.log.bounds()
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

// persisted takes note that the Ready's changes are durable.
func (r *replica) persisted() error {
	rd := &r.rd
	if !raft.IsEmptySnap(rd.Snapshot) {
		if err := r.installed(); err != nil {
			return err
		}
	}
	r.log.appended(rd.Entries)
	return nil
}

// apply applies what is committed. Rows go into rows.
func (r *replica) apply(rows *rowBatch) error {
	w := rowWriter{batch: rows, group: r.id()}
	for _, e := range r.rd.CommittedEntries {
		index, term := e.GetIndex(), e.GetTerm()
		if index <= r.applied {
			continue // covered by a snapshot in the same Ready
		}
		var result any
		if e.GetType() == raftpb.EntryConfChangeV2 {
			var err error
			if result, err = r.applyChange(e); err != nil {
				return err
			}
		} else if data := e.GetData(); len(data) > 0 && e.GetType() == raftpb.EntryNormal {
			var err error
			if result, err = r.cfg.Machine.Apply(Entry{Index: index, Term: term, Data: data}, &w); err != nil {
				return fmt.Errorf("group %d: log entry %d of term %d cannot be applied: %w", r.id(), index, term, err)
			}
			r.checkpointBytes += uint64(len(data))
		}
		r.applied, r.appliedTerm = index, term
		r.answerUpTo(index, term, result)
	}
	r.loop.counters.Applied.Add(uint64(len(r.rd.CommittedEntries)))
	return nil
}

// failAll ends everything that waits on this replica.
func (r *replica) failAll(reason error) {
	for _, w := range r.waiters {
		r.loop.answer(w, ProposalResult{Err: ErrUnknownResult})
	}
	for _, p := range r.stepped {
		r.loop.answer(waiter{done: p.done}, ProposalResult{Err: ErrUnknownResult})
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
	for _, done := range r.leaving {
		done(ErrUnknownResult)
	}
	r.leaving = nil
	r.dropSends()
	r.receiving = nil
	r.waiters, r.stepped, r.queued, r.reads, r.batches, r.transfer = nil, nil, nil, nil, nil, nil
}

// ready reports whether this node leads and has applied an entry of its term.
func (r *replica) ready() bool {
	return r.role == raft.StateLeader && r.appliedTerm == r.hard.Term
}

// bestSuccessor returns the follower that can take over fastest, or 0.
func (r *replica) bestSuccessor() (best uint64) {
	var match uint64
	r.rn.WithProgress(func(id uint64, typ raft.ProgressType, pr tracker.Progress) {
		if id == uint64(r.self) || typ != raft.ProgressTypePeer || !pr.RecentActive {
			return
		}
		if best == 0 || pr.Match > match {
			best, match = id, pr.Match
		}
	})
	return best
}
