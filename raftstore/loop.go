package raftstore

import (
	"cmp"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// loop drives all groups. It is a plain object: inputs in, writes, messages
// and answers out. Nothing in it waits or reads a clock, except that a write
// may take its time and is timed for the watchdog and metrics.
type loop struct {
	cfg      Config
	counters *counters
	replicas map[GroupID]*replica
	order    []*replica // by group id
	active   []*replica // may have a Ready
	// departing are no members any more and end with this pass.
	departing []*replica
	complete  []*replica // have received a snapshot in this turn

	readSeq     uint64
	incarnation uint64
	sendSeq     uint64

	proposalBatchBytes int

	// Scratch space of one turn.
	collected []*replica
	out       []peerQueue
	answers   []pendingAnswer
	readsDone []pendingRead

	ticks uint64
	diskWatch
	onDrained func() // called once no group with other members is led here
	failed    error
	// dead is set when the store failed or was closed; callers read it.
	dead  atomic.Bool
	began time.Time // when the loop was made
	// taken is how long after that the last turn that took proposals took them.
	taken time.Duration
	// writingSince is how long after that the current write began, in
	// nanoseconds, 0 between writes; the watchdog reads it.
	writingSince atomic.Int64
	// later runs a call in the loop, unless it is over (false).
	later func(call func()) bool
	// background runs what reads from the disk for a long time outside of the loop.
	background func(fn func())
	// snapshotBudget is how many bytes of snapshots may still be sent in this
	// tick; below 0: the next ones pay for it.
	snapshotBudget int64
}

type peerQueue struct {
	to   NodeID
	msgs []Message
}

type pendingAnswer struct {
	done   func(ProposalResult)
	result ProposalResult
	taken  time.Duration // of its proposal, see loop.taken
}

// unmeasured stands for the time of an answer that is none to a proposal.
const unmeasured time.Duration = -1

type pendingRead struct {
	read  read
	index uint64
}

// inputs is everything that arrived between two turns.
type inputs struct {
	calls     []func()
	messages  []Message
	chunks    []receivedChunk
	proposals []groupProposal
	reads     []groupRead
	ticks     int
}

type groupProposal struct {
	group *Group
	proposal
}

type groupRead struct {
	group *Group
	read
}

func newLoop(cfg Config, c *counters, incarnation uint64) *loop {
	return &loop{
		cfg: cfg, counters: c, incarnation: incarnation, began: cfg.Runtime.Now(),
		replicas:           make(map[GroupID]*replica),
		proposalBatchBytes: int(min(4<<20, max(cfg.MaxUncommittedBytes/4, 1))),
	}
}

// turn takes the inputs and does one pass: collect, write, send, apply,
// answer. It reports whether there is more to do at once.
//
// Messages go before ticks: after a long write the leader's heartbeats are
// already here, and time that passed meanwhile must not start an election.
// Proposals come last because assignWaiters relies on nothing being appended
// after them.
func (l *loop) turn(in *inputs) (more bool) {
	for _, call := range in.calls {
		call()
	}
	if l.failed != nil {
		l.refuseInputs(in, ErrStopped)
		return false
	}
	for _, m := range in.messages {
		if r := l.replicas[m.Group]; r != nil && !l.refuses(m.Raft) {
			r.step(m.Raft)
			r.touch()
		}
	}
	l.counters.MessagesReceived.Add(uint64(len(in.messages)))
	for _, c := range in.chunks {
		l.receiveChunk(c)
	}
	for range in.ticks {
		l.tick()
	}
	l.takeProposals(in.proposals)
	for _, q := range in.reads {
		r := q.group.replica
		if r.removed {
			q.done(0, ErrGroupNotFound)
			continue
		}
		if r.departed {
			q.done(0, ErrNotMember)
			continue
		}
		r.reads = append(r.reads, q.read)
		r.touch()
	}
	l.pass()
	l.dropUnwanted()
	return len(l.active) > 0
}

func (l *loop) takeProposals(proposals []groupProposal) {
	if len(proposals) > 0 {
		l.taken = l.cfg.Runtime.Since(l.began)
	}
	for _, p := range proposals {
		r := p.group.replica
		var refused error
		switch {
		case r.removed:
			refused = ErrGroupNotFound
		case r.departed:
			refused = ErrNotMember
		case l.diskLow:
			refused = ErrDiskLow
		}
		if refused != nil {
			p.group.queuedBytes.Add(-int64(len(p.data)))
			l.refuse(p.proposal, refused)
			continue
		}
		r.queued = append(r.queued, p.proposal)
		r.touch()
	}
	l.counters.Proposals.Add(uint64(len(proposals)))
	for _, r := range l.active {
		if len(r.queued) > 0 {
			r.propose()
		}
	}
}

// refuseInputs answers inputs that can not be taken any more.
func (l *loop) refuseInputs(in *inputs, reason error) {
	for _, p := range in.proposals {
		p.group.queuedBytes.Add(-int64(len(p.data)))
		l.refuse(p.proposal, reason)
	}
	for _, q := range in.reads {
		q.done(0, reason)
	}
	for _, c := range in.chunks {
		c.done(SnapshotAnswer{Err: reason})
	}
}

func (l *loop) tick() {
	l.ticks++
	l.watchDisk()
	l.tickSnapshotBudget()
	for _, r := range l.order {
		r.tick()
		r.touch()
	}
}

// pass handles one Ready of every active group with one write for all.
func (l *loop) pass() {
	batch := l.cfg.Log.NewBatch()
	sync := false
	l.collected = l.collected[:0]
	for _, r := range l.active {
		r.active = false
		if r.removed {
			continue
		}
		if r.trimDue {
			if err := r.trim(batch); err != nil {
				l.fail(err)
				return
			}
		}
		if r.canStartReads() {
			r.startReads()
		}
		if !r.rn.HasReady() {
			continue
		}
		if r.collect(batch) {
			sync = true
		}
		l.collected = append(l.collected, r)
		for _, m := range r.rd.Messages {
			if leavesBeforeSync(m.GetType()) && !r.holdBack(m) {
				l.route(r, m)
			}
		}
	}
	l.send()

	if !l.commit(batch, sync) {
		return
	}
	for _, r := range l.active {
		r.compacted()
	}
	clear(l.active)
	l.active = l.active[:0]
	for _, r := range l.collected {
		if err := r.persisted(); err != nil {
			l.fail(err)
			return
		}
		for _, m := range r.rd.Messages {
			if !leavesBeforeSync(m.GetType()) {
				l.route(r, m)
			}
		}
	}
	l.send()
	l.finishPass()
}

// finishPass applies, makes rows visible and answers.
func (l *loop) finishPass() {
	rows := rowBatch{store: l.cfg.Log}
	for _, r := range l.collected {
		if len(r.rd.CommittedEntries) > 0 {
			if err := r.apply(&rows); err != nil {
				l.fail(err)
				return
			}
			if rows.batch != nil {
				r.writeHard(rows.batch)
			}
		}
	}
	if rows.batch != nil && !l.commit(rows.batch, false) {
		return
	}
	for _, r := range l.collected {
		if err := r.takeMembers(); err != nil {
			l.fail(err)
			return
		}
		r.finishReads()
		r.rn.Advance(r.rd)
		r.rd = raft.Ready{}
		if err := r.maybeCheckpoint(); err != nil {
			l.fail(err)
			return
		}
		r.publish()
		if r.rn.HasReady() || r.canStartReads() {
			r.touch()
		}
	}
	for _, r := range l.departing {
		r.depart()
	}
	clear(l.departing)
	l.departing = l.departing[:0]
	l.deliver()
	l.checkDrained()
}

// leavesBeforeSync says which messages may be sent before this turn's write is
// durable: those whose truth does not depend on it. See the package comment
// for why vote requests are not among them.
func leavesBeforeSync(t raftpb.MessageType) bool {
	switch t {
	case raftpb.MsgApp, raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp,
		raftpb.MsgReadIndex, raftpb.MsgReadIndexResp, raftpb.MsgTimeoutNow:
		return true
	}
	return false
}

// commit writes a batch. It reports false after a failure, which ends the
// store.
func (l *loop) commit(batch LogBatch, sync bool) bool {
	if batch.Empty() {
		return true
	}
	start := l.cfg.Runtime.Now()
	l.writingSince.Store(max(int64(start.Sub(l.began)), 1))
	err := l.cfg.Log.Commit(batch, sync)
	l.writingSince.Store(0)
	if err != nil {
		l.fail(fmt.Errorf("write raft log: %w", err))
		return false
	}
	l.counters.Batches.Add(1)
	if sync {
		l.counters.fsync.observe(l.cfg.Runtime.Since(start))
	}
	return true
}

// writingFor returns how long the current write has been under way; 0 between
// writes. It may be called by anybody.
func (l *loop) writingFor() time.Duration {
	since := l.writingSince.Load()
	if since == 0 {
		return 0
	}
	return l.cfg.Runtime.Since(l.began) - time.Duration(since)
}

// route queues a message for its peer.
func (l *loop) route(r *replica, m *raftpb.Message) {
	if m.GetType() == raftpb.MsgSnap {
		l.sendSnapshot(r, NodeID(m.GetTo()), m)
		return
	}
	to := NodeID(m.GetTo()).Process()
	i, ok := slices.BinarySearchFunc(l.out, to, func(q peerQueue, id NodeID) int { return cmp.Compare(q.to, id) })
	if !ok {
		l.out = slices.Insert(l.out, i, peerQueue{to: to})
	}
	l.out[i].msgs = append(l.out[i].msgs, Message{Group: r.id(), Raft: m})
}

// send empties the peer queues into the transport.
func (l *loop) send() {
	for i := range l.out {
		q := &l.out[i]
		if len(q.msgs) == 0 {
			continue
		}
		if err := l.cfg.Transport.Send(q.to, q.msgs); err != nil {
			l.unreachable(q)
		} else {
			l.counters.MessagesSent.Add(uint64(len(q.msgs)))
			l.counters.FramesSent.Add(1)
		}
		clear(q.msgs)
		q.msgs = q.msgs[:0]
	}
}

// unreachable tells the groups whose messages were dropped, so that leaders
// fall back to probing instead of assuming the appends arrived.
func (l *loop) unreachable(q *peerQueue) {
	l.counters.MessagesDropped.Add(uint64(len(q.msgs)))
	last := GroupID(0)
	for _, m := range q.msgs {
		if m.Group == last {
			continue
		}
		last = m.Group
		if r := l.replicas[m.Group]; r != nil {
			r.rn.ReportUnreachable(m.Raft.GetTo())
		}
	}
}

// answer gives a result once this pass's rows are visible.
func (l *loop) answer(w waiter, result ProposalResult) {
	if w.done != nil {
		l.answers = append(l.answers, pendingAnswer{done: w.done, result: result, taken: w.taken})
	}
}

func (l *loop) answerRead(q read, index uint64) {
	l.readsDone = append(l.readsDone, pendingRead{q, index})
}

// refuse answers a proposal that surely has no effect.
func (l *loop) refuse(p proposal, reason error) {
	l.counters.refused(reason)
	if p.done != nil {
		p.done(ProposalResult{Err: reason})
	}
}

// passTime is the time against which answers are measured; without any it is not
// asked for.
func (l *loop) passTime() time.Duration {
	if len(l.answers) == 0 {
		return 0
	}
	return l.cfg.Runtime.Since(l.began)
}

func (l *loop) deliver() {
	now := l.passTime()
	for _, a := range l.answers {
		if a.result.Err == nil && a.taken != unmeasured {
			l.counters.committed.observe(now - a.taken)
		}
		a.done(a.result)
	}
	for _, q := range l.readsDone {
		q.read.done(q.index, nil)
	}
	clear(l.answers)
	clear(l.readsDone)
	l.answers, l.readsDone = l.answers[:0], l.readsDone[:0]
}

// fail ends the loop after an error that leaves nothing to rely on. What was
// applied in this pass stays unanswered as far as it is not yet answered: its
// rows may not be visible.
func (l *loop) fail(err error) {
	if l.failed != nil {
		return
	}
	l.failed = err
	l.dead.Store(true)
	l.cfg.Logger.Error("raft store stops", "error", err)
	for i := range l.answers {
		l.answers[i].result = ProposalResult{Err: ErrUnknownResult}
	}
	for _, q := range l.readsDone {
		q.read.done(0, ErrStopped)
	}
	l.readsDone = nil
	l.stopAll()
	if l.cfg.Manual {
		l.cfg.OnFatal(err)
	} else {
		l.cfg.Runtime.Go(func() { l.cfg.OnFatal(err) })
	}
}

// stopAll ends everything that waits.
func (l *loop) stopAll() {
	for _, r := range l.order {
		r.failAll(ErrStopped)
		r.role, r.leader = raft.StateFollower, 0
		r.publish()
	}
	l.deliver()
	if l.onDrained != nil {
		l.onDrained()
		l.onDrained = nil
	}
}
