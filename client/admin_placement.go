package client

import (
	"context"

	"google.golang.org/grpc"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// placementCall makes a call that changes on which nodes shards are.
func placementCall[Req, Resp any](ctx context.Context, a *Admin, op string, req Req,
	method func(s oncelogv1.PlacementServiceClient, ctx context.Context, req Req, opts ...grpc.CallOption) (Resp, error)) (Resp, error) {
	// Too few nodes are told at once: it is for the caller to know whether more come.
	k := call{final: func(e *apierrors.Error) bool {
		return e.Code == oncelogv1.ErrorCode_ERROR_CODE_INSUFFICIENT_NODES
	}}
	return adminCall(ctx, a, op, k, req, func(ctx context.Context, cc grpc.ClientConnInterface, req Req) (Resp, error) {
		return method(oncelogv1.NewPlacementServiceClient(cc), ctx, req)
	})
}

// DrainNode makes a partition node one that gets nothing new and whose replicas and
// leaderships move away; DescribeCluster shows how far that is. The node may be down.
// With undo it is a node like any other again. INSUFFICIENT_NODES: the other nodes
// are too few for the copies of what it has.
func (a *Admin) DrainNode(ctx context.Context, node uint64, undo bool) error {
	_, err := placementCall(ctx, a, "drain node", &oncelogv1.DrainNodeRequest{NodeId: node, Undo: undo},
		oncelogv1.PlacementServiceClient.DrainNode)
	return err
}

// RemoveNode forgets a partition node that has no replicas. NODE_IN_USE: it has some;
// drain it first.
func (a *Admin) RemoveNode(ctx context.Context, node uint64) error {
	instance, err := a.instanceOf(ctx, node)
	if err != nil {
		return wrap("remove node", err)
	}
	req := &oncelogv1.RemoveNodeRequest{NodeId: node, InstanceId: instance}
	uncertain, err := a.c.invoke(ctx, call{}, func(ctx context.Context, cc grpc.ClientConnInterface) error {
		_, err := oncelogv1.NewPlacementServiceClient(cc).RemoveNode(ctx, req)
		return err
	})
	if err == nil || uncertain && apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_NODE {
		return nil // perhaps removed by an attempt that got no answer
	}
	return wrap("remove node", err)
}

// ReplaceDisk declares that the disk of a partition node that is down is lost for
// ever, so that the node may come back with a new one, under its id. NODE_ALIVE: it is
// up. SHARD_WOULD_BE_LOST: too few copies of a shard would be left.
func (a *Admin) ReplaceDisk(ctx context.Context, node uint64) error {
	instance, err := a.instanceOf(ctx, node)
	if err != nil {
		return wrap("replace disk", err)
	}
	_, err = placementCall(ctx, a, "replace disk", &oncelogv1.ReplaceDiskRequest{NodeId: node, InstanceId: instance},
		oncelogv1.PlacementServiceClient.ReplaceDisk)
	return err
}

// instanceOf returns the name of the data directory that a node has now. A request
// that names it means this one, however late one of its attempts arrives. "" of a node
// that is unknown, or whose disk is lost.
func (a *Admin) instanceOf(ctx context.Context, node uint64) (string, error) {
	d, err := a.DescribeCluster(ctx)
	for _, n := range d.GetNodes() {
		if n.GetNodeId() == node {
			return n.GetInstanceId(), nil
		}
	}
	return "", err
}

// MoveReplica begins to replace the replica of a shard on one node by one on another
// and returns the shard with its move. MOVE_REFUSED: it cannot move so, or not now.
func (a *Admin) MoveReplica(ctx context.Context, shard, from, to uint64) (*oncelogv1.Shard, error) {
	resp, err := placementCall(ctx, a, "move replica", &oncelogv1.MoveReplicaRequest{ShardId: shard, FromNode: from, ToNode: to},
		oncelogv1.PlacementServiceClient.MoveReplica)
	return resp.GetShard(), err
}

// CancelMove asks for the move of a shard to be undone as long as it is not done.
func (a *Admin) CancelMove(ctx context.Context, shard uint64) (*oncelogv1.Shard, error) {
	resp, err := placementCall(ctx, a, "cancel move", &oncelogv1.CancelMoveRequest{ShardId: shard},
		oncelogv1.PlacementServiceClient.CancelMove)
	return resp.GetShard(), err
}

// Rebalance spreads replicas evenly over the partition nodes that are up and not
// draining, and then leaderships, and returns the plan as of now; with dryRun it does
// only that. DescribeCluster shows how far it is.
func (a *Admin) Rebalance(ctx context.Context, dryRun bool) (*oncelogv1.RebalanceResponse, error) {
	return placementCall(ctx, a, "rebalance", &oncelogv1.RebalanceRequest{DryRun: dryRun},
		oncelogv1.PlacementServiceClient.Rebalance)
}
