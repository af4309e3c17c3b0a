package txn

import (
	"cmp"
	"slices"
)

// Enlist is how shard leaders tell which transactions are open in their shards.
// Shards repeat it until the transaction is over, so it is idempotent.
type Enlist struct{ Items []EnlistItem }

// EnlistItem is one transaction open in one shard.
type EnlistItem struct {
	Ref   Ref
	Shard uint64
	// OpenedAt is the log index of the shard's open record. It is echoed, so
	// that the shard can tell an answer to an earlier life of its record.
	OpenedAt uint64
	// Partitions have records of the transaction; for display.
	Partitions []uint64
	// Age is how long the transaction has been open in the shard (a span).
	Age Millis
}

// Verdict is the answer to one [EnlistItem].
type Verdict uint8

// The verdicts. The zero value is none.
const (
	// VerdictAccepted: the transaction is open and the shard takes part.
	VerdictAccepted Verdict = iota + 1
	// VerdictDecided: the shard must apply the decision as if its marker came.
	VerdictDecided
	// VerdictStray: the records belong to no transaction that could commit
	// them; the shard discards them.
	VerdictStray
	// VerdictThrottled: nothing was noted; ask again later. The id has as
	// many unfinished transactions, or the transaction as many shards, as
	// allowed.
	VerdictThrottled
)

// String returns the verdict in capitals, as people and metrics see it.
func (v Verdict) String() string {
	switch v {
	case VerdictAccepted:
		return "ACCEPTED"
	case VerdictDecided:
		return "DECIDED"
	case VerdictStray:
		return "STRAY"
	case VerdictThrottled:
		return "THROTTLED"
	}
	return "VERDICT_UNKNOWN"
}

// EnlistAnswer answers one [EnlistItem], whose names it echoes.
type EnlistAnswer struct {
	Ref      Ref
	Shard    uint64
	OpenedAt uint64
	Verdict  Verdict
	// Marker is the decision of a DECIDED verdict, with everything the
	// marker to this shard carries.
	Marker Marker
	// FenceEpoch is the current epoch when that of the Ref is older, and 0
	// otherwise. It becomes the shard's fence for the producer.
	FenceEpoch uint32
	// Invalid marks a STRAY that no honest client or shard can cause (epoch
	// above the current, number 0, a shard that does not exist and never had the
	// partitions): an alarm.
	Invalid bool
}

// EnlistResult answers an [Enlist], item by item.
type EnlistResult struct {
	Answers []EnlistAnswer
	// Superseded counts the open transactions that a newer one aborted.
	Superseded int
}

// Enlist executes the command of that name.
//
// A number above the last of the current epoch opens the transaction and closes
// an older open one as SUPERSEDED. A decision is told only to a participant
// that has not acknowledged it: to any other shard the records are stray, for
// the commit did not count them.
func (m *Machine) Enlist(at Millis, c Enlist, env Env) EnlistResult {
	m.advance(at)
	res := EnlistResult{Answers: make([]EnlistAnswer, 0, len(c.Items))}
	for _, item := range c.Items {
		p, answer, does := m.judgeEnlist(item, env)
		switch does {
		case enlistOpens:
			if !m.closeOpen(p, ReasonSuperseded).IsZero() {
				res.Superseded++
			}
			m.begin(p, item.Ref.Number, item.Age)
			m.join(p.open, item, env)
		case enlistJoins:
			m.join(p.open, item, env)
		case enlistNothing:
		}
		res.Answers = append(res.Answers, answer)
	}
	return res
}

// PeekEnlist answers item from the state as it is. needsLog tells that the
// answer is only right once an [Enlist] of it has been applied. The caller must
// have confirmed by ReadIndex that the state is current: a deposed leader that
// does not know the producer yet would have live records discarded.
func (m *Machine) PeekEnlist(item EnlistItem, env Env) (answer EnlistAnswer, needsLog bool) {
	_, answer, does := m.judgeEnlist(item, env)
	return answer, does != enlistNothing
}

// enlistEffect is what an item changes.
type enlistEffect uint8

const (
	enlistNothing enlistEffect = iota
	enlistJoins
	enlistOpens
)

// judgeEnlist decides the verdict and what has to change for it to be true.
//
// Of records whose partitions are all gone nothing is decided: they go with their
// partitions as soon as the shard hears of that. They are not stray. Their
// transaction may have been committed, be complete because nobody waits for these
// partitions any more, and its marker be on its way still.
func (m *Machine) judgeEnlist(item EnlistItem, env Env) (*producer, EnlistAnswer, enlistEffect) {
	p, answer, does := m.judgeRecords(item, env)
	if answer.Verdict == VerdictStray && !answer.Invalid && env.lacksAll(item.Shard, item.Partitions) {
		answer.Verdict, answer.FenceEpoch = VerdictAccepted, 0
	}
	return p, answer, does
}

