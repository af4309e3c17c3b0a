package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// clocked is a cluster whose nodes have told these offsets to the leader's clock.
func clocked(errors time.Duration, ahead ...time.Duration) *clusterView {
	v := &clusterView{}
	for i, d := range ahead {
		id := uint64(i + 1)
		v.Nodes = append(v.Nodes, nodeView{Role: rolePartition, NodeID: id, Address: "a:1", status: &oncelogv1.GetStatusResponse{
			NodeId: id, Clock: &oncelogv1.ClockOffset{AheadUs: d.Microseconds(), ErrorUs: errors.Microseconds()},
		}})
	}
	return v
}

// TestClocksAreJudged: those of most nodes count, also where the leader's is the one that
// is off.
func TestClocksAreJudged(t *testing.T) {
	t.Parallel()
	const hour = time.Hour
	for name, c := range map[string]struct {
		view *clusterView
		off  []string
	}{
		"nobody has told":          {&clusterView{Nodes: []nodeView{{status: &oncelogv1.GetStatusResponse{}}, {}}}, nil},
		"all agree":                {clocked(0, 0, 900*time.Millisecond, -900*time.Millisecond), nil},
		"one is ahead":             {clocked(0, 0, 0, 2*hour), []string{"node 3 at a:1 is 2h0m0s ahead of"}},
		"one is behind":            {clocked(0, 0, 0, 0, -hour), []string{"node 4 at a:1 is 1h0m0s behind"}},
		"the leader is behind":     {clocked(0, 0, hour, hour), []string{"node 1 at a:1 is 1h0m0s behind"}},
		"of two the leader counts": {clocked(0, 0, hour), []string{"node 2 at a:1 is 1h0m0s ahead"}},
		"nobody can be sure":       {clocked(hour, 0, 0, hour), nil},
	} {
		c.view.judgeClocks()
		if len(c.view.Problems) != len(c.off) {
			t.Errorf("%s: %q", name, c.view.Problems)
			continue
		}
		for i, p := range c.view.Problems {
			if !strings.Contains(p, c.off[i]) || !strings.Contains(p, "let NTP set it") {
				t.Errorf("%s: %q", name, p)
			}
		}
	}
	for d, want := range map[time.Duration]string{0: "0", 300 * time.Microsecond: "0", hour: "+1h00m", -2 * time.Second: "-2s"} {
		if got := signed(d); got != want {
			t.Errorf("%v: %s", d, got)
		}
	}
}

// TestHealthWithoutPartitionNodes: a cluster that has none is not healthy, and it is said
// what to do.
func TestHealthWithoutPartitionNodes(t *testing.T) {
	t.Parallel()
	v := &clusterView{cluster: &oncelogv1.DescribeClusterResponse{CoordinatorLeader: 1}}
	v.judge()
	if len(v.Problems) != 1 || !strings.Contains(v.Problems[0], "no partition node has registered: start one with `oncelog partition") {
		t.Errorf("%q", v.Problems)
	}
	v = &clusterView{cluster: &oncelogv1.DescribeClusterResponse{CoordinatorLeader: 1, Nodes: []*oncelogv1.Node{{NodeId: 1}}}}
	v.judge()
	if slices.ContainsFunc(v.Problems, func(p string) bool { return strings.Contains(p, "registered") }) {
		t.Errorf("%q", v.Problems)
	}
}
