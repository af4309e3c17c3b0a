package txn

// Status is what is known about a transaction.
type Status uint8

// The statuses. The zero value is none.
const (
	// StatusOpen: not decided. Either shards have enlisted, or the number is
	// still free and a delayed commit may arrive; an abort settles it.
	StatusOpen Status = iota + 1
	// StatusCommitted: decided, for ever.
	StatusCommitted
	// StatusAborted: decided, for ever; or surely never to be committed.
	StatusAborted
	// StatusForgotten: over, and how is no longer known.
	StatusForgotten
	// StatusInvalid: no producer ever had this epoch, or the number is 0.
	StatusInvalid
	// StatusUnknownID: no transactional id has this producer id.
	StatusUnknownID
	// StatusPrepared: not decided, and only [CompletePrepared] or an operator
	// decides it.
	StatusPrepared
)

// String returns the status in capitals, as people and metrics see it.
func (s Status) String() string {
	switch s {
	case StatusOpen:
		return "OPEN"
	case StatusCommitted:
		return "COMMITTED"
	case StatusAborted:
		return "ABORTED"
	case StatusForgotten:
		return "FORGOTTEN"
	case StatusInvalid:
		return "INVALID"
	case StatusUnknownID:
		return "UNKNOWN_ID"
	case StatusPrepared:
		return "PREPARED"
	}
	return "STATUS_UNKNOWN"
}

// OutcomeReport answers [Machine.GetOutcome].
type OutcomeReport struct {
	Status Status
	// Reason is why it was aborted (ABORTED).
	Reason Reason
	// DecidedAt is 0 when the decision is implied, not remembered.
	DecidedAt Millis
	// Pending lists the shards that have not acknowledged, ascending.
	Pending []uint64
	// Damaged tells that a shard could not apply the decision as told.
	Damaged bool
	// CurrentEpoch is that of the id; 0 with UNKNOWN_ID.
	CurrentEpoch uint32
}

// GetOutcome tells what is known about r. It changes nothing; callers must have
// confirmed by ReadIndex that the state is current.
//
// Of an older epoch, a number above everything decided in it can no longer be
// committed: it is reported as ABORTED(FENCED), which is what a producer needs
// to know that crashed in the middle of a commit. That is known of as many
// epochs as Config.RequestIDsKept; before them, and for numbers that may have
// been decided, the answer is FORGOTTEN. [Machine.EndTransaction] answers FENCED
// and FORGOTTEN in exactly these two cases.
func (m *Machine) GetOutcome(r Ref) OutcomeReport {
	p := m.byID[r.ProducerID]
	if p == nil {
		return OutcomeReport{Status: StatusUnknownID}
	}
	rep := OutcomeReport{CurrentEpoch: p.epoch}
	if d, c, ok := p.remembered(r); ok {
		rep.Status = StatusAborted
		if d.outcome == Committed {
			rep.Status = StatusCommitted
		}
		rep.Reason, rep.DecidedAt, rep.Damaged = d.reason, d.at, d.damaged
		if c != nil {
			rep.Pending = c.pendingShards()
		}
		return rep
	}
	switch code, _ := p.mayEnd(r); code {
	case CodePreparedExists:
		rep.Status = StatusOpen // a number that can be used once the prepared one is over
		if p.isPrepared(r) {
			rep.Status = StatusPrepared
		}
	case CodeOK:
		rep.Status = StatusOpen
	case CodeInvalid:
		rep.Status = StatusInvalid
	case CodeFenced:
		rep.Status, rep.Reason = StatusAborted, ReasonFenced
	default:
		rep.Status = StatusForgotten
	}
	return rep
}
