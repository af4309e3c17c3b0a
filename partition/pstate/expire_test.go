package pstate

import "testing"

const hour = Millis(3_600_000)

func TestIdempotentProducerExpires(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{ProducerExpiration: hour}, 1)
	r.put(id, 1, 0, 1)
	r.now += hour
	// The command that wakes it up finds it (the sweep comes after).
	r.put(id, 1, 1, 1)
	r.now += hour
	r.put(o1, 1, 0, 1) // somebody else's command sweeps
	r.try(CodeUnknownProducer, id, 1, 2, 1)
	r.put(id, 1, 0, 1)
}

func TestOpenTransactionDoesNotExpire(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{ProducerExpiration: hour}, 1)
	r.put(t1, 1, 0, 2)
	for range 5 {
		r.now += 2 * hour
		r.forget() // any command sweeps
	}
	r.try(CodeDuplicate, t1, 1, 0, 2)
	r.try(CodeAppended, t1, 1, 2, 1)
}

// H2: a marker repeated after the expiry, and a late copy of an old append.
func TestFloorAndOutcomeOutliveExpiry(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{ProducerExpiration: hour}, 1)
	r.put(t1, 1, 0, 2)
	r.marker(MarkerApplied, commit(t1, Progress{1, 2}))
	r.try(CodeDuplicate, t1, 1, 0, 2)
	r.now += hour
	r.put(id, 1, 0, 1)
	if st := r.s.Stats(); st.Sequences != 1 {
		t.Fatalf("%+v", st)
	}
	r.try(CodeTxnEnded, t1, 1, 0, 2) // ranges gone, the outcome is not
	r.marker(MarkerAlready, commit(t1, Progress{1, 2}))
	m := commit(t2)
	m.CompleteBelow = t2.Point()
	r.marker(MarkerRecorded, m)
	r.try(CodeStaleTxn, t1, 1, 0, 2)
	r.marker(MarkerAlready, commit(t1, Progress{1, 2}))
	r.wantPrefix(2, t1, 1, 0, 0, 2)
}

func TestSweepIsBounded(t *testing.T) {
	t.Parallel()
	s := New(Config{ProducerExpiration: hour})
	s.SyncPartitions(1, full(1, 1))
	for i := range uint64(3 * maxSweep) {
		s.Append(2+i, Append{At: 1, Ref: TxnRef{ProducerID: 100 + i}, Batches: []Batch{{Partition: 1, Count: 1}}}, nil)
	}
	for left := 2 * maxSweep; left >= 0; left -= maxSweep {
		s.Forget(1000, Forget{At: 2 * hour})
		if got := s.Stats().Producers; got != left {
			t.Fatalf("%d producers left, want %d", got, left)
		}
	}
}

func TestTimeAndConfigOnlyMoveByCommands(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1)
	r.now = 500
	r.put(id, 1, 0, 1)
	if r.s.Now() != 1000 || r.s.Index() != 2 {
		t.Fatal(r.s.Now(), r.s.Index())
	}
	r.entry(EncodeConfigure(nil, Configure{2000, Config{RangesKept: 1, MaxOpenPerProducer: 1}}), nil)
	if c := r.s.Config(); c.RangesKept != 1 || c.ProducerExpiration != 24*hour {
		t.Fatalf("%+v", c)
	}
	r.put(id, 1, 1, 1)
	if res := r.try(CodeDuplicate, id, 1, 0, 1); res.OffsetKnown {
		t.Fatalf("%+v", res)
	}
}
