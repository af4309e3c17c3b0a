package pstate

import (
	"testing"
)

func TestCommitAndAbortMoveTheStableEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1, 2)
	r.put(t1, 1, 0, 2) // 0,1
	r.put(o1, 1, 0, 3) // 2..4
	r.put(id, 1, 0, 1) // 5
	r.put(t1, 1, 2, 1) // 6
	r.put(t1, 2, 0, 1)
	r.wantEnds(1, 0, 7)
	if b, ok := r.s.Blocker(1); !ok || b.Ref != t1 || b.FirstOffset != 0 || b.OpenedAt != 2 {
		t.Fatalf("%+v", b)
	}
	// The younger one ends first: nothing moves.
	res := r.marker(MarkerApplied, commit(o1, Progress{1, 3}))
	equal(t, "moved", res.Moved, nil)
	r.wantEnds(1, 0, 7)
	r.wantPrefix(0, o1, 1, 2, 0, 3) // committed but above the LSO
	res = r.marker(MarkerApplied, abort(t1, ReasonClient))
	equal(t, "moved", res.Moved, []uint64{1, 2})
	if res.Discarded != 4 {
		t.Fatalf("%+v", res)
	}
	r.wantEnds(1, 7, 7)
	r.wantPrefix(0, t1, 1, 0, 0, 2)
	r.wantPrefix(3, o1, 1, 2, 0, 3)
	r.wantPrefix(1, id, 1, 5, 0, 1)
	r.wantPrefix(0, t1, 1, 6, 2, 1)
	if _, ok := r.s.Blocker(1); ok {
		t.Fatal("blocker of a partition without open transactions")
	}
}

// The bounds of the stable end, and of what is found in the aborted index, one
// record to either side (TI-04).
func TestStableEndOffByOne(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1)
	r.wantEnds(1, 0, 0)
	r.put(id, 1, 0, 1)
	r.wantEnds(1, 1, 1)
	r.put(t1, 1, 0, 1) // offset 1
	r.wantEnds(1, 1, 2)
	r.wantPrefix(1, id, 1, 0, 0, 1)
	r.wantPrefix(0, t1, 1, 1, 0, 1)
	r.put(t2, 1, 0, 1) // offset 2
	r.marker(MarkerApplied, abort(t1, ReasonClient))
	r.wantEnds(1, 2, 3)
	r.wantPrefix(0, t1, 1, 1, 0, 1)
	r.marker(MarkerApplied, commit(t2, Progress{1, 1}))
	r.wantEnds(1, 3, 3)
	r.wantPrefix(1, t2, 1, 2, 0, 1)
	// The last record aborted: the end still moves past it (F1, F13).
	r.put(t3, 1, 0, 1)
	r.marker(MarkerApplied, abort(t3, ReasonClient))
	r.wantEnds(1, 4, 4)
	r.wantPrefix(0, t3, 1, 3, 0, 1)
	if got := r.s.Aborted(1, 0, 4); len(got) != 2 || got[0] != (HiddenRange{t1, 1, 2, 0}) || got[1] != (HiddenRange{t3, 3, 4, 0}) {
		t.Fatalf("%+v", got)
	}
	equal(t, "none left of 1", r.s.Aborted(1, 0, 1), nil)
	equal(t, "one in [1,3)", r.s.Aborted(1, 1, 3), []HiddenRange{{t1, 1, 2, 0}})
	equal(t, "none in [2,3)", r.s.Aborted(1, 2, 3), nil)
}

func TestCommitCoversWhatItStates(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1, 2)
	r.put(t1, 1, 0, 4)
	r.put(id, 1, 0, 2)
	r.put(t1, 1, 4, 4) // offsets 6..9
	r.put(t1, 2, 0, 3) // not named
	res := r.marker(MarkerApplied, commit(t1, Progress{1, 6}))
	if res.Discarded != 2+3 || res.Damage != nil {
		t.Fatalf("%+v", res)
	}
	r.wantPrefix(4, t1, 1, 0, 0, 4)
	r.wantPrefix(2, id, 1, 4, 0, 2)
	r.wantPrefix(2, t1, 1, 6, 4, 4) // a prefix of the batch
	r.wantPrefix(0, t1, 2, 0, 0, 3)
	// A duplicate of what was not covered is not a success (I2).
	r.try(CodeDuplicate, t1, 1, 0, 4)
	r.try(CodeOutOfOrder, t1, 1, 4, 4)
	r.try(CodeTxnEnded, t1, 1, 6, 2)
	r.try(CodeTxnEnded, t1, 2, 0, 3)
}

func TestCommitOnABatchBoundaryKeepsOffsets(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1)
	r.put(t1, 1, 0, 4)
	r.put(t1, 1, 4, 4)
	r.marker(MarkerApplied, commit(t1, Progress{1, 4}))
	if res := r.try(CodeDuplicate, t1, 1, 0, 4); !res.OffsetKnown || res.BaseOffset != 0 {
		t.Fatalf("%+v", res)
	}
	r.try(CodeTxnEnded, t1, 1, 4, 4)
}

func TestMarkersAreIdempotent(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1)
	r.put(t1, 1, 0, 1)
	r.marker(MarkerApplied, commit(t1, Progress{1, 1}))
	if res := r.marker(MarkerAlready, commit(t1, Progress{1, 1})); res.Discarded != 0 || res.Moved != nil {
		t.Fatalf("%+v", res)
	}
	res := r.marker(MarkerConflict, abort(t1, ReasonTimeout))
	if res.Outcome != OutcomeCommit {
		t.Fatalf("%+v", res)
	}
	r.wantPrefix(1, t1, 1, 0, 0, 1)
	r.put(t2, 1, 0, 1)
	r.marker(MarkerApplied, abort(t2, ReasonAdmin))
	if res := r.marker(MarkerConflict, commit(t2, Progress{1, 1})); res.Outcome != OutcomeAbort || res.Reason != ReasonAdmin {
		t.Fatalf("%+v", res)
	}
	r.wantPrefix(0, t2, 1, 1, 0, 1)
}

