package txn

// AllocateProducerIDs takes a block of producer ids for producers without a
// transactional id, so that a leader can hand them out without a log entry
// each. What a leader has not handed out when it dies is lost; ids are plenty.
type AllocateProducerIDs struct {
	// Count is at least 1 and at most [MaxAllocate].
	Count uint32
}

// AllocateProducerIDsResult answers an [AllocateProducerIDs].
//
// Codes: OK; INVALID (count out of range).
type AllocateProducerIDsResult struct {
	Code    Code
	Problem Problem
	// The ids are First, First+1, ..., First+Count-1.
	First uint64
	Count uint32
}

// AllocateProducerIDs executes the command of that name.
func (m *Machine) AllocateProducerIDs(at Millis, c AllocateProducerIDs) AllocateProducerIDsResult {
	m.advance(at)
	if c.Count == 0 || c.Count > MaxAllocate {
		return AllocateProducerIDsResult{Code: CodeInvalid, Problem: ProblemTooMany}
	}
	return AllocateProducerIDsResult{Code: CodeOK, First: m.takeProducerIDs(uint64(c.Count)), Count: c.Count}
}

// takeProducerIDs hands out n ids that were never handed out before (I9).
func (m *Machine) takeProducerIDs(n uint64) uint64 {
	first := m.nextProducerID
	m.nextProducerID += n
	return first
}

func (AllocateProducerIDs) kind() kind { return kindAllocateProducerIDs }

func (c AllocateProducerIDs) apply(m *Machine, at Millis, _ Env) Result {
	return m.AllocateProducerIDs(at, c)
}

func (AllocateProducerIDsResult) result() {}
