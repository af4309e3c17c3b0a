package txn

import (
	"maps"
	"slices"
	"strconv"
)

func decimal(v uint64) string { return strconv.FormatUint(v, 10) }

// Check verifies every rule the machine relies on, the indexes included. It
// looks at the whole state: for tests and for restored snapshots. The error is
// a [*CorruptError].
func (m *Machine) Check() error {
	if err := m.checkState(); err != nil {
		return err
	}
	return m.checkIndexes()
}

// rules collects the first broken rule of one producer.
type rules struct {
	producerID uint64
	broken     string
}

func (r *rules) must(ok bool, rule string) {
	if !ok && r.broken == "" {
		r.broken = rule
	}
}

func (r *rules) err() error {
	if r.broken == "" {
		return nil
	}
	return &CorruptError{Rule: r.broken, ProducerID: r.producerID}
}

// checkState verifies what a snapshot holds.
func (m *Machine) checkState() error {
	var r rules
	r.must(m.now >= 0, "time is not negative")
	r.must(m.nextProducerID > 0 && m.nextDecision > 0, "counters begin at 1")
	r.must(len(m.byID) <= m.cfg.MaxIDs, "ids are within the limit")
	r.must(len(m.byID) == len(m.byName), "every name has one producer id")
	listed := 0
	var last uint64
	sequences := make(map[uint64]bool)
	for _, e := range m.order.entries {
		r.must(e.id > last, "roster ascends")
		last = e.id
		if e.p == nil {
			continue
		}
		listed++
		p := e.p
		r.must(p.id == e.id && m.byID[p.id] == p && m.byName[p.name] == p, "id is found by name and number")
		if err := m.checkProducer(p); err != nil {
			return err
		}
		for _, c := range p.completing {
			r.must(!sequences[c.sequence], "decisions have different sequence numbers")
			sequences[c.sequence] = true
		}
	}
	r.must(listed == len(m.byID), "roster lists every id")
	return r.err()
}

func (m *Machine) checkProducer(p *producer) error {
	r := rules{producerID: p.id}
	r.must(p.id > 0 && p.id < m.nextProducerID, "producer id was handed out")
	r.must(len(p.name) > 0 && len(p.name) <= m.cfg.MaxIDLength, "transactional id has a legal length")
	r.must(len(p.owner) <= m.cfg.MaxOwnerLength && len(p.clientHost) <= m.cfg.MaxOwnerLength, "owner and host have a legal length")
	r.must(p.timeout >= m.cfg.MinTimeout && p.timeout <= m.cfg.MaxTimeout, "timeout is within its limits")
	r.must(p.updated >= 0 && p.updated <= m.now, "last update is not in the future")
	r.must(p.unfinished() <= m.cfg.MaxUnfinished, "unfinished transactions are within the limit")

	r.must(len(p.requests) > 0 && len(p.requests) <= m.cfg.RequestIDsKept, "request ids are within the limit")
	for i, q := range p.requests {
		r.must(q.epoch <= p.epoch && q.id != RequestID{}, "request ids belong to epochs handed out")
		r.must(i == 0 || p.requests[i-1].epoch < q.epoch, "request ids are in ascending epoch")
		for _, other := range p.requests[:i] {
			r.must(other.id != q.id, "request ids differ")
		}
	}
	m.checkHistory(p, &r)
	m.checkPastEpochs(p, &r)
	if p.open != nil {
		m.checkOpen(p, &r)
	}
	if p.prepared != nil {
		m.checkPrepared(p, &r)
	}
	for i, c := range p.completing {
		m.checkCompletion(p, c, &r)
		r.must(i == 0 || p.refOf(p.completing[i-1].decision).Less(p.refOf(c.decision)), "completing transactions ascend")
		r.must(i == 0 || p.completing[i-1].sequence < c.sequence, "completing transactions ascend in sequence")
	}
	return r.err()
}

