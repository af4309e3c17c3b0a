package coordinator

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// garbage is one request that nobody should send.
type garbage struct {
	name  string
	call  func(ctx context.Context, m *member) (any, error)
	code  string
	field string // in the metadata; empty: none is due
}

func invalid(name, field string, call func(context.Context, *member) (any, error)) garbage {
	return garbage{name, call, "INVALID_ARGUMENT", field}
}

func tooMuch(name, field string, call func(context.Context, *member) (any, error)) garbage {
	return garbage{name, call, "LIMIT_EXCEEDED", field}
}

// long is a name above every limit of names.
var long = strings.Repeat("n", 250)

// seats are what the requests below are about.
type seats struct {
	p     *producer
	topic *oncelogv1.Topic
}

// TestGarbageIsRefusedAndChangesNothing: every call, with missing fields, huge
// numbers, unknown ids, and strings and lists above their limits.
func TestGarbageIsRefusedAndChangesNothing(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		s := seats{topic: c.topic("t", 2, 1), p: c.producer("app")}
		s.p.accept(1, shardOf(s.topic, 0))
		(&reader{c: c, group: "g", id: "m"}).assign(s.topic, 0)
		m := c.leader()
		table := slices.Concat(s.ofInit(), s.ofEnd(), s.ofAdmin(), s.ofGroups(), s.ofCatalog(), s.ofNodes(), s.ofACLs())
		before := m.snapshot(t)
		for _, g := range table {
			_, err := g.call(c.ctx(), m)
			if codeName(err) != g.code {
				t.Errorf("%s: %v, want %s", g.name, err, g.code)
				continue
			}
			if err != nil && apierrors.From(err).Metadata["field"] != g.field {
				t.Errorf("%s: metadata %v, want field %q", g.name, apierrors.From(err).Metadata, g.field)
			}
			if string(m.snapshot(t)) != string(before) {
				t.Fatalf("%s: changed the state", g.name)
			}
		}
		m.check(t)
	})
}

func (s seats) ofInit() []garbage {
	init := func(req *oncelogv1.InitProducerRequest) func(context.Context, *member) (any, error) {
		return func(ctx context.Context, m *member) (any, error) { return m.txns().InitProducer(ctx, req) }
	}
	return []garbage{
		tooMuch("init: long id", "transactional_id", init(&oncelogv1.InitProducerRequest{TransactionalId: long})),
		tooMuch("init: long client id", "client_id", init(&oncelogv1.InitProducerRequest{TransactionalId: "x", ClientId: long})),
		tooMuch("init: long request id", "request_id", init(&oncelogv1.InitProducerRequest{TransactionalId: "x", RequestId: long[:65]})),
		invalid("init: short timeout", "timeout_ms", init(&oncelogv1.InitProducerRequest{TransactionalId: "x", TimeoutMs: 99})),
		invalid("init: negative timeout", "timeout_ms", init(&oncelogv1.InitProducerRequest{TransactionalId: "x", TimeoutMs: -1})),
		invalid("init: huge timeout", "timeout_ms", init(&oncelogv1.InitProducerRequest{TransactionalId: "x", TimeoutMs: math.MaxInt64})),
		invalid("init: tiny timeout", "timeout_ms", init(&oncelogv1.InitProducerRequest{TransactionalId: "x", TimeoutMs: math.MinInt64})),
	}
}

