package txn

import (
	"slices"
	"testing"
)

func TestGetOutcome(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.OutcomesKept = 2 })
	r.mustInit("a", 1)
	r.commit(ref(1, 0, 1))
	r.abort(ref(1, 0, 5), at(2, 1), at(1, 1))
	r.mustInit("a", 2)
	r.commit(ref(1, 1, 1))
	r.commit(ref(1, 1, 2))
	r.enlist(ref(1, 1, 4), 1)
	tests := []struct {
		name   string
		ref    Ref
		status Status
		reason Reason
	}{
		{"unknown id", ref(9, 0, 1), StatusUnknownID, ReasonNone},
		{"number 0", ref(1, 1, 0), StatusInvalid, ReasonNone},
		{"number 0 of an older epoch", ref(1, 0, 0), StatusInvalid, ReasonNone},
		{"epoch above", ref(1, 2, 1), StatusInvalid, ReasonNone},
		{"evicted", ref(1, 0, 1), StatusForgotten, ReasonNone},
		{"completing", ref(1, 0, 5), StatusAborted, ReasonClient},
		{"older epoch, passed over", ref(1, 0, 3), StatusForgotten, ReasonNone},
		{"older epoch, above everything decided in it", ref(1, 0, 6), StatusAborted, ReasonFenced},
		{"complete", ref(1, 1, 2), StatusCommitted, ReasonNone},
		{"passed over", ref(1, 1, 3), StatusForgotten, ReasonNone},
		{"open", ref(1, 1, 4), StatusOpen, ReasonNone},
		{"free", ref(1, 1, 400), StatusOpen, ReasonNone},
	}
	for _, test := range tests {
		rep := r.m.GetOutcome(test.ref)
		if rep.Status != test.status || rep.Reason != test.reason {
			t.Errorf("%s: %v %v, want %v %v", test.name, rep.Status, rep.Reason, test.status, test.reason)
		}
	}
	rep := r.m.GetOutcome(ref(1, 0, 5))
	r.wantShards("pending", rep.Pending, 1, 2)
	if rep.DecidedAt != r.now || rep.CurrentEpoch != 1 {
		t.Fatalf("%+v", rep)
	}
}

// A producer that crashed in its commit asks under the next epoch. Nothing was
// decided, and nothing can be any more: that is an answer, not a shrug.
func TestGetOutcomeOfACommitThatNeverArrived(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	r.commit(ref(1, 0, 6), at(1, 1))
	r.wantOutcome(ref(1, 0, 7), StatusOpen, ReasonNone)
	r.mustInit("a", 2)
	r.wantOutcome(ref(1, 0, 7), StatusAborted, ReasonFenced)
	r.wantCode(r.commit(ref(1, 0, 7), at(1, 1)).Code, CodeFenced)
	r.wantOutcome(ref(1, 0, 7), StatusAborted, ReasonFenced)
}

func TestAbortTransaction(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	r.mustInit("a", 2)
	r.commit(ref(1, 1, 1), at(1, 1))
	r.abort(ref(1, 1, 2), at(2, 1))
	r.enlist(ref(1, 1, 4), 3)
	tests := []struct {
		name    string
		ref     Ref
		code    Code
		reason  Reason
		pending []uint64
	}{
		{"unknown id", ref(9, 0, 1), CodeUnknownID, 0, nil},
		{"fenced", ref(1, 0, 1), CodeFenced, 0, nil},
		{"epoch above", ref(1, 2, 1), CodeInvalid, 0, nil},
		{"number 0", ref(1, 1, 0), CodeInvalid, 0, nil},
		{"number 0 of an older epoch", ref(1, 0, 0), CodeInvalid, 0, nil},
		{"committed", ref(1, 1, 1), CodeConflict, 0, []uint64{1}},
		{"aborted by the client", ref(1, 1, 2), CodeOK, ReasonClient, []uint64{2}},
		{"passed over", ref(1, 1, 3), CodeForgotten, 0, nil},
		{"free", ref(1, 1, 5), CodeNotOpen, 0, nil},
		{"open", ref(1, 1, 4), CodeOK, ReasonAdmin, []uint64{3}},
		{"open, repeated", ref(1, 1, 4), CodeOK, ReasonAdmin, []uint64{3}},
	}
	for _, test := range tests {
		res := r.m.AbortTransaction(r.now, AbortTransaction{Ref: test.ref})
		r.check()
		if res.Code != test.code || res.Reason != test.reason || !slices.Equal(res.Pending, test.pending) {
			t.Errorf("%s: %+v", test.name, res)
		}
	}
	if res := r.commit(ref(1, 1, 4), at(3, 1)); res.Code != CodeConflict || res.Reason != ReasonAdmin {
		t.Fatalf("%+v", res)
	}
}

