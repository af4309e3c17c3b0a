package group

func (m *Machine) deleteGroup(cmd DeleteGroup) Result {
	g := m.groups[cmd.Group]
	switch {
	case g == nil:
		return Result{Refusal: refuse(CodeUnknownGroup, cmd.Group)}
	case len(g.members) > 0:
		return Result{Refusal: Refusal{Code: CodeGroupNotEmpty, Group: cmd.Group, Have: uint64(len(g.members))}}
	}
	if r := m.CheckHeld(cmd.Group, nil); !r.OK() {
		return Result{Refusal: r}
	}
	m.remove(cmd.Group)
	return Result{Changed: true}
}

// deleteOffsets does not ask the catalogue: what it forgets need not exist.
func (m *Machine) deleteOffsets(cmd DeleteOffsets) Result {
	g := m.groups[cmd.Group]
	switch {
	case g == nil:
		return Result{Refusal: refuse(CodeUnknownGroup, cmd.Group)}
	case len(cmd.Partitions) > MaxPartitions:
		return Result{Refusal: limit(cmd.Group, len(cmd.Partitions), MaxPartitions)}
	}
	for _, p := range cmd.Partitions {
		if r := m.checkOwned(cmd.Group, p, cmd.Force); !r.OK() {
			return Result{Refusal: r}
		}
	}
	changed := false
	for _, p := range cmd.Partitions {
		changed = m.dropOffset(g, p) || changed
	}
	return Result{Changed: changed}
}

func (m *Machine) resetOffsets(cat Catalog, cmd ResetOffsets) Result {
	if r := m.checkReset(cat, cmd); !r.OK() {
		return Result{Refusal: r}
	}
	return Result{Changed: m.ApplyCommits(cmd.At, TxnRef{}, []Commit{{Group: cmd.Group, Entries: cmd.Entries}})}
}

func (m *Machine) checkReset(cat Catalog, cmd ResetOffsets) Refusal {
	if len(cmd.Entries) > MaxPartitions {
		return limit(cmd.Group, len(cmd.Entries), MaxPartitions)
	}
	c := Commit{Group: cmd.Group, Entries: cmd.Entries}
	if r := checkForm(cat, &c); !r.OK() {
		return r
	}
	if r := m.roomForGroup(cmd.Group, 1); !r.OK() {
		return r
	}
	if r := checkDuplicates([]Commit{c}); !r.OK() {
		return r
	}
	if len(cmd.Entries) > 0 && m.offsets >= MaxOffsets {
		return limit(cmd.Group, m.offsets+1, MaxOffsets)
	}
	for _, e := range cmd.Entries {
		if r := m.checkOwned(cmd.Group, e.Partition, cmd.Force); !r.OK() {
			return r
		}
	}
	return Refusal{}
}

// checkOwned refuses to move an offset under a member that reads there, and, whatever
// force there is, under a prepared transaction: that one has to be ended first.
func (m *Machine) checkOwned(id string, partition uint64, force bool) Refusal {
	if r := m.CheckHeld(id, []uint64{partition}); !r.OK() {
		return r
	}
	if owner, _, ok := m.Owner(id, partition); ok && !force {
		return Refusal{Code: CodePartitionOwned, Group: id, Partition: partition, Owner: owner}
	}
	return Refusal{}
}

func (m *Machine) removePartitions(cat Catalog, cmd RemovePartitions) Result {
	changed := false
	for _, id := range m.ids {
		g := m.groups[id]
		for _, p := range cmd.Partitions {
			changed = m.dropOffset(g, p) || changed
			changed = m.letGo(g, p) || changed
		}
		if !g.disown(cmd.Partitions) {
			continue
		}
		changed = true
		if g.subscribed() {
			g.rebalance(cat) // who has lost more than others gets of theirs
			m.rebalances++
		} else {
			g.generation++
		}
	}
	return Result{Changed: changed}
}
