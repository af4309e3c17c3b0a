package partition

import (
	"strings"
	"testing"

	"github.com/oncelog/oncelog/api/batch"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/partition/pstate"
)

const (
	invalid  = oncelogv1.ErrorCode_ERROR_CODE_INVALID_ARGUMENT
	tooLarge = oncelogv1.ErrorCode_ERROR_CODE_BATCH_TOO_LARGE
	exceeded = oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED
	corrupt  = oncelogv1.ErrorCode_ERROR_CODE_CORRUPT_BATCH
	unknown  = oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION
	forged   = oncelogv1.ErrorCode_ERROR_CODE_INVALID_PRODUCER_TOKEN
)

// TestGarbageAppendsStoreNothing also checks that a limit is named.
func TestGarbageAppendsStoreNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	good, err := batch.Encode(nil, []batch.Record{{Value: []byte("v")}}, batch.CodecNone)
	if err != nil {
		t.Fatal(err)
	}
	many := make([]batch.Record, MaxBatchRecords+1)
	crowd, err := batch.Encode(nil, many, batch.CodecNone)
	if err != nil {
		t.Fatal(err)
	}
	records := func(r ...*oncelogv1.Record) *oncelogv1.PartitionAppend_Records {
		return &oncelogv1.PartitionAppend_Records{Records: &oncelogv1.RecordList{Records: r}}
	}
	encoded := func(b []byte) *oncelogv1.PartitionAppend_Batch { return &oncelogv1.PartitionAppend_Batch{Batch: b} }
	flipped := append([]byte(nil), good...)
	flipped[len(flipped)-1] ^= 1
	for name, x := range map[string]struct {
		code   oncelogv1.ErrorCode
		change func(*oncelogv1.AppendRequest)
	}{
		"no transaction": {invalid, func(r *oncelogv1.AppendRequest) { r.Txn = nil }},
		"producer 0":     {invalid, func(r *oncelogv1.AppendRequest) { r.Txn.ProducerId = 0 }},
		"no token":       {forged, func(r *oncelogv1.AppendRequest) { r.ProducerToken = nil }},
		"other producer": {forged, func(r *oncelogv1.AppendRequest) { r.Txn.ProducerId++ }},
		"higher epoch":   {forged, func(r *oncelogv1.AppendRequest) { r.Txn.Epoch++ }},
		"no partitions":  {invalid, func(r *oncelogv1.AppendRequest) { r.Partitions = nil }},
		"nil partition":  {invalid, func(r *oncelogv1.AppendRequest) { r.Partitions = []*oncelogv1.PartitionAppend{nil} }},
		"too many": {exceeded, func(r *oncelogv1.AppendRequest) {
			r.Partitions = make([]*oncelogv1.PartitionAppend, MaxAppendPartitions+1)
		}},
		"no name": {invalid, func(r *oncelogv1.AppendRequest) { r.Partitions[0].Partition = &oncelogv1.PartitionRef{Partition: 1} }},
		"long name": {exceeded, func(r *oncelogv1.AppendRequest) {
			r.Partitions[0].Partition = &oncelogv1.PartitionRef{Topic: strings.Repeat("x", MaxTopicBytes+1)}
		}},
		"unknown": {unknown, func(r *oncelogv1.AppendRequest) {
			r.Partitions[0].Partition = &oncelogv1.PartitionRef{Topic: "t", Partition: 9}
		}},
		"twice": {invalid, func(r *oncelogv1.AppendRequest) { r.Partitions = append(r.Partitions, r.Partitions[0]) }},
		"twice by name": {invalid, func(r *oncelogv1.AppendRequest) {
			r.Partitions = append(r.Partitions, &oncelogv1.PartitionAppend{Partition: &oncelogv1.PartitionRef{Topic: "t"}})
		}},
		"no payload":    {invalid, func(r *oncelogv1.AppendRequest) { r.Partitions[0].Payload = nil }},
		"no records":    {invalid, func(r *oncelogv1.AppendRequest) { r.Partitions[0].Payload = records() }},
		"empty batch":   {corrupt, func(r *oncelogv1.AppendRequest) { r.Partitions[0].Payload = encoded(nil) }},
		"short batch":   {corrupt, func(r *oncelogv1.AppendRequest) { r.Partitions[0].Payload = encoded(good[:20]) }},
		"damaged batch": {corrupt, func(r *oncelogv1.AppendRequest) { r.Partitions[0].Payload = encoded(flipped) }},
		"long batch":    {tooLarge, func(r *oncelogv1.AppendRequest) { r.Partitions[0].Payload = encoded(make([]byte, MaxBatchBytes+1)) }},
		"crowded batch": {tooLarge, func(r *oncelogv1.AppendRequest) { r.Partitions[0].Payload = encoded(crowd) }},
		"crowded records": {tooLarge, func(r *oncelogv1.AppendRequest) {
			r.Partitions[0].Payload = records(make([]*oncelogv1.Record, MaxBatchRecords+1)...)
		}},
		"long key": {tooLarge, func(r *oncelogv1.AppendRequest) {
			r.Partitions[0].Payload = records(&oncelogv1.Record{Key: make([]byte, MaxKeyBytes+1)})
		}},
		"long value": {tooLarge, func(r *oncelogv1.AppendRequest) {
			r.Partitions[0].Payload = records(&oncelogv1.Record{Value: make([]byte, MaxBatchBytes)})
		}},
		"long together": {tooLarge, func(r *oncelogv1.AppendRequest) {
			half := &oncelogv1.Record{Value: make([]byte, MaxBatchBytes/2)}
			r.Partitions[0].Payload = records(half, half)
		}},
		"many headers": {tooLarge, func(r *oncelogv1.AppendRequest) {
			r.Partitions[0].Payload = records(&oncelogv1.Record{Headers: make([]*oncelogv1.Header, MaxHeaders+1)})
		}},
		"long header": {tooLarge, func(r *oncelogv1.AppendRequest) {
			r.Partitions[0].Payload = records(&oncelogv1.Record{Headers: []*oncelogv1.Header{{Key: strings.Repeat("h", MaxHeaderKeyBytes+1)}}})
		}},
		"last sequence": {corrupt, func(r *oncelogv1.AppendRequest) { r.Partitions[0].BaseSequence = ^uint64(0) }},
	} {
		req := appendRequest(pstate.TxnRef{ProducerID: 9, Number: 1}, pA, 0, "v")
		x.change(req)
		_, err := n.client.Append(c.ctx(), req)
		e := apierrors.From(err)
		if e == nil || e.Code != x.code {
			t.Errorf("%s: %v, want %v", name, err, x.code)
			continue
		}
		if (x.code == tooLarge || x.code == exceeded) && (e.Metadata[apierrors.KeyField] == "" || e.Metadata[apierrors.KeyLimit] == "") {
			t.Errorf("%s: no field or limit in %v", name, e.Metadata)
		}
		if x.code == invalid && e.Metadata[apierrors.KeyField] == "" {
			t.Errorf("%s: no field in %v", name, e.Metadata)
		}
	}
	equal(t, "stored", c.read(n, pA, 0, uncommitted))
	if st := n.Status(); st.GetCounters().GetRecordsAppended() != 0 {
		t.Errorf("%v", st.GetCounters())
	}
}