func TestFenceProducer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	r.enlist(ref(1, 0, 1), 1)
	fence := func(id string, epoch uint32) FenceProducerResult {
		res := r.m.FenceProducer(r.now, FenceProducer{TransactionalID: id, Epoch: epoch})
		r.check()
		return res
	}
	if res := fence("b", 0); res.Code != CodeUnknownID {
		t.Fatalf("%+v", res)
	}
	if res := fence("a", 1); res.Code != CodeInvalid || res.Problem != ProblemEpoch {
		t.Fatalf("%+v", res)
	}
	if res := fence("a", 0); res.Code != CodeOK || res.CurrentEpoch != 1 || res.Closed != ref(1, 0, 1) {
		t.Fatalf("%+v", res)
	}
	// A late copy hits nobody.
	r.mustInit("a", 2)
	if res := fence("a", 0); res.Code != CodeOK || res.CurrentEpoch != 2 || !res.Closed.IsZero() {
		t.Fatalf("%+v", res)
	}
	if res := r.init("a", 1); res.Code != CodeFenced {
		t.Fatalf("%+v", res)
	}
	r.wantOutcome(ref(1, 0, 1), StatusAborted, ReasonFenced)
	exhaustEpochs(r.m, "a")
	if res := fence("a", 1<<32-1); res.Code != CodeInvalid || res.Problem != ProblemEpochExhausted {
		t.Fatalf("%+v", res)
	}
}

func TestDeleteID(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	r.commit(ref(1, 0, 1), at(1, 1))
	r.enlist(ref(1, 0, 2), 2)
	remove := func(c DeleteID) DeleteIDResult {
		res := r.m.DeleteID(r.now, c)
		r.check()
		return res
	}
	if res := remove(DeleteID{TransactionalID: "b"}); res.Code != CodeUnknownID {
		t.Fatalf("%+v", res)
	}
	if res := remove(DeleteID{TransactionalID: "a", ProducerID: 2}); res.Code != CodeUnknownID {
		t.Fatalf("%+v", res)
	}
	res := remove(DeleteID{TransactionalID: "a"})
	if res.Code != CodeIncomplete || res.Closed != ref(1, 0, 2) || !slices.Equal(res.Pending, []uint64{1, 2}) {
		t.Fatalf("%+v", res)
	}
	// The producer cannot keep the id alive by going on.
	if a := r.enlist(ref(1, 0, 3), 2); a.Verdict != VerdictStray || a.FenceEpoch != 1 {
		t.Fatalf("%+v", a)
	}
	r.ack(ref(1, 0, 1), 1, MarkerApplied)
	if res := remove(DeleteID{TransactionalID: "a"}); res.Code != CodeIncomplete || !slices.Equal(res.Pending, []uint64{2}) {
		t.Fatalf("%+v", res)
	}
	r.ack(ref(1, 0, 2), 2, MarkerApplied)
	if res := remove(DeleteID{TransactionalID: "a", ProducerID: 1}); res.Code != CodeOK || res.ProducerID != 1 {
		t.Fatalf("%+v", res)
	}
	if r.m.Known(1) {
		t.Fatal("still known")
	}
	if a := r.enlist(ref(1, 0, 2), 2); a.Verdict != VerdictStray {
		t.Fatalf("%+v", a)
	}
	r.wantOutcome(ref(1, 0, 1), StatusUnknownID, ReasonNone)
	r.wantCode(r.commit(ref(1, 0, 1)).Code, CodeUnknownID)
	if again := r.mustInit("a", 1); again.ProducerID != 2 || again.Epoch != 0 {
		t.Fatalf("%+v", again)
	}
	// A late copy of the delete does not remove the id created anew.
	if res := remove(DeleteID{TransactionalID: "a", ProducerID: 1}); res.Code != CodeUnknownID {
		t.Fatalf("%+v", res)
	}
}

