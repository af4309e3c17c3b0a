package meddle

import (
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// prepared is the story of one prepared transaction.
type prepared struct {
	*transaction
	g        *ground
	progress []*oncelogv1.PartitionProgress
	member   *member // whose position it is to move; nil: nobody's
	moves    *part
	to       uint64
}

// preparedEnds: a transaction is prepared for the word of another system, which
// comes after everything else that could have ended it.
func (m *meddler) preparedEnds() {
	m.on(func(g *ground) {
		p := m.newProducer()
		if m.chance(3) {
			m.initialize(p, 300)
		}
		m.preparing = append(m.preparing, p)
		t := &prepared{transaction: m.begin(p), g: g}
		for range m.Rand.IntN(4) {
			m.write(t.transaction, g.any(m))
		}
		if m.chance(2) {
			m.wait(80 * time.Millisecond) // it may be enlisted
		}
		if m.prepare(t) {
			m.besides(t)
			m.completed(t)
		}
		if !m.lost {
			m.preparing = m.preparing[:len(m.preparing)-1]
			m.inspect(g)
		}
	})
}

// prepare prepares a transaction; false: it timed out before.
func (m *meddler) prepare(t *prepared) bool {
	t.progress = t.transaction.progress(t.g)
	req := &oncelogv1.PrepareTransactionRequest{Txn: t.ref, ProducerToken: t.token, Partitions: t.progress}
	if m.chance(2) {
		t.moves, t.to = t.g.any(m), uint64(m.upTo(9))
		t.member = m.join(m.name("g"), t.g.parts)
		m.commitOffsets(t.member, t.moves, 0, ok)
		req.Offsets = []*oncelogv1.GroupOffsets{t.member.commitment(t.moves, t.to)}
	}
	for range m.upTo(2) {
		a, _ := m.ask(coordinator, oncelogv1.TransactionService_PrepareTransaction_FullMethodName, req,
			&oncelogv1.PrepareTransactionResponse{}, ok, conflict, throttled|forNow)
		if a != ok {
			t.over = true
			return false
		}
	}
	return !m.lost
}

// besides: whatever else would have ended it, or gone on without it.
func (m *meddler) besides(t *prepared) {
	p := t.p
	things := []func(){
		func() { m.wait(time.Second) }, // longer than its timeout may be
		func() { m.end(t.g, t.transaction, t.ending(true, t.progress), preparedExists) },
		func() { m.end(t.g, t.transaction, t.ending(false, nil), preparedExists) },
		func() { m.end(t.g, t.transaction, p.at(t.ref.GetTxnNumber()+1).ending(true, nil), preparedExists) },
		func() { m.outcome(t.ref, isPrepared) },
		func() { m.abortByForce(t, false, preparedExists) },
		func() {
			m.ask(coordinator, oncelogv1.TransactionService_InitProducer_FullMethodName,
				&oncelogv1.InitProducerRequest{TransactionalId: p.id, NoWait: true}, &oncelogv1.InitProducerResponse{}, preparedExists)
		},
		func() {
			m.fence(p, nil, ok)
			m.keep(p, t.ref) // to know the epoch
		},
		func() {
			if m.loose() {
				return // a copy may come when it is complete, and the id may go
			}
			m.deleteID(p.id, preparedExists)
			m.lost = m.lost || m.loose()
		},
		func() { m.keep(p, t.ref) },
		func() { m.heldPosition(t) },
	}
	for range m.Rand.IntN(6) {
		pick(m, things...)()
	}
}

// keep takes the id over with the transaction that is prepared.
func (m *meddler) keep(p *producer, want *oncelogv1.TxnRef) *oncelogv1.TxnRef {
	var resp oncelogv1.InitProducerResponse
	a, _ := m.ask(coordinator, oncelogv1.TransactionService_InitProducer_FullMethodName, &oncelogv1.InitProducerRequest{
		TransactionalId: p.id, TimeoutMs: txnTimeout, RequestId: m.name("request"), KeepPrepared: true, NoWait: true,
	}, &resp, ok)
	if a != ok {
		return nil
	}
	kept := resp.GetPrepared()
	m.check(want == nil || kept.GetEpoch() == want.GetEpoch() && kept.GetTxnNumber() == want.GetTxnNumber(),
		"took over %v, and %v was prepared", kept, want)
	p.pid, p.epoch, p.token = resp.GetProducerId(), resp.GetEpoch(), resp.GetProducerToken()
	return kept
}

// heldPosition: nobody is told a position that may move, and nobody moves it.
func (m *meddler) heldPosition(t *prepared) {
	if t.member == nil {
		return
	}
	m.ask(coordinator, oncelogv1.GroupService_FetchOffsets_FullMethodName,
		&oncelogv1.FetchOffsetsRequest{GroupId: t.member.group, Partitions: []*oncelogv1.PartitionRef{t.moves.id}},
		&oncelogv1.FetchOffsetsResponse{}, unstableOffset)
	m.commitAs(t.member, t.moves, t.member.commitment(t.moves, t.to+1), unstableOffset)
}

// completed gives the word, and asks for the opposite after it.
func (m *meddler) completed(t *prepared) {
	commit := m.chance(2)
	if !commit && m.chance(3) {
		m.abortByForce(t, true, ok)
	} else if m.complete(t.ref, commit, ok, forgotten|ifLoose) != ok {
		m.lost = true // how it ended is not known any more
		return
	}
	if commit {
		t.ended(t.g, true, t.progress)
	} else {
		t.ended(t.g, false, nil)
	}
	m.complete(t.ref, commit, ok, forgotten|ifLoose)
	m.complete(t.ref, !commit, conflict, forgotten|ifLoose)
	if commit {
		m.outcome(t.ref, isCommitted, isForgotten)
	} else {
		m.outcome(t.ref, isAborted, isForgotten)
	}
	if t.member == nil {
		return
	}
	want := uint64(0)
	if commit {
		want = t.to
	}
	for _, o := range m.positions(t.member.group) {
		if o.GetPartition().GetPartitionId() == t.moves.id.GetPartitionId() {
			m.check(o.GetOffset() == want, "position %d after a prepared transaction that was to move it to %d: committed %v", o.GetOffset(), t.to, commit)
		}
	}
}

func (m *meddler) complete(ref *oncelogv1.TxnRef, commit bool, may ...answer) answer {
	var resp oncelogv1.CompletePreparedResponse
	a, e := m.ask(coordinator, oncelogv1.TransactionService_CompletePrepared_FullMethodName,
		&oncelogv1.CompletePreparedRequest{Txn: ref, Commit: commit, WaitApplied: m.chance(2)}, &resp, may...)
	switch a {
	case ok:
		m.check((resp.GetOutcome() == isCommitted) == commit, "the word was commit=%v, and it ended as %v", commit, resp.GetOutcome())
	case conflict:
		m.check((e.Metadata[apierrors.KeyOutcome] == "COMMITTED") != commit, "CONFLICT with %s after commit=%v", e.Metadata[apierrors.KeyOutcome], commit)
	default:
	}
	return a
}

func (m *meddler) abortByForce(t *prepared, force bool, may ...answer) {
	m.ask(coordinator, oncelogv1.TransactionService_AbortTransaction_FullMethodName,
		&oncelogv1.AbortTransactionRequest{TransactionalId: t.p.id, Txn: t.ref, Force: force}, &oncelogv1.AbortTransactionResponse{}, may...)
}

// settlePrepared ends what acts have left prepared that lost their footing: as an
// application does that finds no word in the other system. A new epoch comes first,
// so that no request to prepare that is still on its way is carried out after it.
func (m *meddler) settlePrepared() {
	for _, p := range m.preparing {
		for m.ctx.Err() == nil {
			m.lost = false
			if kept := m.keep(p, nil); kept != nil {
				m.complete(kept, false, ok, conflict, forgotten, unknownProducer)
			}
			if !m.lost {
				break
			}
		}
	}
	m.preparing = nil
}
