package e2e

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"math"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/api/batch"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// misuse is one wrong call and what is said about it.
type misuse struct {
	what     string
	call     func(ctx context.Context) error
	code     oncelogv1.ErrorCode
	metadata []string
}

// run makes wrong calls and checks that nothing comes of them.
func (b bystander) run(t *testing.T, w *world, calls []misuse) {
	t.Helper()
	before := b.picture(t, w, true)
	for _, m := range calls {
		wantCode(t, m.what, m.call(withPatience(t)), m.code, m.metadata...)
	}
	b.unchanged(t, w, "misuse", before, true)
}

const (
	invalidArgument = oncelogv1.ErrorCode_ERROR_CODE_INVALID_ARGUMENT
	limitExceeded   = oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED
	unknownTopic    = oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_TOPIC
	unknownPart     = oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION
	unknownProducer = oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PRODUCER
	unknownGroup    = oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_GROUP
	badToken        = oncelogv1.ErrorCode_ERROR_CODE_INVALID_PRODUCER_TOKEN
	corruptBatch    = oncelogv1.ErrorCode_ERROR_CODE_CORRUPT_BATCH
	batchTooLarge   = oncelogv1.ErrorCode_ERROR_CODE_BATCH_TOO_LARGE
	outOfOrder      = oncelogv1.ErrorCode_ERROR_CODE_OUT_OF_ORDER_SEQUENCE
	outOfRange      = oncelogv1.ErrorCode_ERROR_CODE_OFFSET_OUT_OF_RANGE
)

