package raftstore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/internal/task"
)

// The members of a group change by entries of its log. A node takes a new
// configuration when it applies the entry, and writes a checkpoint with the
// configuration in it, synced, before anything else happens: so what it has
// applied and what it takes for the members never come apart.
//
// A joiner knows no members and has to learn them from a snapshot, for those that
// the group began with are in no entry. The checkpoint of a changed configuration
// therefore takes the first entry of the log with it, which is always the empty
// one of the first leader: who has nothing then needs something that is gone.

// MaxMembers bounds voters and learners of a group together. A leader sends every
// entry to all of them.
const MaxMembers = 16

// maxPromotionLag is how many entries a learner may lack of what is committed when
// it becomes a voter. It receives those already; one that was further behind could
// hold up every commit.
const maxPromotionLag = 256

// Member is one member of a group.
type Member struct {
	ID NodeID
	// Voter counts for majorities; any other member is a learner, which only
	// receives. Leaving is a voter that a change under way removes.
	Voter, Leaving bool
	// Active, Match and Snapshot are what the leader knows, and zero on other
	// nodes and for the leader itself, but Match. Active: it answered within about
	// an election timeout. Match is the last entry it is known to have. Snapshot:
	// it needs one, or is being sent one.
	Active   bool
	Match    uint64
	Snapshot bool
}

var (
	// ErrMembershipBusy refuses a change of members while another is under way, or
	// while the leader has not applied everything that was before it. Try again.
	ErrMembershipBusy = errors.New("raftstore: another change of members is under way")
	// ErrAlreadyMember refuses to add a member, or to promote a voter.
	ErrAlreadyMember = errors.New("raftstore: the node is a member already")
	// ErrNotMember refuses to remove or promote a node that is no member; and a
	// proposal or read on a node that was removed from the group.
	ErrNotMember = errors.New("raftstore: the node is not a member")
	// ErrBadChange refuses a change that names no node, or adds one and does
	// something else as well.
	ErrBadChange = errors.New("raftstore: no such change of members")
	// ErrTooManyMembers refuses a member above MaxMembers.
	ErrTooManyMembers = fmt.Errorf("raftstore: a group has at most %d members", MaxMembers)
	// ErrNotCaughtUp refuses to make a voter of a learner that lacks too much of
	// the log. Try again when it has caught up.
	ErrNotCaughtUp = errors.New("raftstore: the learner has not caught up")
	// ErrNoMajority refuses a change after which no majority of the voters would
	// be up, or there would be no voter.
	ErrNoMajority = errors.New("raftstore: no majority of the voters would be up after the change")
)

// AddLearner adds a member that receives the log, or a snapshot of it, and does
// not vote. The node must have the group, created with GroupConfig.Join, or create
// it soon. A node that was a member before and has lost or deleted its data must
// not become one again.
//
// This and the other changes are for the leader. They wait until the change is
// applied here. Errors: *NotLeaderError, ErrMembershipBusy and those that name
// what is wrong mean that nothing has changed; after ErrUnknownResult and the
// context's error the change may still happen: ask Members.
func (g *Group) AddLearner(ctx context.Context, node NodeID) error {
	return g.ChangeMembers(ctx, MemberChange{AddLearner: node})
}

// Promote makes a voter of a learner that has caught up.
func (g *Group) Promote(ctx context.Context, node NodeID) error {
	return g.ChangeMembers(ctx, MemberChange{Promote: node})
}

// Remove removes a voter or a learner. The leader may remove itself, and steps
// down then.
func (g *Group) Remove(ctx context.Context, node NodeID) error {
	return g.ChangeMembers(ctx, MemberChange{Remove: node})
}

// Replace makes a voter of a learner that has caught up and removes another
// member, as one change: at no moment is there a voter more or less. It waits
// until that is complete.
func (g *Group) Replace(ctx context.Context, old, learner NodeID) error {
	return g.ChangeMembers(ctx, MemberChange{Promote: learner, Remove: old})
}

// Membership is who the members of a group are as one node knows it.
type Membership struct {
	// Members by id.
	Members []Member
	// Index is the log index of the last applied entry, so that of two pictures one
	// can tell the later.
	Index uint64
	// Settled is known to a leader only: no change is under way, and a majority of
	// the members know, durably, that they are the members. Who is not among them has
	// no vote any more that anybody could need.
	Settled bool
}

// Membership returns the members. Asking a leader makes it see to it that they
// become settled.
func (g *Group) Membership(ctx context.Context) (Membership, error) {
	var m Membership
	if err := g.store.do(ctx, func() { m = g.replica.membership() }); err != nil {
		return Membership{}, err // the loop may be writing m
	}
	return m, nil
}

// Members returns the members by id.
func (g *Group) Members(ctx context.Context) ([]Member, error) {
	m, err := g.Membership(ctx)
	return m.Members, err
}

// membership is what Membership returns. It runs in the loop.
func (r *replica) membership() Membership {
	m := Membership{Members: r.memberList(), Index: r.applied}
	if !r.departed && !r.removed && r.ready() && !r.joint() {
		if m.Settled = r.confirmed == r.members; !m.Settled {
			r.confirm()
		}
	}
	return m
}

