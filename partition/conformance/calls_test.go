package conformance

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/partition/pstate"
)

const (
	committed   = oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_COMMITTED
	uncommitted = oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_UNCOMMITTED
	records     = oncelogv1.FetchFormat_FETCH_FORMAT_RECORDS
	batches     = oncelogv1.FetchFormat_FETCH_FORMAT_BATCHES
	earliest    = oncelogv1.StartPosition_START_POSITION_EARLIEST
	latest      = oncelogv1.StartPosition_START_POSITION_LATEST
)

func byID(partition uint64) *oncelogv1.PartitionRef {
	return &oncelogv1.PartitionRef{PartitionId: partition}
}

func wire(ref pstate.TxnRef) *oncelogv1.TxnRef {
	return &oncelogv1.TxnRef{ProducerId: ref.ProducerID, Epoch: ref.Epoch, TxnNumber: ref.Number}
}

// refusal names what an error says, and the details that go with its code.
func refusal(err error) string {
	e := apierrors.From(err)
	out := apierrors.Name(e.Code)
	for _, key := range []string{
		apierrors.KeyExpected, apierrors.KeyCurrentEpoch, apierrors.KeyOutcome, apierrors.KeyReason,
		apierrors.KeyField, apierrors.KeyLimit, apierrors.KeyStartOffset, apierrors.KeyEndOffset,
	} {
		if v := e.Metadata[key]; v != "" {
			out += " " + strings.ToLower(v)
		}
	}
	return out
}

// timestamp is that of the record with a sequence, so that records can be found
// by time.
func timestamp(sequence uint64) int64 { return int64(1000 + 10*sequence) }

// request is an append of so many records, each with its own value.
func (c *cluster) request(ref pstate.TxnRef, partition, sequence uint64, count int) *oncelogv1.AppendRequest {
	list := &oncelogv1.RecordList{}
	for i := range count {
		at := timestamp(sequence + uint64(i))
		list.Records = append(list.Records, &oncelogv1.Record{Value: value(ref, sequence+uint64(i)), TimestampMs: &at})
	}
	return &oncelogv1.AppendRequest{
		Txn: wire(ref), ProducerToken: c.keys.Sign(ref.ProducerID, ref.Epoch),
		Partitions: []*oncelogv1.PartitionAppend{{
			Partition: byID(partition), BaseSequence: sequence,
			Payload: &oncelogv1.PartitionAppend_Records{Records: list},
		}},
	}
}

// value names the record that a producer sends under a sequence.
func value(ref pstate.TxnRef, sequence uint64) []byte {
	return fmt.Appendf(nil, "%v:%d", ref, sequence)
}

// append sends a request in one call and says what came of its first partition.
func (c *cluster) append(m *node, req *oncelogv1.AppendRequest) string {
	resp, err := m.log.Append(c.ctx(), req)
	if err != nil {
		return refusal(err)
	}
	return stored(resp.GetResults()[0])
}

// appendStream is append over a stream.
func (c *cluster) appendStream(m *node, req *oncelogv1.AppendRequest) string {
	c.t.Helper()
	stream, err := m.log.AppendStream(c.ctx())
	c.ok(err)
	req.RequestId = 77
	c.ok(stream.Send(&oncelogv1.AppendStreamRequest{Requests: []*oncelogv1.AppendRequest{req}}))
	frame, err := stream.Recv()
	if err != nil {
		return refusal(err)
	}
	resp := frame.GetResponses()[0]
	equal(c.t, "request id", resp.GetRequestId(), 77)
	c.ok(stream.CloseSend())
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		c.t.Errorf("end of the stream: %v", err)
	}
	switch {
	case resp.GetError() != nil:
		return refusal(apierrors.FromProto(resp.GetError()))
	case resp.GetResults()[0].GetError() != nil:
		return refusal(apierrors.FromProto(resp.GetResults()[0].GetError()))
	}
	return stored(resp.GetResults()[0])
}

