package pstate

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// compacting is a rig with one partition that is compacted.
func compacting(t *testing.T, c Cleanup) *rig {
	t.Helper()
	g := newRig(t, Config{}, 1)
	sync := full(2, 1)
	c.Compact = true
	sync.Add[0].Cleanup = c
	g.sync(sync)
	return g
}

func (r *rig) rewrite(c Rewrite) RewriteCode {
	r.t.Helper()
	c.At = r.now
	payloads := make([][]byte, len(c.Batches))
	for i, b := range c.Batches {
		payloads[i] = make([]byte, b.Size)
	}
	return r.entry(EncodeRewrite(nil, c, payloads)).(RewriteCode)
}

func (r *rig) compacted(c Compacted) RewriteCode {
	r.t.Helper()
	c.At = r.now
	return r.entry(EncodeCompacted(nil, c)).(RewriteCode)
}

func (r *rig) wantCompactable(now Millis, want ...Compaction) {
	r.t.Helper()
	equal(r.t, "compactable", r.s.Compactable(now), want)
}

const kib = 1 << 10 // a segment of a small partition that is compacted

// busyCompacted has two compactions that are told apart.
func busyCompacted(t *testing.T) *State {
	t.Helper()
	r := compacting(t, Cleanup{MinLag: 5, DeleteRetention: 300})
	for i := range uint64(6) {
		r.at(id, i, 1000, 1000, kib)
	}
	r.rewrite(Rewrite{Partition: 1, From: 1, To: 2, Replaced: kib})
	r.compacted(Compacted{Partition: 1, To: 3, Tombstones: true})
	r.now += 100
	r.rewrite(Rewrite{Partition: 1, Seen: 1, From: 3, To: 4, Replaced: kib, Batches: []StoredBatch{{BaseOffset: 3, Count: 1, Ref: id, Size: 7}}})
	r.compacted(Compacted{Partition: 1, From: 3, To: 5, Horizon: 2})
	return r.s
}

// Compaction reaches up to the last closed segment, below the stable end.
//
// Covers CL-13 of CONFORMANCE.md.
func TestCompactableBounds(t *testing.T) {
	t.Parallel()
	r := compacting(t, Cleanup{MinLag: 100})
	for i := range uint64(3) {
		r.at(id, i, 1000+Millis(i), 1000+Millis(i), kib)
	}
	r.wantCompactable(1100, Compaction{Partition: 1, To: 1}) // the second is too young
	r.wantCompactable(9000, Compaction{Partition: 1, To: 2}) // the third is not closed
	r.at(t1, 0, 1003, 1003, kib)
	for i := range uint64(3) {
		r.at(id, 3+i, 1010, 1010, kib)
	}
	r.wantCompactable(9000, Compaction{Partition: 1, To: 3}) // what is behind may be aborted
	r.marker(MarkerApplied, abort(t1, ReasonClient))
	r.wantCompactable(9000, Compaction{Partition: 1, To: 6})
}

// A pass is worth it when half of what it may reach is new.
func TestCompactableIsHalfNew(t *testing.T) {
	t.Parallel()
	r := compacting(t, Cleanup{DeleteRetention: 1 << 40})
	write := func(n int) {
		for range n {
			r.at(id, uint64(r.s.AppliedEnd(1)), 1000, 1000, kib)
		}
	}
	write(5)
	r.wantCompactable(2000, Compaction{Partition: 1, To: 4})
	if code := r.compacted(Compacted{Partition: 1, To: 4}); code != RewriteEnded {
		t.Fatal(code)
	}
	r.wantCompactable(2000)
	write(3)
	r.wantCompactable(2000) // three behind four
	write(1)
	r.wantCompactable(2000, Compaction{Partition: 1, From: 4, To: 8})
	c := full(3, 1)
	r.sync(c)
	r.wantCompactable(2000) // the topic is not compacted any more
	if p, _ := r.s.Partition(1); p.Compacted != 4 {
		t.Fatalf("%+v", p)
	}
}

