package pstate

import (
	"math"
	"testing"
)

var (
	t1 = TxnRef{7, 0, 1}
	t2 = TxnRef{7, 0, 2}
	t3 = TxnRef{7, 0, 3}
	e1 = TxnRef{7, 1, 1} // the next epoch
	o1 = TxnRef{8, 0, 1} // another producer
	id = TxnRef{9, 0, 0} // idempotent
)

func TestAppendAssignsOffsets(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1, 2)
	res := r.append(t1,
		Batch{Partition: 1, Count: 3, MaxTimestamp: 50, Size: 10},
		Batch{Partition: 2, Count: 1, MaxTimestamp: 40},
		Batch{Partition: 1, BaseSequence: 3, Count: 2, MaxTimestamp: 30},
		Batch{Partition: 1, BaseSequence: 9, Count: 2, MaxTimestamp: 99},
	)
	want := []BatchResult{
		{Code: CodeAppended, OffsetKnown: true, NextExpected: 3, RunningMaxTimestamp: 50, OpensTxn: true},
		{Code: CodeAppended, OffsetKnown: true, NextExpected: 1, RunningMaxTimestamp: 40},
		{Code: CodeAppended, BaseOffset: 3, OffsetKnown: true, NextExpected: 5, RunningMaxTimestamp: 50},
		{Code: CodeOutOfOrder, NextExpected: 5},
	}
	equal(t, "results", res, want)
	r.wantEnds(1, 0, 5)
	r.wantEnds(2, 0, 1)
	if p, _ := r.s.Partition(1); p.MaxTime != 50 || p.Bytes != 10 || p.OpenTxns != 1 {
		t.Fatalf("partition: %+v", p)
	}
}

func TestRule1(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{MaxBatchBytes: 100}, 1)
	r.try(CodeUnknownPartition, t1, 2, 0, 1)
	r.try(CodeMalformed, t1, 1, 0, 0)
	r.try(CodeMalformed, t1, 1, 0, MaxBatchRecords+1)
	r.try(CodeMalformed, t1, 1, math.MaxUint64, 1)
	if res := r.append(t1, Batch{Partition: 1, Count: 1, Size: 101}); res[0].Code != CodeTooLarge {
		t.Fatal(res)
	}
	if r.s.OpenCount() != 0 {
		t.Fatal("a refused batch opened a transaction")
	}
	if _, ok := r.s.Producer(t1.ProducerID); ok {
		t.Fatal("a refused batch left a producer")
	}
	r.put(t1, 1, 0, MaxBatchRecords)
}

func TestDuplicates(t *testing.T) {
	t.Parallel()
	for _, ref := range []TxnRef{t1, id} {
		r := newRig(t, Config{RangesKept: 4}, 1)
		for i := range uint64(6) {
			r.put(ref, 1, i*10, 10)
		}
		for i := range uint64(6) {
			res := r.try(CodeDuplicate, ref, 1, i*10, 10)
			if known := i >= 2; res.OffsetKnown != known || known && res.BaseOffset != i*10 {
				t.Fatalf("%v, batch %d: %+v", ref, i, res)
			}
			if res.NextExpected != 60 {
				t.Fatalf("next expected: %+v", res)
			}
		}
		// Other cuts of what is stored: stored all the same, by sequence.
		if res := r.try(CodeDuplicate, ref, 1, 35, 5); res.OffsetKnown {
			t.Fatalf("offset of a range that was never sent: %+v", res)
		}
		r.try(CodeDuplicate, ref, 1, 0, 60)
		r.try(CodeOutOfOrder, ref, 1, 55, 10) // partial overlap
		r.try(CodeOutOfOrder, ref, 1, 61, 1)  // gap
		r.try(CodeAppended, ref, 1, 60, 1)
	}
}

func TestSequencesArePerTransactionAndPartition(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1, 2)
	r.put(t1, 1, 0, 5)
	r.put(t2, 1, 0, 3) // several transactions of one producer open at once
	r.put(o1, 1, 0, 2)
	r.put(id, 1, 0, 1)
	r.try(CodeOutOfOrder, t1, 2, 5, 1)
	r.put(t1, 2, 0, 1)
	r.put(t1, 1, 5, 1)
	r.put(t2, 1, 3, 1)
	equal(t, "open", openRefs(r.s), []TxnRef{t1, t2, o1})
}

