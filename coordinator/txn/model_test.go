package txn

import (
	"cmp"
	"maps"
	"slices"
)

// model is a second, dumb implementation: it remembers every transaction that
// ever was and derives everything else from that, with loops over maps. It knows
// no rings, indexes or snapshots.
type model struct {
	cfg     Config
	w       world
	now     Millis
	nextID  uint64
	decided int // order of decisions
	ended   int // order of completions
	ids     map[string]*modelID
}

type modelID struct {
	pid, lastRequest uint64
	epoch            uint32
	timeout, updated Millis
	requests         map[RequestID]modelRequest
	owner            string
	txns             map[Ref]*modelTxn
}

type modelRequest struct {
	epoch uint32
	order uint64
}

type modelTxn struct {
	open            bool
	held            map[uint64][]Progress // of a prepared transaction; nil otherwise
	deadline        Millis
	enlisted        map[uint64]bool
	outcome         Outcome
	reason          Reason
	at              Millis
	decided, ended  int
	damaged         bool
	owed            map[uint64][]Progress
	everParticipant map[uint64]bool
}

func newModel(cfg Config, w world) *model {
	return &model{cfg: cfg, w: w, nextID: 1, ids: map[string]*modelID{}}
}

func (m *model) byPID(pid uint64) *modelID {
	for _, p := range m.ids {
		if p.pid == pid {
			return p
		}
	}
	return nil
}

func (p *modelID) open() (Ref, *modelTxn) {
	for r, x := range p.txns {
		if x.open {
			return r, x
		}
	}
	return Ref{}, nil
}

// undecided: open or prepared.
func (x *modelTxn) undecided() bool { return x.open || x.held != nil }

func (p *modelID) prepared() (Ref, *modelTxn) {
	for r, x := range p.txns {
		if x.held != nil {
			return r, x
		}
	}
	return Ref{}, nil
}

func (p *modelID) last() uint64 {
	var last uint64
	for r := range p.txns {
		if r.Epoch == p.epoch {
			last = max(last, r.Number)
		}
	}
	return last
}

func (p *modelID) unfinished() int {
	n := 0
	for _, x := range p.txns {
		if x.undecided() || len(x.owed) > 0 {
			n++
		}
	}
	return n
}

// remembered: awaiting acknowledgements, among the last completed ones, or the
// highest of all.
func (m *model) remembered(p *modelID, r Ref) *modelTxn {
	x := p.txns[r]
	if x == nil || x.undecided() {
		return nil
	}
	if len(x.owed) > 0 {
		return x
	}
	later, highest := 0, true
	for above, y := range p.txns {
		if !y.undecided() && len(y.owed) == 0 && y.ended > x.ended {
			later++
		}
		highest = highest && (y.undecided() || !r.Less(above))
	}
	if highest || later < m.cfg.OutcomesKept {
		return x
	}
	return nil
}

func (m *model) decide(p *modelID, r Ref, o Outcome, why Reason, owed map[uint64][]Progress) {
	m.decided++
	ever := map[uint64]bool{}
	for shard := range owed {
		ever[shard] = true
	}
	if x := p.txns[r]; x != nil && !x.undecided() {
		panic("I5: decided twice")
	}
	p.txns[r] = &modelTxn{outcome: o, reason: why, at: m.now, decided: m.decided, owed: owed, everParticipant: ever}
	p.updated = m.now
	if len(owed) == 0 {
		m.ended++
		p.txns[r].ended = m.ended
	}
}

func (m *model) closeOpen(p *modelID, why Reason) Ref {
	r, x := p.open()
	if x == nil {
		return Ref{}
	}
	owed := map[uint64][]Progress{}
	for shard := range x.enlisted {
		owed[shard] = nil
	}
	m.decide(p, r, Aborted, why, owed)
	return r
}

func (m *model) initProducer(c InitProducer) (Code, uint64, uint32, Ref) {
	if c.TransactionalID == "" {
		m.nextID++
		return CodeOK, m.nextID - 1, 0, Ref{}
	}
	p := m.ids[c.TransactionalID]
	closed := Ref{}
	if p == nil {
		p = &modelID{pid: m.nextID, requests: map[RequestID]modelRequest{}, txns: map[Ref]*modelTxn{}}
		m.nextID++
		m.ids[c.TransactionalID] = p
	} else {
		if c.Exclusive && p.owner != "" && p.owner != c.Owner {
			return CodeNotOwner, 0, 0, Ref{}
		}
		if q, ok := p.requests[c.RequestID]; ok && p.lastRequest-q.order < uint64(m.cfg.RequestIDsKept) {
			if q.epoch != p.epoch {
				return CodeFenced, p.pid, p.epoch, Ref{}
			}
			return CodeOK, p.pid, p.epoch, Ref{}
		}
		if _, x := p.prepared(); x != nil && !c.KeepPrepared {
			return CodePreparedExists, p.pid, p.epoch, Ref{}
		}
		closed = m.closeOpen(p, ReasonFenced)
		p.epoch++
	}
	p.lastRequest++
	p.requests[c.RequestID] = modelRequest{epoch: p.epoch, order: p.lastRequest}
	p.timeout, p.updated, p.owner = c.Timeout, m.now, c.Owner
	return CodeOK, p.pid, p.epoch, closed
}