func TestGarbageReads(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	for name, x := range map[string]struct {
		code oncelogv1.ErrorCode
		req  *oncelogv1.FetchRequest
	}{
		"nothing":   {invalid, &oncelogv1.FetchRequest{}},
		"unknown":   {unknown, &oncelogv1.FetchRequest{Partition: partitionRef(99)}},
		"bytes":     {exceeded, &oncelogv1.FetchRequest{Partition: partitionRef(pA), MaxResponseBytes: MaxFetchBytes + 1}},
		"start":     {invalid, &oncelogv1.FetchRequest{Partition: partitionRef(pA), Start: 9}},
		"format":    {invalid, &oncelogv1.FetchRequest{Partition: partitionRef(pA), Format: -1}},
		"isolation": {invalid, &oncelogv1.FetchRequest{Partition: partitionRef(pA), Isolation: 7}},
		"far":       {oncelogv1.ErrorCode_ERROR_CODE_OFFSET_OUT_OF_RANGE, &oncelogv1.FetchRequest{Partition: partitionRef(pA), Offset: ^uint64(0)}},
	} {
		stream, err := n.client.Fetch(c.ctx(), x.req)
		if err == nil {
			_, err = stream.Recv()
		}
		if code(err) != x.code {
			t.Errorf("fetch %s: %v, want %v", name, err, x.code)
		}
	}
	for name, x := range map[string]struct {
		code oncelogv1.ErrorCode
		req  *oncelogv1.ListOffsetsRequest
	}{
		"too many":  {exceeded, &oncelogv1.ListOffsetsRequest{Queries: make([]*oncelogv1.OffsetQuery, MaxQueries+1)}},
		"nil":       {invalid, &oncelogv1.ListOffsetsRequest{Queries: make([]*oncelogv1.OffsetQuery, 1)}},
		"no target": {invalid, &oncelogv1.ListOffsetsRequest{Queries: []*oncelogv1.OffsetQuery{{Partition: partitionRef(pA)}}}},
		"offset": {invalid, &oncelogv1.ListOffsetsRequest{Queries: []*oncelogv1.OffsetQuery{{
			Partition: partitionRef(pA), Target: &oncelogv1.OffsetQuery_Position{Position: oncelogv1.StartPosition_START_POSITION_OFFSET},
		}}}},
	} {
		if _, err := n.client.ListOffsets(c.ctx(), x.req); code(err) != x.code {
			t.Errorf("list offsets %s: %v, want %v", name, err, x.code)
		}
	}
	if _, err := n.client.DescribePartitions(c.ctx(), &oncelogv1.DescribePartitionsRequest{Partitions: make([]*oncelogv1.PartitionRef, MaxQueries+1)}); code(err) != exceeded {
		t.Errorf("describe too many: %v", err)
	}
	if _, err := n.client.DescribePartitions(c.ctx(), &oncelogv1.DescribePartitionsRequest{Partitions: make([]*oncelogv1.PartitionRef, 1)}); code(err) != invalid {
		t.Errorf("describe nil: %v", err)
	}
	if _, err := n.client.DescribeProducers(c.ctx(), &oncelogv1.DescribeProducersRequest{}); code(err) != invalid {
		t.Errorf("describe producers of nothing: %v", err)
	}
}

