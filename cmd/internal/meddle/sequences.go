package meddle

import (
	"encoding/binary"
	"hash/crc32"
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/api/batch"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// far is a gap that nobody will fill.
const far = 1000

// sent is a batch that was stored.
type sent struct {
	offset, seq uint64
	records     []*oncelogv1.Record
}

// sequences: a producer, with or without transactions, sends batches again, with
// gaps, and overlapping what was stored.
func (m *meddler) sequences() {
	m.on(func(g *ground) {
		p, pr := g.any(m), m.plainProducer()
		t, ref := (*transaction)(nil), &oncelogv1.TxnRef{ProducerId: pr.pid}
		if transactional := m.chance(2); transactional {
			pr = m.newProducer()
			t = m.begin(pr)
			ref = t.ref
		}
		var stored []sent
		var next uint64
		since := m.Runtime.Now()
		for range int(m.Shard.RangesKept%20) + m.upTo(4) {
			s := sent{offset: uint64(len(p.cells)), seq: next, records: m.records(1 + m.upTo(2))}
			if a, _ := m.append(p, t, appends(p, ref, pr.token, next, s.records), s.records, ok, unknownProducer, txnEnded, staleTxn); a != ok {
				return
			}
			next += uint64(len(s.records))
			stored = append(stored, s)
		}
		if t == nil && 2*m.Runtime.Since(since).Milliseconds() > m.Shard.ProducerExpiration {
			return // it may be forgotten, and everything is new
		}
		gone := []answer{txnEnded, staleTxn, unknownProducer} // by its timeout, or because nothing was sent for long
		m.again(p, pr, ref, stored, gone)
		m.refused(p, pr, ref, next-1, append(gone, outOfOrder)) // one is stored, one is not
		m.refused(p, pr, ref, next+far, append(gone, outOfOrder))
		if t == nil {
			return
		}
		t.next[p] = next
		if m.chance(2) {
			if m.commit(g, t, true) == ok {
				m.again(p, pr, ref, stored, gone)
			}
		} else if m.abort(g, t, true) == ok {
			m.refused(p, pr, ref, next-1, gone)
		}
		m.inspect(g)
	})
}

// refused sends two records of which nothing may be stored.
func (m *meddler) refused(p *part, pr *producer, ref *oncelogv1.TxnRef, seq uint64, may []answer) {
	m.append(p, nil, appends(p, ref, pr.token, seq, m.records(2)), nil, may...)
}

// again sends batches that are stored.
func (m *meddler) again(p *part, pr *producer, ref *oncelogv1.TxnRef, stored []sent, gone []answer) {
	for range 3 {
		s := pick(m, stored...)
		m.repeat(p, appends(p, ref, pr.token, s.seq, s.records), s.offset, gone)
	}
	// Two batches as one: stored, and the offset is known only of what is a batch.
	if len(stored) > 1 {
		both := append(append([]*oncelogv1.Record(nil), stored[0].records...), stored[1].records...)
		m.repeat(p, appends(p, ref, pr.token, 0, both), stored[0].offset, gone)
	}
}

func (m *meddler) repeat(p *part, req *oncelogv1.AppendRequest, offset uint64, gone []answer) {
	var resp oncelogv1.AppendResponse
	a, _ := m.ask(shardAt(p.shard), oncelogv1.LogService_Append_FullMethodName, req, &resp, append([]answer{ok}, gone...)...)
	if a != ok || len(resp.GetResults()) != 1 {
		return
	}
	res := resp.GetResults()[0]
	m.check(res.GetDuplicate(), "a batch was stored twice")
	m.check(res.BaseOffset == nil || res.GetBaseOffset() == offset, "a batch at %d was answered to be at %d", offset, res.GetBaseOffset())
}

// firstSequences: what is sent first is not the first.
func (m *meddler) firstSequences() {
	m.on(func(g *ground) {
		p, pr := g.any(m), m.plainProducer()
		ref := &oncelogv1.TxnRef{ProducerId: pr.pid}
		m.append(p, nil, appends(p, ref, pr.token, far, m.records(1)), nil, unknownProducer)
		m.writePlain(pr, p)
		for _, other := range g.parts {
			if other != p {
				m.append(other, nil, appends(other, ref, pr.token, far, m.records(1)), nil, outOfOrder, unknownProducer)
			}
		}
		t := m.begin(m.newProducer())
		m.append(p, nil, appends(p, t.ref, t.token, far, m.records(1)), nil, outOfOrder)
		m.write(t, p)
		m.abort(g, t, false)
		m.inspect(g)
	})
}

// epochsWithoutTransactions: a producer with a transactional id writes without
// transactions, and starts over when it is taken over.
func (m *meddler) epochsWithoutTransactions() {
	m.on(func(g *ground) {
		pr := m.newProducer()
		p := g.any(m)
		for range 2 {
			if !m.writePlain(pr, p) {
				return
			}
		}
		old := &oncelogv1.TxnRef{ProducerId: pr.pid, Epoch: pr.epoch}
		token, next := pr.token, pr.plain[p]
		m.initialize(pr, txnTimeout)
		pr.plain = map[*part]uint64{}
		if !m.writePlain(pr, p) {
			return
		}
		m.append(p, nil, appends(p, old, token, next, m.records(1)), nil, fenced, unknownProducer)
		m.writePlain(pr, p)
		m.inspect(g)
	})
}

// batches: records that cannot be, and batches that are not what an encoder
// makes. Nothing of them is stored.
func (m *meddler) batches() {
	m.on(func(g *ground) {
		p, pr := g.any(m), m.plainProducer()
		ref := &oncelogv1.TxnRef{ProducerId: pr.pid}
		good := encode(m.records(2), batch.CodecNone)
		bent := func(at int, to byte) []byte {
			out := append([]byte(nil), good...)
			out[at] = to
			return out
		}
		for _, payload := range [][]byte{
			{}, good[:len(good)/2], append(good[:len(good):len(good)], 0), bent(0, 'x'), bent(3, 9), bent(len(good)-1, 255), bent(15, 7), bent(14, 1), bent(19, 0),
		} {
			m.append(p, nil, encoded(p, ref, pr.token, 0, payload), nil, corruptBatch)
		}
		m.append(p, nil, appends(p, ref, pr.token, math.MaxUint64-1, m.records(3)), nil, corruptBatch)
		m.append(p, nil, encoded(p, ref, pr.token, 0, make([]byte, 1<<20+1)), nil, batchTooLarge)
		m.append(p, nil, appends(p, ref, pr.token, 0, nil), nil, invalidArgument)
		m.append(p, nil, appends(p, ref, pr.token, 0, make([]*oncelogv1.Record, 10_001)), nil, batchTooLarge)
		for _, r := range []*oncelogv1.Record{
			{Key: make([]byte, 64<<10+1)}, {Value: make([]byte, 1<<20+1)}, {Headers: make([]*oncelogv1.Header, 129)},
			{Headers: []*oncelogv1.Header{{Key: string(make([]byte, 1025))}}},
		} {
			m.append(p, nil, appends(p, ref, pr.token, 0, []*oncelogv1.Record{r}), nil, batchTooLarge)
		}
		none := appends(p, ref, pr.token, 0, nil)
		none.Partitions[0].Payload = nil
		m.append(p, nil, none, nil, invalidArgument)
		m.undecodable(pr)
		m.inspect(g)
	})
}

// undecodable: a batch whose records make no sense under a checksum that does. It
// is stored, for nobody looks; readers of records are told, readers of batches
// and positions pass it by.
func (m *meddler) undecodable(pr *producer) {
	own := m.newGround(1, 1)
	if m.lost {
		return
	}
	at := own.parts[0]
	broken := breakRecords(encode(m.records(2), batch.CodecNone))
	ref := &oncelogv1.TxnRef{ProducerId: pr.pid}
	var resp oncelogv1.AppendResponse
	a, _ := m.ask(shardAt(at.shard), oncelogv1.LogService_Append_FullMethodName, encoded(at, ref, pr.token, 0, broken), &resp,
		ok, unknownPartition|forNow, unknownProducer)
	if a == ok {
		m.fetch(at, &oncelogv1.FetchRequest{Partition: at.id, Start: earliest, Format: asRecords}, corruptBatch)
		m.ask(shardAt(at.shard), oncelogv1.LogService_ListOffsets_FullMethodName, &oncelogv1.ListOffsetsRequest{Queries: []*oncelogv1.OffsetQuery{
			{Partition: at.id, Target: &oncelogv1.OffsetQuery_TimestampMs{TimestampMs: 0}},
		}}, &oncelogv1.ListOffsetsResponse{}, ok)
	}
	m.deleteTopic(own)
}

// breakRecords makes nonsense of a batch's records and mends its checksum.
func breakRecords(b []byte) []byte {
	for i := batch.HeaderBytes; i < len(b); i++ {
		b[i] = 0xff
	}
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[8:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// manyPartitions: one append to several partitions of a node, of which some are
// refused and the others stored.
func (m *meddler) manyPartitions() {
	m.on(func(g *ground) {
		t := m.begin(m.newProducer())
		p := g.any(m)
		m.write(t, p)
		req := &oncelogv1.AppendRequest{Txn: t.ref, ProducerToken: t.token}
		for range 2 {
			req.Partitions = append(req.Partitions, appends(p, t.ref, t.token, t.next[p], m.records(1)).GetPartitions()...)
		}
		m.try(shardAt(p.shard), oncelogv1.LogService_Append_FullMethodName, req, &oncelogv1.AppendResponse{}, invalidArgument)
		req.Partitions = make([]*oncelogv1.PartitionAppend, 1001)
		m.try(shardAt(p.shard), oncelogv1.LogService_Append_FullMethodName, req, &oncelogv1.AppendResponse{}, limitExceeded)
		req.Partitions = nil
		m.try(shardAt(p.shard), oncelogv1.LogService_Append_FullMethodName, req, &oncelogv1.AppendResponse{}, invalidArgument)
		m.stream(t, p)
		m.commit(g, t, true)
		m.inspect(g)
	})
}

// stream sends good and bad appends in one frame of a stream.
func (m *meddler) stream(t *transaction, p *part) {
	if m.lost {
		return
	}
	records := m.records(2)
	good := appends(p, t.ref, t.token, t.next[p], records)
	good.RequestId = 1
	forged := appends(p, t.ref, forge(t.token), t.next[p], records)
	forged.RequestId = 2
	gap := appends(p, t.ref, t.token, t.next[p]+far, records)
	gap.RequestId = 3
	again := proto.CloneOf(good)
	again.RequestId = 4
	answers, err := m.exchange(shardAt(p.shard), []*oncelogv1.AppendRequest{good, forged, gap, again})
	if err != nil || len(answers) != 4 {
		m.lost = true // some may have been stored
		return
	}
	refused, ahead := streamed(answers[2]), streamed(answers[3])
	m.check(refused == invalidToken || refused.transient(), "a forged token was answered %v", refused)
	m.check(ahead == outOfOrder || ahead == txnEnded || ahead == staleTxn || ahead.transient(), "a gap was answered %v", ahead)
	first, second := streamed(answers[1]), streamed(answers[4])
	switch {
	case first == ok:
		m.noteAppend(p, t, t.next[p], records, answers[1].GetResults()[0])
		t.next[p] += uint64(len(records))
		m.check(second == ok || second.transient() || second == txnEnded, "the repetition was answered %v", second)
	case second == ok, first.transient():
		m.lost = true
	default:
		m.check(first == txnEnded || first == staleTxn || first == throttled, "an append was answered %v", first)
	}
}

// streamed is the answer to one request of a stream.
func streamed(r *oncelogv1.AppendResponse) answer {
	if r.GetError() != nil {
		return answer(r.GetError().GetCode())
	}
	for _, res := range r.GetResults() {
		if res.GetError() != nil {
			return answer(res.GetError().GetCode())
		}
	}
	return ok
}

// exchange sends a frame and returns the answers by request.
func (m *meddler) exchange(to place, frame []*oncelogv1.AppendRequest) (map[uint64]*oncelogv1.AppendResponse, error) {
	out := map[uint64]*oncelogv1.AppendResponse{}
	cc, err := m.reach(to)
	if err != nil {
		return out, err
	}
	ctx, cancel := m.Runtime.WithTimeout(m.ctx, attempt)
	defer cancel()
	stream, err := oncelogv1.NewLogServiceClient(cc).AppendStream(ctx)
	if err == nil {
		err = stream.Send(&oncelogv1.AppendStreamRequest{Requests: frame})
	}
	for err == nil && len(out) < len(frame) {
		var resp *oncelogv1.AppendStreamResponse
		if resp, err = stream.Recv(); err == nil {
			for _, r := range resp.GetResponses() {
				out[r.GetRequestId()] = r
			}
		}
	}
	if err == nil {
		err = stream.CloseSend()
	}
	return out, err
}