func (s seats) ofEnd() []garbage {
	end := func(change func(*oncelogv1.EndTransactionRequest)) func(context.Context, *member) (any, error) {
		return func(ctx context.Context, m *member) (any, error) {
			req := s.p.request(1, true, wrote(s.topic, 0, 1))
			change(req)
			return m.txns().EndTransaction(ctx, req)
		}
	}
	part := func(ref *oncelogv1.PartitionRef) func(*oncelogv1.EndTransactionRequest) {
		return func(r *oncelogv1.EndTransactionRequest) {
			r.Partitions = append(r.Partitions, &oncelogv1.PartitionProgress{Partition: ref})
		}
	}
	offsets := func(change func(*oncelogv1.GroupOffsets)) func(*oncelogv1.EndTransactionRequest) {
		return func(r *oncelogv1.EndTransactionRequest) {
			o := &oncelogv1.GroupOffsets{GroupId: "g", MemberId: "m", Generation: 1, Offsets: []*oncelogv1.OffsetCommit{
				{Partition: &oncelogv1.PartitionRef{Topic: "t"}, Offset: 1},
			}}
			change(o)
			r.Offsets = append(r.Offsets, o)
		}
	}
	outcome := func(ref *oncelogv1.TxnRef) func(context.Context, *member) (any, error) {
		return func(ctx context.Context, m *member) (any, error) {
			return m.txns().GetOutcome(ctx, &oncelogv1.GetOutcomeRequest{Txn: ref})
		}
	}
	return []garbage{
		invalid("end: nothing", "txn.producer_id", func(ctx context.Context, m *member) (any, error) {
			return m.txns().EndTransaction(ctx, &oncelogv1.EndTransactionRequest{})
		}),
		invalid("end: number 0", "txn.txn_number", end(func(r *oncelogv1.EndTransactionRequest) { r.Txn.TxnNumber = 0 })),
		{"end: forged token", end(func(r *oncelogv1.EndTransactionRequest) { r.ProducerToken = []byte(long) }), "INVALID_PRODUCER_TOKEN", "producer_token"},
		{"end: shortened token", end(func(r *oncelogv1.EndTransactionRequest) { r.ProducerToken = r.GetProducerToken()[:9] }), "INVALID_PRODUCER_TOKEN", "producer_token"},
		tooMuch("end: many partitions", "partitions", end(func(r *oncelogv1.EndTransactionRequest) {
			r.Partitions = make([]*oncelogv1.PartitionProgress, maxList+1)
		})),
		invalid("end: partition without a name", "partitions[1].partition", end(part(nil))),
		tooMuch("end: long topic", "partitions[1].partition.topic", end(part(&oncelogv1.PartitionRef{Topic: long}))),
		{"end: no such topic", end(part(&oncelogv1.PartitionRef{Topic: "no"})), "INVALID_TXN", "partitions[1].partition"},
		{"end: no such index", end(part(&oncelogv1.PartitionRef{Topic: "t", Partition: math.MaxUint32})), "INVALID_TXN", "partitions[1].partition"},
		{"end: no such partition", end(part(&oncelogv1.PartitionRef{PartitionId: math.MaxUint64})), "INVALID_TXN", "partitions[1].partition"},
		invalid("end: partition twice", "partitions", end(part(&oncelogv1.PartitionRef{Topic: "t"}))),
		invalid("abort: with offsets", "offsets", end(func(r *oncelogv1.EndTransactionRequest) {
			offsets(func(*oncelogv1.GroupOffsets) {})(r)
			r.Commit = false
		})),
		invalid("abort: partition without a name", "partitions[1].partition", end(func(r *oncelogv1.EndTransactionRequest) {
			part(&oncelogv1.PartitionRef{})(r)
			r.Commit = false
		})),
		tooMuch("end: many groups", "offsets", end(func(r *oncelogv1.EndTransactionRequest) {
			r.Offsets = make([]*oncelogv1.GroupOffsets, 65)
		})),
		invalid("end: group without a name", "offsets[0].group_id", end(offsets(func(o *oncelogv1.GroupOffsets) { o.GroupId = "" }))),
		tooMuch("end: long group", "offsets[0].group_id", end(offsets(func(o *oncelogv1.GroupOffsets) { o.GroupId = long }))),
		tooMuch("end: long member", "offsets[0].member_id", end(offsets(func(o *oncelogv1.GroupOffsets) { o.MemberId = long }))),
		tooMuch("end: many offsets", "offsets[0].offsets", end(offsets(func(o *oncelogv1.GroupOffsets) {
			o.Offsets = slices.Repeat(o.GetOffsets(), maxList+1)
		}))),
		tooMuch("end: many offsets in all", "offsets", end(func(r *oncelogv1.EndTransactionRequest) {
			for range 2 {
				offsets(func(o *oncelogv1.GroupOffsets) { o.Offsets = slices.Repeat(o.GetOffsets(), maxList) })(r)
			}
		})),
		tooMuch("end: long metadata", "offsets[0].offsets[0].metadata", end(offsets(func(o *oncelogv1.GroupOffsets) {
			o.Offsets[0].Metadata = strings.Repeat("m", maxMetadata+1)
		}))),
		tooMuch("end: much metadata", "offsets", end(offsets(func(o *oncelogv1.GroupOffsets) {
			o.Offsets[0].Metadata = strings.Repeat("m", maxMetadata)
			o.Offsets = slices.Repeat(o.GetOffsets(), 1100)
		}))),
		invalid("end: offset without a partition", "offsets[0].offsets[0].partition", end(offsets(func(o *oncelogv1.GroupOffsets) {
			o.Offsets[0].Partition = nil
		}))),
		{"end: offset of no partition", end(offsets(func(o *oncelogv1.GroupOffsets) {
			o.Offsets[0].Partition = &oncelogv1.PartitionRef{PartitionId: 99}
		})), "UNKNOWN_PARTITION", "offsets[0].offsets[0].partition"},
		invalid("end: offset twice", "offsets", end(offsets(func(o *oncelogv1.GroupOffsets) {
			o.Offsets = slices.Repeat(o.GetOffsets(), 2)
		}))),
		{"end: generation to come", end(offsets(func(o *oncelogv1.GroupOffsets) { o.Generation = math.MaxUint64 })), "STALE_MEMBER", ""},
		invalid("outcome: nothing", "txn.producer_id", outcome(nil)),
		invalid("outcome: number 0", "txn.txn_number", outcome(&oncelogv1.TxnRef{ProducerId: 1})),
	}
}

