package history

import (
	"cmp"
	"fmt"
	"slices"
)

// checkFlows checks that every input of a flow was made into exactly one output,
// in the transaction that moved the position past it (I4, I7, I11).
func (c *checker) checkFlows() {
	if c.h.Audit == nil {
		return
	}
	for i := range c.h.Rules.Flows {
		f := &flowCheck{c: c, flow: c.h.Rules.Flows[i], made: make(map[int][]int32)}
		f.limits()
		for _, p := range c.sorted() {
			if c.parts[p].name.Topic == f.flow.From {
				f.made[p] = make([]int32, len(c.parts[p].ref))
			}
		}
		for _, p := range c.sorted() {
			if c.parts[p].name.Topic == f.flow.To && c.parts[p].log != nil {
				for _, s := range c.parts[p].ref {
					f.output(p, s)
				}
			}
		}
		for _, p := range c.sorted() {
			if f.made[p] != nil && c.parts[p].log != nil {
				f.inputs(p)
			}
		}
	}
}

// flowCheck is the check of one flow.
type flowCheck struct {
	c     *checker
	flow  Flow
	made  map[int][]int32 // by input partition: outputs of each visible record
	limit map[int]int64   // by input partition: the group's final position
}

// limits finds the final positions: the audit's, or, if nobody looked, what was
// surely committed.
func (f *flowCheck) limits() {
	f.limit = make(map[int]int64)
	if offsets := f.c.h.Audit.Offsets; offsets != nil {
		for _, g := range offsets {
			if g.Group == f.flow.Group {
				f.limit[f.c.partitions[g.Partition]] = g.Offset
			}
		}
		return
	}
	for i := range f.c.txns {
		for _, m := range f.c.txns[i].moves {
			if f.c.txns[i].outcome == Committed && m.group == f.flow.Group {
				f.limit[m.part] = max(f.limit[m.part], m.move.Next)
			}
		}
	}
}

func (f *flowCheck) violate(i Invariant, anomaly string, p int, offset int64, t *txn, text string) {
	v := Violation{
		Invariant: i, Anomaly: anomaly, Partition: f.c.parts[p].name, Offset: offset,
		Text: fmt.Sprintf("flow of %q from %s to %s: ", f.flow.Group, f.flow.From, f.flow.To) + text,
	}
	if t != nil {
		v.Txn, v.TxID = t.n, t.id
	}
	f.c.violate(v)
}

// output counts one visible output for its input.
func (f *flowCheck) output(p int, s seen) {
	t, r := f.c.find(s.value)
	if t == nil || !r.source.Known {
		return // a phantom, reported elsewhere; or not an output of the flow
	}
	in, ok := f.c.partitions[Partition{f.flow.From, r.source.Partition}]
	if !ok {
		f.violate(CommittedOnly, AnomalyPhantom, p, s.offset, t, fmt.Sprintf("made from %d/%d, which is unknown", r.source.Partition, r.source.Offset))
		return
	}
	input := f.c.parts[in].ref
	at, found := slices.BinarySearchFunc(input, r.source.Offset, func(s seen, offset int64) int { return cmp.Compare(s.offset, offset) })
	switch log := f.c.parts[in].log; {
	case found:
		f.made[in][at]++
	case log == nil || r.source.Offset >= log.Start:
		f.violate(CommittedOnly, AnomalyAbortedRead, p, s.offset, t,
			fmt.Sprintf("made from offset %d of %v, which is not visible", r.source.Offset, f.c.parts[in].name))
	}
	covered := slices.ContainsFunc(t.moves, func(m groupMove) bool {
		return m.group == f.flow.Group && m.part == in && m.move.From <= r.source.Offset && r.source.Offset < m.move.Next
	})
	if !covered {
		f.violate(OffsetsOnce, "", p, s.offset, t,
			fmt.Sprintf("made from offset %d of %v by a transaction that did not move past it", r.source.Offset, f.c.parts[in].name))
	}
}

// inputs judges the counts of one input partition.
func (f *flowCheck) inputs(p int) {
	limit := f.limit[p]
	for i, s := range f.c.parts[p].ref {
		t, _ := f.c.find(s.value)
		switch n := f.made[p][i]; {
		case n > 1:
			f.violate(OffsetsOnce, AnomalyDuplicate, p, s.offset, t, fmt.Sprintf("%d outputs of one input", n))
		case n == 0 && s.offset < limit:
			f.violate(OffsetsOnce, AnomalyLostWrite, p, s.offset, t, fmt.Sprintf("no output of it, and the group is at %d", limit))
		case n == 1 && s.offset >= limit:
			f.violate(Atomic, AnomalyTorn, p, s.offset, t, fmt.Sprintf("an output of it is visible, and the group is at %d", limit))
		case n == 0 && f.flow.Drained:
			f.violate(Live, AnomalyUnseen, p, s.offset, t, fmt.Sprintf("not consumed in the end; the group is at %d", limit))
		}
	}
}

// checkBanks checks that the amounts of each transaction add up to 0: in the final
// logs, and, for every reader, when it has passed all of the transaction (I4). So
// the balance is 0 at every commit point that a reader can see.
func (c *checker) checkBanks() {
	if len(c.h.Rules.Banks) == 0 {
		return
	}
	bank := make([]bool, len(c.parts))
	for i := range c.parts {
		bank[i] = slices.Contains(c.h.Rules.Banks, c.parts[i].name.Topic)
	}
	expected := make([]int, len(c.txns)) // visible records in banks, by transaction
	for i := range c.txns {
		t := &c.txns[i]
		sum, whole := int64(0), true
		for j := range t.records {
			r := &t.records[j]
			log := c.parts[r.part].log
			switch {
			case !bank[r.part] || r.refused && !r.stored:
			case log == nil, r.stored && r.status == StatusVisible:
				expected[i]++
				sum += r.amount
			default:
				// Not visible yet, or removed by retention: nothing can be added up.
				whole = whole && log.Start == 0 && (c.h.Rules.Healed || r.status != StatusOpen || !r.stored)
			}
		}
		if sum != 0 && whole && t.outcome == Committed && !t.plain {
			c.violate(t.about(Atomic, AnomalyBank, "its visible amounts add up to %d", sum))
		}
	}
	c.checkBankReaders(bank, expected)
}

// checkBankReaders adds up what readers were shown, each record once.
func (c *checker) checkBankReaders(bank []bool, expected []int) {
	type account struct {
		reader uint64
		txn    uint64
	}
	type cursor struct {
		reader uint64
		part   int
	}
	type balance struct {
		sum   int64
		count int
	}
	balances := make(map[account]balance)
	passed := make(map[cursor]int64)
	for at := range c.h.Events {
		e := &c.h.Events[at]
		if e.Kind != KindRead || e.Read.Isolation != ReadCommitted || !bank[c.partitions[e.Partition]] {
			continue
		}
		here := cursor{e.Reader, c.partitions[e.Partition]}
		for _, s := range e.Read.Seen {
			t, _ := c.find(s.Value)
			if t == nil || t.plain || t.outcome != Committed || s.Offset < passed[here] {
				continue
			}
			who := account{e.Reader, t.n}
			b := balances[who]
			b.sum += s.Value.Amount
			b.count++
			balances[who], passed[here] = b, s.Offset+1
			if b.count == expected[t.n-1] && b.sum != 0 {
				c.violate(t.about(Atomic, AnomalyBank, "reader %d has passed it, and its amounts add up to %d", e.Reader, b.sum).
					in(e.Partition, s.Offset))
			}
		}
		passed[here] = max(passed[here], e.Read.Next)
	}
}
