package partition

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/api/acl"
	"github.com/oncelog/oncelog/api/batch"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/access"
	"github.com/oncelog/oncelog/partition/pstate"
)

func code(err error) oncelogv1.ErrorCode { return apierrors.CodeOf(err) }

func TestFollowersAreWokenByWhatTheirLevelShows(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	rc, ru := c.follow(n, pA, 0, committed), c.follow(n, pA, 0, uncommitted)
	rc.until(0)
	ru.until(0) // both have been told that there is nothing
	txn := pstate.TxnRef{ProducerID: 9, Number: 1}
	c.append(n, txn, pA, 0, "a")
	equal(t, "uncommitted", ru.until(1), "0=a")
	c.append(n, pstate.TxnRef{ProducerID: 8}, pA, 0, "b")
	equal(t, "uncommitted", ru.until(2), "1=b")
	c.mark(n, txn, true, pA, 1)
	equal(t, "committed", rc.until(2), "0=a", "1=b")
	if rc.last.GetStableEnd() != 2 || rc.last.GetAppliedEnd() != 2 {
		t.Errorf("ends %v", rc.last)
	}
	second := pstate.TxnRef{ProducerID: 9, Number: 2}
	c.append(n, second, pA, 0, "c")
	c.mark(n, second, false)
	equal(t, "aborted", rc.until(3)) // the position moves, nothing is shown
}

func TestFollowersSeeEverythingOnceUnderLoad(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	const producers, each = 4, 150
	var wg sync.WaitGroup
	for _, level := range []oncelogv1.IsolationLevel{committed, uncommitted} {
		for _, p := range []uint64{pA, pB} {
			f := c.follow(n, p, 0, level)
			wg.Go(func() {
				got := f.until(producers * each)
				for i, rec := range got {
					if !strings.HasPrefix(rec, fmt.Sprintf("%d=", i)) {
						t.Errorf("record %d is %s", i, rec)
						return
					}
				}
				if len(got) != producers*each {
					t.Errorf("%d records", len(got))
				}
			})
		}
	}
	for id := range uint64(producers) {
		wg.Go(func() {
			for i := range uint64(each) {
				txn := pstate.TxnRef{ProducerID: id + 1, Number: i + 1}
				req := appendRequest(txn, pA, 0, "v")
				req.Partitions = append(req.Partitions, appendRequest(txn, pB, 0, "v").Partitions...)
				if _, err := n.client.Append(c.ctx(), req); err != nil {
					t.Error(err)
					return
				}
				c.mark(n, txn, true, pA, 1, pB, 1)
			}
		})
	}
	wg.Wait()
}

func TestFetchLimitsAndPositions(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	ref := pstate.TxnRef{ProducerID: 9}
	for i := range uint64(10) {
		c.append(n, ref, pA, 3*i, "a", "b", "c")
	}
	req := &oncelogv1.FetchRequest{Partition: &oncelogv1.PartitionRef{Topic: "t"}, Offset: 4, MaxRecords: 7}
	for _, f := range []oncelogv1.FetchFormat{oncelogv1.FetchFormat_FETCH_FORMAT_RECORDS, oncelogv1.FetchFormat_FETCH_FORMAT_BATCHES} {
		req.Format = f
		equal(t, "seven", c.fetch(n, req), "4=b", "5=c", "6=a", "7=b", "8=c", "9=a", "10=b")
	}
	stream, err := n.client.Fetch(c.ctx(), req)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil || resp.GetNextOffset() != 11 {
		t.Errorf("next offset %v %v", resp, err)
	}
	equal(t, "earliest", c.fetch(n, &oncelogv1.FetchRequest{
		Partition: partitionRef(pA), Start: oncelogv1.StartPosition_START_POSITION_EARLIEST, MaxRecords: 1, Follow: true,
	}), "0=a")
	equal(t, "latest", c.fetch(n, &oncelogv1.FetchRequest{Partition: partitionRef(pA), Start: oncelogv1.StartPosition_START_POSITION_LATEST}))
	equal(t, "at the end", c.fetch(n, &oncelogv1.FetchRequest{Partition: partitionRef(pA), Offset: 30}))
	stream, err = n.client.Fetch(c.ctx(), &oncelogv1.FetchRequest{Partition: partitionRef(pA), Offset: 31})
	if err == nil {
		_, err = stream.Recv()
	}
	if e := apierrors.From(err); code(err) != oncelogv1.ErrorCode_ERROR_CODE_OFFSET_OUT_OF_RANGE ||
		e.Metadata[apierrors.KeyStartOffset] != "0" || e.Metadata[apierrors.KeyEndOffset] != "30" {
		t.Errorf("beyond the end: %v", err)
	}
}

