package pstate

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// keep is a rig with one partition of a given retention.
func keep(t *testing.T, r Retention) *rig {
	t.Helper()
	g := newRig(t, Config{}, 1)
	c := full(2, 1)
	c.Add[0].Retention = r
	g.sync(c)
	return g
}

// at appends one batch of records with a timestamp and returns the offset behind.
func (r *rig) at(ref TxnRef, seq uint64, now, timestamp Millis, size uint32) End {
	r.t.Helper()
	r.now = now
	entry, err := EncodeAppends(nil, []Append{{now, ref, []Batch{{
		Partition: 1, BaseSequence: seq, Count: 1, MaxTimestamp: timestamp, Size: size,
	}}}}, [][]byte{make([]byte, size)})
	if res := r.entry(entry, err).([]BatchResult); res[0].Code != CodeAppended {
		r.t.Fatalf("%+v", res)
	}
	return r.s.AppliedEnd(1)
}

func (r *rig) wantExpired(now Millis, want uint64) {
	r.t.Helper()
	got := r.s.LogStart(1)
	for _, due := range r.s.Expired(now, 10) {
		got = due.Start
	}
	if got != want {
		r.t.Fatalf("at %d the log would start at %d, want %d", now, got, want)
	}
}

func TestRetentionByTime(t *testing.T) {
	t.Parallel()
	r := keep(t, Retention{Millis: 1600}) // segments of 100 ms
	for i := range uint64(5) {
		now := 1000 + Millis(i)*100
		r.at(id, i, now, now, 10)
	}
	r.wantExpired(2600, 0) // exactly as old as it may be
	r.wantExpired(2601, 1)
	r.wantExpired(2801, 3)
	r.wantExpired(3000, 4)
	r.wantExpired(3001, 5) // the last segment, too: nobody has to write before it goes
}

func TestAnOldRecordWaitsForTheNewerOnesBeforeIt(t *testing.T) {
	t.Parallel()
	r := keep(t, Retention{Millis: 1600})
	r.at(id, 0, 10_000, 10_000, 10)
	r.at(id, 1, 10_200, 3, 10) // imported: from long ago
	r.at(id, 2, 10_400, 10_400, 10)
	r.wantExpired(11_600, 0)
	r.wantExpired(11_601, 2) // both
	r.wantExpired(12_001, 3)
}

func TestARecordFromTheFutureIsAsOldAsItsAppend(t *testing.T) {
	t.Parallel()
	r := keep(t, Retention{Millis: 1600})
	r.at(id, 0, 10_000, 1<<50, 10)
	r.at(id, 1, 10_200, 10_200, 10)
	r.at(id, 2, 10_400, -1, 10) // without a time
	r.wantExpired(11_601, 1)
	r.wantExpired(12_000, 2)
	r.wantExpired(12_001, 3)
}

func TestAClockThatIsBehindMakesNothingOld(t *testing.T) {
	t.Parallel()
	r := keep(t, Retention{Millis: 1600})
	r.at(id, 0, 10_000, 10_000, 10)
	r.at(id, 1, 500, 10_050, 10) // the next leader's clock is wrong
	r.at(id, 2, 700, 700, 10)
	r.wantExpired(11_600, 0)
	r.wantExpired(700, 0)
}

func TestRetentionBySize(t *testing.T) {
	t.Parallel()
	r := keep(t, Retention{Bytes: 160}) // segments of 10 bytes
	for i := range uint64(20) {
		r.at(id, i, 1000, 1000, 10)
	}
	r.wantExpired(1000, 4)
	if start, _ := r.advance(1, 4); start != 4 {
		t.Fatal(start)
	}
	if p, _ := r.s.Partition(1); p.Size != 160 || p.Bytes != 200 {
		t.Fatalf("%+v", p)
	}
	r.wantExpired(1<<50, 4) // never less than what is to be kept
	r.at(id, 20, 1000, 1000, 9)
	r.wantExpired(1000, 4) // 159 would be left
	r.at(id, 21, 1000, 1000, 1)
	r.wantExpired(1000, 5)
}