// checkHistory verifies latest and outcomes.
func (m *Machine) checkHistory(p *producer, r *rules) {
	r.must((p.latest.number == 0) == (p.latest == decision{}), "no latest decision means all zero")
	if p.latest.number == 0 {
		r.must(len(p.outcomes) == 0 && len(p.completing) == 0, "remembered decisions need a latest one")
		return
	}
	m.checkDecision(p, p.latest, r)
	r.must(len(p.outcomes) <= m.cfg.OutcomesKept, "outcomes are within the limit")
	for i, d := range p.outcomes {
		m.checkDecision(p, d, r)
		r.must(p.completion(p.refOf(d)) == nil, "a transaction is completing or complete, not both")
		for _, other := range p.outcomes[:i] {
			r.must(p.refOf(other) != p.refOf(d), "outcomes differ in their transaction (I5)")
		}
	}
	d, _, ok := p.remembered(p.refOf(p.latest))
	r.must(ok && d == p.latest, "latest decision is the remembered one (I5)")
}

// checkPastEpochs verifies pastLast against everything else that is known of
// the decisions in the epochs that have ended.
func (m *Machine) checkPastEpochs(p *producer, r *rules) {
	if uint64(len(p.pastLast)) != min(uint64(p.epoch), uint64(m.cfg.RequestIDsKept)) {
		r.must(false, "the last numbers of exactly the newest past epochs are kept")
		return
	}
	within := func(d decision) {
		last, ok := p.lastOf(d.epoch)
		r.must(!ok || d.number <= last, "no decision of a past epoch is above its last")
	}
	for _, d := range p.outcomes {
		within(d)
	}
	for _, c := range p.completing {
		within(c.decision)
	}
	oldest := p.epoch - uint32(len(p.pastLast))
	for i, last := range p.pastLast {
		ref := p.ref(oldest+uint32(i), last)
		switch {
		case ref.Epoch > p.latest.epoch || p.latest.number == 0:
			r.must(last == 0, "epochs after the latest decision have none")
		case ref.Epoch == p.latest.epoch:
			r.must(last == p.latest.number, "last of an epoch is the latest decision in it")
		case last > 0 && len(p.outcomes) < m.cfg.OutcomesKept:
			// The last of an epoch was decided, and nothing was evicted yet.
			_, _, ok := p.remembered(ref)
			r.must(ok, "last of a past epoch was decided (I13)")
		}
	}
}

func (m *Machine) checkDecision(p *producer, d decision, r *rules) {
	r.must(d.epoch <= p.epoch && d.number > 0, "decided transactions belong to epochs handed out")
	r.must(!p.refOf(p.latest).Less(p.refOf(d)), "no decision is above the latest")
	r.must(d.at >= 0 && d.at <= m.now, "decisions are not in the future")
	switch d.outcome {
	case Committed:
		r.must(d.reason == ReasonNone, "commits have no reason")
	case Aborted:
		r.must(d.reason > ReasonNone && d.reason <= lastReason, "aborts have a reason")
	case Undecided:
		r.must(false, "a decision has an outcome")
	default:
		r.must(false, "a decision has a known outcome")
	}
}

func (m *Machine) checkOpen(p *producer, r *rules) {
	o := p.open
	r.must(o.producer == p, "open transaction knows its producer")
	r.must(o.number > 0, "open transaction has a number")
	r.must(p.latest.number == 0 || p.refOf(p.latest).Less(p.ref(p.epoch, o.number)), "open transaction is above the latest decision (I5)")
	r.must(o.deadline == o.startedAt+p.timeout && o.startedAt <= m.now, "deadline is the timeout after the start")
	r.must(len(o.enlisted) <= m.cfg.MaxParticipants, "enlisted shards are within the limit")
	r.must(o.partitionCount() <= m.cfg.MaxPartitionsPerTxn, "enlisted partitions are within the limit")
	for i, e := range o.enlisted {
		r.must(i == 0 || o.enlisted[i-1].shard < e.shard, "enlisted shards ascend")
		for j, partition := range e.partitions {
			r.must(j == 0 || e.partitions[j-1] < partition, "enlisted partitions ascend")
		}
	}
}

