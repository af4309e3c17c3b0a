package meddle

import (
	"bytes"
	"context"
	"errors"
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/api/batch"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// Isolation levels and formats.
const (
	committed   = oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_COMMITTED
	uncommitted = oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_UNCOMMITTED
	asRecords   = oncelogv1.FetchFormat_FETCH_FORMAT_RECORDS
	asBatches   = oncelogv1.FetchFormat_FETCH_FORMAT_BATCHES
	earliest    = oncelogv1.StartPosition_START_POSITION_EARLIEST
	latest      = oncelogv1.StartPosition_START_POSITION_LATEST
)

// row is a record as it was read.
type row struct {
	offset uint64
	value  []byte
	time   int64
	txn    *oncelogv1.TxnRef
}

// reading is what a Fetch brought.
type reading struct {
	rows                []row
	first, next         uint64 // the first and the last response's positions
	start, stable, last uint64 // ends, as of the last response
}

// fetch makes one Fetch to its end and returns what was read; it is repeated like
// any request.
func (m *meddler) fetch(p *part, req *oncelogv1.FetchRequest, may ...answer) reading {
	may = append(may, unknownPartition|forNow)
	for until := m.Runtime.Now().Add(patience); !m.lost && m.Runtime.Now().Before(until) && m.ctx.Err() == nil; {
		out, err := m.fetchOnce(p, req)
		a, e := answerOf(err)
		switch m.judge("Fetch", a, err, may) {
		case final:
			return out
		case wrong:
			m.lost = true
			return reading{}
		case later:
			m.learn(shardAt(p.shard), a, e)
			m.Runtime.Sleep(retryPause, m.ctx.Done())
		}
	}
	m.lost = true
	return reading{}
}

// fetchOnce is one attempt. A stream that follows is left when it has shown what
// there is.
func (m *meddler) fetchOnce(p *part, req *oncelogv1.FetchRequest) (reading, error) {
	var out reading
	cc, err := m.reach(shardAt(p.shard))
	if err != nil {
		return out, err
	}
	ctx, cancel := m.Runtime.WithTimeout(m.ctx, attempt)
	defer cancel()
	stream, err := oncelogv1.NewLogServiceClient(cc).Fetch(ctx, req)
	for n := 0; err == nil; n++ {
		var resp *oncelogv1.FetchResponse
		resp, err = stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err == nil {
			err = m.take(&out, resp)
		}
		if err == nil && n == 0 {
			out.first = resp.GetNextOffset()
		}
		if req.GetFollow() && err == nil && out.next >= visibleEnd(req, resp) {
			return out, nil
		}
	}
	return out, err
}

// visibleEnd is where the reader of a response has all that there is to see.
func visibleEnd(req *oncelogv1.FetchRequest, resp *oncelogv1.FetchResponse) uint64 {
	if req.GetIsolation() == uncommitted {
		return resp.GetAppliedEnd()
	}
	return resp.GetStableEnd()
}

// from leaves out what lies below an offset: a batch comes whole.
func from(offset uint64, rows []row) []row {
	for len(rows) > 0 && rows[0].offset < offset {
		rows = rows[1:]
	}
	return rows
}

// take adds one response.
func (m *meddler) take(out *reading, resp *oncelogv1.FetchResponse) error {
	out.next, out.start = resp.GetNextOffset(), resp.GetStartOffset()
	out.stable, out.last = resp.GetStableEnd(), resp.GetAppliedEnd()
	for _, r := range resp.GetRecords() {
		out.rows = append(out.rows, row{r.GetOffset(), r.GetRecord().GetValue(), r.GetRecord().GetTimestampMs(), r.GetTxn()})
	}
	for _, b := range resp.GetBatches() {
		var d batch.Decoder
		if _, err := d.Reset(b.GetBatch(), batch.Limits{}); err != nil {
			return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, err.Error())
		}
		for i := range uint64(b.GetVisibleRecords()) {
			if !d.Next() {
				return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL, "a batch shows more records than it has")
			}
			r := d.Record()
			out.rows = append(out.rows, row{b.GetBaseOffset() + i, bytes.Clone(r.Value), r.Timestamp, b.GetTxn()})
		}
	}
	return nil
}

