package pstate

import (
	"iter"
	"slices"
	"strconv"
)

// OpenTxn is a transaction that is open in the shard. While it is in the state,
// the leader owes the coordinator a question about it.
type OpenTxn struct {
	Ref      TxnRef
	OpenedAt uint64 // log index of the append that opened it here
	Opened   Millis // log time of that append
	Parts    []OpenPart
}

// OpenPart is what an open transaction holds in one partition.
type OpenPart struct {
	Partition   uint64
	FirstOffset uint64
	Next        uint64 // next expected sequence: records held
}

func (t *txn) describe() OpenTxn {
	o := OpenTxn{Ref: t.ref(), OpenedAt: t.openedAt, Opened: t.opened, Parts: make([]OpenPart, len(t.parts))}
	for i, st := range t.parts {
		o.Parts[i] = OpenPart{st.part.info.ID, st.first, st.next}
	}
	return o
}

// Open walks the open transactions in the order in which they were opened.
// Parts are ascending by partition. The state must not change meanwhile.
func (s *State) Open() iter.Seq[OpenTxn] { return s.openFrom(s.open.head) }

// OpenSince walks the open transactions whose OpenedAt is above index, in the
// order in which they were opened. It costs what it returns, however many older
// ones are open.
func (s *State) OpenSince(index uint64) iter.Seq[OpenTxn] {
	var from *txn
	for t := s.open.tail; t != nil && t.openedAt > index; t = t.link.prev {
		from = t
	}
	return s.openFrom(from)
}

func (s *State) openFrom(from *txn) iter.Seq[OpenTxn] {
	return func(yield func(OpenTxn) bool) {
		for t := from; t != nil; t = t.link.next {
			if !yield(t.describe()) {
				return
			}
		}
	}
}

// OpenCount returns how many transactions are open in the shard.
func (s *State) OpenCount() int { return s.open.len }

// Find describes a transaction: if it is open here, how; if its outcome is
// remembered, that. False: neither.
func (s *State) Find(ref TxnRef) (open OpenTxn, outcome Outcome, reason Reason, ok bool) {
	p := s.producers[ref.ProducerID]
	if p == nil || !ref.Transactional() {
		return OpenTxn{}, OutcomeNone, ReasonNone, false
	}
	t := p.txn(ref.Point())
	if t == nil {
		return OpenTxn{}, OutcomeNone, ReasonNone, false
	}
	if t.outcome != OutcomeNone {
		return OpenTxn{Ref: ref}, t.outcome, t.reason, true
	}
	return t.describe(), OutcomeNone, ReasonNone, true
}

// ProducerState says what a row of [State.DescribeProducers] is about.
type ProducerState uint8

// The kinds of rows.
const (
	ProducerIdempotent ProducerState = iota + 1 // a sequence outside of transactions
	ProducerOpen                                // a transaction that is open
	ProducerCommitted                           // a committed one, remembered for duplicates
)

// String returns the name of the state.
func (p ProducerState) String() string {
	switch p {
	case ProducerIdempotent:
		return "IDEMPOTENT"
	case ProducerOpen:
		return "OPEN"
	case ProducerCommitted:
		return "COMMITTED"
	}
	return "STATE_" + strconv.Itoa(int(p))
}

// ProducerStatus is one sequence of a partition.
type ProducerStatus struct {
	Ref           TxnRef
	State         ProducerState
	NextSequence  uint64 // the last sequence stored is one less
	LastTimestamp Millis // log time of the last append
	// TxnStartOffset is the offset of the first record, with ProducerOpen.
	TxnStartOffset uint64
	TxnOpened      Millis // log time at which it was opened, with ProducerOpen
}

// DescribeProducers lists the sequences the shard keeps for a partition,
// ascending by reference. False: the shard does not host the partition.
func (s *State) DescribeProducers(partition uint64) ([]ProducerStatus, bool) {
	part := s.partitions[partition]
	if part == nil {
		return nil, false
	}
	out := make([]ProducerStatus, 0, part.open.len+part.kept.len)
	for st := range part.open.all() {
		out = append(out, ProducerStatus{
			Ref: st.txn.ref(), State: ProducerOpen, NextSequence: st.next, LastTimestamp: st.seen,
			TxnStartOffset: st.first, TxnOpened: st.txn.opened,
		})
	}
	for st := range part.kept.all() {
		row := ProducerStatus{
			Ref: TxnRef{st.prod.id, st.epoch, 0}, State: ProducerIdempotent,
			NextSequence: st.next, LastTimestamp: st.seen,
		}
		if st.txn != nil {
			row.Ref, row.State = st.txn.ref(), ProducerCommitted
		}
		out = append(out, row)
	}
	slices.SortFunc(out, func(a, b ProducerStatus) int { return a.Ref.Compare(b.Ref) })
	return out, true
}

// ProducerFloor is what the shard remembers of a producer as a whole.
type ProducerFloor struct {
	Floor     Point  // highest transaction seen
	Fence     uint32 // epochs below are fenced; 0 = none
	Open      int    // transactions open
	Ended     int    // ended transactions remembered
	LastSeen  Millis // log time of the last activity
	Sequences int    // partitions with an idempotent sequence
	// Gone: the id does not exist any more. Nothing else is known of it but
	// LastSeen, the log time at which the shard learned that.
	Gone bool
}

// Producer describes a producer; false if the shard does not know it.
func (s *State) Producer(id uint64) (ProducerFloor, bool) {
	p := s.producers[id]
	if p == nil {
		at, gone := s.gone.since[id]
		return ProducerFloor{LastSeen: at, Gone: gone}, gone
	}
	return ProducerFloor{
		Floor: p.floor(), Fence: p.fence, Open: p.open, Ended: len(p.txns) - p.open,
		LastSeen: p.seen, Sequences: len(p.idem),
	}, true
}

// Stats are sizes of the state, for gauges.
type Stats struct {
	Partitions, Producers, Sequences, OpenTxns int
	Gone                                       int // producer ids that are gone and kept in mind
}

// Stats returns sizes of the state in constant time.
func (s *State) Stats() Stats {
	return Stats{len(s.partitions), len(s.producers), s.sequences, s.open.len, len(s.gone.queue)}
}
