package txn

import (
	"math"
	"slices"
	"testing"
)

func TestEndTransactionCodes(t *testing.T) {
	t.Parallel()
	// Epoch 1 is current. (0,1) committed and remembered; (0,2) aborted by the
	// take-over; (1,1) timed out; (1,2) forgotten; (1,8) open on shards 1 and 2.
	tests := []struct {
		name         string
		ref          Ref
		commit       bool
		participants []Participant
		code         Code
		reason       Reason
	}{
		{"unknown id", ref(9, 0, 1), true, nil, CodeUnknownID, ReasonNone},
		{"commit of a commit, epoch fenced meanwhile", ref(1, 0, 1), true, nil, CodeOK, ReasonNone},
		{"abort of a commit", ref(1, 0, 1), false, nil, CodeConflict, ReasonNone},
		{"commit of a fenced one", ref(1, 0, 2), true, []Participant{at(3, 1)}, CodeConflict, ReasonFenced},
		{"abort of a fenced one", ref(1, 0, 2), false, nil, CodeOK, ReasonFenced},
		{"older epoch, never decided", ref(1, 0, 3), true, nil, CodeFenced, ReasonNone},
		{"older epoch, abort", ref(1, 0, 3), false, nil, CodeFenced, ReasonNone},
		{"commit of a timed out one", ref(1, 1, 1), true, []Participant{at(1, 1)}, CodeConflict, ReasonTimeout},
		{"abort of a timed out one", ref(1, 1, 1), false, nil, CodeOK, ReasonTimeout},
		{"number passed over", ref(1, 1, 2), true, nil, CodeForgotten, ReasonNone},
		{"abort of a number passed over", ref(1, 1, 2), false, nil, CodeForgotten, ReasonNone},
		{"epoch above", ref(1, 2, 1), true, nil, CodeInvalid, ReasonNone},
		{"number 0", ref(1, 1, 0), true, nil, CodeInvalid, ReasonNone},
		{"number 0 of an older epoch", ref(1, 0, 0), true, nil, CodeInvalid, ReasonNone},
		{"one shard of two named", ref(1, 1, 8), true, []Participant{at(1, 1)}, CodeUnsettledSends, ReasonNone},
		{"no shard named", ref(1, 1, 8), true, nil, CodeUnsettledSends, ReasonNone},
		{"both named", ref(1, 1, 8), true, []Participant{at(2, 1), at(1, 1)}, CodeOK, ReasonNone},
		{"more than enlisted named", ref(1, 1, 8), true, []Participant{at(2, 1), at(1, 1), at(4, 1)}, CodeOK, ReasonNone},
		{"abort names nobody", ref(1, 1, 8), false, nil, CodeOK, ReasonClient},
		{"next number", ref(1, 1, 9), true, []Participant{at(4, 1)}, CodeOK, ReasonNone},
		{"next number, empty", ref(1, 1, 9), true, nil, CodeOK, ReasonNone},
		{"next number, abort", ref(1, 1, 9), false, []Participant{at(4, 1)}, CodeOK, ReasonClient},
		{"next number, empty abort", ref(1, 1, 9), false, nil, CodeOK, ReasonClient},
		{"far number", ref(1, 1, math.MaxUint64), true, nil, CodeOK, ReasonNone},
		{"shard that does not exist", ref(1, 1, 9), true, []Participant{at(9, 1)}, CodeInvalid, ReasonNone},
		{"partition of another shard", ref(1, 1, 9), true, []Participant{{1, []Progress{{20, 1}}}}, CodeInvalid, ReasonNone},
		{"shard named twice", ref(1, 1, 9), true, []Participant{at(1, 1), at(1, 2)}, CodeInvalid, ReasonNone},
		{"shard named twice in an abort", ref(1, 1, 9), false, []Participant{at(1, 1), at(1, 2)}, CodeInvalid, ReasonNone},
		{"partition named twice", ref(1, 1, 9), true, []Participant{{1, []Progress{{10, 1}, {10, 1}}}}, CodeInvalid, ReasonNone},
		{"abort names what does not exist", ref(1, 1, 9), false, []Participant{at(9, 1)}, CodeOK, ReasonClient},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.mustInit("a", 1)
			r.commit(ref(1, 0, 1), at(1, 1))
			r.enlist(ref(1, 0, 2), 3)
			r.mustInit("a", 2)
			r.enlist(ref(1, 1, 1), 1)
			r.now += 10_000
			r.m.Expire(r.now, Expire{Refs: []Ref{ref(1, 1, 1)}})
			r.enlist(ref(1, 1, 8), 1)
			r.enlist(ref(1, 1, 8), 2)
			r.drain()

			before := r.m.Snapshot()
			ended := r.m.Phase(test.ref) >= PhaseCompleting
			res := r.end(test.ref, test.commit, test.participants...)
			if res.Code != test.code || res.Reason != test.reason {
				t.Fatalf("%v %v (%v), want %v %v", res.Code, res.Reason, res.Problem, test.code, test.reason)
			}
			if res.Repeated != (ended && (res.Code == CodeOK || res.Code == CodeConflict)) {
				t.Fatalf("repeated %v", res.Repeated)
			}
			if changed := !slices.Equal(before, r.m.Snapshot()); changed != (res.Code == CodeOK && !ended) {
				t.Fatalf("changed the state: %v", changed)
			}
			if test.code != CodeUnknownID && res.CurrentEpoch != 1 {
				t.Fatalf("current epoch %d", res.CurrentEpoch)
			}
			// What was told stays true (I13).
			if res.Code == CodeOK {
				if again := r.end(test.ref, test.commit); again.Code != CodeOK || again.DecidedAt != res.DecidedAt {
					t.Fatalf("repeated: %+v", again)
				}
				if other := r.end(test.ref, !test.commit); other.Code != CodeConflict {
					t.Fatalf("the other way: %+v", other)
				}
			}
		})
	}
}

