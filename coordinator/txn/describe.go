package txn

import "slices"

// State is the state of a transactional id under the names Kafka's tools use.
type State uint8

// The states. An id may have several transactions under way; its state is that
// of the newest one:
//
//	Empty           no transaction was ever decided, none is open
//	Ongoing         one is open
//	Prepared        one is prepared, and waits for the word of another system
//	PrepareCommit   the newest is committed, some shard has not acknowledged
//	PrepareAbort    the newest is aborted, some shard has not acknowledged
//	CompleteCommit  the newest is committed, every shard has acknowledged
//	CompleteAbort   the newest is aborted, every shard has acknowledged
//
// Kafka's PrepareEpochFence does not occur, because raising the epoch and
// aborting are one step here, and neither does Dead, because an id is removed
// in one step. Prepared is not one of Kafka's: there, a transaction that is prepared
// is Ongoing like any other.
const (
	StateEmpty State = iota + 1
	StateOngoing
	StatePrepareCommit
	StatePrepareAbort
	StateCompleteCommit
	StateCompleteAbort
	StatePrepared
)

// String returns Kafka's name of the state.
func (s State) String() string {
	switch s {
	case StateEmpty:
		return "Empty"
	case StateOngoing:
		return "Ongoing"
	case StatePrepareCommit:
		return "PrepareCommit"
	case StatePrepareAbort:
		return "PrepareAbort"
	case StateCompleteCommit:
		return "CompleteCommit"
	case StateCompleteAbort:
		return "CompleteAbort"
	case StatePrepared:
		return "Prepared"
	}
	return "Unknown"
}

func (p *producer) state() State {
	commit, abort := StateCompleteCommit, StateCompleteAbort
	if n := len(p.completing); n > 0 && p.completing[n-1].decision.number == p.latest.number &&
		p.completing[n-1].decision.epoch == p.latest.epoch {
		commit, abort = StatePrepareCommit, StatePrepareAbort
	}
	switch {
	case p.prepared != nil:
		return StatePrepared
	case p.open != nil:
		return StateOngoing
	case p.latest.outcome == Committed:
		return commit
	case p.latest.outcome == Aborted:
		return abort
	}
	return StateEmpty
}

// Description is everything known about one transactional id.
type Description struct {
	TransactionalID   string
	ProducerID        uint64
	Epoch             uint32
	State             State
	Timeout           Millis // a span
	Owner, ClientHost string
	UpdatedAt         Millis
	// Last is the highest number opened, prepared or decided in this epoch.
	Last uint64
	// Open is nil when no transaction is open.
	Open *OpenTransaction
	// Prepared is nil when no transaction is prepared. With one, Open is nil.
	Prepared *PreparedTransaction
	// Completing and Outcomes are in ascending Ref and in the order of
	// completion.
	Completing []DecidedTransaction
	Outcomes   []DecidedTransaction
}

// OpenTransaction is an undecided transaction.
type OpenTransaction struct {
	Ref                 Ref
	StartedAt, Deadline Millis
	// Participants are the shards that have enlisted, ascending.
	Participants []OpenParticipant
}

// PreparedTransaction is a transaction that waits for the word of another system.
type PreparedTransaction struct {
	Ref                   Ref
	StartedAt, PreparedAt Millis
	// Participants are those that a commit covers, with their next sequences,
	// ascending.
	Participants []Participant
}

// OpenParticipant is a shard of an open transaction. A shard enlists at its
// first record, so Partitions may lack later ones.
type OpenParticipant struct {
	Shard      uint64
	Partitions []uint64
}

// DecidedTransaction is a remembered transaction.
type DecidedTransaction struct {
	Ref       Ref
	Outcome   Outcome
	Reason    Reason
	DecidedAt Millis
	Damaged   bool
	// Participants are empty for completed ones.
	Participants []DecidedParticipant
}

// DecidedParticipant is a shard of a completing transaction. Progress is empty
// once it has acknowledged, and for aborts.
type DecidedParticipant struct {
	Shard        uint64
	Acknowledged bool
	Progress     []Progress
}

// Describe returns everything known about a transactional id, in memory of its
// own.
func (m *Machine) Describe(transactionalID string) (Description, bool) {
	p := m.byName[transactionalID]
	if p == nil {
		return Description{}, false
	}
	d := Description{
		TransactionalID: p.name,
		ProducerID:      p.id,
		Epoch:           p.epoch,
		State:           p.state(),
		Timeout:         p.timeout,
		Owner:           p.owner,
		ClientHost:      p.clientHost,
		UpdatedAt:       p.updated,
		Last:            p.last(),
	}
	if o := p.open; o != nil {
		d.Open = &OpenTransaction{Ref: p.ref(p.epoch, o.number), StartedAt: o.startedAt, Deadline: o.deadline}
		for _, e := range o.enlisted {
			d.Open.Participants = append(d.Open.Participants,
				OpenParticipant{Shard: e.shard, Partitions: slices.Clone(e.partitions)})
		}
	}
	d.Prepared = p.prepared.describe()
	for _, c := range p.completing {
		t := p.decided(c.decision)
		for _, pt := range c.participants {
			t.Participants = append(t.Participants, DecidedParticipant{
				Shard: pt.shard, Acknowledged: pt.acknowledged, Progress: slices.Clone(pt.progress),
			})
		}
		d.Completing = append(d.Completing, t)
	}
	for _, o := range p.outcomes {
		d.Outcomes = append(d.Outcomes, p.decided(o))
	}
	return d, true
}

func (p *producer) decided(d decision) DecidedTransaction {
	return DecidedTransaction{
		Ref: p.refOf(d), Outcome: d.outcome, Reason: d.reason, DecidedAt: d.at, Damaged: d.damaged,
	}
}

// Identity is who a producer id belongs to.
type Identity struct {
	TransactionalID string
	Epoch           uint32
	Owner           string
}

// Lookup finds the transactional id of a producer id, for authorization and
// for messages.
func (m *Machine) Lookup(producerID uint64) (Identity, bool) {
	p := m.byID[producerID]
	if p == nil {
		return Identity{}, false
	}
	return Identity{TransactionalID: p.name, Epoch: p.epoch, Owner: p.owner}, true
}
