package txn

import (
	"slices"
	"testing"
)

func TestExpire(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	open := ref(1, 0, 3)
	r.enlist(open, 1)
	expire := func(refs ...Ref) []Code {
		res := r.m.Expire(r.now, Expire{Refs: refs})
		r.check()
		return res.Codes
	}
	r.now += 9_999
	if got := expire(open, ref(1, 0, 2), ref(1, 0, 4), ref(7, 0, 1)); !slices.Equal(got, []Code{CodeNotDue, CodeNotOpen, CodeNotOpen, CodeUnknownID}) {
		t.Fatalf("%v", got)
	}
	r.now++
	if got := expire(open, open); !slices.Equal(got, []Code{CodeOK, CodeNotOpen}) {
		t.Fatalf("%v", got)
	}
	r.wantOutcome(open, StatusAborted, ReasonTimeout)
	r.wantShards("owed", r.m.OwedShards(), 1)
	// The epoch stays: the producer goes on with the next number (B8).
	r.wantCode(r.commit(ref(1, 0, 4)).Code, CodeOK)
}

func TestCommitAfterTheDeadlineButBeforeExpire(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	r.enlist(ref(1, 0, 1), 1)
	r.now += 60_000
	r.wantCode(r.commit(ref(1, 0, 1), at(1, 1)).Code, CodeOK)
	if got := r.m.Expire(r.now, Expire{Refs: []Ref{ref(1, 0, 1)}}).Codes[0]; got != CodeNotOpen {
		t.Fatalf("%v", got)
	}
	r.wantOutcome(ref(1, 0, 1), StatusCommitted, ReasonNone)
}

func TestMarkersApplied(t *testing.T) {
	t.Parallel()
	for answer := MarkerApplied; answer <= lastMarkerAnswer; answer++ {
		t.Run(answer.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.mustInit("a", 1)
			x := ref(1, 0, 1)
			r.commit(x, at(1, 1), at(2, 1))
			first := r.ack(x, 1, answer)
			damaged := answer == MarkerMissingData || answer == MarkerConflict
			if first.Noted != 1 || len(first.Completed) != 0 || (first.Damaged == 1) != damaged {
				t.Fatalf("%+v", first)
			}
			if again := r.ack(x, 1, MarkerConflict); again.Noted != 0 || again.Damaged != 0 {
				t.Fatalf("duplicate: %+v", again)
			}
			if rep := r.m.GetOutcome(x); rep.Status != StatusCommitted || rep.Damaged != damaged {
				t.Fatalf("%+v", rep)
			}
			last := r.ack(x, 2, MarkerAlready)
			if !slices.Equal(last.Completed, []Ref{x}) || r.m.Phase(x) != PhaseComplete {
				t.Fatalf("%+v", last)
			}
			if rep := r.m.GetOutcome(x); rep.Status != StatusCommitted || rep.Damaged != damaged || len(rep.Pending) != 0 {
				t.Fatalf("%+v", rep)
			}
			if late := r.ack(x, 2, MarkerConflict); late.Noted != 0 {
				t.Fatalf("late: %+v", late)
			}
		})
	}
}

func TestMarkersAppliedIgnoresStrangers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	r.commit(ref(1, 0, 1), at(1, 1))
	before := r.m.Snapshot()
	for _, item := range []MarkerAck{
		{ref(8, 0, 1), 1, MarkerApplied}, {ref(1, 0, 2), 1, MarkerApplied}, {ref(1, 1, 1), 1, MarkerApplied},
		{ref(1, 0, 1), 2, MarkerApplied}, {ref(1, 0, 1), 1, 0}, {ref(1, 0, 1), 1, lastMarkerAnswer + 1},
	} {
		if res := r.m.MarkersApplied(r.now, MarkersApplied{Items: []MarkerAck{item}}); res.Noted != 0 {
			t.Fatalf("%+v: %+v", item, res)
		}
	}
	if !slices.Equal(before, r.m.Snapshot()) {
		t.Fatal("state changed")
	}
}

func TestOwedIsInOrderOfDecision(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	r.mustInit("b", 1)
	want := []Ref{ref(2, 0, 1), ref(1, 0, 1), ref(2, 0, 2), ref(1, 0, 5)}
	for _, x := range want {
		r.commit(x, at(1, 1), at(3, 1))
	}
	refs := func(m *Machine, shard uint64) (list []Ref) {
		for mk := range m.Owed(shard) {
			list = append(list, mk.Ref)
		}
		return list
	}
	if got := refs(r.m, 1); !slices.Equal(got, want) {
		t.Fatalf("%v", got)
	}
	r.ack(want[1], 1, MarkerApplied)
	want = slices.Delete(want, 1, 2)
	restored := New(r.m.Config())
	if err := restored.Restore(r.m.Snapshot()); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*Machine{r.m, restored} {
		if got := refs(m, 1); !slices.Equal(got, want) || m.OwedCount(1) != 3 || m.OwedCount(3) != 4 || m.OwedCount(2) != 0 {
			t.Fatalf("%v", got)
		}
	}
	for range r.m.Owed(1) {
		break // an iteration may end early
	}
}

