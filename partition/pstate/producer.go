package pstate

import (
	"cmp"
	"slices"
)

// producer is what the shard remembers of one producer id.
type producer struct {
	id     uint64
	settle Point  // highest transaction that was appended to or ended here and is not open
	fence  uint32 // epochs below are fenced
	open   int    // how many of txns are open
	txns   []*txn // open and remembered ended ones, by epoch and number
	idem   []*stream
	seen   Millis // log time of the last activity
	listed bool   // in State.idle
	link   link[producer]
}

// txn is a transaction that is open here, or whose outcome is remembered.
type txn struct {
	prod     *producer
	point    Point
	openedAt uint64 // log index of the append that opened it
	opened   Millis // log time of that append
	outcome  Outcome
	reason   Reason
	damage   []Damage  // what the commit stated and the shard did not hold
	parts    []*stream // by partition; of an ended one only those worth a duplicate's answer
	link     link[txn]
}

// stream is one sequence of records: of a (TxnRef, partition), or of an
// (idempotent producer, partition).
type stream struct {
	part   *partition
	prod   *producer
	txn    *txn   // nil for an idempotent producer
	epoch  uint32 // idempotent: the epoch the sequence belongs to
	next   uint64 // next expected sequence
	ranges []span // the newest batches, consecutive, the last one ends at next
	first  uint64 // offset of the first record
	end    uint64 // offset after the last record
	seen   Millis // log time of the last append
	link   link[stream]
}

// span is a remembered batch. It ends where the next one starts.
type span struct{ seq, offset uint64 }

func (t *txn) ref() TxnRef { return TxnRef{t.prod.id, t.point.Epoch, t.point.Number} }

// floor is the highest TxnRef seen: appended to or ended here. An ended
// transaction is in settle already, so only the last one can be above.
func (p *producer) floor() Point {
	f := p.settle
	if n := len(p.txns); n > 0 && p.txns[n-1].point.Compare(f) > 0 {
		f = p.txns[n-1].point
	}
	return f
}

// raise makes the floor include a transaction that is not open any more.
func (p *producer) raise(to Point) {
	if to.Compare(p.settle) > 0 {
		p.settle = to
	}
}

// empty reports whether nothing is left to remember.
func (p *producer) empty() bool {
	return p.settle == Point{} && p.fence == 0 && len(p.txns) == 0 && len(p.idem) == 0
}

func (p *producer) search(at Point) (int, bool) {
	return slices.BinarySearchFunc(p.txns, at, func(t *txn, at Point) int { return t.point.Compare(at) })
}

func (p *producer) txn(at Point) *txn {
	if i, ok := p.search(at); ok {
		return p.txns[i]
	}
	return nil
}

func (p *producer) addTxn(t *txn) {
	i, _ := p.search(t.point)
	p.txns = slices.Insert(p.txns, i, t)
}

func (p *producer) removeTxn(t *txn) {
	if i, ok := p.search(t.point); ok {
		p.txns = slices.Delete(p.txns, i, i+1)
	}
}

func searchStream(in []*stream, partition uint64) (int, bool) {
	return slices.BinarySearchFunc(in, partition, func(st *stream, id uint64) int {
		return cmp.Compare(st.part.info.ID, id)
	})
}

func findStream(in []*stream, partition uint64) *stream {
	if i, ok := searchStream(in, partition); ok {
		return in[i]
	}
	return nil
}

func addStream(in []*stream, st *stream) []*stream {
	i, _ := searchStream(in, st.part.info.ID)
	return slices.Insert(in, i, st)
}

func removeStream(in []*stream, st *stream) []*stream {
	i, ok := searchStream(in, st.part.info.ID)
	if !ok {
		return in
	}
	return slices.Delete(in, i, i+1)
}

// belongsTo reports whether a sequence found for this reference is its own:
// that of an idempotent producer is its epoch's.
func (st *stream) belongsTo(ref TxnRef) bool { return st.txn != nil || st.epoch == ref.Epoch }

// record appends a batch to the sequence.
func (st *stream) record(seq uint64, count uint32, offset uint64, keep int) {
	if n := len(st.ranges) + 1 - keep; n > 0 {
		st.ranges = append(st.ranges[:0], st.ranges[n:]...)
	}
	st.ranges = append(st.ranges, span{seq, offset})
	st.next = seq + uint64(count)
	st.end = offset + uint64(count)
}

// offset returns where exactly this range of sequences was stored, while that
// is remembered.
func (st *stream) offset(from, to uint64) (uint64, bool) {
	i, ok := slices.BinarySearchFunc(st.ranges, from, func(r span, seq uint64) int {
		return cmp.Compare(r.seq, seq)
	})
	if !ok || st.rangeEnd(i) != to {
		return 0, false
	}
	return st.ranges[i].offset, true
}

func (st *stream) rangeEnd(i int) uint64 {
	if i+1 < len(st.ranges) {
		return st.ranges[i+1].seq
	}
	return st.next
}

// cut shortens the sequence to what a commit covers. Where the cut goes
// through a batch, the ranges are forgotten: none of them would end at next.
func (st *stream) cut(next uint64) {
	if next >= st.next {
		return
	}
	n := len(st.ranges)
	for n > 0 && st.ranges[n-1].seq >= next {
		n--
	}
	if n > 0 && st.rangeEnd(n-1) != next {
		n = 0
	}
	st.ranges = slices.Clip(st.ranges[:n])
	st.next = next
}

// producer returns the producer's state, which is created if need be.
func (s *State) producer(id uint64) *producer {
	p := s.producers[id]
	if p == nil {
		p = &producer{id: id}
		s.producers[id] = p
	}
	return p
}

// begin opens a transaction (rule 7).
func (s *State) begin(p *producer, at Point) *txn {
	t := &txn{prod: p, point: at, openedAt: s.index, opened: s.now}
	p.addTxn(t)
	p.open++
	s.open.pushBack(t)
	return t
}

// unlist takes a transaction out of the open ones.
func (s *State) unlist(t *txn) {
	s.open.remove(t)
	t.prod.open--
}

// dropStreams forgets the sequences of an ended transaction or of an
// idempotent producer.
func (s *State) dropStreams(in []*stream) {
	for _, st := range in {
		st.part.kept.remove(st)
		s.sequences--
	}
}

// dropIfEmpty forgets a producer of which nothing is left.
func (s *State) dropIfEmpty(p *producer) {
	if !p.empty() {
		return
	}
	if p.listed {
		s.idle.remove(p)
	}
	delete(s.producers, p.id)
}