// MemberChange is a change of members: a node to add as a learner, or a learner to
// promote, a member to remove, or both of these together; 0: none.
type MemberChange struct {
	AddLearner, Promote, Remove NodeID
	// Term above 0 is a condition: nothing is changed unless this node leads in that
	// very term. Who decided by what it knew in its term as leader needs that.
	Term uint64
}

// ChangeMembers carries out a change as AddLearner and the others do.
func (g *Group) ChangeMembers(ctx context.Context, c MemberChange) error {
	ch := make(chan error, 1)
	g.ChangeMembersAsync(c, func(err error) { ch <- err })
	err, stopped := task.Receive(g.store.cfg.Runtime, ch, ctx.Done())
	if stopped >= 0 {
		return ctx.Err()
	}
	return err
}

// ChangeMembersAsync is ChangeMembers with a callback, which is called exactly once,
// from the owner loop or inline, and must not block.
func (g *Group) ChangeMembersAsync(c MemberChange, done func(error)) {
	if !g.store.in.addCall(func() { g.replica.changeMembers(c, done) }) {
		done(ErrStopped)
	}
}

// encode returns the change as Raft knows it. One that both adds and removes a
// voter goes through a joint configuration, which Raft leaves by itself.
func (c MemberChange) encode() *raftpb.ConfChangeV2 {
	cc := &raftpb.ConfChangeV2{}
	for _, single := range []struct {
		node NodeID
		typ  raftpb.ConfChangeType
	}{
		{c.AddLearner, raftpb.ConfChangeAddLearnerNode}, {c.Promote, raftpb.ConfChangeAddNode}, {c.Remove, raftpb.ConfChangeRemoveNode},
	} {
		if single.node != 0 {
			cc.Changes = append(cc.Changes, &raftpb.ConfChangeSingle{Type: single.typ.Enum(), NodeId: proto.Uint64(uint64(single.node))})
		}
	}
	return cc
}

// check says what is wrong with a change of these members.
func (c MemberChange) check(cs *raftpb.ConfState) error {
	voter := func(n NodeID) bool { return slices.Contains(cs.GetVoters(), uint64(n)) }
	learner := func(n NodeID) bool { return slices.Contains(cs.GetLearners(), uint64(n)) }
	switch {
	case c.AddLearner == 0 && c.Promote == 0 && c.Remove == 0, c.AddLearner != 0 && (c.Promote != 0 || c.Remove != 0):
		return fmt.Errorf("%w: %+v is neither a node to add nor one to promote or remove", ErrBadChange, c)
	case c.AddLearner != 0 && (voter(c.AddLearner) || learner(c.AddLearner)), c.Promote != 0 && voter(c.Promote):
		return ErrAlreadyMember
	case c.Promote != 0 && !learner(c.Promote), c.Remove != 0 && !voter(c.Remove) && !learner(c.Remove), c.Promote != 0 && c.Promote == c.Remove:
		return ErrNotMember
	case c.AddLearner != 0 && len(cs.GetVoters())+len(cs.GetLearners()) >= MaxMembers:
		return ErrTooManyMembers
	case c.Promote == 0 && len(cs.GetVoters()) == 1 && voter(c.Remove):
		return ErrNoMajority
	}
	return nil
}

// changeMembers proposes a change. It runs in the loop.
func (r *replica) changeMembers(c MemberChange, done func(error)) {
	if err := r.checkChange(c); err != nil {
		done(err)
		return
	}
	data, err := proto.Marshal(c.encode())
	if err != nil {
		done(fmt.Errorf("raftstore: encode a change of members: %w", err))
		return
	}
	// It goes the way of a proposal, so that its fate is known like one's.
	r.group.queuedBytes.Add(int64(len(data)))
	r.queued = append(r.queued, proposal{data: data, term: c.Term, conf: true, done: func(res ProposalResult) {
		switch {
		case res.Err != nil:
			done(res.Err)
		case res.Value == nil: // Raft put an empty entry in its place
			done(ErrMembershipBusy)
		case r.joint() && !r.departed:
			r.leaving = append(r.leaving, done)
		default:
			done(nil)
		}
	}})
	r.touch()
}

func (r *replica) joint() bool { return len(r.members.GetVotersOutgoing()) > 0 }

func (r *replica) checkChange(c MemberChange) error {
	st := r.rn.BasicStatus()
	switch {
	case r.loop.failed != nil:
		return ErrStopped
	case r.removed:
		return ErrGroupNotFound
	case r.departed:
		return ErrNotMember
	case st.RaftState != raft.StateLeader, c.Term != 0 && c.Term != st.GetTerm():
		return r.notLeader()
	case !r.ready() || r.joint() || len(r.queued) > 0 && slices.ContainsFunc(r.queued, func(p proposal) bool { return p.conf }):
		return ErrMembershipBusy
	}
	if err := c.check(r.members); err != nil {
		return err
	}
	if c.Promote != 0 {
		if p := r.progress(uint64(c.Promote)); p.State != tracker.StateReplicate || p.Match+maxPromotionLag < r.hard.Commit {
			return fmt.Errorf("%w: node %d is known to have entries up to %d of %d", ErrNotCaughtUp, c.Promote, p.Match, r.hard.Commit)
		}
	}
	return r.checkMajority(c)
}

