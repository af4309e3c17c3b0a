package txn

import "slices"

// This file has the only functions that move a transaction from one phase to
// the next: begin, prepare, decide, closeOpen, closePrepared, acknowledge. Commands
// call them.

// touch notes that something happened to p and keeps it in, or out of, the
// list of ids that may expire.
func (m *Machine) touch(p *producer) {
	p.updated = m.now
	m.idle.remove(p)
	if p.quiet() {
		m.idle.pushBack(p)
	}
}

// begin opens number, counting its timeout from age ago. There must be no open
// transaction and number must be above the last.
func (m *Machine) begin(p *producer, number uint64, age Millis) {
	age = min(max(age, 0), p.timeout)
	p.open = &openTxn{
		producer:  p,
		number:    number,
		startedAt: m.now - age,
		deadline:  m.now - age + p.timeout,
	}
	m.deadlines.push(p.open)
	m.touch(p)
	m.tell(EventBegun, p, number, 0, decision{})
}

// prepare makes number, which is open or above the last, the prepared transaction.
// An open transaction with a lower number must have been closed before. The machine
// keeps participants, which are ascending by shard.
func (m *Machine) prepare(p *producer, number uint64, participants []Participant) {
	t := &preparedTxn{
		producer: p, ref: p.ref(p.epoch, number),
		startedAt: m.now, preparedAt: m.now, participants: participants,
	}
	if p.open != nil {
		t.startedAt = p.open.startedAt
		m.deadlines.remove(p.open)
		p.open = nil
	}
	p.prepared = t
	m.prepared[p.id] = t
	m.touch(p)
	m.tell(EventPrepared, p, number, 0, decision{})
}

// closePrepared decides the prepared transaction, whatever epoch is current now. A
// commit covers what was stated when it was prepared.
func (m *Machine) closePrepared(p *producer, o Outcome, r Reason) {
	t := p.prepared
	p.prepared = nil
	delete(m.prepared, p.id)
	participants := t.participants
	if o == Aborted {
		participants = slices.Clone(participants)
		for i := range participants {
			participants[i].Progress = nil
		}
	}
	// Of an epoch that has ended how far it got is known, and it got further now.
	if back := int64(p.epoch) - int64(t.ref.Epoch); back > 0 && back <= int64(len(p.pastLast)) {
		p.pastLast[int64(len(p.pastLast))-back] = t.ref.Number
	}
	m.decide(p, t.ref, o, r, participants)
}

// decide records what becomes of a transaction that is open or was prepared, or
// whose number is above the last. An open transaction with a lower number must have
// been closed before. The machine keeps participants, which are ascending by shard.
func (m *Machine) decide(p *producer, ref Ref, o Outcome, r Reason, participants []Participant) {
	if p.open != nil {
		m.deadlines.remove(p.open)
		p.open = nil
	}
	d := decision{epoch: ref.Epoch, number: ref.Number, outcome: o, reason: r, at: m.now}
	p.latest = d
	m.tell(EventDecided, p, ref.Number, 0, d)
	if len(participants) == 0 {
		m.remember(p, d)
		m.touch(p)
		m.tell(EventCompleted, p, ref.Number, 0, d)
		return
	}
	c := &completion{
		producer:     p,
		sequence:     m.nextDecision,
		decision:     d,
		pending:      len(participants),
		participants: make([]participant, len(participants)),
	}
	m.nextDecision++
	for i, named := range participants {
		c.participants[i] = participant{shard: named.Shard, progress: named.Progress, of: c}
		m.owe(&c.participants[i])
	}
	p.completing = append(p.completing, c)
	m.touch(p)
}

// closeOpen aborts the open transaction of p; its enlisted shards are owed the
// marker. It returns its Ref, or the zero Ref when nothing is open.
func (m *Machine) closeOpen(p *producer, r Reason) Ref {
	if p.open == nil {
		return Ref{}
	}
	ref := p.ref(p.epoch, p.open.number)
	m.decide(p, ref, Aborted, r, union(nil, p.open.enlisted))
	return ref
}

// acknowledge notes that a participant is done, and moves the transaction to
// the remembered outcomes when it was the last one.
func (m *Machine) acknowledge(pt *participant, damaged bool) (complete bool) {
	c := pt.of
	pt.acknowledged = true
	pt.progress = nil // never sent again
	m.settle(pt)
	c.pending--
	p := c.producer
	if damaged {
		c.decision.damaged = true
		if p.refOf(p.latest) == p.refOf(c.decision) {
			p.latest.damaged = true
		}
	}
	m.tell(EventApplied, p, c.decision.number, pt.shard, c.decision)
	if c.pending > 0 {
		return false
	}
	i := slices.Index(p.completing, c)
	p.completing = slices.Delete(p.completing, i, i+1)
	if len(p.completing) == 0 {
		p.completing = nil // an idle id holds no spare memory
	}
	m.remember(p, c.decision)
	m.touch(p)
	m.tell(EventCompleted, p, c.decision.number, 0, c.decision)
	return true
}

// remember appends to the outcomes of p and drops the oldest completions above
// the limit. It never touches completing: a decision some shard has not heard
// of must stay answerable however many follow it.
func (m *Machine) remember(p *producer, d decision) {
	p.outcomes = pushBounded(p.outcomes, d, m.cfg.OutcomesKept)
}

// pushBounded appends v to list and drops from the front what exceeds limit.
func pushBounded[T any](list []T, v T, limit int) []T {
	if over := len(list) + 1 - limit; over > 0 {
		list = slices.Delete(list, 0, over)
	}
	if len(list) == cap(list) {
		// Grow in small steps: a million idle ids pay for what they use.
		list = slices.Grow(list, max(1, min(len(list), limit-len(list))))
	}
	return append(list, v)
}

// union returns the shards of both lists as participants without progress,
// ascending. Both lists are ascending.
func union(named []Participant, shards []enlisted) []Participant {
	merged := make([]Participant, 0, len(named)+len(shards))
	for len(named) > 0 || len(shards) > 0 {
		switch {
		case len(shards) == 0 || len(named) > 0 && named[0].Shard < shards[0].shard:
			merged = append(merged, Participant{Shard: named[0].Shard})
			named = named[1:]
		case len(named) == 0 || shards[0].shard < named[0].Shard:
			merged = append(merged, Participant{Shard: shards[0].shard})
			shards = shards[1:]
		default:
			merged = append(merged, Participant{Shard: shards[0].shard})
			named, shards = named[1:], shards[1:]
		}
	}
	return merged
}
