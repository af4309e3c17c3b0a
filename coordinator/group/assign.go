package group

import "slices"

// assignPartitions: the older holder of a partition becomes a zombie for it at
// once. Nothing asks it: its next commit there is refused.
func (m *Machine) assignPartitions(cat Catalog, cmd AssignPartitions) Result {
	if r := m.checkAssign(cat, cmd); !r.OK() {
		return Result{Refusal: r}
	}
	_, existed := m.groups[cmd.Group]
	g := m.ensure(cmd.Group)
	me, known := g.members[cmd.Member]
	before := me.partitions
	changed := !existed || !known || me.clientID != cmd.ClientID || me.host != cmd.Host
	me.clientID, me.host = cmd.ClientID, cmd.Host
	if !known {
		me.joinedAt = m.now
	}
	g.members[cmd.Member] = me

	want := slices.Clone(cmd.Partitions)
	slices.Sort(want)
	want = slices.Compact(want)
	if !slices.Equal(want, before) {
		changed = true
		g.generation++
		g.own(cmd.Member, want)
	}
	return Result{
		Changed:    changed,
		Generation: g.generation,
		Offsets:    m.Offsets(cmd.Group, cmd.Partitions),
	}
}

func (m *Machine) checkAssign(cat Catalog, cmd AssignPartitions) Refusal {
	switch {
	case !validGroup(cmd.Group):
		return refuse(CodeInvalidGroup, cmd.Group)
	case cmd.Member == "", len(cmd.Member) > MaxMemberIDBytes,
		len(cmd.ClientID) > MaxClientIDBytes, len(cmd.Host) > MaxHostBytes:
		return refuse(CodeInvalidMember, cmd.Group)
	case len(cmd.Partitions) > MaxPartitions:
		return limit(cmd.Group, len(cmd.Partitions), MaxPartitions)
	}
	if p, ok := missing(cat, cmd.Partitions); ok {
		return Refusal{Code: CodeUnknownPartition, Group: cmd.Group, Partition: p}
	}
	g := m.groups[cmd.Group]
	if g == nil {
		return m.roomForGroup(cmd.Group, 1)
	}
	if g.subscribed() {
		return refuse(CodeMixedMembers, cmd.Group)
	}
	if len(cmd.Partitions) > 0 { // it is to be told where to read from
		if r := m.CheckHeld(cmd.Group, cmd.Partitions); !r.OK() {
			return r
		}
	}
	if _, known := g.members[cmd.Member]; !known && len(g.members) >= MaxMembers {
		return limit(cmd.Group, len(g.members)+1, MaxMembers)
	}
	return Refusal{}
}

// own makes a member own exactly the wanted partitions, ascending, in the
// present generation. What it keeps, it keeps since when it had it.
func (g *group) own(id string, want []uint64) {
	kept := map[uint64]ownership{}
	for _, p := range want {
		if o := g.owners[p]; o.member == id {
			kept[p] = o
		}
	}
	g.disown(g.members[id].partitions)
	g.disown(want)
	for _, p := range want {
		o, ok := kept[p]
		if !ok {
			o = ownership{member: id, since: g.generation}
		}
		g.owners[p] = o
	}
	me := g.members[id]
	me.partitions = want
	g.members[id] = me
}

func (m *Machine) leaveGroup(cat Catalog, cmd LeaveGroup) Result {
	g := m.groups[cmd.Group]
	if g == nil {
		return Result{Refusal: refuse(CodeUnknownGroup, cmd.Group)}
	}
	me, ok := g.members[cmd.Member]
	if !ok {
		return Result{Refusal: refuse(CodeUnknownMember, cmd.Group)}
	}
	owned := g.disown(me.partitions)
	delete(g.members, cmd.Member)
	switch {
	case me.sub != nil:
		g.rebalance(cat)
		m.rebalances++
	case owned:
		g.generation++
	}
	return Result{Changed: true, Generation: g.generation}
}
