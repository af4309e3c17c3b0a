package coordinator

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/coordinator/txn"
)

// nodeService is the part of the gRPC edge that partition nodes use, on the
// peer address.
type nodeService struct {
	oncelogv1.UnimplementedNodeServiceServer
	*Coordinator
}

// peerFacing makes a NOT_LEADER name the address where nodes reach the leader.
func (s *nodeService) peerFacing(err error) error {
	var e *apierrors.Error
	if !errors.As(err, &e) || e.Code != oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER {
		return err
	}
	id, _ := strconv.ParseUint(e.Metadata[apierrors.KeyLeaderNode], 10, 64)
	m, known := s.member(id)
	if !known {
		return err
	}
	return apierrors.New(e.Code, "coordinator "+e.Metadata[apierrors.KeyLeaderNode]+" leads, at "+m.PeerAddress,
		apierrors.KeyLeaderNode, e.Metadata[apierrors.KeyLeaderNode],
		apierrors.KeyLeaderAddress, m.PeerAddress,
		apierrors.KeyTerm, e.Metadata[apierrors.KeyTerm])
}

// RegisterNode implements the contract.
func (s *nodeService) RegisterNode(ctx context.Context, req *oncelogv1.RegisterNodeRequest) (*oncelogv1.RegisterNodeResponse, error) {
	res, err := s.register(ctx, req)
	return res, s.peerFacing(err)
}

func (s *nodeService) register(ctx context.Context, req *oncelogv1.RegisterNodeRequest) (*oncelogv1.RegisterNodeResponse, error) {
	if err := checkRegistration(req); err != nil {
		return nil, err
	}
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	cluster := ""
	s.state.read(func() { cluster = s.state.catalog.ClusterID() })
	switch {
	case cluster == "":
		return nil, uninitialised()
	case req.GetClusterId() != "" && req.GetClusterId() != cluster:
		return nil, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_WRONG_CLUSTER,
			"the node's data belongs to cluster "+strconv.Quote(req.GetClusterId())+", this is "+strconv.Quote(cluster),
			apierrors.KeyClusterID, cluster)
	}
	out, err := proposeCatalog(ctx, s.Coordinator, catalog.RegisterNode{
		At: s.now(), ID: req.GetNodeId(), Instance: req.GetInstanceId(),
		ClientAddress: req.GetClientAddress(), PeerAddress: req.GetPeerAddress(),
	})
	if err != nil {
		return nil, err
	}
	if err := s.catalogError(out, ""); err != nil {
		return nil, err
	}
	s.registry.heard(req.GetNodeId(), s.rt.Now())
	if out.Changed {
		s.log.Info("partition node registered", "node_id", req.GetNodeId(),
			"client_address", req.GetClientAddress(), "peer_address", req.GetPeerAddress())
	}
	return &oncelogv1.RegisterNodeResponse{ClusterId: cluster}, nil
}

func checkRegistration(req *oncelogv1.RegisterNodeRequest) error {
	if req.GetNodeId() == 0 {
		return apierrors.InvalidArgument("node_id", "must be at least 1")
	}
	if err := checkName("client_address", req.GetClientAddress(), true); err != nil {
		return err
	}
	if err := checkName("peer_address", req.GetPeerAddress(), true); err != nil {
		return err
	}
	if req.GetInstanceId() == "" {
		return apierrors.InvalidArgument("instance_id", "must not be empty")
	}
	if len(req.GetInstanceId()) > catalog.MaxInstanceBytes {
		return tooLong("instance_id", catalog.MaxInstanceBytes)
	}
	return checkName("cluster_id", req.GetClusterId(), false)
}

// Heartbeat implements the contract.
func (s *nodeService) Heartbeat(ctx context.Context, req *oncelogv1.HeartbeatRequest) (*oncelogv1.HeartbeatResponse, error) {
	res, err := s.heartbeat(ctx, req)
	return res, s.peerFacing(err)
}

