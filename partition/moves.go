package partition

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/task"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
)

// What the leader of a shard does for a move is read off two things each time: what
// the coordinator wants, and who the members of the group are. So nothing is lost with
// a leader, and a step whose end is not known is no matter.
//
//	members are            the move goes on        the move was cancelled
//	without the new one    add it as a learner     settled: tell the coordinator
//	it is a learner        caught up: replace      remove it
//	and it a voter         settled: tell the coordinator
//
// A leader acts only by the very version of the shard that its log has, and only in
// its own term. The version comes into the log first (syncPartitions). So when the
// coordinator hears that the log has a cancellation, no leader can begin, or go on
// with, what was cancelled.

// moveReport is what a leader says of a move. It is not changed.
type moveReport struct {
	members []*oncelogv1.ShardMember // nil: not settled, or not at an end
	index   uint64
	problem string
	lag     uint64
}

// same reports whether the coordinator would learn nothing new that it waits for.
func (m *moveReport) same(o *moveReport) bool {
	return m != nil && o != nil && (m.members == nil) == (o.members == nil) && m.problem == o.problem
}

// maxProblem bounds moveReport.problem, in bytes; the contract does.
const maxProblem = 300

// silence is how long after its beginning a move may be without a sign of its target
// before people are told.
const silence = 3 * time.Second

// move does the next step of the shard's move. True: look again soon.
func (s *shard) move(term uint64) (busy bool) {
	a := s.assigned.Load()
	if a.GetMove() == nil {
		s.moving.Store(nil)
		return false
	}
	var version uint64
	s.machine.read(func(st *pstate.State) { version = st.CatalogVersion() })
	if version != a.GetVersion() {
		return true
	}
	ctx, cancel := s.node.run.WithTimeout(s.node.ctx, s.node.cfg.CallTimeout)
	defer cancel()
	report, err := s.moveStep(ctx, term, a.GetMove())
	if err != nil {
		var away *raftstore.NotLeaderError
		if errors.As(err, &away) || ctx.Err() != nil {
			return true
		}
		if !errors.Is(err, raftstore.ErrMembershipBusy) && !errors.Is(err, raftstore.ErrNotCaughtUp) {
			report.problem = err.Error()
		}
	}
	report.problem = strings.ToValidUTF8(report.problem[:min(len(report.problem), maxProblem)], "")
	if old := s.moving.Swap(&report); !report.same(old) {
		if report.problem != "" {
			s.node.log.Warn("a replica cannot move yet", "shard", s.id, "to", a.GetMove().GetAdd(), "problem", report.problem)
		}
		task.Signal(s.node.beat)
	}
	return true
}

func (s *shard) moveStep(ctx context.Context, term uint64, mv *oncelogv1.ShardMove) (report moveReport, err error) {
	m, err := s.group.Membership(ctx)
	if err != nil {
		return report, err
	}
	add := raftstore.NodeID(mv.GetAdd()).WithLife(mv.GetAddLife())
	var added, removed *raftstore.Member
	for i := range m.Members {
		switch member := &m.Members[i]; {
		case member.ID == add:
			added = member
		case uint64(member.ID.Process()) == mv.GetRemove():
			removed = member
		}
	}
	change := raftstore.MemberChange{Term: term}
	switch {
	case added != nil && added.Voter && removed == nil, added == nil && mv.GetCancelled():
		if m.Settled {
			report.members, report.index = membersProto(m.Members), m.Index
		}
		return report, nil
	case added != nil && added.Voter:
		return report, raftstore.ErrMembershipBusy // the joint configuration is being left
	case added != nil && mv.GetCancelled():
		change.Remove = add
	case added == nil:
		change.AddLearner = add
	default:
		if report.lag = s.group.Status().Commit; report.lag > added.Match {
			report.lag -= added.Match
		} else {
			report.lag = 0
		}
		if removed != nil && uint64(removed.ID.Process()) == s.node.cfg.NodeID && voters(m.Members) > 1 {
			return report, s.handOverTo(ctx, m.Members) // the next leader goes on
		}
		// The only voter has nobody to hand over to: it leads until the change is done.
		change.Promote = add
		if removed != nil {
			change.Remove = removed.ID
		}
	}
	err = s.group.ChangeMembers(ctx, change)
	// A learner that was just added has had no time to answer.
	if began := time.UnixMilli(mv.GetStartedAtMs()); errors.Is(err, raftstore.ErrNotCaughtUp) && !added.Active && s.node.run.Wall().Sub(began) > silence {
		report.problem = fmt.Sprintf("node %d, which is to get the copy, does not answer", mv.GetAdd())
	}
	return report, err
}

