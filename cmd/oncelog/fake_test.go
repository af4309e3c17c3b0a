package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/api/batch"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// fakeCluster is one server that plays a coordinator and a partition node: it
// answers from fixed data, and keeps records in memory.
type fakeCluster struct {
	oncelogv1.UnimplementedCatalogServiceServer
	oncelogv1.UnimplementedTransactionServiceServer
	oncelogv1.UnimplementedGroupServiceServer
	oncelogv1.UnimplementedLogServiceServer
	oncelogv1.UnimplementedStatusServiceServer
	oncelogv1.UnimplementedCoordinatorServiceServer
	oncelogv1.UnimplementedDebugServiceServer

	address string
	server  *grpc.Server

	mu     sync.Mutex
	early  int // how often the topic early was asked for too soon
	topics []*oncelogv1.Topic
	logs   map[uint64][]stored // by partition id
	ended  []*oncelogv1.EndTransactionRequest
	// hidden is how many records at the end of each partition an open
	// transaction hides from read_committed.
	hidden uint64
	// refuse is the answer to appends.
	refuse *apierrors.Error
	// leaderless: DescribeCluster has nobody to answer it.
	leaderless bool
	// denied: the transactional ids are shown to nobody.
	denied bool
	// duel: producers take the id "duel" from each other.
	duel bool
	// prepared is the transaction that waits for another system; nil: none does.
	prepared  *fakePrepared
	placement *fakePlacement
	// members are the coordinators; stuck: a change of them does not go on.
	members *oncelogv1.ListCoordinatorsResponse
	stuck   bool
	// disk is what GetStatus says of it.
	disk *oncelogv1.DiskStatus
}

// stored is one batch with its first offset.
type stored struct {
	base  uint64
	count uint64
	bytes []byte
}

// fakeTime is when everything happens.
const fakeTime = 1_700_000_000_000

func startFake(t *testing.T) *fakeCluster {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeCluster{address: l.Addr().String(), server: grpc.NewServer(), logs: map[uint64][]stored{}, members: threeCoordinators()}
	f.addTopic("orders", 2)
	f.placement = &fakePlacement{f: f}
	oncelogv1.RegisterPlacementServiceServer(f.server, f.placement)
	oncelogv1.RegisterAclServiceServer(f.server, &fakeACLs{f: f})
	oncelogv1.RegisterCatalogServiceServer(f.server, f)
	oncelogv1.RegisterTransactionServiceServer(f.server, f)
	oncelogv1.RegisterGroupServiceServer(f.server, f)
	oncelogv1.RegisterLogServiceServer(f.server, f)
	oncelogv1.RegisterStatusServiceServer(f.server, f)
	oncelogv1.RegisterCoordinatorServiceServer(f.server, f)
	oncelogv1.RegisterDebugServiceServer(f.server, f)
	h := grpchealth.NewServer()
	h.SetServingStatus("draining", healthv1.HealthCheckResponse_NOT_SERVING)
	healthv1.RegisterHealthServer(f.server, h)
	go func() { _ = f.server.Serve(l) }()
	t.Cleanup(f.server.Stop)
	return f
}

func (f *fakeCluster) addTopic(name string, partitions uint32) *oncelogv1.Topic {
	topic := &oncelogv1.Topic{
		Name: name, TopicId: uint64(len(f.topics) + 1), PartitionCount: partitions, ReplicationFactor: 3, CreatedAtMs: fakeTime,
		Config: &oncelogv1.TopicConfig{
			RetentionMs: proto.Int64(-1), RetentionBytes: proto.Int64(-1), CleanupPolicy: oncelogv1.CleanupPolicy_CLEANUP_POLICY_DELETE,
			MinCompactionLagMs: proto.Int64(0), DeleteRetentionMs: proto.Int64(86_400_000),
		},
	}
	for i := range partitions {
		topic.Partitions = append(topic.Partitions, &oncelogv1.Partition{
			Partition: i, PartitionId: topic.GetTopicId()*100 + uint64(i), ShardId: 2 + uint64(i%2),
		})
	}
	f.topics = append(f.topics, topic)
	return topic
}

func (f *fakeCluster) find(name string) *oncelogv1.Topic {
	i := slices.IndexFunc(f.topics, func(t *oncelogv1.Topic) bool { return t.GetName() == name })
	if i < 0 {
		return nil
	}
	return f.topics[i]
}