func TestMisuseOfAppend(t *testing.T) {
	w := ownCluster(t, cluster.Config{Coordinators: 1, Partitions: 1})
	b := newBystander(t, w)
	log := oncelogv1.NewLogServiceClient(w.conn(t, w.Node(cluster.Partition, 1).Client))
	me, other, plain := w.initProducer(t, unique(t, "id")), w.initProducer(t, unique(t, "other")), w.initProducer(t, "")
	to := partition(b.topic, 0)
	// with returns a call with a good request that change makes wrong.
	with := func(change func(r *oncelogv1.AppendRequest)) func(context.Context) error {
		r := me.append(1, to, 0, "value")
		change(r)
		return func(ctx context.Context) error { _, err := log.Append(ctx, r); return err }
	}
	part := func(r *oncelogv1.AppendRequest) *oncelogv1.PartitionAppend { return r.Partitions[0] }
	encoded := func(change func([]byte) []byte) func(context.Context) error {
		return with(func(r *oncelogv1.AppendRequest) {
			part(r).Payload = &oncelogv1.PartitionAppend_Batch{Batch: change(encode(t, "value"))}
		})
	}
	list := func(records ...*oncelogv1.Record) func(context.Context) error {
		return with(func(r *oncelogv1.AppendRequest) {
			part(r).Payload = &oncelogv1.PartitionAppend_Records{Records: &oncelogv1.RecordList{Records: records}}
		})
	}
	many := make([]*oncelogv1.Record, 10_001)
	for i := range many {
		many[i] = &oncelogv1.Record{}
	}
	headers := make([]*oncelogv1.Header, 129)
	for i := range headers {
		headers[i] = &oncelogv1.Header{}
	}
	b.run(t, w, []misuse{
		{"no transaction", with(func(r *oncelogv1.AppendRequest) { r.Txn = nil }), invalidArgument, []string{"field", "txn.producer_id"}},
		{"no token", with(func(r *oncelogv1.AppendRequest) { r.ProducerToken = nil }), badToken, nil},
		{"another's token", with(func(r *oncelogv1.AppendRequest) { r.ProducerToken = other.GetProducerToken() }), badToken, nil},
		{"a forged epoch", with(func(r *oncelogv1.AppendRequest) { r.Txn.Epoch++ }), badToken, nil},
		{"a forged producer", with(func(r *oncelogv1.AppendRequest) { r.Txn.ProducerId = math.MaxUint64 }), badToken, nil},
		{"a changed token", with(func(r *oncelogv1.AppendRequest) {
			r.ProducerToken = append([]byte(nil), r.ProducerToken...)
			r.ProducerToken[len(r.ProducerToken)-1] ^= 1
		}), badToken, nil},
		{"no partitions", with(func(r *oncelogv1.AppendRequest) { r.Partitions = nil }), invalidArgument, []string{"field", "partitions"}},
		{"a partition twice", with(func(r *oncelogv1.AppendRequest) { r.Partitions = append(r.Partitions, r.Partitions[0]) }), invalidArgument, nil},
		{"1,001 partitions", with(func(r *oncelogv1.AppendRequest) {
			for range 1000 {
				r.Partitions = append(r.Partitions, r.Partitions[0])
			}
		}), limitExceeded, []string{"limit", "1000"}},
		{"no partition", with(func(r *oncelogv1.AppendRequest) { part(r).Partition = nil }), invalidArgument, nil},
		{"an unknown topic", with(func(r *oncelogv1.AppendRequest) { part(r).Partition = partition("no-such-topic", 0) }), unknownPart, nil},
		{"an unknown index", with(func(r *oncelogv1.AppendRequest) { part(r).Partition = partition(b.topic, math.MaxUint32) }), unknownPart, nil},
		{"an unknown id", with(func(r *oncelogv1.AppendRequest) {
			part(r).Partition = &oncelogv1.PartitionRef{PartitionId: math.MaxUint64}
		}), unknownPart, nil},
		{"a name of 250 bytes", with(func(r *oncelogv1.AppendRequest) { part(r).Partition = partition(strings.Repeat("x", 250), 0) }), limitExceeded, nil},
		{"no payload", with(func(r *oncelogv1.AppendRequest) { part(r).Payload = nil }), invalidArgument, nil},
		{"no records", list(), invalidArgument, nil},
		{"10,001 records", list(many...), batchTooLarge, []string{"limit", "10000"}},
		{"a key of 64 KiB and a byte", list(&oncelogv1.Record{Key: make([]byte, 64<<10+1)}), batchTooLarge, nil},
		{"a value of 1 MiB", list(&oncelogv1.Record{Value: make([]byte, 1<<20)}), batchTooLarge, nil},
		{"129 headers", list(&oncelogv1.Record{Headers: headers}), batchTooLarge, nil},
		{"an empty batch", encoded(func([]byte) []byte { return nil }), corruptBatch, nil},
		{"a batch that is none", encoded(func([]byte) []byte { return []byte(strings.Repeat("x", 100)) }), corruptBatch, nil},
		{"a wrong checksum", encoded(func(b []byte) []byte { b[len(b)-1] ^= 1; return b }), corruptBatch, nil},
		{"a cut batch", encoded(func(b []byte) []byte { return b[:len(b)-1] }), corruptBatch, nil},
		{"bytes behind a batch", encoded(func(b []byte) []byte { return append(b, 0) }), corruptBatch, nil},
		{"a version that nobody knows", encoded(func(b []byte) []byte { b[3] = 9; return b }), corruptBatch, nil},
		{"a codec that nobody knows", encoded(func(b []byte) []byte { return resealed(b, func(b []byte) { b[15] = 1 }) }), corruptBatch, nil},
		{"no records in a batch", encoded(func(b []byte) []byte { return resealed(b, func(b []byte) { clear(b[16:20]) }) }), corruptBatch, nil},
		{"more records than bytes", encoded(func(b []byte) []byte { return resealed(b, func(b []byte) { b[18] = 1 }) }), corruptBatch, nil},
		{"a batch of more than 1 MiB", encoded(func([]byte) []byte { return make([]byte, 1<<20+1) }), batchTooLarge, nil},
		{"a gap at the start", with(func(r *oncelogv1.AppendRequest) { part(r).BaseSequence = 5 }), outOfOrder, []string{"expected_sequence", "0"}},
		{"the largest sequence", with(func(r *oncelogv1.AppendRequest) { part(r).BaseSequence = math.MaxUint64 }), corruptBatch, nil},
		{"an idempotent producer that begins in the middle", func(ctx context.Context) error {
			_, err := log.Append(ctx, plain.append(0, to, 7, "value"))
			return err
		}, unknownProducer, nil},
		// On a stream the refusal is inside the answer.
		{"a forged token on a stream", func(ctx context.Context) error {
			r := me.append(1, to, 0, "value")
			r.ProducerToken = other.GetProducerToken()
			return streamed(ctx, t, log, r)
		}, badToken, nil},
		{"a wrong checksum on a stream", func(ctx context.Context) error {
			r := me.append(1, to, 0, "value")
			bad := encode(t, "value")
			bad[len(bad)-1] ^= 1
			r.Partitions[0].Payload = &oncelogv1.PartitionAppend_Batch{Batch: bad}
			return streamed(ctx, t, log, r)
		}, corruptBatch, nil},
	})
}

