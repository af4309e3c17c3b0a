package group

import (
	"maps"
	"slices"
)

// A group's target says who is to own which partition. Ownership follows it in
// two steps: a partition that another member owns is first asked back, and given
// on when that member has let go, has left, or was lost. So between the target
// and ownership the state says everything that is still to be done.

// rebalance computes the target anew and gives away what nobody owns. Members,
// subscriptions or topics have changed.
func (g *group) rebalance(cat Catalog) {
	g.target = g.assign(cat)
	g.generation++
	g.settle()
}

// settle gives each partition that nobody owns to the member that it is meant
// for, in the present generation, and notes who has partitions to let go.
func (g *group) settle() {
	given := map[string][]uint64{}
	// what is given is sorted below: the order does not matter
	for p, id := range g.target {
		if _, owned := g.owners[p]; !owned {
			g.owners[p] = ownership{member: id, since: g.generation}
			given[id] = append(given[id], p)
		}
	}
	// every member gets its own: the order does not matter
	for id, partitions := range given {
		mm := g.members[id]
		mm.partitions = append(slices.Clone(mm.partitions), partitions...)
		slices.Sort(mm.partitions)
		g.members[id] = mm
	}
	// every member is looked at by itself: the order does not matter
	for id, mm := range g.members {
		switch pending := len(g.revoking(id)) > 0; {
		case !pending:
			mm.asked = 0
		case mm.asked == 0:
			mm.asked = g.generation
		}
		g.members[id] = mm
	}
}

// revoking returns the partitions that a member owns and is to let go, ascending.
func (g *group) revoking(id string) []uint64 {
	mm := g.members[id]
	if mm.sub == nil {
		return nil
	}
	var out []uint64
	for _, p := range mm.partitions {
		if g.target[p] != id {
			out = append(out, p)
		}
	}
	return out
}

// subscribed reports whether the group's members subscribe, rather than name
// their partitions. They all do, or none does.
func (g *group) subscribed() bool {
	// the members are all of one kind: the order does not matter
	for _, mm := range g.members {
		return mm.sub != nil
	}
	return false
}

// releasePartitions lets go of what the member has owned since a generation that
// it knew of. A late copy of the command finds that it owns nothing, or only since
// a later generation.
func (m *Machine) releasePartitions(cmd ReleasePartitions) Result {
	g := m.groups[cmd.Group]
	if g == nil || g.members[cmd.Member].sub == nil {
		return Result{Refusal: refuse(CodeUnknownMember, cmd.Group)}
	}
	if len(cmd.Partitions) > MaxOwned {
		return Result{Refusal: limit(cmd.Group, len(cmd.Partitions), MaxOwned)}
	}
	var gone []uint64
	for _, p := range cmd.Partitions {
		if o := g.owners[p]; o.member == cmd.Member && o.since <= cmd.Generation && cmd.Generation <= g.generation {
			gone = append(gone, p)
		}
	}
	if !g.disown(gone) {
		return Result{Generation: g.generation}
	}
	g.generation++
	mm := g.members[cmd.Member]
	mm.asked = 0 // what is left to let go has its time from now
	g.members[cmd.Member] = mm
	g.settle()
	m.rebalances++
	return Result{Changed: true, Generation: g.generation}
}

// expireMembers removes members that were lost, unless they have joined again
// since.
func (m *Machine) expireMembers(cat Catalog, cmd ExpireMembers) Result {
	if len(cmd.Members) > MaxExpired {
		return Result{Refusal: limit("", len(cmd.Members), MaxExpired)}
	}
	shrunk := map[string]bool{}
	for _, lost := range cmd.Members {
		g := m.groups[lost.Group]
		if g == nil {
			continue
		}
		mm, ok := g.members[lost.Member]
		if !ok || mm.sub == nil || mm.joined != lost.Joined {
			continue
		}
		g.disown(mm.partitions)
		delete(g.members, lost.Member)
		shrunk[lost.Group] = true
	}
	for _, id := range sortedKeys(shrunk) {
		m.groups[id].rebalance(cat)
		m.rebalances++
	}
	return Result{Changed: len(shrunk) > 0}
}

// topicsChanged looks whether topics that somebody subscribes to have other
// partitions than before.
func (m *Machine) topicsChanged(cat Catalog, cmd TopicsChanged) Result {
	changed := false
	for _, id := range m.ids {
		g := m.groups[id]
		if !g.subscribed() || !g.reads(cmd.Topics) {
			continue
		}
		if !maps.Equal(g.assign(cat), g.target) {
			g.rebalance(cat)
			m.rebalances++
			changed = true
		}
	}
	return Result{Changed: changed}
}

// reads reports whether a member subscribes to one of the topics.
func (g *group) reads(topics []string) bool {
	// one that reads is enough: the order does not matter
	for _, mm := range g.members {
		if mm.sub == nil {
			continue
		}
		for _, t := range topics {
			if _, found := slices.BinarySearch(mm.sub.topics, t); found {
				return true
			}
		}
	}
	return false
}