func (s seats) ofAdmin() []garbage {
	list := func(req *oncelogv1.ListTransactionsRequest) func(context.Context, *member) (any, error) {
		return func(ctx context.Context, m *member) (any, error) { return m.txns().ListTransactions(ctx, req) }
	}
	out := []garbage{
		tooMuch("list: page size", "page_size", list(&oncelogv1.ListTransactionsRequest{PageSize: 1001})),
		invalid("list: page token", "page_token", list(&oncelogv1.ListTransactionsRequest{PageToken: "-1"})),
		tooMuch("list: long id", "id_contains", list(&oncelogv1.ListTransactionsRequest{IdContains: long})),
		invalid("list: no state", "states", list(&oncelogv1.ListTransactionsRequest{States: make([]oncelogv1.TransactionState, 1)})),
		invalid("list: unknown state", "states", list(&oncelogv1.ListTransactionsRequest{States: []oncelogv1.TransactionState{99}})),
		tooMuch("list: many states", "states", list(&oncelogv1.ListTransactionsRequest{States: make([]oncelogv1.TransactionState, 1001)})),
		invalid("list: negative age", "older_than_ms", list(&oncelogv1.ListTransactionsRequest{OlderThanMs: math.MinInt64})),
	}
	ref := s.p.ref(1)
	for name, call := range map[string]func(id string) func(context.Context, *member) (any, error){
		"describe": func(id string) func(context.Context, *member) (any, error) {
			return func(ctx context.Context, m *member) (any, error) {
				return m.txns().DescribeTransaction(ctx, &oncelogv1.DescribeTransactionRequest{TransactionalId: id})
			}
		},
		"abort": func(id string) func(context.Context, *member) (any, error) {
			return func(ctx context.Context, m *member) (any, error) {
				return m.txns().AbortTransaction(ctx, &oncelogv1.AbortTransactionRequest{TransactionalId: id, Txn: ref})
			}
		},
		"fence": func(id string) func(context.Context, *member) (any, error) {
			return func(ctx context.Context, m *member) (any, error) {
				return m.txns().FenceProducer(ctx, &oncelogv1.FenceProducerRequest{TransactionalId: id})
			}
		},
		"delete": func(id string) func(context.Context, *member) (any, error) {
			return func(ctx context.Context, m *member) (any, error) {
				return m.txns().DeleteTransactionalId(ctx, &oncelogv1.DeleteTransactionalIdRequest{TransactionalId: id})
			}
		},
	} {
		out = append(out,
			invalid(name+": nothing", "transactional_id", call("")),
			tooMuch(name+": long id", "transactional_id", call(long)),
			garbage{name + ": unknown id", call("no"), "UNKNOWN_PRODUCER", ""})
	}
	abort := func(ref *oncelogv1.TxnRef) func(context.Context, *member) (any, error) {
		return func(ctx context.Context, m *member) (any, error) {
			return m.txns().AbortTransaction(ctx, &oncelogv1.AbortTransactionRequest{TransactionalId: "app", Txn: ref})
		}
	}
	return append(out,
		garbage{"abort: empty transaction", abort(&oncelogv1.TxnRef{}), "INVALID_TXN", "txn"},
		garbage{"abort: number 0", abort(&oncelogv1.TxnRef{ProducerId: s.p.pid}), "INVALID_TXN", "txn"},
		garbage{"abort: huge epoch", abort(&oncelogv1.TxnRef{ProducerId: s.p.pid, Epoch: math.MaxUint32, TxnNumber: 1}), "INVALID_TXN", "txn"},
		garbage{"abort: huge number", abort(&oncelogv1.TxnRef{ProducerId: s.p.pid, TxnNumber: math.MaxUint64}), "INVALID_TXN", "txn"})
}

