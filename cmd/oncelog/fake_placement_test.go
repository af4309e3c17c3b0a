package main

import (
	"context"
	"slices"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// fakePlacement plays PlacementService: a move is over when it has been looked at
// twice.
type fakePlacement struct {
	oncelogv1.UnimplementedPlacementServiceServer
	f *fakeCluster

	move     *oncelogv1.ShardMove // of shard 2
	looks    int
	draining map[uint64]bool
	removed  map[uint64]bool
	stuck    bool
}

// nodes and shards are what DescribeCluster tells; the caller holds the lock.
func (p *fakePlacement) picture(d *oncelogv1.DescribeClusterResponse) {
	if p.move != nil && !p.stuck {
		if p.looks++; p.looks > 2 {
			p.looks, p.move = 0, nil
		}
	}
	if p.move == nil && p.draining == nil {
		return
	}
	for _, n := range d.GetNodes() {
		n.Draining = p.draining[n.GetNodeId()]
		n.Replicas, n.Leads = 2, 1
	}
	for _, shard := range d.GetShards() {
		if shard.GetShardId() == 2 && p.move != nil {
			shard.Move, shard.MoveLag = p.move, 1234
			if p.stuck {
				shard.MoveProblem = "node 4, which is to get the copy, does not answer"
			}
		}
		if p.move == nil {
			shard.Replicas = slices.DeleteFunc(shard.GetReplicas(), func(n uint64) bool { return p.draining[n] })
		}
	}
}

func (p *fakePlacement) known(node uint64) error {
	if node > 3 || p.removed[node] {
		return refusal(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_NODE)
	}
	return nil
}

func (p *fakePlacement) DrainNode(_ context.Context, req *oncelogv1.DrainNodeRequest) (*oncelogv1.DrainNodeResponse, error) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	if err := p.known(req.GetNodeId()); err != nil {
		return nil, err
	}
	if req.GetNodeId() == 3 {
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_INSUFFICIENT_NODES, apierrors.KeyWanted, "3", apierrors.KeyRegistered, "2")
	}
	p.draining = map[uint64]bool{req.GetNodeId(): !req.GetUndo()}
	if !req.GetUndo() {
		p.move = &oncelogv1.ShardMove{Add: 4, AddLife: 1, Remove: req.GetNodeId(), StartedAtMs: fakeTime}
	}
	return &oncelogv1.DrainNodeResponse{}, nil
}

func (p *fakePlacement) RemoveNode(_ context.Context, req *oncelogv1.RemoveNodeRequest) (*oncelogv1.RemoveNodeResponse, error) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.looks = 0 // the client has only asked for the node's data directory
	if err := p.known(req.GetNodeId()); err != nil {
		return nil, err
	}
	if !p.draining[req.GetNodeId()] {
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_NODE_IN_USE, apierrors.KeyShards, "2")
	}
	p.removed = map[uint64]bool{req.GetNodeId(): true}
	return &oncelogv1.RemoveNodeResponse{}, nil
}

func (p *fakePlacement) ReplaceDisk(_ context.Context, req *oncelogv1.ReplaceDiskRequest) (*oncelogv1.ReplaceDiskResponse, error) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.looks = 0 // the client has only asked for the node's data directory
	if err := p.known(req.GetNodeId()); err != nil {
		return nil, err
	}
	if req.GetNodeId() == 1 {
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_NODE_ALIVE, apierrors.KeyNodeID, "1")
	}
	return &oncelogv1.ReplaceDiskResponse{}, nil
}

func (p *fakePlacement) MoveReplica(_ context.Context, req *oncelogv1.MoveReplicaRequest) (*oncelogv1.MoveReplicaResponse, error) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.looks = 0
	switch {
	case req.GetShardId() != 2:
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_SHARD)
	case req.GetToNode() < 4:
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_MOVE_REFUSED, apierrors.KeyWhy, "INVALID_MOVE")
	}
	p.move = &oncelogv1.ShardMove{Add: req.GetToNode(), AddLife: 1, Remove: req.GetFromNode(), StartedAtMs: fakeTime}
	return &oncelogv1.MoveReplicaResponse{Shard: &oncelogv1.Shard{ShardId: 2, Replicas: []uint64{1, 2, 3}, Move: p.move}}, nil
}

func (p *fakePlacement) CancelMove(_ context.Context, req *oncelogv1.CancelMoveRequest) (*oncelogv1.CancelMoveResponse, error) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	if req.GetShardId() != 2 {
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_SHARD)
	}
	p.stuck = false
	if p.move != nil {
		p.move.Cancelled = true
	}
	return &oncelogv1.CancelMoveResponse{Shard: &oncelogv1.Shard{ShardId: 2, Replicas: []uint64{1, 2, 3}, Move: p.move}}, nil
}

func (p *fakePlacement) Rebalance(_ context.Context, req *oncelogv1.RebalanceRequest) (*oncelogv1.RebalanceResponse, error) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	if !req.GetDryRun() {
		p.move = &oncelogv1.ShardMove{Add: 4, AddLife: 1, Remove: 1, StartedAtMs: fakeTime}
	}
	return &oncelogv1.RebalanceResponse{
		Moves:     []*oncelogv1.PlannedMove{{ShardId: 2, FromNode: 1, ToNode: 4}},
		Handovers: []*oncelogv1.PlannedHandover{{ShardId: 3, FromNode: 1, ToNode: 2}},
	}, nil
}