func (m *model) enlist(item EnlistItem) Verdict {
	verdict := m.enlistRecords(item)
	there := func(partition uint64) bool { return m.w.HasPartition(item.Shard, partition) }
	p := m.byPID(item.Ref.ProducerID)
	honest := p == nil || item.Ref.Epoch < p.epoch || item.Ref.Epoch == p.epoch && item.Ref.Number > 0 ||
		m.remembered(p, item.Ref) != nil || p.txns[item.Ref] != nil && p.txns[item.Ref].held != nil
	if verdict == VerdictStray && honest && len(item.Partitions) > 0 && !slices.ContainsFunc(item.Partitions, there) {
		return VerdictAccepted // they go with their partitions
	}
	return verdict
}

func (m *model) enlistRecords(item EnlistItem) Verdict {
	p := m.byPID(item.Ref.ProducerID)
	if p == nil {
		return VerdictStray
	}
	if x := m.remembered(p, item.Ref); x != nil {
		if _, owes := x.owed[item.Shard]; owes {
			return VerdictDecided
		}
		return VerdictStray
	}
	if r, x := p.prepared(); x != nil && r == item.Ref {
		if _, named := x.held[item.Shard]; named {
			return VerdictAccepted
		}
		return VerdictStray
	}
	if item.Ref.Epoch != p.epoch || item.Ref.Number == 0 || !m.w.HasShard(item.Shard) {
		return VerdictStray
	}
	r, x := p.open()
	if x != nil && r == item.Ref {
		if !x.enlisted[item.Shard] && len(x.enlisted) >= m.cfg.MaxParticipants {
			return VerdictThrottled
		}
		x.enlisted[item.Shard] = true
		return VerdictAccepted
	}
	if item.Ref.Number <= p.last() {
		return VerdictStray
	}
	if _, y := p.prepared(); y != nil || p.unfinished() >= m.cfg.MaxUnfinished {
		return VerdictThrottled
	}
	m.closeOpen(p, ReasonSuperseded)
	age := min(max(item.Age, 0), p.timeout)
	p.txns[item.Ref] = &modelTxn{open: true, deadline: m.now - age + p.timeout, enlisted: map[uint64]bool{item.Shard: true}}
	p.updated = m.now
	return VerdictAccepted
}

// mayEnd is what a transaction that is not remembered is told first of all.
func (m *model) mayEnd(p *modelID, r Ref) Code {
	held, x := p.prepared()
	switch {
	case r.Epoch > p.epoch || r.Number == 0:
		return CodeInvalid
	case x != nil && (held == r || r.Epoch == p.epoch && r.Number > p.last()):
		return CodePreparedExists
	case r.Epoch < p.epoch && m.surelyNever(p, r):
		return CodeFenced
	case r.Epoch < p.epoch:
		return CodeForgotten
	}
	if openRef, x := p.open(); (x == nil || openRef != r) && r.Number <= p.last() {
		return CodeForgotten
	}
	return CodeOK
}

func (m *model) end(c EndTransaction, o *offsets) (Code, Reason) {
	p := m.byPID(c.Ref.ProducerID)
	if p == nil {
		return CodeUnknownID, ReasonNone
	}
	if x := m.remembered(p, c.Ref); x != nil {
		if (x.outcome == Committed) == c.Commit {
			return CodeOK, x.reason
		}
		return CodeConflict, x.reason
	}
	if code := m.mayEnd(p, c.Ref); code != CodeOK {
		return code, ReasonNone
	}
	owed, code := m.judge(p, c, o)
	if code != CodeOK {
		return code, ReasonNone
	}
	if openRef, x := p.open(); x == nil || openRef != c.Ref {
		m.closeOpen(p, ReasonSuperseded)
	}
	if c.Commit {
		m.decide(p, c.Ref, Committed, ReasonNone, owed)
		return CodeOK, ReasonNone
	}
	m.decide(p, c.Ref, Aborted, ReasonClient, owed)
	return CodeOK, ReasonClient
}

