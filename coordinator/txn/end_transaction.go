package txn

import (
	"cmp"
	"slices"
)

// EndTransaction asks to commit or abort one transaction.
type EndTransaction struct {
	Ref    Ref
	Commit bool
	// Participants are the shards that acknowledged records of the
	// transaction, with the next sequence of each partition. A shard is named
	// at most once, and so is a partition within it; the order is free.
	Participants []Participant
	// OffsetsPayload are the consumer offsets that ride on a commit, encoded
	// by the group core. This package carries the bytes and looks at nothing
	// but whether there are any. At most [MaxOffsetsPayload] bytes.
	OffsetsPayload []byte
}

// EndTransactionResult answers an [EndTransaction].
//
// Codes: OK (decided as asked, now or before); UNKNOWN_ID; CONFLICT (Outcome
// and Reason say what was decided); FENCED (the epoch is over and the
// transaction was surely never committed); FORGOTTEN (it cannot be decided any
// more, and how it ended is not known); INVALID; and for what changes nothing
// and may succeed later or after an abort: UNSETTLED_SENDS, STALE_MEMBER,
// THROTTLED, PREPARED_EXISTS (this transaction, or another one of the id, is
// prepared, and only [CompletePrepared] ends it).
type EndTransactionResult struct {
	Code    Code
	Problem Problem
	// Shard and Partition are what INVALID complains of, where that applies.
	Shard, Partition uint64
	// CurrentEpoch is that of the id; 0 with UNKNOWN_ID.
	CurrentEpoch uint32
	// Outcome, Reason and DecidedAt are the decision (OK, CONFLICT).
	Outcome   Outcome
	Reason    Reason
	DecidedAt Millis
	// Pending lists the shards that have not acknowledged the decision (OK,
	// CONFLICT), ascending; none means complete.
	Pending []uint64
	// Damaged tells that a shard could not apply the decision as told.
	Damaged bool
	// Repeated tells that the decision had been made before.
	Repeated bool
	// Unsettled lists the enlisted shards that the commit does not name
	// (UNSETTLED_SENDS), ascending.
	Unsettled []uint64
	// Superseded is an older open transaction that this one closed, or zero.
	Superseded Ref
	// Prepared is the transaction that is prepared (PREPARED_EXISTS).
	Prepared Ref
}

// EndTransaction executes the command of that name. It is the commit point: the
// decision and, with it, the offsets of env become true in this one step.
//
// A commit must name every shard that enlisted, or the client has lost track of
// a send. A commit must name only shards and partitions that exist. An abort
// may name anything: what does not exist holds no records, and a deleted topic
// must not make a transaction impossible to abort.
func (m *Machine) EndTransaction(at Millis, c EndTransaction, env Env) EndTransactionResult {
	m.advance(at)
	p := m.byID[c.Ref.ProducerID]
	if p == nil {
		return EndTransactionResult{Code: CodeUnknownID}
	}
	res := EndTransactionResult{CurrentEpoch: p.epoch}
	if d, pending, ok := p.remembered(c.Ref); ok {
		res.repeat(d, pending, c.Commit)
		return res
	}
	participants, ok := m.judgeEnd(p, c, env, &res)
	if ok {
		m.settleEnd(p, c, env, participants, &res)
	}
	return res
}

// repeat answers for a transaction that was decided before.
func (r *EndTransactionResult) repeat(d decision, c *completion, commit bool) {
	r.Code = CodeOK
	if (d.outcome == Committed) != commit {
		r.Code = CodeConflict
	}
	r.Repeated = true
	r.report(d, c)
}

// judgeEnd tells whether a transaction that is not remembered can be ended so, and
// who takes part in it. It changes nothing but res.
func (m *Machine) judgeEnd(p *producer, c EndTransaction, env Env, res *EndTransactionResult) ([]Participant, bool) {
	if res.Code, res.Problem = p.mayEnd(c.Ref); res.Code != CodeOK {
		if res.Code == CodePreparedExists {
			res.Prepared = p.prepared.ref
		}
		return nil, false
	}
	named, complaint := m.checkNamed(c, env)
	if complaint.problem != NoProblem {
		res.Code, res.Problem = CodeInvalid, complaint.problem
		res.Shard, res.Partition = complaint.shard, complaint.partition
		return nil, false
	}
	participants := named
	if !c.Commit {
		participants = union(named, p.enlistedIn(c.Ref))
	} else if res.Unsettled = p.unsettled(c.Ref, named); len(res.Unsettled) > 0 {
		res.Code = CodeUnsettledSends
		return nil, false
	}
	// An open transaction was counted when it was opened.
	if !p.isOpen(c.Ref) && len(participants) > 0 && p.unfinished() >= m.cfg.MaxUnfinished {
		res.Code = CodeThrottled
		return nil, false
	}
	if c.Commit && env.Offsets != nil && !env.Offsets.Check() {
		res.Code = CodeStaleMember
		return nil, false
	}
	return participants, true
}

