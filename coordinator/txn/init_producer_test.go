package txn

import (
	"bytes"
	"math"
	"strings"
	"testing"
)

func TestInitProducerWithoutIDGivesFreshProducerIDs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	seen := map[uint64]bool{}
	for range 3 {
		res := r.m.InitProducer(r.now, InitProducer{})
		if res.Code != CodeOK || res.Epoch != 0 || seen[res.ProducerID] || res.ProducerID == 0 {
			t.Fatalf("%+v", res)
		}
		seen[res.ProducerID] = true
		if r.m.Known(res.ProducerID) {
			t.Fatal("an idempotent producer leaves no state")
		}
	}
	block := r.m.AllocateProducerIDs(r.now, AllocateProducerIDs{Count: 100})
	if block.Code != CodeOK || block.First != 4 || block.Count != 100 {
		t.Fatalf("%+v", block)
	}
	if next := r.mustInit("a", 1); next.ProducerID != 104 {
		t.Fatalf("producer id %d, want 104", next.ProducerID)
	}
	for _, count := range []uint32{0, MaxAllocate + 1} {
		if res := r.m.AllocateProducerIDs(r.now, AllocateProducerIDs{Count: count}); res.Code != CodeInvalid {
			t.Fatalf("count %d: %+v", count, res)
		}
	}
}

func TestInitProducerRefusals(t *testing.T) {
	t.Parallel()
	good := InitProducer{TransactionalID: "x", RequestID: RequestID{1}}
	tests := []struct {
		name    string
		change  func(*InitProducer)
		problem Problem
	}{
		{"id too long", func(c *InitProducer) { c.TransactionalID = strings.Repeat("x", 250) }, ProblemID},
		{"timeout below the minimum", func(c *InitProducer) { c.Timeout = 999 }, ProblemTimeout},
		{"timeout negative", func(c *InitProducer) { c.Timeout = -1 }, ProblemTimeout},
		{"timeout above the maximum", func(c *InitProducer) { c.Timeout = 900_001 }, ProblemTimeout},
		{"no request id", func(c *InitProducer) { c.RequestID = RequestID{} }, ProblemRequestID},
		{"owner too long", func(c *InitProducer) { c.Owner = strings.Repeat("x", 256) }, ProblemText},
		{"host too long", func(c *InitProducer) { c.ClientHost = strings.Repeat("x", 256) }, ProblemText},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			c := good
			test.change(&c)
			res := r.m.InitProducer(r.now, c)
			if res.Code != CodeInvalid || res.Problem != test.problem {
				t.Fatalf("%+v", res)
			}
			r.check()
			if r.m.Counts().IDs != 0 {
				t.Fatal("a refusal left an id behind")
			}
		})
	}
}

func TestInitProducerTimeoutDefault(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.m.InitProducer(r.now, InitProducer{TransactionalID: "x", RequestID: RequestID{1}})
	if d, _ := r.m.Describe("x"); d.Timeout != 60_000 {
		t.Fatalf("timeout %d", d.Timeout)
	}
}

// TestAnExclusiveIDIsItsOwners: nobody else fences its producer, not even with the
// owner's own request, until it is deleted.
func TestAnExclusiveIDIsItsOwners(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	init := func(owner string, request byte, exclusive bool) InitProducerResult {
		res := r.m.InitProducer(r.now, InitProducer{
			TransactionalID: "a", RequestID: RequestID{request}, Owner: owner, Exclusive: exclusive,
		})
		r.check()
		return res
	}
	if res := init("ann", 1, true); res.Code != CodeOK {
		t.Fatalf("%+v", res)
	}
	before := r.m.Snapshot()
	for _, request := range []byte{1, 2} {
		if res := init("bob", request, true); res.Code != CodeNotOwner || res.ProducerID != 0 {
			t.Errorf("request %d of another: %+v", request, res)
		}
	}
	if !bytes.Equal(r.m.Snapshot(), before) {
		t.Error("a refusal changes something")
	}
	if res := init("ann", 2, true); res.Code != CodeOK || res.Epoch != 1 {
		t.Errorf("the owner again: %+v", res)
	}
	// Without permissions the last caller owns it, and what was nobody's is free.
	if res := init("", 3, false); res.Code != CodeOK {
		t.Errorf("%+v", res)
	}
	if res := init("bob", 4, true); res.Code != CodeOK || res.Epoch != 3 {
		t.Errorf("the first with permissions: %+v", res)
	}
	if res := init("ann", 5, true); res.Code != CodeNotOwner {
		t.Errorf("the one from before: %+v", res)
	}
	if res := r.m.DeleteID(r.now, DeleteID{TransactionalID: "a"}); res.Code != CodeOK {
		t.Fatalf("%+v", res)
	}
	if res := init("ann", 6, true); res.Code != CodeOK || res.Epoch != 0 {
		t.Errorf("after its deletion: %+v", res)
	}
}

