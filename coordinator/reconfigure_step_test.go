package coordinator

import (
	"testing"

	"github.com/oncelog/oncelog/coordinator/membership"
	"github.com/oncelog/oncelog/raftstore"
)

// TestNextStep: what a leader does about every pair of what is wanted and what is.
func TestNextStep(t *testing.T) {
	t.Parallel()
	state := func(cmds ...membership.Command) *membership.Membership {
		m := membership.New()
		for _, cmd := range append([]membership.Command{membership.Found{Members: []membership.Member{{ID: 1}, {ID: 2}, {ID: 3}}}}, cmds...) {
			if res := m.Apply(cmd); res.Code != membership.CodeOK {
				t.Fatalf("%+v: %v", cmd, res.Code)
			}
		}
		return m
	}
	add := func(replaces uint64) membership.Command {
		return membership.Add{ID: 4, ClientAddress: "c", PeerAddress: "p", Replaces: replaces}
	}
	told := membership.Announce{ID: 4, Instance: "i", ClientAddress: "c", PeerAddress: "p", Joining: true}
	voters := func(ids ...raftstore.NodeID) (out []raftstore.Member) {
		for _, id := range ids {
			out = append(out, raftstore.Member{ID: id, Voter: true, Active: id != 1, Match: 100 + uint64(id)})
		}
		return out
	}
	learner := raftstore.Member{ID: 4, Active: true, Match: 100}
	behind := raftstore.Member{ID: 4, Active: true}
	for what, x := range map[string]struct {
		wanted *membership.Membership
		actual []raftstore.Member
		want   step
	}{
		"not founded":                  {membership.New(), voters(1, 2, 3), step{do: stepFound}},
		"all well":                     {state(), voters(1, 2, 3), step{}},
		"joint":                        {state(add(2), told), append(voters(1, 3, 4), raftstore.Member{ID: 2, Leaving: true}), step{do: stepWait}},
		"added":                        {state(add(0)), voters(1, 2, 3), step{do: stepWait}},
		"announced":                    {state(add(0), told), voters(1, 2, 3), step{do: stepLearn, node: 4}},
		"learner":                      {state(add(0), told), append(voters(1, 2, 3), behind), step{do: stepPromote, node: 4}},
		"votes":                        {state(add(0), told), voters(1, 2, 3, 4), step{do: stepSettle, node: 4}},
		"replaces":                     {state(add(2), told), append(voters(1, 2, 3), learner), step{do: stepPromote, node: 4, old: 2}},
		"replaced":                     {state(add(2), told), voters(1, 3, 4), step{do: stepSettle, node: 4}},
		"votes beside the replaced":    {state(add(2), told), voters(1, 2, 3, 4), step{do: stepExpel, node: 2}},
		"replaces the leader":          {state(add(1), told), append(voters(1, 2, 3), learner), step{do: stepHandOver, node: 3}},
		"will replace the leader":      {state(add(1), told), append(voters(1, 2, 3), behind), step{do: stepWait}},
		"replaces the only one":        {state(add(1), told), append(voters(1), learner), step{do: stepPromote, node: 4, old: 1}},
		"leaves":                       {state(membership.Remove{ID: 2}), voters(1, 2, 3), step{do: stepExpel, node: 2}},
		"has left":                     {state(membership.Remove{ID: 2}), voters(1, 3), step{do: stepForget, node: 2}},
		"the leader leaves":            {state(membership.Remove{ID: 1}), voters(1, 2, 3), step{do: stepHandOver, node: 3}},
		"the leader leaves, alone":     {state(membership.Remove{ID: 1}), voters(1), step{do: stepExpel, node: 1}},
		"called off":                   {state(add(2), told, membership.Remove{ID: 4}), append(voters(1, 2, 3), learner), step{do: stepExpel, node: 4}},
		"called off early":             {state(add(2), membership.Remove{ID: 4}), voters(1, 2, 3), step{do: stepForget, node: 4}},
		"called off after it replaced": {state(add(2), told, membership.Remove{ID: 4}), voters(1, 3, 4), step{do: stepSettle, node: 4}},
		"forgotten before it was added": {state(add(2), told, membership.Remove{ID: 4}, membership.Forget{ID: 4}), append(voters(1, 2, 3), learner),
			step{do: stepExpel, node: 4}},
	} {
		if got := nextStep(x.wanted, x.actual, 1, 300); got != x.want {
			t.Errorf("%s: %+v, want %+v", what, got, x.want)
		}
	}
}

func TestCheckMajority(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		voters, down int
		removed      uint64
		added        bool
		refused      bool
	}{
		{voters: 1, added: true},
		{voters: 1, added: true, removed: 1},
		{voters: 2, added: true},
		{voters: 2, added: true, down: 1, refused: true},
		{voters: 3, added: true},
		{voters: 3, added: true, down: 1, refused: true},
		{voters: 3, added: true, down: 1, removed: 3}, // 3 is the one that is down
		{voters: 3, added: true, down: 1, removed: 2, refused: true},
		{voters: 5, added: true, down: 1},
		{voters: 5, added: true, down: 2, refused: true},
		{voters: 3, removed: 2},
		{voters: 3, removed: 3, down: 1},
		{voters: 3, removed: 2, down: 1, refused: true},
		{voters: 2, removed: 2, down: 1},
		{voters: 5, removed: 2, down: 1},
		{voters: 5, removed: 2, down: 2, refused: true},
	} {
		actual := []raftstore.Member{{ID: 9, Active: true}} // a learner
		for id := 1; id <= x.voters; id++ {
			actual = append(actual, raftstore.Member{ID: raftstore.NodeID(id), Voter: true, Active: id > 1 && id <= x.voters-x.down})
		}
		if err := checkMajority(actual, 1, x.removed, x.added); (err != nil) != x.refused {
			t.Errorf("%+v: %v", x, err)
		}
	}
}