// encode makes a good batch.
func encode(t *testing.T, value string) []byte {
	t.Helper()
	builder := batch.NewBuilder(batch.CodecNone, batch.Limits{})
	if _, err := builder.Append(batch.Record{Value: []byte(value)}); err != nil {
		t.Fatal(err)
	}
	b, err := builder.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// resealed changes the header of a batch and makes the checksum right again.
func resealed(b []byte, change func([]byte)) []byte {
	change(b)
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[8:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// streamed sends one request over a stream and returns the error inside the answer.
func streamed(ctx context.Context, t *testing.T, log oncelogv1.LogServiceClient, r *oncelogv1.AppendRequest) error {
	t.Helper()
	stream, err := log.AppendStream(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&oncelogv1.AppendStreamRequest{Requests: []*oncelogv1.AppendRequest{r}}); err != nil {
		return err
	}
	res, err := stream.Recv()
	if err != nil {
		return err
	}
	_ = stream.CloseSend()
	answer := res.GetResponses()[0]
	if e := answer.GetError(); e != nil {
		return asError(e)
	}
	return asError(answer.GetResults()[0].GetError())
}

func TestMisuseOfReads(t *testing.T) {
	w := ownCluster(t, cluster.Config{Coordinators: 1, Partitions: 1})
	b := newBystander(t, w)
	log := oncelogv1.NewLogServiceClient(w.conn(t, w.Node(cluster.Partition, 1).Client))
	to := partition(b.topic, 0)
	read := func(change func(r *oncelogv1.FetchRequest)) func(context.Context) error {
		r := &oncelogv1.FetchRequest{Partition: to}
		change(r)
		return func(ctx context.Context) error { _, err := fetch(ctx, log, r); return err }
	}
	offsets := func(q ...*oncelogv1.OffsetQuery) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := log.ListOffsets(ctx, &oncelogv1.ListOffsetsRequest{Queries: q})
			return err
		}
	}
	latest := &oncelogv1.OffsetQuery_Position{Position: oncelogv1.StartPosition_START_POSITION_LATEST}
	many, parts := make([]*oncelogv1.OffsetQuery, 1001), make([]*oncelogv1.PartitionRef, 1001)
	for i := range many {
		many[i], parts[i] = &oncelogv1.OffsetQuery{Partition: to, Target: latest}, to
	}
	b.run(t, w, []misuse{
		{"no partition", read(func(r *oncelogv1.FetchRequest) { r.Partition = nil }), invalidArgument, nil},
		{"an unknown partition", read(func(r *oncelogv1.FetchRequest) { r.Partition = partition("no-such-topic", 0) }), unknownPart, nil},
		{"an offset beyond the end", read(func(r *oncelogv1.FetchRequest) { r.Offset = 1000 }), outOfRange, []string{"end_offset", "6"}},
		{"the largest offset", read(func(r *oncelogv1.FetchRequest) { r.Offset = math.MaxUint64 }), outOfRange, nil},
		{"9 MiB at once", read(func(r *oncelogv1.FetchRequest) { r.MaxResponseBytes = 9 << 20 }), limitExceeded, nil},
		{"an unknown start", read(func(r *oncelogv1.FetchRequest) { r.Start = 99 }), invalidArgument, nil},
		{"an unknown isolation", read(func(r *oncelogv1.FetchRequest) { r.Isolation = 99 }), invalidArgument, nil},
		{"an unknown format", read(func(r *oncelogv1.FetchRequest) { r.Format = -1 }), invalidArgument, nil},
		{"1,001 questions", offsets(many...), limitExceeded, nil},
		{"a question about nothing", offsets(&oncelogv1.OffsetQuery{Target: latest}), invalidArgument, nil},
		{"a question without a target", offsets(&oncelogv1.OffsetQuery{Partition: to}), invalidArgument, nil},
		{"a question about an unknown partition", offsets(&oncelogv1.OffsetQuery{Partition: partition("no-such-topic", 0), Target: latest}), unknownPart, nil},
		{"producers of nothing", func(ctx context.Context) error {
			_, err := log.DescribeProducers(ctx, &oncelogv1.DescribeProducersRequest{})
			return err
		}, invalidArgument, nil},
		{"1,001 partitions", func(ctx context.Context) error {
			_, err := log.DescribePartitions(ctx, &oncelogv1.DescribePartitionsRequest{Partitions: parts})
			return err
		}, limitExceeded, nil},
	})
}

func TestMisuseOfTransactions(t *testing.T) {
	w := ownCluster(t, cluster.Config{Coordinators: 1, Partitions: 1})
	b := newBystander(t, w)
	txns := oncelogv1.NewTransactionServiceClient(w.conn(t, w.Node(cluster.Coordinator, 1).Client))
	me, other := w.initProducer(t, unique(t, "id")), w.initProducer(t, unique(t, "other"))
	to := partition(b.topic, 0)
	init := func(r *oncelogv1.InitProducerRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := txns.InitProducer(ctx, r); return err }
	}
	end := func(change func(r *oncelogv1.EndTransactionRequest)) func(context.Context) error {
		r := me.end(1, true, to, 1)
		change(r)
		return func(ctx context.Context) error { _, err := txns.EndTransaction(ctx, r); return err }
	}
	offsets := func(g *oncelogv1.GroupOffsets) func(context.Context) error {
		return end(func(r *oncelogv1.EndTransactionRequest) { r.Offsets = []*oncelogv1.GroupOffsets{g} })
	}
	at := func(p *oncelogv1.PartitionRef, metadata string) []*oncelogv1.OffsetCommit {
		return []*oncelogv1.OffsetCommit{{Partition: p, Offset: 1, Metadata: metadata}}
	}
	many := make([]*oncelogv1.PartitionProgress, 10_001)
	for i := range many {
		many[i] = &oncelogv1.PartitionProgress{Partition: to}
	}
	long := strings.Repeat("x", 250)
	invalidTxn := oncelogv1.ErrorCode_ERROR_CODE_INVALID_TXN
	b.run(t, w, []misuse{
		{"an id of 250 bytes", init(&oncelogv1.InitProducerRequest{TransactionalId: long}), limitExceeded, []string{"field", "transactional_id"}},
		{"a request id of 65 bytes", init(&oncelogv1.InitProducerRequest{TransactionalId: "x", RequestId: long[:65]}), limitExceeded, []string{"field", "request_id"}},
		{"a client id of 250 bytes", init(&oncelogv1.InitProducerRequest{TransactionalId: "x", ClientId: long}), limitExceeded, nil},
		{"a timeout of 99 ms", init(&oncelogv1.InitProducerRequest{TransactionalId: "x", TimeoutMs: 99}), invalidArgument, []string{"field", "timeout_ms"}},
		{"a timeout of 15 min and 1 ms", init(&oncelogv1.InitProducerRequest{TransactionalId: "x", TimeoutMs: 900_001}), invalidArgument, nil},
		{"a negative timeout", init(&oncelogv1.InitProducerRequest{TransactionalId: "x", TimeoutMs: math.MinInt64}), invalidArgument, nil},
		{"the largest timeout", init(&oncelogv1.InitProducerRequest{TransactionalId: "x", TimeoutMs: math.MaxInt64}), invalidArgument, nil},

		{"no transaction", end(func(r *oncelogv1.EndTransactionRequest) { r.Txn = nil }), invalidArgument, nil},
		{"number 0", end(func(r *oncelogv1.EndTransactionRequest) { r.Txn.TxnNumber = 0 }), invalidArgument, []string{"field", "txn.txn_number"}},
		{"no token", end(func(r *oncelogv1.EndTransactionRequest) { r.ProducerToken = nil }), badToken, nil},
		{"another's token", end(func(r *oncelogv1.EndTransactionRequest) { r.ProducerToken = other.GetProducerToken() }), badToken, nil},
		{"another's transaction", end(func(r *oncelogv1.EndTransactionRequest) { r.Txn = ref(b.tx) }), badToken, nil},
		{"a forged epoch", end(func(r *oncelogv1.EndTransactionRequest) { r.Txn.Epoch = math.MaxUint32 }), badToken, nil},
		{"an unknown partition", end(func(r *oncelogv1.EndTransactionRequest) {
			r.Partitions[0].Partition = &oncelogv1.PartitionRef{PartitionId: math.MaxUint64}
		}), invalidTxn, nil},
		{"no partition", end(func(r *oncelogv1.EndTransactionRequest) { r.Partitions[0].Partition = nil }), invalidArgument, nil},
		{"a partition twice", end(func(r *oncelogv1.EndTransactionRequest) { r.Partitions = append(r.Partitions, r.Partitions[0]) }), invalidArgument, nil},
		{"10,001 partitions", end(func(r *oncelogv1.EndTransactionRequest) { r.Partitions = many }), limitExceeded, nil},
		{"offsets with an abort", end(func(r *oncelogv1.EndTransactionRequest) {
			r.Commit = false
			r.Offsets = []*oncelogv1.GroupOffsets{{GroupId: b.group, Offsets: at(to, "")}}
		}), invalidArgument, []string{"field", "offsets"}},
		{"offsets of no group", offsets(&oncelogv1.GroupOffsets{Offsets: at(to, "")}), invalidArgument, nil},
		{"offsets of a group of 250 bytes", offsets(&oncelogv1.GroupOffsets{GroupId: long, Offsets: at(to, "")}), limitExceeded, nil},
		{"offsets in an unknown topic", offsets(&oncelogv1.GroupOffsets{GroupId: b.group, Offsets: at(partition("no-such-topic", 0), "")}), unknownTopic, nil},
		{"offset metadata of 4,097 bytes", offsets(&oncelogv1.GroupOffsets{GroupId: b.group, Offsets: at(to, strings.Repeat("x", 4097))}), limitExceeded, nil},
		{"an offset twice", offsets(&oncelogv1.GroupOffsets{GroupId: b.group, Offsets: append(at(to, ""), at(to, "")...)}), invalidArgument, nil},
		{"offsets of another member", offsets(&oncelogv1.GroupOffsets{
			GroupId: b.group, MemberId: "nobody", Generation: math.MaxUint64, Offsets: at(to, ""),
		}), oncelogv1.ErrorCode_ERROR_CODE_STALE_MEMBER, nil},

		{"the outcome of nothing", func(ctx context.Context) error {
			_, err := txns.GetOutcome(ctx, &oncelogv1.GetOutcomeRequest{})
			return err
		}, invalidArgument, nil},
		{"a description of nobody", func(ctx context.Context) error {
			_, err := txns.DescribeTransaction(ctx, &oncelogv1.DescribeTransactionRequest{TransactionalId: "nobody"})
			return err
		}, unknownProducer, nil},
		{"an abort of nobody's", func(ctx context.Context) error {
			_, err := txns.AbortTransaction(ctx, &oncelogv1.AbortTransactionRequest{TransactionalId: "nobody"})
			return err
		}, unknownProducer, nil},
		{"a fence for nobody", func(ctx context.Context) error {
			_, err := txns.FenceProducer(ctx, &oncelogv1.FenceProducerRequest{TransactionalId: "nobody"})
			return err
		}, unknownProducer, nil},
		{"the deletion of nobody", func(ctx context.Context) error {
			_, err := txns.DeleteTransactionalId(ctx, &oncelogv1.DeleteTransactionalIdRequest{TransactionalId: "nobody"})
			return err
		}, unknownProducer, nil},
		{"a page of 1,001", func(ctx context.Context) error {
			_, err := txns.ListTransactions(ctx, &oncelogv1.ListTransactionsRequest{PageSize: 1001})
			return err
		}, limitExceeded, nil},
		{"a page that is none", func(ctx context.Context) error {
			_, err := txns.ListTransactions(ctx, &oncelogv1.ListTransactionsRequest{PageToken: "none"})
			return err
		}, invalidArgument, nil},
	})
}

