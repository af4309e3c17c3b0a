package partition

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oncelog/oncelog/api/acl"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/access"
	"github.com/oncelog/oncelog/partition/log"
	"github.com/oncelog/oncelog/partition/pstate"
)

// retain gives the partitions a retention and waits until the shard has it.
func (c *cluster) retain(ms, bytes int64, partitions ...uint64) {
	c.t.Helper()
	c.assign(func(s *oncelogv1.ShardAssignment) {
		for _, p := range s.GetPartitions() {
			for _, id := range partitions {
				if p.GetPartitionId() == id {
					p.RetentionMs, p.RetentionBytes = ms, bytes
				}
			}
		}
	})
	c.leader()
}

// appendMany writes one batch after the other and returns what a reader sees of
// them.
func (c *cluster) appendMany(n *testNode, ref pstate.TxnRef, partition uint64, from, to int) (shown []string) {
	c.t.Helper()
	for i := from; i < to; i++ {
		value := fmt.Sprintf("v%03d", i)
		at := c.append(n, ref, partition, uint64(i), value)
		shown = append(shown, fmt.Sprintf("%d=%s", at, value))
	}
	return shown
}

func (c *cluster) start1(n *testNode, partition uint64) uint64 {
	c.t.Helper()
	resp, err := n.client.ListOffsets(c.ctx(), &oncelogv1.ListOffsetsRequest{Queries: []*oncelogv1.OffsetQuery{{
		Partition: partitionRef(partition),
		Target:    &oncelogv1.OffsetQuery_Position{Position: oncelogv1.StartPosition_START_POSITION_EARLIEST},
	}}})
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.GetAnswers()[0].GetOffset()
}

func (c *cluster) wantOutOfRange(err error, start uint64) {
	c.t.Helper()
	e := apierrors.From(err)
	if code(err) != oncelogv1.ErrorCode_ERROR_CODE_OFFSET_OUT_OF_RANGE || e.Metadata[apierrors.KeyStartOffset] != fmt.Sprint(start) {
		c.t.Errorf("want OFFSET_OUT_OF_RANGE with the start %d, have %v", start, err)
	}
}

var idempotent = pstate.TxnRef{ProducerID: 8}

// What retention removes goes from the rows and from the logs of all replicas,
// what it keeps can be read, also after everybody has been down. Producers are still
// known.
//
// Covers UL-17, UL-20 of CONFORMANCE.md.
func TestRetentionGivesTheSpaceBack(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, c *cluster) {
		c.retain(0, 2000, pA, pB, pC)
		n := c.leader()
		shown := c.appendMany(n, idempotent, pA, 0, 300)
		pass(31 * time.Second)
		start := c.start1(n, pA)
		if start < 200 {
			t.Fatalf("the log starts at %d", start)
		}
		status, err := n.client.DescribePartitions(c.ctx(), &oncelogv1.DescribePartitionsRequest{
			Partitions: []*oncelogv1.PartitionRef{partitionRef(pA)},
		})
		if p := status.GetPartitions()[0]; err != nil || p.GetStartOffset() != start || p.GetSizeBytes() < 2000 || p.GetSizeBytes() > 2400 {
			t.Errorf("%v %v", p, err)
		}
		stream, err := n.client.Fetch(c.ctx(), &oncelogv1.FetchRequest{Partition: partitionRef(pA), Offset: start - 1})
		if err == nil {
			_, err = stream.Recv()
		}
		c.wantOutOfRange(err, start)
		equal(t, "what is kept", c.read(n, pA, start, committed), shown[start:]...)
		pass(31 * time.Second)
		for id, n := range c.nodes {
			if first := n.shard(testShard).group.First(); first < 200 {
				t.Errorf("the log of node %d begins with entry %d", id, first)
			}
			rows := 0
			lo, hi := log.PartitionRange(pA)
			if err := n.shard(testShard).group.Rows().Scan(lo, hi, func(_, _ []byte) bool { rows++; return true }); err != nil || rows > 100 {
				t.Errorf("node %d keeps %d rows, %v", id, rows, err)
			}
		}
		for _, n := range c.nodes {
			n.stop()
		}
		for id, n := range c.nodes {
			c.start(id, n.dir, n.disk)
		}
		n = c.leader()
		equal(t, "after a restart", c.read(n, pA, start, committed), shown[start:]...)
		if got := c.start1(n, pA); got != start {
			t.Errorf("after a restart the log starts at %d, before at %d", got, start)
		}
		if again := c.append(n, idempotent, pA, 299, "v299"); again != 299 {
			t.Errorf("a repetition is stored at %d", again)
		}
	})
}

func TestRetentionByTimeFollowsTheClockOfTheLeader(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, c *cluster) {
		c.retain(time.Hour.Milliseconds(), 0, pA)
		n := c.leader()
		c.appendMany(n, idempotent, pA, 0, 3)
		pass(30 * time.Minute)
		shown := c.appendMany(n, idempotent, pA, 3, 5)
		pass(29 * time.Minute)
		if start := c.start1(n, pA); start != 0 {
			t.Errorf("the log starts at %d before anything is old", start)
		}
		pass(2 * time.Minute)
		equal(t, "what is kept", c.read(n, pA, c.start1(n, pA), committed), shown...)
		pass(time.Hour)
		if start := c.start1(n, pA); start != 5 {
			t.Errorf("the log starts at %d when everything is old", start)
		}
	})
}

