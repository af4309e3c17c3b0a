package history

import (
	"fmt"
	"slices"
)

// readLogs notes for each record that was sent where the final logs have it. If
// there are several copies, the visible one counts.
func (c *checker) readLogs() {
	for i := range c.parts {
		log := c.parts[i].log
		if log == nil {
			continue
		}
		c.parts[i].readKeys(c.h.Rules.Compacted)
		for j := range log.Records {
			l := &log.Records[j]
			t, r := c.find(l.Value)
			if t == nil || r.part != i || r.stored && (r.status == StatusVisible || l.Status != StatusVisible) {
				continue
			}
			if r.stored {
				t.countStatus(r.status, -1)
			}
			r.stored, r.offset, r.status = true, l.Offset, l.Status
			t.countStatus(l.Status, 1)
		}
	}
}

func (t *txn) countStatus(s Status, n int) {
	switch s {
	case StatusVisible:
		t.visible += n
	case StatusHidden:
		t.hidden += n
	default:
		t.open += n
	}
}

// checkLogs looks at the final logs by themselves: offsets, sequences, order,
// copies, and that they hold nothing that nobody sent (I1, I3, I8, I11).
func (c *checker) checkLogs() {
	for _, i := range c.sorted() {
		p := &c.parts[i]
		if p.log == nil {
			continue
		}
		c.checkBounds(p)
		s := logScan{
			c: c, p: p, index: i, sequences: make(map[TxID]int64), open: make(map[TxID]bool),
			stored: make(map[ValueID]int64), epochs: make(map[uint64]uint32),
		}
		for j := range p.log.Records {
			s.record(&p.log.Records[j], j)
		}
		c.report.Stats.Records += len(p.log.Records)
	}
}

func (c *checker) checkBounds(p *part) {
	l := p.log
	if l.Start < 0 || l.Stable < l.Start || l.End < l.Stable {
		c.violate(Violation{
			Invariant: Stable, Partition: p.name, Offset: l.Stable,
			Text: fmt.Sprintf("the LSO is not between start %d and end %d", l.Start, l.End),
		})
	}
	if c.h.Rules.Healed && l.Stable < l.End {
		c.violate(Violation{
			Invariant: Live, Partition: p.name, Offset: l.Stable,
			Text: fmt.Sprintf("the LSO stays below the end %d", l.End),
		})
	}
}

// logScan goes over one log.
type logScan struct {
	c         *checker
	p         *part
	index     int
	sequences map[TxID]int64    // last sequence
	open      map[TxID]bool     // undecided transactions that were reported
	stored    map[ValueID]int64 // offset, of all records
	epochs    map[uint64]uint32 // by producer: the newest so far
}

func (s *logScan) record(l *LogRecord, j int) {
	log := s.p.log
	if j > 0 && l.Offset <= log.Records[j-1].Offset || l.Offset < log.Start || l.Offset >= log.End {
		text := fmt.Sprintf("a record outside of [%d, %d), or not after the one before it", log.Start, log.End)
		if j > 0 && l.Offset == log.Records[j-1].Offset {
			text = "two records at one offset"
		}
		s.violate(Violation{Invariant: Readable, Anomaly: AnomalyOffsets, Text: text}, l)
	}
	s.sequence(l)
	t, r := s.c.find(l.Value)
	if t == nil || r.part != s.index {
		s.violate(Violation{Invariant: CommittedOnly, Anomaly: AnomalyPhantom, Text: fmt.Sprintf("nobody sent %+v here", l.Value)}, l)
		return
	}
	s.identity(t, l)
	s.luck(l)
	switch l.Status {
	case StatusOpen:
		if s.c.h.Rules.Healed && !s.open[l.TxID] {
			s.open[l.TxID] = true
			s.violate(Violation{Invariant: Live, Text: "its transaction is still undecided in the shard"}, l)
		}
	case StatusVisible:
		s.c.report.Stats.Visible++
		s.visible(t, r, l)
	case StatusHidden:
		if t.plain {
			s.violate(t.about(Readable, AnomalyLostWrite, "a record outside of any transaction is hidden"), l)
		}
	}
}

