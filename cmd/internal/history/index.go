package history

import (
	"fmt"
	"slices"
)

// index reads the events into tables and checks that they fit together.
func (c *checker) index() {
	c.partitions = make(map[Partition]int)
	c.byTxID = make(map[TxID]*txn)
	c.answers = make(map[TxID][]answer)
	begun := 0
	for i := range c.h.Events {
		if c.h.Events[i].Kind == KindBegin {
			begun++
		}
	}
	c.txns = make([]txn, 0, begun) // pointers into it stay valid
	acked := []int64{}             // highest offset acknowledged so far, by partition
	for at := range c.h.Events {
		e := &c.h.Events[at]
		if e.Kind > lastKind || e.Outcome > lastOutcome {
			c.malformed(at, "unknown kind or outcome")
			continue
		}
		if !e.Partition.IsZero() {
			c.partition(e.Partition)
		}
		for len(acked) < len(c.parts) {
			acked = append(acked, -1)
		}
		switch e.Kind {
		case KindBegin:
			c.indexBegin(at, e)
		case KindSend, KindAck, KindRefuse:
			c.indexRecord(at, e, acked)
		case KindOffsets:
			c.indexMoves(at, e)
		case KindAnswer:
			c.indexAnswer(at, e)
		case KindPosition, KindRead, KindEnds:
			c.indexRead(at, e)
		case KindNote:
		default:
			c.indexCall(at, e)
		}
	}
}

func (c *checker) indexBegin(at int, e *Event) {
	if e.Txn != uint64(len(c.txns))+1 {
		c.malformed(at, "transaction %d after %d", e.Txn, len(c.txns))
		c.txns = append(c.txns, txn{commitAt: -1})
		return
	}
	c.txns = append(c.txns, txn{
		n: e.Txn, id: e.TxID, tid: e.TransactionalID, process: e.process(), commitAt: -1, plain: e.TxID.Number == 0,
	})
	t := &c.txns[len(c.txns)-1]
	if t.plain {
		return
	}
	if other := c.byTxID[t.id]; other != nil {
		// The number is the client's own choice, within an epoch that is its alone.
		c.violate(t.about(UniqueIDs, "", "the same transaction was begun before, as %d", other.n))
		return
	}
	c.byTxID[t.id] = t
}

// txn returns the transaction that an event names; nil: there is none.
func (c *checker) txn(at int, e *Event) *txn {
	if e.Txn == 0 || e.Txn > uint64(len(c.txns)) {
		c.malformed(at, "unknown transaction %d", e.Txn)
		return nil
	}
	return &c.txns[e.Txn-1]
}

func (c *checker) indexRecord(at int, e *Event, acked []int64) {
	t := c.txn(at, e)
	if t == nil {
		return
	}
	p := c.partition(e.Partition)
	if e.Kind == KindSend {
		if e.Value.Txn != t.n || int64(e.Value.Index) != int64(len(t.records)) || e.Value.Partition != e.Partition.Index ||
			e.Value.Client != t.process.Client || e.Partition.IsZero() {
			c.malformed(at, "value %+v is not the next one of transaction %d", e.Value, t.n)
			return
		}
		t.records = append(t.records, record{
			part: p, amount: e.Value.Amount, source: e.Value.Source, sentAt: at, ackAt: -1, ack: -1, offset: -1, floor: acked[p],
		})
		return
	}
	if e.Value.Txn != t.n || int64(e.Value.Index) >= int64(len(t.records)) || t.records[e.Value.Index].part != p {
		c.malformed(at, "record %+v was not sent", e.Value.ValueID)
		return
	}
	r := &t.records[e.Value.Index]
	switch {
	case e.Kind == KindRefuse:
		r.refused = true
	case e.Offset < -1:
		c.malformed(at, "offset %d", e.Offset)
	default:
		c.acknowledge(at, t, r, e.Offset, acked)
	}
}

func (c *checker) acknowledge(at int, t *txn, r *record, offset int64, acked []int64) {
	t.touched = true
	if r.ackAt < 0 {
		r.ackAt = at
	}
	switch {
	case offset < 0:
	case r.ack < 0:
		r.ack = offset
		acked[r.part] = max(acked[r.part], offset)
	case r.ack != offset:
		c.violate(t.about(Readable, AnomalyOffsets, "acknowledged here and at offset %d", r.ack).in(c.parts[r.part].name, offset))
	}
}

func (c *checker) indexMoves(at int, e *Event) {
	t := c.txn(at, e)
	if t == nil {
		return
	}
	if !c.goodMoves(at, e.Group) {
		return
	}
	for _, m := range e.Group.Moves {
		t.moves = append(t.moves, groupMove{e.Group.Name, c.partition(m.Partition), m})
	}
}

func (c *checker) goodMoves(at int, g *Group) bool {
	ok := g != nil && !slices.ContainsFunc(g.Moves, func(m Move) bool { return m.From < 0 || m.Next < m.From || m.Partition.IsZero() })
	if !ok {
		c.malformed(at, "moves that go backwards, or none")
	}
	return ok
}