// settled waits until nothing is open in a partition.
func (m *meddler) settled(p *part) bool {
	for range settleTries {
		var resp oncelogv1.DescribePartitionsResponse
		m.ask(shardAt(p.shard), oncelogv1.LogService_DescribePartitions_FullMethodName,
			&oncelogv1.DescribePartitionsRequest{Partitions: []*oncelogv1.PartitionRef{pick(m, p.id, p.named)}}, &resp, ok, unknownPartition|forNow)
		if m.lost || len(resp.GetPartitions()) != 1 {
			return false
		}
		st := resp.GetPartitions()[0]
		m.check(st.GetStableEnd() <= st.GetAppliedEnd() && st.GetStartOffset() <= st.GetStableEnd(),
			"LSO %d of a partition from %d to %d", st.GetStableEnd(), st.GetStartOffset(), st.GetAppliedEnd())
		m.check((st.GetBlockedBy() != nil) == (st.GetOpenTransactions() > 0), "%d transactions are open, blocked by %v",
			st.GetOpenTransactions(), st.GetBlockedBy())
		if st.GetOpenTransactions() == 0 {
			m.check(st.GetAppliedEnd() == uint64(len(p.cells)), "the end is %d after %d records", st.GetAppliedEnd(), len(p.cells))
			m.check(st.GetStartOffset() == p.start, "the log starts at %d, not at %d", st.GetStartOffset(), p.start)
			return !m.lost
		}
		m.wait(5 * retryPause)
	}
	return false
}

// inspect reads a ground on every path and holds it against what must be there.
func (m *meddler) inspect(g *ground) {
	for _, p := range g.parts {
		if !m.settled(p) {
			return
		}
		for _, c := range p.cells {
			if c.txn != nil && !c.txn.over {
				return // it ended by itself, and nobody was told how
			}
		}
		m.readAll(p)
		m.readSome(p)
		m.findByTime(p)
	}
}

// expected lists what an isolation level shows from an offset on.
func (p *part) expected(from uint64, level oncelogv1.IsolationLevel) (out []row) {
	for i, c := range p.cells {
		if uint64(i) < max(from, p.start) || level == committed && !p.shown(c) {
			continue
		}
		r := row{offset: uint64(i), value: c.value, time: c.time}
		if c.txn != nil {
			r.txn = c.txn.ref
		}
		out = append(out, r)
	}
	return out
}

// compare reports the first difference.
func (m *meddler) compare(p *part, what string, got, want []row) {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			m.check(false, "%s: record %d of partition %d is missing", what, want[i].offset, p.id.GetPartitionId())
		case i >= len(want):
			m.check(false, "%s: record %d of partition %d is shown", what, got[i].offset, p.id.GetPartitionId())
		case got[i].offset != want[i].offset || !bytes.Equal(got[i].value, want[i].value) || got[i].time != want[i].time ||
			!proto.Equal(got[i].txn, want[i].txn):
			m.check(false, "%s: partition %d has %q at %d, and must have %q at %d", what, p.id.GetPartitionId(),
				got[i].value, got[i].offset, want[i].value, want[i].offset)
		default:
			continue
		}
		return
	}
}

// readAll reads everything, in both formats, under both levels.
func (m *meddler) readAll(p *part) {
	for _, level := range []oncelogv1.IsolationLevel{committed, uncommitted} {
		for _, format := range []oncelogv1.FetchFormat{asRecords, asBatches} {
			got := m.fetch(p, &oncelogv1.FetchRequest{
				Partition: p.id, Start: earliest, Isolation: level, Format: format, Follow: m.chance(4),
				MaxResponseBytes: pick(m, uint32(0), 1, 200),
			}, ok)
			if m.lost {
				return
			}
			m.compare(p, level.String()+" "+format.String(), from(got.start, got.rows), p.expected(0, level))
			m.check(got.next == uint64(len(p.cells)), "a reader of all %d records stands at %d", len(p.cells), got.next)
			m.check(got.stable == got.last && got.start == p.start, "nothing is open, and the ends are %d, %d and %d", got.start, got.stable, got.last)
		}
	}
}

