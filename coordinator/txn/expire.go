package txn

// Expire aborts open transactions whose deadline has passed. The leader takes
// the list from [Machine.Expired]; after a change of leaders it should wait a
// few seconds, for producers had nobody to commit to.
type Expire struct{ Refs []Ref }

// ExpireResult answers an [Expire]. Codes, one for each Ref: OK (aborted now);
// UNKNOWN_ID; NOT_OPEN; NOT_DUE.
type ExpireResult struct{ Codes []Code }

// Expire executes the command of that name. The epoch does not change: the
// producer learns of the timeout when it ends the transaction, and goes on with
// the next number.
func (m *Machine) Expire(at Millis, c Expire) ExpireResult {
	m.advance(at)
	res := ExpireResult{Codes: make([]Code, 0, len(c.Refs))}
	for _, r := range c.Refs {
		res.Codes = append(res.Codes, m.expire(r))
	}
	return res
}

func (m *Machine) expire(r Ref) Code {
	p := m.byID[r.ProducerID]
	switch {
	case p == nil:
		return CodeUnknownID
	case !p.isOpen(r):
		return CodeNotOpen
	case m.now < p.open.deadline:
		return CodeNotDue
	}
	m.closeOpen(p, ReasonTimeout)
	return CodeOK
}

func (Expire) kind() kind { return kindExpire }

func (c Expire) apply(m *Machine, at Millis, _ Env) Result { return m.Expire(at, c) }

func (ExpireResult) result() {}
