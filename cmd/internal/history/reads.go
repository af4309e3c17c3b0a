package history

import (
	"fmt"
	"slices"
	"sort"
)

// buildReferences finds what read_committed shows of each partition: the visible
// records of the final log, and, where there is none or retention has removed
// them, whatever readers were shown, which then has to be the same for all. A
// record that was shown counts as stored: one record of a transaction that is
// visible proves that it was committed.
func (c *checker) buildReferences() {
	for i := range c.parts {
		log := c.parts[i].log
		if log == nil {
			continue
		}
		for j := range log.Records {
			if l := &log.Records[j]; l.Status == StatusVisible {
				c.parts[i].ref = append(c.parts[i].ref, seen{l.Offset, l.Value})
			}
		}
	}
	shown := make([][]seen, len(c.parts))
	for at := range c.h.Events {
		e := &c.h.Events[at]
		if e.Kind != KindRead || e.Read.Isolation != ReadCommitted {
			continue
		}
		p := c.partitions[e.Partition]
		log := c.parts[p].log
		for _, s := range e.Read.Seen {
			if log == nil || s.Offset < log.Start || c.parts[p].newest != nil {
				shown[p] = append(shown[p], seen{s.Offset, s.Value})
			}
		}
	}
	for i, s := range shown {
		slices.SortStableFunc(s, func(a, b seen) int { return compareOffsets(a.offset, b.offset) })
		s = slices.CompactFunc(s, func(a, b seen) bool { return a.offset == b.offset })
		if c.parts[i].newest != nil {
			c.parts[i].ref = c.compactedReference(&c.parts[i], s)
			continue
		}
		c.parts[i].ref = append(s, c.parts[i].ref...)
		for _, x := range s {
			if t, r := c.find(x.value); t != nil && r.part == i && !r.stored {
				r.stored, r.offset, r.status = true, x.offset, StatusVisible
				t.visible++
			}
		}
	}
}

// compactedReference puts what was shown of a partition that is compacted together
// with what its log has. What was shown and has gone has a newer record of its key.
func (c *checker) compactedReference(p *part, shown []seen) []seen {
	ref := slices.Clone(p.ref)
	for _, x := range shown {
		_, there := slices.BinarySearchFunc(p.ref, x.offset, func(l seen, offset int64) int { return compareOffsets(l.offset, offset) })
		if there {
			continue // compared with each run
		}
		ref = append(ref, x)
		if t, r := c.find(x.value); t != nil && c.parts[r.part].name == p.name && !r.stored {
			t.visible++ // which proves that it was committed
		}
		if x.offset >= p.log.Start && !p.superseded(x.value, x.offset) {
			c.violate(Violation{
				Invariant: Durable, Anomaly: AnomalyLostWrite, Txn: x.value.Txn,
				Text: fmt.Sprintf("record %d was shown and is gone, without a newer one of its key", x.value.Index),
			}.in(p.name, x.offset))
		}
	}
	slices.SortFunc(ref, func(a, b seen) int { return compareOffsets(a.offset, b.offset) })
	return ref
}

// compactedAway reports whether a record of the reference may have gone before a run.
func (p *part) compactedAway(s seen) bool {
	if p.newest == nil {
		return false
	}
	_, there := slices.BinarySearchFunc(p.log.Records, s.offset, func(l LogRecord, offset int64) int { return compareOffsets(l.Offset, offset) })
	return !there
}

// checkReads compares what every reader was shown with the final logs (I1, I2, I3,
// I8), and the runs of each reader with one another.
func (c *checker) checkReads() {
	type cursor struct {
		reader uint64
		part   int
	}
	positions := make(map[cursor]int64)
	for at := range c.h.Events {
		e := &c.h.Events[at]
		if e.Kind != KindPosition && e.Kind != KindRead {
			continue
		}
		p := c.partitions[e.Partition]
		here := cursor{e.Reader, p}
		if e.Kind == KindPosition {
			positions[here] = e.Offset
			continue
		}
		if expected, ok := positions[here]; ok && e.Read.From != expected {
			c.checkJump(e, expected)
		}
		positions[here] = e.Read.Next
		c.report.Stats.Reads++
		c.report.Stats.ReadRecords += len(e.Read.Seen)
		r := &readCheck{c: c, e: e, at: at, part: p}
		r.inside()
		r.compare()
	}
}

// checkJump reports a run that does not begin where the last one ended. That
// nothing lies between is no excuse: the SDK tells positions exactly.
func (c *checker) checkJump(e *Event, expected int64) {
	v := Violation{
		Invariant: Readable, Anomaly: AnomalyPollSkip, Partition: e.Partition, Offset: e.Read.From, Txn: e.Txn,
		Text: fmt.Sprintf("reader %d stood at %d and goes on here", e.Reader, expected),
	}
	if e.Read.From < expected {
		v.Invariant, v.Anomaly = ExactlyOnce, AnomalyNonmonotonicPoll
	}
	c.violate(v)
}

