package history

import (
	"fmt"
	"slices"
)

// resolve finds out how every transaction ended: from the coordinator's final
// word, from the logs, from what clients were told, and, for transactions that
// moved positions only, from where the positions are.
func (c *checker) resolve() {
	c.readLogs()
	c.buildReferences()
	for i := range c.txns {
		if t := &c.txns[i]; !t.plain {
			c.resolveTxn(t)
		}
	}
	c.resolveByOffsets()
}

// resolveTxn decides what is held for true. The order of the sources matters
// only when they contradict each other, which is a violation of its own.
func (c *checker) resolveTxn(t *txn) {
	told := c.told(t)
	switch o := c.decided[t.id]; {
	case o == Committed:
		t.outcome, t.because = Committed, "the coordinator has committed it"
	case o == Aborted:
		t.outcome, t.because = Aborted, "the coordinator has aborted it"
	case t.visible > 0 && t.commitAt >= 0 && !told.outcome.never():
		t.outcome, t.because = Committed, "its records are visible"
	case told.outcome == Committed:
		t.outcome, t.because = Committed, told.who+" was committed"
	case told.outcome.never():
		t.outcome, t.because = Aborted, fmt.Sprintf("%s was %v", told.who, told.outcome)
	case t.commitAt < 0:
		t.outcome, t.because = Aborted, "nobody has asked to commit it"
	case c.nothingVisible(t):
		t.outcome, t.because = Aborted, "none of its records is visible"
	}
	t.resolved = t.outcome != Unknown && told.outcome == Unknown && t.commitAt >= 0
}

// told returns the first answer about a transaction that decides what became of
// it.
func (c *checker) told(t *txn) answer {
	for _, a := range c.answers[t.id] {
		if a.outcome == Committed || a.outcome.never() {
			return a
		}
	}
	return answer{}
}

// nothingVisible reports whether the logs show that a transaction was not
// committed: it has sent records, and none of them is visible, open, or removed
// by retention or compaction.
func (c *checker) nothingVisible(t *txn) bool {
	if t.visible > 0 || t.open > 0 {
		return false
	}
	sent := 0
	for i := range t.records {
		r := &t.records[i]
		if log := c.parts[r.part].log; log == nil || log.Start > 0 || c.parts[r.part].newest != nil {
			return false
		}
		if !r.refused {
			sent++
		}
	}
	return sent > 0
}

// position names a group's position in a partition.
type position struct {
	group  string
	part   int
	offset int64
}

// resolveByOffsets resolves transactions that nothing else tells about: if the
// next consumer began where such a transaction would have left the position, or
// it is there at the end, and nobody else can have moved it there, it was
// committed.
func (c *checker) resolveByOffsets() {
	reached := make(map[position]bool) // some known move begins here, or the group ends here
	if c.h.Audit != nil {
		for _, g := range c.h.Audit.Offsets {
			reached[position{g.Group, c.partitions[g.Partition], g.Offset}] = true
		}
	}
	other := make(map[position]int) // moves that may have led here
	for i := range c.calls {
		if k := &c.calls[i]; k.kind == KindCommitOffsets {
			for _, m := range k.group.Moves {
				p := c.partitions[m.Partition]
				reached[position{k.group.Name, p, m.From}] = reached[position{k.group.Name, p, m.From}] || k.outcome == Committed
				other[position{k.group.Name, p, m.Next}]++
			}
		}
	}
	for i := range c.txns {
		for _, m := range c.txns[i].moves {
			if c.txns[i].outcome == Committed {
				reached[m.from()] = true
			}
			if !c.txns[i].never() {
				other[m.next()]++
			}
		}
	}
	// Backwards, because what a transaction read is reached by those before it.
	for i := len(c.txns) - 1; i >= 0; i-- {
		t := &c.txns[i]
		if t.outcome != Unknown || t.plain {
			continue
		}
		for _, m := range t.moves {
			if m.move.Next > m.move.From && reached[m.next()] && other[m.next()] == 1 {
				t.outcome, t.because, t.resolved = Committed, "the group's position has passed it", true
			}
		}
		if t.outcome == Committed {
			for _, m := range t.moves {
				reached[m.from()] = true
			}
		}
	}
}

func (m groupMove) from() position { return position{m.group, m.part, m.move.From} }
func (m groupMove) next() position { return position{m.group, m.part, m.move.Next} }

// checkOutcomes compares what was said about each transaction with the truth and
// with each other (I5, I13), and looks for commits of epochs that were fenced (I6).
func (c *checker) checkOutcomes() {
	for i := range c.txns {
		t := &c.txns[i]
		if t.plain || t.empty() {
			continue
		}
		c.checkTold(t)
		if t.visible > 0 && c.decided[t.id] == Aborted || t.outcome == Committed && t.hidden > 0 && t.visible == 0 {
			c.violate(t.about(OneOutcome, "", "shards and coordinator disagree: %s, and %d records are visible, %d hidden",
				t.because, t.visible, t.hidden))
		}
		if c.h.Rules.Healed && t.visible+t.hidden+t.open > 0 && c.decided[t.id] == Open {
			c.violate(t.about(Live, "", "it is still undecided at the coordinator"))
		}
	}
	c.checkFences()
}

func (c *checker) checkTold(t *txn) {
	var first answer
	for _, a := range c.answers[t.id] {
		decisive := a.outcome == Committed || a.outcome.never()
		switch {
		case !decisive:
			continue
		case first.outcome == Unknown:
			first = a
		case (a.outcome == Committed) != (first.outcome == Committed):
			c.violate(t.about(OneOutcome, "", "%s was %v, and later %s was %v", first.who, first.outcome, a.who, a.outcome))
		}
		switch {
		case a.outcome == Committed && t.never(), a.outcome.never() && t.outcome == Committed:
			c.violate(t.about(Truthful, "", "%s was %v, but %s", a.who, a.outcome, t.because))
		case a.outcome.never() && t.visible > 0:
			c.violate(t.about(Truthful, "", "%s was %v, but %d records are visible", a.who, a.outcome, t.visible))
		}
	}
}

// checkFences: a commit that was first asked for after a newer epoch had been
// handed out cannot succeed.
func (c *checker) checkFences() {
	type raise struct {
		at    int
		epoch uint32
	}
	raises := make(map[uint64][]raise) // by producer, in the order of events, epochs rising
	for at := range c.h.Events {
		e := &c.h.Events[at]
		if e.Kind != KindAnswer || e.Outcome != Committed {
			continue
		}
		if k := c.calls[e.Call-1].kind; k != KindInit && k != KindFence {
			continue
		}
		s := raises[e.TxID.Producer]
		if len(s) == 0 || s[len(s)-1].epoch < e.TxID.Epoch {
			raises[e.TxID.Producer] = append(s, raise{at, e.TxID.Epoch})
		}
	}
	for i := range c.txns {
		t := &c.txns[i]
		if t.plain || t.outcome != Committed || t.commitAt < 0 || t.empty() {
			continue
		}
		newer := raises[t.id.Producer]
		next, _ := slices.BinarySearchFunc(newer, t.id.Epoch, func(r raise, epoch uint32) int {
			if r.epoch <= epoch {
				return -1
			}
			return 1
		})
		if next < len(newer) && newer[next].at < t.commitAt {
			c.violate(t.about(FencedOff, "", "committed, although epoch %d had been handed out before anybody asked for that",
				newer[next].epoch))
		}
	}
}
