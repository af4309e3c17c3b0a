package pstate

import "testing"

func TestForget(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1)
	r.put(t1, 1, 0, 1)
	r.put(o1, 1, 0, 1)
	r.put(id, 1, 0, 1)
	equal(t, "floored", r.s.FlooredProducers(0, 10), nil) // nothing settled yet
	r.marker(MarkerApplied, abort(t1, ReasonClient))
	r.marker(MarkerRecorded, abort(TxnRef{5, 0, 1}, ReasonClient))
	equal(t, "floored", r.s.FlooredProducers(0, 10), []uint64{5, 7})
	equal(t, "page", r.s.FlooredProducers(5, 1), []uint64{7})
	r.now = 5000
	equal(t, "kept", r.forget(7, 8, 9, 10), []uint64{8})
	for _, gone := range []uint64{7, 9} {
		if p, ok := r.s.Producer(gone); !ok || p != (ProducerFloor{LastSeen: 5000, Gone: true}) {
			t.Fatalf("%d: %+v, %v", gone, p, ok)
		}
	}
	if p, ok := r.s.Producer(10); ok {
		t.Fatalf("an id that was never heard of: %+v", p)
	}
	equal(t, "floored", r.s.FlooredProducers(0, 10), []uint64{5}) // nobody asks about 7 again
	r.wantPrefix(0, t1, 1, 0, 0, 1)                               // hidden for good
	r.try(CodeProducerGone, t3, 1, 0, 1)
	r.try(CodeProducerGone, id, 1, 1, 1)
	r.now = 6000
	equal(t, "kept", r.forget(7, 9), nil) // named twice: once is enough
	if p, _ := r.s.Producer(7); p.LastSeen != 5000 {
		t.Fatalf("%+v", p)
	}
}

// What the model found: copies of an append and of the marker of its commit that
// arrive when the id is gone. The record must not be shown twice (I1), and
// nothing is missing (I2).
func TestLateCopiesOfAProducerThatIsGone(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1, 2)
	r.put(t1, 1, 0, 2)
	r.put(t1, 2, 0, 1)
	m := commit(t1, Progress{1, 2}, Progress{2, 1})
	r.marker(MarkerApplied, m)
	r.forget(7)
	r.marker(MarkerAlready, m)
	r.try(CodeProducerGone, t1, 1, 0, 2)
	r.marker(MarkerAlready, m)
	r.answer(MarkerDropped, EnlistAnswer{Ref: t1, OpenedAt: 2, Verdict: VerdictDecided, Decision: m.Decision})
	r.marker(MarkerAlready, abort(t2, ReasonTimeout)) // nor is one recorded that was never heard of
	r.wantEnds(1, 2, 2)
	r.wantPrefix(2, t1, 1, 0, 0, 2)
	if st := r.s.Stats(); st.Producers != 0 || st.Gone != 1 {
		t.Fatalf("%+v", st)
	}
}

func TestTombstoneExpires(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{ProducerExpiration: hour}, 1)
	r.put(t1, 1, 0, 1)
	r.marker(MarkerApplied, abort(t1, ReasonClient))
	r.forget(7)
	r.now += hour - 1
	r.try(CodeProducerGone, t1, 1, 0, 1) // a late copy does not prolong it
	r.marker(MarkerAlready, abort(t1, ReasonClient))
	r.now++
	r.try(CodeProducerGone, t1, 1, 0, 1) // the sweep comes after the command
	if p, ok := r.s.Producer(7); ok {
		t.Fatalf("%+v", p)
	}
	r.put(t1, 1, 0, 1) // the coordinator will call it a stray
}

// Beyond the bound floors stay, so that late copies are known in any case, and
// are named again until there is room.
func TestTombstonesAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{ProducerExpiration: hour, MaxProducers: 2}, 1)
	for _, p := range []uint64{7, 8} {
		r.put(TxnRef{p, 0, 1}, 1, 0, 1)
		r.marker(MarkerApplied, commit(TxnRef{p, 0, 1}, Progress{1, 1}))
	}
	r.try(CodeProducerLimit, TxnRef{9, 0, 1}, 1, 0, 1)
	equal(t, "kept", r.forget(7, 8), nil)
	r.put(TxnRef{9, 0, 1}, 1, 0, 1) // tombstones take no producer's place
	r.marker(MarkerApplied, commit(TxnRef{9, 0, 1}, Progress{1, 1}))
	r.now += hour / 2
	equal(t, "kept", r.forget(9), []uint64{9})
	r.marker(MarkerAlready, commit(TxnRef{9, 0, 1}, Progress{1, 1}))
	r.try(CodeTxnEnded, TxnRef{9, 0, 1}, 1, 1, 1)
	equal(t, "floored", r.s.FlooredProducers(0, 10), []uint64{9})
	r.now += hour / 2
	r.forget() // any command sweeps
	equal(t, "kept", r.forget(9), nil)
	r.try(CodeProducerGone, TxnRef{9, 0, 1}, 1, 1, 1)
}

func TestSweepOfTombstonesIsBounded(t *testing.T) {
	t.Parallel()
	s := New(Config{ProducerExpiration: hour})
	f := Forget{At: 1}
	for i := range uint64(3 * maxSweep) {
		s.Markers(1+i, Markers{At: 1, List: []Marker{abort(TxnRef{100 + i, 0, 1}, ReasonClient)}})
		f.Producers = append(f.Producers, 100+i)
	}
	s.Forget(1000, f)
	for left := 2 * maxSweep; left >= 0; left -= maxSweep {
		s.Forget(1001, Forget{At: 2 * hour})
		if got := s.Stats().Gone; got != left {
			t.Fatalf("%d tombstones left, want %d", got, left)
		}
	}
}
