package txn

import (
	"iter"
	"maps"
	"slices"
)

// Marker is a decision that a shard has to apply.
type Marker struct {
	Ref     Ref
	Outcome Outcome
	Reason  Reason
	// Progress is sorted by partition; a commit covers exactly the records
	// below it. Shared memory: do not change.
	Progress []Progress
	// CompleteBelow: every transaction of this producer below it is over on
	// every participant, so that the shard may drop its ended records.
	CompleteBelow Ref
	// Decision numbers the decisions of the cluster in the order they were
	// made: it is the order of the markers of one shard.
	Decision uint64
}

func (pt *participant) marker() Marker {
	c := pt.of
	return Marker{
		Ref:           c.producer.refOf(c.decision),
		Outcome:       c.decision.outcome,
		Reason:        c.decision.reason,
		Progress:      pt.progress,
		CompleteBelow: c.producer.completeBelow(),
		Decision:      c.sequence,
	}
}

// Work is what a leader owes at some time.
type Work struct {
	// Shards have markers to apply, ascending; see [Machine.Owed].
	Shards []uint64
	// Expired are the first open transactions whose deadline has passed.
	Expired []Ref
	// IdleIDs are producer ids of transactional ids that may be removed.
	IdleIDs []uint64
}

// Work returns what is owed at now, with at most limit entries in each of
// Expired and IdleIDs. It is derived from the state and changes nothing.
func (m *Machine) Work(now Millis, limit int) Work {
	return Work{Shards: m.OwedShards(), Expired: m.Expired(now, limit), IdleIDs: m.IdleIDs(now, limit)}
}

// OwedShards lists the shards that have markers to apply, ascending.
func (m *Machine) OwedShards() []uint64 { return slices.Sorted(maps.Keys(m.owed)) }

// LastDecision returns the number of the newest decision that has participants, 0
// before the first; see Marker.Decision.
func (m *Machine) LastDecision() uint64 { return m.nextDecision - 1 }

// OwedCount returns how many markers the shard has to apply.
func (m *Machine) OwedCount(shard uint64) int {
	if l := m.owed[shard]; l != nil {
		return l.length
	}
	return 0
}

// Owed returns the markers the shard has not acknowledged, in the order of the
// decisions. The machine must not change during the iteration.
func (m *Machine) Owed(shard uint64) iter.Seq[Marker] {
	return func(yield func(Marker) bool) {
		l := m.owed[shard]
		if l == nil {
			return
		}
		for pt := l.head; pt != nil; pt = pt.next {
			if !yield(pt.marker()) {
				return
			}
		}
	}
}

// Expired lists at most limit open transactions whose deadline is not after
// now, in ascending producer id. Which ones, when there are more, is open; the
// earliest is always among them.
func (m *Machine) Expired(now Millis, limit int) []Ref {
	var refs []Ref
	// Everything below a heap node that is not due is not due either.
	todo := []int{0}
	for len(todo) > 0 && len(refs) < limit {
		i := todo[0]
		todo = todo[1:]
		if i >= len(m.deadlines) || m.deadlines[i].deadline > now {
			continue
		}
		o := m.deadlines[i]
		refs = append(refs, o.producer.ref(o.producer.epoch, o.number))
		todo = append(todo, 2*i+1, 2*i+2)
	}
	slices.SortFunc(refs, func(a, b Ref) int {
		if a.ProducerID < b.ProducerID {
			return -1
		}
		return 1 // one open transaction for each producer: never equal
	})
	return refs
}

// NextDeadline returns the earliest deadline of an open transaction.
func (m *Machine) NextDeadline() (deadline Millis, ok bool) {
	if len(m.deadlines) == 0 {
		return 0, false
	}
	return m.deadlines[0].deadline, true
}

// IdleIDs lists at most limit producer ids whose transactional ids have been
// idle for Config.IDExpiration at now, the longest idle first.
func (m *Machine) IdleIDs(now Millis, limit int) []uint64 {
	var ids []uint64
	for p := m.idle.head; p != nil && len(ids) < limit && now-p.updated >= m.cfg.IDExpiration; p = p.idleNext {
		ids = append(ids, p.id)
	}
	return ids
}

// Incomplete lists the shards that have not acknowledged the end of some
// transaction of the producer, ascending.
func (m *Machine) Incomplete(producerID uint64) []uint64 {
	if p := m.byID[producerID]; p != nil {
		return incompleteShards(p)
	}
	return nil
}

func incompleteShards(p *producer) []uint64 {
	var shards []uint64
	for _, c := range p.completing {
		shards = append(shards, c.pendingShards()...)
	}
	slices.Sort(shards)
	return slices.Compact(shards)
}

// Known tells whether the producer id belongs to a transactional id that
// exists. Shards may forget the floor of a producer that is not known, once the
// answer was confirmed by ReadIndex; ids are never used again.
func (m *Machine) Known(producerID uint64) bool { return m.byID[producerID] != nil }

// CompleteBelow returns the lowest transaction of the producer that is open,
// completing or may still come.
func (m *Machine) CompleteBelow(producerID uint64) (Ref, bool) {
	p := m.byID[producerID]
	if p == nil {
		return Ref{}, false
	}
	return p.completeBelow(), true
}