// The order of the rules: for each rule, a batch to which it and every later
// rule that can speak at the same time apply.
func TestOrderOfRules(t *testing.T) {
	t.Parallel()
	stray := func(r *rig, ref TxnRef, fence uint32) {
		r.t.Helper()
		o, _, _, _ := r.s.Find(ref)
		r.answer(MarkerDiscarded, EnlistAnswer{Ref: ref, OpenedAt: o.OpenedAt, Verdict: VerdictStray, Fence: fence})
	}
	t.Run("1 before 2", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{}, 1)
		r.put(t1, 1, 0, 1)
		r.sync(full(2, 3))
		r.try(CodeUnknownPartition, t1, 1, 0, 1)
	})
	t.Run("2 before 3", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{}, 1)
		r.put(t1, 1, 0, 1)
		r.put(t2, 1, 0, 1)
		stray(r, t2, 5)
		r.try(CodeDuplicate, t1, 1, 0, 1)
		if res := r.try(CodeFenced, t1, 1, 1, 1); res.CurrentEpoch != 5 {
			t.Fatalf("%+v", res)
		}
	})
	t.Run("2 before 4 of a commit", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{}, 1)
		r.put(t1, 1, 0, 2)
		r.marker(MarkerApplied, commit(t1, Progress{1, 2}))
		if res := r.try(CodeDuplicate, t1, 1, 0, 2); !res.OffsetKnown {
			t.Fatalf("%+v", res)
		}
		r.try(CodeOutOfOrder, t1, 1, 1, 2)
		if res := r.try(CodeTxnEnded, t1, 1, 2, 1); res.Outcome != OutcomeCommit {
			t.Fatalf("%+v", res)
		}
	})
	t.Run("4 instead of 2 of an abort", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{}, 1)
		r.put(t1, 1, 0, 2)
		r.marker(MarkerApplied, abort(t1, ReasonTimeout))
		for _, base := range []uint64{0, 1, 2, 3} {
			res := r.try(CodeTxnEnded, t1, 1, base, 2)
			if res.Outcome != OutcomeAbort || res.Reason != ReasonTimeout {
				t.Fatalf("%+v", res)
			}
		}
	})
	t.Run("3 before 4 and 5", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{}, 1)
		r.put(t2, 1, 0, 1)
		stray(r, t2, 1)
		r.try(CodeFenced, t2, 1, 0, 1)
		r.try(CodeFenced, t1, 1, 0, 1)
		r.try(CodeFenced, t3, 1, 7, 1)
		r.try(CodeAppended, e1, 1, 0, 1)
	})
	t.Run("4 before 5 and 6", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{}, 1, 2)
		r.put(t1, 1, 0, 1)
		r.marker(MarkerApplied, abort(t1, ReasonClient))
		r.try(CodeTxnEnded, t1, 2, 9, 1)
	})
	t.Run("5 before 6", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{}, 1, 2)
		r.put(t2, 1, 0, 1)
		r.try(CodeStaleTxn, t1, 2, 9, 1)
		r.try(CodeStaleTxn, t1, 2, 0, 1)
		r.try(CodeOutOfOrder, t2, 2, 9, 1)
	})
	t.Run("6 before the limits", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, Config{MaxOpenPerProducer: 1, MaxProducers: 1}, 1)
		r.put(t1, 1, 0, 1)
		r.try(CodeOutOfOrder, t2, 1, 9, 1)
		r.try(CodeTooManyOpen, t2, 1, 0, 1)
		r.try(CodeUnknownProducer, id, 1, 9, 1)
		r.try(CodeProducerLimit, id, 1, 0, 1)
		r.try(CodeDuplicate, t1, 1, 0, 1)
		r.marker(MarkerApplied, commit(t1, Progress{1, 1}))
		r.put(t2, 1, 0, 1)
	})
}

func TestSequenceLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{MaxSequences: 2}, 1, 2, 3)
	r.put(t1, 1, 0, 1)
	r.put(id, 1, 0, 1)
	r.try(CodeProducerLimit, t1, 2, 0, 1)
	r.put(t1, 1, 1, 1)
	r.marker(MarkerApplied, abort(t1, ReasonClient))
	r.put(id, 2, 0, 1)
}

func TestIdempotentProducer(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1, 2)
	r.try(CodeUnknownProducer, id, 1, 4, 1)
	r.put(id, 1, 0, 4)
	r.try(CodeOutOfOrder, id, 2, 4, 1) // known in the shard: a gap, not a stranger
	r.put(id, 2, 0, 1)
	r.wantEnds(1, 4, 4) // holds nothing

	// A new epoch starts over at 0, and what the old one sends is fenced, not
	// taken for the new one's duplicate.
	next := TxnRef{id.ProducerID, 1, 0}
	r.try(CodeOutOfOrder, next, 1, 4, 1)
	if res := r.put(next, 1, 0, 2); res.BaseOffset != 4 {
		t.Fatalf("%+v", res)
	}
	if res := r.try(CodeFenced, id, 1, 0, 2); res.CurrentEpoch != 1 {
		t.Fatalf("%+v", res)
	}
	r.try(CodeFenced, id, 1, 4, 1)
	r.try(CodeDuplicate, next, 1, 0, 2)
	r.put(next, 1, 2, 1)
}

// A transaction of a newer epoch fences the older ones here without a word from
// the coordinator: also the one that is open, whose end is still the
// coordinator's business, and the ones that were never seen.
func TestNewEpochFencesTheOldAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1)
	r.put(t3, 1, 0, 1)
	r.put(e1, 1, 0, 1)
	if res := r.try(CodeFenced, t3, 1, 1, 1); res.CurrentEpoch != 1 {
		t.Fatalf("%+v", res)
	}
	r.try(CodeFenced, t2, 1, 0, 1)
	r.try(CodeDuplicate, t3, 1, 0, 1) // what it wrote before stays answered
	r.wantEnds(1, 0, 2)
	r.marker(MarkerApplied, abort(t3, ReasonFenced))
	r.wantEnds(1, 1, 2)
}

func TestSequencesNeedNoWrap(t *testing.T) {
	t.Parallel()
	st := &stream{}
	base := uint64(math.MaxUint64 - 10)
	st.record(base, 10, 100, 16)
	if off, ok := st.offset(base, math.MaxUint64); !ok || off != 100 {
		t.Fatal(off, ok)
	}
	d := decision{st: st, txn: &txn{}}
	st.txn = d.txn
	if !d.stored(t1, Batch{BaseSequence: base, Count: 10}) || d.Code != CodeDuplicate {
		t.Fatal(d.Code)
	}
}
