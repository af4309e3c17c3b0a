package meddle

import (
	"math"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// manyEnds: transactions of one producer, each with an end of another kind.
func (m *meddler) manyEnds() {
	ends := []func(*ground, *transaction){
		m.committedTwice, m.abortedTwice, m.coveredInPart, m.leftBehind, m.shardNotNamed, m.endedWrong, m.stillWriting, m.abortedByOperator,
	}
	m.on(func(g *ground) {
		p := m.newProducer()
		for range m.upTo(4) {
			t := m.begin(p)
			for range m.Rand.IntN(4) {
				m.write(t, g.any(m))
			}
			if m.chance(3) {
				m.wait(80 * time.Millisecond) // it is enlisted
			}
			pick(m, ends...)(g, t)
		}
		m.inspect(g)
	})
}

func (m *meddler) committedTwice(g *ground, t *transaction) {
	if m.commit(g, t, m.chance(2)) != ok {
		return
	}
	m.commit(g, t, true)
	m.end(g, t, t.ending(false, t.progress(g)), conflict)
	m.outcome(t.ref, isCommitted)
}

func (m *meddler) abortedTwice(g *ground, t *transaction) {
	m.abort(g, t, m.chance(2))
	m.abort(g, t, true)
	m.commit(g, t, false)
	m.check(!t.committed, "a transaction that was aborted was committed")
	m.outcome(t.ref, isAborted)
}

// coveredInPart: the commit leaves out the last records.
func (m *meddler) coveredInPart(g *ground, t *transaction) {
	progress := t.progress(g)
	for _, p := range progress {
		p.NextSequence -= uint64(m.Rand.IntN(int(p.GetNextSequence() + 1)))
	}
	req := t.ending(true, progress)
	req.WaitApplied = true
	m.end(g, t, req, ok, conflict)
}

// leftBehind: its producer goes on without ending it.
func (m *meddler) leftBehind(g *ground, t *transaction) {
	next := m.begin(t.p)
	m.write(next, g.any(m))
	t.over = true
	if m.commit(g, next, true) != ok {
		return
	}
	m.end(g, t, t.ending(true, t.progress(g)), conflict, forgotten)
	m.check(!t.committed, "a transaction that was left behind was committed")
	m.outcome(t.ref, isAborted, isForgotten)
}

// shardNotNamed: the commit does not name what was written. Before the shard has
// enlisted it takes effect without.
func (m *meddler) shardNotNamed(g *ground, t *transaction) {
	named := t.progress(g)
	if len(named) > 0 {
		named = named[1:]
	}
	if m.end(g, t, t.ending(true, named), ok, unsettledSends, conflict) == unsettledSends {
		m.commit(g, t, true)
	}
}

// endedWrong: ends that nobody may ask for, before one that is right.
func (m *meddler) endedWrong(g *ground, t *transaction) {
	right := t.progress(g)
	wrong := func(bend func(r *oncelogv1.EndTransactionRequest), may ...answer) {
		req := t.ending(true, append([]*oncelogv1.PartitionProgress(nil), right...))
		bend(req)
		m.end(g, t, req, append(may, conflict)...)
	}
	wrong(func(r *oncelogv1.EndTransactionRequest) { r.ProducerToken = forge(t.token) }, invalidToken)
	wrong(func(r *oncelogv1.EndTransactionRequest) { r.ProducerToken = nil }, invalidToken)
	wrong(func(r *oncelogv1.EndTransactionRequest) {
		r.Partitions = append(r.Partitions, &oncelogv1.PartitionProgress{Partition: nowhere})
	}, invalidTxn)
	wrong(func(r *oncelogv1.EndTransactionRequest) {
		r.Partitions = append(r.Partitions, &oncelogv1.PartitionProgress{})
	}, invalidArgument)
	twice := &oncelogv1.PartitionProgress{Partition: g.parts[0].named, NextSequence: t.next[g.parts[0]]}
	wrong(func(r *oncelogv1.EndTransactionRequest) { r.Partitions = append(r.Partitions, twice, twice) }, invalidArgument)
	wrong(func(r *oncelogv1.EndTransactionRequest) {
		r.Commit, r.Offsets = false, []*oncelogv1.GroupOffsets{{GroupId: "g"}}
	}, invalidArgument)
	wrong(func(r *oncelogv1.EndTransactionRequest) { r.Offsets = []*oncelogv1.GroupOffsets{{}} }, invalidArgument)
	wrong(func(r *oncelogv1.EndTransactionRequest) { r.Offsets = make([]*oncelogv1.GroupOffsets, 65) }, limitExceeded)
	wrong(func(r *oncelogv1.EndTransactionRequest) {
		r.Offsets = []*oncelogv1.GroupOffsets{{GroupId: "g", MemberId: long}}
	}, limitExceeded)
	wrong(func(r *oncelogv1.EndTransactionRequest) {
		r.Txn = &oncelogv1.TxnRef{ProducerId: t.ref.GetProducerId(), Epoch: t.ref.GetEpoch()}
	}, invalidArgument)
	m.commit(g, t, false)
}

// stillWriting: records that come after the decision are refused or discarded.
func (m *meddler) stillWriting(g *ground, t *transaction) {
	wait, end := m.chance(2), pick(m, m.commit, m.abort)
	applied := end(g, t, wait) == ok && wait
	p := g.any(m)
	records := m.records(1)
	may := []answer{txnEnded, staleTxn}
	if !applied || t.next[p] == 0 {
		// The shard has not heard of it, or perhaps of others before it, or is none of
		// its shards.
		may = append(may, ok, throttled|forNow)
	}
	if a, _ := m.append(p, t, appends(p, t.ref, t.token, t.next[p], records), records, may...); a == ok {
		t.next[p]++
	}
}

// abortedByOperator: its producer is told so and goes on.
func (m *meddler) abortedByOperator(g *ground, t *transaction) {
	m.wait(100 * time.Millisecond)
	req := &oncelogv1.AbortTransactionRequest{TransactionalId: t.p.id, WaitApplied: m.chance(2)}
	if m.Twins || m.chance(2) {
		req.Txn = t.ref // a late copy must not hit another
	}
	var resp oncelogv1.AbortTransactionResponse
	a, _ := m.ask(coordinator, oncelogv1.TransactionService_AbortTransaction_FullMethodName, req, &resp, ok, invalidTxn)
	switch {
	case a == ok && resp.GetTxn().GetTxnNumber() == t.ref.GetTxnNumber():
		t.over = true
		m.end(g, t, t.ending(true, t.progress(g)), conflict)
		m.outcome(t.ref, isAborted)
	default: // it was not open: it has written nothing, or its shards have not enlisted it
		if m.unsure {
			m.lost = true // an abort of whatever is open may still be under way
		}
		m.commit(g, t, false)
	}
}

// takeover: a producer is taken over in the middle of a transaction.
func (m *meddler) takeover() {
	m.on(func(g *ground) {
		p := m.newProducer()
		done := m.begin(p)
		m.write(done, g.any(m))
		decided := m.commit(g, done, false)
		old := m.begin(p)
		at := g.any(m)
		m.write(old, at)
		if m.chance(2) {
			m.wait(80 * time.Millisecond)
		}
		epochs := m.upTo(3)
		for range epochs {
			resp := m.initialize(p, txnTimeout)
			m.check(resp.GetPrevious().GetTxn().GetTxnNumber() > 0 || decided != ok, "nothing is known of the transaction before")
		}
		old.over = true
		m.zombie(g, done, old, at)
		next := m.begin(p)
		m.write(next, at)
		m.commit(g, next, true)
		m.inspect(g)
	})
}

// zombie: the old instance goes on.
func (m *meddler) zombie(g *ground, done, old *transaction, at *part) {
	m.end(g, old, old.ending(true, old.progress(g)), fenced, conflict, forgotten)
	m.check(!old.committed, "a transaction of an epoch that was over was committed")
	records := m.records(1)
	if a, _ := m.append(at, old, appends(at, old.ref, old.token, old.next[at], records), records, fenced, txnEnded, staleTxn, ok); a == ok {
		old.next[at]++
	}
	far := &oncelogv1.TxnRef{ProducerId: old.ref.GetProducerId(), Epoch: old.ref.GetEpoch(), TxnNumber: old.ref.GetTxnNumber() + 50}
	m.outcome(far, isAborted, isForgotten)
	m.outcome(old.ref, isAborted, isForgotten)
	m.end(g, old, &oncelogv1.EndTransactionRequest{Txn: far, ProducerToken: old.token, Commit: true}, fenced, forgotten)
	if done.committed {
		m.outcome(done.ref, isCommitted, isForgotten)
		m.end(g, done, done.ending(true, done.progress(g)), ok, forgotten)
	}
	ahead := &oncelogv1.TxnRef{ProducerId: old.ref.GetProducerId(), Epoch: old.ref.GetEpoch() + 100, TxnNumber: 1}
	m.outcome(ahead, isInvalid)
}

// requests: InitProducer repeated under its identity, and without one.
func (m *meddler) requests() {
	p := m.newProducer()
	first := &oncelogv1.InitProducerRequest{TransactionalId: p.id, RequestId: m.name("request"), NoWait: true}
	var one, two oncelogv1.InitProducerResponse
	m.ask(coordinator, oncelogv1.TransactionService_InitProducer_FullMethodName, first, &one, ok)
	m.ask(coordinator, oncelogv1.TransactionService_InitProducer_FullMethodName, first, &two, ok)
	m.check(one.GetEpoch() == two.GetEpoch(), "one request got the epochs %d and %d", one.GetEpoch(), two.GetEpoch())
	m.check(one.GetTimeoutMs() > 0, "a timeout of %d", one.GetTimeoutMs())
	m.initialize(p, txnTimeout)
	m.ask(coordinator, oncelogv1.TransactionService_InitProducer_FullMethodName, first, &two, fenced)
	if !m.loose() {
		m.ask(coordinator, oncelogv1.TransactionService_InitProducer_FullMethodName, &oncelogv1.InitProducerRequest{TransactionalId: p.id}, &two, ok)
		m.check(two.GetEpoch() > p.epoch, "epoch %d after %d", two.GetEpoch(), p.epoch)
	}
}

// timeout: a transaction is held open longer than it may be.
func (m *meddler) timeout() {
	m.on(func(g *ground) {
		p := m.newProducer()
		m.initialize(p, 300)
		t := m.begin(p)
		at := g.any(m)
		m.write(t, at)
		m.wait(time.Second)
		m.commit(g, t, true)
		next := m.begin(p)
		m.write(next, at)
		m.commit(g, next, true)
		m.inspect(g)
	})
}

// forgottenOutcomes: a transaction so long ago that nobody remembers it.
func (m *meddler) forgottenOutcomes() {
	m.on(func(g *ground) {
		p := m.newProducer()
		first := m.begin(p)
		m.write(first, g.any(m))
		m.commit(g, first, true)
		for range m.Txn.OutcomesKept + 1 {
			t := m.begin(p)
			if m.chance(3) {
				m.write(t, g.any(m))
			}
			if m.chance(3) {
				m.abort(g, t, false)
			} else {
				m.commit(g, t, false)
			}
		}
		last := m.begin(p)
		m.commit(g, last, true)
		m.outcome(first.ref, isForgotten, isCommitted, isAborted) // others may not be complete yet
		m.end(g, first, first.ending(true, first.progress(g)), forgotten, ok, conflict)
		m.end(g, first, first.ending(false, nil), forgotten, ok, conflict)
		m.ask(coordinator, oncelogv1.TransactionService_AbortTransaction_FullMethodName,
			&oncelogv1.AbortTransactionRequest{TransactionalId: p.id, Txn: first.ref}, &oncelogv1.AbortTransactionResponse{}, forgotten, conflict, ok)
		m.inspect(g)
	})
}

// emptyEnds: transactions that have written nothing, up to the last number that
// there is.
func (m *meddler) emptyEnds() {
	p := m.newProducer()
	g := &ground{}
	m.commit(g, m.begin(p), true)
	m.abort(g, m.begin(p), true)
	free := p.at(p.number + 10)
	m.outcome(free.ref, isOpen)
	m.ask(coordinator, oncelogv1.TransactionService_AbortTransaction_FullMethodName,
		&oncelogv1.AbortTransactionRequest{TransactionalId: p.id, Txn: free.ref}, &oncelogv1.AbortTransactionResponse{}, invalidTxn)
	m.abort(g, free, false)
	m.outcome(free.ref, isAborted)
	last := p.at(math.MaxUint64)
	m.commit(g, last, false)
	m.outcome(last.ref, isCommitted)
	m.end(g, p.at(p.number+9), p.at(p.number+9).ending(true, nil), forgotten)
	if m.chance(2) {
		m.initialize(p, 0)
		m.commit(g, m.begin(p), false)
	}
}

// stray: a transaction of a producer that has none.
func (m *meddler) stray() {
	m.on(func(g *ground) {
		p := m.plainProducer()
		t := p.at(1)
		at := g.any(m)
		// A shard that has seen it asks, and learns that there is no such id.
		m.write(t, at, unknownProducer|ifLoose)
		t.over = true
		m.end(g, t, t.ending(true, t.progress(g)), unknownProducer)
		m.outcome(t.ref, isInvalid)
		m.ask(coordinator, oncelogv1.TransactionService_DescribeTransaction_FullMethodName,
			&oncelogv1.DescribeTransactionRequest{ProducerId: p.pid}, &oncelogv1.DescribeTransactionResponse{}, unknownProducer)
		m.inspect(g)
	})
}

// tooMuchCovered: a client that commits more than it has sent. The shard tells of
// damage, and so does the outcome.
func (m *meddler) tooMuchCovered() {
	m.on(func(g *ground) {
		p := m.newProducer()
		m.Lies(p.pid)
		t := m.begin(p)
		at := g.any(m)
		if m.chance(2) {
			m.write(t, at)
		} else if !m.settled(at) {
			return // a shard that has not heard of the partition misses nothing in it
		}
		progress := []*oncelogv1.PartitionProgress{{Partition: at.id, NextSequence: t.next[at] + 3}}
		if m.end(g, t, t.ending(true, progress), ok, conflict) != ok {
			return
		}
		for range settleTries {
			resp := m.outcome(t.ref, isCommitted)
			if m.lost || len(resp.GetPendingShards()) == 0 {
				m.check(resp.GetDamaged(), "a commit of more than there is has damaged nothing")
				m.inspect(g)
				return
			}
			m.wait(2 * retryPause)
		}
	})
}
