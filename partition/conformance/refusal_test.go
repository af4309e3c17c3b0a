package conformance

import (
	"context"
	"strings"
	"testing"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/partition"
)

// refCall is a call that names a partition.
type refCall struct {
	name string
	call func(c *cluster, m *node, ref *oncelogv1.PartitionRef) string
}

func refCalls() []refCall {
	appending := func(way transport) refCall {
		return refCall{way.name, func(c *cluster, m *node, ref *oncelogv1.PartitionRef) string {
			req := c.request(refused, spare, 0, 1)
			req.Partitions[0].Partition = ref
			return way.call(c, m, req)
		}}
	}
	return []refCall{
		appending(transports()[0]),
		appending(transports()[1]),
		{"Fetch", func(c *cluster, m *node, ref *oncelogv1.PartitionRef) string {
			return c.fetch(m, &oncelogv1.FetchRequest{Partition: ref}).err
		}},
		{"ListOffsets", func(c *cluster, m *node, ref *oncelogv1.PartitionRef) string {
			q := at(0, latest)
			q.Partition = ref
			return c.offset(m, committed, q)
		}},
		{"DeleteRecords", func(c *cluster, m *node, ref *oncelogv1.PartitionRef) string {
			return c.deleteRecords(m, &oncelogv1.RecordDeletion{Partition: ref})
		}},
		{"DescribePartitions", func(c *cluster, m *node, ref *oncelogv1.PartitionRef) string {
			_, err := m.log.DescribePartitions(c.ctx(), &oncelogv1.DescribePartitionsRequest{Partitions: []*oncelogv1.PartitionRef{ref}})
			return outcome(err)
		}},
		{"DescribeProducers", func(c *cluster, m *node, ref *oncelogv1.PartitionRef) string {
			_, err := m.log.DescribeProducers(c.ctx(), &oncelogv1.DescribeProducersRequest{Partition: ref})
			return outcome(err)
		}},
	}
}

// outcome is "OK" or the refusal.
func outcome(err error) string {
	if err == nil {
		return "OK"
	}
	return refusal(err)
}

// removed is a partition that is taken away from the shard.
const removed = 2

// TestUnservedPartitions asks for partitions that are not there, or not here.
func TestUnservedPartitions(t *testing.T) {
	t.Parallel()
	g := &grid{name: "which partition is named, and where"}
	for _, call := range refCalls() {
		g.columns = append(g.columns, call.name)
	}
	inBubble(t, 3, 3, func(c *cluster) {
		leader, follower := c.leader(), c.follower()
		c.coord.remove(removed)
		c.until("the partition is gone", func() bool { return c.describe(leader, removed) == nil && c.coord.leads(leader.id) })
		try := func(name string, m *node, ref *oncelogv1.PartitionRef) {
			r := row{name: name}
			for _, call := range refCalls() {
				r.cells = append(r.cells, call.call(c, m, ref))
			}
			g.rows = append(g.rows, r)
		}
		try("none", leader, nil)
		try("neither id nor topic", leader, &oncelogv1.PartitionRef{Partition: 1})
		try("unknown id", leader, byID(1<<40))
		try("unknown topic", leader, &oncelogv1.PartitionRef{Topic: "nobody"})
		try("index above the topic's", leader, &oncelogv1.PartitionRef{Topic: topic, Partition: 3})
		try("name of 250 bytes", leader, &oncelogv1.PartitionRef{Topic: strings.Repeat("n", 250)})
		try("removed, by id", leader, byID(removed))
		try("removed, by name", leader, &oncelogv1.PartitionRef{Topic: topic, Partition: removed - 1})
		try("at a follower", follower, byID(spare))
		c.pointsTo(follower, leader)
		equal(t, "end of the partition", c.describe(leader, spare).GetAppliedEnd(), 0)
		c.ok(leader.Close(c.ctx()))
		try("at a node that has stopped", leader, byID(spare))
	})
	check(t, "partition.txt", []*grid{g})
}

// pointsTo holds the refusal of a follower to naming the leader.
func (c *cluster) pointsTo(follower, leader *node) {
	c.t.Helper()
	_, err := follower.log.Append(c.ctx(), c.request(refused, spare, 0, 1))
	equal(c.t, "address of the leader", apierrors.From(err).Metadata[apierrors.KeyLeaderAddress], clientAddress(leader.id))
}

