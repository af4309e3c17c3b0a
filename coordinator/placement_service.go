package coordinator

import (
	"context"
	"fmt"
	"strconv"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
)

// maxProblem bounds what a leader says of why a move does not get on, in bytes.
const maxProblem = 300

// placementService is the part of the gRPC edge by which operators change on which
// nodes shards are. What is asked for becomes state; see placement.go for who does it.
type placementService struct {
	oncelogv1.UnimplementedPlacementServiceServer
	*Coordinator
}

// DrainNode implements the contract.
func (s *placementService) DrainNode(ctx context.Context, req *oncelogv1.DrainNodeRequest) (*oncelogv1.DrainNodeResponse, error) {
	res, err := proposeCatalog(ctx, s.Coordinator, catalog.DrainNode{At: s.now(), ID: req.GetNodeId(), Undo: req.GetUndo()})
	if err != nil {
		return nil, err
	}
	if err := s.nodeError(res, req.GetNodeId()); err != nil {
		return nil, err
	}
	if res.Changed {
		s.log.Info("node is drained, or no longer", "node_id", req.GetNodeId(), "draining", res.Node.Draining)
	}
	return &oncelogv1.DrainNodeResponse{}, nil
}

// RemoveNode implements the contract.
func (s *placementService) RemoveNode(ctx context.Context, req *oncelogv1.RemoveNodeRequest) (*oncelogv1.RemoveNodeResponse, error) {
	instance, err := s.directoryMeant(req.GetInstanceId())
	if err != nil {
		return nil, err
	}
	res, err := proposeCatalog(ctx, s.Coordinator, catalog.UnregisterNode{At: s.now(), ID: req.GetNodeId(), Instance: instance})
	if err != nil {
		return nil, err
	}
	if err := s.nodeError(res, req.GetNodeId()); err != nil {
		return nil, err
	}
	s.log.Info("node removed", "node_id", req.GetNodeId())
	return &oncelogv1.RemoveNodeResponse{}, nil
}

// ReplaceDisk implements the contract. A node that is heard of has its disk. If it
// comes back between the look and the entry it is told that it was removed, and its
// replicas are made anew: nothing is lost but its copy.
func (s *placementService) ReplaceDisk(ctx context.Context, req *oncelogv1.ReplaceDiskRequest) (*oncelogv1.ReplaceDiskResponse, error) {
	instance, err := s.directoryMeant(req.GetInstanceId())
	if err != nil {
		return nil, err
	}
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	id := req.GetNodeId()
	if s.registry.up(id, s.rt.Now(), s.cfg.NodeTimeout) {
		return nil, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NODE_ALIVE,
			fmt.Sprintf("node %d was heard of within the last %s", id, s.cfg.NodeTimeout), apierrors.KeyNodeID, strconv.FormatUint(id, 10))
	}
	res, err := proposeCatalog(ctx, s.Coordinator, catalog.LoseDisk{At: s.now(), ID: id, Instance: instance})
	if err != nil {
		return nil, err
	}
	if err := s.nodeError(res, id); err != nil {
		return nil, err
	}
	if res.Changed {
		s.log.Warn("disk of a node declared lost", "node_id", id)
	}
	return &oncelogv1.ReplaceDiskResponse{}, nil
}

// directoryMeant checks the name of a data directory that may be left out, and returns
// it if every coordinator knows commands that have one.
func (s *placementService) directoryMeant(instance string) (string, error) {
	if len(instance) > catalog.MaxInstanceBytes {
		return "", tooLong("instance_id", catalog.MaxInstanceBytes)
	}
	if s.formatLevel() < 2 {
		return "", nil
	}
	return instance, nil
}

// MoveReplica implements the contract.
func (s *placementService) MoveReplica(ctx context.Context, req *oncelogv1.MoveReplicaRequest) (*oncelogv1.MoveReplicaResponse, error) {
	res, err := proposeCatalog(ctx, s.Coordinator, catalog.MoveReplica{
		At: s.now(), Shard: req.GetShardId(), From: req.GetFromNode(), To: req.GetToNode(),
	})
	if err != nil {
		return nil, err
	}
	if err := s.moveError(res, req); err != nil {
		return nil, err
	}
	return &oncelogv1.MoveReplicaResponse{Shard: s.shardWithMove(res.Shard)}, nil
}

// CancelMove implements the contract.
func (s *placementService) CancelMove(ctx context.Context, req *oncelogv1.CancelMoveRequest) (*oncelogv1.CancelMoveResponse, error) {
	res, err := proposeCatalog(ctx, s.Coordinator, catalog.CancelMove{At: s.now(), Shard: req.GetShardId()})
	if err != nil {
		return nil, err
	}
	if res.Code == catalog.CodeUnknownShard {
		return nil, unknownShard(req.GetShardId())
	}
	if err := s.catalogError(res, ""); err != nil {
		return nil, err
	}
	return &oncelogv1.CancelMoveResponse{Shard: s.shardWithMove(res.Shard)}, nil
}

