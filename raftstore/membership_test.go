package raftstore_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
	"github.com/oncelog/oncelog/raftstore/memtransport"
)

func join(_ *raftstore.Config, g *raftstore.GroupConfig) { g.Members, g.Join = nil, true }

// change carries out a change at a node and returns how it ended.
func (h *hands) change(id raftstore.NodeID, c raftstore.MemberChange) error {
	h.t.Helper()
	var result error
	answers := 0
	h.groups[id].ChangeMembersAsync(c, func(err error) { result, answers = err, answers+1 })
	for range 100 {
		if h.tick(1); answers > 0 {
			break
		}
	}
	if answers != 1 {
		h.t.Fatalf("%+v: %d answers", c, answers)
	}
	return result
}

func (h *hands) mustChange(id raftstore.NodeID, c raftstore.MemberChange) {
	h.t.Helper()
	if err := h.change(id, c); err != nil {
		h.t.Fatalf("%+v: %v", c, err)
	}
}

// passAll delivers parts of snapshots until there are none.
func (h *hands) passAll() {
	h.t.Helper()
	for range 100 {
		if h.tick(1); len(h.chunks) > 0 {
			h.pass()
		}
	}
}

func (h *hands) voters(id raftstore.NodeID) []raftstore.NodeID { return h.groups[id].Status().Members }

func (h *hands) leader() raftstore.NodeID {
	h.t.Helper()
	for range 200 {
		for id, g := range h.groups {
			if l := g.Leadership(); h.stores[id] != nil && l.IsLeader && l.Ready {
				return id
			}
		}
		h.tick(1)
	}
	h.t.Fatal("no leader")
	return 0
}

// A node that lost its disk is replaced under another id: that joins as a learner,
// gets what is left of a trimmed log as a snapshot, and takes the other's place.
func TestReplaceAWipedNode(t *testing.T) {
	t.Parallel()
	h := leaderOfTwo(t, memlog.New(nil)) // node 3 is gone
	log := memlog.New(nil)
	h.start(4, log, join)
	h.tick(100)
	if st := h.groups[4].Status(); st.Term != 0 || st.Role != "follower" {
		t.Fatalf("a joiner by itself: %+v", st)
	}
	if err := h.change(1, raftstore.MemberChange{Promote: 4, Remove: 3}); !errors.Is(err, raftstore.ErrNotMember) {
		t.Errorf("replaced by a node that is no learner: %v", err)
	}
	h.mustChange(1, raftstore.MemberChange{AddLearner: 4})
	if err := h.change(1, raftstore.MemberChange{Promote: 4}); !errors.Is(err, raftstore.ErrNotCaughtUp) {
		t.Errorf("promoted before it has anything: %v", err)
	}
	members, err := h.groups[1].Members(t.Context())
	if err != nil || len(members) != 4 || members[3].Voter || !members[3].Snapshot || members[2].Active || !members[1].Active {
		t.Errorf("members %+v, %v", members, err)
	}
	h.passAll()
	if n := h.stores[4].Metrics().SnapshotsReceived; n != 1 {
		t.Fatalf("%d snapshots received", n)
	}
	h.mustChange(1, raftstore.MemberChange{Promote: 4, Remove: 3})
	want := []raftstore.NodeID{1, 2, 4}
	for _, id := range want {
		if got := h.voters(id); !slices.Equal(got, want) {
			t.Errorf("node %d knows the voters %v", id, got)
		}
	}
	// It counts: with it and without node 2 there is a majority, and after a
	// restart it still knows.
	h.stores[2] = nil
	h.propose(1, 30)
	h.tick(2)
	h.start(4, log, join)
	if got := h.voters(4); !slices.Equal(got, want) {
		t.Errorf("node 4 knows the voters %v after a restart", got)
	}
	h.propose(1, 5)
	h.tick(5)
	hash, n := h.chains[1].state()
	if got, m := h.chains[4].state(); got != hash || n != m {
		t.Errorf("node 4 has (%x, %d), node 1 (%x, %d)", got, m, hash, n)
	}
	if first := h.groups[4].First(); first != 31 {
		t.Errorf("the log of node 4 starts at %d", first)
	}
	for i := uint64(31); i <= h.groups[1].Applied(); i++ {
		if _, err := h.groups[4].Entry(i); err != nil {
			t.Errorf("entry %d: %v", i, err)
		}
	}
}

