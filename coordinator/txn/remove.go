package txn

import "slices"

// The functions of this file are called within catalogue commands, when shards
// or partitions cease to exist. They are not commands of their own: whoever
// removes a shard must do both in the same step.

// RemoveShard completes every participant on a shard that no longer exists,
// without damage, and returns the transactions that were over with it, in the
// order of their decisions. Open and prepared transactions go on without the shard.
func (m *Machine) RemoveShard(at Millis, shard uint64) (completed []Ref) {
	m.advance(at)
	for l := m.owed[shard]; l != nil && l.head != nil; {
		pt := l.head
		ref := pt.of.producer.refOf(pt.of.decision)
		if m.acknowledge(pt, false) {
			completed = append(completed, ref)
		}
	}
	for _, o := range m.deadlines {
		if i, ok := o.find(shard); ok {
			o.enlisted = slices.Delete(o.enlisted, i, i+1)
		}
	}
	for _, t := range m.prepared { // each by itself: the order does not matter
		t.removeShard(shard)
	}
	return completed
}

// RemovePartitions drops partitions that no longer exist from everything that
// names them. The shard stays a participant: it still has the transaction open.
func (m *Machine) RemovePartitions(at Millis, shard uint64, partitions []uint64) {
	m.advance(at)
	gone := slices.Clone(partitions)
	slices.Sort(gone)
	isGone := func(partition uint64) bool {
		_, found := slices.BinarySearch(gone, partition)
		return found
	}
	if l := m.owed[shard]; l != nil {
		for pt := l.head; pt != nil; pt = pt.next {
			// Markers handed out before share the old slice: leave it alone.
			pt.progress = slices.DeleteFunc(slices.Clone(pt.progress), func(pr Progress) bool {
				return isGone(pr.Partition)
			})
		}
	}
	for _, o := range m.deadlines {
		if i, ok := o.find(shard); ok {
			o.enlisted[i].partitions = slices.DeleteFunc(o.enlisted[i].partitions, isGone)
		}
	}
	for _, t := range m.prepared { // each by itself: the order does not matter
		t.removePartitions(shard, isGone)
	}
}
