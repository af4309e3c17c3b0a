package pstate

import (
	"errors"
	"maps"
	"math"
	"slices"
	"strconv"
)

// Check verifies the invariants of the state and names the one that is broken
// as section 10 of the protocol does, or the structure that is. It looks at
// everything; tests call it after every command, and a replica after a restore.
func (s *State) Check() error {
	c := checker{s: s}
	for _, id := range slices.Sorted(maps.Keys(s.partitions)) {
		c.partition(id, s.partitions[id])
	}
	open, listed := 0, 0
	for _, id := range slices.Sorted(maps.Keys(s.producers)) {
		p := s.producers[id]
		c.producer(id, p)
		open += p.open
		if p.listed {
			listed++
		}
	}
	c.must(c.streams == s.sequences, "structure: sequence count", uint64(s.sequences))
	c.must(c.linked == c.streams, "structure: sequences in no partition's list", uint64(c.linked))
	c.must(open == s.open.len, "structure: open list and producers disagree", uint64(s.open.len))
	c.must(listed == s.idle.len, "structure: idle list and producers disagree", uint64(s.idle.len))
	c.orders()
	c.tombstones()
	return c.err
}

type checker struct {
	s       *State
	streams int // sequences found at producers
	linked  int // sequences found at partitions
	err     error
}

// must keeps the first broken condition, with the id it is about.
func (c *checker) must(ok bool, what string, id uint64) {
	if !ok && c.err == nil {
		c.err = errors.New("pstate: " + what + " (" + strconv.FormatUint(id, 10) + ")")
	}
}

// orders checks the lists that span the state.
func (c *checker) orders() {
	last, n := uint64(0), 0
	for t := range c.s.open.all() {
		c.must(t.openedAt >= last && t.openedAt <= c.s.index, "I11: open list out of order", t.openedAt)
		c.must(t.outcome == OutcomeNone, "I5: ended transaction in the open list", t.prod.id)
		c.must(t.opened <= c.s.now, "structure: opened in the future", t.prod.id)
		last = t.openedAt
		n++
	}
	c.must(n == c.s.open.len, "structure: length of the open list", uint64(n))
	seen := Millis(0)
	for p := range c.s.idle.all() {
		c.must(c.s.producers[p.id] == p && p.listed, "structure: stranger in the idle list", p.id)
		c.must(p.seen >= seen && p.seen <= c.s.now, "structure: idle list out of order", p.id)
		seen = p.seen
	}
}

// tombstones checks that an id that is gone has left nothing else: its records
// would be shown or hidden a second time.
func (c *checker) tombstones() {
	g, last := &c.s.gone, Millis(0)
	c.must(len(g.since) == len(g.queue), "structure: tombstones and their queue disagree", uint64(len(g.queue)))
	for _, id := range g.queue {
		at, ok := g.since[id]
		c.must(ok, "structure: tombstones and their queue disagree", id)
		c.must(c.s.producers[id] == nil, "I1: producer that is gone", id)
		c.must(at >= last && at <= c.s.now, "structure: tombstones out of order", id)
		last = at
	}
}

func (c *checker) partition(id uint64, p *partition) {
	c.must(p.info.ID == id, "structure: partition under a wrong id", id)
	stable := uint64(p.stable())
	c.must(stable <= p.end, "I8: stable end above the applied end", id)
	c.must(p.start <= stable, "I8: log start above the stable end", id)
	next := uint64(0)
	for st := range p.open.all() {
		c.must(st.first >= next, "I8: open transactions not by first offset", id)
		c.must(st.txn != nil && st.txn.outcome == OutcomeNone, "I3: ended transaction holds the stable end", id)
		c.must(st.part == p, "structure: sequence of another partition", id)
		c.must(c.s.producers[st.prod.id] == st.prod, "structure: sequence of no producer", id)
		next = st.first + 1
		c.linked++
	}
	for st := range p.kept.all() {
		c.must(st.txn == nil || st.txn.outcome == OutcomeCommit, "I1: sequence of an aborted transaction", id)
		c.must(st.part == p, "structure: sequence of another partition", id)
		c.must(c.s.producers[st.prod.id] == st.prod, "structure: sequence of no producer", id)
		c.linked++
	}
	c.segments(id, p)
	c.aborted(id, p)
	c.compaction(id, p)
}

// compaction checks that nothing was compacted whose fate is open, and that what is
// known of it is in order.
func (c *checker) compaction(id uint64, p *partition) {
	c.must(p.gaps <= uint64(p.stable()), "I3: gaps above the stable end", id)
	c.must(len(p.cleaned) <= maxCleaned, "structure: too many compactions are told apart", id)
	c.must(p.deleted <= p.compacted(), "I3: tombstones are gone above what was compacted", id)
	end, at := uint64(0), Millis(math.MinInt64)
	for _, k := range p.cleaned {
		c.must(k.end > end && k.end <= uint64(p.stable()), "I3: compacted above the stable end", id)
		c.must(k.at >= at && k.at <= c.s.now, "structure: compactions out of order", id)
		end, at = k.end, k.at
	}
}

