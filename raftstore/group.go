package raftstore

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/oncelog/oncelog/internal/task"
)

// Status is what this node knows of a group.
type Status struct {
	ID     GroupID
	NodeID NodeID
	// Members are the voters. They must not be modified.
	Members []NodeID
	// Role is "leader", "follower", "candidate" or "pre-candidate".
	Role string
	Leadership
	// Commit and Applied are log indexes, inclusive.
	Commit, Applied uint64
	// FirstIndex and LastIndex bound the local log, inclusive.
	FirstIndex, LastIndex uint64
	// QueuedBytes are of proposals that were not handed to Raft yet.
	QueuedBytes int64
}

// Group is a handle to this node's member of a group. It is safe for
// concurrent use.
type Group struct {
	store   *Store
	replica *replica
	id      GroupID
	log     *groupLog

	queuedBytes atomic.Int64
	applied     atomic.Uint64
	trim        atomic.Uint64 // the highest index that Trim was given

	mu      sync.Mutex
	members []NodeID // the voters; replaced, never changed
	lead    Leadership
	role    raft.StateType
	commit  uint64
	changed chan struct{} // closed at the next change of lead
}

func newGroup(s *Store, r *replica) *Group {
	return &Group{store: s, replica: r, id: r.id(), log: r.log, changed: make(chan struct{})}
}

// setMembers shows the voters to the handle's users.
func (g *Group) setMembers(cs *raftpb.ConfState) {
	members := make([]NodeID, 0, len(cs.GetVoters()))
	for _, v := range cs.GetVoters() {
		members = append(members, NodeID(v))
	}
	slices.Sort(members)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.members = members
}

// publish makes the replica's state visible to the handle's users and reports
// a change of leadership.
func (r *replica) publish() {
	g := r.group
	lead := Leadership{
		Leader: NodeID(r.leader).Process(), Term: r.hard.Term,
		IsLeader: r.role == raft.StateLeader, Ready: r.ready(),
	}
	g.applied.Store(r.applied)
	g.mu.Lock()
	g.role, g.commit = r.role, r.hard.Commit
	changed := lead != g.lead
	if lead.Leader != 0 && lead.Leader != g.lead.Leader {
		r.loop.counters.LeaderChanges.Add(1)
	}
	if changed {
		g.lead = lead
		close(g.changed)
		g.changed = make(chan struct{})
	}
	g.mu.Unlock()
	if r.role != raft.StateLeader {
		r.dropSends()
		for _, done := range r.leaving { // whoever leads now completes the change
			done(ErrUnknownResult)
		}
		r.leaving = nil
	}
	if !changed {
		return
	}
	if t := r.transfer; t != nil && (r.leader == t.to || r.leader != 0 && r.role != raft.StateLeader) {
		r.transfer = nil
		var err error
		if r.leader != t.to {
			err = ErrTransferFailed
		}
		t.done(err)
	}
	r.cfg.OnLeadership(lead)
}

// ID returns the group's id.
func (g *Group) ID() GroupID { return g.id }

// Status returns the current status.
func (g *Group) Status() Status {
	first, last := g.log.bounds()
	g.mu.Lock()
	defer g.mu.Unlock()
	return Status{
		ID: g.id, NodeID: g.store.cfg.NodeID, Members: g.members,
		Role: roleName(g.role), Leadership: g.lead,
		Commit: g.commit, Applied: g.applied.Load(), FirstIndex: first, LastIndex: last,
		QueuedBytes: g.queuedBytes.Load(),
	}
}

func roleName(s raft.StateType) string {
	switch s {
	case raft.StateLeader:
		return "leader"
	case raft.StateCandidate:
		return "candidate"
	case raft.StatePreCandidate:
		return "pre-candidate"
	default:
		return "follower"
	}
}

// Leadership returns who leads.
func (g *Group) Leadership() Leadership {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lead
}

// LeadershipChanged returns who leads now and a channel that is closed at the
// next change of it.
func (g *Group) LeadershipChanged() (Leadership, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lead, g.changed
}

// WaitLeadership waits until the leadership satisfies ok and returns it.
func (g *Group) WaitLeadership(ctx context.Context, ok func(Leadership) bool) (Leadership, error) {
	for {
		lead, changed := g.LeadershipChanged()
		if ok(lead) {
			return lead, nil
		}
		switch g.store.cfg.Runtime.Wait(changed, g.store.stopped, ctx.Done()) {
		case 1:
			return lead, ErrStopped
		case 2:
			return lead, ctx.Err()
		}
	}
}

// Applied returns the index of the last applied entry.
func (g *Group) Applied() uint64 { return g.applied.Load() }

// ProposeAsync queues a proposal; done is called exactly once, from the owner
// loop or inline, and must not block. Proposals of one goroutine to one group
// are appended in the order of the calls, if they are appended. data must not
// be modified before done is called; from then on it is the caller's again.
//
// A term above 0 makes the proposal conditional: it is appended only while
// this node leads in that very term. A caller that computed data from the
// state of its term as leader needs that.
//
// Errors: *NotLeaderError, ErrOverloaded, ErrProposalTooLarge,
// ErrProposalEmpty, ErrStopped and ErrGroupNotFound mean that the proposal
// surely has no effect; ErrUnknownResult that it may still have one.
func (g *Group) ProposeAsync(data []byte, term uint64, done func(ProposalResult)) {
	if err := g.admit(data); err != nil {
		g.store.counters.refused(err)
		done(ProposalResult{Err: err})
		return
	}
	if !g.store.in.addProposal(groupProposal{g, proposal{data: data, term: term, done: done}}) {
		g.queuedBytes.Add(-int64(len(data)))
		g.store.counters.refused(ErrStopped)
		done(ProposalResult{Err: ErrStopped})
	}
}