// settleEnd makes the decision that everything allows.
func (m *Machine) settleEnd(p *producer, c EndTransaction, env Env, participants []Participant, res *EndTransactionResult) {
	if !p.isOpen(c.Ref) {
		res.Superseded = m.closeOpen(p, ReasonSuperseded)
	}
	outcome, reason := Aborted, ReasonClient
	if c.Commit {
		outcome, reason = Committed, ReasonNone
	}
	m.decide(p, c.Ref, outcome, reason, participants)
	if c.Commit && env.Offsets != nil {
		env.Offsets.Move()
	}
	res.report(p.latest, p.completion(c.Ref))
}

// report fills in what was decided.
func (r *EndTransactionResult) report(d decision, c *completion) {
	r.Outcome, r.Reason, r.DecidedAt, r.Damaged = d.outcome, d.reason, d.at, d.damaged
	if c != nil {
		r.Pending = c.pendingShards()
		r.Damaged = c.decision.damaged
	}
}

// mayEnd tells whether a transaction that is not remembered can be decided.
func (p *producer) mayEnd(r Ref) (Code, Problem) {
	switch {
	case r.Epoch > p.epoch:
		return CodeInvalid, ProblemEpoch
	case r.Number == 0:
		return CodeInvalid, ProblemNumber
	case p.isPrepared(r):
		return CodePreparedExists, NoProblem
	case r.Epoch == p.epoch && r.Number > p.last() && p.prepared != nil:
		return CodePreparedExists, NoProblem
	case p.isOpen(r) || r.Epoch == p.epoch && r.Number > p.last():
		return CodeOK, NoProblem
	case r.Epoch < p.epoch && p.neverDecided(r):
		return CodeFenced, NoProblem
	}
	// The number is used up. It may have been decided, even committed, and
	// have left the memory: deciding it now could contradict that (I5), and
	// so could calling it fenced, which means surely not committed (I13).
	return CodeForgotten, NoProblem
}

// unsettled lists the shards that enlisted in r and are not named.
func (p *producer) unsettled(r Ref, named []Participant) []uint64 {
	var missing []uint64
	for _, e := range p.enlistedIn(r) {
		if _, ok := findParticipant(named, e.shard); !ok {
			missing = append(missing, e.shard)
		}
	}
	return missing
}

// enlistedIn lists the shards that enlisted in r, if it is open.
func (p *producer) enlistedIn(r Ref) []enlisted {
	if !p.isOpen(r) {
		return nil
	}
	return p.open.enlisted
}

// complaint is what checkNamed found wrong.
type complaint struct {
	problem          Problem
	shard, partition uint64
}

// checkNamed returns the named participants in ascending order, in memory of
// their own. Aborts lose their progress and the shards that do not exist.
func (m *Machine) checkNamed(c EndTransaction, env Env) ([]Participant, complaint) {
	if len(c.Participants) > m.cfg.MaxParticipants {
		return nil, complaint{problem: ProblemTooMany}
	}
	if c.Commit && len(c.OffsetsPayload) > 0 && env.Offsets == nil {
		return nil, complaint{problem: ProblemOffsets}
	}
	named := slices.Clone(c.Participants)
	slices.SortFunc(named, func(a, b Participant) int { return cmp.Compare(a.Shard, b.Shard) })
	partitions := 0
	for i := range named {
		shard := named[i].Shard
		if i > 0 && named[i-1].Shard == shard {
			return nil, complaint{problem: ProblemDuplicate, shard: shard}
		}
		if partitions += len(named[i].Progress); partitions > m.cfg.MaxPartitionsPerTxn {
			return nil, complaint{problem: ProblemTooMany, shard: shard}
		}
		if !c.Commit {
			named[i].Progress = nil
			continue
		}
		if !env.hasShard(shard) {
			return nil, complaint{problem: ProblemShard, shard: shard}
		}
		progress, wrong := checkProgress(shard, named[i].Progress, env)
		if wrong.problem != NoProblem {
			return nil, wrong
		}
		named[i].Progress = progress
	}
	if !c.Commit {
		named = slices.DeleteFunc(named, func(pt Participant) bool { return !env.hasShard(pt.Shard) })
	}
	return named, complaint{}
}

// checkProgress returns the progress of one shard in ascending order.
func checkProgress(shard uint64, stated []Progress, env Env) ([]Progress, complaint) {
	progress := slices.Clone(stated)
	slices.SortFunc(progress, func(a, b Progress) int { return cmp.Compare(a.Partition, b.Partition) })
	for i, pr := range progress {
		if i > 0 && progress[i-1].Partition == pr.Partition {
			return nil, complaint{problem: ProblemDuplicate, shard: shard, partition: pr.Partition}
		}
		if !env.hasPartition(shard, pr.Partition) {
			return nil, complaint{problem: ProblemPartition, shard: shard, partition: pr.Partition}
		}
	}
	return progress, complaint{}
}

func findParticipant(list []Participant, shard uint64) (int, bool) {
	return slices.BinarySearchFunc(list, shard, func(pt Participant, shard uint64) int {
		return cmp.Compare(pt.Shard, shard)
	})
}

func (EndTransaction) kind() kind { return kindEndTransaction }

func (c EndTransaction) apply(m *Machine, at Millis, env Env) Result {
	return m.EndTransaction(at, c, env)
}

func (EndTransactionResult) result() {}
