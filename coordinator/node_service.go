package coordinator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	"github.com/oncelog/oncelog/api/level"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/coordinator/txn"
	"github.com/oncelog/oncelog/internal/access"
	"github.com/oncelog/oncelog/raftstore"
)

// nodeService is the part of the gRPC edge that partition nodes use, on the
// peer address.
type nodeService struct {
	oncelogv1.UnimplementedNodeServiceServer
	*Coordinator
}

// peerFacing makes a NOT_LEADER name the address where nodes reach the leader.
func (c *Coordinator) peerFacing(err error) error {
	var e *apierrors.Error
	if !errors.As(err, &e) || e.Code != oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER {
		return err
	}
	id, _ := strconv.ParseUint(e.Metadata[apierrors.KeyLeaderNode], 10, 64)
	m, known := c.member(id)
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
	if err := s.checkLevel(req.GetMaxFormatLevel()); err != nil {
		return nil, err
	}
	out, err := proposeCatalog(ctx, s.Coordinator, catalog.RegisterNode{
		At: s.now(), ID: req.GetNodeId(), Instance: req.GetInstanceId(),
		ClientAddress: req.GetClientAddress(), PeerAddress: req.GetPeerAddress(), Known: req.GetClusterId() != "",
	})
	if err != nil {
		return nil, err
	}
	if out.Code == catalog.CodeNodeRemoved {
		return nil, nodeRemoved(req.GetNodeId())
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
	if id := req.GetNodeId(); id == 0 || id > uint64(raftstore.MaxNodeID) {
		return apierrors.InvalidArgument("node_id", fmt.Sprintf("is %d: it must be from 1 to %d", id, uint64(raftstore.MaxNodeID)))
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

// GiveUpDisk implements the contract.
func (s *nodeService) GiveUpDisk(ctx context.Context, req *oncelogv1.GiveUpDiskRequest) (*oncelogv1.GiveUpDiskResponse, error) {
	if err := s.takeDisk(ctx, req); err != nil {
		return nil, s.peerFacing(err)
	}
	return &oncelogv1.GiveUpDiskResponse{}, nil
}

func (s *nodeService) takeDisk(ctx context.Context, req *oncelogv1.GiveUpDiskRequest) error {
	if err := s.checkDamaged(ctx, req); err != nil {
		return err
	}
	out, err := proposeCatalog(ctx, s.Coordinator, catalog.LoseDisk{At: s.now(), ID: req.GetNodeId(), Instance: req.GetInstanceId()})
	if err != nil {
		return err
	}
	if err := s.nodeError(out, req.GetNodeId()); err != nil {
		return err
	}
	if out.Node.Instance != "" { // it has another directory by now
		return s.catalogError(catalog.Result{Code: catalog.CodeNodeMismatch, Node: out.Node}, "")
	}
	if out.Changed {
		s.log.Error("a partition node found its disk damaged and gave it up; its replicas are made anew",
			"node_id", req.GetNodeId(), "instance", req.GetInstanceId(), "damage", req.GetDamage())
	}
	return nil
}

// damaged is what a node says of data that it gives up.
type damaged interface {
	GetInstanceId() string
	GetClusterId() string
	GetDamage() string
}

// checkDamaged refuses what is not of this cluster, or what not every coordinator can
// read the command of.
func (s *nodeService) checkDamaged(ctx context.Context, req damaged) error {
	switch {
	case req.GetInstanceId() == "":
		return apierrors.InvalidArgument("instance_id", "must not be empty")
	case len(req.GetInstanceId()) > catalog.MaxInstanceBytes:
		return tooLong("instance_id", catalog.MaxInstanceBytes)
	case len(req.GetDamage()) > maxProblem:
		return tooLong("damage", maxProblem)
	}
	if err := s.current(ctx); err != nil {
		return err
	}
	cluster, formats := "", uint32(0)
	s.state.read(func() { cluster, formats = s.state.catalog.ClusterID(), s.state.members.Level() })
	switch {
	case req.GetClusterId() != cluster:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_WRONG_CLUSTER,
			"the node's data belongs to cluster "+strconv.Quote(req.GetClusterId())+", this is "+strconv.Quote(cluster),
			apierrors.KeyClusterID, cluster)
	case formats < 2: // older coordinators do not know the command
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE,
			"a node can give its disk up once all nodes read format level 2; until then: `oncelog node replace-disk`")
	}
	return nil
}

// GiveUpReplica implements the contract.
func (s *nodeService) GiveUpReplica(ctx context.Context, req *oncelogv1.GiveUpReplicaRequest) (*oncelogv1.GiveUpReplicaResponse, error) {
	if err := s.takeReplica(ctx, req); err != nil {
		return nil, s.peerFacing(err)
	}
	return &oncelogv1.GiveUpReplicaResponse{}, nil
}

// takeReplica takes one copy away. That the directory is the node's is only looked at:
// a copy is named by its life, which no other directory has.
func (s *nodeService) takeReplica(ctx context.Context, req *oncelogv1.GiveUpReplicaRequest) error {
	if req.GetShardId() == 0 {
		return apierrors.InvalidArgument("shard_id", "must not be 0")
	}
	if err := s.checkDamaged(ctx, req); err != nil {
		return err
	}
	var node catalog.Node
	known := false
	s.state.read(func() { node, known = s.state.catalog.Node(req.GetNodeId()) })
	switch {
	case !known:
		return unknownNode(req.GetNodeId())
	case node.Instance != req.GetInstanceId():
		return s.catalogError(catalog.Result{Code: catalog.CodeNodeMismatch, Node: node}, "")
	}
	out, err := proposeCatalog(ctx, s.Coordinator, catalog.LoseReplica{
		At: s.now(), Shard: req.GetShardId(), Node: req.GetNodeId(), Life: req.GetLife(),
	})
	if err != nil {
		return err
	}
	if err := s.nodeError(out, req.GetNodeId()); err != nil {
		return err
	}
	if out.Changed {
		s.log.Error("a partition node found its copy of a shard damaged and gave it up; it is made anew",
			"node_id", req.GetNodeId(), "shard", req.GetShardId(), "life", req.GetLife(), "damage", req.GetDamage())
	}
	return nil
}

// Heartbeat implements the contract.
func (s *nodeService) Heartbeat(ctx context.Context, req *oncelogv1.HeartbeatRequest) (*oncelogv1.HeartbeatResponse, error) {
	res, err := s.heartbeat(ctx, req)
	return res, s.peerFacing(err)
}

func (s *nodeService) heartbeat(ctx context.Context, req *oncelogv1.HeartbeatRequest) (*oncelogv1.HeartbeatResponse, error) {
	came, began := s.rt.Wall(), s.rt.Now()
	if err := s.checkHeartbeat(req); err != nil {
		return nil, err
	}
	s.registry.heard(req.GetNodeId(), s.rt.Now())
	s.registry.diskLow(req.GetNodeId(), req.GetDiskLow())
	s.registry.reads(req.GetNodeId(), level.Of(req.GetMaxFormatLevel()))
	s.takeReports(req)
	if err := s.takeMembers(ctx, req); err != nil {
		return nil, err
	}
	ctx, cancel := s.beforeDeadline(ctx)
	defer cancel()
	ctx, cancelWait := s.rt.WithTimeout(ctx, time.Duration(req.GetWaitMs())*time.Millisecond)
	defer cancelWait()
	err := s.await(ctx, s.placed.next, func() bool {
		return s.state.catalog.Version() > req.GetKnownVersion() || s.newCoordinators(req)
	})
	if err != nil && !errors.Is(err, errWaitedEnough) {
		return nil, err
	}
	// After a wait that ended by time the answer repeats the version that the
	// node knows.
	res := &oncelogv1.HeartbeatResponse{}
	s.state.read(func() {
		s.fillAssignment(res, req)
		res.FormatLevel = s.state.members.Level()
		if rules, version := s.state.catalog.ACLs(); req.KnownAclsVersion == nil || req.GetKnownAclsVersion() != version {
			res.Acls = &oncelogv1.AclTable{Version: version, Rules: access.RulesProto(rules)}
		}
		if s.newCoordinators(req) {
			res.Coordinators, res.CoordinatorsVersion = s.coordinatorProtos(), s.state.members.Version()
		}
	})
	res.Clock = s.clockAnswer(came, began)
	return res, nil
}

// newCoordinators reports whether the node wants a newer list of coordinators than it
// has. The caller holds the state still.
func (s *nodeService) newCoordinators(req *oncelogv1.HeartbeatRequest) bool {
	return req.KnownCoordinatorsVersion != nil && s.state.members.Version() > req.GetKnownCoordinatorsVersion()
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
			if !ok || !partOf(shard, req.GetNodeId()) || r.GetLeader() != 0 && !partOf(shard, r.GetLeader()) {
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

// partOf reports whether a node has, or is to get, a replica of the shard.
func partOf(s catalog.Shard, node uint64) bool {
	return slices.Contains(s.Replicas, node) || s.Move.Active() && s.Move.Add == node
}

// takeMembers brings into the log what ends a move, and keeps in mind what leaders
// say of those that go on.
func (s *nodeService) takeMembers(ctx context.Context, req *oncelogv1.HeartbeatRequest) error {
	var ends []catalog.ReportMembers
	s.state.read(func() {
		for _, r := range req.GetShards() {
			shard, ok := s.state.catalog.Shard(r.GetShardId())
			if !ok || !r.GetReady() || r.GetLeader() != req.GetNodeId() || !partOf(shard, req.GetNodeId()) {
				continue
			}
			progress := moveProgress{}
			if shard.Move.Active() {
				progress = moveProgress{problem: r.GetProblem(), lag: r.GetLag()}
			}
			s.registry.moving(shard.ID, progress)
			cmd := catalog.ReportMembers{
				At: s.now(), Shard: shard.ID, Index: r.GetMembersIndex(), Seen: r.GetPartitionsVersion(), Members: membersOf(r.GetMembers()),
			}
			if s.state.catalog.Ends(cmd) {
				ends = append(ends, cmd)
			}
		}
	})
	for _, cmd := range ends {
		res, err := proposeCatalog(ctx, s.Coordinator, cmd)
		if err != nil {
			return err
		}
		if res.Changed {
			s.log.Info("replicas moved", "shard", res.Shard.ID, "replicas", res.Shard.Replicas, "index", cmd.Index)
		}
	}
	return nil
}

// membersOf returns members as the catalogue compares them, whatever their order.
func membersOf(p []*oncelogv1.ShardMember) []catalog.Replica {
	out := make([]catalog.Replica, 0, len(p))
	for _, m := range p {
		out = append(out, catalog.Replica{Node: m.GetNodeId(), Life: m.GetLife()})
	}
	slices.SortFunc(out, func(a, b catalog.Replica) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Life, b.Life))
	})
	return out
}