// badCall is a call that is wrong in something else than its partition.
type badCall struct {
	name string
	call func(c *cluster, m *node) string
}

func badCalls() []badCall {
	fetch := func(change func(req *oncelogv1.FetchRequest)) func(*cluster, *node) string {
		return func(c *cluster, m *node) string {
			req := &oncelogv1.FetchRequest{Partition: byID(spare)}
			change(req)
			return c.fetch(m, req).err
		}
	}
	list := func(level oncelogv1.IsolationLevel, queries ...*oncelogv1.OffsetQuery) func(*cluster, *node) string {
		return func(c *cluster, m *node) string {
			_, err := m.log.ListOffsets(c.ctx(), &oncelogv1.ListOffsetsRequest{Queries: queries, Isolation: level})
			return outcome(err)
		}
	}
	many := make([]*oncelogv1.OffsetQuery, partition.MaxQueries+1)
	refs := make([]*oncelogv1.PartitionRef, partition.MaxQueries+1)
	for i := range many {
		many[i], refs[i] = at(spare, latest), byID(spare)
	}
	return []badCall{
		{"Fetch, unknown isolation", fetch(func(req *oncelogv1.FetchRequest) { req.Isolation = 9 })},
		{"Fetch, unknown format", fetch(func(req *oncelogv1.FetchRequest) { req.Format = 9 })},
		{"Fetch, unknown start", fetch(func(req *oncelogv1.FetchRequest) { req.Start = 9 })},
		{"Fetch, responses above 8 MiB", fetch(func(req *oncelogv1.FetchRequest) { req.MaxResponseBytes = partition.MaxFetchBytes + 1 })},
		{"ListOffsets, unknown isolation", list(9, at(spare, latest))},
		{"ListOffsets, without a target", list(committed, &oncelogv1.OffsetQuery{Partition: byID(spare)})},
		{"ListOffsets, at an offset", list(committed, at(spare, oncelogv1.StartPosition_START_POSITION_OFFSET))},
		{"ListOffsets, one query of two unknown", list(committed, at(spare, latest), at(1<<40, latest))},
		{"ListOffsets, 1,001 queries", list(committed, many...)},
		{"ListOffsets, 1,000 queries", list(committed, many[1:]...)},
		{"ListOffsets, no queries", list(committed)},
		{"DeleteRecords, above the stable end", func(c *cluster, m *node) string {
			return c.deleteRecords(m, &oncelogv1.RecordDeletion{Partition: byID(spare), BeforeOffset: 1 << 40})
		}},
		{"DeleteRecords, one of two above the stable end", func(c *cluster, m *node) string {
			return c.deleteRecords(m, &oncelogv1.RecordDeletion{Partition: byID(spare)},
				&oncelogv1.RecordDeletion{Partition: byID(spare), BeforeOffset: 1 << 40})
		}},
		{"DeleteRecords, 1,001 deletions", func(c *cluster, m *node) string {
			return c.deleteRecords(m, make([]*oncelogv1.RecordDeletion, partition.MaxQueries+1)...)
		}},
		{"DeleteRecords, below the log start", func(c *cluster, m *node) string {
			return c.deleteRecords(m, &oncelogv1.RecordDeletion{Partition: byID(spare)})
		}},
		{"DeleteRecords, no deletions", func(c *cluster, m *node) string { return c.deleteRecords(m) }},
		{"DescribePartitions, 1,001", func(c *cluster, m *node) string {
			_, err := m.log.DescribePartitions(c.ctx(), &oncelogv1.DescribePartitionsRequest{Partitions: refs})
			return outcome(err)
		}},
	}
}

func (c *cluster) deleteRecords(m *node, deletions ...*oncelogv1.RecordDeletion) string {
	_, err := m.log.DeleteRecords(c.ctx(), &oncelogv1.DeleteRecordsRequest{Deletions: deletions})
	return outcome(err)
}