// Tombstones go when their time has come, even if nothing is new.
func TestTombstonesHaveTheirTime(t *testing.T) {
	t.Parallel()
	r := compacting(t, Cleanup{DeleteRetention: 100})
	write := func(n int) {
		for range n {
			r.at(id, uint64(r.s.AppliedEnd(1)), r.now, r.now, kib)
		}
	}
	pass := func(from uint64, to End, horizon uint64, tombstones bool) {
		t.Helper()
		if code := r.compacted(Compacted{Partition: 1, From: from, To: to, Horizon: horizon, Tombstones: tombstones}); code != RewriteEnded {
			t.Fatal(code)
		}
	}
	write(3)
	pass(0, 2, 0, true) // at 1000
	r.now = 1050
	write(2)
	pass(2, 4, 0, false)
	r.wantCompactable(1099)
	r.wantCompactable(1100, Compaction{Partition: 1, From: 4, To: 4, Horizon: 2})
	r.wantCompactable(1150, Compaction{Partition: 1, From: 4, To: 4, Horizon: 4})
	r.now = 1100
	pass(4, 4, 2, true) // those that are kept are of others
	if p, _ := r.s.Partition(1); p.Deleted != 2 {
		t.Fatalf("%+v", p)
	}
	r.wantCompactable(1 << 40)
	// Many are told apart, and beyond that the older wait for the newer.
	for i := range uint64(maxCleaned + 5) {
		r.now += 10
		write(1)
		pass(4+i, End(5+i), 0, true)
	}
	if n := len(r.s.partitions[1].cleaned); n != maxCleaned {
		t.Fatalf("%d compactions are told apart", n)
	}
	first := r.s.partitions[1].cleaned[0]
	if got := r.s.Compactable(first.at + 99); slices.ContainsFunc(got, func(c Compaction) bool { return c.Horizon > 0 }) {
		t.Fatalf("%+v before the time of %+v", got, first)
	}
}

// What a command was made for is not there any more.
//
// Covers CL-13 of CONFORMANCE.md.
func TestRewriteIsRefused(t *testing.T) {
	t.Parallel()
	r := compacting(t, Cleanup{})
	for i := range uint64(4) {
		r.at(id, i, 1000, 1000, kib)
	}
	r.at(t1, 0, 1000, 1000, kib)
	keep := []StoredBatch{{BaseOffset: 1, Count: 1, Size: kib}}
	good := Rewrite{Partition: 1, From: 0, To: 1, Replaced: kib}
	for name, c := range map[string]func(*Rewrite){
		"no such partition":  func(c *Rewrite) { c.Partition = 9 },
		"another rewrite":    func(c *Rewrite) { c.Seen++ },
		"nothing":            func(c *Rewrite) { c.To = 0 },
		"two segments":       func(c *Rewrite) { c.To = 2 },
		"above the LSO":      func(c *Rewrite) { c.From, c.To = 4, 5 },
		"other bytes":        func(c *Rewrite) { c.Replaced-- },
		"more than there is": func(c *Rewrite) { c.Replaced++ },
		"a batch outside":    func(c *Rewrite) { c.Batches = keep },
		"a batch of nothing": func(c *Rewrite) { c.Batches = []StoredBatch{{Count: 0, Size: 1}} },
		"batches that overlap": func(c *Rewrite) {
			c.Batches = []StoredBatch{{Count: 1, Size: 1}, {Count: 1, Size: 1}}
		},
	} {
		bad := good
		c(&bad)
		if code := r.s.Rewrite(r.index, bad); code != RewriteStale {
			t.Errorf("%s: %v", name, code)
		}
	}
	for name, c := range map[string]Compacted{
		"no such partition": {Partition: 9, To: 1}, "another pass": {Partition: 1, From: 1, To: 2},
		"back": {Partition: 1, From: 0, To: 0, Horizon: 1}, "above the LSO": {Partition: 1, To: 5},
	} {
		if code := r.s.Compacted(r.index, c); code != RewriteStale {
			t.Errorf("%s: %v", name, code)
		}
	}
	if code := r.rewrite(good); code != Rewritten {
		t.Fatal(code)
	}
	if code := r.rewrite(good); code != RewriteStale {
		t.Fatalf("a late copy: %v", code)
	}
	// A relocation of what was rewritten could bring back what has gone.
	entry, err := EncodeRelocate(nil, Relocate{r.now, 1, []StoredBatch{{BaseOffset: 1, Count: 1}}}, [][]byte{make([]byte, kib)})
	if code := r.entry(entry, err); code != RelocateStale {
		t.Fatalf("a relocation: %v", code)
	}
}