func TestDeleteIDWithAnOpenTransactionOfNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	r.enlist(ref(1, 0, 1), 1)
	r.m.RemoveShard(r.now, 1)
	res := r.m.DeleteID(r.now, DeleteID{TransactionalID: "a"})
	r.check()
	if res.Code != CodeOK || r.m.Known(1) {
		t.Fatalf("%+v", res)
	}
}

func TestExpireIDs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	week := r.m.Config().IDExpiration
	start := r.now
	for i, id := range []string{"a", "b", "c", "d", "e"} {
		r.now = start + Millis(i)
		r.mustInit(id, 1)
	}
	r.commit(ref(3, 0, 1), at(1, 1)) // c is completing
	r.enlist(ref(4, 0, 1), 1)        // d is open
	r.now = start + 10
	r.commit(ref(1, 0, 1)) // a was used last
	if got := r.m.IdleIDs(start+week, 9); len(got) != 0 {
		t.Fatalf("%v", got)
	}
	if got := r.m.IdleIDs(start+week+10, 9); !slices.Equal(got, []uint64{2, 5, 1}) {
		t.Fatalf("%v", got)
	}
	if got := r.m.IdleIDs(start+week+10, 2); !slices.Equal(got, []uint64{2, 5}) {
		t.Fatalf("%v", got)
	}
	r.now = start + week + 9
	res := r.m.ExpireIDs(r.now, ExpireIDs{ProducerIDs: []uint64{1, 2, 3, 4, 2, 77}})
	r.check()
	want := []Code{CodeNotDue, CodeOK, CodeIncomplete, CodeIncomplete, CodeUnknownID, CodeUnknownID}
	if !slices.Equal(res.Codes, want) {
		t.Fatalf("%v", res.Codes)
	}
	// Whatever goes quiet gets its whole time from then on.
	r.drain()
	if got := r.m.IdleIDs(r.now+week-1, 9); !slices.Equal(got, []uint64{5, 1}) {
		t.Fatalf("%v", got)
	}
	if got := r.m.IdleIDs(r.now+week, 9); !slices.Equal(got, []uint64{5, 1, 3}) {
		t.Fatalf("%v", got)
	}
}

