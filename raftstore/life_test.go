package raftstore_test

import (
	"errors"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
)

func joinAs(self raftstore.NodeID) func(*raftstore.Config, *raftstore.GroupConfig) {
	return func(_ *raftstore.Config, g *raftstore.GroupConfig) { g.Members, g.Join, g.Self = nil, true, self }
}

func (h *hands) settled(id raftstore.NodeID) raftstore.Membership {
	h.t.Helper()
	for range 20 {
		m, err := h.groups[id].Membership(h.t.Context())
		if err != nil {
			h.t.Fatal(err)
		}
		if m.Settled {
			return m
		}
		h.tick(1)
	}
	h.t.Fatalf("the members that node %d leads do not settle", id)
	return raftstore.Membership{}
}

// A node that lost its disk comes back under its id in the next life: nothing that
// is meant for the life before reaches it, it gets everything, and takes the place
// of what it was.
func TestNextLife(t *testing.T) {
	t.Parallel()
	h := leaderOfTwo(t, memlog.New(nil)) // node 3 founded the group and is gone
	next := raftstore.NodeID(3).WithLife(1)
	log := memlog.New(nil)
	h.start(3, log, joinAs(next))
	h.stores[3].Deliver(3, &raftpb.Message{
		Type: raftpb.MsgVote.Enum(), From: proto.Uint64(2), To: proto.Uint64(3), Term: proto.Uint64(50), LogTerm: proto.Uint64(49), Index: proto.Uint64(1),
	})
	h.tick(100)
	if st := h.groups[3].Status(); st.Term != 0 || st.Applied != 0 {
		t.Fatalf("what was for the life before reached this one: %+v", st)
	}
	h.mustChange(1, raftstore.MemberChange{AddLearner: next})
	h.passAll()
	h.mustChange(1, raftstore.MemberChange{Promote: next, Remove: 3})
	want := []raftstore.NodeID{1, 2, next}
	m := h.settled(1)
	if !slices.Equal(h.voters(1), want) || len(m.Members) != 3 || m.Members[2].ID != next || m.Index < 70 {
		t.Fatalf("voters %v, %+v", h.voters(1), m)
	}
	// It votes now, and leads as node 3.
	h.stores[1] = nil
	lead := h.leader()
	h.propose(lead, 5)
	h.tick(2)
	if l := h.groups[2].Leadership().Leader; l != lead || l.Life() != 0 {
		t.Errorf("node 2 is led by %d, the leader is %d", l, lead)
	}
	if got := h.groups[3].Applied(); got <= m.Index {
		t.Errorf("node 3 has applied %d", got)
	}

	// A restart needs the same life; an earlier one is refused, a later one has
	// nothing of this.
	h.start(3, log, joinAs(next))
	if h.groups[3].Applied() == 0 || !slices.Equal(h.voters(3), want) {
		t.Errorf("after a restart: applied %d, voters %v", h.groups[3].Applied(), h.voters(3))
	}
	s, err := raftstore.Open(raftstore.Config{NodeID: 3, Log: log, Manual: true})
	if err != nil {
		t.Fatal(err)
	}
	group := raftstore.GroupConfig{ID: 3, Members: []raftstore.NodeID{1, 2, 3}, Machine: &chain{}}
	if _, err := s.CreateGroup(group); !errors.Is(err, raftstore.ErrOtherLife) {
		t.Errorf("opened in an earlier life: %v", err)
	}
	group.Members, group.Join, group.Self = nil, true, next.Process().WithLife(2)
	g, err := s.CreateGroup(group)
	if err != nil {
		t.Fatal(err)
	}
	if st := g.Status(); st.Applied != 0 || st.Term != 0 || len(st.Members) != 0 {
		t.Errorf("the third life remembers %+v", st)
	}
}

// A decision that was made in another term is not carried out.
func TestChangeOfAnotherTerm(t *testing.T) {
	t.Parallel()
	h := leaderOfTwo(t, memlog.New(nil))
	term := h.groups[1].Leadership().Term
	var other *raftstore.NotLeaderError
	if err := h.change(1, raftstore.MemberChange{AddLearner: 4, Term: term + 1}); !errors.As(err, &other) {
		t.Errorf("in term %d: %v", term, err)
	}
	h.mustChange(1, raftstore.MemberChange{AddLearner: 4, Term: term})
}

func TestMembersOfGroupsHaveTheirProcess(t *testing.T) {
	t.Parallel()
	m := raftstore.NodeID(7).WithLife(3)
	if m.Process() != 7 || m.Life() != 3 || m.WithLife(0) != 7 || raftstore.MaxNodeID.Life() != 0 {
		t.Errorf("member %d is node %d in life %d", m, m.Process(), m.Life())
	}
	if _, err := raftstore.Open(raftstore.Config{NodeID: m, Log: memlog.New(nil), Manual: true}); err == nil {
		t.Error("a process has a life")
	}
}
