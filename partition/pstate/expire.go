package pstate

import (
	"maps"
	"slices"
)

// touch notes that a producer was active.
func (s *State) touch(p *producer) {
	if p.listed {
		s.idle.remove(p)
	}
	p.seen, p.listed = s.now, true
	s.idle.pushBack(p)
}

// sweep lets the sequences of producers expire that were silent for
// [Config.ProducerExpiration] of log time. What a producer's floor, fence and
// ended transactions say outlives that: without them a late copy of an old
// batch, or a repeated marker, would meet a shard that knows nothing. They go when
// the coordinator says that the id is gone, and then leave a tombstone, which
// expires here as well.
func (s *State) sweep() {
	s.gone.expire(s.now, s.cfg.ProducerExpiration, maxSweep)
	for range maxSweep {
		p := s.idle.head
		if p == nil || s.now-p.seen < s.cfg.ProducerExpiration {
			return
		}
		if p.open > 0 { // an open transaction is activity
			s.touch(p)
			continue
		}
		s.idle.remove(p)
		p.listed = false
		s.strip(p)
		s.dropIfEmpty(p)
	}
}

// strip forgets every sequence of a producer without open transactions.
func (s *State) strip(p *producer) {
	s.dropStreams(p.idem)
	p.idem = nil
	for _, t := range p.txns {
		s.dropStreams(t.parts)
		t.parts = nil
	}
}

// FlooredProducers returns up to limit ids above after, ascending, of which the
// shard keeps a floor or a fence: those to ask the coordinator about. Of ids that
// are gone nobody has to ask again. It looks at all producers; ask seldom.
func (s *State) FlooredProducers(after uint64, limit int) []uint64 {
	var out []uint64
	for _, id := range slices.Sorted(maps.Keys(s.producers)) {
		if len(out) >= limit {
			break
		}
		if p := s.producers[id]; id > after && (p.settle != Point{} || p.fence > 0) {
			out = append(out, id)
		}
	}
	return out
}