func TestCompleteBelow(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	want := func(x Ref) {
		t.Helper()
		if got, ok := r.m.CompleteBelow(1); !ok || got != x {
			t.Fatalf("%+v, want %+v", got, x)
		}
	}
	want(ref(1, 0, 1))
	r.enlist(ref(1, 0, 3), 1)
	want(ref(1, 0, 3))
	r.commit(ref(1, 0, 3), at(1, 1))
	r.commit(ref(1, 0, 4), at(2, 1))
	want(ref(1, 0, 3))
	r.ack(ref(1, 0, 4), 2, MarkerApplied)
	want(ref(1, 0, 3))
	r.ack(ref(1, 0, 3), 1, MarkerApplied)
	want(ref(1, 0, 5))
	r.mustInit("a", 2)
	want(ref(1, 1, 1))
	if _, ok := r.m.CompleteBelow(5); ok {
		t.Fatal("unknown producer")
	}
}

func TestExpiredIsPrunedAndBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var opened []Ref
	for i := range 40 {
		id := string(rune('a'+i%26)) + decimal(uint64(i))
		pid := r.mustInit(id, 1).ProducerID
		r.enlistItem(EnlistItem{Ref: ref(pid, 0, 1), Shard: 1, Age: Millis(i * 37 % 40 * 100)})
		opened = append(opened, ref(pid, 0, 1))
	}
	for _, after := range []Millis{0, 6_000, 6_100, 8_000, 9_900, 10_000} {
		var want []Ref
		for i, x := range opened {
			if 10_000-Millis(i*37%40*100) <= after {
				want = append(want, x)
			}
		}
		if got := r.m.Expired(r.now+after, 100); !slices.Equal(got, want) {
			t.Fatalf("after %d: %d expired, want %d", after, len(got), len(want))
		}
		if got := r.m.Expired(r.now+after, 3); len(got) != min(3, len(want)) {
			t.Fatalf("after %d: %d expired of at most 3", after, len(got))
		}
	}
	w := r.m.Work(r.now+10_000, 7)
	if len(w.Expired) != 7 || len(w.Shards) != 0 || len(w.IdleIDs) != 0 {
		t.Fatalf("%+v", w)
	}
}

func TestRemoveShard(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	r.mustInit("b", 1)
	r.mustInit("c", 1)
	r.commit(ref(2, 0, 1), at(1, 1))
	r.commit(ref(1, 0, 1), at(1, 1), at(2, 1))
	r.commit(ref(1, 0, 2), at(1, 1))
	r.enlist(ref(3, 0, 1), 1)
	delete(r.w, 1)
	done := r.m.RemoveShard(r.now, 1)
	r.check()
	if !slices.Equal(done, []Ref{ref(2, 0, 1), ref(1, 0, 2)}) {
		t.Fatalf("%+v", done)
	}
	r.wantShards("owed", r.m.OwedShards(), 2)
	if rep := r.m.GetOutcome(ref(2, 0, 1)); rep.Damaged {
		t.Fatal("a removed shard is no damage")
	}
	// The open transaction goes on without it: a commit need not name it.
	r.wantCode(r.commit(ref(3, 0, 1)).Code, CodeOK)
	if done := r.m.RemoveShard(r.now, 1); len(done) != 0 {
		t.Fatalf("again: %+v", done)
	}
}

func TestRemovePartitions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	r.mustInit("b", 1)
	r.commit(ref(1, 0, 1), Participant{1, []Progress{{10, 1}, {11, 2}, {12, 3}}}, at(2, 4))
	r.enlist(ref(2, 0, 1), 1, 10, 11)
	held := slices.Collect(r.m.Owed(1))[0]
	r.m.RemovePartitions(r.now, 1, []uint64{12, 10})
	r.check()
	if got := slices.Collect(r.m.Owed(1))[0].Progress; !slices.Equal(got, []Progress{{11, 2}}) {
		t.Fatalf("%+v", got)
	}
	if len(held.Progress) != 3 || held.Progress[0].Partition != 10 {
		t.Fatalf("a marker under way changed: %+v", held)
	}
	d, _ := r.m.Describe("b")
	if got := d.Open.Participants[0].Partitions; !slices.Equal(got, []uint64{11}) {
		t.Fatalf("%+v", got)
	}
	// The shard itself still owes the end of its open record.
	r.m.RemovePartitions(r.now, 1, []uint64{11})
	r.check()
	r.wantShards("owed", r.m.OwedShards(), 1, 2)
}