// judge says who would be owed the decision, or why there is none.
func (m *model) judge(p *modelID, c EndTransaction, o *offsets) (map[uint64][]Progress, Code) {
	openRef, x := p.open()
	isOpen := x != nil && openRef == c.Ref
	owed := map[uint64][]Progress{}
	if len(c.Participants) > m.cfg.MaxParticipants {
		return nil, CodeInvalid
	}
	seen := map[uint64]bool{}
	for _, pt := range c.Participants {
		if seen[pt.Shard] {
			return nil, CodeInvalid
		}
		seen[pt.Shard] = true
		if c.Commit {
			if !m.w.HasShard(pt.Shard) {
				return nil, CodeInvalid
			}
			for i, pr := range pt.Progress {
				if !m.w.HasPartition(pt.Shard, pr.Partition) || slices.ContainsFunc(pt.Progress[:i], func(q Progress) bool { return q.Partition == pr.Partition }) {
					return nil, CodeInvalid
				}
			}
			owed[pt.Shard] = pt.Progress
		} else if m.w.HasShard(pt.Shard) {
			owed[pt.Shard] = nil
		}
	}
	if isOpen {
		for shard := range x.enlisted {
			if c.Commit && !seen[shard] {
				return nil, CodeUnsettledSends
			}
			if !c.Commit {
				owed[shard] = nil
			}
		}
	} else if len(owed) > 0 && p.unfinished() >= m.cfg.MaxUnfinished {
		return nil, CodeThrottled
	}
	if c.Commit && o != nil && o.refuse {
		return nil, CodeStaleMember
	}
	return owed, CodeOK
}

func (m *model) prepare(c PrepareTransaction, o *offsets) Code {
	p := m.byPID(c.Ref.ProducerID)
	if p == nil {
		return CodeUnknownID
	}
	if m.remembered(p, c.Ref) != nil {
		return CodeConflict
	}
	if x := p.txns[c.Ref]; x != nil && x.held != nil {
		return CodeOK
	}
	if code := m.mayEnd(p, c.Ref); code != CodeOK {
		return code
	}
	held, code := m.judge(p, EndTransaction{Ref: c.Ref, Commit: true, Participants: c.Participants}, o)
	if code != CodeOK {
		return code
	}
	if openRef, x := p.open(); x == nil || openRef != c.Ref {
		if p.unfinished() >= m.cfg.MaxUnfinished {
			return CodeThrottled
		}
		m.closeOpen(p, ReasonSuperseded)
	}
	p.txns[c.Ref] = &modelTxn{held: held}
	p.updated = m.now
	return CodeOK
}

func (m *model) complete(c CompletePrepared) Code {
	p := m.byPID(c.Ref.ProducerID)
	if p == nil {
		return CodeUnknownID
	}
	if x := m.remembered(p, c.Ref); x != nil {
		if (x.outcome == Committed) == c.Commit {
			return CodeOK
		}
		return CodeConflict
	}
	if x := p.txns[c.Ref]; x == nil || x.held == nil {
		if code := m.mayEnd(p, c.Ref); code != CodeOK && code != CodePreparedExists {
			return code
		}
		return CodeInvalid
	}
	m.closePrepared(p, c.Ref, c.Commit, ReasonClient)
	return CodeOK
}

func (m *model) closePrepared(p *modelID, r Ref, commit bool, why Reason) {
	if commit {
		m.decide(p, r, Committed, ReasonNone, p.txns[r].held)
		return
	}
	owed := map[uint64][]Progress{}
	for shard := range p.txns[r].held {
		owed[shard] = nil
	}
	m.decide(p, r, Aborted, why, owed)
}

func (m *model) expire(r Ref) Code {
	p := m.byPID(r.ProducerID)
	if p == nil {
		return CodeUnknownID
	}
	x := p.txns[r]
	switch {
	case x == nil || !x.open:
		return CodeNotOpen
	case m.now < x.deadline:
		return CodeNotDue
	}
	m.closeOpen(p, ReasonTimeout)
	return CodeOK
}

func (m *model) ack(shard uint64, p *modelID, x *modelTxn, damaged bool) bool {
	delete(x.owed, shard)
	x.damaged = x.damaged || damaged
	if len(x.owed) > 0 {
		return false
	}
	m.ended++
	x.ended = m.ended
	p.updated = m.now
	return true
}

func (m *model) markersApplied(item MarkerAck) (noted, completed bool) {
	p := m.byPID(item.Ref.ProducerID)
	if p == nil {
		return false, false
	}
	x := p.txns[item.Ref]
	if x == nil || x.undecided() {
		return false, false
	}
	if _, owes := x.owed[item.Shard]; !owes {
		return false, false
	}
	return true, m.ack(item.Shard, p, x, item.Answer == MarkerMissingData || item.Answer == MarkerConflict)
}