func TestMarkerIgnoresFences(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1)
	r.put(t1, 1, 0, 1)
	r.put(t2, 1, 0, 1)
	r.answer(MarkerDiscarded, EnlistAnswer{Ref: t2, OpenedAt: 3, Verdict: VerdictStray, Fence: 9})
	r.marker(MarkerApplied, commit(t1, Progress{1, 1}))
	r.wantPrefix(1, t1, 1, 0, 0, 1)
}

func TestMarkerForWhatIsNotHere(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1)
	// Above the floor, nothing stated: recorded, and a late append opens nothing (A18).
	r.marker(MarkerRecorded, abort(t2, ReasonFenced))
	if res := r.try(CodeTxnEnded, t2, 1, 0, 1); res.Reason != ReasonFenced {
		t.Fatalf("%+v", res)
	}
	r.try(CodeStaleTxn, t1, 1, 0, 1)
	// At or below the floor without a record: long done.
	r.marker(MarkerAlready, commit(t1, Progress{1, 4}))
	// Above the floor and stating data: missing, and so again when repeated.
	for range 2 {
		res := r.marker(MarkerMissingData, commit(t3, Progress{1, 4}, Progress{99, 5}))
		equal(t, "damage", res.Damage, []Damage{{1, 4, 0}})
	}
	r.marker(MarkerConflict, abort(t3, ReasonNone))
	// A commit that names only what was removed is no damage.
	r.marker(MarkerRecorded, commit(e1, Progress{99, 5}))
	r.marker(MarkerRecorded, commit(TxnRef{7, 1, 2}, Progress{1, 0}))
}

func TestMissingDataOfAnOpenTransaction(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1, 2, 3)
	r.put(t1, 1, 0, 2)
	r.put(t1, 3, 0, 2)
	for i := range 2 {
		res := r.marker(MarkerMissingData, commit(t1, Progress{1, 5}, Progress{2, 1}, Progress{3, 2}))
		equal(t, "damage", res.Damage, []Damage{{1, 5, 2}, {2, 1, 0}})
		if i == 0 {
			equal(t, "moved", res.Moved, []uint64{1, 3})
		}
	}
	r.wantPrefix(2, t1, 1, 0, 0, 2)
	r.wantEnds(1, 2, 2)
}

func TestCompleteBelow(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1)
	r.put(t1, 1, 0, 1)
	r.marker(MarkerApplied, commit(t1, Progress{1, 1}))
	r.put(t2, 1, 0, 1)
	r.put(t3, 1, 0, 1)
	m := commit(t3, Progress{1, 1})
	m.CompleteBelow = t3.Point() // t2 is open: a mistake, or on its way; it stays
	r.marker(MarkerApplied, m)
	if f, _ := r.s.Producer(7); f.Ended != 1 || f.Open != 1 || f.Floor != t3.Point() {
		t.Fatalf("%+v", f)
	}
	r.try(CodeStaleTxn, t1, 1, 0, 1)
	r.marker(MarkerAlready, commit(t1, Progress{1, 1}))
	r.marker(MarkerAlready, abort(t1, ReasonNone)) // the record is gone: no conflict
	r.wantPrefix(1, t1, 1, 0, 0, 1)                // visible already: t2 and t3 are behind it
	r.marker(MarkerApplied, abort(t2, ReasonNone))
}

func TestInvalidMarkers(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1)
	for _, m := range []Marker{{Ref: id, Decision: Decision{Outcome: OutcomeCommit}}, {Ref: t1}, {Ref: t1, Decision: Decision{Outcome: 7}}} {
		if res := r.s.Markers(9, Markers{List: []Marker{m}}); res[0].Code != MarkerInvalid {
			t.Fatalf("%+v", res)
		}
	}
	if len(r.s.producers) != 0 {
		t.Fatal("an invalid marker left a producer")
	}
	// Progress out of order is read all the same when it comes without the codec.
	r.put(t1, 1, 0, 2)
	res := r.s.Markers(9, Markers{List: []Marker{commit(t1, Progress{5, 1}, Progress{1, 2})}})
	if res[0].Code != MarkerApplied || res[0].Discarded != 0 {
		t.Fatalf("%+v", res)
	}
}

// A late append after the marker, for every way a marker can find things.
func TestLateAppendAfterMarker(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1, 2)
	r.put(t1, 1, 0, 1)
	r.marker(MarkerApplied, commit(t1, Progress{1, 1}))
	r.try(CodeTxnEnded, t1, 1, 1, 1)
	r.try(CodeTxnEnded, t1, 2, 0, 1)
	r.marker(MarkerRecorded, abort(t2, ReasonTimeout))
	r.try(CodeTxnEnded, t2, 1, 0, 1)
	m := abort(t3, ReasonTimeout)
	m.CompleteBelow = Point{0, 4}
	r.marker(MarkerRecorded, m)
	r.try(CodeStaleTxn, t2, 1, 0, 1)
	r.try(CodeStaleTxn, t3, 1, 0, 1)
	if r.s.OpenCount() != 0 {
		t.Fatal("a late append opened a transaction")
	}
	r.wantEnds(1, 1, 1)
}
