package meddle

import (
	"strings"

	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// request is one that is wrong, and how it may be answered.
type request struct {
	method string
	body   proto.Message
	resp   proto.Message
	may    answer
}

// long is a name of one byte too many.
var long = strings.Repeat("n", 250)

// wrongTransactions are requests about transactions that can never be right.
func wrongTransactions() []request {
	init, initResp := oncelogv1.TransactionService_InitProducer_FullMethodName, &oncelogv1.InitProducerResponse{}
	list, listResp := oncelogv1.TransactionService_ListTransactions_FullMethodName, &oncelogv1.ListTransactionsResponse{}
	nobody := &oncelogv1.TxnRef{ProducerId: 1 << 50, TxnNumber: 1}
	return []request{
		{init, &oncelogv1.InitProducerRequest{TransactionalId: long}, initResp, limitExceeded},
		{init, &oncelogv1.InitProducerRequest{TransactionalId: "meddle.x", ClientId: long}, initResp, limitExceeded},
		{init, &oncelogv1.InitProducerRequest{TransactionalId: "meddle.x", RequestId: long}, initResp, limitExceeded},
		{init, &oncelogv1.InitProducerRequest{TransactionalId: "meddle.x", TimeoutMs: 1}, initResp, invalidArgument},
		{init, &oncelogv1.InitProducerRequest{TransactionalId: "meddle.x", TimeoutMs: -5}, initResp, invalidArgument},
		{init, &oncelogv1.InitProducerRequest{TransactionalId: "meddle.x", TimeoutMs: 900_001}, initResp, invalidArgument},
		{list, &oncelogv1.ListTransactionsRequest{OlderThanMs: -1}, listResp, invalidArgument},
		{list, &oncelogv1.ListTransactionsRequest{IdContains: long}, listResp, limitExceeded},
		{list, &oncelogv1.ListTransactionsRequest{PageSize: 1001}, listResp, limitExceeded},
		{list, &oncelogv1.ListTransactionsRequest{PageToken: "x"}, listResp, invalidArgument},
		{list, &oncelogv1.ListTransactionsRequest{States: []oncelogv1.TransactionState{77}}, listResp, invalidArgument},
		{list, &oncelogv1.ListTransactionsRequest{States: make([]oncelogv1.TransactionState, 1001)}, listResp, limitExceeded},
		{oncelogv1.TransactionService_GetOutcome_FullMethodName, &oncelogv1.GetOutcomeRequest{}, &oncelogv1.GetOutcomeResponse{}, invalidArgument},
		{oncelogv1.TransactionService_GetOutcome_FullMethodName, &oncelogv1.GetOutcomeRequest{Txn: &oncelogv1.TxnRef{ProducerId: 3}}, &oncelogv1.GetOutcomeResponse{}, invalidArgument},
		{oncelogv1.TransactionService_EndTransaction_FullMethodName, &oncelogv1.EndTransactionRequest{Txn: nobody, ProducerToken: []byte("x")}, &oncelogv1.EndTransactionResponse{}, invalidToken},
		{oncelogv1.TransactionService_EndTransaction_FullMethodName, &oncelogv1.EndTransactionRequest{}, &oncelogv1.EndTransactionResponse{}, invalidArgument},
		{oncelogv1.TransactionService_DescribeTransaction_FullMethodName, &oncelogv1.DescribeTransactionRequest{}, &oncelogv1.DescribeTransactionResponse{}, invalidArgument},
		{oncelogv1.TransactionService_DescribeTransaction_FullMethodName, &oncelogv1.DescribeTransactionRequest{TransactionalId: "meddle.nobody"}, &oncelogv1.DescribeTransactionResponse{}, unknownProducer},
		{oncelogv1.TransactionService_DescribeTransaction_FullMethodName, &oncelogv1.DescribeTransactionRequest{TransactionalId: long}, &oncelogv1.DescribeTransactionResponse{}, limitExceeded},
		{oncelogv1.TransactionService_AbortTransaction_FullMethodName, &oncelogv1.AbortTransactionRequest{}, &oncelogv1.AbortTransactionResponse{}, invalidArgument},
		{oncelogv1.TransactionService_AbortTransaction_FullMethodName, &oncelogv1.AbortTransactionRequest{TransactionalId: "meddle.nobody"}, &oncelogv1.AbortTransactionResponse{}, unknownProducer},
		{oncelogv1.TransactionService_FenceProducer_FullMethodName, &oncelogv1.FenceProducerRequest{}, &oncelogv1.FenceProducerResponse{}, invalidArgument},
		{oncelogv1.TransactionService_FenceProducer_FullMethodName, &oncelogv1.FenceProducerRequest{TransactionalId: "meddle.nobody"}, &oncelogv1.FenceProducerResponse{}, unknownProducer},
		{oncelogv1.TransactionService_DeleteTransactionalId_FullMethodName, &oncelogv1.DeleteTransactionalIdRequest{}, &oncelogv1.DeleteTransactionalIdResponse{}, invalidArgument},
		{oncelogv1.TransactionService_DeleteTransactionalId_FullMethodName, &oncelogv1.DeleteTransactionalIdRequest{TransactionalId: "meddle.nobody"}, &oncelogv1.DeleteTransactionalIdResponse{}, unknownProducer},
	}
}

// wrongTopics are requests about topics that can never be right.
func wrongTopics() []request {
	create, createResp := oncelogv1.CatalogService_CreateTopic_FullMethodName, &oncelogv1.CreateTopicResponse{}
	metadata, metadataResp := oncelogv1.CatalogService_GetMetadata_FullMethodName, &oncelogv1.GetMetadataResponse{}
	return []request{
		{create, &oncelogv1.CreateTopicRequest{}, createResp, invalidArgument},
		{create, &oncelogv1.CreateTopicRequest{Name: "."}, createResp, invalidArgument},
		{create, &oncelogv1.CreateTopicRequest{Name: long}, createResp, invalidArgument},
		{create, &oncelogv1.CreateTopicRequest{Name: "not a name"}, createResp, invalidArgument},
		{create, &oncelogv1.CreateTopicRequest{Name: "meddle.x", Partitions: 10_001}, createResp, limitExceeded},
		{create, &oncelogv1.CreateTopicRequest{Name: "meddle.x", ReplicationFactor: 10}, createResp, limitExceeded},
		{create, &oncelogv1.CreateTopicRequest{Name: "meddle.x", ReplicationFactor: 9}, createResp, insufficientNodes},
		{oncelogv1.CatalogService_DeleteTopic_FullMethodName, &oncelogv1.DeleteTopicRequest{}, &oncelogv1.DeleteTopicResponse{}, invalidArgument},
		{oncelogv1.CatalogService_DeleteTopic_FullMethodName, &oncelogv1.DeleteTopicRequest{Name: long}, &oncelogv1.DeleteTopicResponse{}, limitExceeded},
		{oncelogv1.CatalogService_DeleteTopic_FullMethodName, &oncelogv1.DeleteTopicRequest{Name: "meddle.nothing"}, &oncelogv1.DeleteTopicResponse{}, unknownTopic},
		{oncelogv1.CatalogService_ListTopics_FullMethodName, &oncelogv1.ListTopicsRequest{PageSize: 1001}, &oncelogv1.ListTopicsResponse{}, limitExceeded},
		{oncelogv1.CatalogService_ListTopics_FullMethodName, &oncelogv1.ListTopicsRequest{PageToken: long + long}, &oncelogv1.ListTopicsResponse{}, limitExceeded},
		{metadata, &oncelogv1.GetMetadataRequest{Topics: make([]string, 1001)}, metadataResp, limitExceeded},
		{metadata, &oncelogv1.GetMetadataRequest{TopicIds: make([]uint64, 1001)}, metadataResp, limitExceeded},
		{metadata, &oncelogv1.GetMetadataRequest{Topics: []string{long}}, metadataResp, limitExceeded},
	}
}

// wrongGroups are requests about groups that can never be right.
func wrongGroups() []request {
	assign, assignResp := oncelogv1.GroupService_AssignPartitions_FullMethodName, &oncelogv1.AssignPartitionsResponse{}
	commit, commitResp := oncelogv1.GroupService_CommitOffsets_FullMethodName, &oncelogv1.CommitOffsetsResponse{}
	list, listResp := oncelogv1.GroupService_ListGroups_FullMethodName, &oncelogv1.ListGroupsResponse{}
	at := func(o *oncelogv1.OffsetCommit) *oncelogv1.CommitOffsetsRequest {
		return &oncelogv1.CommitOffsetsRequest{Offsets: &oncelogv1.GroupOffsets{GroupId: "meddle.g", Offsets: []*oncelogv1.OffsetCommit{o}}}
	}
	beat, beatResp := oncelogv1.GroupService_GroupHeartbeat_FullMethodName, &oncelogv1.GroupHeartbeatResponse{}
	asking := func(s *oncelogv1.GroupSubscription) *oncelogv1.GroupHeartbeatRequest {
		return &oncelogv1.GroupHeartbeatRequest{GroupId: "meddle.g", MemberId: "m", Subscription: s}
	}
	return []request{
		{beat, &oncelogv1.GroupHeartbeatRequest{MemberId: "m"}, beatResp, invalidArgument},
		{beat, &oncelogv1.GroupHeartbeatRequest{GroupId: "meddle.none", MemberId: "m"}, beatResp, unknownMember},
		{beat, &oncelogv1.GroupHeartbeatRequest{GroupId: "meddle.none", MemberId: "m", InstanceId: long}, beatResp, limitExceeded},
		{beat, &oncelogv1.GroupHeartbeatRequest{GroupId: "meddle.none", MemberId: "m", ReleasedPartitionIds: make([]uint64, 10_001)}, beatResp, limitExceeded},
		{beat, asking(&oncelogv1.GroupSubscription{}), beatResp, invalidArgument},
		{beat, asking(subscription("")), beatResp, invalidArgument},
		{beat, asking(subscription(long)), beatResp, limitExceeded},
		{beat, asking(subscription(make([]string, 1001)...)), beatResp, limitExceeded},
		{beat, asking(&oncelogv1.GroupSubscription{Topics: []string{"t"}, Assignor: 9}), beatResp, invalidArgument},
		{beat, asking(&oncelogv1.GroupSubscription{Topics: []string{"t"}, SessionTimeoutMs: 1}), beatResp, invalidArgument},
		{beat, asking(&oncelogv1.GroupSubscription{Topics: []string{"t"}, RebalanceTimeoutMs: 1 << 30}), beatResp, limitExceeded},
		{assign, &oncelogv1.AssignPartitionsRequest{MemberId: "m"}, assignResp, invalidArgument},
		{assign, &oncelogv1.AssignPartitionsRequest{GroupId: "meddle.g"}, assignResp, invalidArgument},
		{assign, &oncelogv1.AssignPartitionsRequest{GroupId: "meddle.g", MemberId: long}, assignResp, limitExceeded},
		{assign, &oncelogv1.AssignPartitionsRequest{GroupId: "meddle.g", MemberId: "m", ClientId: long}, assignResp, limitExceeded},
		{assign, &oncelogv1.AssignPartitionsRequest{GroupId: "meddle.g", MemberId: "m", Partitions: []*oncelogv1.PartitionRef{nowhere}}, assignResp, unknownPartition},
		{assign, &oncelogv1.AssignPartitionsRequest{GroupId: "meddle.g", MemberId: "m", Partitions: []*oncelogv1.PartitionRef{{}}}, assignResp, invalidArgument},
		{assign, &oncelogv1.AssignPartitionsRequest{GroupId: "meddle.g", MemberId: "m", Partitions: []*oncelogv1.PartitionRef{{Topic: "meddle.nothing"}}}, assignResp, unknownTopic},
		{assign, &oncelogv1.AssignPartitionsRequest{GroupId: "meddle.g", MemberId: "m", Partitions: []*oncelogv1.PartitionRef{{Topic: long}}}, assignResp, limitExceeded},
		{assign, &oncelogv1.AssignPartitionsRequest{GroupId: "meddle.g", MemberId: "m", Partitions: make([]*oncelogv1.PartitionRef, 10_001)}, assignResp, limitExceeded},
		{oncelogv1.GroupService_LeaveGroup_FullMethodName, &oncelogv1.LeaveGroupRequest{GroupId: "meddle.g"}, &oncelogv1.LeaveGroupResponse{}, invalidArgument},
		{oncelogv1.GroupService_LeaveGroup_FullMethodName, &oncelogv1.LeaveGroupRequest{GroupId: "meddle.none", MemberId: "m"}, &oncelogv1.LeaveGroupResponse{}, ok},
		{commit, &oncelogv1.CommitOffsetsRequest{}, commitResp, invalidArgument},
		{commit, at(&oncelogv1.OffsetCommit{}), commitResp, invalidArgument},
		{commit, at(&oncelogv1.OffsetCommit{Partition: &oncelogv1.PartitionRef{Topic: long}}), commitResp, limitExceeded},
		{commit, at(&oncelogv1.OffsetCommit{Partition: nowhere}), commitResp, unknownPartition},
		{commit, at(&oncelogv1.OffsetCommit{Partition: nowhere, Metadata: strings.Repeat("m", 4097)}), commitResp, limitExceeded},
		{commit, &oncelogv1.CommitOffsetsRequest{Offsets: &oncelogv1.GroupOffsets{GroupId: "meddle.g", Offsets: make([]*oncelogv1.OffsetCommit, 10_001)}}, commitResp, limitExceeded},
		{oncelogv1.GroupService_FetchOffsets_FullMethodName, &oncelogv1.FetchOffsetsRequest{}, &oncelogv1.FetchOffsetsResponse{}, invalidArgument},
		{oncelogv1.GroupService_FetchOffsets_FullMethodName, &oncelogv1.FetchOffsetsRequest{GroupId: "meddle.none", Partitions: []*oncelogv1.PartitionRef{nowhere}}, &oncelogv1.FetchOffsetsResponse{}, unknownPartition},
		{list, &oncelogv1.ListGroupsRequest{PageSize: 1001}, listResp, limitExceeded},
		{list, &oncelogv1.ListGroupsRequest{PageToken: long + long}, listResp, limitExceeded},
		{oncelogv1.GroupService_DescribeGroup_FullMethodName, &oncelogv1.DescribeGroupRequest{}, &oncelogv1.DescribeGroupResponse{}, invalidArgument},
		{oncelogv1.GroupService_DescribeGroup_FullMethodName, &oncelogv1.DescribeGroupRequest{GroupId: "meddle.none"}, &oncelogv1.DescribeGroupResponse{}, unknownGroup},
		{oncelogv1.GroupService_DeleteGroup_FullMethodName, &oncelogv1.DeleteGroupRequest{}, &oncelogv1.DeleteGroupResponse{}, invalidArgument},
		{oncelogv1.GroupService_DeleteGroup_FullMethodName, &oncelogv1.DeleteGroupRequest{GroupId: "meddle.none"}, &oncelogv1.DeleteGroupResponse{}, unknownGroup},
	}
}

// wrongToCoordinator sends some of them.
func (m *meddler) wrongToCoordinator() {
	all := append(append(wrongTransactions(), wrongTopics()...), wrongGroups()...)
	for range 10 {
		r := pick(m, all...)
		m.try(coordinator, r.method, r.body, r.resp, r.may)
	}
}

// wrongToShard sends what the leader of a shard must refuse.
func (m *meddler) wrongToShard() {
	m.on(func(g *ground) {
		p, pr := g.any(m), m.plainProducer()
		ref := &oncelogv1.TxnRef{ProducerId: pr.pid}
		good := func() *oncelogv1.AppendRequest { return appends(p, ref, pr.token, 0, m.records(1)) }
		bend := func(fn func(*oncelogv1.AppendRequest)) *oncelogv1.AppendRequest {
			r := good()
			fn(r)
			return r
		}
		add, added := oncelogv1.LogService_Append_FullMethodName, &oncelogv1.AppendResponse{}
		offsets, found := oncelogv1.LogService_ListOffsets_FullMethodName, &oncelogv1.ListOffsetsResponse{}
		describe, described := oncelogv1.LogService_DescribePartitions_FullMethodName, &oncelogv1.DescribePartitionsResponse{}
		one := func(q *oncelogv1.OffsetQuery) *oncelogv1.ListOffsetsRequest {
			return &oncelogv1.ListOffsetsRequest{Queries: []*oncelogv1.OffsetQuery{q}}
		}
		wrong := []request{
			{add, bend(func(r *oncelogv1.AppendRequest) { r.Txn = nil }), added, invalidArgument},
			{add, bend(func(r *oncelogv1.AppendRequest) { r.ProducerToken = nil }), added, invalidToken},
			{add, bend(func(r *oncelogv1.AppendRequest) { r.ProducerToken = forge(pr.token) }), added, invalidToken},
			{add, bend(func(r *oncelogv1.AppendRequest) { r.Txn = &oncelogv1.TxnRef{ProducerId: pr.pid, Epoch: 7} }), added, invalidToken},
			{add, bend(func(r *oncelogv1.AppendRequest) { r.Partitions[0].Partition = nowhere }), added, unknownPartition},
			{add, bend(func(r *oncelogv1.AppendRequest) { r.Partitions[0].Partition = nil }), added, invalidArgument},
			{add, bend(func(r *oncelogv1.AppendRequest) { r.Partitions[0].Partition = &oncelogv1.PartitionRef{Topic: long} }), added, limitExceeded},
			{offsets, one(&oncelogv1.OffsetQuery{Partition: p.id}), found, invalidArgument},
			{offsets, one(&oncelogv1.OffsetQuery{Partition: p.id, Target: &oncelogv1.OffsetQuery_Position{}}), found, invalidArgument},
			{offsets, one(&oncelogv1.OffsetQuery{Partition: nowhere}), found, unknownPartition},
			{offsets, &oncelogv1.ListOffsetsRequest{Isolation: 9, Queries: one(&oncelogv1.OffsetQuery{Partition: p.id}).GetQueries()}, found, invalidArgument},
			{offsets, &oncelogv1.ListOffsetsRequest{Queries: make([]*oncelogv1.OffsetQuery, 1001)}, found, limitExceeded},
			{describe, &oncelogv1.DescribePartitionsRequest{Partitions: make([]*oncelogv1.PartitionRef, 1001)}, described, limitExceeded},
			{describe, &oncelogv1.DescribePartitionsRequest{Partitions: []*oncelogv1.PartitionRef{nowhere}}, described, unknownPartition},
			{oncelogv1.LogService_DescribeProducers_FullMethodName, &oncelogv1.DescribeProducersRequest{}, &oncelogv1.DescribeProducersResponse{}, invalidArgument},
			{oncelogv1.LogService_DescribeProducers_FullMethodName, &oncelogv1.DescribeProducersRequest{Partition: nowhere}, &oncelogv1.DescribeProducersResponse{}, unknownPartition},
		}
		for range 8 {
			r := pick(m, wrong...)
			m.try(shardAt(p.shard), r.method, r.body, r.resp, r.may, unknownPartition|forNow)
		}
		m.fetch(p, &oncelogv1.FetchRequest{Partition: p.id, MaxResponseBytes: 8<<20 + 1}, limitExceeded)
		m.fetch(p, &oncelogv1.FetchRequest{Partition: p.id, Isolation: 9}, invalidArgument)
		m.fetch(p, &oncelogv1.FetchRequest{Partition: p.id, Format: 9}, invalidArgument)
		m.fetch(p, &oncelogv1.FetchRequest{Partition: p.id, Start: 9}, invalidArgument)
		m.tooManyRequests(p, pr)
	})
}

// tooManyRequests sends a frame of more requests than a frame may have.
func (m *meddler) tooManyRequests(p *part, pr *producer) {
	if m.lost || !m.chance(4) {
		return
	}
	r := appends(p, &oncelogv1.TxnRef{ProducerId: pr.pid}, forge(pr.token), 0, nil)
	frame := make([]*oncelogv1.AppendRequest, 1001)
	for i := range frame {
		frame[i] = r
	}
	_, err := m.exchange(shardAt(p.shard), frame)
	a, _ := answerOf(err)
	m.check(a == limitExceeded || a.transient(), "a frame of 1,001 requests was answered %v", err)
}