func (m *Machine) checkCompletion(p *producer, c *completion, r *rules) {
	m.checkDecision(p, c.decision, r)
	r.must(c.producer == p, "completion knows its producer")
	r.must(c.sequence > 0 && c.sequence < m.nextDecision, "decision number was handed out")
	r.must(len(c.participants) <= 2*m.cfg.MaxParticipants, "participants are within the limit")
	pending, partitions := 0, 0
	for i := range c.participants {
		pt := &c.participants[i]
		r.must(pt.of == c, "participant knows its transaction")
		r.must(i == 0 || c.participants[i-1].shard < pt.shard, "participants ascend")
		r.must(len(pt.progress) == 0 || c.decision.outcome == Committed && !pt.acknowledged, "only owed commits carry progress")
		partitions += len(pt.progress)
		for j, pr := range pt.progress {
			r.must(j == 0 || pt.progress[j-1].Partition < pr.Partition, "progress ascends")
		}
		if !pt.acknowledged {
			pending++
		}
	}
	r.must(partitions <= m.cfg.MaxPartitionsPerTxn, "partitions are within the limit")
	r.must(pending > 0 && pending == c.pending, "a completing transaction waits for somebody")
}

// checkIndexes verifies that the indexes say what the state says.
func (m *Machine) checkIndexes() error {
	var r rules
	open, prepared, owed, quiet := 0, 0, 0, 0
	owned := holdings{}
	for _, e := range m.order.entries {
		if e.p == nil {
			continue
		}
		owned[e.p.owner]++
		if e.p.open != nil {
			open++
			i := e.p.open.heapIndex
			r.must(i >= 0 && i < len(m.deadlines) && m.deadlines[i] == e.p.open, "open transaction is in the deadline index")
		}
		if e.p.prepared != nil {
			prepared++
			r.must(m.prepared[e.p.id] == e.p.prepared, "prepared transaction is found by its producer id")
		}
		if e.p.quiet() {
			quiet++
		}
		r.must(e.p.quiet() == e.p.inIdle, "exactly the quiet ids are in the idle list")
		for _, c := range e.p.completing {
			owed += c.pending
		}
	}
	r.must(open == len(m.deadlines), "deadline index has exactly the open transactions")
	r.must(prepared == len(m.prepared), "index of prepared transactions has exactly these")
	for i := 1; i < len(m.deadlines); i++ {
		r.must(!m.deadlines.before(i, (i-1)/2), "deadline index is a heap")
	}
	for p := m.idle.head; p != nil; p = p.idleNext {
		quiet--
		r.must(p.idleNext == nil || p.updated <= p.idleNext.updated, "idle list is in order")
	}
	r.must(quiet == 0, "idle list has exactly the quiet ids")
	r.must(maps.Equal(owned, m.owned), "ids are counted by owner")
	for _, shard := range m.OwedShards() {
		owed -= m.checkOwed(shard, &r)
	}
	r.must(owed == 0, "owed lists have exactly the unacknowledged participants")
	holes := slices.IndexFunc(m.order.entries, func(e rosterEntry) bool { return e.p == nil })
	r.must((holes < 0) == (m.order.holes == 0), "roster counts its holes")
	return r.err()
}

func (m *Machine) checkOwed(shard uint64, r *rules) int {
	l := m.owed[shard]
	n := 0
	for pt := l.head; pt != nil; pt = pt.next {
		n++
		r.must(pt.shard == shard && !pt.acknowledged, "owed list has unacknowledged participants of its shard")
		r.must(pt.next == nil || pt.of.sequence < pt.next.of.sequence, "owed list is in the order of decisions")
		r.must(pt.next != nil || pt == l.tail, "owed list knows its end")
	}
	r.must(n == l.length && n > 0, "owed list knows its length")
	return n
}