// Covers UL-13 of CONFORMANCE.md.
func TestRetentionStopsAtTheStableEnd(t *testing.T) {
	t.Parallel()
	for _, retention := range []Retention{{Millis: 1600}, {Bytes: 16}} {
		r := keep(t, retention)
		r.at(id, 0, 1000, 1000, 10)
		r.at(t1, 0, 1200, 1200, 10)
		r.at(id, 1, 1400, 1400, 10)
		r.at(id, 2, 1600, 1600, 10)
		r.wantExpired(1<<50, 1)
		if start, _ := r.advance(1, 3); start != 1 { // a command that wants more
			t.Fatal(start)
		}
		r.marker(MarkerApplied, abort(t1, ReasonClient))
		want := map[bool]uint64{true: 4, false: 2}[retention.Bytes == 0]
		r.wantExpired(1<<50, want)
		if start, _ := r.advance(1, want); start != want {
			t.Fatal(start)
		}
		if p, _ := r.s.Partition(1); p.HiddenSpans != 0 {
			t.Fatalf("%+v", p)
		}
		r.try(CodeDuplicate, id, 1, 0, 1)
		r.try(CodeTxnEnded, t1, 1, 1, 1)
	}
}

// Far more than may be kept arrives before retention looks: what is left is still
// about as much as may be kept.
func TestRetentionAfterABurst(t *testing.T) {
	t.Parallel()
	const may = 64 << 10
	r := keep(t, Retention{Bytes: may})
	for i := range uint64(2000) {
		r.at(id, i, 1000, 1000, 1<<10)
	}
	due := r.s.Expired(1000, 1)
	if len(due) != 1 || (2000-due[0].Start)<<10 > may+may/2 {
		t.Fatalf("%+v", due)
	}
	r.advance(1, due[0].Start)
	if p, _ := r.s.Partition(1); p.Size < may {
		t.Fatalf("%+v", p)
	}
}

func TestRetentionCanBeChanged(t *testing.T) {
	t.Parallel()
	r := keep(t, Retention{})
	for i := range uint64(200) {
		r.at(id, i, 1000+Millis(i), 1000+Millis(i), segmentBytes)
	}
	r.wantExpired(1<<50, 0)
	c := full(3, 1)
	c.Add[0].Retention = Retention{Bytes: 50 * segmentBytes}
	r.sync(c)
	if n := len(r.s.partitions[1].segments); n > maxSegments || n < maxSegments/4 {
		t.Fatalf("%d segments", n)
	}
	// Whole segments go, so a little more stays than was asked for.
	due := r.s.Expired(1000, 10)
	if len(due) != 1 || due[0].Start > 150 || due[0].Start < 130 {
		t.Fatalf("%+v", due)
	}
}

// What is needed of the log is where the oldest record lies that any partition
// still has.
func TestNeeded(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1, 2, 3)
	if got := r.s.Needed(); got != r.index+1 {
		t.Fatal(got)
	}
	rnd := rand.New(rand.NewPCG(3, 3))
	next := map[uint64]uint64{}
	version := uint64(1)
	live := []uint64{1, 2, 3}
	for range 3000 {
		at := rnd.IntN(len(live))
		part := live[at]
		switch rnd.IntN(10) {
		case 0:
			r.advance(part, r.s.LogStart(part)+rnd.Uint64N(40))
		case 1:
			if rnd.IntN(20) == 0 {
				version++
				live[at] = slices.Max(live) + 1
				r.sync(SyncPartitions{
					Version: version, From: version - 1, Remove: []uint64{part},
					Add: []PartitionInfo{{ID: live[at], Retention: Retention{Bytes: 100}}},
				})
			}
		default:
			r.put(id, part, next[part], 1)
			next[part]++
		}
		want := r.index + 1
		for _, p := range r.s.partitions {
			if len(p.segments) > 0 {
				want = min(want, p.segments[0].first)
			}
		}
		if got := r.s.Needed(); got != want {
			t.Fatalf("needs the log from %d on, want %d", got, want)
		}
	}
}

