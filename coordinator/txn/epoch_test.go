package txn

import (
	"math"
	"slices"
	"testing"
)

// exhaustEpochs moves an id to the last epoch there is, as if nothing had been
// decided on the way.
func exhaustEpochs(m *Machine, id string) {
	p := m.byName[id]
	p.epoch = math.MaxUint32
	p.pastLast = make([]uint64, m.cfg.RequestIDsKept)
}

// wantOver checks everything a client can be told about an unremembered
// transaction of an epoch that is over: FENCED or FORGOTTEN, from every side.
// It asks a machine restored from a snapshot as well.
func (r *rig) wantOver(x Ref, code Code) {
	r.t.Helper()
	restored := New(r.m.Config())
	if err := restored.Restore(r.m.Snapshot()); err != nil {
		r.t.Fatal(err)
	}
	status, reason := StatusForgotten, ReasonNone
	if code == CodeFenced {
		status, reason = StatusAborted, ReasonFenced
	}
	for _, m := range []*Machine{r.m, restored} {
		before := m.Snapshot()
		for _, commit := range []bool{true, false} {
			res := m.EndTransaction(r.now, EndTransaction{Ref: x, Commit: commit, Participants: []Participant{at(1, 1)}}, r.env())
			if res.Code != code || res.Outcome != Undecided || res.Repeated || res.CurrentEpoch <= x.Epoch {
				r.t.Fatalf("end of %+v, commit %v: %+v, want %v", x, commit, res, code)
			}
		}
		if res := m.AbortTransaction(r.now, AbortTransaction{Ref: x}); res.Code != code {
			r.t.Fatalf("AbortTransaction of %+v: %+v, want %v", x, res, code)
		}
		if rep := m.GetOutcome(x); rep.Status != status || rep.Reason != reason || rep.DecidedAt != 0 {
			r.t.Fatalf("GetOutcome of %+v: %+v, want %v", x, rep, status)
		}
		if !slices.Equal(before, m.Snapshot()) {
			r.t.Fatalf("asking about %+v changed the state", x)
		}
	}
}

// commitMany commits the numbers from first to last of an epoch, with nobody
// taking part.
func (r *rig) commitMany(epoch uint32, first, last uint64) {
	r.t.Helper()
	for n := first; n <= last; n++ {
		r.wantCode(r.commit(ref(1, epoch, n)).Code, CodeOK)
	}
}

func TestOverEpochs(t *testing.T) {
	t.Parallel()
	takeOver := func(r *rig) { r.mustInit("a", 2) }
	tests := []struct {
		name    string
		prepare func(r *rig)
		ref     Ref
		code    Code
	}{
		{"zombie, nothing ever decided", takeOver, ref(1, 0, 1), CodeFenced},
		{"zombie, after 100 commits of the successor", func(r *rig) {
			r.commitMany(0, 1, 3)
			takeOver(r)
			r.commitMany(1, 1, 100)
		}, ref(1, 0, 4), CodeFenced},
		{"zombie that never finished any, after 100 commits", func(r *rig) {
			takeOver(r)
			r.commitMany(1, 1, 100)
		}, ref(1, 0, 1), CodeFenced},
		{"zombie far above, after 100 commits", func(r *rig) {
			takeOver(r)
			r.commitMany(1, 1, 100)
		}, ref(1, 0, math.MaxUint64), CodeFenced},
		{"committed, evicted, epoch raised", func(r *rig) {
			r.commitMany(0, 1, 17)
			takeOver(r)
		}, ref(1, 0, 1), CodeForgotten},
		{"committed, epoch raised, evicted", func(r *rig) {
			r.commitMany(0, 1, 1)
			takeOver(r)
			r.commitMany(1, 1, 16)
		}, ref(1, 0, 1), CodeForgotten},
		{"just above the last commit, evicted", func(r *rig) {
			r.commitMany(0, 1, 1)
			takeOver(r)
			r.commitMany(1, 1, 16)
		}, ref(1, 0, 2), CodeFenced},
		{"closed by the take-over, evicted", func(r *rig) {
			r.enlist(ref(1, 0, 5), 1)
			takeOver(r)
			r.drain()
			r.commitMany(1, 1, 16)
		}, ref(1, 0, 5), CodeForgotten},
		{"passed over", func(r *rig) {
			r.commitMany(0, 5, 5)
			takeOver(r)
		}, ref(1, 0, 4), CodeForgotten},
		{"the last number there is, committed and evicted", func(r *rig) {
			r.commitMany(0, math.MaxUint64-1, math.MaxUint64-1)
			r.wantCode(r.commit(ref(1, 0, math.MaxUint64)).Code, CodeOK)
			takeOver(r)
			r.commitMany(1, 1, 16)
		}, ref(1, 0, math.MaxUint64), CodeForgotten},
		{"committed, then fenced by an administrator, evicted", func(r *rig) {
			r.commitMany(0, 1, 1)
			r.m.FenceProducer(r.now, FenceProducer{TransactionalID: "a"})
			r.commitMany(1, 1, 16)
		}, ref(1, 0, 1), CodeForgotten},
		{"zombie fenced by an administrator", func(r *rig) {
			r.m.FenceProducer(r.now, FenceProducer{TransactionalID: "a"})
			r.commitMany(1, 1, 16)
		}, ref(1, 0, 1), CodeFenced},
		{"closed by a deletion that must wait, evicted", func(r *rig) {
			r.commitMany(0, 1, 1)
			r.commit(ref(1, 0, 2), at(1, 1))
			r.enlist(ref(1, 0, 3), 2)
			r.m.DeleteID(r.now, DeleteID{TransactionalID: "a"})
			r.ack(ref(1, 0, 3), 2, MarkerApplied)
			r.commitMany(1, 1, 16)
		}, ref(1, 0, 3), CodeForgotten},
		{"zombie of a deletion that must wait", func(r *rig) {
			r.commit(ref(1, 0, 2), at(1, 1))
			r.enlist(ref(1, 0, 3), 2)
			r.m.DeleteID(r.now, DeleteID{TransactionalID: "a"})
			r.commitMany(1, 1, 16)
		}, ref(1, 0, 4), CodeFenced},
		{"epoch without decisions between others", func(r *rig) {
			r.commitMany(0, 1, 9)
			takeOver(r)
			r.mustInit("a", 3)
			r.commitMany(2, 1, 16)
		}, ref(1, 1, 1), CodeFenced},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.mustInit("a", 1)
			test.prepare(r)
			r.wantOver(test.ref, test.code)
		})
	}
}

