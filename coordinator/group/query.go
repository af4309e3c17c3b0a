package group

import (
	"maps"
	"slices"
)

// Summary is one line of a list of groups.
type Summary struct {
	ID         string
	Generation uint64
	Members    int
	Owned      int // partitions that a member owns
	Offsets    int // partitions with a committed offset
}

// Member is one member of a group.
type Member struct {
	ID         string
	ClientID   string
	Host       string
	JoinedAt   int64    // ms since the Unix epoch
	Partitions []uint64 // ascending; must not be modified

	// Of members that subscribe:
	Subscribed       bool
	Instance         string   // of a static member
	Topics           []string // ascending; must not be modified
	Assignor         Assignor // that it asks for
	SessionTimeout   int64    // ms
	RebalanceTimeout int64    // ms
	Joined           uint64   // generation in which it joined
	Revoking         []uint64 // of Partitions, those that it has to let go; ascending
	// Asked is the generation since which it has had partitions to let go, or since
	// which it last let some go; 0: it has none.
	Asked uint64
}

// Partition is the standing of a group in one partition.
type Partition struct {
	PartitionOffset
	Member string // who owns it; empty: nobody
	Since  uint64 // generation since which it owns it
	Target string // who is to own it, in a group that subscribes; empty: nobody
	Held   TxnRef // the prepared transaction that is to move the offset; zero: none
}

// Description is everything that is kept about a group.
type Description struct {
	ID         string
	Generation uint64
	Members    []Member    // ascending by id
	Partitions []Partition // owned, or with an offset that is committed or held, ascending by id
}

// Count returns the number of groups.
func (m *Machine) Count() int { return len(m.groups) }

// MemberCount returns the number of members of all groups. It looks at every group.
func (m *Machine) MemberCount() (n int) {
	for _, g := range m.groups { // a sum: the order does not matter
		n += len(g.members)
	}
	return n
}

// OffsetCount returns the number of committed offsets of all groups.
func (m *Machine) OffsetCount() int { return m.offsets }

// Has reports whether the group exists.
func (m *Machine) Has(id string) bool { return m.groups[id] != nil }

// Generation returns the group's generation, 0 if it does not exist.
func (m *Machine) Generation(id string) uint64 {
	if g := m.groups[id]; g != nil {
		return g.generation
	}
	return 0
}

// Owner returns the member that owns a partition of the group, and since which
// generation.
func (m *Machine) Owner(id string, partition uint64) (owner string, since uint64, ok bool) {
	if g := m.groups[id]; g != nil {
		o, ok := g.owners[partition]
		return o.member, o.since, ok
	}
	return "", 0, false
}

// Member returns one member of the group.
func (m *Machine) Member(id, memberID string) (Member, bool) {
	g := m.groups[id]
	if g == nil {
		return Member{}, false
	}
	mm, ok := g.members[memberID]
	if !ok {
		return Member{}, false
	}
	return g.describe(memberID, mm), true
}

// Members returns the members of the group, ascending by id.
func (m *Machine) Members(id string) []Member {
	g := m.groups[id]
	if g == nil {
		return nil
	}
	out := make([]Member, 0, len(g.members))
	for _, mid := range slices.Sorted(maps.Keys(g.members)) {
		out = append(out, g.describe(mid, g.members[mid]))
	}
	return out
}

func (g *group) describe(id string, m member) Member {
	d := Member{ID: id, ClientID: m.clientID, Host: m.host, JoinedAt: m.joinedAt, Partitions: m.partitions}
	if m.sub != nil {
		d.Subscribed, d.Instance, d.Topics, d.Assignor = true, m.sub.instance, m.sub.topics, m.sub.assignor
		d.SessionTimeout, d.RebalanceTimeout = m.sub.session, m.sub.rebalance
		d.Joined, d.Asked, d.Revoking = m.joined, m.asked, g.revoking(id)
	}
	return d
}

// Rebalances changes whenever something has changed that a member of a group
// which subscribes has to know. It is not replicated.
func (m *Machine) Rebalances() uint64 { return m.rebalances }

// Holder returns the member of the group that has the instance id, and the one
// that had it before.
func (m *Machine) Holder(id, instance string) (holder, before string) {
	if g := m.groups[id]; g != nil {
		if holder = g.holder(instance); holder != "" {
			before = g.members[holder].sub.replaced
		}
	}
	return holder, before
}

// Session is what a leader has to watch about a member that subscribes.
type Session struct {
	LostMember
	SessionTimeout   int64  // ms
	RebalanceTimeout int64  // ms
	Asked            uint64 // see [Member]
}

// Sessions calls fn for every member that subscribes, in no particular order.
func (m *Machine) Sessions(fn func(Session)) {
	// the caller sorts: the order does not matter
	for id, g := range m.groups {
		if !g.subscribed() {
			continue
		}
		// the caller sorts: the order does not matter
		for name, mm := range g.members {
			fn(Session{
				LostMember:     LostMember{Group: id, Member: name, Joined: mm.joined},
				SessionTimeout: mm.sub.session, RebalanceTimeout: mm.sub.rebalance, Asked: mm.asked,
			})
		}
	}
}

// Offsets returns the committed offsets of the partitions, in the order given,
// or, when none are given, all there are, ascending by partition id. A group
// that does not exist has none.
func (m *Machine) Offsets(id string, partitions []uint64) []PartitionOffset {
	g := m.groups[id]
	if g == nil {
		g = &group{}
	}
	if len(partitions) == 0 {
		partitions = slices.Sorted(maps.Keys(g.offsets))
	}
	out := make([]PartitionOffset, 0, len(partitions))
	for _, p := range partitions {
		o, ok := g.offsets[p]
		out = append(out, PartitionOffset{Partition: p, Committed: ok, Offset: o})
	}
	return out
}

// List returns up to limit groups whose ids come after the given one,
// ascending, and whether there are more. Start with "".
func (m *Machine) List(after string, limit int) (page []Summary, more bool) {
	i, found := slices.BinarySearch(m.ids, after)
	if found {
		i++
	}
	end := min(len(m.ids), i+max(limit, 0))
	for _, id := range m.ids[i:end] {
		g := m.groups[id]
		page = append(page, Summary{
			ID: id, Generation: g.generation,
			Members: len(g.members), Owned: len(g.owners), Offsets: len(g.offsets),
		})
	}
	return page, end < len(m.ids)
}

// Describe returns everything about a group.
func (m *Machine) Describe(id string) (Description, bool) {
	g := m.groups[id]
	if g == nil {
		return Description{}, false
	}
	d := Description{ID: id, Generation: g.generation, Members: m.Members(id)}
	ids := slices.Concat(slices.Sorted(maps.Keys(g.owners)), slices.Sorted(maps.Keys(g.offsets)), slices.Sorted(maps.Keys(g.held)))
	slices.Sort(ids)
	for _, p := range slices.Compact(ids) {
		o, ok := g.offsets[p]
		owner := g.owners[p]
		d.Partitions = append(d.Partitions, Partition{
			PartitionOffset: PartitionOffset{Partition: p, Committed: ok, Offset: o},
			Member:          owner.member, Since: owner.since, Target: g.target[p], Held: g.held[p].txn,
		})
	}
	return d, true
}
