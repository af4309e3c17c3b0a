package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/raftstore"
)

// MoveLeader implements the contract.
func (s *placementService) MoveLeader(ctx context.Context, req *oncelogv1.MoveLeaderRequest) (*oncelogv1.MoveLeaderResponse, error) {
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	move := s.moveShardLeader
	if req.GetShardId() == uint64(GroupID) {
		move = s.moveOwnLeader
	}
	from, err := move(ctx, req)
	if err != nil {
		return nil, err
	}
	if from != req.GetToNode() {
		s.log.Info("leadership moved by an operator", "shard", req.GetShardId(), "from", from, "to", req.GetToNode())
	}
	return &oncelogv1.MoveLeaderResponse{FromNode: from}, nil
}

// moveOwnLeader hands the coordinator itself over.
func (s *placementService) moveOwnLeader(ctx context.Context, req *oncelogv1.MoveLeaderRequest) (from uint64, err error) {
	to := req.GetToNode()
	if to == s.cfg.NodeID {
		return to, nil
	}
	members, err := s.group.Members(ctx)
	if err != nil {
		return 0, s.raftError(err)
	}
	at := slices.IndexFunc(members, func(m raftstore.Member) bool { return uint64(m.ID) == to })
	switch {
	case at < 0:
		return 0, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_NODE, fmt.Sprintf("there is no coordinator %d", to),
			apierrors.KeyNodeID, strconv.FormatUint(to, 10))
	case !members[at].Voter || members[at].Leaving:
		return 0, apierrors.InvalidArgument("to_node", fmt.Sprintf("coordinator %d does not vote", to))
	}
	err = s.group.TransferLeader(ctx, raftstore.NodeID(to))
	if errors.Is(err, raftstore.ErrTransferFailed) {
		return 0, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, fmt.Sprintf("coordinator %d did not take over in time", to))
	}
	if err != nil {
		return 0, s.raftError(err)
	}
	return s.cfg.NodeID, nil
}

// moveShardLeader has the node that leads a shard hand it over.
func (s *placementService) moveShardLeader(ctx context.Context, req *oncelogv1.MoveLeaderRequest) (from uint64, err error) {
	var (
		shard, known = catalog.Shard{}, false
		node         catalog.Node
	)
	from = s.registry.leader(req.GetShardId()).node
	s.state.read(func() {
		shard, known = s.state.catalog.Shard(req.GetShardId())
		node, _ = s.state.catalog.Node(from)
	})
	switch {
	case !known:
		return 0, unknownShard(req.GetShardId())
	case !slices.Contains(shard.Replicas, req.GetToNode()):
		return 0, apierrors.InvalidArgument("to_node", fmt.Sprintf("node %d has no replica of shard %d", req.GetToNode(), req.GetShardId()))
	case from == req.GetToNode():
		return from, nil
	case node.ID == 0:
		return 0, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE, fmt.Sprintf("nobody is known to lead shard %d", req.GetShardId()))
	}
	client, err := s.peers.shard(node.ID, node.PeerAddress)
	if err != nil {
		return 0, apierrors.From(err)
	}
	if _, err := client.TransferLeader(ctx, &oncelogv1.TransferLeaderRequest{ShardId: req.GetShardId(), ToNode: req.GetToNode()}); err != nil {
		e := apierrors.From(err)
		if e.Code == oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER {
			// The address in it is not one to ask this question at.
			return 0, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE,
				fmt.Sprintf("node %d does not lead shard %d any more", node.ID, req.GetShardId()))
		}
		return 0, e
	}
	return from, nil
}