func TestMisuseOfCatalogGroupsAndNodes(t *testing.T) {
	w := ownCluster(t, cluster.Config{Coordinators: 1, Partitions: 1})
	b := newBystander(t, w)
	c, p := w.Node(cluster.Coordinator, 1), w.Node(cluster.Partition, 1)
	cc := w.conn(t, c.Client)
	catalog, groups := oncelogv1.NewCatalogServiceClient(cc), oncelogv1.NewGroupServiceClient(cc)
	nodes, shards := oncelogv1.NewNodeServiceClient(w.conn(t, c.Peer)), oncelogv1.NewShardServiceClient(w.conn(t, p.Peer))
	create := func(r *oncelogv1.CreateTopicRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := catalog.CreateTopic(ctx, r); return err }
	}
	named := func(name string) func(context.Context) error {
		return create(&oncelogv1.CreateTopicRequest{Name: name})
	}
	assign := func(r *oncelogv1.AssignPartitionsRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := groups.AssignPartitions(ctx, r); return err }
	}
	commit := func(g *oncelogv1.GroupOffsets) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := groups.CommitOffsets(ctx, &oncelogv1.CommitOffsetsRequest{Offsets: g})
			return err
		}
	}
	register := func(r *oncelogv1.RegisterNodeRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := nodes.RegisterNode(ctx, r); return err }
	}
	nowhere := []*oncelogv1.PartitionRef{partition("no-such-topic", 0)}
	long := strings.Repeat("x", 250)
	b.run(t, w, []misuse{
		{"a topic without a name", named(""), invalidArgument, []string{"field", "name"}},
		{"a topic called ..", named(".."), invalidArgument, nil},
		{"a topic with a slash", named("a/b"), invalidArgument, nil},
		{"a topic of 250 bytes", named(long), invalidArgument, nil},
		{"a topic that exists", named(b.topic), oncelogv1.ErrorCode_ERROR_CODE_TOPIC_EXISTS, []string{"topic", b.topic}},
		{"10,001 partitions", create(&oncelogv1.CreateTopicRequest{Name: "x", Partitions: 10_001}), limitExceeded, nil},
		{"the largest number of partitions", create(&oncelogv1.CreateTopicRequest{Name: "x", Partitions: math.MaxUint32}), limitExceeded, nil},
		{"10 replicas", create(&oncelogv1.CreateTopicRequest{Name: "x", ReplicationFactor: 10}), limitExceeded, nil},
		{"2 replicas on one node", create(&oncelogv1.CreateTopicRequest{Name: "x", ReplicationFactor: 2}), oncelogv1.ErrorCode_ERROR_CODE_INSUFFICIENT_NODES, []string{"wanted", "2", "registered", "1"}},
		{"the deletion of nothing", func(ctx context.Context) error {
			_, err := catalog.DeleteTopic(ctx, &oncelogv1.DeleteTopicRequest{Name: "no-such-topic"})
			return err
		}, unknownTopic, nil},
		{"a page of 1,001 topics", func(ctx context.Context) error {
			_, err := catalog.ListTopics(ctx, &oncelogv1.ListTopicsRequest{PageSize: 1001})
			return err
		}, limitExceeded, nil},
		{"metadata of 1,001 topics", func(ctx context.Context) error {
			_, err := catalog.GetMetadata(ctx, &oncelogv1.GetMetadataRequest{Topics: make([]string, 1001)})
			return err
		}, limitExceeded, nil},

		{"no group", assign(&oncelogv1.AssignPartitionsRequest{MemberId: "x"}), invalidArgument, []string{"field", "group_id"}},
		{"no member", assign(&oncelogv1.AssignPartitionsRequest{GroupId: "x"}), invalidArgument, []string{"field", "member_id"}},
		{"a group of 250 bytes", assign(&oncelogv1.AssignPartitionsRequest{GroupId: long, MemberId: "x"}), limitExceeded, nil},
		{"partitions of an unknown topic", assign(&oncelogv1.AssignPartitionsRequest{GroupId: "x", MemberId: "x", Partitions: nowhere}), unknownTopic, nil},
		{"a position in an unknown topic", commit(&oncelogv1.GroupOffsets{GroupId: b.group, Offsets: []*oncelogv1.OffsetCommit{{Partition: nowhere[0]}}}), unknownTopic, nil},
		{"a position of a stranger", commit(&oncelogv1.GroupOffsets{
			GroupId: b.group, MemberId: "stranger", Generation: 1, Offsets: []*oncelogv1.OffsetCommit{{Partition: partition(b.topic, 0)}},
		}), oncelogv1.ErrorCode_ERROR_CODE_STALE_MEMBER, nil},
		{"positions in nothing", commit(nil), invalidArgument, nil},
		{"a description of no group", func(ctx context.Context) error {
			_, err := groups.DescribeGroup(ctx, &oncelogv1.DescribeGroupRequest{GroupId: "no-such-group"})
			return err
		}, unknownGroup, nil},
		{"the deletion of no group", func(ctx context.Context) error {
			_, err := groups.DeleteGroup(ctx, &oncelogv1.DeleteGroupRequest{GroupId: "no-such-group"})
			return err
		}, unknownGroup, nil},
		{"the deletion of a group with members", func(ctx context.Context) error {
			_, err := groups.DeleteGroup(ctx, &oncelogv1.DeleteGroupRequest{GroupId: b.group})
			return err
		}, oncelogv1.ErrorCode_ERROR_CODE_GROUP_NOT_EMPTY, nil},

		{"node 0", register(&oncelogv1.RegisterNodeRequest{InstanceId: "x", ClientAddress: "x:1", PeerAddress: "x:1"}), invalidArgument, nil},
		{"a node without a disk", register(&oncelogv1.RegisterNodeRequest{NodeId: 9, ClientAddress: "x:1", PeerAddress: "x:1"}), invalidArgument, nil},
		{"a node without an address", register(&oncelogv1.RegisterNodeRequest{NodeId: 9, InstanceId: "x"}), invalidArgument, nil},
		{"the heartbeat of a stranger", func(ctx context.Context) error {
			_, err := nodes.Heartbeat(ctx, &oncelogv1.HeartbeatRequest{NodeId: 99})
			return err
		}, oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_NODE, nil},
		{"the heartbeat of an impostor", func(ctx context.Context) error {
			_, err := nodes.Heartbeat(ctx, &oncelogv1.HeartbeatRequest{NodeId: p.ID, InstanceId: "impostor"})
			return err
		}, oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE, nil},
		{"10,001 enlistments", func(ctx context.Context) error {
			_, err := nodes.Enlist(ctx, &oncelogv1.EnlistRequest{NodeId: p.ID, Enlistments: make([]*oncelogv1.Enlistment, 10_001)})
			return err
		}, limitExceeded, nil},
		{"markers for an unknown shard", func(ctx context.Context) error {
			res, err := shards.WriteMarkers(ctx, &oncelogv1.WriteMarkersRequest{Shards: []*oncelogv1.ShardMarkers{{
				ShardId: 12345, Markers: []*oncelogv1.Marker{{Txn: ref(b.tx), Commit: true}},
			}}})
			if err != nil {
				return err
			}
			return asError(res.GetShards()[0].GetError())
		}, oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER, nil},
	})
	w.stillServes(t, b)
}