func (s seats) ofGroups() []garbage {
	assign := func(req *oncelogv1.AssignPartitionsRequest) func(context.Context, *member) (any, error) {
		return func(ctx context.Context, m *member) (any, error) { return m.groups().AssignPartitions(ctx, req) }
	}
	leave := func(g, id string) func(context.Context, *member) (any, error) {
		return func(ctx context.Context, m *member) (any, error) {
			return m.groups().LeaveGroup(ctx, &oncelogv1.LeaveGroupRequest{GroupId: g, MemberId: id})
		}
	}
	commit := func(o *oncelogv1.GroupOffsets) func(context.Context, *member) (any, error) {
		return func(ctx context.Context, m *member) (any, error) {
			return m.groups().CommitOffsets(ctx, &oncelogv1.CommitOffsetsRequest{Offsets: o})
		}
	}
	fetch := func(req *oncelogv1.FetchOffsetsRequest) func(context.Context, *member) (any, error) {
		return func(ctx context.Context, m *member) (any, error) { return m.groups().FetchOffsets(ctx, req) }
	}
	list := func(req *oncelogv1.ListGroupsRequest) func(context.Context, *member) (any, error) {
		return func(ctx context.Context, m *member) (any, error) { return m.groups().ListGroups(ctx, req) }
	}
	describe := func(id string) func(context.Context, *member) (any, error) {
		return func(ctx context.Context, m *member) (any, error) {
			return m.groups().DescribeGroup(ctx, &oncelogv1.DescribeGroupRequest{GroupId: id})
		}
	}
	remove := func(id string) func(context.Context, *member) (any, error) {
		return func(ctx context.Context, m *member) (any, error) {
			return m.groups().DeleteGroup(ctx, &oncelogv1.DeleteGroupRequest{GroupId: id})
		}
	}
	many := make([]*oncelogv1.PartitionRef, maxList+1)
	one := func(ref *oncelogv1.PartitionRef) []*oncelogv1.PartitionRef { return []*oncelogv1.PartitionRef{ref} }
	big := &oncelogv1.OffsetCommit{Partition: &oncelogv1.PartitionRef{Topic: "t"}, Metadata: strings.Repeat("m", maxMetadata)}
	return []garbage{
		invalid("assign: nothing", "group_id", assign(&oncelogv1.AssignPartitionsRequest{})),
		invalid("assign: no member", "member_id", assign(&oncelogv1.AssignPartitionsRequest{GroupId: "g"})),
		tooMuch("assign: long group", "group_id", assign(&oncelogv1.AssignPartitionsRequest{GroupId: long, MemberId: "m"})),
		tooMuch("assign: long member", "member_id", assign(&oncelogv1.AssignPartitionsRequest{GroupId: "g", MemberId: long})),
		tooMuch("assign: long client", "client_id", assign(&oncelogv1.AssignPartitionsRequest{GroupId: "g", MemberId: "m", ClientId: long})),
		tooMuch("assign: many", "partitions", assign(&oncelogv1.AssignPartitionsRequest{GroupId: "g", MemberId: "m", Partitions: many})),
		invalid("assign: partition without a name", "partitions[0]", assign(&oncelogv1.AssignPartitionsRequest{GroupId: "g", MemberId: "m", Partitions: one(nil)})),
		{"assign: no such topic", assign(&oncelogv1.AssignPartitionsRequest{
			GroupId: "g", MemberId: "m", Partitions: one(&oncelogv1.PartitionRef{Topic: "no"}),
		}), "UNKNOWN_TOPIC", "partitions[0]"},
		{"assign: no such partition", assign(&oncelogv1.AssignPartitionsRequest{
			GroupId: "g", MemberId: "m", Partitions: one(&oncelogv1.PartitionRef{Topic: "t", Partition: 2}),
		}), "UNKNOWN_PARTITION", "partitions[0]"},
		invalid("leave: nothing", "group_id", leave("", "")),
		invalid("leave: no member", "member_id", leave("g", "")),
		tooMuch("leave: long member", "member_id", leave("g", long)),
		{"leave: nobody", leave("g", "no"), "UNSPECIFIED", ""}, // leaving twice is no error
		invalid("commit: nothing", "offsets.group_id", commit(nil)),
		tooMuch("commit: long member", "offsets.member_id", commit(&oncelogv1.GroupOffsets{GroupId: "g", MemberId: long})),
		tooMuch("commit: many", "offsets.offsets", commit(&oncelogv1.GroupOffsets{GroupId: "g", Offsets: make([]*oncelogv1.OffsetCommit, maxList+1)})),
		invalid("commit: partition without a name", "offsets.offsets[0].partition", commit(&oncelogv1.GroupOffsets{
			GroupId: "g", Offsets: []*oncelogv1.OffsetCommit{{}},
		})),
		{"commit: no such topic", commit(&oncelogv1.GroupOffsets{GroupId: "g", Offsets: []*oncelogv1.OffsetCommit{
			{Partition: &oncelogv1.PartitionRef{Topic: "no"}},
		}}), "UNKNOWN_TOPIC", "offsets.offsets[0].partition"},
		tooMuch("commit: much metadata", "request", commit(&oncelogv1.GroupOffsets{GroupId: "g", Offsets: slices.Repeat([]*oncelogv1.OffsetCommit{big}, 1100)})),
		{"commit: not a member", commit(&oncelogv1.GroupOffsets{GroupId: "g", MemberId: "no", Offsets: []*oncelogv1.OffsetCommit{
			{Partition: &oncelogv1.PartitionRef{Topic: "t"}, Offset: math.MaxUint64},
		}}), "STALE_MEMBER", ""},
		invalid("fetch: nothing", "group_id", fetch(&oncelogv1.FetchOffsetsRequest{})),
		tooMuch("fetch: long group", "group_id", fetch(&oncelogv1.FetchOffsetsRequest{GroupId: long})),
		tooMuch("fetch: many", "partitions", fetch(&oncelogv1.FetchOffsetsRequest{GroupId: "g", Partitions: many})),
		{"fetch: no such partition", fetch(&oncelogv1.FetchOffsetsRequest{
			GroupId: "g", Partitions: one(&oncelogv1.PartitionRef{PartitionId: 99}),
		}), "UNKNOWN_PARTITION", "partitions[0]"},
		tooMuch("groups: page size", "page_size", list(&oncelogv1.ListGroupsRequest{PageSize: math.MaxUint32})),
		tooMuch("groups: page token", "page_token", list(&oncelogv1.ListGroupsRequest{PageToken: long + long})),
		invalid("describe group: nothing", "group_id", describe("")),
		tooMuch("describe group: long", "group_id", describe(long)),
		{"describe group: unknown", describe("no"), "UNKNOWN_GROUP", ""},
		invalid("delete group: nothing", "group_id", remove("")),
		{"delete group: unknown", remove("no"), "UNKNOWN_GROUP", ""},
		{"delete group: not empty", remove("g"), "GROUP_NOT_EMPTY", ""},
	}
}