func TestListPagesAndFilters(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("orders-1", 1) // Ongoing
	r.enlistItem(EnlistItem{Ref: ref(1, 0, 1), Shard: 1, Age: 3_000})
	r.mustInit("orders-2", 1) // PrepareCommit, then the older one counts
	r.commit(ref(2, 0, 1), at(1, 1))
	r.mustInit("bills-1", 1) // PrepareAbort
	r.abort(ref(3, 0, 1), at(1, 1))
	r.mustInit("bills-2", 1) // CompleteCommit
	r.commit(ref(4, 0, 1))
	r.mustInit("bills-3", 1) // CompleteAbort
	r.abort(ref(5, 0, 1))
	r.mustInit("empty", 1) // Empty
	r.mustInit("gone", 1)
	r.m.DeleteID(r.now, DeleteID{TransactionalID: "gone"})
	r.now += 1_000

	names := func(f ListFilter, limit int) (all []string) {
		var after uint64
		for {
			page := r.m.List(f, r.now, after, limit)
			for _, s := range page.Items {
				all = append(all, s.TransactionalID+" "+s.State.String())
			}
			if after = page.Next; after == 0 {
				return all
			}
		}
	}
	everything := []string{"orders-1 Ongoing", "orders-2 PrepareCommit", "bills-1 PrepareAbort",
		"bills-2 CompleteCommit", "bills-3 CompleteAbort", "empty Empty"}
	for limit := 1; limit < 8; limit++ {
		if got := names(ListFilter{}, limit); !slices.Equal(got, everything) {
			t.Fatalf("limit %d: %q", limit, got)
		}
	}
	tests := []struct {
		name string
		f    ListFilter
		want []string
	}{
		{"prefix", ListFilter{IDPrefix: "bills"}, everything[2:5]},
		{"contains", ListFilter{IDContains: "-2"}, []string{everything[1], everything[3]}},
		{"states", ListFilter{States: []State{StateEmpty, StateOngoing}}, []string{everything[0], everything[5]}},
		{"older than 1 s", ListFilter{OlderThan: 1_000}, everything[:3]},
		{"older than 4 s", ListFilter{OlderThan: 4_000}, everything[:1]},
		{"older than anything", ListFilter{OlderThan: 4_001}, nil},
	}
	for _, test := range tests {
		if got := names(test.f, 2); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	if page := r.m.List(ListFilter{}, r.now, 0, 0); len(page.Items) != 0 || page.Next != 0 {
		t.Fatalf("limit 0: %+v", page)
	}
	// A page token outlives the id it names.
	page := r.m.List(ListFilter{}, r.now, 0, 5)
	r.m.DeleteID(r.now, DeleteID{TransactionalID: "bills-3"})
	if rest := r.m.List(ListFilter{}, r.now, page.Next, 5); len(rest.Items) != 1 || rest.Items[0].TransactionalID != "empty" {
		t.Fatalf("%+v", rest)
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if _, ok := r.m.Describe("a"); ok {
		t.Fatal("unknown id")
	}
	r.mustInit("a", 1)
	r.commit(ref(1, 0, 1))
	r.commit(ref(1, 0, 2), at(1, 4), at(2, 5))
	r.ack(ref(1, 0, 2), 2, MarkerMissingData)
	r.enlist(ref(1, 0, 3), 1, 11, 10)
	d, ok := r.m.Describe("a")
	if !ok || d.ProducerID != 1 || d.Owner != "User:a" || d.ClientHost != "10.0.0.1" || d.State != StateOngoing {
		t.Fatalf("%+v", d)
	}
	if d.Open.Ref != ref(1, 0, 3) || d.Open.Deadline != r.now+10_000 || !slices.Equal(d.Open.Participants[0].Partitions, []uint64{10, 11}) {
		t.Fatalf("%+v", d.Open)
	}
	c := d.Completing[0]
	if len(d.Completing) != 1 || !c.Damaged || c.Participants[0].Acknowledged || !c.Participants[1].Acknowledged ||
		!slices.Equal(c.Participants[0].Progress, []Progress{{10, 4}}) {
		t.Fatalf("%+v", c)
	}
	if len(d.Outcomes) != 1 || d.Outcomes[0].Ref != ref(1, 0, 1) || d.Outcomes[0].Outcome != Committed {
		t.Fatalf("%+v", d.Outcomes)
	}
	if who, ok := r.m.Lookup(1); !ok || who.TransactionalID != "a" || who.Owner != "User:a" {
		t.Fatalf("%+v", who)
	}
	if _, ok := r.m.Lookup(2); ok {
		t.Fatal("unknown producer id")
	}
	if got := r.m.Counts(); got != (Counts{IDs: 1, Open: 1, Owed: 1}) {
		t.Fatalf("%+v", got)
	}
}
