package history

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// groupPart is one position: that of a group in a partition.
type groupPart struct {
	group string
	part  int
}

// moved is one way of a position, as somebody asked for it.
type moved struct {
	Move
	txn   *txn
	call  uint64  // plain commits: the call
	state Outcome // Committed, Aborted, or Unknown
	asked int     // event of the first call that asked for it; -1: nobody did
	heard int     // event of the answer that it was committed; -1: none
}

func (m *moved) who() string {
	if m.txn != nil {
		return fmt.Sprintf("txn %d", m.txn.n)
	}
	return fmt.Sprintf("call %d", m.call)
}

// violation reports one about a position; m, the move that it is about, may be
// nil.
func (m *moved) violation(c *checker, at groupPart, offset int64, anomaly, text string) {
	v := Violation{
		Invariant: OffsetsOnce, Anomaly: anomaly, Partition: c.parts[at.part].name, Offset: offset,
		Text: fmt.Sprintf("group %q: ", at.group) + text,
	}
	if m != nil && m.txn != nil {
		v.Txn, v.TxID = m.txn.n, m.txn.id
	}
	c.violate(v)
}

// moves collects the ways of all positions, each sorted by where it begins.
func (c *checker) moves() map[groupPart][]*moved {
	all := make(map[groupPart][]*moved)
	for i := range c.txns {
		t := &c.txns[i]
		heard := -1
		for _, a := range c.answers[t.id] {
			if a.outcome == Committed {
				heard = a.at
				break
			}
		}
		for _, m := range t.moves {
			at := groupPart{m.group, m.part}
			all[at] = append(all[at], &moved{Move: m.move, txn: t, state: t.outcome, asked: t.commitAt, heard: heard})
		}
	}
	for i := range c.calls {
		k := &c.calls[i]
		if k.kind != KindCommitOffsets {
			continue
		}
		state, heard := k.outcome, -1
		if state == Committed {
			heard = k.answer
		} else {
			state = Unknown // refused, too: an attempt before may have succeeded
		}
		for _, m := range k.group.Moves {
			at := groupPart{k.group.Name, c.partitions[m.Partition]}
			all[at] = append(all[at], &moved{Move: m, call: uint64(i) + 1, state: state, asked: k.at, heard: heard})
		}
	}
	for _, ms := range all {
		slices.SortStableFunc(ms, func(a, b *moved) int {
			return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.Next, b.Next))
		})
	}
	return all
}

// positions returns the keys of a map in the order of groups and partitions.
func positions[V any](c *checker, m map[groupPart]V) []groupPart {
	return slices.SortedFunc(maps.Keys(m), func(a, b groupPart) int {
		return cmp.Or(cmp.Compare(a.group, b.group), c.parts[a.part].name.Compare(c.parts[b.part].name))
	})
}

// checkOffsets checks that the positions of each group went one unbroken way,
// by commits alone (I7). A workload never seeks with a group whose positions it
// commits.
func (c *checker) checkOffsets() {
	all := c.moves()
	ends := make(map[groupPart]int64)
	for _, at := range positions(c, all) {
		ends[at] = c.checkWay(at, all[at])
	}
	c.checkFinalOffsets(all, ends)
	c.checkFetchedOffsets(all)
	if c.h.Rules.Members {
		c.checkOwners(all)
	}
}

// checkWay follows one position and returns where it must be at the end, as far
// as that is certain.
func (c *checker) checkWay(at groupPart, ms []*moved) int64 {
	end := int64(-1) // not known where it begins
	if c.isFlow(at) {
		end = 0
		if log := c.parts[at.part].log; log != nil {
			end = log.Start
		}
	}
	var last *moved
	for _, m := range ms {
		if m.state != Committed {
			continue
		}
		c.report.Stats.Moves++
		if m.From == m.Next {
			continue
		}
		if last != nil && m.From < end {
			m.violation(c, at, m.From, AnomalyLostUpdate, fmt.Sprintf("%s and %s both consumed from here", last.who(), m.who()))
		}
		if end >= 0 && m.From > end {
			if end = c.bridge(at.part, ms, end, m.From); c.visibleIn(at.part, end, m.From) {
				m.violation(c, at, end, AnomalyPollSkip, fmt.Sprintf("nobody consumed from here to %d, where %s began", m.From, m.who()))
			}
		}
		end, last = max(end, m.Next), m
	}
	return end
}

// isFlow reports whether a flow reads the partition with the group, from its
// beginning.
func (c *checker) isFlow(at groupPart) bool {
	return slices.ContainsFunc(c.h.Rules.Flows, func(f Flow) bool { return f.Group == at.group && f.From == c.parts[at.part].name.Topic })
}

// bridge goes from one offset towards another by moves that may have happened, and
// over what is not shown to anybody. It returns how far that leads. Several such
// moves may begin at one offset, of which one at most has happened: all ways are
// tried.
func (c *checker) bridge(p int, ms []*moved, from, to int64) int64 {
	reached := []int64{from} // sorted
	i, _ := slices.BinarySearchFunc(ms, from, func(m *moved, offset int64) int { return cmp.Compare(m.From, offset) })
	for ; i < len(ms) && ms[i].From < to; i++ {
		m := ms[i]
		if m.state != Unknown || m.asked < 0 || m.Next > to {
			continue
		}
		// The nearest one before it: from farther away there is only more between.
		at, exact := slices.BinarySearch(reached, m.From)
		if !exact && c.visibleIn(p, reached[at-1], m.From) {
			continue
		}
		if at, known := slices.BinarySearch(reached, m.Next); !known {
			reached = slices.Insert(reached, at, m.Next)
		}
	}
	return reached[len(reached)-1]
}