func (s seats) ofCatalog() []garbage {
	create := func(req *oncelogv1.CreateTopicRequest) func(context.Context, *member) (any, error) {
		return func(ctx context.Context, m *member) (any, error) { return m.catalog().CreateTopic(ctx, req) }
	}
	remove := func(name string) func(context.Context, *member) (any, error) {
		return func(ctx context.Context, m *member) (any, error) {
			return m.catalog().DeleteTopic(ctx, &oncelogv1.DeleteTopicRequest{Name: name})
		}
	}
	list := func(req *oncelogv1.ListTopicsRequest) func(context.Context, *member) (any, error) {
		return func(ctx context.Context, m *member) (any, error) { return m.catalog().ListTopics(ctx, req) }
	}
	meta := func(req *oncelogv1.GetMetadataRequest) func(context.Context, *member) (any, error) {
		return func(ctx context.Context, m *member) (any, error) { return m.catalog().GetMetadata(ctx, req) }
	}
	return []garbage{
		invalid("create: nothing", "name", create(&oncelogv1.CreateTopicRequest{})),
		invalid("create: long name", "name", create(&oncelogv1.CreateTopicRequest{Name: long})),
		invalid("create: dots", "name", create(&oncelogv1.CreateTopicRequest{Name: ".."})),
		invalid("create: odd characters", "name", create(&oncelogv1.CreateTopicRequest{Name: "a/b"})),
		tooMuch("create: many partitions", "partitions", create(&oncelogv1.CreateTopicRequest{Name: "x", Partitions: math.MaxUint32})),
		tooMuch("create: many copies", "replication_factor", create(&oncelogv1.CreateTopicRequest{Name: "x", ReplicationFactor: math.MaxUint32})),
		{"create: more copies than nodes", create(&oncelogv1.CreateTopicRequest{Name: "x", ReplicationFactor: 2}), "INSUFFICIENT_NODES", ""},
		{"create: exists", create(&oncelogv1.CreateTopicRequest{Name: "t"}), "TOPIC_EXISTS", ""},
		invalid("delete topic: nothing", "name", remove("")),
		tooMuch("delete topic: long", "name", remove(long)),
		{"delete topic: unknown", remove("no"), "UNKNOWN_TOPIC", ""},
		tooMuch("topics: page size", "page_size", list(&oncelogv1.ListTopicsRequest{PageSize: 1001})),
		tooMuch("topics: page token", "page_token", list(&oncelogv1.ListTopicsRequest{PageToken: long + long})),
		tooMuch("metadata: many names", "topics", meta(&oncelogv1.GetMetadataRequest{Topics: make([]string, 1001)})),
		tooMuch("metadata: many ids", "topic_ids", meta(&oncelogv1.GetMetadataRequest{TopicIds: make([]uint64, 1001)})),
		tooMuch("metadata: long name", "topics[1]", meta(&oncelogv1.GetMetadataRequest{Topics: []string{"t", long}})),
	}
}