func TestEndTransactionCommitIsOwedToTheNamed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	r.enlist(ref(1, 0, 1), 2, 20)
	stated := []Progress{{12, 3}, {10, 5}}
	res := r.commit(ref(1, 0, 1), at(2, 7), Participant{Shard: 1, Progress: stated})
	r.wantShards("pending", res.Pending, 1, 2)
	stated[0].NextSequence = 99 // the machine keeps its own copy
	got := slices.Collect(r.m.Owed(1))
	if len(got) != 1 || got[0].Outcome != Committed || got[0].Decision != 1 {
		t.Fatalf("%+v", got)
	}
	wantEqual(t, "progress", got[0].Progress, []Progress{{10, 5}, {12, 3}}, func(a, b Progress) bool { return a == b })
	r.ack(ref(1, 0, 1), 1, MarkerApplied)
	again := r.commit(ref(1, 0, 1))
	r.wantShards("pending", again.Pending, 2)
	r.ack(ref(1, 0, 1), 2, MarkerApplied)
	r.wantShards("pending", r.commit(ref(1, 0, 1)).Pending)
}

func TestEndTransactionAbortIsOwedToNamedAndEnlisted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	r.enlist(ref(1, 0, 1), 3)
	r.enlist(ref(1, 0, 1), 2)
	res := r.abort(ref(1, 0, 1), at(4, 1), at(2, 5), at(1, 1))
	r.wantShards("pending", res.Pending, 1, 2, 3, 4)
	for mk := range r.m.Owed(2) {
		if mk.Outcome != Aborted || mk.Reason != ReasonClient || len(mk.Progress) != 0 {
			t.Fatalf("%+v", mk)
		}
	}
}

