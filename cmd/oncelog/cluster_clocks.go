package main

import (
	"slices"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/output"
	"github.com/oncelog/oncelog/internal/clock"
)

// judgeClocks finds nodes whose clocks are not what those of most nodes are. Each has
// compared its own with that of the coordinators' leader, which may be the one that is
// off, so the middle one of all counts.
func (v *clusterView) judgeClocks() {
	var all []time.Duration
	for i := range v.Nodes {
		if c := v.Nodes[i].status.GetClock(); c != nil {
			all = append(all, time.Duration(c.GetAheadUs())*time.Microsecond)
		}
	}
	if len(all) == 0 {
		return
	}
	slices.Sort(all)
	middle := all[len(all)/2]
	if other := all[(len(all)-1)/2]; other.Abs() < middle.Abs() {
		middle = other // of an even number the one that is nearer to the leader's
	}
	for i := range v.Nodes {
		n := &v.Nodes[i]
		c := n.status.GetClock()
		if c == nil {
			continue
		}
		o := clock.Offset{Against: "most", Ahead: time.Duration(c.GetAheadUs())*time.Microsecond - middle, Error: time.Duration(c.GetErrorUs()) * time.Microsecond}
		if o.Off() {
			v.problem("the clock of %s node %s is %s of those of most nodes: let NTP set it; until then timeouts of transactions and retention are off by as much "+
				"where that node leads", n.Role, n.name(), o)
		}
	}
}

// clockText is by how much the clock of a node is ahead of the leader's, in a table.
func clockText(n *nodeView) string {
	c := n.status.GetClock()
	if c == nil {
		return "?"
	}
	return signed(time.Duration(c.GetAheadUs()) * time.Microsecond)
}

// signed is a span that may be below 0.
func signed(d time.Duration) string {
	if d.Abs() < time.Millisecond {
		return "0"
	}
	if d < 0 {
		return "-" + output.Duration(-d)
	}
	return "+" + output.Duration(d)
}