func refusal(code oncelogv1.ErrorCode, kv ...string) error { return apierrors.New(code, "", kv...) }

// node is the only node there is, in both roles.
func (f *fakeCluster) node() []*oncelogv1.Node {
	return []*oncelogv1.Node{{NodeId: 1, ClientAddress: f.address, Alive: true, LastSeenMs: fakeTime}}
}

func (f *fakeCluster) shards() []*oncelogv1.Shard {
	return []*oncelogv1.Shard{
		{ShardId: 3, Replicas: []uint64{1, 2, 3}, Leader: 1, Term: 4, PartitionCount: 1},
		{ShardId: 2, Replicas: []uint64{1, 2, 3}, Leader: 1, Term: 5, PartitionCount: 1},
	}
}

func (f *fakeCluster) GetMetadata(_ context.Context, req *oncelogv1.GetMetadataRequest) (*oncelogv1.GetMetadataResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := &oncelogv1.GetMetadataResponse{
		ClusterId: "fake", Version: 7, Shards: f.shards(), Coordinators: f.node(), CoordinatorLeader: 1, Nodes: f.node(),
	}
	for _, name := range req.GetTopics() {
		if t := f.find(name); t != nil {
			resp.Topics = append(resp.Topics, t)
		} else {
			resp.UnknownTopics = append(resp.UnknownTopics, name)
		}
	}
	return resp, nil
}

func (f *fakeCluster) CreateTopic(_ context.Context, req *oncelogv1.CreateTopicRequest) (*oncelogv1.CreateTopicResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.find(req.GetName()) != nil:
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_TOPIC_EXISTS, apierrors.KeyTopic, req.GetName())
	case req.GetName() == "early" && f.early < 2: // no partition node is there yet
		f.early++
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_INSUFFICIENT_NODES, apierrors.KeyWanted, "1", apierrors.KeyRegistered, "0")
	case req.GetReplicationFactor() > 3:
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_INSUFFICIENT_NODES, apierrors.KeyWanted, "5", apierrors.KeyRegistered, "3")
	}
	topic := f.addTopic(req.GetName(), req.GetPartitions())
	proto.Merge(topic.GetConfig(), req.GetConfig())
	return &oncelogv1.CreateTopicResponse{Topic: topic, Ready: true}, nil
}

func (f *fakeCluster) AlterTopic(_ context.Context, req *oncelogv1.AlterTopicRequest) (*oncelogv1.AlterTopicResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	topic := f.topics[slices.IndexFunc(f.topics, func(t *oncelogv1.Topic) bool { return t.GetTopicId() == req.GetTopicId() })]
	proto.Merge(topic.GetConfig(), req.GetConfig())
	topic.ConfigVersion++
	return &oncelogv1.AlterTopicResponse{Topic: topic}, nil
}

// DeleteRecords removes nothing: what is kept here are batches.
func (f *fakeCluster) DeleteRecords(_ context.Context, req *oncelogv1.DeleteRecordsRequest) (*oncelogv1.DeleteRecordsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := &oncelogv1.DeleteRecordsResponse{}
	for _, d := range req.GetDeletions() {
		if end := f.visible(d.GetPartition().GetPartitionId(), 0); d.GetBeforeOffset() > end {
			return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_OFFSET_OUT_OF_RANGE, apierrors.KeyStartOffset, "0", apierrors.KeyEndOffset, fmt.Sprint(end))
		}
		resp.Starts = append(resp.Starts, &oncelogv1.PartitionStart{Partition: d.GetPartition(), StartOffset: d.GetBeforeOffset()})
	}
	return resp, nil
}

func (f *fakeCluster) DeleteTopic(_ context.Context, req *oncelogv1.DeleteTopicRequest) (*oncelogv1.DeleteTopicResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.find(req.GetName()) == nil {
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_TOPIC, apierrors.KeyTopic, req.GetName())
	}
	f.topics = slices.DeleteFunc(f.topics, func(t *oncelogv1.Topic) bool { return t.GetName() == req.GetName() })
	return &oncelogv1.DeleteTopicResponse{}, nil
}

