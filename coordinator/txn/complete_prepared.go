package txn

// CompletePrepared carries out the word of another system about a prepared
// transaction. It names the transaction and needs no epoch: whoever can read the word
// may carry it out, and all who do say the same.
type CompletePrepared struct {
	Ref    Ref
	Commit bool
}

// CompletePreparedResult answers a [CompletePrepared].
//
// Codes: OK (decided as asked, now or before); UNKNOWN_ID; CONFLICT (it was decided
// the other way); FENCED (the epoch is over and the transaction was surely never
// committed); FORGOTTEN (it is over, and how it ended is not known); INVALID.
type CompletePreparedResult struct{ EndTransactionResult }

// CompletePrepared executes the command of that name. The offsets that were held when
// the transaction was prepared are moved, or let go, by the caller in the same step.
//
// A transaction that is not prepared is refused: a commit of it has not been checked,
// and an abort of it would mean that a word was given about what nobody promised.
func (m *Machine) CompletePrepared(at Millis, c CompletePrepared) CompletePreparedResult {
	m.advance(at)
	var out CompletePreparedResult
	res := &out.EndTransactionResult
	p := m.byID[c.Ref.ProducerID]
	if p == nil {
		res.Code = CodeUnknownID
		return out
	}
	res.CurrentEpoch = p.epoch
	if d, pending, ok := p.remembered(c.Ref); ok {
		res.repeat(d, pending, c.Commit)
		return out
	}
	if !p.isPrepared(c.Ref) {
		res.Code, res.Problem = p.mayEnd(c.Ref)
		if res.Code == CodeOK || res.Code == CodePreparedExists {
			res.Code, res.Problem = CodeInvalid, ProblemNotPrepared
		}
		return out
	}
	outcome, reason := Aborted, ReasonClient
	if c.Commit {
		outcome, reason = Committed, ReasonNone
	}
	m.closePrepared(p, outcome, reason)
	res.Code = CodeOK
	res.report(p.latest, p.completion(c.Ref))
	return out
}

func (CompletePrepared) kind() kind { return kindCompletePrepared }

func (c CompletePrepared) apply(m *Machine, at Millis, _ Env) Result {
	return m.CompletePrepared(at, c)
}
