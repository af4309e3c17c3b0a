package pstate

import "math"

// MaxBatchRecords is the most records one batch may have.
const MaxBatchRecords = 1 << 20

// Batch is the metadata of one batch of an append. The bytes of the batch are
// the runner's.
type Batch struct {
	Partition    uint64
	BaseSequence uint64 // sequence of the first record
	Count        uint32 // records, 1 to [MaxBatchRecords]
	MaxTimestamp Millis // highest record timestamp, the producer's clock
	Size         uint32 // bytes as encoded by the client
}

// Append is what one producer appends to this shard in one request. An entry
// may hold several, of different producers; they are applied in their order.
type Append struct {
	At      Millis // time at the leader that proposed it
	Ref     TxnRef
	Batches []Batch
}

// BatchResult is the verdict on one batch.
type BatchResult struct {
	Code Code
	// BaseOffset is the offset of the first record of a batch that is stored:
	// always known with CodeAppended, with CodeDuplicate if OffsetKnown.
	BaseOffset  uint64
	OffsetKnown bool
	// NextExpected is the sequence with which the next new batch must start,
	// as far as the shard has state for the sequence, else 0.
	NextExpected uint64
	// CurrentEpoch is the epoch that fences, with CodeFenced.
	CurrentEpoch uint32
	// Outcome and Reason tell how the transaction ended, with CodeTxnEnded.
	Outcome Outcome
	Reason  Reason
	// RunningMaxTimestamp is the highest MaxTimestamp of the partition up to
	// and with this batch, with CodeAppended. It never falls along the
	// partition, so an index of it can be searched by bisection.
	RunningMaxTimestamp Millis
	// OpensTxn is set with CodeAppended if the batch opened its transaction
	// here: the leader must enlist it.
	OpensTxn bool
}

// decision is a verdict with the state it was found in.
type decision struct {
	BatchResult
	part *partition
	prod *producer // nil: not known
	txn  *txn      // nil: neither open nor remembered
	st   *stream   // nil: no sequence yet
}

// Append applies the batches in their order, each on its own: a refused batch
// stores nothing and takes no offset. The verdicts are appended to dst, which
// may be nil, in the order of the batches.
func (s *State) Append(index uint64, a Append, dst []BatchResult) []BatchResult {
	s.step(index, a.At)
	var active *producer
	for _, b := range a.Batches {
		d := s.decide(a.Ref, b)
		if d.Code == CodeAppended {
			s.store(&d, a.Ref, b)
		}
		if d.Code.OK() {
			active = d.prod
		}
		dst = append(dst, d.BatchResult)
	}
	if active != nil {
		s.touch(active)
	}
	s.sweep()
	return dst
}

// Decide returns the verdict that [State.Append] would give on this batch if it
// were applied now, and changes nothing. A leader may use it to spare a log
// entry, but only with a verdict that is [Code.Final]: the state does not know
// the entries that are still on their way, and on a leader that was deposed
// without noticing it is old. CodeAppended from here means no more than
// "propose it"; its offset is a guess.
func (s *State) Decide(ref TxnRef, b Batch) BatchResult { return s.decide(ref, b).BatchResult }

// decide goes through the rules of section 4 in their order; the first that
// speaks decides.
func (s *State) decide(ref TxnRef, b Batch) decision {
	d := decision{part: s.partitions[b.Partition], prod: s.producers[ref.ProducerID]}
	if d.Code = s.wellFormed(d.part, b); d.Code != 0 { // rule 1
		return d
	}
	if d.prod == nil && s.gone.has(ref.ProducerID) {
		d.Code = CodeProducerGone
		return d
	}
	d.lookUp(ref, b.Partition)
	if d.stored(ref, b) || // rule 2
		d.fenced(ref) || // rule 3
		d.ended() || // rule 4
		d.stale(ref) || // rule 5
		d.misplaced(ref, b) || // rule 6
		s.full(&d, ref) {
		return d
	}
	d.Code = CodeAppended // rule 7
	d.BaseOffset, d.OffsetKnown = d.part.end, true
	d.NextExpected = b.BaseSequence + uint64(b.Count)
	d.RunningMaxTimestamp = max(d.part.maxTimestamp, b.MaxTimestamp)
	d.OpensTxn = ref.Transactional() && d.txn == nil
	return d
}

// wellFormed is rule 1, as far as metadata can tell.
func (s *State) wellFormed(part *partition, b Batch) Code {
	switch {
	case part == nil:
		return CodeUnknownPartition
	case b.Count == 0 || b.Count > MaxBatchRecords,
		b.BaseSequence > math.MaxUint64-uint64(b.Count):
		return CodeMalformed
	case b.Size > s.cfg.MaxBatchBytes:
		return CodeTooLarge
	}
	return 0
}

