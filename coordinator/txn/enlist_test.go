package txn

import (
	"math"
	"slices"
	"testing"
)

func TestEnlistVerdicts(t *testing.T) {
	t.Parallel()
	// Every row begins with epoch 1 current; (0,1) committed on shards 1 and 2
	// of which 1 has acknowledged; (0,2) aborted by the take-over on shard 3;
	// (1,3) committed empty; (1,4) open on shard 1.
	tests := []struct {
		name    string
		item    EnlistItem
		verdict Verdict
		fence   uint32
		invalid bool
		log     bool
	}{
		{"unknown producer", EnlistItem{Ref: ref(99, 0, 1), Shard: 1}, VerdictStray, 0, false, false},
		{"open, known shard", EnlistItem{Ref: ref(1, 1, 4), Shard: 1}, VerdictAccepted, 0, false, false},
		{"open, known partition", EnlistItem{Ref: ref(1, 1, 4), Shard: 1, Partitions: []uint64{10}}, VerdictAccepted, 0, false, false},
		{"open, new partition", EnlistItem{Ref: ref(1, 1, 4), Shard: 1, Partitions: []uint64{11}}, VerdictAccepted, 0, false, true},
		{"open, partition that does not exist", EnlistItem{Ref: ref(1, 1, 4), Shard: 1, Partitions: []uint64{20}}, VerdictAccepted, 0, false, false},
		{"open, new shard", EnlistItem{Ref: ref(1, 1, 4), Shard: 2}, VerdictAccepted, 0, false, true},
		{"new number", EnlistItem{Ref: ref(1, 1, 5), Shard: 2}, VerdictAccepted, 0, false, true},
		{"new number with a gap", EnlistItem{Ref: ref(1, 1, 50), Shard: 2}, VerdictAccepted, 0, false, true},
		{"number passed over", EnlistItem{Ref: ref(1, 1, 2), Shard: 2}, VerdictStray, 0, false, false},
		{"decided, complete", EnlistItem{Ref: ref(1, 1, 3), Shard: 2}, VerdictStray, 0, false, false},
		{"decided, participant that has not acknowledged", EnlistItem{Ref: ref(1, 0, 1), Shard: 2}, VerdictDecided, 1, false, false},
		{"decided, participant that has acknowledged", EnlistItem{Ref: ref(1, 0, 1), Shard: 1}, VerdictStray, 1, false, false},
		{"decided, no participant", EnlistItem{Ref: ref(1, 0, 1), Shard: 3}, VerdictStray, 1, false, false},
		{"aborted by take-over, participant", EnlistItem{Ref: ref(1, 0, 2), Shard: 3}, VerdictDecided, 1, false, false},
		{"older epoch, never heard of", EnlistItem{Ref: ref(1, 0, 3), Shard: 1}, VerdictStray, 1, false, false},
		{"epoch above the current", EnlistItem{Ref: ref(1, 2, 1), Shard: 1}, VerdictStray, 0, true, false},
		{"highest epoch", EnlistItem{Ref: ref(1, math.MaxUint32, 1), Shard: 1}, VerdictStray, 0, true, false},
		{"number 0", EnlistItem{Ref: ref(1, 1, 0), Shard: 1}, VerdictStray, 0, true, false},
		{"shard that does not exist", EnlistItem{Ref: ref(1, 1, 4), Shard: 9}, VerdictStray, 0, true, false},
		{"shard that was removed", EnlistItem{Ref: ref(1, 1, 4), Shard: 9, Partitions: []uint64{90}}, VerdictAccepted, 0, false, false},
		{"shard that was removed, never heard of", EnlistItem{Ref: ref(1, 1, 5), Shard: 9, Partitions: []uint64{90}}, VerdictAccepted, 0, false, false},
		{"shard that was removed, number passed over", EnlistItem{Ref: ref(1, 1, 2), Shard: 9, Partitions: []uint64{90}}, VerdictAccepted, 0, false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.mustInit("a", 1)
			r.commit(ref(1, 0, 1), at(1, 4), at(2, 6))
			r.ack(ref(1, 0, 1), 1, MarkerApplied)
			r.enlist(ref(1, 0, 2), 3)
			r.mustInit("a", 2)
			r.commit(ref(1, 1, 3))
			r.enlist(ref(1, 1, 4), 1, 10)

			test.item.OpenedAt = 4711
			_, needsLog := r.m.PeekEnlist(test.item, r.env())
			answer := r.enlistItem(test.item)
			if answer.Ref != test.item.Ref || answer.Shard != test.item.Shard || answer.OpenedAt != 4711 {
				t.Fatalf("the answer does not echo its question: %+v", answer)
			}
			if answer.Verdict != test.verdict || answer.FenceEpoch != test.fence || answer.Invalid != test.invalid || needsLog != test.log {
				t.Fatalf("%v fence %d invalid %v log %v", answer.Verdict, answer.FenceEpoch, answer.Invalid, needsLog)
			}
		})
	}
}

