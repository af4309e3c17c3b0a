package coordinator

import (
	"context"
	"fmt"
	"strconv"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/membership"
	"github.com/oncelog/oncelog/raftstore"
)

// Raft asks about once per election timeout who has answered since, so a member that
// is up may seem silent for a moment: it counts as down after several looks.
const (
	looks    = 6
	lookWait = 50 * time.Millisecond
)

// coordinatorService is the part of the gRPC edge that looks after the coordinators
// themselves.
type coordinatorService struct {
	oncelogv1.UnimplementedCoordinatorServiceServer
	*Coordinator
}

// ListCoordinators implements the contract.
func (s *coordinatorService) ListCoordinators(ctx context.Context, _ *oncelogv1.ListCoordinatorsRequest) (*oncelogv1.ListCoordinatorsResponse, error) {
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	var actual []raftstore.Member
	up := map[raftstore.NodeID]bool{}
	for range looks {
		var err error
		if actual, err = s.group.Members(ctx); err != nil {
			return nil, s.raftError(err)
		}
		for _, m := range actual {
			up[m.ID] = up[m.ID] || m.Active || uint64(m.ID) == s.cfg.NodeID
		}
		if !hasSilent(actual, up) {
			break
		}
		s.pause(ctx, lookWait)
	}
	st := s.group.Status()
	res := &oncelogv1.ListCoordinatorsResponse{Leader: uint64(st.Leader), Term: st.Term, Commit: st.Commit}
	s.state.read(func() {
		res.Version = s.state.members.Version()
		for _, m := range s.state.members.Members() {
			res.Members = append(res.Members, s.coordinatorMember(m, actual, up))
		}
	})
	return res, nil
}

func hasSilent(actual []raftstore.Member, up map[raftstore.NodeID]bool) bool {
	for _, m := range actual {
		if !up[m.ID] {
			return true
		}
	}
	return false
}

// coordinatorMember shows a member beside what Raft knows of it.
func (s *coordinatorService) coordinatorMember(m membership.Member, actual []raftstore.Member, up map[raftstore.NodeID]bool) *oncelogv1.CoordinatorMember {
	p := &oncelogv1.CoordinatorMember{
		NodeId: m.ID, ClientAddress: m.ClientAddress, PeerAddress: m.PeerAddress, InstanceId: m.Instance,
		Replaces: m.Replaces, Leader: m.ID == s.cfg.NodeID, State: oncelogv1.CoordinatorState_COORDINATOR_STATE_ADDED,
	}
	if m.Voter {
		p.State = oncelogv1.CoordinatorState_COORDINATOR_STATE_VOTER
	}
	for _, a := range actual {
		if uint64(a.ID) != m.ID {
			continue
		}
		p.Alive, p.Match, p.Snapshot = up[a.ID], a.Match, a.Snapshot
		if !m.Voter {
			p.State = oncelogv1.CoordinatorState_COORDINATOR_STATE_LEARNER
		}
	}
	if m.Leaving {
		p.State = oncelogv1.CoordinatorState_COORDINATOR_STATE_LEAVING
	}
	return p
}

// AddCoordinator implements the contract.
func (s *coordinatorService) AddCoordinator(ctx context.Context, req *oncelogv1.AddCoordinatorRequest) (*oncelogv1.AddCoordinatorResponse, error) {
	if err := checkAddress("client_address", req.GetClientAddress()); err != nil {
		return nil, err
	}
	if err := checkAddress("peer_address", req.GetPeerAddress()); err != nil {
		return nil, err
	}
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	cmd := membership.Add{
		ID: req.GetNodeId(), ClientAddress: req.GetClientAddress(), PeerAddress: req.GetPeerAddress(), Replaces: req.GetReplaces(),
	}
	repeated := false
	s.state.read(func() {
		x, changing := s.state.members.Changing()
		same := changing && !x.Voter && x.Replaces == cmd.Replaces && x.ClientAddress == cmd.ClientAddress && x.PeerAddress == cmd.PeerAddress
		if cmd.ID == 0 {
			cmd.ID = s.state.members.LastID() + 1
			if same {
				cmd.ID = x.ID
			}
		}
		repeated = same && x.ID == cmd.ID
	})
	if !repeated {
		if err := s.stands(ctx, cmd.Replaces, true); err != nil {
			return nil, err
		}
	}
	res, err := s.change(ctx, cmd, cmd.ID)
	if err != nil {
		return nil, err
	}
	if res.Changed {
		s.log.Info("a coordinator was added", "coordinator", cmd.ID, "replaces", cmd.Replaces,
			"client_address", cmd.ClientAddress, "peer_address", cmd.PeerAddress)
	}
	return &oncelogv1.AddCoordinatorResponse{Member: s.coordinatorMember(res.Member, nil, nil)}, nil
}