func TestRecordsComeBackAsTheyWereSent(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	ref := pstate.TxnRef{ProducerID: 9, Epoch: 2, Number: 3}
	req := appendRequest(ref, pA, 0)
	want := []*oncelogv1.Record{
		{Key: nil, Value: nil, TimestampMs: proto.Int64(5)},
		{Key: []byte{}, Value: []byte{}, TimestampMs: proto.Int64(-5)},
		{Key: []byte("k"), Value: []byte("v"), TimestampMs: proto.Int64(7), Headers: []*oncelogv1.Header{{Key: "h", Value: []byte("1")}, {Key: "h"}}},
	}
	req.Partitions[0].Payload = &oncelogv1.PartitionAppend_Records{Records: &oncelogv1.RecordList{Records: want}}
	if _, err := n.client.Append(c.ctx(), req); err != nil {
		t.Fatal(err)
	}
	encoded, err := batch.Encode(nil, []batch.Record{{Key: []byte("z"), Value: []byte(strings.Repeat("z", 4000)), Timestamp: 9, Headers: []batch.Header{{Key: "\xff", Value: nil}}}}, batch.CodecZstd)
	if err != nil {
		t.Fatal(err)
	}
	req.Partitions[0].BaseSequence = 3
	req.Partitions[0].Payload = &oncelogv1.PartitionAppend_Batch{Batch: encoded}
	if _, err := n.client.Append(c.ctx(), req); err != nil {
		t.Fatal(err)
	}
	stream, err := n.client.Fetch(c.ctx(), &oncelogv1.FetchRequest{Partition: partitionRef(pA), Isolation: uncommitted})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil || len(resp.GetRecords()) != 4 {
		t.Fatalf("%v %v", resp, err)
	}
	for i, r := range resp.GetRecords()[:3] {
		if !proto.Equal(r.GetRecord(), want[i]) || refOf(r.GetTxn()) != ref {
			t.Errorf("record %d: %v, want %v", i, r, want[i])
		}
	}
	last := resp.GetRecords()[3].GetRecord()
	if len(last.GetValue()) != 4000 || last.GetHeaders()[0].GetKey() != "\uFFFD" || last.GetTimestampMs() != 9 {
		t.Errorf("compressed record: %v", last)
	}
}

func TestRemovedPartitionEndsItsReaders(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	c.append(n, pstate.TxnRef{ProducerID: 9}, pB, 0, "x")
	f := c.follow(n, pB, 1, committed)
	f.until(1)
	c.assign(func(s *oncelogv1.ShardAssignment) {
		s.Partitions[0].Topic = "renamed"
		s.Partitions[1] = &oncelogv1.AssignedPartition{PartitionId: 2001, TopicId: 9, Topic: "new"}
	})
	c.leader()
	if _, err := f.receive(); code(err) != oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION {
		t.Errorf("reader of a removed partition: %v", err)
	}
	if _, err := n.client.Append(c.ctx(), appendRequest(pstate.TxnRef{ProducerID: 9}, pB, 1, "y")); code(err) != oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION {
		t.Errorf("append to a removed partition: %v", err)
	}
	c.append(n, pstate.TxnRef{ProducerID: 9}, 2001, 0, "y")
	equal(t, "new partition", c.read(n, 2001, 0, committed), "0=y")
	equal(t, "by its new name", c.fetch(n, &oncelogv1.FetchRequest{Partition: &oncelogv1.PartitionRef{Topic: "renamed"}}))
	if _, ok, err := n.shard(testShard).index.Find(pB, 0); ok || err != nil {
		t.Errorf("row of a removed partition is there: %v %v", ok, err)
	}
}

func TestReadsEndWithTheNode(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	f := c.follow(n, pA, 0, committed)
	f.until(0)
	if err := n.Close(c.ctx()); err != nil {
		t.Error(err)
	}
	if _, err := f.receive(); code(err) != oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE {
		t.Errorf("reader of a closed node: %v", err)
	}
	if _, err := n.client.DescribePartitions(c.ctx(), &oncelogv1.DescribePartitionsRequest{}); code(err) != oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE {
		t.Errorf("call to a closed node: %v", err)
	}
}

// TestRemovalBetweenBoundsAndRows removes a partition after a reader took its
// bounds: that the rows are gone is no damage then.
func TestRemovalBetweenBoundsAndRows(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	c.append(n, pstate.TxnRef{ProducerID: 9}, pA, 0, "a")
	r, refused := n.reader(access.Principal{}, acl.Read, partitionRef(pA), committed)
	if refused != nil {
		t.Fatal(refused)
	}
	v, refused := r.bounds(c.ctx())
	if refused != nil {
		t.Fatal(refused)
	}
	c.assign(func(s *oncelogv1.ShardAssignment) { s.Partitions = s.Partitions[1:] })
	c.leader() // has taken note of it
	if _, _, err := r.step(v, 0, v.visible, MaxFetchBytes); code(err) != oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION {
		t.Errorf("fetch: %v", err)
	}
	if err := r.byTime(c.ctx(), v, 1, &oncelogv1.OffsetAnswer{}); code(err) != oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION {
		t.Errorf("offset by time: %v", err)
	}
}