// Rebalance implements the contract.
func (s *placementService) Rebalance(ctx context.Context, req *oncelogv1.RebalanceRequest) (*oncelogv1.RebalanceResponse, error) {
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	out := &oncelogv1.RebalanceResponse{}
	s.state.read(func() {
		up := s.nodesUp()
		for _, m := range s.state.catalog.PlanRebalance(up) {
			out.Moves = append(out.Moves, &oncelogv1.PlannedMove{ShardId: m.Shard, FromNode: m.From, ToNode: m.To})
		}
		for _, h := range s.state.catalog.PlanLeaders(s.leaders(), up) {
			out.Handovers = append(out.Handovers, &oncelogv1.PlannedHandover{ShardId: h.Shard, FromNode: h.From, ToNode: h.To})
		}
	})
	if req.GetDryRun() {
		return out, nil
	}
	res, err := proposeCatalog(ctx, s.Coordinator, catalog.Rebalance{At: s.now()})
	if err != nil {
		return nil, err
	}
	if err := s.catalogError(res, ""); err != nil {
		return nil, err
	}
	s.log.Info("rebalance", "moves", len(out.Moves), "handovers", len(out.Handovers))
	return out, nil
}

func (s *placementService) shardWithMove(shard catalog.Shard) (p *oncelogv1.Shard) {
	s.state.read(func() { p = s.shardProto(shard) })
	p.Move, p.Lost = moveProto(shard.Move), shard.Lost
	return p
}

func nodeRemoved(id uint64) error {
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NODE_REMOVED,
		fmt.Sprintf("this data directory is that of a node %d which was removed, or whose disk was declared lost", id),
		apierrors.KeyNodeID, strconv.FormatUint(id, 10))
}

func unknownShard(id uint64) error {
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_SHARD, fmt.Sprintf("there is no shard %d", id),
		apierrors.KeyShards, strconv.FormatUint(id, 10))
}

func unknownNode(id uint64) error {
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_NODE, fmt.Sprintf("there is no partition node %d", id),
		apierrors.KeyNodeID, strconv.FormatUint(id, 10))
}

// nodeError turns the refusal of a command about a node into an error of the contract.
func (c *Coordinator) nodeError(res catalog.Result, id uint64) error {
	node := strconv.FormatUint(id, 10)
	switch res.Code {
	case catalog.CodeUnknownNode:
		return unknownNode(id)
	case catalog.CodeNodeInUse:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NODE_IN_USE,
			fmt.Sprintf("node %d has replicas of %d shards, or is to get them", id, res.Have),
			apierrors.KeyNodeID, node, apierrors.KeyShards, strconv.FormatUint(res.Have, 10))
	case catalog.CodeInsufficientNodes:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INSUFFICIENT_NODES,
			fmt.Sprintf("node %d has shards that are kept in %d copies, and besides it there are %d nodes that are not draining", id, res.Need, res.Have),
			apierrors.KeyWanted, strconv.FormatUint(res.Need, 10), apierrors.KeyRegistered, strconv.FormatUint(res.Have, 10))
	case catalog.CodeNoMajority:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_SHARD_WOULD_BE_LOST,
			fmt.Sprintf("with the disk of node %d shard %d would have lost %d copies, and no majority of them would be left", id, res.Have, res.Need),
			apierrors.KeyShards, strconv.FormatUint(res.Have, 10))
	default:
		return c.catalogError(res, "")
	}
}

// moveError turns the refusal of a move into an error of the contract.
func (s *placementService) moveError(res catalog.Result, req *oncelogv1.MoveReplicaRequest) error {
	refused := func(why string) error {
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_MOVE_REFUSED,
			fmt.Sprintf("a replica of shard %d cannot move from node %d to node %d: %s", req.GetShardId(), req.GetFromNode(), req.GetToNode(), why),
			apierrors.KeyWhy, res.Code.String())
	}
	switch res.Code {
	case catalog.CodeUnknownShard:
		return unknownShard(req.GetShardId())
	case catalog.CodeUnknownNode:
		return unknownNode(req.GetToNode())
	case catalog.CodeNodeDraining:
		return refused("the new node is draining")
	case catalog.CodeInvalidMove:
		return refused(fmt.Sprintf("its replicas are on nodes %v", res.Shard.Replicas))
	case catalog.CodeMoveUnderWay:
		return refused(fmt.Sprintf("one from node %d to node %d is under way", res.Shard.Move.Remove, res.Shard.Move.Add))
	case catalog.CodeTooManyMoves:
		return refused(fmt.Sprintf("%d moves of node %d are under way, and more are not allowed at a time", res.Have, res.Need))
	default:
		return s.catalogError(res, "")
	}
}
