package raftstore_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/oncelog/oncelog/raftstore"
)

// changeMembers has a node that may lead try a random change of a group.
func (s *sim) changeMembers(id, g int) {
	for n := 1; n <= s.size && s.rng.IntN(8) > 0; n++ { // mostly one that may do it
		if group := s.nodes[n].groups[g]; group != nil && group.Leadership().IsLeader {
			id = n
		}
	}
	other := func() raftstore.NodeID { return raftstore.NodeID(1 + s.rng.IntN(s.size)) }
	joiner := func() raftstore.NodeID { // never the same twice
		for n := 4; n <= s.size; n++ {
			if !s.added[g][n] && s.nodes[n].groups[g] != nil {
				return raftstore.NodeID(n)
			}
		}
		return 0
	}
	c := raftstore.MemberChange{}
	switch s.rng.IntN(6) {
	case 0, 1:
		c.AddLearner = joiner()
	case 2, 3:
		c.Promote = other()
	case 4:
		c.Remove = other()
	default:
		c.Promote, c.Remove = other(), other()
	}
	if c == (raftstore.MemberChange{}) {
		return
	}
	if c.Remove != 0 && s.voters(g) <= 2 && c.Promote == 0 {
		return // small groups make for dull worlds
	}
	group := s.nodes[id].groups[g]
	if c.AddLearner > 0 && group.Leadership().IsLeader {
		s.added[g][c.AddLearner] = true // perhaps: so that nobody tries again
	}
	s.changesAsked++
	answered := false
	group.ChangeMembersAsync(c, func(err error) {
		if answered {
			s.t.Errorf("change %+v was answered twice", c)
		}
		answered = true
		s.changesAnswered++
		var notLeader *raftstore.NotLeaderError
		switch {
		case err == nil:
			s.changesMade++
		case errors.As(err, &notLeader), errors.Is(err, raftstore.ErrMembershipBusy), errors.Is(err, raftstore.ErrAlreadyMember),
			errors.Is(err, raftstore.ErrNotMember), errors.Is(err, raftstore.ErrNotCaughtUp), errors.Is(err, raftstore.ErrNoMajority),
			errors.Is(err, raftstore.ErrUnknownResult), errors.Is(err, raftstore.ErrOverloaded):
		default:
			s.t.Errorf("change %+v: %v", c, err)
		}
	})
}

// voters is how many voters the best informed node of a group knows.
func (s *sim) voters(g int) int {
	var best raftstore.Status
	for id := 1; id <= s.size; id++ {
		if group := s.nodes[id].groups[g]; group != nil {
			if st := group.Status(); st.Applied >= best.Applied {
				best = st
			}
		}
	}
	return len(best.Members)
}

// members is what the leader of a group says; nil: there is none.
func (s *sim) members(g int) (found []raftstore.Member) {
	term := uint64(0)
	for id := 1; id <= s.size; id++ {
		group := s.nodes[id].groups[g]
		if group == nil {
			continue
		}
		if l := group.Leadership(); l.IsLeader && l.Ready && l.Term > term {
			members, err := group.Members(s.t.Context())
			if err != nil {
				s.t.Fatal(err)
			}
			found, term = members, l.Term
		}
	}
	return found
}

// dropRemoved deletes the groups that nodes were removed from, as their owner does.
func (s *sim) dropRemoved(id int) {
	n := s.nodes[id]
	for _, g := range n.removed {
		if n.groups[g] == nil {
			continue
		}
		n.groups[g] = nil
		s.breakWrite[id] = false
		if err := n.store.RemoveGroup(raftstore.GroupID(g + 1)); err != nil {
			s.t.Fatalf("node %d removes group %d: %v", id, g, err)
		}
		s.departures++
	}
	n.removed = nil
}

// unaware says whether a node that was a member of a group, and is none any more,
// does not know that: it must learn of it, unless nobody is left whom it knows.
func (s *sim) unaware(g int, members []raftstore.Member) bool {
	in := map[raftstore.NodeID]bool{}
	for _, m := range members {
		in[m.ID] = true
	}
	for id := 1; id <= s.size; id++ {
		group := s.nodes[id].groups[g]
		if group == nil || in[raftstore.NodeID(id)] {
			continue
		}
		if slices.ContainsFunc(group.Status().Members, func(known raftstore.NodeID) bool { return in[known] }) {
			return true
		}
	}
	return false
}

// checkMembers looks at who takes part in the end.
func (s *sim) checkMembers() {
	if s.changesAsked-s.changesAnswered > s.changesLost {
		s.t.Errorf("%d changes asked, %d answered, %d lost with their nodes", s.changesAsked, s.changesAnswered, s.changesLost)
	}
	for g := range s.groups {
		in := map[raftstore.NodeID]bool{}
		for _, m := range s.members(g) {
			in[m.ID] = true
			if m.Leaving {
				s.t.Errorf("group %d is still in a joint configuration: %+v", g, s.members(g))
			}
			if s.nodes[m.ID].groups[g] == nil {
				s.t.Errorf("node %d left group %d, whose member it is", m.ID, g)
			}
		}
		for id := 1; id <= s.size; id++ {
			group := s.nodes[id].groups[g]
			if group == nil || in[raftstore.NodeID(id)] {
				continue
			}
			if l := group.Leadership(); l.IsLeader {
				s.t.Errorf("node %d leads group %d, of which it is no member", id, g)
			}
		}
	}
}

func TestMembershipSimulation(t *testing.T) {
	rounds, steps := 20, 25_000
	if testing.Short() {
		rounds = 2
	}
	var made, departures, snapshots int
	start := rand.Uint64()
	for i := range uint64(rounds) {
		t.Run(fmt.Sprintf("seed=%d", start+i), func(t *testing.T) {
			s := newSim(t, start+i, 4, 8)
			s.run(steps)
			s.checkMembers()
			made += s.changesMade
			departures += s.departures
			snapshots += int(s.snapshots())
			t.Logf("%d acknowledged, %d of %d changes made, %d departures, %d snapshots", len(s.acked), s.changesMade, s.changesAsked, s.departures, s.snapshots())
		})
	}
	if made == 0 || departures == 0 || snapshots == 0 {
		t.Errorf("%d changes made, %d departures, %d snapshots", made, departures, snapshots)
	}
}
