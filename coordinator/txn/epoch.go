package txn

import "math"

// raiseEpoch aborts the open transaction and moves to the next epoch. It does
// nothing and says no when there is no next epoch.
func (m *Machine) raiseEpoch(p *producer, r Reason) (closed Ref, ok bool) {
	if p.epoch == math.MaxUint32 {
		return Ref{}, false
	}
	closed = m.closeOpen(p, r)
	m.endEpoch(p)
	m.touch(p)
	return closed, true
}

// endEpoch moves p, which has nothing open, to the next epoch, and notes how
// far the decisions of the one that ends got; see closePrepared for one that is
// made later. There must be a next epoch.
func (m *Machine) endEpoch(p *producer) {
	p.pastLast = pushBounded(p.pastLast, p.lastDecided(), m.cfg.RequestIDsKept)
	p.epoch++
}

// lastOf returns the last of an epoch that has ended: the highest number decided
// in it, or 0. It says no when the epoch has not ended, or so long ago that it
// is not kept.
func (p *producer) lastOf(epoch uint32) (last uint64, ok bool) {
	oldest := p.epoch - uint32(len(p.pastLast))
	if epoch < oldest || epoch >= p.epoch {
		return 0, false
	}
	return p.pastLast[epoch-oldest], true
}

// neverDecided tells whether it is certain that r, which belongs to an epoch
// that has ended, was never decided. It never will be, then: only the current
// epoch gets decisions, and the prepared transaction, which r must not be. No is not
// the opposite: the decision may have been made and have left the memory.
func (p *producer) neverDecided(r Ref) bool {
	if p.refOf(p.latest).Less(r) {
		return true // true of any epoch, however long ago it ended
	}
	last, ok := p.lastOf(r.Epoch)
	return ok && r.Number > last
}
