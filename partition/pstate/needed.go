package pstate

import "container/heap"

// needs orders the partitions that have records by the log index at which those
// begin, so that the smallest is known at any time. It is derived from the
// partitions and in no snapshot.
type needs struct{ byFirst []*partition }

// Needed returns the index of the first log entry that holds records which a
// partition keeps. Entries below it hold nothing but what the state already says.
// Without any records it is the index after the last command.
func (s *State) Needed() uint64 {
	if len(s.needs.byFirst) == 0 {
		return s.index + 1
	}
	return s.needs.byFirst[0].needed
}

// update puts a partition into its place after its segments have changed.
func (n *needs) update(p *partition) {
	if len(p.segments) > 0 {
		p.needed = p.lowest()
	}
	listed := p.place < len(n.byFirst) && n.byFirst[p.place] == p
	switch {
	case len(p.segments) == 0 && listed:
		heap.Remove(n, p.place)
	case len(p.segments) == 0:
	case listed:
		heap.Fix(n, p.place)
	default:
		heap.Push(n, p)
	}
}

// remove takes out a partition that goes away.
func (n *needs) remove(p *partition) {
	p.segments = nil
	n.update(p)
}

// Len, Less, Swap, Push and Pop implement [heap.Interface].
func (n *needs) Len() int { return len(n.byFirst) }

// Less orders equal ones by id, so that the order follows from the state alone.
func (n *needs) Less(i, j int) bool {
	a, b := n.byFirst[i], n.byFirst[j]
	if a.needed != b.needed {
		return a.needed < b.needed
	}
	return a.info.ID < b.info.ID
}

// Swap implements [heap.Interface].
func (n *needs) Swap(i, j int) {
	n.byFirst[i], n.byFirst[j] = n.byFirst[j], n.byFirst[i]
	n.byFirst[i].place, n.byFirst[j].place = i, j
}

// Push implements [heap.Interface].
func (n *needs) Push(x any) {
	p := x.(*partition)
	p.place = len(n.byFirst)
	n.byFirst = append(n.byFirst, p)
}

// Pop implements [heap.Interface].
func (n *needs) Pop() any {
	last := len(n.byFirst) - 1
	p := n.byFirst[last]
	n.byFirst[last] = nil
	n.byFirst = n.byFirst[:last]
	return p
}
