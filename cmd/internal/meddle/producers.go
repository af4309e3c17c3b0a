package meddle

import (
	"bytes"
	"fmt"

	"github.com/oncelog/oncelog/api/batch"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// producer is a producer by hand.
type producer struct {
	id     string // transactional id; "": none
	pid    uint64
	epoch  uint32
	token  []byte
	number uint64           // of its last transaction
	plain  map[*part]uint64 // next sequence without a transaction
}

// transaction is one of them. It is undecided until it is over.
type transaction struct {
	p         *producer
	ref       *oncelogv1.TxnRef
	token     []byte
	next      map[*part]uint64 // written so far
	over      bool
	committed bool
	covered   map[*part]uint64 // of a commit
}

// newProducer takes a new transactional id.
func (m *meddler) newProducer() *producer {
	p := &producer{id: m.name("id"), plain: map[*part]uint64{}}
	m.initialize(p, txnTimeout)
	return p
}

// initialize raises the epoch of a producer.
func (m *meddler) initialize(p *producer, timeout int64) *oncelogv1.InitProducerResponse {
	var resp oncelogv1.InitProducerResponse
	a, _ := m.ask(coordinator, oncelogv1.TransactionService_InitProducer_FullMethodName, &oncelogv1.InitProducerRequest{
		TransactionalId: p.id, TimeoutMs: timeout, RequestId: m.name("request"), ClientId: "meddler", NoWait: m.chance(3),
	}, &resp, ok)
	if a != ok {
		return &resp
	}
	m.check(resp.GetProducerId() > 0 && (p.pid == 0 || p.pid == resp.GetProducerId()), "producer id %d after %d", resp.GetProducerId(), p.pid)
	m.check(p.pid == 0 || resp.GetEpoch() > p.epoch, "epoch %d after %d", resp.GetEpoch(), p.epoch)
	p.pid, p.epoch, p.token, p.number = resp.GetProducerId(), resp.GetEpoch(), resp.GetProducerToken(), 0
	return &resp
}

// plainProducer takes a producer id without transactions.
func (m *meddler) plainProducer() *producer {
	p := &producer{plain: map[*part]uint64{}}
	var resp oncelogv1.InitProducerResponse
	m.ask(coordinator, oncelogv1.TransactionService_InitProducer_FullMethodName, &oncelogv1.InitProducerRequest{}, &resp, ok)
	p.pid, p.token = resp.GetProducerId(), resp.GetProducerToken()
	return p
}

// begin begins the next transaction, or one after that.
func (m *meddler) begin(p *producer) *transaction {
	p.number += uint64(1 + m.Rand.IntN(2)*m.Rand.IntN(3))
	return p.at(p.number)
}

// at is the transaction of a number.
func (p *producer) at(number uint64) *transaction {
	return &transaction{
		p: p, ref: &oncelogv1.TxnRef{ProducerId: p.pid, Epoch: p.epoch, TxnNumber: number}, token: p.token,
		next: map[*part]uint64{}, covered: map[*part]uint64{},
	}
}

// appends is an append of records to one partition.
func appends(to *part, ref *oncelogv1.TxnRef, token []byte, seq uint64, records []*oncelogv1.Record) *oncelogv1.AppendRequest {
	return &oncelogv1.AppendRequest{Txn: ref, ProducerToken: token, Partitions: []*oncelogv1.PartitionAppend{{
		Partition: to.id, BaseSequence: seq,
		Payload: &oncelogv1.PartitionAppend_Records{Records: &oncelogv1.RecordList{Records: records}},
	}}}
}

// encoded is the same with a batch.
func encoded(to *part, ref *oncelogv1.TxnRef, token []byte, seq uint64, payload []byte) *oncelogv1.AppendRequest {
	return &oncelogv1.AppendRequest{Txn: ref, ProducerToken: token, Partitions: []*oncelogv1.PartitionAppend{{
		Partition: to.id, BaseSequence: seq, Payload: &oncelogv1.PartitionAppend_Batch{Batch: payload},
	}}}
}

// encode makes a batch of records.
func encode(records []*oncelogv1.Record, codec batch.Codec) []byte {
	var recs []batch.Record
	for _, r := range records {
		out := batch.Record{Key: r.Key, Value: r.Value, Timestamp: r.GetTimestampMs()}
		for _, h := range r.GetHeaders() {
			out.Headers = append(out.Headers, batch.Header{Key: h.GetKey(), Value: h.Value})
		}
		recs = append(recs, out)
	}
	b, err := batch.Encode(nil, recs, codec)
	if err != nil {
		panic(fmt.Sprintf("meddle: a batch of %d records: %v", len(recs), err))
	}
	return b
}

// append sends an append and notes what was stored.
func (m *meddler) append(p *part, t *transaction, req *oncelogv1.AppendRequest, records []*oncelogv1.Record, may ...answer) (answer, *apierrors.Error) {
	var resp oncelogv1.AppendResponse
	may = append(may, unknownPartition|forNow) // the node may not have heard of it yet
	if m.rotated {
		may = append(may, invalidToken|forNow) // or of the key
	}
	a, e := m.ask(shardAt(p.shard), oncelogv1.LogService_Append_FullMethodName, req, &resp, may...)
	switch {
	case a == ok && len(resp.GetResults()) == 1:
		m.noteAppend(p, t, req.GetPartitions()[0].GetBaseSequence(), records, resp.GetResults()[0])
	case a == ok:
		m.check(false, "an append to one partition has %d results", len(resp.GetResults()))
	case m.shaky:
		m.lost = true // an attempt without an answer may have stored them
	case t != nil && (a == txnEnded || a == staleTxn):
		t.over = true // by itself, if nobody has ended it
	}
	return a, e
}

// noteAppend holds a result against what must have been stored.
func (m *meddler) noteAppend(p *part, t *transaction, seq uint64, records []*oncelogv1.Record, res *oncelogv1.AppendResult) {
	end := uint64(len(p.cells))
	m.check(res.GetPartition().GetPartitionId() == p.id.GetPartitionId() && res.GetShardId() == p.shard,
		"an append to partition %d of shard %d was answered for %d of %d", p.id.GetPartitionId(), p.shard,
		res.GetPartition().GetPartitionId(), res.GetShardId())
	m.check(res.GetNextSequence() == seq+uint64(len(records)), "next sequence %d after %d records from %d", res.GetNextSequence(), len(records), seq)
	m.check(res.BaseOffset == nil || res.GetBaseOffset() == end, "appended at %d, not at %d", res.GetBaseOffset(), end)
	m.check(res.BaseOffset != nil || res.GetDuplicate(), "appended, and no offset")
	for i, r := range records {
		p.cells = append(p.cells, cell{txn: t, seq: seq + uint64(i), value: r.GetValue(), time: r.GetTimestampMs()})
	}
}

// write appends some records to a transaction. False: it is over already, or was
// refused as besides says it may be.
func (m *meddler) write(t *transaction, p *part, besides ...answer) bool {
	records := m.records(m.upTo(3))
	req := appends(p, t.ref, t.token, t.next[p], records)
	if m.chance(2) {
		req = encoded(p, t.ref, t.token, t.next[p], encode(records, pick(m, batch.CodecNone, batch.CodecSnappy, batch.CodecLZ4, batch.CodecZstd)))
	}
	// It may have timed out since.
	a, _ := m.append(p, t, req, records, append(besides, ok, txnEnded, staleTxn, throttled|forNow)...)
	if a == ok {
		t.next[p] += uint64(len(records))
	}
	return a == ok
}

// writePlain appends some records without a transaction. False: what the shard
// knew of the producer has expired.
func (m *meddler) writePlain(pr *producer, p *part) bool {
	records := m.records(m.upTo(2))
	ref := &oncelogv1.TxnRef{ProducerId: pr.pid, Epoch: pr.epoch}
	a, _ := m.append(p, nil, appends(p, ref, pr.token, pr.plain[p], records), records, ok, unknownProducer)
	if a == ok {
		pr.plain[p] += uint64(len(records))
	}
	return a == ok
}

// progress is what a transaction has written, of all partitions of the ground.
func (t *transaction) progress(g *ground) (out []*oncelogv1.PartitionProgress) {
	for _, p := range g.parts {
		if n := t.next[p]; n > 0 {
			out = append(out, &oncelogv1.PartitionProgress{Partition: p.id, NextSequence: n})
		}
	}
	return out
}

func (t *transaction) ending(commit bool, progress []*oncelogv1.PartitionProgress) *oncelogv1.EndTransactionRequest {
	return &oncelogv1.EndTransactionRequest{Txn: t.ref, ProducerToken: t.token, Commit: commit, Partitions: progress}
}

// end asks for an end and notes what became of the transaction.
func (m *meddler) end(g *ground, t *transaction, req *oncelogv1.EndTransactionRequest, may ...answer) answer {
	var resp oncelogv1.EndTransactionResponse
	a, e := m.ask(coordinator, oncelogv1.TransactionService_EndTransaction_FullMethodName, req, &resp, append(may, throttled|forNow)...)
	switch a {
	case ok:
		want := oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_ABORTED
		if req.GetCommit() {
			want = oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED
		}
		m.check(resp.GetOutcome() == want, "asked to end as %v, and it ended as %v", want, resp.GetOutcome())
		t.ended(g, req.GetCommit(), req.GetPartitions())
	case conflict:
		t.over = true
		m.check(t.committed == (e.Metadata[apierrors.KeyOutcome] == "COMMITTED"), "CONFLICT with %s, and it was committed: %v",
			e.Metadata[apierrors.KeyOutcome], t.committed)
	default: // nothing is decided by it
	}
	return a
}

// ended notes a decision.
func (t *transaction) ended(g *ground, commit bool, progress []*oncelogv1.PartitionProgress) {
	if t.over {
		return
	}
	t.over, t.committed = true, commit
	for _, p := range g.parts {
		for _, x := range progress {
			if x.GetPartition().GetPartitionId() == p.id.GetPartitionId() {
				t.covered[p] = x.GetNextSequence()
			}
		}
	}
}

// commit commits all of a transaction; it may have timed out.
func (m *meddler) commit(g *ground, t *transaction, wait bool) answer {
	req := t.ending(true, t.progress(g))
	req.WaitApplied = wait
	return m.end(g, t, req, ok, conflict)
}

// abort aborts a transaction.
func (m *meddler) abort(g *ground, t *transaction, wait bool) answer {
	req := t.ending(false, t.progress(g))
	req.WaitApplied = wait
	return m.end(g, t, req, ok)
}

// outcome asks for the outcome of a transaction; it is one of those that may be.
func (m *meddler) outcome(ref *oncelogv1.TxnRef, may ...oncelogv1.TransactionOutcome) *oncelogv1.GetOutcomeResponse {
	var resp oncelogv1.GetOutcomeResponse
	m.ask(coordinator, oncelogv1.TransactionService_GetOutcome_FullMethodName, &oncelogv1.GetOutcomeRequest{Txn: ref}, &resp, ok)
	for _, o := range may {
		if resp.GetOutcome() == o {
			return &resp
		}
	}
	m.check(false, "outcome of %d/%d/%d: %v, and it may be %v", ref.GetProducerId(), ref.GetEpoch(), ref.GetTxnNumber(), resp.GetOutcome(), may)
	return &resp
}

// Outcomes.
const (
	isCommitted = oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED
	isAborted   = oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_ABORTED
	isOpen      = oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_OPEN
	isPrepared  = oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_PREPARED
	isForgotten = oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_FORGOTTEN
	isInvalid   = oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_INVALID
)

// forge returns a token that proves nothing.
func forge(token []byte) []byte {
	out := bytes.Clone(token)
	if len(out) == 0 {
		return []byte("forged")
	}
	out[len(out)-1] ^= 1
	return out
}
