package txn

// RequestID identifies one InitProducer call across its retries. Clients draw
// it at random; all zero means none.
type RequestID [16]byte

// InitProducer takes over a transactional id, or hands out a fresh producer id
// when TransactionalID is empty.
type InitProducer struct {
	TransactionalID string
	// Timeout is a span; 0 means the default.
	Timeout Millis
	// RequestID is required with a transactional id.
	RequestID RequestID
	// Owner is the authenticated principal and ClientHost where it calls
	// from; both are kept for people.
	Owner, ClientHost string
	// Exclusive says that the id is Owner's: with it nobody else takes over an id
	// that has an owner, until it is deleted. Without it the last caller is the
	// owner.
	Exclusive bool
	// KeepPrepared says that the caller completes the transaction that is prepared,
	// if there is one. Without it nobody takes over an id that has one.
	KeepPrepared bool
}

// InitProducerResult answers an [InitProducer].
//
// Codes: OK; FENCED (a late copy of a request whose epoch is over); INVALID;
// LIMIT; NOT_OWNER (the id belongs to another principal); PREPARED_EXISTS (a
// transaction is prepared, and KeepPrepared is not set).
type InitProducerResult struct {
	Code    Code
	Problem Problem
	// ProducerID and Epoch are what the producer works under (OK). With
	// FENCED, Epoch is the current one.
	ProducerID uint64
	Epoch      uint32
	// Repeated tells that this request id had been answered before.
	Repeated bool
	// Previous is the last transaction decided for the id, and how; its
	// Number is 0 when there is none.
	Previous        Ref
	PreviousOutcome Outcome
	PreviousReason  Reason
	// Closed is the transaction that this command aborted, or zero.
	Closed Ref
	// Incomplete lists the shards that have not acknowledged the end of some
	// earlier transaction, ascending.
	Incomplete []uint64
	// Prepared is the transaction that is prepared, or zero (OK,
	// PREPARED_EXISTS). Its epoch is older than the one handed out.
	Prepared Ref
}

// InitProducer executes the command of that name.
//
// A known id gets the next epoch, and its open transaction is aborted in the
// same step, so that no transaction of an older epoch can be committed later,
// except a prepared one that is kept (I6). A request id seen before gets the epoch it got then, as long as that
// epoch is current: a duplicate that raised it again would fence the very
// producer that asked.
func (m *Machine) InitProducer(at Millis, c InitProducer) InitProducerResult {
	m.advance(at)
	if c.TransactionalID == "" {
		return InitProducerResult{Code: CodeOK, ProducerID: m.takeProducerIDs(1)}
	}
	timeout, problem := m.checkInit(c)
	if problem != NoProblem {
		return InitProducerResult{Code: CodeInvalid, Problem: problem}
	}
	p := m.byName[c.TransactionalID]
	if p == nil {
		if len(m.byID) >= m.cfg.MaxIDs {
			return InitProducerResult{Code: CodeLimit}
		}
		p = m.addProducer(c.TransactionalID)
		return m.takeOver(p, c, timeout, Ref{})
	}
	if c.Exclusive && p.owner != "" && p.owner != c.Owner {
		return InitProducerResult{Code: CodeNotOwner}
	}
	for _, r := range p.requests {
		if r.id != c.RequestID {
			continue
		}
		if r.epoch != p.epoch {
			return InitProducerResult{Code: CodeFenced, ProducerID: p.id, Epoch: p.epoch, Repeated: true}
		}
		res := m.initAnswer(p, Ref{})
		res.Repeated = true
		return res
	}
	if p.prepared != nil && !c.KeepPrepared {
		return InitProducerResult{Code: CodePreparedExists, ProducerID: p.id, Epoch: p.epoch, Prepared: p.prepared.ref}
	}
	closed, ok := m.raiseEpoch(p, ReasonFenced)
	if !ok {
		return InitProducerResult{Code: CodeInvalid, Problem: ProblemEpochExhausted}
	}
	return m.takeOver(p, c, timeout, closed)
}

func (m *Machine) checkInit(c InitProducer) (timeout Millis, problem Problem) {
	timeout = c.Timeout
	if timeout == 0 {
		timeout = m.cfg.DefaultTimeout
	}
	switch {
	case len(c.TransactionalID) > m.cfg.MaxIDLength:
		return 0, ProblemID
	case timeout < m.cfg.MinTimeout || timeout > m.cfg.MaxTimeout:
		return 0, ProblemTimeout
	case c.RequestID == RequestID{}:
		return 0, ProblemRequestID
	case len(c.Owner) > m.cfg.MaxOwnerLength || len(c.ClientHost) > m.cfg.MaxOwnerLength:
		return 0, ProblemText
	}
	return timeout, NoProblem
}

// addProducer creates the id with a fresh producer id and epoch 0.
func (m *Machine) addProducer(name string) *producer {
	p := &producer{name: name, id: m.takeProducerIDs(1)}
	m.owned[p.owner]++
	m.byName[name] = p
	m.byID[p.id] = p
	m.order.add(p)
	return p
}

// takeOver gives the current epoch of p to the caller of c.
func (m *Machine) takeOver(p *producer, c InitProducer, timeout Millis, closed Ref) InitProducerResult {
	p.timeout = timeout
	m.owned.leave(p.owner)
	m.owned[c.Owner]++
	p.owner, p.clientHost = c.Owner, c.ClientHost
	p.requests = pushBounded(p.requests, request{id: c.RequestID, epoch: p.epoch}, m.cfg.RequestIDsKept)
	m.touch(p)
	m.tell(EventInitialised, p, 0, 0, decision{})
	return m.initAnswer(p, closed)
}

func (m *Machine) initAnswer(p *producer, closed Ref) InitProducerResult {
	res := InitProducerResult{
		Code:       CodeOK,
		ProducerID: p.id,
		Epoch:      p.epoch,
		Closed:     closed,
		Incomplete: incompleteShards(p),
	}
	if p.prepared != nil {
		res.Prepared = p.prepared.ref
	}
	if p.latest.number != 0 {
		res.Previous = p.refOf(p.latest)
		res.PreviousOutcome, res.PreviousReason = p.latest.outcome, p.latest.reason
	}
	return res
}

// kind: a program that does not know exclusive ids must not read them as any others.
func (c InitProducer) kind() kind {
	if c.Exclusive {
		return kindInitExclusive
	}
	return kindInitProducer
}

func (c InitProducer) apply(m *Machine, at Millis, _ Env) Result { return m.InitProducer(at, c) }

func (InitProducerResult) result() {}