// A repeated commit is first told OK, and FORGOTTEN once its outcome has left
// the memory; never FENCED, whatever happens to the id in the meantime (I13).
func TestRepeatedCommitIsNeverToldFenced(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	x := ref(1, 0, 1)
	r.wantCode(r.commit(x).Code, CodeOK)
	want := CodeOK
	for n := range uint64(60) {
		// Three epochs in four decide something, so that outcomes and past
		// epochs leave the memory at different times.
		epoch := uint32(n) + 1
		r.mustInit("a", 2+byte(n))
		if n%4 > 0 {
			r.wantCode(r.commit(ref(1, epoch, 1)).Code, CodeOK)
		}
		decided := n + 1 - n/4 - 1
		if decided >= 16 {
			want = CodeForgotten
		}
		r.wantCode(r.commit(x).Code, want)
	}
	r.wantOver(x, CodeForgotten)
}

func TestSixteenPastEpochsAreKept(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const epochs = 20
	for epoch := uint32(0); epoch <= epochs; epoch++ {
		r.mustInit("a", 1+byte(epoch))
		r.commitMany(epoch, 1, 2)
	}
	r.commitMany(epochs, 3, 18) // the outcomes of all others are gone
	for epoch := range uint32(epochs) {
		above := CodeFenced
		if epochs-epoch > 16 {
			above = CodeForgotten // as far as is known, it may have been
		}
		r.wantOver(ref(1, epoch, 1), CodeForgotten)
		r.wantOver(ref(1, epoch, 2), CodeForgotten)
		r.wantOver(ref(1, epoch, 3), above)
	}
}

// Above everything ever decided nothing was, however many epochs ago.
func TestZombieOfAnEpochNoLongerKept(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	r.commitMany(0, 1, 17)
	for n := byte(2); n < 42; n++ {
		r.mustInit("a", n)
	}
	r.wantOver(ref(1, 0, 1), CodeForgotten)
	r.wantOver(ref(1, 0, 18), CodeFenced)
	r.wantOver(ref(1, 3, 1), CodeFenced)
	r.commitMany(40, 1, 1)
	r.wantOver(ref(1, 0, 18), CodeForgotten)
	r.wantOver(ref(1, 3, 1), CodeForgotten)
	r.wantOver(ref(1, 24, 1), CodeFenced)
}

// A million ids that were never taken over pay nothing for past epochs, and a
// repeated request or a refused fence ends no epoch.
func TestPastEpochsOfAnIDThatWasNeverTakenOver(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	r.commitMany(0, 1, 3)
	r.mustInit("a", 1)
	r.m.FenceProducer(r.now, FenceProducer{TransactionalID: "a", Epoch: 1})
	r.check()
	if p := r.m.byName["a"]; p.pastLast != nil {
		t.Fatalf("%v", p.pastLast)
	}
	again := New(r.m.Config())
	if err := again.Restore(r.m.Snapshot()); err != nil || again.byName["a"].pastLast != nil {
		t.Fatalf("restored: %v, %v", again.byName["a"], err)
	}
	r.mustInit("a", 2)
	if p := r.m.byName["a"]; len(p.pastLast) != 1 || cap(p.pastLast) != 1 || p.pastLast[0] != 3 {
		t.Fatalf("%v of %d", p.pastLast, cap(p.pastLast))
	}
	exhaustEpochs(r.m, "a")
	if res := r.init("a", 3); res.Code != CodeInvalid {
		t.Fatalf("%+v", res)
	}
}
