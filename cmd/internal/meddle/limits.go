package meddle

import (
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// The acts of this file use up what is bounded. They are for clusters whose
// bounds are small, or take what they find.

// mostSteps bounds an act where the bound itself is far.
const mostSteps = 80

// manyIDs makes transactional ids until there are as many as there may be, and
// deletes most of them.
func (m *meddler) manyIDs() {
	if m.Txn.MaxIDs > mostSteps {
		return
	}
	var ids []string
	full := false
	for range m.Txn.MaxIDs + 1 {
		id := m.name("id")
		a, _ := m.ask(coordinator, oncelogv1.TransactionService_InitProducer_FullMethodName,
			&oncelogv1.InitProducerRequest{TransactionalId: id, RequestId: id, NoWait: true}, &oncelogv1.InitProducerResponse{}, ok, limitExceeded)
		if a != ok {
			full = a == limitExceeded
			break
		}
		ids = append(ids, id)
	}
	m.check(full || m.aged(m.Txn.IDExpiration), "%d transactional ids were made, and there may be %d", len(ids), m.Txn.MaxIDs)
	for i, id := range ids {
		if i%8 != 0 || m.unsure {
			m.deleteID(id)
		}
	}
	m.newProducer()
}

// manyOpen leaves transactions of one producer open in one shard until it refuses
// more.
func (m *meddler) manyOpen() {
	if m.Shard.MaxOpenPerProducer > mostSteps {
		return
	}
	m.on(func(g *ground) {
		pr, p := m.newProducer(), g.any(m)
		for range m.Shard.MaxOpenPerProducer + 3 {
			t := m.begin(pr)
			records := m.records(1)
			a, _ := m.append(p, t, appends(p, t.ref, t.token, 0, records), records, ok, throttled, txnEnded, staleTxn)
			t.over = true // by the next one
			if a == throttled {
				m.mayComeAgain()
				break
			}
		}
		m.commit(g, m.begin(pr), true)
		m.inspect(g)
	})
}

// manyProducers writes with one producer after the other until the shard refuses
// to remember more.
func (m *meddler) manyProducers() {
	if min(m.Shard.MaxProducers, m.Shard.MaxSequences) > mostSteps {
		return
	}
	m.on(func(g *ground) {
		p := g.any(m)
		for range mostSteps {
			pr := m.plainProducer()
			records := m.records(1)
			ref := &oncelogv1.TxnRef{ProducerId: pr.pid}
			a, _ := m.append(p, nil, appends(p, ref, pr.token, 0, records), records, ok, overloaded)
			if a != ok {
				m.mayComeAgain()
				break
			}
		}
		m.inspect(g)
	})
}

// mayComeAgain follows the refusal of an append whose copy may fare better: where the
// network repeats requests, a copy of it may find room later.
func (m *meddler) mayComeAgain() { m.lost = m.lost || m.loose() }

// manyAborted leaves many transactions of several producers open, which all come to
// nothing, and reads past them.
func (m *meddler) manyAborted() {
	const producers, each = 5, 60
	if m.Shard.MaxOpenPerProducer < each || min(m.Shard.MaxProducers, m.Shard.MaxSequences) < producers*each {
		return
	}
	m.on(func(g *ground) {
		p := g.any(m)
		m.writePlain(m.plainProducer(), p)
		for range producers {
			m.manyInOneFrame(p, each)
		}
		m.writePlain(m.plainProducer(), p)
		m.inspect(g)
	})
}

// manyInOneFrame opens transactions of a new producer, with one record each.
func (m *meddler) manyInOneFrame(p *part, n int) {
	pr := m.newProducer()
	var (
		frame   []*oncelogv1.AppendRequest
		records []*oncelogv1.Record
		txns    []*transaction
	)
	for i := range n {
		t := m.begin(pr)
		t.over = true // its producer goes on without it
		r := m.record()
		req := appends(p, t.ref, t.token, 0, []*oncelogv1.Record{r})
		req.RequestId = uint64(i)
		frame, records, txns = append(frame, req), append(records, r), append(txns, t)
	}
	if m.lost {
		return
	}
	answers, err := m.exchange(shardAt(p.shard), frame)
	if err != nil {
		m.lost = true // some may have been stored
		return
	}
	for i := range n {
		a := streamed(answers[uint64(i)])
		switch {
		case a == ok:
			m.noteAppend(p, txns[i], 0, records[i:i+1], answers[uint64(i)].GetResults()[0])
		case a.transient():
			m.lost = true
			return
		default:
			m.check(a == txnEnded || a == staleTxn, "an append was answered %v", a)
		}
	}
	m.commit(&ground{}, m.begin(pr), false)
}

// unfinished ends one transaction after the other without waiting for any, until
// there are too many of which some shard has not heard.
func (m *meddler) unfinished() {
	m.on(func(g *ground) {
		pr := m.newProducer()
		p := g.any(m)
		for range min(m.Txn.MaxUnfinished, 8) + 3 {
			t := m.begin(pr)
			if !m.write(t, p) {
				return
			}
			end := t.ending(m.chance(2), t.progress(g))
			if m.end(g, t, end, ok, conflict, throttled) == throttled {
				m.end(g, t, end, ok, conflict)
			}
		}
		m.inspect(g)
	})
}

// manyPlaces writes one transaction to more shards and partitions than it may
// have.
func (m *meddler) manyPlaces() {
	if min(m.Txn.MaxParticipants, m.Txn.MaxPartitionsPerTxn) > 12 {
		return
	}
	t := m.begin(m.newProducer())
	var grounds []*ground
	all := &ground{}
	for _, replicas := range []uint32{1, 2, 3} {
		g := m.newGround(5, replicas)
		for _, p := range g.parts {
			if !m.lost {
				m.write(t, p)
			}
		}
		grounds = append(grounds, g)
		all.parts = append(all.parts, g.parts...)
	}
	if m.lost {
		return
	}
	m.wait(4 * retryPause)
	var d oncelogv1.DescribeTransactionResponse
	m.ask(coordinator, oncelogv1.TransactionService_DescribeTransaction_FullMethodName, &oncelogv1.DescribeTransactionRequest{TransactionalId: t.p.id}, &d, ok)
	for range 2 {
		m.write(t, all.any(m)) // its shards enlist again, with more partitions
		m.wait(10 * retryPause)
	}
	m.check(len(d.GetOpen().GetParticipants()) <= m.Txn.MaxParticipants, "a transaction has %d shards", len(d.GetOpen().GetParticipants()))
	may := []answer{limitExceeded, conflict}
	if len(t.progress(all)) < 15 {
		may = append(may, ok, unsettledSends) // it has timed out while it was written
	}
	m.end(all, t, t.ending(true, t.progress(all)), may...)
	m.abort(&ground{}, t, false)
	for _, g := range grounds {
		m.deleteTopic(g)
	}
}

// idle leaves transactional ids and producers to themselves, until they expire.
func (m *meddler) idle() {
	m.on(func(g *ground) {
		for range 3 {
			pr := m.newProducer()
			t := m.begin(pr)
			m.write(t, g.any(m))
			m.commit(g, t, false)
			m.writePlain(m.plainProducer(), g.any(m))
		}
		m.inspect(g)
	})
}

// unattended leaves a transaction to its timeout while its producer is silent for
// longer than a shard remembers anybody who has nothing open.
func (m *meddler) unattended() {
	if m.Shard.ProducerExpiration > 2*txnTimeout {
		return
	}
	m.on(func(g *ground) {
		pr, p := m.newProducer(), g.any(m)
		m.initialize(pr, 2*m.Shard.ProducerExpiration)
		t := m.begin(pr)
		m.write(t, p)
		for range 10 {
			m.wait(time.Duration(m.Shard.ProducerExpiration) * time.Millisecond / 6)
			m.writePlain(m.plainProducer(), g.any(m)) // the shards' time goes on
		}
		m.commit(g, t, true)
		m.inspect(g)
	})
}