// admit checks a proposal against the limits and counts it as queued.
func (g *Group) admit(data []byte) error {
	switch {
	case len(data) == 0:
		return ErrProposalEmpty
	case len(data) > g.store.cfg.MaxProposalBytes:
		return ErrProposalTooLarge
	case g.store.loop.dead.Load():
		return ErrStopped
	}
	if lead := g.Leadership(); !lead.IsLeader {
		return &NotLeaderError{Group: g.id, Leader: lead.Leader}
	}
	if q := g.queuedBytes.Add(int64(len(data))); q > g.store.cfg.MaxQueuedProposalBytes && q != int64(len(data)) {
		g.queuedBytes.Add(-int64(len(data)))
		return ErrOverloaded
	}
	return nil
}

// Propose appends data to the group's log and waits until it is applied here.
// It returns what Machine.Apply returned and the entry's index. The errors are
// those of ProposeAsync, and the context's, after which the proposal may still
// take effect.
func (g *Group) Propose(ctx context.Context, data []byte) (result any, index uint64, err error) {
	return g.ProposeInTerm(ctx, 0, data)
}

// ProposeInTerm is Propose with ProposeAsync's condition on the term.
func (g *Group) ProposeInTerm(ctx context.Context, term uint64, data []byte) (result any, index uint64, err error) {
	ch := make(chan ProposalResult, 1)
	g.ProposeAsync(data, term, func(res ProposalResult) { ch <- res })
	res, stopped := task.Receive(g.store.cfg.Runtime, ch, ctx.Done())
	if stopped >= 0 {
		return nil, 0, ctx.Err()
	}
	return res.Value, res.Index, res.Err
}

// ReadIndexAsync is ReadIndex with a callback that must not block.
func (g *Group) ReadIndexAsync(done func(index uint64, err error)) {
	if !g.store.in.addRead(groupRead{g, read{done}}) {
		done(0, ErrStopped)
	}
}

// ReadIndex returns when the local machine has applied everything that was
// committed, anywhere, before the call, with an index that covers it. It works
// on every member. Without a leader it fails with *NotLeaderError after about
// three election timeouts.
func (g *Group) ReadIndex(ctx context.Context) (uint64, error) {
	type answer struct {
		index uint64
		err   error
	}
	ch := make(chan answer, 1)
	g.ReadIndexAsync(func(index uint64, err error) { ch <- answer{index, err} })
	a, stopped := task.Receive(g.store.cfg.Runtime, ch, ctx.Done())
	if stopped >= 0 {
		return 0, ctx.Err()
	}
	return a.index, a.err
}

// Entry returns the data of an applied entry. It must not be modified. Entries
// that Raft wrote for itself are empty.
func (g *Group) Entry(index uint64) ([]byte, error) { return g.EntryRange(index, 0, -1) }

// EntryRange returns n bytes at pos of an applied entry's data, or as many as
// there are; n below 0 means up to the end. It must not be modified.
func (g *Group) EntryRange(index uint64, pos, n int) ([]byte, error) {
	if index > g.Applied() {
		return nil, ErrNotApplied
	}
	return g.log.read(index, pos, n)
}

// First returns the index of the first entry in this node's log; when the log
// is empty, that of the entry to come.
func (g *Group) First() uint64 {
	first, _ := g.log.bounds()
	return first
}

// Trim lets go of the entries of a [GroupConfig.RetainLog] group up to and
// including index, on this node alone. Nothing that the machine, or a row, still
// refers to may lie there: reading such an entry gives ErrCompacted from some
// time on, and after a restart a machine that applies older entries again must
// not need it either. The other members are not asked, and trim for themselves.
//
// It returns at once. The removal rides on a later write, about a tick away, and
// goes no further than the last checkpoint; what lies behind that is removed with
// the checkpoint that covers it. A leader also keeps, within four times
// GroupConfig.TailEntries, what followers that answer do not have yet. A mark
// once written is remembered across restarts. An index at or below an earlier one
// does nothing, and neither does the call in a group without RetainLog.
func (g *Group) Trim(index uint64) {
	for {
		was := g.trim.Load()
		if index <= was || g.trim.CompareAndSwap(was, index) {
			return
		}
	}
}

// Rows reads the group's rows.
func (g *Group) Rows() Rows { return g.store.cfg.Log.Rows(g.id) }

// TransferLeader hands leadership to another member and waits for the outcome:
// nil, *NotLeaderError, ErrTransferFailed after about two election timeouts,
// ErrStopped, or the context's error. Meanwhile proposals are refused with
// *NotLeaderError.
func (g *Group) TransferLeader(ctx context.Context, to NodeID) error {
	ch := make(chan error, 1)
	if !g.store.in.addCall(func() { g.store.loop.startTransfer(g.replica, to, func(err error) { ch <- err }) }) {
		return ErrStopped
	}
	err, stopped := task.Receive(g.store.cfg.Runtime, ch, ctx.Done())
	if stopped >= 0 {
		return ctx.Err()
	}
	return err
}

// Campaign starts an election now instead of at the next timeout.
func (g *Group) Campaign() {
	g.store.in.addCall(func() {
		if r := g.replica; !r.removed && g.store.loop.failed == nil {
			_ = r.rn.Campaign() // refused only if a configuration change is pending
			r.touch()
		}
	})
}