func voters(members []raftstore.Member) (n int) {
	for _, m := range members {
		if m.Voter {
			n++
		}
	}
	return n
}

func membersProto(members []raftstore.Member) []*oncelogv1.ShardMember {
	out := make([]*oncelogv1.ShardMember, 0, len(members))
	for _, m := range members {
		out = append(out, &oncelogv1.ShardMember{NodeId: uint64(m.ID.Process()), Life: m.ID.Life()})
	}
	return out
}

// errNoSuccessor says that nobody can take over.
var errNoSuccessor = errors.New("no other voter is up that could lead the shard")

// handOverTo gives the leadership to the voter that is furthest, one whose node is not
// being drained if there is one.
func (s *shard) handOverTo(ctx context.Context, members []raftstore.Member) error {
	drains := s.node.routing.get().drains
	var best *raftstore.Member
	for i := range members {
		m := &members[i]
		if uint64(m.ID.Process()) == s.node.cfg.NodeID || !m.Voter || m.Leaving || !m.Active {
			continue
		}
		if best == nil || drains[uint64(best.ID.Process())] && !drains[uint64(m.ID.Process())] ||
			drains[uint64(best.ID.Process())] == drains[uint64(m.ID.Process())] && m.Match > best.Match {
			best = m
		}
	}
	if best == nil {
		return errNoSuccessor
	}
	return s.group.TransferLeader(ctx, best.ID)
}

// handOver gives the leadership away when the node is being drained, unless all the
// others are as well. True: try again.
func (s *shard) handOver() (again bool) {
	if !s.node.draining.Load() {
		return false
	}
	ctx, cancel := s.node.run.WithTimeout(s.node.ctx, s.node.cfg.CallTimeout)
	defer cancel()
	members, err := s.group.Members(ctx)
	if err != nil {
		return true
	}
	drains := s.node.routing.get().drains
	for _, m := range members {
		if m.Voter && m.Active && !drains[uint64(m.ID.Process())] && uint64(m.ID.Process()) != s.node.cfg.NodeID {
			if err := s.handOverTo(ctx, members); err != nil {
				s.node.log.Debug("handing a leadership over failed", "shard", s.id, "error", err)
			}
			return true
		}
	}
	return true
}

// TransferLeader implements oncelogv1.ShardServiceServer.
func (p shardService) TransferLeader(ctx context.Context, req *oncelogv1.TransferLeaderRequest) (*oncelogv1.TransferLeaderResponse, error) {
	if err := p.n.transferLeader(ctx, req); err != nil {
		return nil, err
	}
	return &oncelogv1.TransferLeaderResponse{}, nil
}

func (n *Node) transferLeader(ctx context.Context, req *oncelogv1.TransferLeaderRequest) error {
	s := n.shard(req.GetShardId())
	if s == nil {
		if n.isClosing() {
			return unavailable()
		}
		return n.notLeader(0, 0)
	}
	if err := s.serving(); err != nil {
		return err
	}
	members, err := s.group.Members(ctx)
	if err != nil {
		return n.proposalError(err)
	}
	for _, m := range members {
		if uint64(m.ID.Process()) != req.GetToNode() || !m.Voter || m.Leaving {
			continue
		}
		err := s.group.TransferLeader(ctx, m.ID)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, raftstore.ErrTransferFailed):
			return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE,
				fmt.Sprintf("node %d did not take over in time", req.GetToNode()))
		}
		return n.proposalError(err)
	}
	return apierrors.InvalidArgument("to_node", fmt.Sprintf("node %d has no voter of shard %d", req.GetToNode(), req.GetShardId()))
}