func TestGarbageMarkers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	ref := &oncelogv1.TxnRef{ProducerId: 9, TxnNumber: 1}
	for name, x := range map[string]struct {
		code   oncelogv1.ErrorCode
		marker *oncelogv1.Marker
	}{
		"nil":            {invalid, nil},
		"idempotent":     {invalid, &oncelogv1.Marker{Txn: &oncelogv1.TxnRef{ProducerId: 9}}},
		"reason":         {invalid, &oncelogv1.Marker{Txn: ref, Reason: -1}},
		"twice":          {invalid, &oncelogv1.Marker{Txn: ref, Commit: true, Progress: []*oncelogv1.MarkerProgress{{PartitionId: 1}, {PartitionId: 2}, {PartitionId: 1}}}},
		"other producer": {invalid, &oncelogv1.Marker{Txn: ref, CompleteBelow: &oncelogv1.TxnRef{ProducerId: 8, TxnNumber: 1}}},
	} {
		resp, err := n.peer.WriteMarkers(c.ctx(), &oncelogv1.WriteMarkersRequest{Shards: []*oncelogv1.ShardMarkers{
			{ShardId: testShard, Markers: []*oncelogv1.Marker{x.marker}},
			{ShardId: 4711, Markers: []*oncelogv1.Marker{{Txn: ref}}},
			{ShardId: testShard},
		}})
		if err != nil {
			t.Fatal(err)
		}
		s := resp.GetShards()
		if s[0].GetError().GetCode() != x.code || len(s[0].GetResults()) > 0 {
			t.Errorf("%s: %v, want %v", name, s[0], x.code)
		}
		if s[1].GetError().GetCode() != oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER || s[1].GetShardId() != 4711 || s[2].GetError() != nil {
			t.Errorf("%s: %v", name, s[1:])
		}
	}
}

func TestManyMarkersAreSplitIntoEntries(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.leader()
	sm := &oncelogv1.ShardMarkers{ShardId: testShard}
	for i := range uint64(MaxListElements) {
		sm.Markers = append(sm.Markers, &oncelogv1.Marker{Txn: &oncelogv1.TxnRef{ProducerId: i + 1, TxnNumber: 1}, Commit: i%2 == 0, Reason: 1})
	}
	req := &oncelogv1.WriteMarkersRequest{Shards: []*oncelogv1.ShardMarkers{sm}}
	for _, want := range []oncelogv1.MarkerResult{oncelogv1.MarkerResult_MARKER_RESULT_APPLIED, oncelogv1.MarkerResult_MARKER_RESULT_ALREADY} {
		resp, err := n.peer.WriteMarkers(c.ctx(), req)
		if err != nil || len(resp.GetShards()[0].GetResults()) != MaxListElements {
			t.Fatalf("%v %v", err, resp.GetShards()[0].GetError())
		}
		for i, r := range resp.GetShards()[0].GetResults() {
			if r != want {
				t.Fatalf("marker %d: %v, want %v", i, r, want)
			}
		}
	}
	for _, m := range sm.Markers {
		m.Commit = !m.GetCommit()
	}
	resp, err := n.peer.WriteMarkers(c.ctx(), req)
	if err != nil || resp.GetShards()[0].GetResults()[0] != oncelogv1.MarkerResult_MARKER_RESULT_CONFLICT {
		t.Errorf("%v %v", err, resp.GetShards()[0].GetError())
	}
	sm.Markers = append(sm.Markers, sm.Markers[0])
	if resp, err := n.peer.WriteMarkers(c.ctx(), req); err != nil || resp.GetShards()[0].GetError().GetCode() != exceeded {
		t.Errorf("%v %v", err, resp.GetShards()[0].GetError())
	}
}
