package txn

// FenceProducer is an administrator's fence: whoever works under an epoch up to
// Epoch must stop. It names the epoch so that a late copy cannot hit a producer
// that took over in the meantime.
type FenceProducer struct {
	TransactionalID string
	Epoch           uint32
}

// FenceProducerResult answers a [FenceProducer].
//
// Codes: OK (fenced now or before); UNKNOWN_ID; INVALID (the epoch is above the
// current one, or there is no next).
type FenceProducerResult struct {
	Code    Code
	Problem Problem
	// ProducerID and CurrentEpoch are those of the id after the command.
	ProducerID   uint64
	CurrentEpoch uint32
	// Closed is the transaction that this command aborted, or zero.
	Closed Ref
}

// FenceProducer executes the command of that name: the epoch goes up by one
// and the open transaction is aborted with it. A prepared one is kept: its producer is
// fenced, and the word about it is another system's.
func (m *Machine) FenceProducer(at Millis, c FenceProducer) FenceProducerResult {
	m.advance(at)
	p := m.byName[c.TransactionalID]
	if p == nil {
		return FenceProducerResult{Code: CodeUnknownID}
	}
	res := FenceProducerResult{Code: CodeOK, ProducerID: p.id, CurrentEpoch: p.epoch}
	if c.Epoch < p.epoch {
		return res
	}
	if c.Epoch > p.epoch {
		res.Code, res.Problem = CodeInvalid, ProblemEpoch
		return res
	}
	closed, ok := m.raiseEpoch(p, ReasonFenced)
	if !ok {
		res.Code, res.Problem = CodeInvalid, ProblemEpochExhausted
		return res
	}
	res.CurrentEpoch, res.Closed = p.epoch, closed
	m.tell(EventInitialised, p, 0, 0, decision{})
	return res
}

func (FenceProducer) kind() kind { return kindFenceProducer }

func (c FenceProducer) apply(m *Machine, at Millis, _ Env) Result { return m.FenceProducer(at, c) }

func (FenceProducerResult) result() {}
