package pstate

import (
	"slices"
)

// model is the dumb second implementation: it keeps every record for ever, each
// with its fate, and computes everything by looking at all of them. It is
// written from the protocol, not from the package.
type model struct {
	cfg   Config
	index uint64
	now   Millis
	parts map[uint64]*mpart
	prods map[uint64]*mprod
	txns  map[TxnRef]*mtxn
	seqs  map[mkey]*mseq
	gone  map[uint64]Millis // producer ids that are gone, since when
	past  map[uint64]bool   // those of which that is forgotten, too
}

type fate uint8

const (
	undecided fate = iota
	shown
	hidden
)

type mrecord struct {
	ref  TxnRef
	seq  uint64
	fate fate
}

type mpart struct {
	records []mrecord // offset = index
	maxTime Millis
}

type mprod struct {
	seen  []Point // settled transactions
	fence uint32
	last  Millis
}

type mtxn struct {
	open     bool
	openedAt uint64
	outcome  Outcome
	reason   Reason
	damage   []Damage
}

type mkey struct {
	ref       TxnRef // Number 0: Epoch 0 too
	partition uint64
}

type mseq struct {
	epoch   uint32 // idempotent only
	next    uint64
	batches []mbatch
}

type mbatch struct {
	base, count, offset uint64
}

func newModel(cfg Config) *model {
	return &model{
		cfg: cfg.withDefaults(), parts: map[uint64]*mpart{}, prods: map[uint64]*mprod{},
		txns: map[TxnRef]*mtxn{}, seqs: map[mkey]*mseq{}, gone: map[uint64]Millis{}, past: map[uint64]bool{},
	}
}

func (m *model) step(index uint64, at Millis) { m.index, m.now = index, max(m.now, at) }

func (m *model) prod(id uint64) *mprod {
	if m.prods[id] == nil {
		m.prods[id] = &mprod{}
	}
	return m.prods[id]
}

func key(ref TxnRef, partition uint64) mkey {
	if ref.Number == 0 {
		ref.Epoch = 0
	}
	return mkey{ref, partition}
}

// floor is the highest settled or open transaction of a producer.
func (m *model) floor(id uint64) (f Point) {
	if p := m.prods[id]; p != nil {
		for _, at := range p.seen {
			if at.Compare(f) > 0 {
				f = at
			}
		}
	}
	for ref, t := range m.txns {
		if ref.ProducerID == id && t.open && ref.Point().Compare(f) > 0 {
			f = ref.Point()
		}
	}
	return f
}

func (m *model) openOf(id uint64) (n int) {
	for ref, t := range m.txns {
		if ref.ProducerID == id && t.open {
			n++
		}
	}
	return n
}

func (m *model) knowsIdempotent(id uint64) bool {
	for k := range m.seqs {
		if k.ref.ProducerID == id && k.ref.Number == 0 {
			return true
		}
	}
	return false
}

func (m *model) append(ref TxnRef, b Batch) Code {
	part := m.parts[b.Partition]
	if part == nil {
		return CodeUnknownPartition
	}
	if b.Count == 0 {
		return CodeMalformed
	}
	if _, gone := m.gone[ref.ProducerID]; gone {
		return CodeProducerGone
	}
	k, end := key(ref, b.Partition), b.BaseSequence+uint64(b.Count)
	sq, t, p := m.seqs[k], m.txns[ref], m.prods[ref.ProducerID]
	mine := sq != nil && (ref.Number > 0 || sq.epoch == ref.Epoch)
	aborted := t != nil && t.outcome == OutcomeAbort
	if mine && !aborted && b.BaseSequence < sq.next {
		if end > sq.next {
			return CodeOutOfOrder
		}
		m.touch(ref.ProducerID)
		return CodeDuplicate
	}
	if p != nil && ref.Epoch < p.fence || ref.Number == 0 && sq != nil && ref.Epoch < sq.epoch ||
		ref.Number > 0 && ref.Epoch < m.floor(ref.ProducerID).Epoch {
		return CodeFenced
	}
	if t != nil && !t.open {
		return CodeTxnEnded
	}
	if ref.Number > 0 && t == nil && ref.Point().Compare(m.floor(ref.ProducerID)) <= 0 {
		return CodeStaleTxn
	}
	next := uint64(0)
	if mine {
		next = sq.next
	}
	if b.BaseSequence != next {
		if ref.Number == 0 && !m.knowsIdempotent(ref.ProducerID) {
			return CodeUnknownProducer
		}
		return CodeOutOfOrder
	}
	if ref.Number > 0 && t == nil && m.openOf(ref.ProducerID) >= int(m.cfg.MaxOpenPerProducer) {
		return CodeTooManyOpen
	}
	if ref.Number > 0 && t == nil {
		m.txns[ref] = &mtxn{open: true, openedAt: m.index}
	}
	if !mine {
		sq = &mseq{epoch: ref.Epoch}
		m.seqs[k] = sq
	}
	sq.batches = append(sq.batches, mbatch{b.BaseSequence, uint64(b.Count), uint64(len(part.records))})
	sq.next = end
	for i := range uint64(b.Count) {
		rec := mrecord{ref: ref, seq: b.BaseSequence + i}
		if ref.Number == 0 {
			rec.fate = shown
		}
		part.records = append(part.records, rec)
	}
	part.maxTime = max(part.maxTime, b.MaxTimestamp)
	m.touch(ref.ProducerID)
	return CodeAppended
}

