package pstate

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

func TestOpenIsInOrderOfOpening(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1, 2)
	r.put(o1, 2, 0, 1) // 2
	r.now = 2000
	r.put(t2, 1, 0, 2) // 3
	r.put(t2, 2, 0, 1)
	r.put(o1, 1, 0, 1)
	r.put(t3, 1, 0, 1) // 6
	want := []OpenTxn{
		{o1, 2, 1000, []OpenPart{{1, 2, 1}, {2, 0, 1}}},
		{t2, 3, 2000, []OpenPart{{1, 0, 2}, {2, 1, 1}}},
		{t3, 6, 2000, []OpenPart{{1, 3, 1}}},
	}
	for index, from := range map[uint64]int{0: 0, 1: 0, 2: 1, 3: 2, 5: 2, 6: 3, 99: 3} {
		got := slices.Collect(r.s.OpenSince(index))
		if len(got) != len(want[from:]) || len(got) > 0 && !reflect.DeepEqual(got, want[from:]) {
			t.Errorf("since %d: %+v", index, got)
		}
	}
	if got := slices.Collect(r.s.Open()); !reflect.DeepEqual(got, want) {
		t.Errorf("open: %+v", got)
	}
	for o := range r.s.Open() {
		if o.Ref != o1 {
			t.Error("first", o.Ref)
		}
		break
	}
	r.marker(MarkerApplied, abort(t2, ReasonClient))
	equal(t, "open", openRefs(r.s), []TxnRef{o1, t3})
	if _, outcome, reason, ok := r.s.Find(t2); !ok || outcome != OutcomeAbort || reason != ReasonClient {
		t.Error(outcome, reason, ok)
	}
	if o, outcome, _, ok := r.s.Find(o1); !ok || outcome != OutcomeNone || o.OpenedAt != 2 {
		t.Error(o, outcome, ok)
	}
	for _, ref := range []TxnRef{t1, id, {99, 0, 1}} {
		if _, _, _, ok := r.s.Find(ref); ok {
			t.Error("found", ref)
		}
	}
}

func TestDescribeProducers(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1)
	r.put(t2, 1, 0, 2)
	r.put(id, 1, 0, 3)
	r.now = 2000
	r.put(t1.next(), 1, 2, 1)
	r.put(o1, 1, 0, 1)
	r.marker(MarkerApplied, commit(o1, Progress{1, 1}))
	got, _ := r.s.DescribeProducers(1)
	equal(t, "rows", got, []ProducerStatus{
		{Ref: t2, State: ProducerOpen, NextSequence: 3, LastTimestamp: 2000, TxnOpened: 1000},
		{Ref: o1, State: ProducerCommitted, NextSequence: 1, LastTimestamp: 2000},
		{Ref: id, State: ProducerIdempotent, NextSequence: 3, LastTimestamp: 1000},
	})
	if _, ok := r.s.DescribeProducers(9); ok {
		t.Error("described a partition that is not here")
	}
}

func (r TxnRef) next() TxnRef { r.Number++; return r }

func TestNothingIsVisibleOfWhatIsNotHere(t *testing.T) {
	t.Parallel()
	s := New(Config{})
	if _, ok := s.VisibleEnd(1, ReadUncommitted); ok || s.LogStart(1) != 0 || s.AppliedEnd(1) != 0 {
		t.Error("ends of a partition that is not here")
	}
	if s.CommittedPrefix(1, t1, 0, 0, 1) != 0 || s.Aborted(1, 0, 9) != nil {
		t.Error("records of a partition that is not here")
	}
	if _, ok := s.Blocker(1); ok {
		t.Error("blocker of a partition that is not here")
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ got, want string }{
		{TxnRef{7, 1, 2}.String(), "7/1/2"},
		{CodeAppended.String(), "APPENDED"}, {Code(0).String(), "CODE_0"},
		{MarkerConflict.String(), "CONFLICT"}, {MarkerCode(99).String(), "MARKER_99"},
		{SyncGap.String(), "GAP"}, {SyncCode(99).String(), "SYNC_99"},
		{OutcomeNone.String(), "OPEN"}, {Outcome(9).String(), "OUTCOME_9"},
		{ReasonStray.String(), "STRAY"}, {Reason(99).String(), "REASON_99"},
		{VerdictInvalid.String(), "INVALID"}, {Verdict(0).String(), "VERDICT_0"},
		{ReadCommitted.String(), "READ_COMMITTED"}, {Isolation(7).String(), "ISOLATION_7"},
		{ProducerOpen.String(), "OPEN"}, {ProducerState(0).String(), "STATE_0"},
	} {
		if c.got != c.want {
			t.Errorf("%s, want %s", c.got, c.want)
		}
	}
	// Every verdict has a name of its own, and is either final or not by intent.
	names := map[string]bool{}
	final := 0
	for c := CodeUnknownPartition; c <= CodeAppended; c++ {
		names[c.String()] = true
		if c.Final() {
			final++
		}
	}
	if len(names) != int(CodeAppended) || final != 7 || names["CODE_0"] {
		t.Errorf("%d names, %d final", len(names), final)
	}
}

// The memory of a shard with many aborts is a promise of the page.
func TestAbortedEntryIsCompact(t *testing.T) {
	t.Parallel()
	if size := reflect.TypeFor[abortedEntry]().Size(); size != 48 {
		t.Errorf("an entry takes %d bytes", size)
	}
}

// The chunked index against a plain slice. Entries come in any order (TI-03).
func TestAbortedIndexAgainstSlice(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	var x abortedIndex
	var plain []abortedEntry
	for i := range uint64(5000) {
		e := abortedEntry{producer: rnd.Uint64N(4), epoch: 1, number: 1 + i, first: i * 10, end: i*10 + 1 + rnd.Uint64N(40), minSeq: i}
		x.add(e)
		plain = append(plain, e)
		if i%1000 == 999 {
			start := i * 5
			x.trim(start)
			plain = slices.DeleteFunc(plain, func(e abortedEntry) bool { return e.end <= start })
		}
	}
	if x.len != len(plain) {
		t.Fatalf("%d entries, want %d", x.len, len(plain))
	}
	for range 20000 {
		want := plain[rnd.IntN(len(plain))]
		off := want.first + rnd.Uint64N(60)
		got, ok := x.find(want.ref(), off)
		if in := off < want.end; ok != in || ok && got != want {
			t.Fatalf("find %v at %d: %+v %v, want %+v", want.ref(), off, got, ok, want)
		}
	}
	if _, ok := x.find(TxnRef{0, 0, 1}, 5); ok {
		t.Fatal("found what is before everything")
	}
	var last *abortedEntry
	n := 0
	for e := range x.all() {
		if last != nil && last.compare(e.ref(), e.first) >= 0 {
			t.Fatal("out of order")
		}
		last = e
		n++
	}
	if n != x.len {
		t.Fatal(n, x.len)
	}
}