// What hides the records of a transaction goes with the last pass over them, and
// not before.
//
// Covers UL-18, CL-04, CL-06, CL-11 of CONFORMANCE.md.
func TestAbortedIndexOutlivesTheRecords(t *testing.T) {
	t.Parallel()
	r := compacting(t, Cleanup{})
	r.at(t1, 0, 1000, 1000, kib)
	r.at(id, 0, 1000, 1000, kib)
	r.at(t1, 1, 1000, 1000, kib)
	r.at(id, 1, 1000, 1000, kib)
	r.at(id, 2, 1000, 1000, kib)
	r.marker(MarkerApplied, abort(t1, ReasonClient))
	if code := r.rewrite(Rewrite{Partition: 1, From: 0, To: 1, Replaced: kib}); code != Rewritten {
		t.Fatal(code)
	}
	if code := r.compacted(Compacted{Partition: 1, To: 2}); code != RewriteEnded {
		t.Fatal(code)
	}
	r.wantPrefix(0, t1, 1, 2, 1, 1) // a record is left above
	if code := r.rewrite(Rewrite{Partition: 1, Seen: 1, From: 2, To: 3, Replaced: kib}); code != Rewritten {
		t.Fatal(code)
	}
	r.wantPrefix(0, t1, 1, 2, 1, 1) // a reader may have its row
	if code := r.compacted(Compacted{Partition: 1, From: 2, To: 4}); code != RewriteEnded {
		t.Fatal(code)
	}
	if n := len(r.s.Aborted(1, 0, 9)); n != 0 {
		t.Fatalf("%d entries of the aborted index hide nothing", n)
	}
	// What is known of producers has not changed.
	r.try(CodeDuplicate, id, 1, 0, 1)
	r.try(CodeTxnEnded, t1, 1, 2, 1)
}

// row is a batch as an index row has it.
type row struct {
	StoredBatch
	index uint64
}

// TestRewritesAgainstRows drives long random histories of appends, decisions,
// rewrites, relocations and retention, beside a list of rows. The bytes are those of
// the rows, no entry that has a row is given up, and each row that is left is shown
// or hidden as its transaction was decided.
//
// Covers CL-05 of CONFORMANCE.md.
func TestRewritesAgainstRows(t *testing.T) {
	t.Parallel()
	for seed := range uint64(15) {
		t.Logf("seed %d", seed)
		w := &rewriter{rig: compacting(t, Cleanup{}), rnd: rand.New(rand.NewPCG(seed, 12)), outcomes: map[TxnRef]Outcome{}, number: 1}
		for range 600 {
			w.step()
			w.compare()
		}
		if w.cut == 0 || w.split == 0 || w.ended == 0 {
			t.Errorf("seed %d rewrote %d, in pieces %d, ended %d passes", seed, w.cut, w.split, w.ended)
		}
	}
}

type rewriter struct {
	*rig
	rnd      *rand.Rand
	rows     []row
	outcomes map[TxnRef]Outcome
	number   uint64
	seq, own uint64

	cut, split, ended int
}

func (w *rewriter) step() {
	w.t.Helper()
	w.now += Millis(w.rnd.IntN(50))
	switch n := w.rnd.IntN(20); {
	case n < 10:
		ref, seq := TxnRef{7, 0, w.number}, &w.seq
		if n < 4 {
			ref, seq = id, &w.own
		}
		size := uint32(100 + w.rnd.IntN(2*kib))
		count := uint32(1 + w.rnd.IntN(4))
		res := w.append(ref, Batch{Partition: 1, BaseSequence: *seq, Count: count, Size: size})[0]
		if res.Code != CodeAppended {
			w.t.Fatal(res.Code)
		}
		w.rows = append(w.rows, row{StoredBatch: StoredBatch{
			BaseOffset: res.BaseOffset, Count: count, Ref: ref, BaseSequence: *seq, Size: size,
		}, index: w.index})
		*seq += uint64(count)
	case n < 13 && w.seq > 0:
		ref := TxnRef{7, 0, w.number}
		if w.rnd.IntN(2) == 0 {
			w.marker(MarkerApplied, commit(ref, Progress{1, w.seq}))
			w.outcomes[ref] = OutcomeCommit
		} else {
			w.marker(MarkerApplied, abort(ref, ReasonClient))
			w.outcomes[ref] = OutcomeAbort
		}
		w.number, w.seq = w.number+1, 0
	case n < 18:
		w.rewrites()
	case n == 18:
		w.pass()
	default:
		if stable := uint64(w.s.StableEnd(1)); stable > 0 {
			w.advance(1, max(w.s.LogStart(1), stable-min(stable, uint64(10+w.rnd.IntN(20)))))
			at := w.s.partitions[1].stored()
			w.rows = slices.DeleteFunc(w.rows, func(r row) bool { return r.End() <= at })
		}
	}
}