// The records of a transaction whose partitions in a shard were deleted go with
// them. Called stray, they would be aborted there, and the marker of their commit,
// late but on its way, would contradict that. Simulated seed 71010.
func TestEnlistOfDeletedPartitions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	for n := uint64(1); n <= 20; n++ {
		r.commit(ref(1, 0, n), Participant{Shard: 1, Progress: []Progress{{10, 1}}})
		r.ack(ref(1, 0, n), 1, MarkerApplied) // or RemoveShard, which is as good
	}
	r.w[1] = slices.DeleteFunc(r.w[1], func(p uint64) bool { return p == 10 })
	for what, item := range map[string]EnlistItem{
		"complete":          {Ref: ref(1, 0, 20), Shard: 1, Partitions: []uint64{10}},
		"forgotten":         {Ref: ref(1, 0, 1), Shard: 1, Partitions: []uint64{10}},
		"of an id that was": {Ref: ref(9, 0, 1), Shard: 1, Partitions: []uint64{10}},
	} {
		if answer := r.m.Enlist(r.now, Enlist{Items: []EnlistItem{item}}, r.env()).Answers[0]; answer.Verdict != VerdictAccepted || answer.FenceEpoch != 0 {
			t.Errorf("%s: %+v", what, answer)
		}
		item.Partitions = append(item.Partitions, 11)
		if answer := r.m.Enlist(r.now, Enlist{Items: []EnlistItem{item}}, r.env()).Answers[0]; answer.Verdict != VerdictStray {
			t.Errorf("%s, with a partition that is there: %+v", what, answer)
		}
	}
}

func TestEnlistDecisionCarriesTheMarker(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	r.commit(ref(1, 0, 1), at(1, 1))
	r.commit(ref(1, 0, 2), Participant{Shard: 2, Progress: []Progress{{22, 9}, {20, 7}}})
	mk := r.enlist(ref(1, 0, 2), 2).Marker
	if mk.Ref != ref(1, 0, 2) || mk.Outcome != Committed || mk.CompleteBelow != ref(1, 0, 1) {
		t.Fatalf("%+v", mk)
	}
	wantEqual(t, "progress", mk.Progress, []Progress{{20, 7}, {22, 9}}, func(a, b Progress) bool { return a == b })
}

func TestEnlistSupersedes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	r.enlist(ref(1, 0, 1), 1)
	r.enlist(ref(1, 0, 1), 2)
	r.enlist(ref(1, 0, 3), 2)
	r.wantOutcome(ref(1, 0, 1), StatusAborted, ReasonSuperseded)
	r.wantShards("owed", r.m.OwedShards(), 1, 2)
	// The close is final, and the number passed over cannot be used.
	if a := r.enlist(ref(1, 0, 1), 3); a.Verdict != VerdictStray {
		t.Fatalf("%+v", a)
	}
	if a := r.enlist(ref(1, 0, 2), 3); a.Verdict != VerdictStray {
		t.Fatalf("%+v", a)
	}
	if res := r.commit(ref(1, 0, 1), at(1, 1), at(2, 1)); res.Code != CodeConflict || res.Reason != ReasonSuperseded {
		t.Fatalf("%+v", res)
	}
	r.wantCode(r.commit(ref(1, 0, 2)).Code, CodeForgotten)
}

func TestEnlistDeadline(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		age      Millis
		deadline Millis // after now
	}{
		{"young", 0, 10_000},
		{"half its time", 5_000, 5_000},
		{"clock ahead", -5_000, 10_000},
		{"overdue", 60_000, 0},
		{"absurd", math.MaxInt64, 0},
		{"absurdly ahead", math.MinInt64, 10_000},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.mustInit("a", 1)
			r.enlistItem(EnlistItem{Ref: ref(1, 0, 1), Shard: 1, Age: test.age})
			// Later ages do not change it.
			r.now++
			r.enlistItem(EnlistItem{Ref: ref(1, 0, 1), Shard: 2, Age: 9_000})
			if deadline, _ := r.m.NextDeadline(); deadline != r.now-1+test.deadline {
				t.Fatalf("deadline is %d after now, want %d", deadline-r.now+1, test.deadline)
			}
		})
	}
}

func TestEnlistLimits(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.MaxUnfinished, c.MaxParticipants, c.MaxPartitionsPerTxn = 2, 2, 3 })
	r.mustInit("a", 1)
	r.enlist(ref(1, 0, 1), 1, 10, 11)
	r.enlist(ref(1, 0, 1), 2, 20, 21, 22)
	if a := r.enlist(ref(1, 0, 1), 3); a.Verdict != VerdictThrottled {
		t.Fatalf("third shard of two: %+v", a)
	}
	d, _ := r.m.Describe("a")
	if n := len(d.Open.Participants[1].Partitions); n != 1 {
		t.Fatalf("%d partitions noted, room was for 1", n)
	}
	r.enlist(ref(1, 0, 2), 1)
	if a := r.enlist(ref(1, 0, 3), 1); a.Verdict != VerdictThrottled {
		t.Fatalf("third unfinished of two: %+v", a)
	}
	r.wantOutcome(ref(1, 0, 2), StatusOpen, ReasonNone)
	r.drain()
	if a := r.enlist(ref(1, 0, 3), 1); a.Verdict != VerdictAccepted {
		t.Fatalf("after the acknowledgements: %+v", a)
	}
}

func TestEnlistWithoutCatalogue(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	res := r.m.Enlist(r.now, Enlist{Items: []EnlistItem{{Ref: ref(1, 0, 1), Shard: 1}}}, Env{})
	if a := res.Answers[0]; a.Verdict != VerdictStray || !a.Invalid {
		t.Fatalf("%+v", a)
	}
}

func TestEnlistBatchIsInOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	res := r.m.Enlist(r.now, Enlist{Items: []EnlistItem{
		{Ref: ref(1, 0, 1), Shard: 1}, {Ref: ref(1, 0, 2), Shard: 1}, {Ref: ref(1, 0, 1), Shard: 1}, {Ref: ref(1, 0, 1), Shard: 2},
	}}, r.env())
	r.check()
	for i, want := range []Verdict{VerdictAccepted, VerdictAccepted, VerdictDecided, VerdictStray} {
		if got := res.Answers[i].Verdict; got != want {
			t.Fatalf("answer %d: %v, want %v", i, got, want)
		}
	}
}