// ListTopics has one topic per page.
func (f *fakeCluster) ListTopics(_ context.Context, req *oncelogv1.ListTopicsRequest) (*oncelogv1.ListTopicsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.topics, func(t *oncelogv1.Topic) bool { return t.GetName() == req.GetPageToken() })
	resp := &oncelogv1.ListTopicsResponse{}
	if i+1 < len(f.topics) {
		resp.Topics = append(resp.Topics, proto.CloneOf(f.topics[i+1]))
		resp.Topics[0].Partitions = nil
	}
	if i+2 < len(f.topics) {
		resp.NextPageToken = f.topics[i+1].GetName()
	}
	return resp, nil
}

func (f *fakeCluster) DescribeCluster(context.Context, *oncelogv1.DescribeClusterRequest) (*oncelogv1.DescribeClusterResponse, error) {
	if f.leaderless {
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d := &oncelogv1.DescribeClusterResponse{
		ClusterId: "fake", Version: 7, Coordinators: f.node(), CoordinatorLeader: 1, CoordinatorTerm: 9,
		Nodes: append(f.node(), &oncelogv1.Node{NodeId: 2, ClientAddress: unreachable}), Shards: f.shards(),
		TopicCount: 1, PartitionCount: 2, OpenTransactions: 1234, OwedMarkers: 1,
	}
	f.placement.picture(d)
	return d, nil
}

// unreachable is where nobody listens.
const unreachable = "127.0.0.1:1"

// GetStatus answers as the partition node, whose id the coordinator shares.
func (f *fakeCluster) GetStatus(context.Context, *oncelogv1.GetStatusRequest) (*oncelogv1.GetStatusResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &oncelogv1.GetStatusResponse{
		Disk:      f.disk,
		ClusterId: "fake", NodeId: 1, Role: oncelogv1.NodeRole_NODE_ROLE_PARTITION, Version: "v0.1.0", StartedAtMs: fakeTime - 3_723_000,
		Groups: []*oncelogv1.GroupStatus{
			{GroupId: 2, Leader: 1, Term: 5, Commit: 1500, Applied: 1490, Ready: true},
			{GroupId: 3, Leader: 1, Term: 4, Commit: 10, Applied: 10, Ready: true},
		},
		Counters: &oncelogv1.NodeCounters{Fsyncs: 98765, RecordsAppended: 1234567},
	}, nil
}

func fakeRef(number uint64) *oncelogv1.TxnRef {
	return &oncelogv1.TxnRef{ProducerId: 4711, Epoch: 3, TxnNumber: number}
}

func (f *fakeCluster) ListTransactions(_ context.Context, req *oncelogv1.ListTransactionsRequest) (*oncelogv1.ListTransactionsResponse, error) {
	f.mu.Lock()
	denied := f.denied
	f.mu.Unlock()
	if denied {
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_AUTHORIZATION_FAILED)
	}
	all := []*oncelogv1.TransactionListing{
		{
			TransactionalId: "orders-7", Txn: fakeRef(12), State: oncelogv1.TransactionState_TRANSACTION_STATE_ONGOING,
			AgeMs: 65_000, Completing: 1, ClientId: "oncelog-go",
		},
		{TransactionalId: "with\nline", Txn: &oncelogv1.TxnRef{ProducerId: 8}, State: oncelogv1.TransactionState_TRANSACTION_STATE_EMPTY},
	}
	if f.duel {
		all = append(all, &oncelogv1.TransactionListing{
			TransactionalId: "duel", Txn: fakeRef(40), State: oncelogv1.TransactionState_TRANSACTION_STATE_PREPARE_ABORT, AgeMs: 90_000,
		})
	}
	all = append(all, f.listPrepared()...)
	resp := &oncelogv1.ListTransactionsResponse{}
	for _, l := range all {
		stateFits := len(req.GetStates()) == 0 || slices.Contains(req.GetStates(), l.GetState())
		if stateFits && strings.Contains(l.GetTransactionalId(), req.GetIdContains()) && l.GetAgeMs() >= req.GetOlderThanMs() {
			resp.Transactions = append(resp.Transactions, l)
		}
	}
	return resp, nil
}

