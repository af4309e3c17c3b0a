package txn

// PrepareTransaction asks for everything that a commit takes, but the decision. That
// is another system's: whatever it says later is carried out by [CompletePrepared]
// (two-phase commit; Kafka's KIP-939).
type PrepareTransaction struct {
	Ref Ref
	// Participants and OffsetsPayload are those of an [EndTransaction] that commits.
	Participants   []Participant
	OffsetsPayload []byte
}

func (c PrepareTransaction) asCommit() EndTransaction {
	return EndTransaction{Ref: c.Ref, Commit: true, Participants: c.Participants, OffsetsPayload: c.OffsetsPayload}
}

// PrepareTransactionResult answers a [PrepareTransaction].
//
// Codes: OK (prepared, now or before; Repeated says which); CONFLICT (it is over;
// Outcome and Reason say what was decided); and those of an [EndTransaction] that
// refuses to commit. PREPARED_EXISTS means that another one is prepared.
type PrepareTransactionResult struct{ EndTransactionResult }

// PrepareTransaction executes the command of that name. All that an EndTransaction
// checks is checked here, and kept: the participants and their progress in this
// machine, the offsets by those of env. So nothing can refuse the commit later.
//
// From here on neither the timeout nor a higher number nor a newer epoch ends the
// transaction, and no other transaction of the id begins before it is over.
func (m *Machine) PrepareTransaction(at Millis, c PrepareTransaction, env Env) PrepareTransactionResult {
	m.advance(at)
	var out PrepareTransactionResult
	res := &out.EndTransactionResult
	p := m.byID[c.Ref.ProducerID]
	if p == nil {
		res.Code = CodeUnknownID
		return out
	}
	res.CurrentEpoch = p.epoch
	if d, pending, ok := p.remembered(c.Ref); ok {
		res.repeat(d, pending, d.outcome == Committed)
		res.Code = CodeConflict
		return out
	}
	if p.isPrepared(c.Ref) {
		res.Code, res.Repeated = CodeOK, true
		return out
	}
	participants, ok := m.judgeEnd(p, c.asCommit(), env, res)
	if !ok {
		return out
	}
	if !p.isOpen(c.Ref) {
		// Unlike a commit without participants, this one is not over at once.
		if p.unfinished() >= m.cfg.MaxUnfinished {
			res.Code = CodeThrottled
			return out
		}
		res.Superseded = m.closeOpen(p, ReasonSuperseded)
	}
	m.prepare(p, c.Ref.Number, participants)
	if env.Offsets != nil {
		env.Offsets.Hold()
	}
	return out
}

func (PrepareTransaction) kind() kind { return kindPrepareTransaction }

func (c PrepareTransaction) apply(m *Machine, at Millis, env Env) Result {
	return m.PrepareTransaction(at, c, env)
}
