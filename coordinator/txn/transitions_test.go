package txn

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The table in testdata/transitions.txt is made by bringing one transaction,
// (1,0,2), into every state it can be in, doing one thing, and looking where it
// is. Its diff is the review of a change of the rules.

type situation struct {
	name  string
	reach func(r *rig)
}

func situations() []situation {
	x := ref(1, 0, 2)
	return []situation{
		{"free", func(*rig) {}},
		{"open", func(r *rig) { r.enlist(x, 1) }},
		{"overdue", func(r *rig) { r.enlist(x, 1); r.now += 10_000 }},
		{"prepared", func(r *rig) { r.prepare(x, at(1, 1)) }},
		{"prepared, fenced", func(r *rig) {
			r.prepare(x, at(1, 1))
			r.m.FenceProducer(r.now, FenceProducer{TransactionalID: "a"})
		}},
		{"completing commit", func(r *rig) { r.commit(x, at(1, 1)) }},
		{"completing abort", func(r *rig) { r.abort(x, at(1, 1)) }},
		{"complete commit", func(r *rig) { r.commit(x, at(1, 1)); r.drain() }},
		{"complete abort", func(r *rig) { r.abort(x, at(1, 1)); r.drain() }},
		{"over (passed)", func(r *rig) { r.commit(ref(1, 0, 3)) }},
		{"over (forgotten)", func(r *rig) {
			for n := uint64(2); n < 20; n++ {
				r.commit(ref(1, 0, n))
			}
		}},
		{"over (fenced)", func(r *rig) { r.mustInit("a", 2) }},
		{"over (zombie)", func(r *rig) {
			r.mustInit("a", 2)
			for n := uint64(1); n <= 100; n++ {
				r.commit(ref(1, 1, n))
			}
		}},
		{"over (evicted)", func(r *rig) {
			r.commit(x)
			r.mustInit("a", 2)
			for n := uint64(1); n <= 16; n++ {
				r.commit(ref(1, 1, n))
			}
		}},
		{"over (long ago)", func(r *rig) {
			for epoch := uint32(1); epoch <= 17; epoch++ {
				r.mustInit("a", 10+byte(epoch))
				r.commit(ref(1, epoch, 1))
			}
		}},
		{"over (id gone)", func(r *rig) { r.m.DeleteID(r.now, DeleteID{TransactionalID: "a"}) }},
	}
}

type action struct {
	name string
	do   func(r *rig) string
}

func actions() []action {
	x, next := ref(1, 0, 2), ref(1, 0, 3)
	return []action{
		{"Enlist shard 1", func(r *rig) string { return r.enlist(x, 1).Verdict.String() }},
		{"Enlist shard 2", func(r *rig) string { return r.enlist(x, 2).Verdict.String() }},
		{"Enlist next", func(r *rig) string { return r.enlist(next, 1).Verdict.String() }},
		{"Commit shard 1", func(r *rig) string { return r.commit(x, at(1, 1)).Code.String() }},
		{"Commit empty", func(r *rig) string { return r.commit(x).Code.String() }},
		{"Commit next", func(r *rig) string { return r.commit(next).Code.String() }},
		{"Abort", func(r *rig) string { return r.abort(x).Code.String() }},
		{"Prepare shard 1", func(r *rig) string { return r.prepare(x, at(1, 1)).Code.String() }},
		{"Prepare next", func(r *rig) string { return r.prepare(next).Code.String() }},
		{"Complete: commit", func(r *rig) string { return r.complete(x, true).Code.String() }},
		{"Complete: abort", func(r *rig) string { return r.complete(x, false).Code.String() }},
		{"AbortTransaction", func(r *rig) string {
			return r.m.AbortTransaction(r.now, AbortTransaction{Ref: x}).Code.String()
		}},
		{"AbortTransaction, forced", func(r *rig) string {
			return r.m.AbortTransaction(r.now, AbortTransaction{Ref: x, Force: true}).Code.String()
		}},
		{"Expire", func(r *rig) string { return r.m.Expire(r.now, Expire{Refs: []Ref{x}}).Codes[0].String() }},
		{"MarkersApplied", func(r *rig) string {
			return map[int]string{0: "ignored", 1: "noted"}[r.ack(x, 1, MarkerApplied).Noted]
		}},
		{"RemoveShard", func(r *rig) string { r.m.RemoveShard(r.now, 1); return "-" }},
		{"InitProducer", func(r *rig) string { return r.init("a", 9).Code.String() }},
		{"InitProducer, keeping", func(r *rig) string {
			c := InitProducer{TransactionalID: "a", RequestID: RequestID{8}, KeepPrepared: true}
			return r.m.InitProducer(r.now, c).Code.String()
		}},
		{"FenceProducer", func(r *rig) string {
			return r.m.FenceProducer(r.now, FenceProducer{TransactionalID: "a"}).Code.String()
		}},
		{"DeleteID", func(r *rig) string { return r.m.DeleteID(r.now, DeleteID{TransactionalID: "a"}).Code.String() }},
		{"ExpireIDs, a week on", func(r *rig) string {
			r.now += r.m.Config().IDExpiration
			return r.m.ExpireIDs(r.now, ExpireIDs{ProducerIDs: []uint64{1}}).Codes[0].String()
		}},
	}
}

// where tells the phase, and the outcome as far as it is known.
func where(m *Machine, x Ref) string {
	phase := m.Phase(x).String()
	rep := m.GetOutcome(x)
	if rep.Status == StatusCommitted {
		return phase + " COMMITTED"
	}
	if rep.Status == StatusAborted {
		return phase + " ABORTED(" + rep.Reason.String() + ")"
	}
	return phase
}

func pad(s string, width int) string { return s + strings.Repeat(" ", max(1, width-len(s))) }

func TestTransitionTable(t *testing.T) {
	t.Parallel()
	x := ref(1, 0, 2)
	var out strings.Builder
	for _, s := range situations() {
		for _, a := range actions() {
			r := newRig(t)
			r.mustInit("a", 1)
			s.reach(r)
			before, was := r.m.Phase(x), r.m.GetOutcome(x).Status
			answer := a.do(r)
			r.check()
			after, is := r.m.Phase(x), r.m.GetOutcome(x).Status
			if before != after && !before.CanBecome(after) {
				t.Errorf("%s: %s moves from %v to %v", s.name, a.name, before, after)
			}
			if was == StatusCommitted && is == StatusAborted || was == StatusAborted && is == StatusCommitted {
				t.Errorf("%s: %s turns %v into %v (I5)", s.name, a.name, was, is)
			}
			line := pad(s.name, 20) + pad(a.name, 26) + pad(answer, 16) + where(r.m, x)
			out.WriteString(strings.TrimRight(line, " ") + "\n")
		}
		out.WriteString("\n")
	}
	sameText(t, "transitions.txt", out.String())
}

func TestPhasesNeverGoBack(t *testing.T) {
	t.Parallel()
	for p := PhaseFree; p <= PhaseOver; p++ {
		for q := PhaseFree; q <= p; q++ {
			if p.CanBecome(q) {
				t.Errorf("%v can become %v", p, q)
			}
		}
	}
	if Phase(99).CanBecome(PhaseOpen) {
		t.Error("an unknown phase leads somewhere")
	}
}

var update = flag.Bool("update", false, "rewrite the table of transitions")

// sameText compares text with a file of testdata, or rewrites the file.
func sameText(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != text {
		t.Fatalf("%s differs (go test -update rewrites it):\n%s", path, text)
	}
}