func (s *nodeService) heartbeat(ctx context.Context, req *oncelogv1.HeartbeatRequest) (*oncelogv1.HeartbeatResponse, error) {
	if err := s.checkHeartbeat(req); err != nil {
		return nil, err
	}
	s.registry.heard(req.GetNodeId(), s.rt.Now())
	s.registry.diskLow(req.GetNodeId(), req.GetDiskLow())
	s.takeReports(req)
	ctx, cancel := s.beforeDeadline(ctx)
	defer cancel()
	ctx, cancelWait := s.rt.WithTimeout(ctx, time.Duration(req.GetWaitMs())*time.Millisecond)
	defer cancelWait()
	err := s.await(ctx, s.placed.next, func() bool { return s.state.catalog.Version() > req.GetKnownVersion() })
	if err != nil && !errors.Is(err, errWaitedEnough) {
		return nil, err
	}
	// After a wait that ended by time the answer repeats the version that the
	// node knows.
	res := &oncelogv1.HeartbeatResponse{}
	s.state.read(func() { s.fillAssignment(res, req) })
	return res, nil
}

// takeReports notes who leads the node's shards. What a node says about shards
// that it is no part of, or may not know yet, is nothing worth keeping.
func (s *nodeService) takeReports(req *oncelogv1.HeartbeatRequest) {
	type report struct {
		shard  uint64
		leader shardLeader
	}
	reports := make([]report, 0, len(req.GetShards()))
	s.state.read(func() {
		for _, r := range req.GetShards() {
			shard, ok := s.state.catalog.Shard(r.GetShardId())
			if !ok || !slices.Contains(shard.Replicas, req.GetNodeId()) ||
				r.GetLeader() != 0 && !slices.Contains(shard.Replicas, r.GetLeader()) {
				continue
			}
			reports = append(reports, report{shard.ID, shardLeader{
				seat: seat{node: r.GetLeader(), term: r.GetTerm()}, ready: r.GetReady(), partitionsVersion: r.GetPartitionsVersion(),
			}})
		}
	})
	for _, r := range reports {
		s.registry.report(req.GetNodeId(), r.shard, r.leader)
	}
}

func (s *nodeService) checkHeartbeat(req *oncelogv1.HeartbeatRequest) error {
	if err := checkCount("shards", len(req.GetShards()), maxList); err != nil {
		return err
	}
	if req.GetWaitMs() < 0 {
		return apierrors.InvalidArgument("wait_ms", "must not be negative")
	}
	if req.GetWaitMs() > maxHeartbeatMs {
		return tooLong("wait_ms", maxHeartbeatMs)
	}
	if err := s.leading(); err != nil {
		return err
	}
	var (
		node  catalog.Node
		known bool
	)
	s.state.read(func() { node, known = s.state.catalog.Node(req.GetNodeId()) })
	switch {
	case !known:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_NODE,
			"node "+strconv.FormatUint(req.GetNodeId(), 10)+" is not registered")
	case node.Instance != req.GetInstanceId():
		return s.catalogError(catalog.Result{Code: catalog.CodeNodeMismatch, Node: node}, "")
	default:
		return nil
	}
}

func (s *nodeService) fillAssignment(res *oncelogv1.HeartbeatResponse, req *oncelogv1.HeartbeatRequest) {
	cat := s.state.catalog
	res.Version = cat.Version()
	if res.Version <= req.GetKnownVersion() {
		return
	}
	for _, k := range cat.Keys() {
		res.TokenKeys = append(res.TokenKeys, &oncelogv1.TokenKey{KeyId: k.ID, Secret: k.Secret})
	}
	neighbours := map[uint64]bool{}
	for _, shard := range cat.ShardsOf(req.GetNodeId()) {
		a := &oncelogv1.ShardAssignment{ShardId: shard.ID, Replicas: shard.Replicas, Version: shard.Version}
		for _, p := range shard.Partitions {
			a.Partitions = append(a.Partitions, &oncelogv1.AssignedPartition{
				RetentionMs: int64(p.Retention.Millis), RetentionBytes: int64(p.Retention.Bytes),
				PartitionId: p.ID, TopicId: p.TopicID, Topic: p.TopicName, Partition: p.Index,
			})
		}
		for _, id := range shard.Replicas {
			neighbours[id] = true
		}
		res.Shards = append(res.Shards, a)
	}
	for _, n := range cat.Nodes() {
		if neighbours[n.ID] {
			res.Nodes = append(res.Nodes, nodeProto(n))
		}
	}
}