func (m *model) abortTransaction(r Ref, force bool) Code {
	p := m.byPID(r.ProducerID)
	if p == nil {
		return CodeUnknownID
	}
	if x := m.remembered(p, r); x != nil {
		if x.outcome == Committed {
			return CodeConflict
		}
		return CodeOK
	}
	code := m.mayEnd(p, r)
	x := p.txns[r]
	switch {
	case x != nil && x.held != nil && force:
		m.closePrepared(p, r, false, ReasonAdmin)
		return CodeOK
	case x != nil && x.held != nil || code != CodeOK && code != CodePreparedExists:
		return code
	case x == nil || !x.open:
		return CodeNotOpen
	}
	m.closeOpen(p, ReasonAdmin)
	return CodeOK
}

func (m *model) fence(id string, epoch uint32) Code {
	p := m.ids[id]
	switch {
	case p == nil:
		return CodeUnknownID
	case epoch > p.epoch:
		return CodeInvalid
	case epoch == p.epoch:
		m.closeOpen(p, ReasonFenced)
		p.epoch++
		p.updated = m.now
	}
	return CodeOK
}

func (m *model) deleteID(id string) Code {
	p := m.ids[id]
	if p == nil {
		return CodeUnknownID
	}
	if _, x := p.prepared(); x != nil {
		return CodePreparedExists
	}
	if _, x := p.open(); x != nil {
		m.closeOpen(p, ReasonAdmin)
		p.epoch++
	}
	if p.unfinished() > 0 {
		return CodeIncomplete
	}
	delete(m.ids, id)
	return CodeOK
}

func (m *model) expireID(pid uint64) Code {
	for id, p := range m.ids {
		if p.pid != pid {
			continue
		}
		switch {
		case p.unfinished() > 0:
			return CodeIncomplete
		case m.now-p.updated < m.cfg.IDExpiration:
			return CodeNotDue
		}
		delete(m.ids, id)
		return CodeOK
	}
	return CodeUnknownID
}

func (m *model) removeShard(shard uint64) {
	type owing struct {
		p *modelID
		x *modelTxn
	}
	var list []owing
	for _, p := range m.ids {
		for _, x := range p.txns {
			delete(x.enlisted, shard)
			delete(x.held, shard)
			if _, owes := x.owed[shard]; owes {
				list = append(list, owing{p, x})
			}
		}
	}
	slices.SortFunc(list, func(a, b owing) int { return cmp.Compare(a.x.decided, b.x.decided) })
	for _, o := range list {
		m.ack(shard, o.p, o.x, false)
	}
}

// owedTo lists what the shard is owed, in the order of the decisions.
func (m *model) owedTo(shard uint64) []Ref {
	order := map[int]Ref{}
	for _, p := range m.ids {
		for r, x := range p.txns {
			if _, owes := x.owed[shard]; owes {
				order[x.decided] = r
			}
		}
	}
	var refs []Ref
	for _, n := range slices.Sorted(maps.Keys(order)) {
		refs = append(refs, order[n])
	}
	return refs
}

// completeBelow by its definition: nothing of the producer below it is
// unfinished, and it is the highest such.
func (p *modelID) completeBelow() Ref {
	best := Ref{ProducerID: p.pid, Epoch: p.epoch, Number: p.last() + 1}
	for r, x := range p.txns {
		if (x.undecided() || len(x.owed) > 0) && r.Less(best) {
			best = r
		}
	}
	return best
}

func (m *model) status(r Ref) (Status, Reason) {
	p := m.byPID(r.ProducerID)
	if p == nil {
		return StatusUnknownID, ReasonNone
	}
	if x := m.remembered(p, r); x != nil {
		if x.outcome == Committed {
			return StatusCommitted, ReasonNone
		}
		return StatusAborted, x.reason
	}
	switch {
	case p.txns[r] != nil && p.txns[r].held != nil:
		return StatusPrepared, ReasonNone
	case r.Number == 0 || r.Epoch > p.epoch:
		return StatusInvalid, ReasonNone
	case r.Epoch == p.epoch && (p.txns[r] != nil && p.txns[r].open || r.Number > p.last()):
		return StatusOpen, ReasonNone
	case r.Epoch == p.epoch:
		return StatusForgotten, ReasonNone
	}
	if m.surelyNever(p, r) {
		return StatusAborted, ReasonFenced
	}
	return StatusForgotten, ReasonNone
}

// surelyNever is what may be claimed of an epoch that is over: that r was not
// decided, because nothing at or above it was, either at all, or, while the
// epoch is one of the last, in that epoch.
func (m *model) surelyNever(p *modelID, r Ref) bool {
	atAll, inEpoch := true, true
	for d, x := range p.txns {
		if x.undecided() || d.Less(r) {
			continue
		}
		atAll = false
		if d.Epoch == r.Epoch {
			inEpoch = false
		}
	}
	recent := int(p.epoch-r.Epoch) <= m.cfg.RequestIDsKept
	return atAll || recent && inEpoch
}
