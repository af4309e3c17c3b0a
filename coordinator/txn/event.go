package txn

// EventKind is what an [Event] tells of.
type EventKind uint8

const (
	// EventInitialised tells that the id has a new epoch.
	EventInitialised EventKind = iota + 1
	// EventBegun tells that the machine heard of an open transaction.
	EventBegun
	// EventEnlisted tells that a shard joined an open transaction.
	EventEnlisted
	// EventDecided tells of a commit or an abort.
	EventDecided
	// EventApplied tells that a shard acknowledged the decision.
	EventApplied
	// EventCompleted tells that every shard has.
	EventCompleted
	// EventForgotten tells that the id was removed.
	EventForgotten
	// EventPrepared tells that a transaction waits for the word of another system.
	EventPrepared
)

// Event is a step of a transaction, for people who watch. No answer to a command
// depends on anybody's watching.
type Event struct {
	Kind EventKind
	// At is the machine's time.
	At Millis
	// Ref is the transaction; its Number is 0 where the event is about the id.
	Ref Ref
	// TransactionalID and ClientHost are those of the id.
	TransactionalID, ClientHost string
	// Shard belongs to ENLISTED and APPLIED.
	Shard uint64
	// Outcome and Reason belong to DECIDED, APPLIED and COMPLETED, Damaged to the
	// last two.
	Outcome Outcome
	Reason  Reason
	Damaged bool
}

// Observe has f called with every event from now on, within the command that brings
// it about; nil: nobody. f must not call the machine. What is restored are states, not
// events.
func (m *Machine) Observe(f func(Event)) { m.observer = f }

// tell tells the observer of something that happened to p.
func (m *Machine) tell(kind EventKind, p *producer, number, shard uint64, d decision) {
	if m.observer == nil {
		return
	}
	epoch := p.epoch
	if d.outcome != Undecided {
		epoch = d.epoch
	}
	m.observer(Event{
		Kind: kind, At: m.now, Ref: p.ref(epoch, number), TransactionalID: p.name, ClientHost: p.clientHost,
		Shard: shard, Outcome: d.outcome, Reason: d.reason, Damaged: d.damaged,
	})
}
