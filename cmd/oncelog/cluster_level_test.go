package main

import (
	"testing"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

func TestFormatLevelSaysWhoHoldsIt(t *testing.T) {
	t.Parallel()
	node := func(role string, id uint64, reads uint32) nodeView {
		return nodeView{Role: role, NodeID: id, status: &oncelogv1.GetStatusResponse{MaxFormatLevel: reads}}
	}
	silent := nodeView{Role: rolePartition, NodeID: 3}
	for _, c := range []struct {
		now   uint32
		nodes []nodeView
		want  string
	}{
		{0, nil, "1"}, // a cluster that knows of no levels
		{0, []nodeView{node(roleCoordinator, 1, 0)}, "1"},
		{2, []nodeView{node(roleCoordinator, 1, 2), node(rolePartition, 1, 2)}, "2"},
		{1, []nodeView{node(roleCoordinator, 1, 2), node(rolePartition, 1, 2)}, "1 (about to rise)"},
		{1, []nodeView{node(roleCoordinator, 1, 2), node(rolePartition, 1, 0), silent}, "1 (2 when it is read by partition 1, partition 3)"},
	} {
		v := &clusterView{cluster: &oncelogv1.DescribeClusterResponse{FormatLevel: c.now}, Nodes: c.nodes}
		if got := v.formatLevel(); got != c.want {
			t.Errorf("level %d: %q, want %q", c.now, got, c.want)
		}
	}
}