// visibleIn reports whether read_committed shows anything in [from, to).
func (c *checker) visibleIn(p int, from, to int64) bool {
	ref := c.parts[p].ref
	i, _ := slices.BinarySearchFunc(ref, from, func(s seen, offset int64) int { return cmp.Compare(s.offset, offset) })
	return i < len(ref) && ref[i].offset < to
}

// checkFinalOffsets compares the audit's positions with the ways.
func (c *checker) checkFinalOffsets(all map[groupPart][]*moved, ends map[groupPart]int64) {
	if c.h.Audit == nil || c.h.Audit.Offsets == nil {
		return
	}
	final := make(map[groupPart]int64)
	for _, g := range c.h.Audit.Offsets {
		final[groupPart{g.Group, c.partitions[g.Partition]}] = g.Offset
	}
	for _, at := range positions(c, all) {
		committed := slices.ContainsFunc(all[at], func(m *moved) bool { return m.state == Committed })
		if _, ok := final[at]; !ok && committed {
			c.finalViolation(at, nil, -1, fmt.Sprintf("no position at the end, and commits went up to %d", ends[at]))
		}
	}
	for _, at := range positions(c, final) {
		c.checkFinalOffset(at, all[at], final[at])
	}
}

func (c *checker) checkFinalOffset(at groupPart, ms []*moved, offset int64) {
	end := int64(-1)
	for _, m := range ms {
		if m.state == Committed {
			end = max(end, m.Next)
		}
	}
	if offset == end {
		return
	}
	var lost, aborted *moved
	for _, m := range ms {
		switch {
		case m.state == Committed && m.Next == end:
			lost = m
		case m.state == Unknown && m.Next == offset && offset > end && m.asked >= 0:
			return
		case m.state == Aborted && m.Next == offset:
			aborted = m
		}
	}
	switch {
	case offset < end:
		c.finalViolation(at, lost, offset, fmt.Sprintf("the final position is behind %d, which %s committed", end, lost.who()))
	case aborted != nil:
		c.finalViolation(at, aborted, offset, fmt.Sprintf("the final position is that of %s, which was not committed", aborted.who()))
	default:
		c.finalViolation(at, nil, offset, "nobody has committed the final position")
	}
}

func (c *checker) finalViolation(at groupPart, m *moved, offset int64, text string) {
	m.violation(c, at, offset, AnomalyLostUpdate, text)
}

// checkFetchedOffsets checks that every position that was read had been asked for,
// and was not older than what the caller could know.
func (c *checker) checkFetchedOffsets(all map[groupPart][]*moved) {
	known := make(map[groupPart]*positionLog)
	for at, ms := range all {
		l := &positionLog{asked: make(map[int64]int)}
		for _, m := range ms {
			if m.state == Committed && m.heard >= 0 {
				l.heard = append(l.heard, heardPosition{m.heard, m.Next})
			}
			if m.state != Aborted && m.asked >= 0 {
				if first, ok := l.asked[m.Next]; !ok || m.asked < first {
					l.asked[m.Next] = m.asked
				}
			}
		}
		known[at] = l
	}
	for i := range c.calls {
		k := &c.calls[i]
		if k.kind != KindFetchOffsets || k.outcome != Committed {
			continue
		}
		for _, p := range k.group.Positions {
			at := groupPart{k.group.Name, c.partitions[p.Partition]}
			if known[at] == nil {
				known[at] = &positionLog{asked: map[int64]int{}}
			}
			known[at].heard = append(known[at].heard, heardPosition{k.answer, p.Offset})
		}
	}
	for _, l := range known {
		l.prepare() // each by itself: the order does not matter
	}
	for i := range c.calls {
		k := &c.calls[i]
		if k.kind != KindFetchOffsets || k.outcome != Committed {
			continue
		}
		for _, p := range k.group.Positions {
			at := groupPart{k.group.Name, c.partitions[p.Partition]}
			c.checkFetched(k, at, p.Offset, known[at])
		}
	}
}

func (c *checker) checkFetched(k *call, at groupPart, offset int64, l *positionLog) {
	var none *moved
	if floor := l.before(k.at); offset < floor {
		none.violation(c, at, offset, "", fmt.Sprintf("a position was read that had moved on to %d before", floor))
	}
	if asked, ok := l.asked[offset]; offset >= 0 && (!ok || asked > k.answer) {
		none.violation(c, at, offset, "", "a position was read that nobody had asked for, or that was not committed")
	}
}

// positionLog is what became known of a position, and when.
type positionLog struct {
	heard []heardPosition
	asked map[int64]int // offset to the first event that asked for it
}

type heardPosition struct {
	at     int
	offset int64
}

// prepare sorts what was heard by time and makes it the highest so far.
func (l *positionLog) prepare() {
	slices.SortStableFunc(l.heard, func(a, b heardPosition) int { return cmp.Compare(a.at, b.at) })
	for i := 1; i < len(l.heard); i++ {
		l.heard[i].offset = max(l.heard[i].offset, l.heard[i-1].offset)
	}
}

// before returns the highest position known before an event; -1: none.
func (l *positionLog) before(at int) int64 {
	i, _ := slices.BinarySearchFunc(l.heard, at, func(h heardPosition, at int) int { return cmp.Compare(h.at, at) })
	if i == 0 {
		return -1
	}
	return l.heard[i-1].offset
}