// luck checks that a record is stored once, visible or not, and that none comes
// after one of a newer epoch of its producer (I1, I6). A shard that lets these in
// is lucky if a marker hides them later.
func (s *logScan) luck(l *LogRecord) {
	if at, twice := s.stored[l.Value.ValueID]; twice && l.Status != StatusVisible {
		s.violate(Violation{Invariant: ExactlyOnce, Anomaly: AnomalyDuplicate, Text: fmt.Sprintf("stored before, at offset %d", at)}, l)
	}
	s.stored[l.Value.ValueID] = l.Offset
	if l.TxID.IsZero() {
		return
	}
	newest := s.epochs[l.TxID.Producer]
	if l.TxID.Epoch < newest {
		s.violate(Violation{Invariant: FencedOff, Text: fmt.Sprintf("stored after a record of epoch %d", newest)}, l)
	}
	s.epochs[l.TxID.Producer] = max(newest, l.TxID.Epoch)
}

// violate reports a violation at a record.
func (s *logScan) violate(v Violation, l *LogRecord) {
	if v.Txn == 0 {
		v.Txn, v.TxID = l.Value.Txn, l.TxID
	}
	s.c.violate(v.in(s.p.name, l.Offset))
}

// identity compares who stored the record with who sent it.
func (s *logScan) identity(t *txn, l *LogRecord) {
	switch {
	case l.TxID.IsZero():
	case !t.plain:
		if l.TxID != t.id {
			s.violate(t.about(CommittedOnly, "", "stored as a record of %v", l.TxID), l)
		}
	case l.TxID.Number != 0 || t.id.Producer != 0 && t.id.Producer != l.TxID.Producer:
		s.violate(t.about(CommittedOnly, "", "a record outside of any transaction is stored as one of %v", l.TxID), l)
	default:
		t.id.Producer = l.TxID.Producer // the SDK does not tell it
	}
}

// sequence checks that those of a transaction, or idempotent producer, are dense.
func (s *logScan) sequence(l *LogRecord) {
	if l.Sequence < 0 || l.TxID.IsZero() {
		return
	}
	last, ok := s.sequences[l.TxID]
	switch {
	case ok && l.Sequence <= last:
		s.violate(Violation{Invariant: ExactlyOnce, Anomaly: AnomalyDuplicate, Text: fmt.Sprintf("sequence %d after %d", l.Sequence, last)}, l)
		return
	case ok && l.Sequence != last+1, !ok && l.Sequence != 0 && s.p.log.Start == 0:
		s.violate(Violation{Invariant: ExactlyOnce, Text: fmt.Sprintf("a gap before sequence %d", l.Sequence)}, l)
	}
	s.sequences[l.TxID] = l.Sequence
}

func (s *logScan) visible(t *txn, r *record, l *LogRecord) {
	if r.counted {
		s.violate(t.about(ExactlyOnce, AnomalyDuplicate, "record %d is visible twice", l.Value.Index), l)
		return
	}
	r.counted = true
	if t.scanned == s.index+1 && l.Value.Index < t.lastIndex {
		s.violate(t.about(ExactlyOnce, AnomalyInternalSend, "record %d comes after record %d, which was sent later", l.Value.Index, t.lastIndex), l)
	}
	t.scanned, t.lastIndex = s.index+1, l.Value.Index
}

// checkRecords compares each record that was sent with the final logs (I2, I3, I4,
// I12).
func (c *checker) checkRecords() {
	if c.h.Audit == nil {
		return
	}
	for i := range c.txns {
		t := &c.txns[i]
		for j := range t.records {
			r := &t.records[j]
			p := &c.parts[r.part]
			if p.log == nil || r.ack >= 0 && r.ack < p.log.Start {
				continue // nobody looked, or retention has removed it
			}
			c.checkAck(t, r, p)
			if !r.stored && p.superseded(Value{ValueID: ValueID{t.n, uint32(j)}}, r.ack) {
				continue
			}
			switch {
			case t.plain:
				if r.ackAt >= 0 && !r.stored && !p.gone(r) {
					c.violate(t.about(Durable, AnomalyLostWrite, "acknowledged record %d is not in the log", j).in(p.name, r.ack))
				}
			case t.outcome == Committed:
				c.checkCommitted(t, j, r, p)
			case r.stored && r.status == StatusVisible:
				c.violate(t.about(CommittedOnly, AnomalyAbortedRead, "record %d is visible, but %s", j, t.whyNot()).in(p.name, r.offset))
			}
		}
		c.checkTorn(t)
	}
}