// hidden reports whether a row is of a transaction that was aborted.
func (w *rewriter) hidden(r row) bool { return w.outcomes[r.Ref] == OutcomeAbort }

// rewrites rewrites a part of a segment, dropping what is hidden and now and then
// something else, or nothing at all.
func (w *rewriter) rewrites() {
	w.t.Helper()
	p := w.s.partitions[1]
	if len(p.segments) == 0 {
		return
	}
	i := w.rnd.IntN(len(p.segments))
	from, to := p.segments[i].base, min(p.segmentEnd(i), uint64(p.stable()))
	if from >= to {
		return
	}
	w.rewriteIn(from, to, w.rnd.IntN(3))
}

func (w *rewriter) rewriteIn(from, to uint64, how int) {
	w.t.Helper()
	in := func(r row) bool { return r.BaseOffset >= from && r.End() <= to }
	if how == 2 { // a part of it
		var bases []uint64
		for _, r := range w.rows {
			if in(r) {
				bases = append(bases, r.BaseOffset)
			}
		}
		if len(bases) > 1 {
			to = bases[1+w.rnd.IntN(len(bases)-1)]
			if w.rnd.IntN(2) == 0 {
				from = bases[0]
			}
			w.split++
		}
	}
	c := Rewrite{Partition: 1, Seen: w.s.Rewrites(1), From: from, To: End(to)}
	var rows []row
	for _, r := range w.rows {
		if !in(r) {
			rows = append(rows, r)
			continue
		}
		c.Replaced += uint64(r.Size)
		if r.End() <= w.s.LogStart(1) || how > 0 && (w.hidden(r) || w.rnd.IntN(3) == 0) {
			w.cut++
			continue
		}
		if r.Count > 1 && w.rnd.IntN(3) == 0 && r.BaseOffset >= w.s.LogStart(1) && how > 0 { // its first record is left
			r.Count, r.Size = 1, r.Size/2
		}
		r.index = w.index + 1
		c.Batches = append(c.Batches, r.StoredBatch)
		rows = append(rows, r)
	}
	if code := w.rewrite(c); code != Rewritten {
		w.t.Fatalf("entry %d: %+v: %v", w.index, c, code)
	}
	w.rows = rows
}

// pass is what a pass does: all that is hidden goes, and then the end is told.
func (w *rewriter) pass() {
	w.t.Helper()
	for _, c := range w.s.Compactable(w.now) {
		at := uint64(0)
		for at < uint64(c.To) {
			base, end, ok := w.s.SegmentAt(1, at)
			if !ok || base >= uint64(c.To) {
				break
			}
			from := max(at, base)
			at = min(uint64(end), uint64(c.To))
			w.rewriteIn(from, at, 1)
		}
		if code := w.compacted(Compacted{Partition: 1, From: c.From, To: c.To, Horizon: c.Horizon, Tombstones: w.rnd.IntN(2) == 0}); code != RewriteEnded {
			w.t.Fatal(code)
		}
		w.ended++
		for e := range w.s.partitions[1].aborted.all() {
			if e.end <= uint64(c.To) {
				w.t.Fatalf("entry %d: %+v hides nothing below %d", w.index, *e, c.To)
			}
		}
	}
}

func (w *rewriter) compare() {
	w.t.Helper()
	size := uint64(0)
	for _, r := range w.rows {
		size += uint64(r.Size)
		if r.index < w.s.Needed() {
			w.t.Fatalf("entry %d: the row at %d is in entry %d, and the log is needed from %d on", w.index, r.BaseOffset, r.index, w.s.Needed())
		}
		want := r.Count
		if r.Ref.Transactional() && w.outcomes[r.Ref] != OutcomeCommit || End(r.BaseOffset) >= w.s.StableEnd(1) {
			want = 0
		}
		if r.BaseOffset >= w.s.LogStart(1) {
			w.wantPrefix(want, r.Ref, 1, r.BaseOffset, r.BaseSequence, r.Count)
		}
	}
	if p, _ := w.s.Partition(1); p.Size != size {
		w.t.Fatalf("entry %d: %d bytes are stored, not %d", w.index, p.Size, size)
	}
}
