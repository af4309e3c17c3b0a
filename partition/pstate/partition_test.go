package pstate

import "testing"

func TestSyncPartitions(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{MaxPartitions: 3}, 1, 2)
	if res := r.sync(full(1, 5)); res.Code != SyncOld {
		t.Fatalf("%+v", res)
	}
	delta := SyncPartitions{Version: 3, From: 2, Add: []PartitionInfo{{ID: 4}}}
	if res := r.sync(delta); res.Code != SyncGap {
		t.Fatalf("%+v", res)
	}
	delta = SyncPartitions{Version: 3, From: 1, Add: []PartitionInfo{{ID: 4}}, Remove: []uint64{9, 1, 1}}
	res := r.sync(delta)
	equal(t, "added", res.Added, []uint64{4})
	equal(t, "removed", res.Removed, []uint64{1})
	if res := r.sync(full(4, 1, 2, 3, 4)); res.Code != SyncLimit || r.s.CatalogVersion() != 3 {
		t.Fatalf("%+v", res)
	}
	res = r.sync(full(7, 6, 4, 5))
	equal(t, "added", res.Added, []uint64{5, 6})
	equal(t, "removed", res.Removed, []uint64{2})
	if p, ok := r.s.Partition(5); !ok || p.Topic != "orders" || p.Index != 5 {
		t.Fatalf("%+v", p)
	}
	if got := r.s.Partitions(); len(got) != 3 || got[0].ID != 4 || got[2].ID != 6 {
		t.Fatalf("%+v", got)
	}
}

func TestRemovedPartitionTakesItsStateAlong(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1, 2)
	r.put(t1, 1, 0, 1)
	r.put(t1, 2, 0, 1)
	r.put(o1, 1, 0, 1)
	r.put(id, 1, 0, 1)
	r.put(e1, 1, 0, 1)
	r.marker(MarkerApplied, commit(e1, Progress{1, 1}))
	res := r.sync(full(2, 2))
	equal(t, "closed", res.Closed, []TxnRef{o1})
	equal(t, "open", openRefs(r.s), []TxnRef{t1})
	if _, ok := r.s.Producer(id.ProducerID); ok {
		t.Fatal("a producer with nothing left")
	}
	r.try(CodeUnknownPartition, t1, 1, 1, 1)
	r.try(CodeStaleTxn, o1, 2, 0, 1)
	// Its marker finds nothing to do, and nothing missing.
	r.marker(MarkerAlready, commit(o1, Progress{1, 1}))
	r.marker(MarkerApplied, commit(t1, Progress{1, 1}, Progress{2, 1}))
	if _, ok := r.s.VisibleEnd(1, ReadCommitted); ok {
		t.Fatal("the partition is still visible")
	}
	if st := r.s.Stats(); st.Sequences != 1 || st.OpenTxns != 0 {
		t.Fatalf("%+v", st)
	}
}

func TestAdvanceLogStart(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1)
	r.put(t1, 1, 0, 4) // 0..3
	r.put(id, 1, 0, 4) // 4..7
	r.put(t1, 1, 4, 2) // 8..9
	r.marker(MarkerApplied, abort(t1, ReasonClient))
	r.put(t2, 1, 0, 1) // 10
	r.put(id, 1, 4, 1) // 11
	for _, c := range []struct {
		to, want uint64
		hidden   int
	}{{5, 5, 1}, {3, 5, 1}, {9, 9, 1}, {100, 10, 0}} {
		if got, code := r.advance(1, c.to); got != c.want || code != SyncApplied {
			t.Fatalf("to %d: %d %v", c.to, got, code)
		}
		if p, _ := r.s.Partition(1); p.HiddenSpans != c.hidden {
			t.Fatalf("to %d: %+v", c.to, p)
		}
	}
	if r.s.LogStart(1) != 10 {
		t.Fatal(r.s.LogStart(1))
	}
	r.try(CodeDuplicate, id, 1, 0, 4) // the records are gone, the producer is not (E7)
	if _, code := r.advance(9, 1); code != SyncUnknownPartition {
		t.Fatal(code)
	}
}
