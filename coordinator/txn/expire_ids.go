package txn

// ExpireIDs removes ids that have been idle for Config.IDExpiration. The leader
// takes a bounded list from [Machine.IdleIDs].
type ExpireIDs struct{ ProducerIDs []uint64 }

// ExpireIDsResult answers an [ExpireIDs]. Codes, one for each id: OK (removed
// now); UNKNOWN_ID; INCOMPLETE (something is open, prepared or completing); NOT_DUE.
type ExpireIDsResult struct{ Codes []Code }

// ExpireIDs executes the command of that name. Every id is judged again: it may
// have been used between the leader's look and now.
func (m *Machine) ExpireIDs(at Millis, c ExpireIDs) ExpireIDsResult {
	m.advance(at)
	res := ExpireIDsResult{Codes: make([]Code, 0, len(c.ProducerIDs))}
	for _, id := range c.ProducerIDs {
		res.Codes = append(res.Codes, m.expireID(id))
	}
	return res
}

func (m *Machine) expireID(id uint64) Code {
	p := m.byID[id]
	switch {
	case p == nil:
		return CodeUnknownID
	case !p.quiet():
		return CodeIncomplete
	case m.now-p.updated < m.cfg.IDExpiration:
		return CodeNotDue
	}
	m.removeProducer(p)
	return CodeOK
}

func (ExpireIDs) kind() kind { return kindExpireIDs }

func (c ExpireIDs) apply(m *Machine, at Millis, _ Env) Result { return m.ExpireIDs(at, c) }

func (ExpireIDsResult) result() {}
