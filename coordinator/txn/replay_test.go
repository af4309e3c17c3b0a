package txn

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// entry is one log entry as a runner would propose it.
type entry struct {
	bytes []byte
	world world // the catalogue at that point; never changed
}

// randomLog lets a machine run on random commands and returns the log.
func randomLog(rnd *rand.Rand, length int) []entry {
	m := New(tightConfig())
	w := newWorld()
	now := Millis(1000)
	log := make([]entry, 0, length)
	for range length {
		now += rnd.Int64N(4)
		c := randomCommand(rnd, m, now)
		log = append(log, entry{bytes: AppendCommand(nil, now, c), world: w})
		m.Apply(now, c, Env{Catalog: w})
	}
	return log
}

// randomCommand picks something that has a chance to matter in the state of m.
func randomCommand(rnd *rand.Rand, m *Machine, now Millis) Command {
	pid := 1 + rnd.Uint64N(m.nextProducerID)
	r := ref(pid, 0, 1+rnd.Uint64N(3))
	if p := m.byID[pid]; p != nil {
		r = ref(pid, p.epoch, max(1, p.last()+2-min(rnd.Uint64N(4), p.last()+1)))
	}
	shard := 1 + rnd.Uint64N(4)
	switch rnd.IntN(18) {
	case 0, 1:
		return InitProducer{
			TransactionalID: duelIDs[rnd.IntN(3)], Timeout: 10, RequestID: RequestID{byte(rnd.IntN(60))},
			Owner: "User:x", ClientHost: "h", KeepPrepared: rnd.IntN(2) == 0,
			Exclusive: rnd.IntN(4) == 0,
		}
	case 2, 3, 4, 5:
		return Enlist{Items: []EnlistItem{
			{Ref: r, Shard: shard, OpenedAt: rnd.Uint64(), Age: rnd.Int64N(5), Partitions: []uint64{shard * 10}},
			{Ref: r, Shard: 1 + rnd.Uint64N(4)},
		}}
	case 6, 7, 8, 9:
		return EndTransaction{Ref: r, Commit: rnd.IntN(3) > 0, Participants: []Participant{at(shard, rnd.Uint64N(100))}}
	case 10, 11, 12:
		items := []MarkerAck{{Ref: r, Shard: shard, Answer: MarkerApplied}}
		for mk := range m.Owed(shard) {
			items = append(items, MarkerAck{Ref: mk.Ref, Shard: shard, Answer: MarkerAnswer(1 + rnd.IntN(5))})
			if rnd.IntN(3) == 0 {
				break
			}
		}
		return MarkersApplied{Items: items}
	case 13:
		return Expire{Refs: append(m.Expired(now, 3), r)}
	case 14:
		return ExpireIDs{ProducerIDs: append(m.IdleIDs(now, 2), pid)}
	case 15:
		return PrepareTransaction{Ref: r, Participants: []Participant{at(shard, rnd.Uint64N(100))}}
	case 16:
		if p := m.byID[pid]; p != nil && p.prepared != nil {
			r = p.prepared.ref
		}
		return CompletePrepared{Ref: r, Commit: rnd.IntN(2) == 0}
	}
	switch rnd.IntN(4) {
	case 0:
		return AllocateProducerIDs{Count: 1 + uint32(rnd.IntN(3))}
	case 1:
		return AbortTransaction{Ref: r, Force: rnd.IntN(2) == 0}
	case 2:
		return FenceProducer{TransactionalID: duelIDs[rnd.IntN(3)], Epoch: uint32(rnd.IntN(4))}
	}
	return DeleteID{TransactionalID: duelIDs[rnd.IntN(3)]}
}

func applyAll(t *testing.T, m *Machine, log []entry) {
	t.Helper()
	for i, e := range log {
		at, c, err := DecodeCommand(e.bytes)
		if err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		m.Apply(at, c, Env{Catalog: e.world})
		if err := m.Check(); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
	}
}

// I10: a snapshot and the rest of the log give what the whole log gives.
func TestSnapshotAndTailEqualFullReplay(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		log := randomLog(rnd, 300)
		full := New(tightConfig())
		applyAll(t, full, log)
		want := full.Snapshot()
		for range 8 {
			cut := rnd.IntN(len(log) + 1)
			head := New(tightConfig())
			applyAll(t, head, log[:cut])
			snapshot := head.Snapshot()
			tail := New(tightConfig())
			if err := tail.Restore(snapshot); err != nil {
				t.Fatalf("seed %d cut %d: %v", seed, cut, err)
			}
			if !bytes.Equal(snapshot, tail.Snapshot()) {
				t.Fatalf("seed %d cut %d: a restored machine has another snapshot", seed, cut)
			}
			if !sameDuties(head, tail) {
				t.Fatalf("seed %d cut %d: a restored machine owes something else", seed, cut)
			}
			applyAll(t, tail, log[cut:])
			if !bytes.Equal(want, tail.Snapshot()) {
				t.Fatalf("seed %d cut %d: snapshot and tail differ from the whole log", seed, cut)
			}
		}
	}
}

// sameDuties compares what two machines say a leader owes.
func sameDuties(a, b *Machine) bool {
	at := a.Now() + 1_000
	wa, wb := a.Work(at, 1000), b.Work(at, 1000)
	equal := len(wa.IdleIDs) == len(wb.IdleIDs) && len(wa.Expired) == len(wb.Expired) && len(wa.Shards) == len(wb.Shards)
	for i := 0; equal && i < len(wa.Expired); i++ {
		equal = wa.Expired[i] == wb.Expired[i]
	}
	for i := 0; equal && i < len(wa.Shards); i++ {
		equal = wa.Shards[i] == wb.Shards[i] && sameMarkers(a, b, wa.Shards[i])
	}
	return equal
}

func sameMarkers(a, b *Machine, shard uint64) bool {
	var fromB []Marker
	for mk := range b.Owed(shard) {
		fromB = append(fromB, mk)
	}
	i := 0
	for mk := range a.Owed(shard) {
		if i == len(fromB) || mk.Ref != fromB[i].Ref || mk.Decision != fromB[i].Decision || mk.CompleteBelow != fromB[i].CompleteBelow {
			return false
		}
		i++
	}
	return i == len(fromB)
}