// checkReports bounds what comes with the shards.
func checkReports(reports []*oncelogv1.ShardReport) error {
	for i, r := range reports {
		if len(r.GetMembers()) > raftstore.MaxMembers {
			return tooLong("shards["+strconv.Itoa(i)+"].members", raftstore.MaxMembers)
		}
		if len(r.GetProblem()) > maxProblem {
			return tooLong("shards["+strconv.Itoa(i)+"].problem", maxProblem)
		}
	}
	return nil
}

func (s *nodeService) checkHeartbeat(req *oncelogv1.HeartbeatRequest) error {
	if err := checkCount("shards", len(req.GetShards()), maxList); err != nil {
		return err
	}
	if err := checkReports(req.GetShards()); err != nil {
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
	case node.Instance == "":
		return nodeRemoved(node.ID)
	case node.Instance != req.GetInstanceId():
		return s.catalogError(catalog.Result{Code: catalog.CodeNodeMismatch, Node: node}, "")
	default:
		return s.checkLevel(req.GetMaxFormatLevel())
	}
}

func (s *nodeService) fillAssignment(res *oncelogv1.HeartbeatResponse, req *oncelogv1.HeartbeatRequest) {
	cat := s.state.catalog
	res.Version = cat.Version()
	self, _ := cat.Node(req.GetNodeId())
	res.Draining = self.Draining
	for _, r := range req.GetShards() {
		shard, ok := cat.Shard(r.GetShardId())
		if ok && !shard.Has(catalog.Replica{Node: self.ID, Life: r.GetLife()}) {
			res.Released = append(res.Released, &oncelogv1.ReleasedShard{ShardId: shard.ID, Life: r.GetLife()})
		}
	}
	if res.Version <= req.GetKnownVersion() {
		return
	}
	for _, k := range cat.Keys() {
		res.TokenKeys = append(res.TokenKeys, &oncelogv1.TokenKey{KeyId: k.ID, Secret: k.Secret})
	}
	neighbours := map[uint64]bool{}
	for _, shard := range cat.ShardsOf(req.GetNodeId()) {
		member, _ := shard.Member(self.ID)
		a := &oncelogv1.ShardAssignment{
			ShardId: shard.ID, Replicas: shard.Replicas, Version: shard.Version, Move: moveProto(shard.Move),
			Life: member.Life, Join: member.Life > 0 || shard.MembersIndex > 0,
		}
		for _, p := range shard.Partitions {
			a.Partitions = append(a.Partitions, &oncelogv1.AssignedPartition{
				RetentionMs: int64(p.Retention.Millis), RetentionBytes: int64(p.Retention.Bytes),
				Compact: p.Cleanup.Policy.Compact(), MinCompactionLagMs: int64(p.Cleanup.MinLag),
				DeleteRetentionMs: int64(p.Cleanup.DeleteRetention),
				PartitionId:       p.ID, TopicId: p.TopicID, Topic: p.TopicName, Partition: p.Index,
			})
		}
		for _, id := range shard.Replicas {
			neighbours[id] = true
		}
		if shard.Move.Active() {
			neighbours[shard.Move.Add] = true
		}
		res.Shards = append(res.Shards, a)
	}
	for _, n := range cat.Nodes() {
		if neighbours[n.ID] {
			p := nodeProto(n)
			p.Draining = n.Draining
			res.Nodes = append(res.Nodes, p)
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
		s.counters.aborted.add(txn.ReasonSuperseded, uint64(res.Superseded))
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
