package catalog

import (
	"reflect"
	"slices"
	"testing"
)

func loads(c *Catalog) map[uint64]int {
	out := map[uint64]int{}
	for _, s := range c.Shards() {
		for _, n := range s.Replicas {
			out[n]++
		}
	}
	return out
}

// carryOut does what a leader does until nothing is left, and counts.
func carryOut(t *testing.T, c *Catalog, usable []uint64) (moves int) {
	t.Helper()
	for range 1000 {
		plan := c.Plan(usable)
		if len(plan) == 0 {
			return moves
		}
		for _, m := range plan {
			must(t, c, m)
		}
		for _, m := range plan {
			s, _ := c.Shard(m.Shard)
			must(t, c, ReportMembers{Shard: m.Shard, Index: s.MembersIndex + 1, Members: s.moved().Members()})
			moves++
		}
	}
	t.Fatal("it never ends")
	return 0
}

// Nodes that were added get their share, with as few moves as that takes.
func TestRebalance(t *testing.T) {
	t.Parallel()
	c := cluster(t, 3, Settings{ShardsPerNode: 8})
	must(t, c, CreateTopic{Name: "t", ReplicationFactor: 3})
	if plan := c.PlanRebalance([]uint64{1, 2, 3}); plan != nil {
		t.Errorf("even already: %+v", plan)
	}
	must(t, c, node(4))
	must(t, c, node(5)) // down
	up := []uint64{1, 2, 3, 4}
	if plan := c.Plan(up); plan != nil {
		t.Errorf("nobody asked for %+v", plan)
	}
	all := c.PlanRebalance(up)
	if len(all) != 18 { // 72 replicas, 18 each
		t.Errorf("%d moves", len(all))
	}
	if !reflect.DeepEqual(all, c.PlanRebalance(up)) {
		t.Error("another plan of the same state")
	}
	must(t, c, Rebalance{})
	if r := must(t, c, Rebalance{}); r.Changed {
		t.Error("asked for twice")
	}
	first := c.Plan(up)
	if len(first) != MaxMovesPerNode {
		t.Errorf("%d moves at once", len(first))
	}
	if n := carryOut(t, c, up); n != len(all) {
		t.Errorf("%d moves, %d were planned", n, len(all))
	}
	if got := loads(c); !reflect.DeepEqual(got, map[uint64]int{1: 18, 2: 18, 3: 18, 4: 18}) {
		t.Errorf("replicas by node %v", got)
	}
	since := c.Balancing()
	if r := must(t, c, EndRebalance{Since: since - 1}); r.Changed || since == 0 {
		t.Error("ended by a late word")
	}
	must(t, c, EndRebalance{Since: since})
	if c.Balancing() != 0 {
		t.Error("still under way")
	}
}

func TestPlanRespectsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	c := cluster(t, 3, Settings{ShardsPerNode: 2})
	must(t, c, CreateTopic{Name: "t", ReplicationFactor: 3})
	must(t, c, node(4))
	must(t, c, Rebalance{})
	up := []uint64{1, 2, 3, 4}
	plan := c.Plan(up)
	for _, m := range plan {
		must(t, c, m)
	}
	if len(plan) != 4 || c.Plan(up) != nil {
		t.Errorf("%+v, then %+v", plan, c.Plan(up))
	}
}

func TestPlanLeaders(t *testing.T) {
	t.Parallel()
	c := cluster(t, 3, Settings{ShardsPerNode: 2})
	must(t, c, CreateTopic{Name: "t", ReplicationFactor: 3})
	all := map[uint64]uint64{2: 1, 3: 1, 4: 1, 5: 1, 6: 2, 7: 1}
	up := []uint64{1, 2, 3}
	plan := c.PlanLeaders(all, up)
	want := []Handover{{2, 1, 3}, {3, 1, 2}, {4, 1, 3}}
	if !slices.Equal(plan, want) {
		t.Errorf("%+v, want %+v", plan, want)
	}
	for _, h := range plan {
		all[h.Shard] = h.To
	}
	if plan := c.PlanLeaders(all, up); plan != nil {
		t.Errorf("even already: %+v", plan)
	}
	if plan := c.PlanLeaders(map[uint64]uint64{2: 1, 3: 1, 4: 0}, []uint64{1}); plan != nil {
		t.Errorf("to nodes that are down: %+v", plan)
	}
	must(t, c, node(4))
	must(t, c, DrainNode{ID: 2})
	for _, h := range c.PlanLeaders(map[uint64]uint64{2: 1, 3: 1, 4: 1}, []uint64{1, 2, 3, 4}) {
		if h.To != 3 {
			t.Errorf("%+v", h)
		}
	}
}
