package txn

import (
	"cmp"
	"slices"

	"github.com/oncelog/oncelog/api/codec"
)

// snapshotVersion is the newest version of a snapshot, which is its first byte; see
// commandVersion. A state without prepared transactions is written in version 1, which
// every program reads: version 2 has them, and is written only once a cluster takes
// commands that prepare.
const snapshotVersion = 2

// plain is the version without.
const plain = 1

// Limits of what a snapshot may hold; wider than any configuration.
const (
	snapshotIDs          = 1 << 31
	snapshotHistory      = 1 << 10
	snapshotUnfinished   = 1 << 12
	snapshotParticipants = 2 * MaxItems // an abort takes named and enlisted

	// minProducerBytes is less than any id takes.
	minProducerBytes = 16
)

// CorruptError reports a snapshot that no machine wrote, or a machine that broke
// one of its own rules.
type CorruptError struct {
	// Rule is what does not hold, in plain words.
	Rule string
	// ProducerID is the id it does not hold for, or 0.
	ProducerID uint64
	// Cause is a failure of the decoder, or nil.
	Cause error
}

// Error implements error.
func (e *CorruptError) Error() string {
	s := "txn: " + e.Rule
	if e.ProducerID != 0 {
		s += " (producer id " + decimal(e.ProducerID) + ")"
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *CorruptError) Unwrap() error { return e.Cause }

// Snapshot returns the whole state. Equal states give equal bytes, whatever
// commands led to them.
func (m *Machine) Snapshot() []byte {
	version := byte(plain)
	if len(m.prepared) > 0 {
		version = snapshotVersion
	}
	b := append(make([]byte, 0, m.snapshotSize()), version)
	b = codec.AppendVarint(b, m.now)
	b = codec.AppendUvarint(b, m.nextProducerID)
	b = codec.AppendUvarint(b, m.nextDecision)
	b = codec.AppendUvarint(b, uint64(len(m.byID)))
	for _, e := range m.order.entries {
		if e.p != nil {
			b = appendProducer(b, e.p, version)
		}
	}
	return b
}

// snapshotSize guesses how large a snapshot becomes, by a sample of ids that is spread
// over all of them: a slice of a hundred megabytes that grows step by step is copied
// several times, and the store waits meanwhile.
func (m *Machine) snapshotSize() int {
	const sample = 64
	all := m.order.entries
	if len(all) < 4*sample {
		return 0 // it grows to that soon enough
	}
	var scratch []byte
	size, taken := 0, 0
	for i := 0; i < len(all); i += len(all) / sample {
		if p := all[i].p; p != nil {
			scratch = appendProducer(scratch[:0], p, snapshotVersion)
			size += len(scratch)
			taken++
		}
	}
	return size / max(taken, 1) * len(m.byID) * 9 / 8
}

func appendProducer(b []byte, p *producer, version byte) []byte {
	b = codec.AppendUvarint(b, p.id)
	b = codec.AppendString(b, p.name)
	b = codec.AppendUvarint(b, uint64(p.epoch))
	b = codec.AppendVarint(b, p.timeout)
	b = codec.AppendString(b, p.owner)
	b = codec.AppendString(b, p.clientHost)
	b = codec.AppendVarint(b, p.updated)
	b = appendDecision(b, p.latest)
	b = appendUint64s(b, p.pastLast)
	b = codec.AppendUvarint(b, uint64(len(p.requests)))
	for _, r := range p.requests {
		b = append(b, r.id[:]...)
		b = codec.AppendUvarint(b, uint64(r.epoch))
	}
	b = codec.AppendBool(b, p.open != nil)
	if p.open != nil {
		b = appendOpen(b, p.open)
	}
	if version > plain {
		b = appendPrepared(b, p.prepared)
	}
	b = codec.AppendUvarint(b, uint64(len(p.completing)))
	for _, c := range p.completing {
		b = appendCompletion(b, c)
	}
	b = codec.AppendUvarint(b, uint64(len(p.outcomes)))
	for _, d := range p.outcomes {
		b = appendDecision(b, d)
	}
	return b
}

func appendDecision(b []byte, d decision) []byte {
	b = codec.AppendUvarint(b, uint64(d.epoch))
	b = codec.AppendUvarint(b, d.number)
	b = append(b, byte(d.outcome), byte(d.reason))
	b = codec.AppendBool(b, d.damaged)
	return codec.AppendVarint(b, d.at)
}

func appendOpen(b []byte, o *openTxn) []byte {
	b = codec.AppendUvarint(b, o.number)
	b = codec.AppendVarint(b, o.startedAt)
	b = codec.AppendVarint(b, o.deadline)
	b = codec.AppendUvarint(b, uint64(len(o.enlisted)))
	for _, e := range o.enlisted {
		b = codec.AppendUvarint(b, e.shard)
		b = appendUint64s(b, e.partitions)
	}
	return b
}

func appendCompletion(b []byte, c *completion) []byte {
	b = codec.AppendUvarint(b, c.sequence)
	b = appendDecision(b, c.decision)
	b = codec.AppendUvarint(b, uint64(len(c.participants)))
	for i := range c.participants {
		pt := &c.participants[i]
		b = codec.AppendUvarint(b, pt.shard)
		b = codec.AppendBool(b, pt.acknowledged)
		b = appendProgress(b, pt.progress)
	}
	return b
}

// Restore replaces the state by that of a snapshot, which must come from a
// machine with the same configuration. On an error, a [*CorruptError], the
// machine is unchanged.
func (m *Machine) Restore(snapshot []byte) error {
	r := codec.NewReader(snapshot)
	fresh := New(m.cfg)
	version := r.Version("transaction snapshot", plain, snapshotVersion)
	fresh.now = readTime(r)
	fresh.nextProducerID = r.Uvarint()
	fresh.nextDecision = r.Uvarint()
	var last uint64
	n := r.Count(snapshotIDs)
	room := min(n, r.Len()/minProducerBytes) // a forged count gets no more than its bytes could fill
	fresh.byID, fresh.byName = make(map[uint64]*producer, room), make(map[string]*producer, room)
	fresh.order.entries = make([]rosterEntry, 0, room)
	for ; n > 0 && r.Err() == nil; n-- {
		p := readProducer(r, version)
		if r.Err() == nil && p.id <= last {
			return &CorruptError{Rule: "producer ids of a snapshot ascend", ProducerID: p.id}
		}
		last = p.id
		fresh.byID[p.id] = p
		fresh.byName[p.name] = p
		fresh.order.add(p)
	}
	if err := r.Close(); err != nil {
		return &CorruptError{Rule: "snapshot cannot be read", Cause: err}
	}
	// The checks of the state come first: building the indexes relies on it.
	if err := fresh.checkState(); err != nil {
		return err
	}
	fresh.rebuild()
	if err := fresh.checkIndexes(); err != nil {
		return err
	}
	*m = *fresh
	return nil
}

func readProducer(r *codec.Reader, version byte) *producer {
	p := &producer{
		id:         r.Uvarint(),
		name:       r.String(MaxTextLength),
		epoch:      readUint32(r),
		timeout:    readTime(r),
		owner:      r.String(MaxTextLength),
		clientHost: r.String(MaxTextLength),
		updated:    readTime(r),
		latest:     readDecision(r),
		pastLast:   readUint64s(r, snapshotHistory),
	}
	if n := r.Count(snapshotHistory); n > 0 {
		p.requests = make([]request, n)
		for i := range p.requests {
			p.requests[i] = request{id: readRequestID(r), epoch: readUint32(r)}
		}
	}
	if r.Bool() {
		p.open = readOpen(r, p)
	}
	if version > plain && r.Bool() {
		p.prepared = readPrepared(r, p)
	}
	for n := r.Count(snapshotUnfinished); n > 0 && r.Err() == nil; n-- {
		p.completing = append(p.completing, readCompletion(r, p))
	}
	if n := r.Count(snapshotHistory); n > 0 {
		p.outcomes = make([]decision, n)
		for i := range p.outcomes {
			p.outcomes[i] = readDecision(r)
		}
	}
	return p
}

func readDecision(r *codec.Reader) decision {
	return decision{
		epoch:   readUint32(r),
		number:  r.Uvarint(),
		outcome: Outcome(r.Byte()),
		reason:  Reason(r.Byte()),
		damaged: r.Bool(),
		at:      readTime(r),
	}
}

func readOpen(r *codec.Reader, p *producer) *openTxn {
	o := &openTxn{producer: p, number: r.Uvarint(), startedAt: readTime(r), deadline: readTime(r)}
	for n := r.Count(MaxItems); n > 0 && r.Err() == nil; n-- {
		o.enlisted = append(o.enlisted, enlisted{shard: r.Uvarint(), partitions: readUint64s(r, MaxPartitions)})
	}
	return o
}

func readCompletion(r *codec.Reader, p *producer) *completion {
	c := &completion{producer: p, sequence: r.Uvarint(), decision: readDecision(r)}
	for n := r.Count(snapshotParticipants); n > 0 && r.Err() == nil; n-- {
		pt := participant{shard: r.Uvarint(), acknowledged: r.Bool(), progress: readProgress(r), of: c}
		if !pt.acknowledged {
			c.pending++
		}
		c.participants = append(c.participants, pt)
	}
	return c
}

// rebuild derives the indexes from the state.
func (m *Machine) rebuild() {
	var quiet []*producer
	var completing []*completion
	for _, e := range m.order.entries {
		m.owned[e.p.owner]++
		if e.p.quiet() {
			quiet = append(quiet, e.p)
		}
		if e.p.open != nil {
			m.deadlines.push(e.p.open)
		}
		if e.p.prepared != nil {
			m.prepared[e.p.id] = e.p.prepared
		}
		completing = append(completing, e.p.completing...)
	}
	slices.SortStableFunc(quiet, func(a, b *producer) int { return cmp.Compare(a.updated, b.updated) })
	for _, p := range quiet {
		m.idle.pushBack(p)
	}
	slices.SortFunc(completing, func(a, b *completion) int { return cmp.Compare(a.sequence, b.sequence) })
	for _, c := range completing {
		for i := range c.participants {
			if pt := &c.participants[i]; !pt.acknowledged {
				m.owe(pt)
			}
		}
	}
}
