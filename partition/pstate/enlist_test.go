package pstate

import "testing"

func TestAnswersActOnlyOnWhatTheyWereAbout(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1)
	stray := func(ref TxnRef, at uint64) EnlistAnswer {
		return EnlistAnswer{Ref: ref, OpenedAt: at, Verdict: VerdictStray, Fence: 3}
	}
	r.answer(MarkerDropped, stray(t1, 2)) // unknown producer
	r.put(t1, 1, 0, 1)                    // entry 3
	r.answer(MarkerDropped, stray(t1, 2)) // another opened_at
	r.answer(MarkerDropped, stray(t2, 3)) // another transaction
	r.try(CodeAppended, t1, 1, 1, 1)      // no fence came along
	r.marker(MarkerApplied, commit(t1, Progress{1, 2}))
	r.answer(MarkerDropped, stray(t1, 3)) // ended since: no conflict, no fence
	r.put(t2, 1, 0, 1)
	r.wantPrefix(2, t1, 1, 0, 0, 2)
}

func TestStray(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1)
	r.put(t1, 1, 0, 2)
	res := r.answer(MarkerDiscarded, EnlistAnswer{Ref: t1, OpenedAt: 2, Verdict: VerdictStray, Fence: 2})
	if res.Discarded != 2 || len(res.Moved) != 1 {
		t.Fatalf("%+v", res)
	}
	r.wantEnds(1, 2, 2)
	r.wantPrefix(0, t1, 1, 0, 0, 2)
	r.try(CodeFenced, t1, 1, 0, 2)
	r.try(CodeFenced, e1, 1, 0, 2)
	r.try(CodeAppended, TxnRef{7, 2, 1}, 1, 0, 2)
	if res := r.marker(MarkerConflict, commit(t1, Progress{1, 2})); res.Reason != ReasonStray {
		t.Fatalf("%+v", res)
	}
	r.marker(MarkerAlready, abort(t1, ReasonTimeout))
}

func TestStrayWithoutFence(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1)
	r.put(t1, 1, 0, 2)
	r.answer(MarkerDiscarded, EnlistAnswer{Ref: t1, OpenedAt: 2, Verdict: VerdictStray})
	if res := r.try(CodeTxnEnded, t1, 1, 0, 2); res.Reason != ReasonStray {
		t.Fatalf("%+v", res)
	}
	r.put(t2, 1, 0, 1)
}

func TestDecidedAnswerIsAMarker(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1)
	r.put(t1, 1, 0, 2)
	r.answer(MarkerApplied, EnlistAnswer{
		Ref: t1, OpenedAt: 2, Verdict: VerdictDecided,
		Decision: Decision{Outcome: OutcomeCommit, Progress: []Progress{{1, 1}}},
	})
	r.wantPrefix(1, t1, 1, 0, 0, 2)
	r.marker(MarkerAlready, commit(t1, Progress{1, 1}))
	r.put(t2, 1, 0, 2)
	r.answer(MarkerMissingData, EnlistAnswer{
		Ref: t2, OpenedAt: 5, Verdict: VerdictDecided,
		Decision: Decision{Outcome: OutcomeCommit, Progress: []Progress{{1, 3}}},
	})
}

// H10: an epoch that was never handed out must not lock the real producer out.
func TestInvalidLeavesNoFloor(t *testing.T) {
	t.Parallel()
	forged, forged2 := TxnRef{7, 99, 5}, TxnRef{7, 120, 1}
	invalid := func(ref TxnRef, at uint64) EnlistAnswer {
		return EnlistAnswer{Ref: ref, OpenedAt: at, Verdict: VerdictInvalid}
	}
	t.Run("first of its producer", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{}, 1)
		r.put(forged, 1, 0, 2)
		r.answer(MarkerDiscarded, invalid(forged, 2))
		if _, ok := r.s.Producer(7); ok {
			t.Fatal("a forged transaction left a producer")
		}
		r.wantEnds(1, 2, 2)
		r.wantPrefix(0, forged, 1, 0, 0, 2)
		// Years later the epoch is real: what was hidden stays so, the new data
		// is not hidden with it.
		r.put(forged, 1, 0, 2)
		r.marker(MarkerApplied, commit(forged, Progress{1, 2}))
		r.wantPrefix(0, forged, 1, 0, 0, 2)
		r.wantPrefix(2, forged, 1, 2, 0, 2)
	})
	t.Run("above a real one", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{}, 1)
		r.put(t1, 1, 0, 1)      // 2
		r.put(forged, 1, 0, 1)  // 3
		r.put(forged2, 1, 0, 1) // 4
		r.try(CodeFenced, t1, 1, 1, 1)
		r.try(CodeFenced, t2, 1, 0, 1)
		r.answer(MarkerDiscarded, invalid(forged, 3)) // in any order
		r.try(CodeFenced, t2, 1, 0, 1)
		r.answer(MarkerDiscarded, invalid(forged2, 4))
		if f, _ := r.s.Producer(7); f.Floor != t1.Point() {
			t.Fatalf("%+v", f)
		}
		r.put(t2, 1, 0, 1)
		r.marker(MarkerApplied, commit(t1, Progress{1, 1}))
		r.wantPrefix(1, t1, 1, 0, 0, 1)
	})
	t.Run("a real one ends below it meanwhile", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{}, 1)
		r.put(forged, 1, 0, 1)
		r.marker(MarkerAlready, abort(t2, ReasonFenced)) // never seen here
		r.answer(MarkerDiscarded, invalid(forged, 2))
		r.try(CodeStaleTxn, t2, 1, 0, 1)
		r.put(t3, 1, 0, 1)
	})
}