// readSome reads from somewhere on, a number of records.
func (m *meddler) readSome(p *part) {
	end := uint64(len(p.cells))
	begin := p.start + m.Rand.Uint64N(end-p.start+1)
	limit := uint64(m.upTo(3))
	level, format := pick(m, committed, uncommitted), pick(m, asRecords, asBatches)
	got := m.fetch(p, &oncelogv1.FetchRequest{
		Partition: p.named, Offset: begin, Isolation: level, Format: format, MaxRecords: limit,
	}, ok)
	if m.lost {
		return
	}
	want := p.expected(begin, level)
	want = want[:min(uint64(len(want)), limit)]
	m.compare(p, "a part", from(begin, got.rows), want)

	none := m.fetch(p, &oncelogv1.FetchRequest{Partition: p.id, Start: latest, Isolation: level}, ok)
	m.check(len(none.rows) == 0 && none.next == end, "from the end on %d records were read up to %d", len(none.rows), none.next)
	m.fetch(p, &oncelogv1.FetchRequest{Partition: p.id, Offset: end + uint64(m.upTo(5))}, offsetOutOfRange)
	if p.start > 0 {
		m.fetch(p, &oncelogv1.FetchRequest{Partition: p.id, Offset: p.start - 1}, offsetOutOfRange)
	}
}

// findByTime asks for offsets by time and position.
func (m *meddler) findByTime(p *part) {
	level := pick(m, committed, uncommitted)
	at := int64(m.Rand.IntN(m.names*10+100)) - 20
	query := func(target any) *oncelogv1.OffsetQuery {
		q := &oncelogv1.OffsetQuery{Partition: pick(m, p.id, p.named)}
		switch x := target.(type) {
		case int64:
			q.Target = &oncelogv1.OffsetQuery_TimestampMs{TimestampMs: x}
		case oncelogv1.StartPosition:
			q.Target = &oncelogv1.OffsetQuery_Position{Position: x}
		}
		return q
	}
	var resp oncelogv1.ListOffsetsResponse
	m.ask(shardAt(p.shard), oncelogv1.LogService_ListOffsets_FullMethodName, &oncelogv1.ListOffsetsRequest{
		Queries: []*oncelogv1.OffsetQuery{query(at), query(earliest), query(latest)}, Isolation: level,
	}, &resp, ok, unknownPartition|forNow)
	if m.lost {
		return
	}
	answers := resp.GetAnswers()
	if m.check(len(answers) == 3, "%d answers to 3 questions", len(answers)); len(answers) != 3 {
		return
	}
	var want *row
	for _, r := range p.expected(0, level) {
		if r.time >= at {
			want = &r
			break
		}
	}
	found := answers[0]
	if want == nil {
		m.check(found.Offset == nil, "no record is as new as %d, and %d was found", at, found.GetOffset())
	} else {
		m.check(found.Offset != nil && found.GetOffset() == want.offset && found.GetTimestampMs() == want.time,
			"the first record as new as %d is %d of %d, and %d of %d was found", at, want.offset, want.time, found.GetOffset(), found.GetTimestampMs())
	}
	m.check(answers[1].GetOffset() == p.start && answers[2].GetOffset() == uint64(len(p.cells)),
		"the log goes from %d to %d, and it is said from %d to %d", p.start, len(p.cells), answers[1].GetOffset(), answers[2].GetOffset())
}

// followed reads from the end on until the stream ends, or for a while, and
// returns how it ended.
func (m *meddler) followed(ctx context.Context, p *part) error {
	cc, err := m.reach(shardAt(p.shard))
	if err != nil {
		return err
	}
	stream, err := oncelogv1.NewLogServiceClient(cc).Fetch(ctx, &oncelogv1.FetchRequest{
		Partition: p.id, Start: latest, Follow: true, Isolation: uncommitted,
	})
	for err == nil {
		_, err = stream.Recv()
	}
	return err
}
