package coordinator

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/oncelog/oncelog/api/acl"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
)

const (
	// maxTopicWait bounds how long CreateTopic waits for leaders.
	maxTopicWait = 30 * time.Second
	// defaultReplicas is how many copies a topic has where nobody says, and
	// nodes suffice.
	defaultReplicas = 3
)

// catalogService is the part of the gRPC edge about topics and places.
type catalogService struct {
	oncelogv1.UnimplementedCatalogServiceServer
	*Coordinator
}

// CreateTopic implements the contract.
func (s *catalogService) CreateTopic(ctx context.Context, req *oncelogv1.CreateTopicRequest) (*oncelogv1.CreateTopicResponse, error) {
	if !catalog.ValidTopicName(req.GetName()) {
		return nil, apierrors.InvalidArgument("name", `must have 1 to 249 characters of [a-zA-Z0-9._-] and not be "." or ".."`)
	}
	retention, cleanup, err := configOf(req.GetConfig())
	if err != nil {
		return nil, err
	}
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	if err := s.newPartitions(ctx, req.GetPartitions()); err != nil {
		return nil, err
	}
	replicas, nodes := s.placeOn(req.GetReplicationFactor())
	res, err := proposeCatalog(ctx, s.Coordinator, catalog.CreateTopic{
		At: s.now(), Name: req.GetName(), Partitions: req.GetPartitions(),
		ReplicationFactor: replicas, Nodes: nodes, Retention: retention, Cleanup: cleanup,
	})
	if err != nil {
		return nil, err
	}
	if err := s.catalogError(res, req.GetName()); err != nil {
		s.notMade(ctx, req.GetPartitions())
		return nil, err
	}
	s.log.Info("topic created", "topic", req.GetName(), "partitions", len(res.Topic.Partitions),
		"replication_factor", res.Topic.ReplicationFactor)
	out := &oncelogv1.CreateTopicResponse{}
	s.state.read(func() { out.Topic = topicProto(s.state.catalog, res.Topic, true) })
	if !req.GetNoWait() {
		out.Ready = s.awaitServed(ctx, res.Topic)
	}
	return out, nil
}

// placeOn returns the replication factor of a new topic and the nodes that its
// shards may be on.
//
// The default counts the registered nodes, whether or not they are up: a topic
// that is made while a node restarts must not be kept in fewer copies for ever.
// Nodes that are down are left out where the others suffice; where they do not,
// all are taken, for a shard works with a majority of its nodes.
func (s *catalogService) placeOn(asked uint32) (replicas uint32, nodes []uint64) {
	alive, registered := s.usableNodes()
	replicas = asked
	if replicas == 0 {
		s.state.read(func() { replicas = s.state.catalog.Settings().DefaultReplicationFactor })
	}
	if replicas == 0 {
		replicas = uint32(min(defaultReplicas, max(registered, 1)))
	}
	if uint64(len(alive)) < uint64(replicas) {
		return replicas, nil
	}
	return replicas, alive
}

// usableNodes lists the nodes that may get shards and tells how many are
// registered and not draining.
func (s *catalogService) usableNodes() (alive []uint64, registered int) {
	now := s.rt.Now()
	s.state.read(func() {
		all := s.state.catalog.Nodes()
		for _, n := range all {
			if n.Draining {
				continue
			}
			registered++
			if s.registry.usable(n.ID, now, s.cfg.NodeTimeout) {
				alive = append(alive, n.ID)
			}
		}
	})
	return alive, registered
}

// awaitServed waits until every shard of the topic has a leader whose log knows
// the topic's partitions. It says no when that does not come in time, or cannot
// be known here any more, or the topic was deleted meanwhile.
func (s *catalogService) awaitServed(ctx context.Context, t catalog.Topic) bool {
	ctx, cancel := s.beforeDeadline(ctx)
	defer cancel()
	ctx, cancelWait := s.rt.WithTimeout(ctx, maxTopicWait)
	defer cancelWait()
	deleted := false
	err := s.await(ctx, s.registry.watch, func() bool {
		for _, id := range t.Partitions {
			p, exists := s.state.catalog.Partition(id)
			if !exists {
				deleted = true
				return true
			}
			if shard, _ := s.state.catalog.Shard(p.ShardID); !s.registry.serves(shard) {
				return false
			}
		}
		return true
	})
	return err == nil && !deleted
}

// DeleteTopic implements the contract.
func (s *catalogService) DeleteTopic(ctx context.Context, req *oncelogv1.DeleteTopicRequest) (*oncelogv1.DeleteTopicResponse, error) {
	if err := checkName("name", req.GetName(), req.GetTopicId() == 0); err != nil {
		return nil, err
	}
	res, err := proposeCatalog(ctx, s.Coordinator, catalog.DeleteTopic{
		At: s.now(), Name: req.GetName(), ID: req.GetTopicId(),
	})
	if err != nil {
		return nil, err
	}
	if res.Code == catalog.CodeUnknownTopic && req.GetTopicId() != 0 {
		return nil, unknownTopicID(req.GetTopicId())
	}
	if err := s.catalogError(res, req.GetName()); err != nil {
		return nil, err
	}
	if res.Changed {
		s.log.Info("topic deleted", "topic", res.Topic.Name, "topic_id", res.Topic.ID)
	}
	return &oncelogv1.DeleteTopicResponse{}, nil
}