// A log that was never compacted is no way to learn who the members are: a joiner
// of it gets a snapshot nevertheless.
func TestJoinerOfAWholeLog(t *testing.T) {
	t.Parallel()
	h := newHands(t)
	for id := raftstore.NodeID(1); id <= 3; id++ {
		h.start(id, memlog.New(nil), nil)
	}
	h.settle()
	h.propose(h.leader(), 3)
	h.start(4, memlog.New(nil), join)
	h.mustChange(1, raftstore.MemberChange{AddLearner: 4})
	h.passAll()
	h.mustChange(1, raftstore.MemberChange{Promote: 4})
	h.tick(5)
	for id := raftstore.NodeID(1); id <= 4; id++ {
		if got := h.voters(id); !slices.Equal(got, []raftstore.NodeID{1, 2, 3, 4}) {
			t.Errorf("node %d knows the voters %v", id, got)
		}
		if data, err := h.groups[id].Entry(2); err != nil || len(data) == 0 {
			t.Errorf("node %d: the first command: %q, %v", id, data, err)
		}
	}
}

// Whoever is removed learns of it, at once or when it is back, and stops.
func TestRemovedMembersStop(t *testing.T) {
	t.Parallel()
	h := newHands(t)
	removed := map[raftstore.NodeID]int{}
	logs := map[raftstore.NodeID]*memlog.Store{}
	start := func(id raftstore.NodeID) {
		h.start(id, logs[id], func(_ *raftstore.Config, g *raftstore.GroupConfig) {
			g.OnRemoved = func() { removed[id]++ }
			g.Members = []raftstore.NodeID{1, 2, 3, 4, 5}
		})
	}
	for id := raftstore.NodeID(1); id <= 5; id++ {
		logs[id] = memlog.New(nil)
		start(id)
	}
	lead := h.leader()
	h.propose(lead, 5)
	others := slices.DeleteFunc([]raftstore.NodeID{1, 2, 3, 4, 5}, func(id raftstore.NodeID) bool { return id == lead })
	here, away, next := others[0], others[1], others[2]
	h.stores[away] = nil
	h.mustChange(lead, raftstore.MemberChange{Remove: here})
	h.mustChange(lead, raftstore.MemberChange{Remove: away})
	h.tick(10)
	if removed[here] != 1 || len(removed) != 1 {
		t.Errorf("told of their removal: %v, want node %d once", removed, here)
	}
	var refused error
	h.groups[here].ReadIndexAsync(func(_ uint64, err error) { refused = err })
	h.settle()
	if !errors.Is(refused, raftstore.ErrNotMember) {
		t.Errorf("a read at a removed node: %v", refused)
	}
	h.tick(200) // longer than the leader tells it
	start(away)
	h.tick(60)
	if removed[away] != 1 {
		t.Errorf("node %d was told %d times that it was removed while it was away", away, removed[away])
	}
	if got := h.leader(); got != lead {
		t.Errorf("node %d leads: the removed one disturbed node %d", got, lead)
	}
	// The leader removes itself, which it knows after a restart as well.
	h.mustChange(lead, raftstore.MemberChange{Remove: lead})
	h.tick(100) // somebody else has to lead first
	if removed[lead] != 1 {
		t.Errorf("the leader was told %d times", removed[lead])
	}
	start(lead)
	h.tick(60)
	if removed[lead] != 2 {
		t.Errorf("the former leader was told %d times with a restart", removed[lead])
	}
	if err := h.stores[lead].RemoveGroup(3); err != nil {
		t.Error(err)
	}
	delete(h.groups, lead)
	delete(h.groups, here)
	delete(h.groups, away)
	if got := h.leader(); got != next && got != others[3] {
		t.Errorf("node %d leads", got)
	} else {
		h.propose(got, 1)
	}
}

// A member that is removed keeps its vote until a majority of the others know that
// it is removed: else they could never lead again once the one who knew is gone.
func TestRemovedMembersVoteUntilOthersKnow(t *testing.T) {
	t.Parallel()
	h := newHands(t)
	removed := map[raftstore.NodeID]int{}
	for id := raftstore.NodeID(1); id <= 4; id++ {
		h.start(id, memlog.New(nil), func(_ *raftstore.Config, g *raftstore.GroupConfig) {
			g.OnRemoved = func() { removed[id]++ }
			g.Members = []raftstore.NodeID{1, 2, 3, 4}
		})
	}
	lead := h.leader()
	h.propose(lead, 5)
	out := lead%4 + 1
	// Of what the leader sends once the change is committed only its notices arrive.
	committed := uint64(0)
	h.lost = func(e memtransport.Envelope) bool {
		return e.From == lead && e.To != out && committed > 0
	}
	h.groups[lead].ChangeMembersAsync(raftstore.MemberChange{Remove: out}, func(err error) {
		if err != nil {
			t.Error(err)
		}
		committed = h.groups[lead].Status().LastIndex
	})
	h.settle()
	if committed == 0 {
		t.Fatal("the change was not made")
	}
	h.tick(5)
	if len(removed) > 0 {
		t.Fatalf("%v left although only the leader knows", removed)
	}
	h.stores[lead] = nil
	delete(h.groups, lead)
	h.lost = nil
	next := h.leader()
	if next == out {
		t.Fatalf("the removed node %d leads", out)
	}
	h.propose(next, 3)
	h.tick(100)
	if removed[out] != 1 || len(removed) != 1 {
		t.Errorf("told of their removal: %v, want node %d once", removed, out)
	}
	if got := h.voters(next); len(got) != 3 {
		t.Errorf("voters %v", got)
	}
}

