package txn

// AbortTransaction is an administrator's abort of one open or prepared
// transaction.
type AbortTransaction struct {
	Ref Ref
	// Force aborts a prepared transaction, too. The system that has the word about
	// it may say, or have said, commit: what it did then stays without its records.
	Force bool
}

// AbortTransactionResult answers an [AbortTransaction].
//
// Codes: OK (aborted now or before, for whatever Reason); UNKNOWN_ID; CONFLICT
// (it was committed); FENCED (its epoch is over and it was surely never
// committed); FORGOTTEN (over, and how it ended is not known); NOT_OPEN (the
// number is still free); PREPARED_EXISTS (it is prepared, and Force is not set);
// INVALID.
type AbortTransactionResult struct {
	Code    Code
	Problem Problem
	// CurrentEpoch is that of the id; 0 with UNKNOWN_ID.
	CurrentEpoch uint32
	// Reason is why it is aborted (OK).
	Reason Reason
	// Pending lists the shards that have not acknowledged, ascending.
	Pending []uint64
}

// AbortTransaction executes the command of that name. Unlike the producer's own
// abort it does not use up a number that is free.
func (m *Machine) AbortTransaction(at Millis, c AbortTransaction) AbortTransactionResult {
	m.advance(at)
	p := m.byID[c.Ref.ProducerID]
	if p == nil {
		return AbortTransactionResult{Code: CodeUnknownID}
	}
	res := AbortTransactionResult{CurrentEpoch: p.epoch}
	if _, _, ok := p.remembered(c.Ref); !ok {
		res.Code, res.Problem = p.mayEnd(c.Ref)
		switch {
		case p.isPrepared(c.Ref) && c.Force:
			m.closePrepared(p, Aborted, ReasonAdmin)
		case p.isPrepared(c.Ref):
			return res
		case res.Code != CodeOK && res.Code != CodePreparedExists:
			return res
		case !p.isOpen(c.Ref):
			res.Code = CodeNotOpen
			return res
		default:
			m.closeOpen(p, ReasonAdmin)
		}
	}
	d, pending, _ := p.remembered(c.Ref)
	res.Code, res.Reason = CodeOK, d.reason
	if d.outcome == Committed {
		res.Code = CodeConflict
	}
	if pending != nil {
		res.Pending = pending.pendingShards()
	}
	return res
}

func (AbortTransaction) kind() kind { return kindAbortTransaction }

func (c AbortTransaction) apply(m *Machine, at Millis, _ Env) Result {
	return m.AbortTransaction(at, c)
}

func (AbortTransactionResult) result() {}
