package pstate

import (
	"cmp"
	"slices"
)

// Progress states how far a producer got in one partition: the commit covers
// exactly the records with sequences below Next. A partition without an entry
// has 0.
type Progress struct {
	Partition uint64
	Next      uint64
}

// Decision is what the coordinator decided about a transaction, as far as one
// shard needs to know it.
type Decision struct {
	Outcome Outcome // commit or abort
	Reason  Reason
	// Progress is read for commits only; ascending by partition, each once.
	Progress []Progress
	// CompleteBelow: every transaction of the producer below this point is
	// acknowledged by all its participants, so the shard may forget how it
	// ended.
	CompleteBelow Point
}

// Marker is the decision on one transaction.
type Marker struct {
	Ref TxnRef
	Decision
}

// Markers is the command that ends transactions.
type Markers struct {
	At   Millis
	List []Marker
}

// Damage is a partition in which the shard holds less of a transaction than its
// commit states.
type Damage struct {
	Partition uint64
	Stated    uint64 // next sequence as the producer stated it
	Held      uint64 // next sequence as the shard has it
}

// MarkerResult is what became of one marker or one enlistment answer.
type MarkerResult struct {
	Ref    TxnRef
	Code   MarkerCode
	Damage []Damage // with MarkerMissingData; ascending by partition
	// Outcome and Reason are what the shard remembers, with MarkerConflict.
	Outcome Outcome
	Reason  Reason
	// Discarded counts the records that this command hid for good.
	Discarded uint64
	// Moved lists the partitions, ascending, whose stable end moved: readers
	// that wait there have something to look at.
	Moved []uint64
}

// Markers ends transactions as decided, in the order of the list. Markers are
// idempotent and not subject to fences. The results are in the order of the
// list.
func (s *State) Markers(index uint64, m Markers) []MarkerResult {
	s.step(index, m.At)
	out := make([]MarkerResult, 0, len(m.List))
	for _, mk := range m.List {
		out = append(out, s.marker(mk.Ref, mk.Decision))
	}
	s.sweep()
	return out
}

// marker carries out one decision, told by a marker or by an answer.
func (s *State) marker(ref TxnRef, d Decision) MarkerResult {
	res := MarkerResult{Ref: ref, Code: MarkerInvalid}
	if !ref.Transactional() || d.Outcome != OutcomeCommit && d.Outcome != OutcomeAbort {
		return res
	}
	if s.gone.has(ref.ProducerID) {
		// An id goes when all its markers have been applied: this is a late copy.
		res.Code = MarkerAlready
		return res
	}
	d.Progress = ordered(d.Progress)
	p := s.producer(ref.ProducerID)
	switch t := p.txn(ref.Point()); {
	case t != nil && t.outcome == OutcomeNone:
		res.Code = MarkerApplied
		t.damage = s.damage(t, d)
		s.end(t, d, &res)
	case t != nil && t.outcome == d.Outcome:
		res.Code, res.Damage = MarkerAlready, t.damage
	case t != nil:
		res.Code, res.Outcome, res.Reason = MarkerConflict, t.outcome, t.reason
	case ref.Point().Compare(p.floor()) <= 0:
		res.Code = MarkerAlready
	default:
		res.Code = MarkerRecorded
		t = &txn{prod: p, point: ref.Point(), outcome: d.Outcome, reason: d.Reason}
		t.damage = s.damage(t, d)
		res.Damage = t.damage
		p.addTxn(t)
	}
	if len(res.Damage) > 0 {
		res.Code = MarkerMissingData
	}
	p.raise(ref.Point())
	s.dropEnded(p, d.CompleteBelow)
	s.touch(p)
	return res
}

// ordered returns the list in the order [stated] needs.
func ordered(in []Progress) []Progress {
	byPartition := func(a, b Progress) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Next, b.Next))
	}
	if slices.IsSortedFunc(in, byPartition) {
		return in
	}
	return slices.SortedFunc(slices.Values(in), byPartition)
}

func stated(in []Progress, partition uint64) uint64 {
	i, ok := slices.BinarySearchFunc(in, partition, func(p Progress, id uint64) int {
		return cmp.Compare(p.Partition, id)
	})
	if !ok {
		return 0
	}
	return in[i].Next
}

// damage compares what a commit states with what the shard holds. A partition
// the shard does not host was removed, and took its data along: no damage.
func (s *State) damage(t *txn, d Decision) []Damage {
	if d.Outcome != OutcomeCommit {
		return nil
	}
	var out []Damage
	for _, pr := range d.Progress {
		if s.partitions[pr.Partition] == nil {
			continue
		}
		held := uint64(0)
		if st := findStream(t.parts, pr.Partition); st != nil {
			held = st.next
		}
		if pr.Next > held {
			out = append(out, Damage{pr.Partition, pr.Next, held})
		}
	}
	return out
}

// end ends an open transaction: what the decision does not cover is hidden for
// good, and the stable ends it held move on. Sequences of a commit stay, to
// answer duplicates; those of an abort go, as rule 4 answers for them.
func (s *State) end(t *txn, d Decision, res *MarkerResult) {
	res.Damage = t.damage
	kept := t.parts[:0]
	for _, st := range t.parts {
		before := st.part.stable()
		st.part.open.remove(st)
		if st.part.stable() != before {
			res.Moved = append(res.Moved, st.part.info.ID)
		}
		cut := uint64(0)
		if d.Outcome == OutcomeCommit {
			cut = min(stated(d.Progress, st.part.info.ID), st.next)
		}
		if cut < st.next {
			res.Discarded += st.next - cut
			st.part.aborted.add(abortedEntry{
				producer: t.prod.id, epoch: t.point.Epoch, number: t.point.Number,
				first: st.first, end: st.end, minSeq: cut,
			})
		}
		if cut == 0 {
			s.sequences--
			continue
		}
		st.cut(cut)
		st.part.kept.pushBack(st)
		kept = append(kept, st)
	}
	clear(t.parts[len(kept):])
	t.parts = kept
	t.outcome, t.reason = d.Outcome, d.Reason
	s.unlist(t)
}

// dropEnded forgets the ended transactions below a point.
func (s *State) dropEnded(p *producer, below Point) {
	p.txns = slices.DeleteFunc(p.txns, func(t *txn) bool {
		if t.outcome == OutcomeNone || t.point.Compare(below) >= 0 {
			return false
		}
		s.dropStreams(t.parts)
		return true
	})
}