func TestRefusedChanges(t *testing.T) {
	t.Parallel()
	h := leaderOfTwo(t, memlog.New(nil))
	var notLeader *raftstore.NotLeaderError
	if err := h.change(2, raftstore.MemberChange{AddLearner: 4}); !errors.As(err, &notLeader) || notLeader.Leader != 1 {
		t.Errorf("at a follower: %v", err)
	}
	for _, c := range []struct {
		change raftstore.MemberChange
		want   error
	}{
		{raftstore.MemberChange{}, raftstore.ErrBadChange},
		{raftstore.MemberChange{AddLearner: 4, Remove: 2}, raftstore.ErrBadChange},
		{raftstore.MemberChange{AddLearner: 2}, raftstore.ErrAlreadyMember},
		{raftstore.MemberChange{Promote: 2}, raftstore.ErrAlreadyMember},
		{raftstore.MemberChange{Promote: 4}, raftstore.ErrNotMember},
		{raftstore.MemberChange{Remove: 4}, raftstore.ErrNotMember},
		{raftstore.MemberChange{Promote: 4, Remove: 4}, raftstore.ErrNotMember},
		// Node 3 is down: of 1 and 3 there would be no majority.
		{raftstore.MemberChange{Remove: 2}, raftstore.ErrNoMajority},
	} {
		before := h.groups[1].Status().LastIndex
		if err := h.change(1, c.change); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.change, err, c.want)
		}
		if after := h.groups[1].Status().LastIndex; after != before {
			t.Errorf("%+v wrote entries up to %d behind %d", c.change, after, before)
		}
	}
	for n := raftstore.NodeID(4); n <= raftstore.MaxMembers; n++ {
		h.mustChange(1, raftstore.MemberChange{AddLearner: n})
	}
	if err := h.change(1, raftstore.MemberChange{AddLearner: 100}); !errors.Is(err, raftstore.ErrTooManyMembers) {
		t.Errorf("one too many: %v", err)
	}
	// One at a time: the second is refused, whether or not the first has left the
	// queue.
	var results []error
	for range 2 {
		h.groups[1].ChangeMembersAsync(raftstore.MemberChange{Remove: 3}, func(err error) { results = append(results, err) })
	}
	h.tick(3)
	if len(results) != 2 || !errors.Is(results[0], raftstore.ErrMembershipBusy) || results[1] != nil {
		t.Errorf("two at once: %v", results)
	}
	// The end answers what is under way.
	results = nil
	h.stores[2] = nil
	h.groups[1].ChangeMembersAsync(raftstore.MemberChange{AddLearner: 3}, func(err error) { results = append(results, err) })
	h.settle()
	if err := h.stores[1].Close(t.Context()); err != nil {
		t.Error(err)
	}
	h.groups[1].ChangeMembersAsync(raftstore.MemberChange{AddLearner: 3}, func(err error) { results = append(results, err) })
	if len(results) != 2 || !errors.Is(results[0], raftstore.ErrUnknownResult) || !errors.Is(results[1], raftstore.ErrStopped) {
		t.Errorf("when the store was closed: %v", results)
	}
}

// The last voter stays.
func TestLastVoterStays(t *testing.T) {
	t.Parallel()
	s, g, _, _ := single(t, memlog.New(nil), nil)
	defer s.Close(testContext(t))
	if _, err := g.WaitLeadership(testContext(t), func(l raftstore.Leadership) bool { return l.Ready }); err != nil {
		t.Fatal(err)
	}
	if err := g.Remove(testContext(t), 1); !errors.Is(err, raftstore.ErrNoMajority) {
		t.Errorf("removing the only voter: %v", err)
	}
	if _, err := s.CreateGroup(raftstore.GroupConfig{ID: 9, Join: true, Members: []raftstore.NodeID{1}, Machine: &chain{}}); err == nil {
		t.Error("a group was created by joining it with members")
	}
}