func (m *model) touch(id uint64) { m.prod(id).last = m.now }

// offset returns where a batch was stored if it is among the last remembered.
func (m *model) offset(ref TxnRef, b Batch) (uint64, bool) {
	all := m.seqs[key(ref, b.Partition)].batches
	for _, mb := range all[max(0, len(all)-int(m.cfg.RangesKept)):] {
		if mb.base == b.BaseSequence && mb.count == uint64(b.Count) {
			return mb.offset, true
		}
	}
	return 0, false
}

func (m *model) marker(ref TxnRef, d Decision) MarkerCode {
	if _, gone := m.gone[ref.ProducerID]; gone {
		return MarkerAlready
	}
	next := map[uint64]uint64{}
	for _, p := range d.Progress {
		next[p.Partition] = p.Next
	}
	code := MarkerApplied
	t := m.txns[ref]
	switch {
	case t != nil && t.open:
		t.damage = m.damage(ref, d)
		m.decide(ref, d.Outcome, next)
		t.open, t.outcome, t.reason = false, d.Outcome, d.Reason
		if t.damage != nil {
			code = MarkerMissingData
		}
	case t != nil && t.outcome == d.Outcome:
		code = MarkerAlready
		if t.damage != nil {
			code = MarkerMissingData
		}
	case t != nil:
		code = MarkerConflict
	case ref.Point().Compare(m.floor(ref.ProducerID)) <= 0:
		code = MarkerAlready
	default:
		code = MarkerRecorded
		t = &mtxn{outcome: d.Outcome, reason: d.Reason, damage: m.damage(ref, d)}
		m.txns[ref] = t
		if t.damage != nil {
			code = MarkerMissingData
		}
	}
	p := m.prod(ref.ProducerID)
	p.seen = append(p.seen, ref.Point())
	for other, t := range m.txns {
		if other.ProducerID == ref.ProducerID && !t.open && other.Point().Compare(d.CompleteBelow) < 0 {
			delete(m.txns, other)
			m.dropSeqs(func(k mkey) bool { return k.ref == other })
		}
	}
	m.touch(ref.ProducerID)
	return code
}

func (m *model) damage(ref TxnRef, d Decision) (out []Damage) {
	if d.Outcome != OutcomeCommit {
		return nil
	}
	for _, p := range d.Progress {
		held := uint64(0)
		if sq := m.seqs[mkey{ref, p.Partition}]; sq != nil {
			held = sq.next
		}
		if m.parts[p.Partition] != nil && p.Next > held {
			out = append(out, Damage{p.Partition, p.Next, held})
		}
	}
	return out
}