// RemoveCoordinator implements the contract.
func (s *coordinatorService) RemoveCoordinator(ctx context.Context, req *oncelogv1.RemoveCoordinatorRequest) (*oncelogv1.RemoveCoordinatorResponse, error) {
	if req.GetNodeId() == 0 {
		return nil, apierrors.InvalidArgument("node_id", "must be at least 1")
	}
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	var (
		known   membership.Member
		removed bool
	)
	s.state.read(func() {
		known, _ = s.state.members.Member(req.GetNodeId())
		removed = s.state.members.Removed(req.GetNodeId())
	})
	if removed {
		return &oncelogv1.RemoveCoordinatorResponse{}, nil
	}
	if known.Voter && !known.Leaving {
		if err := s.stands(ctx, known.ID, false); err != nil {
			return nil, err
		}
	}
	res, err := s.change(ctx, membership.Remove{ID: req.GetNodeId()}, req.GetNodeId())
	if err != nil {
		return nil, err
	}
	if res.Changed {
		s.log.Info("a coordinator is to leave", "coordinator", req.GetNodeId())
	}
	return &oncelogv1.RemoveCoordinatorResponse{}, nil
}

// stands refuses a change that could leave no majority.
func (s *coordinatorService) stands(ctx context.Context, removed uint64, added bool) error {
	for n := 1; ; n++ {
		actual, err := s.group.Members(ctx)
		switch {
		case err != nil:
			return s.raftError(err)
		case len(actual) == 1 && !added:
			return nil // which the state refuses
		}
		if err = checkMajority(actual, s.cfg.NodeID, removed, added); err == nil || n == looks || ctx.Err() != nil {
			return err
		}
		s.pause(ctx, lookWait)
	}
}

func (s *coordinatorService) change(ctx context.Context, cmd membership.Command, id uint64) (membership.Result, error) {
	res, err := proposeMember(ctx, s.Coordinator, cmd)
	if err != nil {
		return res, err
	}
	return res, membershipError(res, id)
}

// membershipError turns a refusal into what the contract says about it.
func membershipError(res membership.Result, id uint64) error {
	node := strconv.FormatUint(id, 10)
	other := strconv.FormatUint(res.Member.ID, 10)
	switch res.Code {
	case membership.CodeOK:
		return nil
	case membership.CodeNotFounded:
		return uninitialised()
	case membership.CodeInvalidMember:
		return apierrors.InvalidArgument("node_id", "needs an id above 0 and both addresses")
	case membership.CodeIDUsed:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE,
			fmt.Sprintf("a coordinator's id is never used again, and ids up to %d have been: take a higher one, or none", res.LastID),
			apierrors.KeyNodeID, node)
	case membership.CodeIDTooHigh:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED,
			fmt.Sprintf("node_id is more than %d above the highest that was used, which is %d", membership.MaxIDStep, res.LastID),
			apierrors.KeyField, "node_id", apierrors.KeyLimit, strconv.FormatUint(res.LastID+membership.MaxIDStep, 10))
	case membership.CodeAddressUsed:
		return apierrors.InvalidArgument("peer_address", "coordinator "+other+" has one of these addresses")
	case membership.CodeUnknownMember, membership.CodeRemoved:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_NODE, "coordinator "+node+" is no member", apierrors.KeyNodeID, node)
	case membership.CodeOtherInstance:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE, fmt.Sprintf(
			"coordinator %s has another data directory; if that is lost its votes are, too: replace it by a new coordinator with "+
				"`oncelog coordinator replace %s`", node, node), apierrors.KeyNodeID, node)
	case membership.CodeChangePending:
		what := "joins"
		if res.Member.Leaving {
			what = "leaves"
		}
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_CHANGE_IN_PROGRESS, "coordinator "+other+" "+what, apierrors.KeyNodeID, other)
	case membership.CodeTooManyMembers:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED, fmt.Sprintf("a cluster has at most %d coordinators", membership.MaxMembers),
			apierrors.KeyField, "members", apierrors.KeyLimit, strconv.Itoa(membership.MaxMembers))
	case membership.CodeLastVoter:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NO_MAJORITY, "coordinator "+node+" is the only one that votes",
			apierrors.KeyUp, "0", apierrors.KeyVoters, "0")
	default:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, "unexpected answer about the members: "+res.Code.String())
	}
}