// Raft's own messages, garbled, on the address where they belong.
func TestGarbledRaftMessages(t *testing.T) {
	w := ownCluster(t, cluster.Config{Coordinators: 1, Partitions: 1})
	b := newBystander(t, w)
	before := b.picture(t, w, true)
	clusterID := w.metadata(t, b.topic).GetClusterId()
	for _, n := range w.Nodes() {
		name := clusterID
		if n.Role == cluster.Coordinator {
			name = "coordinator"
		}
		raft := oncelogv1.NewRaftServiceClient(w.conn(t, n.Peer))
		for _, bytes := range [][]byte{nil, []byte("garbage"), {0x08, 0x03, 0x10, 0x01}, make([]byte, 1<<20)} {
			for _, group := range []uint64{0, 1, 2, math.MaxUint64} {
				exchange(t, raft, &oncelogv1.ExchangeRequest{
					ClusterId: name, FromNode: 77, ToNode: n.ID,
					Messages: []*oncelogv1.RaftMessage{{GroupId: group, Message: bytes}},
				})
			}
		}
	}
	b.unchanged(t, w, "garbled raft messages", before, true)
	w.stillServes(t, b)
}

// exchange sends one frame; what comes of it does not matter.
func exchange(t *testing.T, raft oncelogv1.RaftServiceClient, frame *oncelogv1.ExchangeRequest) {
	t.Helper()
	stream, err := raft.Exchange(withPatience(t), grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(proto.CloneOf(frame))
	_, _ = stream.CloseAndRecv()
}
