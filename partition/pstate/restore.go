package pstate

import (
	"cmp"
	"math"
	"slices"

	"github.com/oncelog/oncelog/api/codec"
)

// Restore replaces the state by that of a snapshot, the configuration
// included. Bytes that are not a snapshot of a state that passes [State.Check]
// are refused and leave the state as it was.
func (s *State) Restore(b []byte) error {
	l := loader{s: New(Config{}), r: codec.NewReader(b)}
	l.version = l.r.Version("shard snapshot", oldestSnapshotVersion, snapshotVersion)
	l.s.cfg = readConfig(l.r).withDefaults()
	l.s.now, l.s.index, l.s.version = l.r.Varint(), l.r.Uvarint(), l.r.Uvarint()
	if l.version >= 3 {
		l.s.written = l.r.Uvarint()
	}
	for range l.r.Count(math.MaxInt) {
		l.partition()
	}
	for _, listed := range []bool{true, false} {
		for range l.r.Count(math.MaxInt) {
			l.producer(listed)
		}
	}
	for range l.r.Count(math.MaxInt) {
		l.openTxn()
	}
	if l.version > 1 {
		for range l.r.Count(math.MaxInt) {
			l.tombstone()
		}
	}
	if err := l.r.Close(); err != nil {
		return err
	}
	l.openStreams()
	if err := l.s.Check(); err != nil {
		return err
	}
	*s = *l.s
	return nil
}

// loader builds a state out of a snapshot. After a failure of its reader it
// reads zeros and goes on; every loop is bounded by the length of the input.
type loader struct {
	s       *State
	r       *codec.Reader
	version byte
	open    []*stream // of open transactions
}

// require fails the reader unless ok holds, and returns whether to go on.
func (l *loader) require(ok bool) bool {
	if !ok {
		l.r.Fail(ErrValue)
	}
	return l.r.Err() == nil
}

func (l *loader) partition() {
	p := newPartition(readInfo(l.r, l.version >= 3, l.version >= 4))
	p.start, p.end, p.bytes = l.r.Uvarint(), l.r.Uvarint(), l.r.Uvarint()
	p.maxTimestamp = l.r.Varint()
	l.segments(p)
	if l.version >= 4 {
		p.gaps, p.rewrites, p.deleted = l.r.Uvarint(), l.r.Uvarint(), l.r.Uvarint()
		for range l.r.Count(maxCleaned) {
			p.cleaned = append(p.cleaned, cleaned{l.r.Uvarint(), l.r.Varint(), l.r.Bool()})
		}
	}
	for range l.r.Count(math.MaxInt) {
		ref := readRef(l.r)
		e := abortedEntry{producer: ref.ProducerID, epoch: ref.Epoch, number: ref.Number}
		e.first, e.end, e.minSeq = l.r.Uvarint(), l.r.Uvarint(), l.r.Uvarint()
		if l.r.Err() != nil {
			return
		}
		p.aborted.add(e)
	}
	if l.require(l.s.partitions[p.info.ID] == nil) {
		l.s.partitions[p.info.ID] = p
		l.s.needs.update(p)
	}
}

// segments reads those of a partition. Before version 3 nothing was ever removed
// from a log: everything is one segment that begins with the log.
func (l *loader) segments(p *partition) {
	if l.version < 3 {
		if p.end > p.start {
			p.segments = []segment{{first: 1, bytes: p.bytes, newest: l.s.now, opened: l.s.now}}
			p.size = p.bytes
		}
		l.s.written += p.bytes
		return
	}
	for range l.r.Count(maxSegments) {
		g := segment{
			base: l.r.Uvarint(), first: l.r.Uvarint(), at: l.r.Uvarint(), bytes: l.r.Uvarint(),
			newest: l.r.Varint(), opened: l.r.Varint(),
		}
		p.segments = append(p.segments, g)
		p.size += g.bytes
	}
}

func (l *loader) producer(listed bool) {
	p := &producer{id: l.r.Uvarint(), settle: readPoint(l.r), fence: readUint32(l.r), seen: l.r.Varint()}
	if !l.require(l.s.producers[p.id] == nil) {
		return
	}
	l.s.producers[p.id] = p
	if p.listed = listed; listed {
		l.s.idle.pushBack(p)
	}
	p.idem = l.streams(p, nil)
	for range l.r.Count(math.MaxInt) {
		t := &txn{prod: p, point: readPoint(l.r), outcome: Outcome(l.r.Byte()), reason: Reason(l.r.Byte())}
		t.openedAt, t.opened = l.r.Uvarint(), l.r.Varint()
		for range l.r.Count(math.MaxInt) {
			t.damage = append(t.damage, Damage{l.r.Uvarint(), l.r.Uvarint(), l.r.Uvarint()})
		}
		t.parts = l.streams(p, t)
		if !l.require(t.outcome <= OutcomeAbort) {
			return
		}
		p.txns = append(p.txns, t)
		if t.outcome == OutcomeNone {
			p.open++
			l.open = append(l.open, t.parts...)
		}
	}
}

func (l *loader) streams(p *producer, t *txn) (out []*stream) {
	for range l.r.Count(math.MaxInt) {
		st := &stream{part: l.s.partitions[l.r.Uvarint()], prod: p, txn: t, epoch: readUint32(l.r)}
		st.next, st.first, st.end = l.r.Uvarint(), l.r.Uvarint(), l.r.Uvarint()
		st.seen = l.r.Varint()
		for range l.r.Count(maxRangesKept) {
			st.ranges = append(st.ranges, span{l.r.Uvarint(), l.r.Uvarint()})
		}
		if !l.require(st.part != nil) {
			return nil
		}
		if t == nil || t.outcome != OutcomeNone {
			st.part.kept.pushBack(st)
		}
		l.s.sequences++
		out = append(out, st)
	}
	return out
}

// openTxn puts one transaction into the order of opening.
func (l *loader) openTxn() {
	ref := readRef(l.r)
	p := l.s.producers[ref.ProducerID]
	if !l.require(p != nil) {
		return
	}
	t := p.txn(ref.Point())
	if l.require(t != nil && t.outcome == OutcomeNone && t.link == (link[txn]{}) && l.s.open.head != t) {
		l.s.open.pushBack(t)
	}
}

func (l *loader) tombstone() {
	id, at := l.r.Uvarint(), l.r.Varint()
	if l.require(!l.s.gone.has(id)) {
		l.s.gone.add(id, at)
	}
}

// openStreams puts the parts of open transactions into the order of their
// first offsets.
func (l *loader) openStreams() {
	slices.SortFunc(l.open, func(a, b *stream) int { return cmp.Compare(a.first, b.first) })
	for _, st := range l.open {
		st.part.open.pushBack(st)
	}
}