// badMarkers are markers that cannot be one, written together with a good one:
// nothing of such a request is applied.
func badMarkers() []badCall {
	t := refused
	t.ProducerID++
	bad := func(change func(m *oncelogv1.Marker)) func(*cluster, *node) string {
		return func(c *cluster, m *node) string {
			marker := commit(t, spare, 1)
			change(marker)
			return c.mark(m, commit(refused, spare, 1), marker)
		}
	}
	shards := func(list ...*oncelogv1.ShardMarkers) func(*cluster, *node) string {
		return func(c *cluster, m *node) string {
			resp, err := m.shard.WriteMarkers(c.ctx(), &oncelogv1.WriteMarkersRequest{Shards: list})
			if err != nil {
				return refusal(err)
			}
			return outcomes(resp)
		}
	}
	good := &oncelogv1.ShardMarkers{ShardId: shardID, Markers: []*oncelogv1.Marker{abort(t, client)}}
	long := make([]*oncelogv1.Marker, partition.MaxListElements+1)
	for i := range long {
		long[i] = abort(t, client)
	}
	return []badCall{
		{"no transaction", bad(func(m *oncelogv1.Marker) { m.Txn = nil })},
		{"no producer", bad(func(m *oncelogv1.Marker) { m.Txn.ProducerId = 0 })},
		{"an idempotent producer", bad(func(m *oncelogv1.Marker) { m.Txn.TxnNumber = 0 })},
		{"a reason out of range", bad(func(m *oncelogv1.Marker) { m.Reason = 256 })},
		{"a negative reason", bad(func(m *oncelogv1.Marker) { m.Reason = -1 })},
		{"a partition twice", bad(func(m *oncelogv1.Marker) { m.Progress = append(m.GetProgress(), m.GetProgress()...) })},
		{"complete_below of another producer", bad(func(m *oncelogv1.Marker) { m.CompleteBelow = wire(refused) })},
		{"10,001 markers", shards(&oncelogv1.ShardMarkers{ShardId: shardID, Markers: long})},
		{"another shard", shards(&oncelogv1.ShardMarkers{ShardId: shardID + 1})},
		{"this shard and another", shards(good, &oncelogv1.ShardMarkers{ShardId: shardID + 1})},
		{"this shard twice", shards(good, good)},
		{"no shard", shards()},
	}
}

// outcomes prints what a response says of every shard.
func outcomes(resp *oncelogv1.WriteMarkersResponse) string {
	var out []string
	for _, s := range resp.GetShards() {
		if s.GetError() != nil {
			out = append(out, refusal(apierrors.FromProto(s.GetError())))
			continue
		}
		out = append(out, strings.TrimPrefix(s.GetResults()[0].String(), "MARKER_RESULT_"))
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, ", ")
}

// TestBadCalls makes every call that is wrong in itself, and holds the node to
// being none the worse for it.
func TestBadCalls(t *testing.T) {
	t.Parallel()
	reads := &grid{name: "reading", columns: []string{"answer"}}
	markers := &grid{name: "WriteMarkers", columns: []string{"answer"}}
	inBubble(t, 1, 2, func(c *cluster) {
		m := c.leader()
		for _, b := range badCalls() {
			reads.rows = append(reads.rows, row{b.name, []string{b.call(c, m)}})
		}
		c.send(refused, spare, 0, 1)
		for _, b := range badMarkers() {
			markers.rows = append(markers.rows, row{b.name, []string{b.call(c, m)}})
		}
		equal(t, "open transactions", c.describe(m, spare).GetOpenTransactions(), 1)
		c.end(commit(refused, spare, 1))
	})
	check(t, "badcall.txt", []*grid{reads, markers})
}

// TestCallsEndWithTheirContext: a call whose time is up ends with DEADLINE, and
// what it asked for may have happened all the same.
func TestCallsEndWithTheirContext(t *testing.T) {
	t.Parallel()
	inBubble(t, 3, 1, func(c *cluster) {
		leader := c.leader()
		for _, m := range c.nodes {
			if m != leader {
				m.stop()
			}
		}
		ctx, cancel := context.WithTimeout(c.t.Context(), 1e8)
		defer cancel()
		_, err := leader.log.Append(ctx, c.request(refused, spare, 0, 1))
		equal(t, "an append that nobody else can store", refusal(err), "DEADLINE")
		_, err = leader.shard.WriteMarkers(ctx, &oncelogv1.WriteMarkersRequest{})
		equal(t, "markers under a context that is over", refusal(err), "DEADLINE")
	})
}