// judgeRecords is judgeEnlist of records whose partitions are there.
func (m *Machine) judgeRecords(item EnlistItem, env Env) (*producer, EnlistAnswer, enlistEffect) {
	answer := EnlistAnswer{Ref: item.Ref, Shard: item.Shard, OpenedAt: item.OpenedAt, Verdict: VerdictStray}
	p := m.byID[item.Ref.ProducerID]
	if p == nil {
		return nil, answer, enlistNothing
	}
	if item.Ref.Epoch < p.epoch {
		answer.FenceEpoch = p.epoch
	}
	if _, c, ok := p.remembered(item.Ref); ok {
		if pt := c.participant(item.Shard); pt != nil && !pt.acknowledged {
			answer.Verdict = VerdictDecided
			answer.Marker = pt.marker()
		}
		return p, answer, enlistNothing
	}
	if p.isPrepared(item.Ref) {
		// Who takes part was settled when it was prepared. A shard that was not named
		// holds what its producer sent later, or never heard an answer to: no outcome
		// covers it.
		if p.prepared.has(item.Shard) {
			answer.Verdict, answer.FenceEpoch = VerdictAccepted, 0
		}
		return p, answer, enlistNothing
	}
	if item.Ref.Epoch < p.epoch {
		return p, answer, enlistNothing
	}
	if item.Ref.Epoch > p.epoch || item.Ref.Number == 0 {
		answer.Invalid = true
		return p, answer, enlistNothing
	}
	if !env.hasShard(item.Shard) {
		// One that was removed had lost its partitions before, and has not heard of it.
		answer.Invalid = len(item.Partitions) == 0
		return p, answer, enlistNothing
	}
	if p.isOpen(item.Ref) {
		return m.judgeJoin(p, item, answer, env)
	}
	if item.Ref.Number <= p.last() {
		return p, answer, enlistNothing
	}
	if p.prepared != nil || p.unfinished() >= m.cfg.MaxUnfinished {
		answer.Verdict = VerdictThrottled
		return p, answer, enlistNothing
	}
	answer.Verdict = VerdictAccepted
	return p, answer, enlistOpens
}

// judgeJoin answers for a transaction that is open already.
func (m *Machine) judgeJoin(p *producer, item EnlistItem, answer EnlistAnswer, env Env) (*producer, EnlistAnswer, enlistEffect) {
	answer.Verdict = VerdictAccepted
	i, ok := p.open.find(item.Shard)
	if !ok {
		if len(p.open.enlisted) >= m.cfg.MaxParticipants {
			answer.Verdict = VerdictThrottled
			return p, answer, enlistNothing
		}
		return p, answer, enlistJoins
	}
	known := p.open.enlisted[i].partitions
	if p.open.partitionCount() >= m.cfg.MaxPartitionsPerTxn {
		return p, answer, enlistNothing
	}
	for _, partition := range item.Partitions {
		if _, found := slices.BinarySearch(known, partition); !found && env.hasPartition(item.Shard, partition) {
			return p, answer, enlistJoins
		}
	}
	return p, answer, enlistNothing
}

// join adds the shard of item, and the partitions it names, to o.
func (m *Machine) join(o *openTxn, item EnlistItem, env Env) {
	i, ok := o.find(item.Shard)
	if !ok {
		o.enlisted = slices.Insert(o.enlisted, i, enlisted{shard: item.Shard})
		m.tell(EventEnlisted, o.producer, o.number, item.Shard, decision{})
	}
	room := m.cfg.MaxPartitionsPerTxn - o.partitionCount()
	e := &o.enlisted[i]
	for _, partition := range item.Partitions {
		j, found := slices.BinarySearch(e.partitions, partition)
		if found || room <= 0 || !env.hasPartition(item.Shard, partition) {
			continue
		}
		e.partitions = slices.Insert(e.partitions, j, partition)
		room--
	}
}

func (o *openTxn) find(shard uint64) (int, bool) {
	return slices.BinarySearchFunc(o.enlisted, shard, func(e enlisted, shard uint64) int {
		return cmp.Compare(e.shard, shard)
	})
}

func (o *openTxn) partitionCount() int {
	n := 0
	for _, e := range o.enlisted {
		n += len(e.partitions)
	}
	return n
}

// participant finds a shard of c, which may be nil; nil when it is none.
func (c *completion) participant(shard uint64) *participant {
	if c == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(c.participants, shard, func(pt participant, shard uint64) int {
		return cmp.Compare(pt.shard, shard)
	})
	if !ok {
		return nil
	}
	return &c.participants[i]
}

func (Enlist) kind() kind { return kindEnlist }

func (c Enlist) apply(m *Machine, at Millis, env Env) Result { return m.Enlist(at, c, env) }

func (EnlistResult) result() {}