// decide gives every undecided record of a transaction its fate.
func (m *model) decide(ref TxnRef, outcome Outcome, next map[uint64]uint64) {
	for id, part := range m.parts {
		for i := range part.records {
			rec := &part.records[i]
			if rec.ref != ref || rec.fate != undecided {
				continue
			}
			rec.fate = hidden
			if outcome == OutcomeCommit && rec.seq < next[id] {
				rec.fate = shown
			}
		}
		k := mkey{ref, id}
		sq := m.seqs[k]
		if sq == nil {
			continue
		}
		cut := min(sq.next, next[id])
		if outcome == OutcomeAbort || cut == 0 {
			delete(m.seqs, k)
			continue
		}
		straddled := slices.ContainsFunc(sq.batches, func(b mbatch) bool { return b.base < cut && b.base+b.count > cut })
		// What is remembered is the newest batches as of now, not as of then.
		sq.batches = sq.batches[max(0, len(sq.batches)-int(m.cfg.RangesKept)):]
		sq.batches = slices.DeleteFunc(sq.batches, func(b mbatch) bool { return straddled || b.base+b.count > cut })
		sq.next = cut
	}
}

func (m *model) dropSeqs(which func(mkey) bool) {
	for k := range m.seqs {
		if which(k) {
			delete(m.seqs, k)
		}
	}
}

func (m *model) answer(a EnlistAnswer) MarkerCode {
	t := m.txns[a.Ref]
	if t == nil || !t.open || t.openedAt != a.OpenedAt {
		return MarkerDropped
	}
	if a.Verdict == VerdictDecided {
		return m.marker(a.Ref, a.Decision)
	}
	m.decide(a.Ref, OutcomeAbort, nil)
	m.touch(a.Ref.ProducerID)
	p := m.prod(a.Ref.ProducerID)
	if a.Verdict == VerdictInvalid {
		delete(m.txns, a.Ref)
		return MarkerDiscarded
	}
	t.open, t.outcome, t.reason = false, OutcomeAbort, ReasonStray
	p.seen = append(p.seen, a.Ref.Point())
	p.fence = max(p.fence, a.Fence)
	return MarkerDiscarded
}

// setPartitions makes the hosted partitions these.
func (m *model) setPartitions(ids []uint64) {
	for _, id := range ids {
		if m.parts[id] == nil {
			m.parts[id] = &mpart{}
		}
	}
	for id := range m.parts {
		if slices.Contains(ids, id) {
			continue
		}
		delete(m.parts, id)
		m.dropSeqs(func(k mkey) bool { return k.partition == id })
	}
	for ref, t := range m.txns {
		if !t.open {
			continue
		}
		left := false
		for k := range m.seqs {
			left = left || k.ref == ref
		}
		if !left {
			delete(m.txns, ref)
			p := m.prod(ref.ProducerID)
			p.seen = append(p.seen, ref.Point())
		}
	}
}

// knows reports whether there is anything about a producer to forget.
func (m *model) knows(id uint64) bool {
	if p := m.prods[id]; p != nil && (len(p.seen) > 0 || p.fence > 0) {
		return true
	}
	for k := range m.seqs {
		if k.ref.ProducerID == id {
			return true
		}
	}
	return m.openOf(id) > 0
}

func (m *model) forget(id uint64) bool {
	if m.openOf(id) > 0 {
		return false
	}
	if m.knows(id) {
		m.gone[id] = m.now
	}
	delete(m.prods, id)
	for ref := range m.txns {
		if ref.ProducerID == id {
			delete(m.txns, ref)
		}
	}
	m.dropSeqs(func(k mkey) bool { return k.ref.ProducerID == id })
	return true
}

// sweep forgets the sequences of silent producers, and ids that have been gone
// for as long.
func (m *model) sweep() {
	for id, at := range m.gone {
		if m.now-at >= m.cfg.ProducerExpiration {
			delete(m.gone, id)
			m.past[id] = true
		}
	}
	for id, p := range m.prods {
		switch {
		case m.now-p.last < m.cfg.ProducerExpiration:
		case m.openOf(id) > 0:
			p.last = m.now
		default:
			m.dropSeqs(func(k mkey) bool { return k.ref.ProducerID == id })
		}
	}
}

// stable is the offset of the first record whose fate is open, or the end.
func (m *model) stable(id uint64) int {
	recs := m.parts[id].records
	if i := slices.IndexFunc(recs, func(r mrecord) bool { return r.fate == undecided }); i >= 0 {
		return i
	}
	return len(recs)
}
