package txn

import "math"

// DeleteID removes a transactional id. It names the producer id as well, so
// that a late copy cannot remove an id created anew under the same name.
type DeleteID struct {
	TransactionalID string
	// ProducerID of the id; 0 means whichever has the name.
	ProducerID uint64
}

// DeleteIDResult answers a [DeleteID].
//
// Codes: OK (removed); UNKNOWN_ID (removed before, or never there); INCOMPLETE
// (Pending shards have to acknowledge first; repeat the command then);
// PREPARED_EXISTS.
type DeleteIDResult struct {
	Code Code
	// ProducerID is that of the id, also when it has been removed.
	ProducerID uint64
	// Closed is the transaction that this command aborted, or zero.
	Closed Ref
	// Pending lists the shards to wait for, ascending.
	Pending []uint64
	// Prepared is the transaction that is prepared (PREPARED_EXISTS).
	Prepared Ref
}

// DeleteID executes the command of that name.
//
// An id goes only with nothing open, prepared or completing: a shard that has not
// heard of a commit would be told that its records are stray. An open transaction is
// aborted first, and its producer fenced, so that the wait comes to an end.
func (m *Machine) DeleteID(at Millis, c DeleteID) DeleteIDResult {
	m.advance(at)
	p := m.byName[c.TransactionalID]
	if p == nil || c.ProducerID != 0 && c.ProducerID != p.id {
		return DeleteIDResult{Code: CodeUnknownID}
	}
	res := DeleteIDResult{ProducerID: p.id}
	if p.prepared != nil {
		res.Code, res.Prepared = CodePreparedExists, p.prepared.ref
		return res
	}
	if p.open != nil {
		res.Closed = m.closeOpen(p, ReasonAdmin)
		if p.epoch < math.MaxUint32 {
			m.endEpoch(p)
		}
	}
	if !p.quiet() {
		res.Code, res.Pending = CodeIncomplete, incompleteShards(p)
		return res
	}
	m.removeProducer(p)
	res.Code = CodeOK
	return res
}

// removeProducer forgets a quiet id. Its producer id is never used again.
func (m *Machine) removeProducer(p *producer) {
	m.idle.remove(p)
	m.order.remove(p.id)
	m.owned.leave(p.owner)
	delete(m.byName, p.name)
	delete(m.byID, p.id)
	m.tell(EventForgotten, p, 0, 0, decision{})
}

func (DeleteID) kind() kind { return kindDeleteID }

func (c DeleteID) apply(m *Machine, at Millis, _ Env) Result { return m.DeleteID(at, c) }

func (DeleteIDResult) result() {}