// ListTopics implements the contract.
func (s *catalogService) ListTopics(ctx context.Context, req *oncelogv1.ListTopicsRequest) (*oncelogv1.ListTopicsResponse, error) {
	limit, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := parsePageToken(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	if !s.opened.Load() {
		return nil, notJoined()
	}
	res := &oncelogv1.ListTopicsResponse{}
	s.state.read(func() {
		page, more := s.state.catalog.Topics(after, limit)
		may := s.visible(ctx, acl.Topic)
		for _, t := range page {
			if !may(t.Name) {
				continue
			}
			res.Topics = append(res.Topics, topicProto(s.state.catalog, t, false))
		}
		if more && len(page) > 0 {
			res.NextPageToken = pageToken(page[len(page)-1].Name)
		}
	})
	return res, nil
}

// GetMetadata implements the contract.
func (s *catalogService) GetMetadata(ctx context.Context, req *oncelogv1.GetMetadataRequest) (*oncelogv1.GetMetadataResponse, error) {
	if err := checkCount("topics", len(req.GetTopics()), maxTopicNames); err != nil {
		return nil, err
	}
	if err := checkCount("topic_ids", len(req.GetTopicIds()), maxTopicNames); err != nil {
		return nil, err
	}
	for i, name := range req.GetTopics() {
		if len(name) > maxName {
			return nil, tooLong(fmt.Sprintf("topics[%d]", i), maxName)
		}
	}
	if !s.opened.Load() {
		return nil, notJoined()
	}
	if req.GetLinearizable() {
		if err := s.current(ctx); err != nil {
			return nil, err
		}
	}
	res := &oncelogv1.GetMetadataResponse{CoordinatorLeader: uint64(s.group.Leadership().Leader)}
	s.state.read(func() {
		cat := s.state.catalog
		res.ClusterId, res.Version = cat.ClusterID(), cat.Version()
		res.Coordinators, res.CoordinatorsVersion = s.coordinatorProtos(), s.state.members.Version()
		if req.GetCoordinatorsOnly() {
			return
		}
		shards, may := map[uint64]bool{}, s.visible(ctx, acl.Topic)
		add := func(t catalog.Topic) {
			p := topicProto(cat, t, true)
			res.Topics = append(res.Topics, p)
			for _, part := range p.GetPartitions() {
				shards[part.GetShardId()] = true
			}
		}
		for _, name := range req.GetTopics() {
			if !may(name) {
				res.UnauthorizedTopics = append(res.UnauthorizedTopics, name)
			} else if t, ok := cat.Topic(name); ok {
				add(t)
			} else {
				res.UnknownTopics = append(res.UnknownTopics, name)
			}
		}
		for _, id := range req.GetTopicIds() {
			if t, ok := cat.TopicByID(id); ok && may(t.Name) {
				add(t)
			}
		}
		all := len(req.GetTopics()) == 0 && len(req.GetTopicIds()) == 0
		nodes := map[uint64]bool{}
		for _, shard := range cat.Shards() {
			if !all && !shards[shard.ID] {
				continue
			}
			res.Shards = append(res.Shards, s.shardProto(shard))
			for _, id := range shard.Replicas {
				nodes[id] = true
			}
			if shard.Move.Active() {
				nodes[shard.Move.Add] = true // it may lead before that is known here
			}
		}
		for _, n := range cat.Nodes() {
			if all || nodes[n.ID] {
				res.Nodes = append(res.Nodes, nodeProto(n))
			}
		}
	})
	return res, nil
}

// shardProto converts a shard, with its leader as far as this node knows. The
// caller holds the state still.
func (c *Coordinator) shardProto(shard catalog.Shard) *oncelogv1.Shard {
	l := c.registry.leader(shard.ID)
	return &oncelogv1.Shard{
		ShardId: shard.ID, Replicas: shard.Replicas, Leader: l.node, Term: l.term,
		PartitionCount: uint32(c.state.catalog.PartitionsIn(shard.ID)),
	}
}

// DescribeCluster implements the contract.
func (s *catalogService) DescribeCluster(ctx context.Context, _ *oncelogv1.DescribeClusterRequest) (*oncelogv1.DescribeClusterResponse, error) {
	if err := s.current(ctx); err != nil {
		return nil, err
	}
	st := s.group.Status()
	now := s.rt.Now()
	res := &oncelogv1.DescribeClusterResponse{CoordinatorLeader: uint64(st.Leader), CoordinatorTerm: st.Term}
	s.state.read(func() {
		cat := s.state.catalog
		res.Coordinators = s.coordinatorProtos()
		res.ClusterId, res.Version = cat.ClusterID(), cat.Version()
		replicas, leads := map[uint64]uint32{}, map[uint64]uint32{}
		for _, shard := range cat.Shards() {
			p := s.shardProto(shard)
			progress := s.registry.move(shard.ID)
			p.Move, p.Lost = moveProto(shard.Move), shard.Lost
			if shard.Move.Active() {
				p.MoveProblem, p.MoveLag = progress.problem, progress.lag
			}
			res.Shards = append(res.Shards, p)
			for _, n := range shard.Replicas {
				replicas[n]++
			}
			leads[p.GetLeader()]++
		}
		res.Rebalancing, res.FormatLevel = cat.Balancing() != 0, s.state.members.Level()
		for _, n := range cat.Nodes() {
			p := nodeProto(n)
			p.InstanceId = n.Instance
			p.Draining, p.DiskLost, p.DiskLow = n.Draining, n.Instance == "", s.registry.isLow(n.ID)
			p.Replicas, p.Leads = replicas[n.ID], leads[n.ID]
			if at, ok := s.registry.lastSeen(n.ID); ok {
				p.LastSeenMs = at.UnixMilli()
				p.Alive = now.Sub(at) <= s.cfg.NodeTimeout
			}
			res.Nodes = append(res.Nodes, p)
		}
		counts := s.state.txns.Counts()
		res.TopicCount, res.PartitionCount = uint32(cat.TopicCount()), uint32(cat.PartitionCount())
		res.OpenTransactions, res.OwedMarkers = uint64(counts.Open), uint64(counts.Owed)
	})
	return res, nil
}

func memberProto(m Member) *oncelogv1.Node {
	return &oncelogv1.Node{NodeId: m.ID, ClientAddress: m.ClientAddress, PeerAddress: m.PeerAddress}
}

// catalogError turns a refusal into what the contract says about it.
func (c *Coordinator) catalogError(res catalog.Result, topic string) error {
	switch res.Code {
	case catalog.CodeOK:
		return nil
	case catalog.CodeNotInitialized:
		return uninitialised()
	case catalog.CodeTopicExists:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_TOPIC_EXISTS, "topic "+strconv.Quote(topic)+" exists", apierrors.KeyTopic, topic)
	case catalog.CodeUnknownTopic:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_TOPIC, "no topic is named "+strconv.Quote(topic), apierrors.KeyTopic, topic)
	case catalog.CodeTopicChanged:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_TOPIC_CHANGED,
			fmt.Sprintf("topic %q is at version %d of its configuration, not %d", topic, res.Have, res.Need),
			apierrors.KeyTopic, topic, apierrors.KeyVersion, strconv.FormatUint(res.Have, 10))
	case catalog.CodeInvalidRetention:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED, "retention is above its limit",
			apierrors.KeyField, "config", apierrors.KeyLimit, strconv.Itoa(catalog.MaxRetention))
	case catalog.CodeInvalidTopicName:
		return apierrors.InvalidArgument("name", "breaks the rules for topic names")
	case catalog.CodeInvalidPartitions:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED,
			fmt.Sprintf("a topic may have %d partitions", catalog.MaxPartitionsPerTopic),
			apierrors.KeyField, "partitions", apierrors.KeyLimit, strconv.Itoa(catalog.MaxPartitionsPerTopic))
	case catalog.CodeInvalidReplicationFactor:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED,
			fmt.Sprintf("the replication factor may be at most %d", catalog.MaxReplicationFactor),
			apierrors.KeyField, "replication_factor", apierrors.KeyLimit, strconv.Itoa(catalog.MaxReplicationFactor))
	case catalog.CodeInsufficientNodes:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INSUFFICIENT_NODES,
			fmt.Sprintf("the replication factor is %d, but %d partition nodes are registered", res.Need, res.Have),
			apierrors.KeyWanted, strconv.FormatUint(res.Need, 10), apierrors.KeyRegistered, strconv.FormatUint(res.Have, 10))
	case catalog.CodeLimitExceeded:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED,
			fmt.Sprintf("it would take %d, the cluster's limit is %d", res.Need, res.Have),
			apierrors.KeyField, "partitions", apierrors.KeyLimit, strconv.FormatUint(res.Have, 10))
	case catalog.CodeInvalidNode:
		return apierrors.InvalidArgument("node", "needs an id above 0, both addresses of at most 255 bytes and an instance id of at most 64")
	case catalog.CodeNodeMismatch:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE,
			fmt.Sprintf("node id %d belongs to another data directory; give this node an id of its own, or, if that directory is lost, say so with `oncelog node replace-disk`", res.Node.ID),
			apierrors.KeyNodeID, strconv.FormatUint(res.Node.ID, 10))
	case catalog.CodeUnknownNode:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_NODE, "")
	case catalog.CodeUnknownShard:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_SHARD, "")
	default:
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, "unexpected answer of the catalogue: "+res.Code.String())
	}
}
