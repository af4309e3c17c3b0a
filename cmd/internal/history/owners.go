package history

import (
	"fmt"
	"slices"
)

// joined is how a process took over a partition of a group: the events of the
// call that read where to begin, and of its answer.
type joined struct {
	by        Process
	at, until int
}

// checkOwners checks that no position moves by a commit that was first asked for
// when another process had taken the partition over (I7). The way of the position
// does not tell: who lost the partition may still know where it is. Calls that
// overlap are left alone.
func (c *checker) checkOwners(all map[groupPart][]*moved) {
	joins := c.joins(all)
	for _, at := range positions(c, all) {
		for _, m := range all[at] {
			if m.state != Committed || m.asked < 0 {
				continue
			}
			mine := -1 // answer of the last time that the process took the partition
			for _, j := range joins[at] {
				if j.by == m.process(c) && j.at < m.asked {
					mine = j.until
				}
			}
			other := slices.IndexFunc(joins[at], func(j joined) bool {
				return j.by != m.process(c) && mine < j.at && j.until < m.asked
			})
			if mine >= 0 && other >= 0 {
				m.violation(c, at, m.From, "", fmt.Sprintf("%s moved it, and another member had taken the partition at event %d",
					m.who(), joins[at][other].until))
			}
		}
	}
}

// joins collects the calls that took partitions over, in their order: those of
// processes that also commit there. Others just look at positions.
func (c *checker) joins(all map[groupPart][]*moved) map[groupPart][]joined {
	out := make(map[groupPart][]joined)
	for i := range c.calls {
		k := &c.calls[i]
		if k.kind != KindFetchOffsets || k.outcome != Committed {
			continue
		}
		for _, p := range k.group.Positions {
			at := groupPart{k.group.Name, c.partitions[p.Partition]}
			if slices.ContainsFunc(all[at], func(m *moved) bool { return m.process(c) == k.process }) {
				out[at] = append(out[at], joined{k.process, k.at, k.answer})
			}
		}
	}
	return out
}

// process returns who asked for the move.
func (m *moved) process(c *checker) Process {
	if m.txn != nil {
		return m.txn.process
	}
	return c.calls[m.call-1].process
}
