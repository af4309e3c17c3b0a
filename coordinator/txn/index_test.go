package txn

import (
	"math/rand/v2"
	"testing"
)

// The random duel has three ids; indexes show their faults with many.
func TestIndexesWithManyIDs(t *testing.T) {
	t.Parallel()
	const ids = 50
	for seed := range uint64(3) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		r := newRig(t)
		pids := make([]uint64, ids)
		number := make([]uint64, ids)
		for range 700 {
			i := rnd.IntN(ids)
			id := "id-" + decimal(uint64(i))
			switch {
			case pids[i] == 0 || !r.m.Known(pids[i]):
				pids[i], number[i] = r.mustInit(id, 1).ProducerID, 0
			case rnd.IntN(12) == 0:
				r.m.DeleteID(r.now, DeleteID{TransactionalID: id})
			case rnd.IntN(3) > 0:
				number[i]++
				r.enlistItem(EnlistItem{Ref: ref(pids[i], 0, number[i]), Shard: 1, Age: rnd.Int64N(10_000)})
			default:
				r.abort(ref(pids[i], 0, number[i]))
			}
			if rnd.IntN(10) == 0 {
				r.drain()
			}
			r.check()
		}
		r.now += 10_000
		for due := r.m.Expired(r.now, 7); len(due) > 0; due = r.m.Expired(r.now, 7) {
			r.m.Expire(r.now, Expire{Refs: due})
			r.check()
		}
		if _, open := r.m.NextDeadline(); open {
			t.Fatalf("seed %d: an open transaction outlived its deadline", seed)
		}
		r.drain()
		r.now += r.m.Config().IDExpiration
		for idle := r.m.IdleIDs(r.now, 9); len(idle) > 0; idle = r.m.IdleIDs(r.now, 9) {
			r.m.ExpireIDs(r.now, ExpireIDs{ProducerIDs: idle})
			r.check()
		}
		if n := r.m.Counts().IDs; n != 0 {
			t.Fatalf("seed %d: %d ids outlived their expiration", seed, n)
		}
	}
}