func TestEndTransactionSupersedesOnlyWhenAccepted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	r.enlist(ref(1, 0, 1), 1)
	r.wantCode(r.commit(ref(1, 0, 2), at(9, 1)).Code, CodeInvalid)
	r.wantOutcome(ref(1, 0, 1), StatusOpen, ReasonNone)
	res := r.commit(ref(1, 0, 2), at(2, 1))
	if res.Code != CodeOK || res.Superseded != ref(1, 0, 1) {
		t.Fatalf("%+v", res)
	}
	r.wantOutcome(ref(1, 0, 1), StatusAborted, ReasonSuperseded)
	if mk := slices.Collect(r.m.Owed(1)); len(mk) != 1 || mk[0].CompleteBelow != ref(1, 0, 1) {
		t.Fatalf("%+v", mk)
	}
}

func TestEndTransactionOffsets(t *testing.T) {
	t.Parallel()
	payload := []byte("offsets")
	tests := []struct {
		name          string
		c             EndTransaction
		o             *offsets
		code          Code
		checks, moves int
	}{
		{"accepted", EndTransaction{Ref: ref(1, 0, 1), Commit: true, OffsetsPayload: payload}, &offsets{}, CodeOK, 1, 1},
		{"stale", EndTransaction{Ref: ref(1, 0, 1), Commit: true, OffsetsPayload: payload}, &offsets{refuse: true}, CodeStaleMember, 1, 0},
		{"abort moves nothing", EndTransaction{Ref: ref(1, 0, 1), OffsetsPayload: payload}, &offsets{}, CodeOK, 0, 0},
		{"refused for another reason", EndTransaction{Ref: ref(1, 0, 1), Commit: true, Participants: []Participant{at(9, 1)}}, &offsets{}, CodeInvalid, 0, 0},
		{"not understood", EndTransaction{Ref: ref(1, 0, 1), Commit: true, OffsetsPayload: payload}, nil, CodeInvalid, 0, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.mustInit("a", 1)
			env := r.env()
			if test.o != nil {
				env.Offsets = test.o
			}
			res := r.m.EndTransaction(r.now, test.c, env)
			r.check()
			r.wantCode(res.Code, test.code)
			if test.o != nil && (test.o.checks != test.checks || test.o.moves != test.moves) {
				t.Fatalf("%d checks, %d moves", test.o.checks, test.o.moves)
			}
			if test.code != CodeOK {
				r.wantOutcome(ref(1, 0, 1), StatusOpen, ReasonNone)
				return
			}
			// A repeated commit never moves offsets again (I7).
			r.m.EndTransaction(r.now, test.c, env)
			if test.o.moves != test.moves || test.o.checks != test.checks {
				t.Fatalf("repeated: %d checks, %d moves", test.o.checks, test.o.moves)
			}
		})
	}
}

func TestEndTransactionThrottled(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.MaxUnfinished = 2 })
	r.mustInit("a", 1)
	r.wantCode(r.commit(ref(1, 0, 1), at(1, 1)).Code, CodeOK)
	r.enlist(ref(1, 0, 2), 1)
	o := &offsets{}
	c := EndTransaction{Ref: ref(1, 0, 3), Commit: true, Participants: []Participant{at(1, 1)}}
	res := r.m.EndTransaction(r.now, c, Env{Catalog: r.w, Offsets: o})
	if res.Code != CodeThrottled || o.checks != 0 {
		t.Fatalf("%+v", res)
	}
	r.wantOutcome(ref(1, 0, 2), StatusOpen, ReasonNone)
	r.wantCode(r.abort(ref(1, 0, 3), at(1, 1)).Code, CodeThrottled)
	// What was admitted when it was opened can always be ended, and what
	// leaves nothing behind is never throttled.
	r.wantCode(r.commit(ref(1, 0, 2), at(1, 1)).Code, CodeOK)
	r.wantCode(r.commit(ref(1, 0, 3)).Code, CodeOK)
	r.ack(ref(1, 0, 1), 1, MarkerApplied)
	r.wantCode(r.commit(ref(1, 0, 4), at(1, 1)).Code, CodeOK)
}