// stored says where records are.
func stored(r *oncelogv1.AppendResult) string {
	out := "APPENDED"
	if r.GetDuplicate() {
		out = "DUPLICATE"
	}
	if r.BaseOffset == nil {
		return out
	}
	return fmt.Sprint(out, " ", r.GetBaseOffset())
}

// send appends and ends the test unless the records are stored now.
func (c *cluster) send(ref pstate.TxnRef, partition, sequence uint64, count int) {
	c.t.Helper()
	if got := c.append(c.leader(), c.request(ref, partition, sequence, count)); !strings.HasPrefix(got, "APPENDED") {
		c.t.Fatalf("append %v to %d: %s", ref, partition, got)
	}
}

// try appends one record and says what came of it.
func (c *cluster) try(ref pstate.TxnRef, partition, sequence uint64) string {
	return c.append(c.leader(), c.request(ref, partition, sequence, 1))
}

// commit is a marker that covers the first n records in one partition; n 0: none
// anywhere.
func commit(ref pstate.TxnRef, partition, n uint64) *oncelogv1.Marker {
	m := &oncelogv1.Marker{Txn: wire(ref), Commit: true}
	if n > 0 {
		m.Progress = []*oncelogv1.MarkerProgress{{PartitionId: partition, NextSequence: n}}
	}
	return m
}

func abort(ref pstate.TxnRef, why oncelogv1.AbortReason) *oncelogv1.Marker {
	return &oncelogv1.Marker{Txn: wire(ref), Reason: why}
}

// client is why most of the tests' transactions are aborted.
const client = oncelogv1.AbortReason_ABORT_REASON_CLIENT

// mark writes markers in one request and names the result of each.
func (c *cluster) mark(m *node, markers ...*oncelogv1.Marker) string {
	resp, err := m.shard.WriteMarkers(c.ctx(), &oncelogv1.WriteMarkersRequest{
		Shards: []*oncelogv1.ShardMarkers{{ShardId: shardID, Markers: markers}},
	})
	switch {
	case err != nil:
		return refusal(err)
	case resp.GetShards()[0].GetError() != nil:
		return refusal(apierrors.FromProto(resp.GetShards()[0].GetError()))
	}
	var out []string
	for _, r := range resp.GetShards()[0].GetResults() {
		out = append(out, strings.TrimPrefix(r.String(), "MARKER_RESULT_"))
	}
	return strings.Join(out, " ")
}

// end writes a marker and ends the test unless it was applied now.
func (c *cluster) end(m *oncelogv1.Marker) {
	c.t.Helper()
	if got := c.mark(c.leader(), m); got != "APPLIED" {
		c.t.Fatalf("marker of %v: %s", m.GetTxn(), got)
	}
}

// shown is what a fetch that does not follow returned.
type shown struct {
	offsets []uint64
	values  []string
	next    uint64
	err     string // "" or the refusal
}

// fetch reads to the end of what is to be seen.
func (c *cluster) fetch(m *node, req *oncelogv1.FetchRequest) shown {
	stream, err := m.log.Fetch(c.ctx(), req)
	if err != nil {
		return shown{err: refusal(err)}
	}
	return receive(stream, -1).from(req.GetOffset())
}

// from leaves out what is before an offset: a batch comes as it was stored, also
// when it begins before the offset that was asked for.
func (s shown) from(offset uint64) shown {
	for len(s.offsets) > 0 && s.offsets[0] < offset {
		s.offsets = s.offsets[1:]
	}
	return s
}

// receive takes from a stream until it ends, or, with n at least 0, until n
// records have come.
func receive(stream grpc.ServerStreamingClient[oncelogv1.FetchResponse], n int) (out shown) {
	for n < 0 || len(out.offsets) < n {
		resp, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return out
		case err != nil:
			out.err = refusal(err)
			return out
		}
		out.next = resp.GetNextOffset()
		for _, r := range resp.GetRecords() {
			out.offsets, out.values = append(out.offsets, r.GetOffset()), append(out.values, string(r.GetRecord().GetValue()))
		}
		for _, b := range resp.GetBatches() {
			for i := range uint64(b.GetVisibleRecords()) {
				out.offsets = append(out.offsets, b.GetBaseOffset()+i)
			}
		}
	}
	return out
}