// A partition that keeps a little for ever does not keep the whole log: what is
// needed of it moves on when the little is written once more.
func TestRelocate(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1, 2)
	const each = 1 << 10
	c := full(2, 1, 2)
	c.Add[1].Retention.Bytes = 16 * each // in segments of one batch
	r.sync(c)
	write := func(part, seq, now uint64) StoredBatch {
		r.now = Millis(now)
		at := r.s.AppliedEnd(part)
		entry, err := EncodeAppends(nil, []Append{{r.now, id, []Batch{{Partition: part, BaseSequence: seq, Count: 2, MaxTimestamp: r.now}}}}, [][]byte{make([]byte, each)})
		if res := r.entry(entry, err).([]BatchResult); res[0].Code != CodeAppended {
			t.Fatalf("%+v", res)
		}
		return StoredBatch{BaseOffset: uint64(at), Count: 2, Size: each}
	}
	relocate := func(batches ...StoredBatch) RelocateCode {
		entry, err := EncodeRelocate(nil, Relocate{r.now, 1, batches}, blank(len(batches), each))
		return r.entry(entry, err).(RelocateCode)
	}
	var kept []StoredBatch
	for i := range uint64(3) {
		kept = append(kept, write(1, 2*i, 1000))
	}
	begins := r.s.Needed()
	for i := range uint64(20) {
		write(2, 2*i, 1000)
	}
	if _, _, _, ok := r.s.Oldest(0); ok {
		t.Fatal("worth it while everything is kept")
	}
	r.advance(2, 36)
	if _, _, _, ok := r.s.Oldest(24 * each); ok {
		t.Fatal("worth it below the least size")
	}
	part, from, end, ok := r.s.Oldest(23 * each)
	if !ok || part != 1 || from != 0 || end != 6 {
		t.Fatalf("the oldest is %d, %d to %d, %v", part, from, end, ok)
	}
	for _, bad := range [][]StoredBatch{nil, kept[1:], {kept[0], kept[2]}, append(kept[:3:3], StoredBatch{BaseOffset: 6, Count: 1})} {
		if code := relocate(bad...); code != RelocateStale {
			t.Fatalf("%v: %v", bad, code)
		}
	}
	// In two pieces, which are one segment again in the end.
	if code := relocate(kept[:1]...); code != Relocated || r.s.Needed() != begins {
		t.Fatalf("%v, needs %d", code, r.s.Needed())
	}
	if code := relocate(kept[1:]...); code != Relocated || r.s.Needed() <= begins || len(r.s.partitions[1].segments) != 1 {
		t.Fatalf("%v, needs %d", code, r.s.Needed())
	}
	if p, _ := r.s.Partition(1); p.Size != 3*each || p.Applied != 6 || r.s.Decide(id, Batch{Partition: 1, Count: 2}).Code != CodeDuplicate {
		t.Fatalf("%+v", p)
	}
	if _, _, _, ok := r.s.Oldest(0); ok {
		t.Fatal("worth it again at once")
	}
}

// What lies below the log start, in a segment that does not, is not written once more
// but dropped: a segment below the log start is none, and nobody could read a
// snapshot that has one (simulator seed 10014410).
func TestRelocateBelowTheLogStart(t *testing.T) {
	t.Parallel()
	r := newRig(t, Config{}, 1)
	const each = 1 << 10
	r.sync(full(2, 1))
	var kept []StoredBatch
	for i := range uint64(4) {
		kept = append(kept, StoredBatch{BaseOffset: i, Count: 1, Size: each})
		r.at(id, i, 1000, 1000, each)
	}
	begins := r.s.Needed()
	relocate := func(batches ...StoredBatch) RelocateCode {
		entry, err := EncodeRelocate(nil, Relocate{r.now, 1, batches}, blank(len(batches), each))
		return r.entry(entry, err).(RelocateCode)
	}
	r.advance(1, 2)
	for _, part := range [][]StoredBatch{kept[:1], kept[1:2]} {
		if code := relocate(part...); code != RelocateDropped {
			t.Fatalf("%v: %v", part, code)
		}
		if err := New(Config{}).Restore(r.s.Snapshot()); err != nil {
			t.Fatal(err)
		}
	}
	if p, _ := r.s.Partition(1); p.Size != 2*each || r.s.Needed() != begins {
		t.Fatalf("%+v, needs %d", p, r.s.Needed())
	}
	if code := relocate(kept[2:]...); code != Relocated || r.s.Needed() <= begins {
		t.Fatalf("%v, needs %d", code, r.s.Needed())
	}
}

func blank(n, size int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = make([]byte, size)
	}
	return out
}