// checkMajority refuses a change that would leave the group without a majority of
// voters that answer: nothing could undo it then.
func (r *replica) checkMajority(c MemberChange) error {
	if c.AddLearner != 0 || slices.Contains(r.members.GetLearners(), uint64(c.Remove)) && c.Promote == 0 {
		return nil
	}
	up, voters := 0, 0
	count := func(id uint64, p tracker.Progress) {
		voters++
		if id == uint64(r.self) || p.RecentActive {
			up++
		}
	}
	r.rn.WithProgress(func(id uint64, typ raft.ProgressType, p tracker.Progress) {
		if NodeID(id) != c.Remove && (typ == raft.ProgressTypePeer || NodeID(id) == c.Promote) {
			count(id, p)
		}
	})
	if up < voters/2+1 {
		return fmt.Errorf("%w: %d of %d are up", ErrNoMajority, up, voters)
	}
	return nil
}

// applyChange takes a new configuration. It returns nil if the change is of no
// effect; all members come to the same conclusion.
func (r *replica) applyChange(e *raftpb.Entry) (any, error) {
	cc := &raftpb.ConfChangeV2{}
	if err := proto.Unmarshal(e.GetData(), cc); err != nil {
		return nil, fmt.Errorf("group %d: change of members at %d: %w: %w", r.id(), e.GetIndex(), ErrCorrupt, err)
	}
	if !r.applicable(cc) {
		return nil, nil
	}
	before := r.members
	r.members = r.rn.ApplyConfChange(cc)
	r.membersChanged = true
	if r.role == raft.StateLeader {
		r.noteDepartures(before)
	}
	return r.members, nil
}

// applicable says whether a change can be applied to these members. A leader
// proposes no other; Raft would not survive one.
func (r *replica) applicable(cc *raftpb.ConfChangeV2) bool {
	if leave := len(cc.GetChanges()) == 0; leave || r.joint() {
		return leave && r.joint()
	}
	var c MemberChange
	for _, single := range cc.GetChanges() {
		switch node := NodeID(single.GetNodeId()); single.GetType() {
		case raftpb.ConfChangeAddLearnerNode:
			c.AddLearner = node
		case raftpb.ConfChangeAddNode:
			c.Promote = node
		case raftpb.ConfChangeRemoveNode:
			c.Remove = node
		default:
			return false
		}
	}
	return c.check(r.members) == nil
}

// takeMembers makes a change durable, before anything is done by it, and tells
// whoever has to know.
func (r *replica) takeMembers() error {
	if !r.membersChanged {
		return nil
	}
	r.membersChanged = false
	batch := r.loop.cfg.Log.NewBatch()
	batch.SetMembers(r.id(), r.members)
	r.rebased = true
	if err := r.checkpoint(batch); err != nil {
		return err
	}
	if !r.loop.commit(batch, true) {
		return r.loop.failed
	}
	r.compacted()
	r.membersTaken()
	return nil
}

// membersTaken follows up on a durable change.
func (r *replica) membersTaken() {
	r.log.members = r.members
	r.group.setMembers(r.members)
	for to, s := range r.sends {
		if !r.isMember(to) {
			s.drop()
			delete(r.sends, to)
		}
	}
	if !r.joint() {
		for _, done := range r.leaving {
			r.loop.answer(waiter{taken: unmeasured, done: func(ProposalResult) { done(nil) }}, ProposalResult{})
		}
		r.leaving = nil
	}
	r.loop.cfg.Logger.Info("members changed", "group", r.id(), "voters", r.members.GetVoters(), "learners", r.members.GetLearners(), "outgoing", r.members.GetVotersOutgoing())
}

func (r *replica) isMember(node NodeID) bool { return isMember(r.members, node) }

func isMember(cs *raftpb.ConfState, node NodeID) bool {
	n := uint64(node)
	return slices.Contains(cs.GetVoters(), n) || slices.Contains(cs.GetLearners(), n) || slices.Contains(cs.GetVotersOutgoing(), n)
}

// memberList is what Members returns.
func (r *replica) memberList() []Member {
	var out []Member
	self, cs := uint64(r.self), r.members
	ids := slices.Concat(cs.GetVoters(), cs.GetVotersOutgoing(), cs.GetLearners())
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		m := Member{ID: NodeID(id), Voter: slices.Contains(cs.GetVoters(), id) || slices.Contains(cs.GetVotersOutgoing(), id)}
		m.Leaving = r.joint() && !slices.Contains(cs.GetVoters(), id) && !slices.Contains(cs.GetLearnersNext(), id) && m.Voter
		if r.role == raft.StateLeader {
			p := r.progress(id)
			m.Match = p.Match
			if id != self {
				m.Active, m.Snapshot = p.RecentActive, p.State == tracker.StateSnapshot
			}
		}
		out = append(out, m)
	}
	return out
}