func (f *fakeCluster) DescribeTransaction(_ context.Context, req *oncelogv1.DescribeTransactionRequest) (*oncelogv1.DescribeTransactionResponse, error) {
	if f.duel && req.GetTransactionalId() == "duel" {
		d := &oncelogv1.DescribeTransactionResponse{TransactionalId: "duel", Epoch: 40, TimeoutMs: 600_000}
		for i := range uint64(6) {
			reason := oncelogv1.AbortReason_ABORT_REASON_FENCED
			if i%2 == 0 {
				reason = oncelogv1.AbortReason_ABORT_REASON_TIMEOUT
			}
			d.Outcomes = append(d.Outcomes, &oncelogv1.DecidedTransaction{Txn: fakeRef(i), Outcome: oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_ABORTED, Reason: reason, DecidedAtMs: fakeTime - int64(i)*60_000})
		}
		return d, nil
	}
	if d := f.describePrepared(req); d != nil {
		return d, nil
	}
	if req.GetTransactionalId() != "orders-7" && req.GetProducerId() != 4711 {
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PRODUCER)
	}
	progress := func(partition uint32, next uint64) *oncelogv1.PartitionProgress {
		return &oncelogv1.PartitionProgress{
			Partition:    &oncelogv1.PartitionRef{Topic: "orders", Partition: partition, PartitionId: 100 + uint64(partition)},
			NextSequence: next,
		}
	}
	return &oncelogv1.DescribeTransactionResponse{
		TransactionalId: "orders-7", ProducerId: 4711, Epoch: 3, State: oncelogv1.TransactionState_TRANSACTION_STATE_ONGOING,
		TimeoutMs: 60_000, ClientId: "oncelog-go", LastUpdateMs: fakeTime, LastTxnNumber: 12,
		Open: &oncelogv1.OpenTransaction{
			Txn: fakeRef(12), StartedAtMs: fakeTime - 65_000, DeadlineMs: fakeTime + 5_000,
			Participants: []*oncelogv1.TransactionParticipant{{ShardId: 2, Partitions: []*oncelogv1.PartitionProgress{progress(0, 0)}}},
		},
		Completing: []*oncelogv1.DecidedTransaction{{
			Txn: fakeRef(11), Outcome: oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_ABORTED,
			Reason: oncelogv1.AbortReason_ABORT_REASON_TIMEOUT, DecidedAtMs: fakeTime - 70_000,
			Participants: []*oncelogv1.TransactionParticipant{
				{ShardId: 2, Partitions: []*oncelogv1.PartitionProgress{progress(0, 3)}, Applied: true},
				{ShardId: 3, Partitions: []*oncelogv1.PartitionProgress{progress(1, 9)}},
			},
		}},
		Outcomes: []*oncelogv1.DecidedTransaction{
			{Txn: fakeRef(10), Outcome: oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED, DecidedAtMs: fakeTime - 90_000},
		},
	}, nil
}

func (f *fakeCluster) AbortTransaction(_ context.Context, req *oncelogv1.AbortTransactionRequest) (*oncelogv1.AbortTransactionResponse, error) {
	switch {
	case req.GetTransactionalId() == preparedID:
		return f.abortPrepared(req)
	case req.GetTransactionalId() == "idle":
		return &oncelogv1.AbortTransactionResponse{}, nil
	case req.GetTransactionalId() != "orders-7":
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PRODUCER)
	case req.GetTxn() != nil && req.GetTxn().GetTxnNumber() != 12:
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_CONFLICT, apierrors.KeyOutcome, "COMMITTED")
	}
	return &oncelogv1.AbortTransactionResponse{Txn: fakeRef(12)}, nil
}

func (f *fakeCluster) GetOutcome(_ context.Context, req *oncelogv1.GetOutcomeRequest) (*oncelogv1.GetOutcomeResponse, error) {
	outcome := oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_FORGOTTEN
	switch number := req.GetTxn().GetTxnNumber(); {
	case req.GetTxn().GetProducerId() != 4711:
		outcome = oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_INVALID
	case number == 10:
		outcome = oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED
	case number == 11:
		outcome = oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_ABORTED
	case number >= 12:
		outcome = oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_OPEN
	}
	return &oncelogv1.GetOutcomeResponse{Outcome: outcome}, nil
}

func (f *fakeCluster) InitProducer(_ context.Context, req *oncelogv1.InitProducerRequest) (*oncelogv1.InitProducerResponse, error) {
	return &oncelogv1.InitProducerResponse{ProducerId: 4711, Epoch: 4, ProducerToken: []byte("token"), TimeoutMs: req.GetTimeoutMs()}, nil
}

func (f *fakeCluster) EndTransaction(_ context.Context, req *oncelogv1.EndTransactionRequest) (*oncelogv1.EndTransactionResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = append(f.ended, req)
	outcome := oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_ABORTED
	if req.GetCommit() {
		outcome = oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED
	}
	return &oncelogv1.EndTransactionResponse{Outcome: outcome, CurrentEpoch: 4}, nil
}

