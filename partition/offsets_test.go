package partition

import (
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
)

// TestOffsetsByTimeAgainstAScan compares every answer with a look at all
// visible records.
func TestOffsetsByTimeAgainstAScan(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	c := newCluster(t, 1)
	n := c.leader()
	for i := range uint64(60) {
		ref := pstate.TxnRef{ProducerID: i + 1}
		if rng.IntN(3) > 0 {
			ref.Number = 1
		}
		req := appendRequest(ref, pA, 0, make([]string, 1+rng.IntN(4))...)
		records := req.Partitions[0].GetRecords().GetRecords()
		for _, r := range records {
			r.TimestampMs = proto.Int64(int64(i)*3 + rng.Int64N(40))
		}
		if _, err := n.client.Append(c.ctx(), req); err != nil {
			t.Fatal(err)
		}
		if ref.Transactional() && i < 50 { // the last ones hold the stable end
			c.mark(n, ref, rng.IntN(2) == 0, pA, rng.Uint64N(uint64(len(records)+1)))
		}
	}
	for _, level := range []oncelogv1.IsolationLevel{committed, uncommitted} {
		stream, err := n.client.Fetch(c.ctx(), &oncelogv1.FetchRequest{Partition: partitionRef(pA), Isolation: level})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for ts := int64(-1); ts < 230; ts++ {
			var want *oncelogv1.FetchedRecord
			for _, r := range resp.GetRecords() {
				if r.GetRecord().GetTimestampMs() >= ts {
					want = r
					break
				}
			}
			got, err := n.client.ListOffsets(c.ctx(), &oncelogv1.ListOffsetsRequest{Isolation: level, Queries: []*oncelogv1.OffsetQuery{
				{Partition: partitionRef(pA), Target: &oncelogv1.OffsetQuery_TimestampMs{TimestampMs: ts}},
			}})
			if err != nil {
				t.Fatal(err)
			}
			a := got.GetAnswers()[0]
			if (a.Offset == nil) != (want == nil) || a.GetOffset() != want.GetOffset() || a.GetTimestampMs() != want.GetRecord().GetTimestampMs() {
				t.Fatalf("%v, time %d: got %v, want %v", level, ts, a, want)
			}
		}
		ends, err := n.client.ListOffsets(c.ctx(), &oncelogv1.ListOffsetsRequest{Isolation: level, Queries: []*oncelogv1.OffsetQuery{
			{Partition: partitionRef(pA), Target: &oncelogv1.OffsetQuery_Position{Position: oncelogv1.StartPosition_START_POSITION_EARLIEST}},
			{Partition: partitionRef(pA), Target: &oncelogv1.OffsetQuery_Position{Position: oncelogv1.StartPosition_START_POSITION_LATEST}},
		}})
		want := resp.GetAppliedEnd()
		if level == committed {
			want = resp.GetStableEnd()
		}
		if err != nil || ends.GetAnswers()[0].GetOffset() != 0 || ends.GetAnswers()[1].GetOffset() != want {
			t.Errorf("%v: %v %v, want %d", level, ends, err, want)
		}
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	open := pstate.TxnRef{ProducerID: 9, Epoch: 1, Number: 2}
	c.append(n, pstate.TxnRef{ProducerID: 8}, pA, 0, "a", "b")
	for i := range uint64(3) {
		done := pstate.TxnRef{ProducerID: 7, Number: i + 1}
		c.append(n, done, pA, 0, "c")
		c.mark(n, done, true, pA, 1)
	}
	c.append(n, open, pA, 0, "d")
	prod, err := n.client.DescribeProducers(c.ctx(), &oncelogv1.DescribeProducersRequest{Partition: &oncelogv1.PartitionRef{Topic: "t"}})
	if err != nil || len(prod.GetProducers()) != 3 {
		t.Fatalf("%v %v", prod, err)
	}
	if p := prod.GetProducers(); refOf(p[0].GetTxn()) != (pstate.TxnRef{ProducerID: 7}) || p[0].FirstOffset != nil ||
		refOf(p[1].GetTxn()) != (pstate.TxnRef{ProducerID: 8}) || p[1].GetNextSequence() != 2 ||
		refOf(p[2].GetTxn()) != open || p[2].GetFirstOffset() != 5 || p[2].GetLastAppendMs() == 0 {
		t.Errorf("%v", p)
	}
	all, err := n.client.DescribePartitions(c.ctx(), &oncelogv1.DescribePartitionsRequest{})
	if err != nil || len(all.GetPartitions()) != 3 {
		t.Fatalf("%v %v", all, err)
	}
	one, err := n.client.DescribePartitions(c.ctx(), &oncelogv1.DescribePartitionsRequest{Partitions: []*oncelogv1.PartitionRef{partitionRef(pA)}})
	if err != nil || !proto.Equal(one.GetPartitions()[0], all.GetPartitions()[0]) {
		t.Fatalf("%v %v", one, err)
	}
	p := one.GetPartitions()[0]
	if p.GetStableEnd() != 5 || p.GetAppliedEnd() != 6 || p.GetOpenTransactions() != 1 || refOf(p.GetBlockedBy()) != open ||
		p.GetBlockedSinceMs() == 0 || p.GetPartition().GetTopic() != "t" || p.GetShardId() != testShard {
		t.Errorf("%v", p)
	}
}

// TestOffsetsOfADeposedLeader checks that a leader that is cut off answers no
// offsets: who reads a partition up to the end it was told, to have its state
// back, would miss what the next leader has acknowledged.
func TestOffsetsOfADeposedLeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	old := c.leader()
	latest := &oncelogv1.ListOffsetsRequest{Queries: []*oncelogv1.OffsetQuery{
		{Partition: partitionRef(pA), Target: &oncelogv1.OffsetQuery_Position{Position: oncelogv1.StartPosition_START_POSITION_LATEST}},
		{Partition: partitionRef(pB), Target: &oncelogv1.OffsetQuery_TimestampMs{TimestampMs: 1}},
	}}
	c.append(old, pstate.TxnRef{ProducerID: 9}, pA, 0, "a")
	if resp, err := old.client.ListOffsets(c.ctx(), latest); err != nil || resp.GetAnswers()[0].GetOffset() != 1 {
		t.Fatalf("%v %v", resp, err)
	}
	c.net.Isolate(raftstore.NodeID(old.cfg.NodeID), true)
	if resp, err := old.client.ListOffsets(c.ctx(), latest); code(err) != oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER {
		t.Errorf("cut off: %v %v", resp, err)
	}
}