// segments checks that they cover what is kept, and nothing else.
func (c *checker) segments(id uint64, p *partition) {
	c.must(len(p.segments) <= maxSegments, "structure: too many segments", id)
	c.must(len(p.segments) == 0 == (p.start == p.end), "I2: records without a segment, or the other way around", id)
	size, base := uint64(0), uint64(0)
	for i, g := range p.segments {
		c.must(g.base < p.segmentEnd(i) && (i == 0 || g.base > base), "structure: segments out of order", id)
		c.must(g.first > 0 && g.first <= c.s.index && g.at <= c.s.written, "I2: log index of a segment", id)
		c.must(c.s.Needed() <= g.first, "I2: records below what is needed of the log", id)
		c.must(g.newest <= c.s.now && g.opened <= c.s.now, "structure: segment from the future", id)
		size, base = size+g.bytes, g.base
	}
	c.must(size == p.size && (size <= p.bytes || p.rewrites > 0), "structure: bytes of the segments", id)
	if len(p.segments) > 0 {
		c.must(p.segments[0].base <= p.start && p.start < p.segmentEnd(0), "I2: log start outside of the first segment", id)
		c.must(p.needed == p.lowest(), "structure: lowest log index of a partition", id)
		c.must(p.place < len(c.s.needs.byFirst) && c.s.needs.byFirst[p.place] == p, "structure: partition in no place", id)
	}
}

func (c *checker) aborted(id uint64, p *partition) {
	n := 0
	var last *abortedEntry
	for e := range p.aborted.all() {
		c.must(e.first < e.end && e.end <= p.end, "I3: hidden range outside of the partition", id)
		c.must(e.end > p.start, "structure: hidden range below the log start", id)
		c.must(e.number > 0, "I2: hidden range of no transaction", id)
		if last != nil {
			c.must(last.compare(e.ref(), e.first) < 0, "structure: aborted index out of order", id)
			c.must(last.ref() != e.ref() || last.end <= e.first, "I3: hidden ranges of one transaction overlap", id)
		}
		last = e
		n++
	}
	c.must(n == p.aborted.len, "structure: length of the aborted index", id)
	for _, in := range p.aborted.chunks {
		c.must(len(in) > 0 && len(in) <= maxChunk, "structure: size of a chunk", id)
	}
}

func (c *checker) producer(id uint64, p *producer) {
	c.must(p.id == id, "structure: producer under a wrong id", id)
	c.must(!p.empty(), "structure: producer of which nothing is left", id)
	c.must(p.listed || p.open == 0 && len(p.idem) == 0, "structure: producer that cannot expire", id)
	c.sequences(p.idem, id)
	for _, st := range p.idem {
		c.must(st.txn == nil && st.prod == p, "structure: sequence of another producer", id)
	}
	open := 0
	for i, t := range p.txns {
		c.must(t.prod == p && t.point.Number > 0, "structure: transaction of another producer", id)
		c.must(i == 0 || p.txns[i-1].point.Compare(t.point) < 0, "I5: transaction twice", id)
		c.sequences(t.parts, id)
		for _, st := range t.parts {
			c.must(st.txn == t && st.prod == p && st.epoch == 0, "structure: sequence of another transaction", id)
		}
		switch t.outcome {
		case OutcomeNone:
			open++
			c.must(len(t.parts) > 0, "I11: open transaction without a partition", id)
			c.must(len(t.damage) == 0, "structure: damage before the end", id)
		case OutcomeCommit, OutcomeAbort:
			c.must(t.point.Compare(p.settle) <= 0, "I1: ended transaction above the floor", id)
			c.must(t.outcome == OutcomeCommit || len(t.parts) == 0, "I1: sequence of an aborted transaction", id)
			c.must(t.outcome == OutcomeCommit || len(t.damage) == 0, "structure: damage of an abort", id)
			c.must(p.listed || len(t.parts) == 0, "structure: producer that cannot expire", id)
		}
	}
	c.must(open == p.open, "structure: open transactions of a producer", id)
}

// sequences checks the sequences of one transaction or idempotent producer.
func (c *checker) sequences(in []*stream, producer uint64) {
	for i, st := range in {
		c.streams++
		c.must(c.s.partitions[st.part.info.ID] == st.part, "structure: sequence in a removed partition", producer)
		c.must(i == 0 || in[i-1].part.info.ID < st.part.info.ID, "structure: sequences out of order", producer)
		c.must(st.next > 0 && st.first < st.end && st.end <= st.part.end, "I1: sequence outside of the partition", producer)
		c.must(st.next <= st.end-st.first || st.txn == nil, "I1: more sequences than offsets", producer)
		c.must(len(st.ranges) <= maxRangesKept, "structure: too many ranges", producer)
		c.must(st.seen <= c.s.now, "structure: seen in the future", producer)
		at := st.first
		for j, r := range st.ranges {
			end := st.rangeEnd(j)
			c.must(r.seq < end && r.offset >= at && r.offset+(end-r.seq) <= st.end, "I1: ranges not dense", producer)
			at = r.offset + (end - r.seq)
		}
	}
}
