package pstate

// tombstones are the producer ids that do not exist any more, as the coordinator
// said. What such a producer sent is over: a copy of an append or marker that is
// still on its way must not be taken for something new, and an id is never
// handed out again, so a tombstone is never wrong. They are let go of only to
// bound them.
//
// An id is either here or in State.producers, never in both.
type tombstones struct {
	since map[uint64]Millis // by producer id: log time of the tombstone
	queue []uint64          // oldest first
}

func (g *tombstones) has(id uint64) bool {
	_, ok := g.since[id]
	return ok
}

func (g *tombstones) add(id uint64, at Millis) {
	g.since[id] = at
	g.queue = append(g.queue, id)
}

// expire lets go of at most limit tombstones that are as old as age.
func (g *tombstones) expire(now, age Millis, limit int) {
	n := 0
	for n < min(limit, len(g.queue)) && now-g.since[g.queue[n]] >= age {
		delete(g.since, g.queue[n])
		n++
	}
	g.queue = g.queue[n:]
}

// Forget is the command that follows the coordinator's word that producer ids
// do not exist any more. Ids are never handed out twice.
type Forget struct {
	At        Millis
	Producers []uint64
}

// Forget drops everything about the producers, floors and fences included, and
// leaves a tombstone of each: for [Config.ProducerExpiration] of log time every
// append of theirs is refused with [CodeProducerGone], and a marker that comes
// late is answered with [MarkerAlready], whatever it states. An id that the
// shard knows nothing of is passed over.
//
// It returns the ids, in the order of the command, of which it kept everything,
// and which are to be named again later: those with a transaction open here,
// which the coordinator will call a stray, and those beyond
// [Config.MaxProducers] tombstones.
func (s *State) Forget(index uint64, f Forget) (kept []uint64) {
	s.step(index, f.At)
	for _, id := range f.Producers {
		p := s.producers[id]
		if p == nil {
			continue
		}
		if p.open > 0 || len(s.gone.queue) >= int(s.cfg.MaxProducers) {
			kept = append(kept, id)
			continue
		}
		s.strip(p)
		if p.listed {
			s.idle.remove(p)
		}
		delete(s.producers, id)
		s.gone.add(id, s.now)
	}
	s.sweep()
	return kept
}
