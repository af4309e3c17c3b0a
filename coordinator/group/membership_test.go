package group

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func join(group, member string, topics ...string) Subscribe {
	return Subscribe{
		Group: group, Member: member, ClientID: "c", Host: "h", Topics: topics,
		SessionTimeout: 1000, RebalanceTimeout: 2000, Assignor: AssignorSticky,
	}
}

func static(member, instance string, topics ...string) Subscribe {
	s := join("g", member, topics...)
	s.Instance = instance
	return s
}

func owned(t *testing.T, m *Machine, member string) []uint64 {
	t.Helper()
	mm, _ := m.Member("g", member)
	return mm.Partitions
}

func want(t *testing.T, what string, got []uint64, partitions ...uint64) {
	t.Helper()
	if !slices.Equal(got, partitions) {
		t.Errorf("%s: %v, want %v", what, got, partitions)
	}
}

func TestRevocationComesBeforeReassignment(t *testing.T) {
	t.Parallel()
	m := New()
	must(t, m, join("g", "a", "t0"))
	want(t, "alone", owned(t, m, "a"), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
	must(t, m, commit("a", 1, first(10, 5)))
	must(t, m, join("g", "b", "t0"))
	a, _ := m.Member("g", "a")
	want(t, "a keeps until it lets go", a.Partitions, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
	want(t, "a is asked for", a.Revoking, 6, 7, 8, 9, 10)
	want(t, "b waits", owned(t, m, "b"))
	must(t, m, commit("a", 2, next(10, 5, 6))) // it still owns what it is asked for

	r := must(t, m, ReleasePartitions{Group: "g", Member: "a", Generation: 2, Partitions: []uint64{9, 10}})
	want(t, "b has what a let go", owned(t, m, "b"), 9, 10)
	if a, _ := m.Member("g", "a"); a.Asked != r.Generation {
		t.Errorf("asked since %d, want a new start at %d", a.Asked, r.Generation)
	}
	refused(t, m, commit("a", 2, next(10, 6, 7)), CodeStaleMember)
	must(t, m, commit("b", r.Generation, next(10, 6, 7)))

	// A late copy, and a release by who is not asked to.
	if r := must(t, m, ReleasePartitions{Group: "g", Member: "a", Generation: 2, Partitions: []uint64{9, 10}}); r.Changed {
		t.Error("a repeated release did something")
	}
	must(t, m, LeaveGroup{Group: "g", Member: "a"})
	want(t, "b alone", owned(t, m, "b"), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
	must(t, m, LeaveGroup{Group: "g", Member: "b"})
	must(t, m, assign("manual", 1)) // nobody is left who subscribes
}

// TestReleaseOfWhatIsKept: the member was told to let go, and then not to. What it
// let go it gets back in a new generation, so that a late copy of its word does
// not take the partition from under it.
func TestReleaseOfWhatIsKept(t *testing.T) {
	t.Parallel()
	m := New()
	must(t, m, join("g", "a", "t0"))
	must(t, m, join("g", "b", "t0"))
	must(t, m, LeaveGroup{Group: "g", Member: "b"})
	release := ReleasePartitions{Group: "g", Member: "a", Generation: 2, Partitions: []uint64{10}}
	r := must(t, m, release)
	if owner, since, _ := m.Owner("g", 10); owner != "a" || since != r.Generation || since <= 3 {
		t.Errorf("owned by %q since %d", owner, since)
	}
	if r := must(t, m, release); r.Changed {
		t.Error("a late copy took the partition")
	}
	release.Generation = 99
	if r := must(t, m, release); r.Changed {
		t.Error("a generation that was not reached yet took the partition")
	}
}

func TestStaticMember(t *testing.T) {
	t.Parallel()
	m := New()
	must(t, m, static("a1", "A", "t0"))
	must(t, m, static("b1", "B", "t0"))
	must(t, m, ReleasePartitions{Group: "g", Member: "a1", Generation: 2, Partitions: owned(t, m, "a1")[5:]})
	keeps := slices.Clone(owned(t, m, "a1"))
	b := slices.Clone(owned(t, m, "b1"))
	generation := m.Generation("g")
	r := must(t, m, static("a2", "A", "t0"))
	want(t, "the next life", owned(t, m, "a2"), keeps...)
	want(t, "the other member", owned(t, m, "b1"), b...)
	if _, since, _ := m.Owner("g", keeps[0]); since != r.Generation || r.Generation != generation+1 {
		t.Errorf("owned since %d, generation %d after %d", since, r.Generation, generation)
	}
	if _, ok := m.Member("g", "a1"); ok {
		t.Error("the life before is a member still")
	}
	refused(t, m, commit("a1", generation, first(keeps[0], 1)), CodeStaleMember)
	if r := refused(t, m, static("a1", "A", "t0"), CodeFencedInstance); r.Owner != "a2" {
		t.Errorf("refusal %+v", r.Refusal)
	}
	refused(t, m, static("a2", "C", "t0"), CodeInvalidMember)
	if holder, before := m.Holder("g", "A"); holder != "a2" || before != "a1" {
		t.Errorf("instance held by %q, before by %q", holder, before)
	}
	// What the life before was to let go, goes at once.
	must(t, m, static("c1", "C", "t0"))
	if mm, _ := m.Member("g", "a2"); len(mm.Revoking) == 0 {
		t.Fatal("nothing is asked of it")
	}
	must(t, m, static("a3", "A", "t0"))
	if mm, _ := m.Member("g", "a3"); len(mm.Revoking) != 0 || len(owned(t, m, "c1")) == 0 {
		t.Errorf("asked for %v still", mm.Revoking)
	}
	// A next life that reads something else.
	must(t, m, static("a4", "A", "t1"))
	want(t, "another topic", owned(t, m, "a4"), m.cat("t1")...)
}

// cat is the partitions of a topic.
func (m *Machine) cat(topic string) []uint64 { return cat.TopicPartitions(topic) }

func TestManualAndSubscribedDoNotMix(t *testing.T) {
	t.Parallel()
	m := New()
	must(t, m, join("g", "a", "t0"))
	refused(t, m, assign("b", 1), CodeMixedMembers)
	refused(t, m, assign("a", 1), CodeMixedMembers)
	must(t, m, LeaveGroup{Group: "g", Member: "a"})
	must(t, m, assign("b", 1))
	refused(t, m, join("g", "a", "t0"), CodeMixedMembers)
	refused(t, m, join("g", "b", "t0"), CodeMixedMembers)
	refused(t, m, ReleasePartitions{Group: "g", Member: "b", Generation: 1, Partitions: []uint64{1}}, CodeUnknownMember)
}

func TestSubscriptionLimits(t *testing.T) {
	t.Parallel()
	m := New()
	with := func(change func(*Subscribe)) Subscribe {
		s := join("g", "a", "t0")
		change(&s)
		return s
	}
	long := strings.Repeat("x", 250)
	for _, c := range []struct {
		cmd  Subscribe
		want Code
	}{
		{with(func(s *Subscribe) { s.Group = "" }), CodeInvalidGroup},
		{with(func(s *Subscribe) { s.Group = long }), CodeInvalidGroup},
		{with(func(s *Subscribe) { s.Member = "" }), CodeInvalidMember},
		{with(func(s *Subscribe) { s.Member = long }), CodeInvalidMember},
		{with(func(s *Subscribe) { s.Instance = long }), CodeInvalidMember},
		{with(func(s *Subscribe) { s.ClientID = long }), CodeInvalidMember},
		{with(func(s *Subscribe) { s.Host = long + long }), CodeInvalidMember},
		{with(func(s *Subscribe) { s.Topics = nil }), CodeInvalidSubscription},
		{with(func(s *Subscribe) { s.Topics = []string{""} }), CodeInvalidSubscription},
		{with(func(s *Subscribe) { s.Topics = []string{long} }), CodeInvalidSubscription},
		{with(func(s *Subscribe) { s.Topics = make([]string, MaxTopics+1) }), CodeLimitExceeded},
		{with(func(s *Subscribe) { s.Assignor = 0 }), CodeInvalidSubscription},
		{with(func(s *Subscribe) { s.Assignor = assignorEnd }), CodeInvalidSubscription},
		{with(func(s *Subscribe) { s.SessionTimeout = MinSessionTimeout - 1 }), CodeInvalidSubscription},
		{with(func(s *Subscribe) { s.SessionTimeout = MaxSessionTimeout + 1 }), CodeInvalidSubscription},
		{with(func(s *Subscribe) { s.RebalanceTimeout = MinSessionTimeout - 1 }), CodeInvalidSubscription},
		{with(func(s *Subscribe) { s.RebalanceTimeout = MaxRebalanceTimeout + 1 }), CodeInvalidSubscription},
	} {
		refused(t, m, c.cmd, c.want)
	}
	refused(t, m, ReleasePartitions{Group: "g", Member: "a"}, CodeUnknownMember)
	refused(t, m, ExpireMembers{Members: make([]LostMember, MaxExpired+1)}, CodeLimitExceeded)
	must(t, m, join("g", "m", "missing", "t0", "t0"))
	refused(t, m, ReleasePartitions{Group: "g", Member: "m", Partitions: make([]uint64, MaxOwned+1)}, CodeLimitExceeded)
	for i := 1; i < MaxSubscribers; i++ {
		m.Apply(cat, join("g", fmt.Sprint(i), "t0"))
	}
	check(t, m)
	if r := refused(t, m, join("g", "one more", "t0"), CodeLimitExceeded); r.Have != MaxSubscribers {
		t.Errorf("refusal %+v", r.Refusal)
	}
}

func TestExpireMembers(t *testing.T) {
	t.Parallel()
	m := New()
	must(t, m, join("g", "a", "t0"))
	must(t, m, join("g", "b", "t0"))
	a, _ := m.Member("g", "a")
	lost := LostMember{Group: "g", Member: "a", Joined: a.Joined}
	again := lost
	again.Joined++
	if r := must(t, m, ExpireMembers{Members: []LostMember{
		again, {Group: "none", Member: "a"}, {Group: "g", Member: "z", Joined: 1},
	}}); r.Changed {
		t.Error("others were removed")
	}
	must(t, m, ExpireMembers{Members: []LostMember{lost, lost}})
	want(t, "what is left for b", owned(t, m, "b"), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
	seen := 0
	m.Sessions(func(s Session) {
		seen++
		if s.Member != "b" || s.SessionTimeout != 1000 || s.RebalanceTimeout != 2000 || s.Asked != 0 {
			t.Errorf("session %+v", s)
		}
	})
	if seen != 1 {
		t.Errorf("%d sessions", seen)
	}
}

func TestTopicsGrowAndGo(t *testing.T) {
	t.Parallel()
	m := New()
	small := upTo(5)
	apply := func(cat Catalog, cmd Command) Result {
		t.Helper()
		r := m.Apply(cat, cmd)
		if err := m.CheckAgainst(cat); err != nil || !r.OK() {
			t.Fatal(r, err)
		}
		return r
	}
	apply(small, join("g", "a", "t0", "t1"))
	apply(small, join("g", "b", "t1")) // which does not exist yet
	want(t, "a", owned(t, m, "a"), 1, 2, 3, 4, 5)
	want(t, "b", owned(t, m, "b"))
	if r := apply(small, TopicsChanged{Topics: []string{"t0"}}); r.Changed {
		t.Error("nothing was new")
	}
	grown := upTo(14)
	if r := apply(grown, TopicsChanged{Topics: []string{"t0", "t1"}}); !r.Changed {
		t.Error("something was new")
	}
	want(t, "b has the new topic", owned(t, m, "b"), 11, 12, 13, 14)
	want(t, "a has what is new in its own", owned(t, m, "a"), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
	apply(small, RemovePartitions{Partitions: []uint64{6, 7, 8, 9, 10, 11, 12, 13, 14}})
	want(t, "a after deletion", owned(t, m, "a"), 1, 2, 3, 4, 5)
}

func TestAssignors(t *testing.T) {
	t.Parallel()
	m := New()
	ranged := func(member string) Subscribe {
		s := join("g", member, "t0", "t1")
		s.Assignor = AssignorRange
		return s
	}
	must(t, m, ranged("a"))
	must(t, m, ranged("b"))
	must(t, m, ranged("c"))
	for _, id := range []string{"a", "b"} {
		mm, _ := m.Member("g", id)
		must(t, m, ReleasePartitions{Group: "g", Member: id, Generation: m.Generation("g"), Partitions: mm.Revoking})
	}
	want(t, "a", owned(t, m, "a"), 1, 2, 3, 4, 11, 12, 13, 14)
	want(t, "b", owned(t, m, "b"), 5, 6, 7, 15, 16, 17)
	want(t, "c", owned(t, m, "c"), 8, 9, 10, 18, 19, 20)
	for _, id := range []string{"a", "b"} { // two of three ask for the other one
		must(t, m, join("g", id, "t0", "t1"))
	}
	if got := m.groups["g"].assignor(); got != AssignorSticky {
		t.Errorf("assignor %v", got)
	}
	if AssignorRange.String() != "range" || AssignorSticky.String() != "sticky" || Assignor(9).String() != "ASSIGNOR_9" {
		t.Error("assignors are misnamed")
	}
}

// TestStickyMovesAsFewAsItMust: with equal subscriptions, whoever comes gets its
// share and nothing else moves; whoever goes leaves its share, and nothing else
// moves.
func TestStickyMovesAsFewAsItMust(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 5))
		m := New()
		total := 10 * (1 + rng.IntN(3))
		topics := []string{"t0", "t1", "t2"}[:total/10]
		members, settled := map[string]bool{}, true
		for step := range 30 {
			before := maps.Clone(targetOf(m))
			id := fmt.Sprint("m", rng.IntN(12))
			must, moved := 0, 0
			if members[id] {
				delete(members, id)
				for _, to := range before {
					if to == id {
						must++
					}
				}
				m.Apply(cat, LeaveGroup{Group: "g", Member: id})
			} else {
				members[id] = true
				must = total / len(members)
				m.Apply(cat, join("g", id, topics...))
			}
			check(t, m)
			for p, to := range targetOf(m) {
				if was, had := before[p]; had && was != to {
					moved++
				}
			}
			if settled && len(members) > 0 && moved > must {
				t.Fatalf("seed %d, step %d: %d moved, %d had to", seed, step, moved, must)
			}
			if settled = rng.IntN(4) > 0; settled {
				settleAll(m)
			}
		}
	}
}

func targetOf(m *Machine) map[uint64]string {
	if g := m.groups["g"]; g != nil {
		return g.target
	}
	return nil
}

// settleAll lets every member release what it is asked for.
func settleAll(m *Machine) {
	for _, mm := range m.Members("g") {
		m.Apply(cat, ReleasePartitions{Group: "g", Member: mm.ID, Generation: m.Generation("g"), Partitions: mm.Revoking})
	}
}