func TestInitProducerTakesOver(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.mustInit("a", 1)
	if first.Epoch != 0 || first.Previous.Number != 0 || !first.Closed.IsZero() || len(first.Incomplete) != 0 {
		t.Fatalf("%+v", first)
	}
	pid := first.ProducerID
	r.commit(ref(pid, 0, 1), at(3, 5))
	r.enlist(ref(pid, 0, 2), 2)
	r.enlist(ref(pid, 0, 2), 1)

	second := r.mustInit("a", 2)
	if second.ProducerID != pid || second.Epoch != 1 || second.Closed != ref(pid, 0, 2) {
		t.Fatalf("%+v", second)
	}
	if second.Previous != ref(pid, 0, 2) || second.PreviousOutcome != Aborted || second.PreviousReason != ReasonFenced {
		t.Fatalf("%+v", second)
	}
	r.wantShards("incomplete", second.Incomplete, 1, 2, 3)
	r.wantShards("incomplete", r.m.Incomplete(pid), 1, 2, 3)
	r.drain()
	r.wantShards("incomplete", r.m.Incomplete(pid))
	r.wantOutcome(ref(pid, 0, 1), StatusCommitted, ReasonNone)
	r.wantOutcome(ref(pid, 0, 2), StatusAborted, ReasonFenced)

	third := r.mustInit("a", 3)
	if third.Epoch != 2 || third.Previous != ref(pid, 0, 2) || !third.Closed.IsZero() {
		t.Fatalf("%+v", third)
	}
}

func TestInitProducerRepeated(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pid := r.mustInit("a", 1).ProducerID
	again := r.init("a", 1)
	if again.Code != CodeOK || !again.Repeated || again.Epoch != 0 || again.ProducerID != pid {
		t.Fatalf("%+v", again)
	}
	r.mustInit("a", 2)
	late := r.init("a", 1)
	if late.Code != CodeFenced || late.Epoch != 1 || !late.Repeated {
		t.Fatalf("%+v", late)
	}
	// A repeat must not abort what the producer has begun meanwhile.
	r.enlist(ref(pid, 1, 1), 1)
	if res := r.init("a", 2); res.Code != CodeOK || res.Epoch != 1 {
		t.Fatalf("%+v", res)
	}
	r.wantOutcome(ref(pid, 1, 1), StatusOpen, ReasonNone)
}

func TestInitProducerRemembersSixteenRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for n := byte(1); n <= 17; n++ {
		r.mustInit("a", n)
	}
	if res := r.init("a", 2); res.Code != CodeFenced {
		t.Fatalf("request 2 of 17: %+v", res)
	}
	// The first has left the memory and counts as new.
	if res := r.init("a", 1); res.Code != CodeOK || res.Epoch != 17 || res.Repeated {
		t.Fatalf("request 1 of 17: %+v", res)
	}
}

func TestInitProducerLimits(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.MaxIDs = 2 })
	r.mustInit("a", 1)
	r.mustInit("b", 1)
	if res := r.init("c", 1); res.Code != CodeLimit {
		t.Fatalf("%+v", res)
	}
	r.mustInit("a", 2) // known ids go on

	exhaustEpochs(r.m, "b")
	if res := r.init("b", 2); res.Code != CodeInvalid || res.Problem != ProblemEpochExhausted {
		t.Fatalf("%+v", res)
	}
}

func TestTimeNeverMovesBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustInit("a", 1)
	r.m.InitProducer(5, InitProducer{})
	if r.m.Now() != r.now {
		t.Fatalf("now %d", r.m.Now())
	}
	r.m.InitProducer(math.MaxInt64, InitProducer{})
	r.check()
	r.m.Enlist(math.MinInt64, Enlist{Items: []EnlistItem{{Ref: ref(1, 0, 1), Shard: 1}}}, r.env())
	r.check()
	if deadline, ok := r.m.NextDeadline(); !ok || deadline != maxTime+10_000 {
		t.Fatalf("deadline %d", deadline)
	}
	if err := New(r.m.Config()).Restore(r.m.Snapshot()); err != nil {
		t.Fatal(err)
	}
}