func (s seats) ofACLs() []garbage {
	add := func(change func(*oncelogv1.AclRule)) func(context.Context, *member) (any, error) {
		good := &oncelogv1.AclRule{
			Principal: "alice", Resource: oncelogv1.AclResource_ACL_RESOURCE_TOPIC, Name: "t", Operation: oncelogv1.AclOperation_ACL_OPERATION_READ,
		}
		bad := proto.CloneOf(good)
		change(bad)
		return func(ctx context.Context, m *member) (any, error) {
			return m.acls().AddAcls(ctx, &oncelogv1.AddAclsRequest{Rules: []*oncelogv1.AclRule{good, bad}})
		}
	}
	many := func(n int) func(context.Context, *member) (any, error) {
		return func(ctx context.Context, m *member) (any, error) {
			return m.acls().AddAcls(ctx, &oncelogv1.AddAclsRequest{Rules: make([]*oncelogv1.AclRule, n)})
		}
	}
	remove := func(req *oncelogv1.RemoveAclsRequest) func(context.Context, *member) (any, error) {
		return func(ctx context.Context, m *member) (any, error) { return m.acls().RemoveAcls(ctx, req) }
	}
	list := func(req *oncelogv1.ListAclsRequest) func(context.Context, *member) (any, error) {
		return func(ctx context.Context, m *member) (any, error) { return m.acls().ListAcls(ctx, req) }
	}
	return []garbage{
		invalid("add acls: none", "rules", many(0)),
		tooMuch("add acls: many", "rules", many(1001)),
		invalid("add acls: nobody", "rules[1].principal", add(func(r *oncelogv1.AclRule) { r.Principal = "" })),
		tooMuch("add acls: long principal", "rules[1].principal", add(func(r *oncelogv1.AclRule) { r.Principal = long + long })),
		invalid("add acls: no name", "rules[1].name", add(func(r *oncelogv1.AclRule) { r.Name = "" })),
		tooMuch("add acls: long name", "rules[1].name", add(func(r *oncelogv1.AclRule) { r.Name = long })),
		invalid("add acls: no resource", "rules[1].resource", add(func(r *oncelogv1.AclRule) { r.Resource = 0 })),
		invalid("add acls: unknown resource", "rules[1].resource", add(func(r *oncelogv1.AclRule) { r.Resource = 257 })),
		invalid("add acls: unknown pattern", "rules[1].pattern", add(func(r *oncelogv1.AclRule) { r.Pattern = -1 })),
		invalid("add acls: no operation", "rules[1].operation", add(func(r *oncelogv1.AclRule) { r.Operation = 0 })),
		invalid("add acls: not on a topic", "rules[1].operation", add(func(r *oncelogv1.AclRule) { r.Operation = oncelogv1.AclOperation_ACL_OPERATION_ALTER })),
		invalid("add acls: unknown permission", "rules[1].permission", add(func(r *oncelogv1.AclRule) { r.Permission = 3 })),
		invalid("remove acls: everything by mistake", "filter", remove(&oncelogv1.RemoveAclsRequest{})),
		tooMuch("remove acls: long principal", "filter.principal", remove(&oncelogv1.RemoveAclsRequest{Filter: &oncelogv1.AclFilter{Principal: long + long}})),
		invalid("remove acls: unknown operation", "filter.operation", remove(&oncelogv1.RemoveAclsRequest{Filter: &oncelogv1.AclFilter{Operation: 99}})),
		{"remove acls: none that there are", remove(&oncelogv1.RemoveAclsRequest{All: true}), "UNSPECIFIED", ""},
		tooMuch("acls: page size", "page_size", list(&oncelogv1.ListAclsRequest{PageSize: 1001})),
		invalid("acls: page token", "page_token", list(&oncelogv1.ListAclsRequest{PageToken: "1x"})),
		tooMuch("acls: long name", "filter.name", list(&oncelogv1.ListAclsRequest{Filter: &oncelogv1.AclFilter{Name: long}})),
	}
}