// lookUp finds the sequence the batch belongs to. An idempotent producer that
// got a new epoch starts over at 0, as its old sequence is not its own any
// more; taking the new records for duplicates of the old would lose them.
func (d *decision) lookUp(ref TxnRef, partition uint64) {
	if d.prod == nil {
		return
	}
	if ref.Transactional() {
		if d.txn = d.prod.txn(ref.Point()); d.txn != nil {
			d.st = findStream(d.txn.parts, partition)
		}
	} else if d.st = findStream(d.prod.idem, partition); d.st != nil && d.st.epoch < ref.Epoch {
		d.st = nil
	}
	if d.st != nil && d.st.belongsTo(ref) {
		d.NextExpected = d.st.next
	}
}

// stored is rule 2. A transaction that ended in abort has no sequences here any
// more, so the rule is silent about it; of a committed one they reach as far as
// the commit did.
func (d *decision) stored(ref TxnRef, b Batch) bool {
	if d.st == nil || b.BaseSequence >= d.st.next || !d.st.belongsTo(ref) {
		return false
	}
	end := b.BaseSequence + uint64(b.Count)
	if end > d.st.next {
		d.Code = CodeOutOfOrder
		return true
	}
	d.Code = CodeDuplicate
	d.BaseOffset, d.OffsetKnown = d.st.offset(b.BaseSequence, end)
	return true
}

// fenced is rule 3. Every append proves its epoch with a token, so a transaction
// of a newer epoch seen here fences the older ones as well as the coordinator's
// word does, and at once: a producer that was taken over learns it from its next
// send and not only from its commit.
func (d *decision) fenced(ref TxnRef) bool {
	if d.prod == nil {
		return false
	}
	d.CurrentEpoch = d.prod.fence
	switch {
	case ref.Transactional():
		d.CurrentEpoch = max(d.CurrentEpoch, d.prod.floor().Epoch)
	case d.st != nil:
		d.CurrentEpoch = max(d.CurrentEpoch, d.st.epoch)
	}
	if ref.Epoch >= d.CurrentEpoch {
		d.CurrentEpoch = 0
		return false
	}
	d.Code = CodeFenced
	return true
}

// ended is rule 4.
func (d *decision) ended() bool {
	if d.txn == nil || d.txn.outcome == OutcomeNone {
		return false
	}
	d.Code, d.Outcome, d.Reason = CodeTxnEnded, d.txn.outcome, d.txn.reason
	return true
}

// stale is rule 5: a late first write of an old transaction opens nothing.
func (d *decision) stale(ref TxnRef) bool {
	if !ref.Transactional() || d.prod == nil || d.txn != nil || ref.Point().Compare(d.prod.floor()) > 0 {
		return false
	}
	d.Code = CodeStaleTxn
	return true
}

// misplaced is rule 6.
func (d *decision) misplaced(ref TxnRef, b Batch) bool {
	if b.BaseSequence == d.NextExpected {
		return false
	}
	d.Code = CodeOutOfOrder
	if !ref.Transactional() && (d.prod == nil || len(d.prod.idem) == 0) {
		d.Code = CodeUnknownProducer
	}
	return true
}

// full refuses what would need more state than the limits allow.
func (s *State) full(d *decision, ref TxnRef) bool {
	switch {
	case d.prod == nil && len(s.producers) >= int(s.cfg.MaxProducers),
		d.st == nil && s.sequences >= int(s.cfg.MaxSequences):
		d.Code = CodeProducerLimit
		return true
	case ref.Transactional() && d.txn == nil && d.prod != nil && d.prod.open >= int(s.cfg.MaxOpenPerProducer):
		d.Code = CodeTooManyOpen
		return true
	}
	return false
}

// store carries out a decision to append (rule 7).
func (s *State) store(d *decision, ref TxnRef, b Batch) {
	if d.prod == nil {
		d.prod = s.producer(ref.ProducerID)
	}
	if d.OpensTxn {
		d.txn = s.begin(d.prod, ref.Point())
	}
	if d.st == nil {
		d.st = s.newStream(d, ref)
	}
	d.st.record(b.BaseSequence, b.Count, d.part.end, int(s.cfg.RangesKept))
	d.st.seen = s.now
	d.part.addBatch(b, s.index, s.written, s.now)
	s.written += uint64(b.Size)
	if d.part.segments[0].base == d.part.end { // its first: else it needs an older entry
		s.needs.update(d.part)
	}
	d.part.end += uint64(b.Count)
	d.part.bytes += uint64(b.Size)
	d.part.maxTimestamp = d.RunningMaxTimestamp
}

// newStream starts a sequence. Streams of open transactions come into being in
// the order of their first offsets, which keeps partition.open sorted.
func (s *State) newStream(d *decision, ref TxnRef) *stream {
	st := &stream{part: d.part, prod: d.prod, txn: d.txn, first: d.part.end}
	if d.txn != nil {
		d.txn.parts = addStream(d.txn.parts, st)
		d.part.open.pushBack(st)
		s.sequences++
		return st
	}
	st.epoch = ref.Epoch
	if old := findStream(d.prod.idem, d.part.info.ID); old != nil {
		d.prod.idem = removeStream(d.prod.idem, old)
		s.dropStreams([]*stream{old})
	}
	d.prod.idem = addStream(d.prod.idem, st)
	d.part.kept.pushBack(st)
	s.sequences++
	return st
}