// Enlist implements the contract. What changes nothing is answered from memory,
// after a ReadIndex; the rest goes through the log.
func (s *nodeService) Enlist(ctx context.Context, req *oncelogv1.EnlistRequest) (*oncelogv1.EnlistResponse, error) {
	res, err := s.enlist(ctx, req)
	return res, s.peerFacing(err)
}

func (s *nodeService) enlist(ctx context.Context, req *oncelogv1.EnlistRequest) (*oncelogv1.EnlistResponse, error) {
	if err := checkCount("enlistments", len(req.GetEnlistments()), maxList); err != nil {
		return nil, err
	}
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	answers := make([]txn.EnlistAnswer, len(req.GetEnlistments()))
	var (
		cmd txn.Enlist
		at  []int // index in answers of each item of cmd
	)
	s.state.read(func() {
		env := txn.Env{Catalog: s.state.catalog}
		for i, e := range req.GetEnlistments() {
			item := s.enlistItem(e)
			var needsLog bool
			if answers[i], needsLog = s.state.txns.PeekEnlist(item, env); needsLog {
				cmd.Items, at = append(cmd.Items, item), append(at, i)
			}
		}
	})
	if len(cmd.Items) > 0 {
		res, err := proposeTxn[txn.EnlistResult](ctx, s.Coordinator, cmd)
		if err != nil {
			return nil, err
		}
		for i, a := range res.Answers {
			answers[at[i]] = a
		}
	}
	out := &oncelogv1.EnlistResponse{Answers: make([]*oncelogv1.EnlistAnswer, 0, len(answers))}
	for _, a := range answers {
		if a.Invalid {
			s.log.Error("a shard holds data of a transaction that cannot exist", "shard", a.Shard,
				"producer_id", a.Ref.ProducerID, "epoch", a.Ref.Epoch, "txn_number", a.Ref.Number)
		}
		out.Answers = append(out.Answers, enlistProto(a))
	}
	return out, nil
}

// enlistItem converts one enlistment. What only helps people, or is bounded by
// the machine anyway, is cut to its limit and not refused: a transaction whose
// shards cannot make it known would hang.
func (s *nodeService) enlistItem(e *oncelogv1.Enlistment) txn.EnlistItem {
	partitions := e.GetPartitionIds()
	return txn.EnlistItem{
		Ref: refOf(e.GetTxn()), Shard: e.GetShardId(), OpenedAt: e.GetOpenedAt(),
		Partitions: partitions[:min(len(partitions), s.cfg.Txn.MaxPartitionsPerTxn)],
		Age:        min(max(e.GetAgeMs(), 0), s.cfg.Txn.MaxTimeout),
	}
}

func enlistProto(a txn.EnlistAnswer) *oncelogv1.EnlistAnswer {
	p := &oncelogv1.EnlistAnswer{
		Txn: refProto(a.Ref), ShardId: a.Shard, OpenedAt: a.OpenedAt,
		Verdict: verdictProto(a.Verdict), Invalid: a.Invalid,
	}
	if a.Verdict == txn.VerdictDecided {
		p.Marker = markerProto(a.Marker)
	}
	if a.FenceEpoch > 0 {
		p.Fence = &a.FenceEpoch
	}
	return p
}

// CheckProducers implements the contract. An id that was never a transactional
// one is not known either, so shards ask only about transactional producers.
func (s *nodeService) CheckProducers(ctx context.Context, req *oncelogv1.CheckProducersRequest) (*oncelogv1.CheckProducersResponse, error) {
	if err := checkCount("producer_ids", len(req.GetProducerIds()), maxList); err != nil {
		return nil, err
	}
	if err := s.current(ctx); err != nil {
		return nil, s.peerFacing(err)
	}
	res := &oncelogv1.CheckProducersResponse{}
	s.state.read(func() {
		for _, id := range req.GetProducerIds() {
			if !s.state.txns.Known(id) {
				res.Gone = append(res.Gone, id)
			}
		}
	})
	return res, nil
}
