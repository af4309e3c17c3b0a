package txn

// Phase is where one transaction is in its life.
type Phase uint8

// The phases, in the order of a life. A phase may be skipped, but no
// transaction ever goes back.
const (
	// PhaseFree: nothing is known of the number, and it can still be used.
	PhaseFree Phase = iota
	// PhaseOpen: some shard has enlisted; undecided.
	PhaseOpen
	// PhasePrepared: everything that a commit takes is checked and kept; undecided.
	PhasePrepared
	// PhaseCompleting: decided; some participant has not acknowledged.
	PhaseCompleting
	// PhaseComplete: decided, acknowledged, remembered.
	PhaseComplete
	// PhaseOver: cannot be decided any more, and nothing is remembered: it
	// was forgotten, its number was passed over, its epoch fenced, or its id
	// removed.
	PhaseOver
)

// String returns the name of the phase.
func (p Phase) String() string {
	switch p {
	case PhaseFree:
		return "free"
	case PhaseOpen:
		return "open"
	case PhasePrepared:
		return "prepared"
	case PhaseCompleting:
		return "completing"
	case PhaseComplete:
		return "complete"
	case PhaseOver:
		return "over"
	}
	return "unknown"
}

// CanBecome is the transition table: whether a single command may move a
// transaction from p to q. Staying is not a transition.
func (p Phase) CanBecome(q Phase) bool {
	switch p {
	case PhaseFree:
		// Open by Enlist, prepared or decided by its producer, over by a successor.
		return q == PhaseOpen || q == PhasePrepared || q == PhaseCompleting || q == PhaseComplete || q == PhaseOver
	case PhaseOpen:
		// Complete at once when no shard takes part. Never over: whatever
		// ends it is a decision, and a decision is remembered, except when
		// deleting an id whose open transaction has no participant.
		return q == PhasePrepared || q == PhaseCompleting || q == PhaseComplete || q == PhaseOver
	case PhasePrepared:
		// Never over: an id that has one stays.
		return q == PhaseCompleting || q == PhaseComplete
	case PhaseCompleting:
		// Never over directly: eviction does not touch completing.
		return q == PhaseComplete
	case PhaseComplete:
		return q == PhaseOver
	case PhaseOver:
	}
	return false
}

// Phase returns where r is in its life.
func (m *Machine) Phase(r Ref) Phase {
	p := m.byID[r.ProducerID]
	if p == nil {
		return PhaseOver
	}
	if _, c, ok := p.remembered(r); ok {
		if c != nil {
			return PhaseCompleting
		}
		return PhaseComplete
	}
	switch {
	case p.isPrepared(r):
		return PhasePrepared
	case p.isOpen(r):
		return PhaseOpen
	case r.Epoch > p.epoch || r.Epoch == p.epoch && r.Number > p.last():
		return PhaseFree
	}
	return PhaseOver
}