func (f *fakeCluster) AppendStream(stream oncelogv1.LogService_AppendStreamServer) error {
	for {
		frame, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // the client has closed the stream
		}
		resp := &oncelogv1.AppendStreamResponse{}
		for _, req := range frame.GetRequests() {
			resp.Responses = append(resp.Responses, f.append(req))
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}

func (f *fakeCluster) append(req *oncelogv1.AppendRequest) *oncelogv1.AppendResponse {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := &oncelogv1.AppendResponse{RequestId: req.GetRequestId()}
	for _, p := range req.GetPartitions() {
		info, err := batch.Validate(p.GetBatch(), batch.DefaultLimits())
		if err != nil || f.refuse != nil {
			resp.Error = apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_CORRUPT_BATCH, "").Proto()
			if f.refuse != nil {
				resp.Error = f.refuse.Proto()
			}
			return resp
		}
		id := p.GetPartition().GetPartitionId()
		base := f.end(id)
		f.logs[id] = append(f.logs[id], stored{base: base, count: uint64(info.Records), bytes: p.GetBatch()})
		resp.Results = append(resp.Results, &oncelogv1.AppendResult{
			Partition: p.GetPartition(), ShardId: 2 + id%2, BaseOffset: &base, NextSequence: p.GetBaseSequence() + uint64(info.Records),
		})
	}
	return resp
}

// end returns the offset after the last record of a partition.
func (f *fakeCluster) end(id uint64) uint64 {
	if n := len(f.logs[id]); n > 0 {
		return f.logs[id][n-1].base + f.logs[id][n-1].count
	}
	return 0
}

// visible returns the end that an isolation level shows.
func (f *fakeCluster) visible(id uint64, isolation oncelogv1.IsolationLevel) uint64 {
	if isolation == oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_UNCOMMITTED {
		return f.end(id)
	}
	return f.end(id) - min(f.hidden, f.end(id))
}

func (f *fakeCluster) ListOffsets(_ context.Context, req *oncelogv1.ListOffsetsRequest) (*oncelogv1.ListOffsetsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := &oncelogv1.ListOffsetsResponse{}
	for _, q := range req.GetQueries() {
		id := q.GetPartition().GetPartitionId()
		answer := &oncelogv1.OffsetAnswer{Partition: q.GetPartition()}
		switch {
		case q.GetPosition() == oncelogv1.StartPosition_START_POSITION_LATEST:
			answer.Offset = proto.Uint64(f.visible(id, req.GetIsolation()))
		case q.GetPosition() == oncelogv1.StartPosition_START_POSITION_EARLIEST:
			answer.Offset = proto.Uint64(0)
		case q.GetTimestampMs() <= fakeTime && f.end(id) > 0:
			answer.Offset = proto.Uint64(1) // the second record is the first of that time
		}
		resp.Answers = append(resp.Answers, answer)
	}
	return resp, nil
}