// Of a shard with several partitions the log goes as far as nobody needs it.
func TestTheLogIsKeptForWhoNeedsIt(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, c *cluster) {
		c.retain(0, 100, pA)
		n := c.leader()
		group := n.shard(testShard).group
		kept := c.appendMany(n, pstate.TxnRef{ProducerID: 9}, pB, 0, 1)
		before := group.Applied()
		c.appendMany(n, idempotent, pA, 0, 200)
		pass(2 * time.Minute)
		if first := group.First(); first > before {
			t.Errorf("the log begins with entry %d, and a record is in %d", first, before)
		}
		equal(t, "the partition that is kept", c.read(n, pB, 0, committed), kept...)
		c.assign(func(s *oncelogv1.ShardAssignment) {
			for i, p := range s.GetPartitions() {
				if p.GetPartitionId() == pB { // its topic is deleted
					s.Partitions = append(s.Partitions[:i:i], s.Partitions[i+1:]...)
					return
				}
			}
		})
		c.leader()
		c.appendMany(n, idempotent, pA, 200, 300) // so that there is a checkpoint
		pass(2 * time.Minute)
		if first := group.First(); first < before+100 {
			t.Errorf("the log begins with entry %d when nobody needs it", first)
		}
	})
}

// Covers UL-13 of CONFORMANCE.md.
func TestDeleteRecords(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	shown := c.appendMany(n, idempotent, pA, 0, 6)
	c.append(n, pstate.TxnRef{ProducerID: 9, Number: 1}, pA, 0, "open")
	del := func(partition, before uint64) (uint64, error) {
		resp, err := n.client.DeleteRecords(c.ctx(), &oncelogv1.DeleteRecordsRequest{Deletions: []*oncelogv1.RecordDeletion{
			{Partition: partitionRef(pB)}, {Partition: partitionRef(partition), BeforeOffset: before},
		}})
		if err != nil {
			return 0, err
		}
		return resp.GetStarts()[1].GetStartOffset(), nil
	}
	for _, step := range []struct{ before, start uint64 }{{0, 0}, {2, 2}, {2, 2}, {1, 2}, {5, 5}, {6, 6}} {
		if got, err := del(pA, step.before); err != nil || got != step.start {
			t.Errorf("before %d: starts at %d, %v; want %d", step.before, got, err, step.start)
		}
		equal(t, "what is left", c.read(n, pA, step.start, committed), shown[step.start:]...)
	}
	_, err := del(pA, 7) // above the stable end
	c.wantOutOfRange(err, 6)
	if _, err := del(77, 1); code(err) != oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION {
		t.Errorf("an unknown partition: %v", err)
	}
	_, err = n.client.DeleteRecords(c.ctx(), &oncelogv1.DeleteRecordsRequest{Deletions: []*oncelogv1.RecordDeletion{
		{Partition: &oncelogv1.PartitionRef{Topic: "t"}, BeforeOffset: 6},
	}})
	if e := apierrors.From(err); e == nil || e.Metadata[apierrors.KeyField] != "deletions.partition" {
		t.Errorf("by name: %v", err)
	}
	_, err = n.client.DeleteRecords(c.ctx(), &oncelogv1.DeleteRecordsRequest{Deletions: make([]*oncelogv1.RecordDeletion, MaxQueries+1)})
	if e := apierrors.From(err); e == nil || e.Metadata[apierrors.KeyLimit] != "1000" {
		t.Errorf("too many: %v", err)
	}
}

// A reader that retention overtakes between two looks is told so, whatever it was
// about to read: rows and entries may be gone.
func TestAReaderThatIsOvertakenIsToldSo(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, c *cluster) {
		n := c.leader()
		c.retain(0, 1, pA)
		c.appendMany(n, idempotent, pA, 0, 130)
		r, refused := n.reader(access.Principal{}, acl.Read, partitionRef(pA), committed)
		if refused != nil {
			t.Fatal(refused)
		}
		v, refused := r.bounds(c.ctx())
		if refused != nil || v.start != 0 || v.visible != 130 {
			t.Fatalf("%+v %v", v, refused)
		}
		pass(2 * time.Minute)
		start := c.start1(n, pA)
		if start < 100 || n.shard(testShard).group.First() < 64 {
			t.Fatalf("starts at %d", start)
		}
		_, _, err := r.step(v, 0, v.visible, 1<<20)
		c.wantOutOfRange(err, start)
		_, _, err = r.step(v, start-1, v.visible, 1<<20)
		c.wantOutOfRange(err, start)
		ans := &oncelogv1.OffsetAnswer{}
		if err := r.byTime(c.ctx(), v, 0, ans); err != nil || ans.GetOffset() != start {
			t.Errorf("by time: %v %v", ans, err)
		}
		f := &fetch{partitionReader: r, req: &oncelogv1.FetchRequest{Start: oncelogv1.StartPosition_START_POSITION_EARLIEST}}
		if !f.overtaken(outOfRange(0, start, 130)) || f.overtaken(unavailable()) || f.overtaken(nil) {
			t.Error("who begins with the earliest record")
		}
		if err := r.failed(start, log.ErrCorrupt); !strings.Contains(err.Error(), "corrupt") {
			t.Errorf("damage is called %v", err)
		}
	})
}

func TestNonsenseInAnAssignmentKeepsEverything(t *testing.T) {
	t.Parallel()
	for _, p := range []*oncelogv1.AssignedPartition{{RetentionMs: -1}, {RetentionBytes: -5}, {RetentionMs: 1 << 60, RetentionBytes: 1 << 60}} {
		if r := retentionOf(p); r != (pstate.Retention{}) {
			t.Errorf("%v is taken for %+v", p, r)
		}
	}
	if r := retentionOf(&oncelogv1.AssignedPartition{RetentionMs: 5, RetentionBytes: 6}); r != (pstate.Retention{Millis: 5, Bytes: 6}) {
		t.Errorf("%+v", r)
	}
}