func TestEndTransactionSizeLimits(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.MaxParticipants, c.MaxPartitionsPerTxn = 2, 3 })
	r.mustInit("a", 1)
	many := r.commit(ref(1, 0, 1), at(1, 1), at(2, 1), at(3, 1))
	if many.Code != CodeInvalid || many.Problem != ProblemTooMany {
		t.Fatalf("%+v", many)
	}
	wide := r.commit(ref(1, 0, 1), Participant{1, []Progress{{10, 1}, {11, 1}}}, Participant{2, []Progress{{20, 1}, {21, 1}}})
	if wide.Code != CodeInvalid || wide.Problem != ProblemTooMany || wide.Shard != 2 {
		t.Fatalf("%+v", wide)
	}
}

func TestEvictionNeverTouchesCompleting(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	r.commit(ref(1, 0, 1), at(1, 1))
	for n := uint64(2); n <= 40; n++ {
		r.commit(ref(1, 0, n))
	}
	// 1 is still owed to shard 1 and must be told as committed (hole H1).
	if a := r.enlist(ref(1, 0, 1), 1); a.Verdict != VerdictDecided || a.Marker.Outcome != Committed {
		t.Fatalf("%+v", a)
	}
	r.wantOutcome(ref(1, 0, 24), StatusForgotten, ReasonNone)
	r.wantOutcome(ref(1, 0, 25), StatusCommitted, ReasonNone)
	r.wantCode(r.commit(ref(1, 0, 24)).Code, CodeForgotten)
	r.ack(ref(1, 0, 1), 1, MarkerApplied)
	r.wantOutcome(ref(1, 0, 1), StatusCommitted, ReasonNone)
	r.wantOutcome(ref(1, 0, 25), StatusForgotten, ReasonNone)
}

// Of one transaction that is owed to a shard and a newer one that is not, the
// older one completes last. That must not push out how the newest ended: a
// producer whose commit was answered by nobody repeats exactly this one.
func TestTheNewestOutcomeIsNeverForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.OutcomesKept = 1 })
	r.mustInit("a", 1)
	r.abort(ref(1, 0, 1), at(1, 1))
	r.commit(ref(1, 0, 2))
	r.ack(ref(1, 0, 1), 1, MarkerApplied)
	r.wantOutcome(ref(1, 0, 1), StatusAborted, ReasonClient)
	r.wantOutcome(ref(1, 0, 2), StatusCommitted, ReasonNone)
	if res := r.commit(ref(1, 0, 2)); res.Code != CodeOK || !res.Repeated {
		t.Fatalf("%+v", res)
	}
	r.wantCode(r.abort(ref(1, 0, 2)).Code, CodeConflict)
	if res := r.m.AbortTransaction(r.now, AbortTransaction{Ref: ref(1, 0, 2)}); res.Code != CodeConflict {
		t.Fatalf("%+v", res)
	}
	if phase := r.m.Phase(ref(1, 0, 2)); phase != PhaseComplete {
		t.Fatal(phase)
	}

	// Once there is a newer one, it goes the way of all.
	r.commit(ref(1, 0, 3))
	r.wantOutcome(ref(1, 0, 1), StatusForgotten, ReasonNone)
	r.wantOutcome(ref(1, 0, 2), StatusForgotten, ReasonNone)
	r.wantOutcome(ref(1, 0, 3), StatusCommitted, ReasonNone)
}

func TestTheLastNumberEndsTheEpoch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	last := ref(1, 0, math.MaxUint64)
	r.wantCode(r.commit(last, at(1, 1)).Code, CodeOK)
	r.drain()
	if below, _ := r.m.CompleteBelow(1); below != last {
		t.Fatalf("%+v", below)
	}
	r.wantCode(r.commit(ref(1, 0, 1)).Code, CodeForgotten)
	if res := r.mustInit("a", 2); res.Epoch != 1 {
		t.Fatalf("%+v", res)
	}
	r.wantCode(r.commit(ref(1, 1, 1)).Code, CodeOK)
}