func (s seats) ofNodes() []garbage {
	register := func(change func(*oncelogv1.RegisterNodeRequest)) func(context.Context, *member) (any, error) {
		return func(ctx context.Context, m *member) (any, error) {
			req := &oncelogv1.RegisterNodeRequest{NodeId: 9, InstanceId: "i", ClientAddress: "a:1", PeerAddress: "a:2"}
			change(req)
			return m.cluster().RegisterNode(ctx, req)
		}
	}
	beat := func(change func(*oncelogv1.HeartbeatRequest)) func(context.Context, *member) (any, error) {
		return func(ctx context.Context, m *member) (any, error) {
			req := &oncelogv1.HeartbeatRequest{NodeId: 1, InstanceId: instance(1)}
			change(req)
			return m.cluster().Heartbeat(ctx, req)
		}
	}
	return []garbage{
		invalid("register: id 0", "node_id", register(func(r *oncelogv1.RegisterNodeRequest) { r.NodeId = 0 })),
		invalid("register: no disk", "instance_id", register(func(r *oncelogv1.RegisterNodeRequest) { r.InstanceId = "" })),
		tooMuch("register: long disk", "instance_id", register(func(r *oncelogv1.RegisterNodeRequest) { r.InstanceId = long })),
		invalid("register: no client address", "client_address", register(func(r *oncelogv1.RegisterNodeRequest) { r.ClientAddress = "" })),
		invalid("register: no peer address", "peer_address", register(func(r *oncelogv1.RegisterNodeRequest) { r.PeerAddress = "" })),
		tooMuch("register: long client address", "client_address", register(func(r *oncelogv1.RegisterNodeRequest) { r.ClientAddress = long })),
		tooMuch("register: long peer address", "peer_address", register(func(r *oncelogv1.RegisterNodeRequest) { r.PeerAddress = long })),
		tooMuch("register: long cluster", "cluster_id", register(func(r *oncelogv1.RegisterNodeRequest) { r.ClusterId = long })),
		{"register: another cluster", register(func(r *oncelogv1.RegisterNodeRequest) { r.ClusterId = "no" }), "WRONG_CLUSTER", ""},
		{"heartbeat: unknown", beat(func(r *oncelogv1.HeartbeatRequest) { r.NodeId = math.MaxUint64 }), "UNKNOWN_NODE", ""},
		{"heartbeat: another disk", beat(func(r *oncelogv1.HeartbeatRequest) { r.InstanceId = "" }), "NODE_ID_IN_USE", ""},
		invalid("heartbeat: negative wait", "wait_ms", beat(func(r *oncelogv1.HeartbeatRequest) { r.WaitMs = -1 })),
		tooMuch("heartbeat: long wait", "wait_ms", beat(func(r *oncelogv1.HeartbeatRequest) { r.WaitMs = math.MaxInt64 })),
		tooMuch("heartbeat: many shards", "shards", beat(func(r *oncelogv1.HeartbeatRequest) {
			r.Shards = make([]*oncelogv1.ShardReport, maxList+1)
		})),
		tooMuch("enlist: many", "enlistments", func(ctx context.Context, m *member) (any, error) {
			return m.cluster().Enlist(ctx, &oncelogv1.EnlistRequest{Enlistments: make([]*oncelogv1.Enlistment, maxList+1)})
		}),
		tooMuch("check: many", "producer_ids", func(ctx context.Context, m *member) (any, error) {
			return m.cluster().CheckProducers(ctx, &oncelogv1.CheckProducersRequest{ProducerIds: make([]uint64, maxList+1)})
		}),
	}
}

// TestEnlistmentsOfNothingAreStray: they are answered, each by itself.
func TestEnlistmentsOfNothingAreStray(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		c.topic("t", 1, 1)
		p := c.producer("app")
		before := c.leader().snapshot(t)
		res := must(c.leader().cluster().Enlist(c.ctx(), &oncelogv1.EnlistRequest{Enlistments: []*oncelogv1.Enlistment{
			{},
			{Txn: &oncelogv1.TxnRef{ProducerId: math.MaxUint64, Epoch: math.MaxUint32, TxnNumber: math.MaxUint64}, ShardId: math.MaxUint64},
			{Txn: p.ref(0), ShardId: 2},
			{Txn: p.ref(1), ShardId: 99},
		}}))
		for i, a := range res.GetAnswers() {
			wantEqual(t, "verdict", a.GetVerdict(), oncelogv1.EnlistVerdict_ENLIST_VERDICT_STRAY)
			wantEqual(t, "invalid", a.GetInvalid(), i >= 2)
		}
		wantEqual(t, "answers", len(res.GetAnswers()), 4)
		wantEqual(t, "state", string(c.leader().snapshot(t)) == string(before), true)
	})
}