// describe returns the standing of a partition; nil: refused.
func (c *cluster) describe(m *node, partition uint64) *oncelogv1.PartitionStatus {
	resp, err := m.log.DescribePartitions(c.ctx(), &oncelogv1.DescribePartitionsRequest{
		Partitions: []*oncelogv1.PartitionRef{byID(partition)},
	})
	if err != nil {
		return nil
	}
	return resp.GetPartitions()[0]
}

// producers lists what a partition remembers of producers.
func (c *cluster) producers(m *node, partition uint64) []*oncelogv1.ProducerState {
	c.t.Helper()
	resp, err := m.log.DescribeProducers(c.ctx(), &oncelogv1.DescribeProducersRequest{Partition: byID(partition)})
	c.ok(err)
	return resp.GetProducers()
}

// offset asks for one offset; "none": no record is so new.
func (c *cluster) offset(m *node, level oncelogv1.IsolationLevel, q *oncelogv1.OffsetQuery) string {
	resp, err := m.log.ListOffsets(c.ctx(), &oncelogv1.ListOffsetsRequest{
		Queries: []*oncelogv1.OffsetQuery{q}, Isolation: level,
	})
	if err != nil {
		return refusal(err)
	}
	if a := resp.GetAnswers()[0]; a.Offset != nil {
		return fmt.Sprint(a.GetOffset())
	}
	return "none"
}

// at is a query by position.
func at(partition uint64, where oncelogv1.StartPosition) *oncelogv1.OffsetQuery {
	return &oncelogv1.OffsetQuery{Partition: byID(partition), Target: &oncelogv1.OffsetQuery_Position{Position: where}}
}

// since is a query by time: the first record that is as new as one with this
// sequence.
func since(partition, sequence uint64) *oncelogv1.OffsetQuery {
	return &oncelogv1.OffsetQuery{
		Partition: byID(partition), Target: &oncelogv1.OffsetQuery_TimestampMs{TimestampMs: timestamp(sequence)},
	}
}

// look is what a node tells of a partition: how far it goes, which is its stable
// end, its applied end and how many records read_committed shows, and all there
// is. Everything that tells of the ends must agree.
func (c *cluster) look(m *node, partition uint64) (ends, all string) {
	c.t.Helper()
	d := c.describe(m, partition)
	var out strings.Builder
	fmt.Fprintln(&out, d, c.producers(m, partition))
	count := map[oncelogv1.IsolationLevel]int{}
	for _, of := range []struct {
		level oncelogv1.IsolationLevel
		end   uint64
	}{{committed, d.GetStableEnd()}, {uncommitted, d.GetAppliedEnd()}} {
		req := &oncelogv1.FetchRequest{Partition: byID(partition), Isolation: of.level}
		got := c.fetch(m, req)
		fmt.Fprintln(&out, got.offsets, got.values)
		count[of.level] = len(got.offsets)
		equal(c.t, "where a fetch ends", fmt.Sprint(got.next, got.err), fmt.Sprint(of.end))
		equal(c.t, "latest offset", c.offset(m, of.level, at(partition, latest)), fmt.Sprint(of.end))
		req.Format = batches
		equal(c.t, "offsets as batches and as records", fmt.Sprint(c.fetch(m, req).offsets), fmt.Sprint(got.offsets))
	}
	equal(c.t, "records for read_uncommitted", count[uncommitted], int(d.GetAppliedEnd()))
	equal(c.t, "a transaction that holds the stable end", d.GetBlockedBy() != nil, d.GetStableEnd() < d.GetAppliedEnd())
	return fmt.Sprintf("%d/%d/%d", d.GetStableEnd(), d.GetAppliedEnd(), count[committed]), out.String()
}

// ends says how far a partition goes.
func (c *cluster) ends(m *node, partition uint64) string {
	c.t.Helper()
	ends, _ := c.look(m, partition)
	return ends
}