// readCheck is the check of one run.
type readCheck struct {
	c    *checker
	e    *Event
	at   int
	part int
}

func (r *readCheck) violate(i Invariant, anomaly string, s Seen, format string, args ...any) {
	v := Violation{
		Invariant: i, Anomaly: anomaly, Partition: r.e.Partition, Offset: s.Offset, Txn: s.Value.Txn,
		Text: fmt.Sprintf("reader %d (%v): ", r.e.Reader, r.e.Read.Isolation) + fmt.Sprintf(format, args...),
	}
	if s.Value.Txn > 0 && s.Value.Txn <= uint64(len(r.c.txns)) {
		v.TxID = r.c.txns[s.Value.Txn-1].id
	}
	r.c.violate(v)
}

// inside looks at each record of the run by itself.
func (r *readCheck) inside() {
	read := r.e.Read
	log := r.c.parts[r.part].log
	last := read.From - 1
	for _, s := range read.Seen {
		if s.Offset <= last || s.Offset >= read.Next {
			r.violate(ExactlyOnce, AnomalyNonmonotonicPoll, s, "shown after offset %d, in a run that ends at %d", last, read.Next)
		}
		last = s.Offset
		t, sent := r.c.find(s.Value)
		if t == nil || sent.part != r.part || sent.sentAt > r.at {
			r.violate(CommittedOnly, AnomalyPhantom, s, "nobody had sent %+v here", s.Value)
			continue
		}
		if read.Isolation == ReadCommitted {
			r.committed(t, s)
		}
	}
	if read.Isolation == ReadCommitted && log != nil && read.Next > log.Stable {
		r.violate(Stable, "", Seen{Offset: read.Next}, "moved past the final LSO %d", log.Stable)
	}
}

// committed checks that a record may be shown to read_committed at this time.
func (r *readCheck) committed(t *txn, s Seen) {
	switch {
	case t.plain:
	case t.outcome != Committed:
		r.violate(CommittedOnly, AnomalyAbortedRead, s, "shown, but %s", t.whyNot())
	case t.commitAt < 0 || t.commitAt > r.at:
		r.violate(CommittedOnly, AnomalyPrecommitted, s, "shown before anybody asked to commit it")
	}
}

// compare looks for what was left out of the run, and for what is not in the final
// log.
func (r *readCheck) compare() {
	p := &r.c.parts[r.part]
	if r.e.Read.Isolation == ReadCommitted {
		r.merge(len(p.ref), func(i int) seen { return p.ref[i] })
		return
	}
	if p.log != nil {
		r.merge(len(p.log.Records), func(i int) seen { return seen{p.log.Records[i].Offset, p.log.Records[i].Value} })
	}
}

// merge walks over the run and the n reference records at once.
func (r *readCheck) merge(n int, reference func(int) seen) {
	read := r.e.Read
	start := int64(0)
	if log := r.c.parts[r.part].log; log != nil && read.Isolation == ReadUncommitted {
		start = log.Start // below it there is nothing to compare with
	}
	i := sort.Search(n, func(i int) bool { return reference(i).offset >= read.From })
	for _, s := range read.Seen {
		for ; i < n && reference(i).offset < s.Offset; i++ {
			r.missing(reference(i))
		}
		switch {
		case s.Offset < start:
		case i == n || reference(i).offset != s.Offset:
			r.extra(s)
		case reference(i).value != s.Value:
			r.violate(Readable, AnomalyOffsets, s, "shown here, where the log has record %d of txn %d",
				reference(i).value.Index, reference(i).value.Txn)
			i++
		default:
			i++
		}
	}
	for ; i < n && reference(i).offset < read.Next; i++ {
		r.missing(reference(i))
	}
}

func (r *readCheck) missing(s seen) {
	if r.c.parts[r.part].compactedAway(s) {
		return
	}
	r.violate(Readable, AnomalyLostWrite, Seen{s.offset, s.value}, "record %d is in the log, and was not shown in the run from %d to %d",
		s.value.Index, r.e.Read.From, r.e.Read.Next)
}

// extra reports a record that was shown and is not in the log there, unless it was
// reported for a better reason.
func (r *readCheck) extra(s Seen) {
	t, sent := r.c.find(s.Value)
	switch {
	case t == nil || !t.plain && t.outcome != Committed && r.e.Read.Isolation == ReadCommitted:
	case r.c.parts[r.part].compactedAway(seen{s.Offset, s.Value}) && r.e.Read.Isolation == ReadUncommitted:
		// Aborted since, or there is a newer one.
	case sent.stored && sent.offset == s.Offset && sent.status == StatusVisible: // in the wrong order
	case sent.stored && sent.offset != s.Offset:
		r.violate(Readable, AnomalyOffsets, s, "shown here, and the log has it at offset %d", sent.offset)
	default:
		r.violate(Durable, AnomalyLostWrite, s, "record %d was shown, and is %s in the final log", s.Value.Index, sent.state())
	}
}
