package history

import (
	"encoding/binary"
	"hash/fnv"
)

// What the reference machine knows of a transaction.
const (
	txUndecided byte = iota
	// txDoomed: its client said that it will never commit it; perhaps nothing has
	// reached the coordinator.
	txDoomed
	txAborted
	txCommitted
)

// coordinatorState is the reference machine of one producer: the epoch, and how
// far each transaction is. It is a value, equal to others by ==. That deadlines
// pass and newer transactions close older ones needs no step of its own: an
// undecided transaction may be found aborted at any time.
type coordinatorState struct {
	started bool // the epoch is known
	epoch   uint32
	txns    string // a byte per transaction
}

func (s coordinatorState) hash() uint64 {
	h := fnv.New64a()
	_, _ = h.Write(binary.BigEndian.AppendUint32(nil, s.epoch)) // never fails
	_, _ = h.Write([]byte(s.txns))
	return h.Sum64()
}

// set changes what is known of a transaction.
func (s *coordinatorState) set(tx int, to byte) {
	if s.txns[tx] == to {
		return
	}
	b := []byte(s.txns)
	b[tx] = to
	s.txns = string(b)
}

// step applies an operation and reports whether it can have had its answer.
func (s *coordinatorState) step(op *operation) bool {
	if op.lenient {
		s.effect(op)
		return true
	}
	switch op.kind {
	case KindInit, KindFence:
		return s.raise(op)
	case KindCommit:
		return s.commit(op)
	case KindAbort, KindAdminAbort:
		return s.abort(op)
	default:
		return s.ask(op)
	}
}

// current reports whether the operation's epoch is the current one.
func (s *coordinatorState) current(op *operation) bool { return !s.started || s.epoch == op.epoch }

// raise is a new epoch: it aborts what is undecided in older ones. A Fence names
// the epoch that it finishes, and does nothing when that is over already: it is
// answered with the current one.
func (s *coordinatorState) raise(op *operation) bool {
	if op.kind == KindFence && s.started && op.epoch == s.epoch {
		return true
	}
	if s.started && (op.epoch <= s.epoch || op.epoch > s.epoch+1 && !op.spareRaises) {
		return false
	}
	s.enter(op)
	switch {
	case op.previous < 0:
		return true
	case op.previousWas == Committed:
		return s.txns[op.previous] == txCommitted
	case op.previousWas.never():
		return s.txns[op.previous] != txCommitted
	}
	return true
}

// enter takes the epoch of an operation for the current one.
func (s *coordinatorState) enter(op *operation) {
	s.started, s.epoch = true, op.epoch
	b := []byte(s.txns)
	for i := range b {
		if b[i] != txCommitted && op.transactions.ids[i].Epoch < s.epoch {
			b[i] = txAborted
		}
	}
	s.txns = string(b)
}

// effect makes true what an answer says, as far as nothing speaks against it.
func (s *coordinatorState) effect(op *operation) {
	switch {
	case op.kind == KindInit || op.kind == KindFence:
		if !s.started || op.epoch > s.epoch {
			s.enter(op)
		}
	case op.outcome == Committed:
		s.set(op.tx, txCommitted)
	case op.outcome == NotCommitted || op.kind == KindAbort && !op.touched && op.outcome.never():
		s.set(op.tx, max(s.txns[op.tx], txDoomed))
	case op.outcome.never():
		s.set(op.tx, max(s.txns[op.tx], txAborted))
	}
}

func (s *coordinatorState) commit(op *operation) bool {
	was := s.txns[op.tx]
	switch op.outcome {
	case Committed:
		if was == txCommitted {
			return true
		}
		s.set(op.tx, txCommitted)
		return was == txUndecided && s.current(op)
	case Aborted:
		s.set(op.tx, txAborted)
	case Fenced:
		if s.started && s.epoch <= op.epoch && !op.spareRaises {
			return false
		}
		s.set(op.tx, txAborted)
	case NotCommitted:
		s.set(op.tx, max(was, txDoomed))
	default:
		return true // forgotten: nothing is said
	}
	return was != txCommitted
}

// abort: a client that knows that nothing has arrived sends nothing, and says that
// it was aborted.
func (s *coordinatorState) abort(op *operation) bool {
	was := s.txns[op.tx]
	switch {
	case op.outcome == Committed:
		return was == txCommitted
	case !op.outcome.never():
		return true
	case op.kind == KindAdminAbort || op.touched && op.outcome != NotCommitted:
		s.set(op.tx, txAborted)
	default:
		s.set(op.tx, max(was, txDoomed))
	}
	return was != txCommitted
}

// ask is GetOutcome.
func (s *coordinatorState) ask(op *operation) bool {
	was := s.txns[op.tx]
	switch op.outcome {
	case Committed:
		return was == txCommitted
	case Open:
		return (was == txUndecided || was == txDoomed) && s.current(op)
	case Invalid:
		return s.started && op.epoch > s.epoch
	case Forgotten:
		return true
	default:
		s.set(op.tx, txAborted)
		return was != txCommitted
	}
}

// settled is what the answers of earlier windows tell, whatever the order of their
// calls was.
type settled struct {
	started bool
	epoch   uint32
	txns    []byte // by the key's numbers
}

// state is where the reference machine begins a window.
func (s *settled) state(k *key, txns *keyTxns) coordinatorState {
	b := make([]byte, len(txns.ids))
	for i, id := range txns.ids {
		b[i] = s.txns[k.txns.index[id]]
		if s.started && id.Epoch < s.epoch && b[i] != txCommitted {
			b[i] = txAborted
		}
	}
	return coordinatorState{started: s.started, epoch: s.epoch, txns: string(b)}
}

// settle takes note of an answer.
func (s *settled) settle(op *operation) {
	if op.kind == KindInit || op.kind == KindFence {
		s.started, s.epoch = true, max(s.epoch, op.epoch)
		return
	}
	alone, one := *op, coordinatorState{txns: string(s.txns[op.tx : op.tx+1])}
	alone.tx = 0
	one.effect(&alone)
	s.txns[op.tx] = one.txns[0]
}