// readKeys finds the newest visible record of each key, if the topic is compacted.
func (p *part) readKeys(compacted map[string]int) {
	if p.keys = compacted[p.name.Topic]; p.keys == 0 {
		return
	}
	p.newest = map[string]int64{}
	for _, l := range p.log.Records {
		if l.Status == StatusVisible {
			p.newest[string(l.Value.Key(p.keys))] = l.Offset
		}
	}
}

// superseded reports whether compaction may have removed a record at an offset, or,
// below 0, at one that nobody was told: the log has a newer one of its key.
func (p *part) superseded(v Value, offset int64) bool {
	if p.newest == nil {
		return false
	}
	at, ok := p.newest[string(v.Key(p.keys))]
	return ok && at > offset
}

// gone reports whether retention may have removed a record that nobody has: it
// was below the log start, or may have been. Where nobody was told its offset, that
// is above every one that had been acknowledged when it was sent.
func (p *part) gone(r *record) bool {
	switch {
	case r.stored || p.log.Start == 0:
		return false
	case r.ack >= 0:
		return r.ack < p.log.Start
	default:
		return r.floor+1 < p.log.Start
	}
}

// whyNot tells why a transaction's records must not be visible.
func (t *txn) whyNot() string {
	if t.because != "" {
		return t.because
	}
	return "nothing tells that it was committed"
}

// checkAck checks that a record is where it was acknowledged, whatever became of
// its transaction, and that nothing else is there.
func (c *checker) checkAck(t *txn, r *record, p *part) {
	if r.ack < 0 {
		return
	}
	if r.stored && r.offset != r.ack {
		c.violate(t.about(Readable, AnomalyOffsets, "acknowledged at offset %d, stored at another", r.ack).in(p.name, r.offset))
		return
	}
	at, ok := slices.BinarySearchFunc(p.log.Records, r.ack, func(l LogRecord, offset int64) int { return compareOffsets(l.Offset, offset) })
	if !r.stored && ok {
		c.violate(t.about(Readable, AnomalyOffsets, "acknowledged here, where record %d of txn %d is",
			p.log.Records[at].Value.Index, p.log.Records[at].Value.Txn).in(p.name, r.ack))
	}
	if r.ack >= p.log.End {
		c.violate(t.about(Durable, AnomalyLostWrite, "acknowledged above the end %d", p.log.End).in(p.name, r.ack))
	}
}

func compareOffsets(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (c *checker) checkCommitted(t *txn, j int, r *record, p *part) {
	switch {
	case r.refused && r.stored && r.status == StatusVisible:
		c.violate(t.about(CommittedOnly, "", "record %d was refused, and is visible", j).in(p.name, r.offset))
	case r.refused || p.gone(r):
	case r.ackAt >= 0 && (!r.stored || r.status == StatusHidden):
		c.violate(t.about(Readable, AnomalyLostWrite, "acknowledged record %d of a committed transaction cannot be read: it is %s",
			j, r.state()).in(p.name, r.ack))
	case r.stored && r.status == StatusVisible && r.offset >= p.log.Stable && r.ackAt >= 0 && c.h.Rules.Healed:
		c.violate(t.about(Live, AnomalyUnseen, "record %d is committed, and above the LSO %d", j, p.log.Stable).in(p.name, r.offset))
	}
}

// state says what the final log has of a record.
func (r *record) state() string {
	if !r.stored {
		return "missing"
	}
	return r.status.String()
}

// checkTorn: of a committed transaction everything is visible.
func (c *checker) checkTorn(t *txn) {
	if t.plain || t.outcome != Committed {
		return
	}
	for j := range t.records {
		r := &t.records[j]
		p := &c.parts[r.part]
		undecided := r.stored && r.status == StatusOpen && !c.h.Rules.Healed
		if r.refused || undecided || p.log == nil || p.gone(r) || r.stored && r.status == StatusVisible {
			continue
		}
		if !r.stored && p.superseded(Value{ValueID: ValueID{t.n, uint32(j)}}, r.ack) {
			continue
		}
		c.violate(t.about(Atomic, AnomalyTorn, "%s, but record %d is %s, and %d of its %d are visible",
			t.because, j, r.state(), t.visible, len(t.records)).in(p.name, r.ack))
		return
	}
}