func (c *checker) indexRead(at int, e *Event) {
	if e.Kind != KindEnds && e.Reader == 0 {
		c.malformed(at, "no reader")
	}
	if e.Reader > uint64(len(c.h.Events)) {
		c.malformed(at, "reader %d", e.Reader)
	}
	c.readers = max(c.readers, int(min(e.Reader, uint64(len(c.h.Events)))))
	switch {
	case e.Partition.IsZero():
		c.malformed(at, "no partition")
	case e.Kind == KindRead && (e.Read == nil || e.Read.From < 0 || e.Read.Next < e.Read.From):
		c.malformed(at, "nothing read, or backwards")
	case e.Kind == KindEnds && e.Ends == nil:
		c.malformed(at, "no ends")
	case e.Kind == KindRead && e.Txn != 0:
		c.txn(at, e)
	}
}

func (c *checker) indexCall(at int, e *Event) {
	if e.Call != uint64(len(c.calls))+1 {
		c.malformed(at, "call %d after %d", e.Call, len(c.calls))
		return
	}
	k := call{
		kind: e.Kind, tid: e.TransactionalID, id: e.TxID, process: e.process(), group: e.Group, at: at, answer: -1,
	}
	switch e.Kind {
	case KindCommit, KindAbort:
		k.txn = c.txn(at, e)
		if k.txn == nil {
			return
		}
		if k.txn.plain || k.txn.id != e.TxID {
			c.malformed(at, "transaction %d is not %v", e.Txn, e.TxID)
			return
		}
		k.touched = k.txn.touched
		if e.Kind == KindCommit && k.txn.commitAt < 0 {
			k.txn.commitAt = at
		}
	case KindCommitOffsets:
		if !c.goodMoves(at, e.Group) {
			return
		}
		for _, m := range e.Group.Moves {
			c.partition(m.Partition)
		}
	case KindFetchOffsets:
		if e.Group == nil {
			c.malformed(at, "no group")
			return
		}
	default:
	}
	c.calls = append(c.calls, k)
}

func (c *checker) indexAnswer(at int, e *Event) {
	if e.Call == 0 || e.Call > uint64(len(c.calls)) || c.calls[e.Call-1].answer >= 0 {
		c.malformed(at, "call %d does not wait for an answer", e.Call)
		return
	}
	k := &c.calls[e.Call-1]
	k.answer, k.outcome, k.code = at, e.Outcome, e.Code
	switch k.kind {
	case KindCommit, KindAbort, KindOutcome:
		if !c.afterCommit(k) {
			c.said(k.id, answer{at, e.Outcome, "the answer to " + k.kind.String()})
		}
	case KindAdminAbort:
		c.said(e.TxID, answer{at, e.Outcome, "the answer to admin-abort"})
	case KindInit, KindFence:
		if e.Previous != nil {
			c.said(e.Previous.TxID, answer{at, e.Previous.Outcome, "what " + k.kind.String() + " told of the previous transaction"})
		}
	case KindFetchOffsets:
		c.indexPositions(at, k, e)
	default:
	}
}

// indexPositions takes the answer to a FetchOffsets.
func (c *checker) indexPositions(at int, k *call, e *Event) {
	if e.Outcome != Committed {
		return
	}
	if e.Group == nil || e.Group.Name != k.group.Name {
		c.malformed(at, "no positions of the group")
		return
	}
	for _, p := range e.Group.Positions {
		if p.Offset < -1 || p.Partition.IsZero() {
			c.malformed(at, "position %d in %v", p.Offset, p.Partition)
		}
		c.partition(p.Partition)
	}
	k.group = e.Group
}

// afterCommit reports whether a call is an Abort after a Commit that succeeded,
// as deferred ones are: it does nothing, and says so by success.
func (c *checker) afterCommit(k *call) bool {
	return k.kind == KindAbort && slices.ContainsFunc(c.answers[k.id], func(a answer) bool { return a.outcome == Committed && a.at < k.at })
}

func (c *checker) said(id TxID, a answer) {
	if id.Number != 0 {
		c.answers[id] = append(c.answers[id], a)
	}
}

// indexAudit reads the audit into tables.
func (c *checker) indexAudit() {
	a := c.h.Audit
	if a == nil {
		return
	}
	c.decided = make(map[TxID]Outcome, len(a.Outcomes))
	for _, o := range a.Outcomes {
		if before, ok := c.decided[o.TxID]; ok && before != o.Outcome {
			c.violate(Violation{Invariant: OneOutcome, Offset: -1, TxID: o.TxID, Text: "the coordinator has two outcomes of it"})
		}
		c.decided[o.TxID] = o.Outcome
	}
	for i := range a.Logs {
		p := &c.parts[c.partition(a.Logs[i].Partition)]
		if p.log != nil {
			c.bad = true
			c.violate(Violation{Invariant: Recorded, Offset: -1, Partition: p.name, Text: "the audit has two logs of it"})
		}
		p.log = &a.Logs[i]
	}
	for _, g := range a.Offsets {
		c.partition(g.Partition)
		if g.Offset < 0 {
			c.bad = true
			c.violate(Violation{
				Invariant: Recorded, Offset: g.Offset, Partition: g.Partition, Text: fmt.Sprintf("the audit's position of group %q", g.Group),
			})
		}
	}
}