// Fetch sends everything from the batch that holds the offset, then waits for
// the client to go.
func (f *fakeCluster) Fetch(req *oncelogv1.FetchRequest, stream oncelogv1.LogService_FetchServer) error {
	f.mu.Lock()
	id := req.GetPartition().GetPartitionId()
	end := f.visible(id, req.GetIsolation())
	resp := &oncelogv1.FetchResponse{NextOffset: end, StableEnd: end, AppliedEnd: f.end(id)}
	for _, b := range f.logs[id] {
		if b.base+b.count > req.GetOffset() && b.base < end {
			resp.Batches = append(resp.Batches, &oncelogv1.FetchedBatch{
				BaseOffset: b.base, VisibleRecords: uint32(min(b.count, end-b.base)), Batch: b.bytes,
			})
		}
	}
	f.mu.Unlock()
	if err := stream.Send(resp); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (f *fakeCluster) DescribePartitions(_ context.Context, req *oncelogv1.DescribePartitionsRequest) (*oncelogv1.DescribePartitionsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := &oncelogv1.DescribePartitionsResponse{}
	for _, ref := range req.GetPartitions() {
		st := &oncelogv1.PartitionStatus{
			Partition: ref, ShardId: 2, AppliedEnd: f.end(ref.GetPartitionId()), SizeBytes: 40 * f.end(ref.GetPartitionId()),
			StableEnd: f.visible(ref.GetPartitionId(), oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_COMMITTED),
		}
		if st.GetStableEnd() < st.GetAppliedEnd() {
			st.OpenTransactions, st.BlockedBy, st.BlockedSinceMs = 1, fakeRef(12), fakeTime
			if f.duel {
				st.BlockedSinceMs -= 900_000
			}
		}
		resp.Partitions = append(resp.Partitions, st)
	}
	return resp, nil
}

// ListCoordinators implements the contract.
func (f *fakeCluster) ListCoordinators(context.Context, *oncelogv1.ListCoordinatorsRequest) (*oncelogv1.ListCoordinatorsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := proto.CloneOf(f.members)
	// What is under way goes a step further with every look.
	f.members.Members = slices.DeleteFunc(f.members.Members, func(m *oncelogv1.CoordinatorMember) bool {
		return m.GetState() == oncelogv1.CoordinatorState_COORDINATOR_STATE_LEAVING && !f.stuck
	})
	for _, m := range f.members.GetMembers() {
		switch {
		case f.stuck:
		case m.GetState() == oncelogv1.CoordinatorState_COORDINATOR_STATE_ADDED:
			m.State, m.Alive, m.Match = oncelogv1.CoordinatorState_COORDINATOR_STATE_LEARNER, true, 1200
		case m.GetState() == oncelogv1.CoordinatorState_COORDINATOR_STATE_LEARNER:
			m.State = oncelogv1.CoordinatorState_COORDINATOR_STATE_VOTER
			f.members.Members = slices.DeleteFunc(f.members.Members, func(x *oncelogv1.CoordinatorMember) bool { return x.GetNodeId() == m.GetReplaces() })
			m.Replaces = 0
		}
	}
	return list, nil
}

// AddCoordinator implements the contract.
func (f *fakeCluster) AddCoordinator(_ context.Context, req *oncelogv1.AddCoordinatorRequest) (*oncelogv1.AddCoordinatorResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := f.members.Members[len(f.members.Members)-1]
	switch {
	case req.GetNodeId() != 0 && req.GetNodeId() <= last.GetNodeId():
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE, apierrors.KeyNodeID, fmt.Sprint(req.GetNodeId()))
	case last.GetState() != oncelogv1.CoordinatorState_COORDINATOR_STATE_VOTER:
		return nil, refusal(oncelogv1.ErrorCode_ERROR_CODE_CHANGE_IN_PROGRESS, apierrors.KeyNodeID, fmt.Sprint(last.GetNodeId()))
	}
	m := &oncelogv1.CoordinatorMember{
		NodeId: max(req.GetNodeId(), last.GetNodeId()+1), ClientAddress: req.GetClientAddress(), PeerAddress: req.GetPeerAddress(),
		Replaces: req.GetReplaces(), State: oncelogv1.CoordinatorState_COORDINATOR_STATE_ADDED,
	}
	f.members.Members = append(f.members.Members, m)
	return &oncelogv1.AddCoordinatorResponse{Member: proto.CloneOf(m)}, nil
}

// RemoveCoordinator implements the contract.
func (f *fakeCluster) RemoveCoordinator(_ context.Context, req *oncelogv1.RemoveCoordinatorRequest) (*oncelogv1.RemoveCoordinatorResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return nil, f.refuse
	}
	for _, m := range f.members.GetMembers() {
		if m.GetNodeId() == req.GetNodeId() {
			m.State = oncelogv1.CoordinatorState_COORDINATOR_STATE_LEAVING
		}
	}
	return &oncelogv1.RemoveCoordinatorResponse{}, nil
}

// threeCoordinators are the members at the beginning.
func threeCoordinators() *oncelogv1.ListCoordinatorsResponse {
	list := &oncelogv1.ListCoordinatorsResponse{Leader: 1, Term: 9, Commit: 1234, Version: 5}
	for id := uint64(1); id <= 3; id++ {
		list.Members = append(list.Members, &oncelogv1.CoordinatorMember{
			NodeId: id, ClientAddress: fmt.Sprintf("10.0.0.%d:7100", id), PeerAddress: fmt.Sprintf("10.0.0.%d:7101", id),
			InstanceId: fmt.Sprint("disk-", id), State: oncelogv1.CoordinatorState_COORDINATOR_STATE_VOTER,
			Leader: id == 1, Alive: id < 3, Match: 1234 - id,
		})
	}
	return list
}
