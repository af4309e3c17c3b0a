package group

import (
	"maps"
	"slices"
)

// Offset is a committed offset and where it came from.
type Offset struct {
	Next        uint64 // the next offset to read
	Metadata    string
	CommittedAt int64  // ms since the Unix epoch
	Member      string // who committed it; empty: no member, or an administrator
	Txn         TxnRef // the transaction it was committed in; zero: none
}

// member is one consumer. Its partitions are ascending and replaced, never
// changed in place.
type member struct {
	clientID   string
	host       string
	joinedAt   int64
	partitions []uint64
	// Of members that subscribe:
	sub    *subscription
	joined uint64 // generation in which it joined
	// asked is the generation since which it has partitions to let go; 0: none.
	asked uint64
}

// ownership tells who owns a partition, and since which generation.
type ownership struct {
	member string
	since  uint64
}

// group is one consumer group.
type group struct {
	generation uint64
	members    map[string]member
	owners     map[uint64]ownership // of the partitions of all members
	offsets    map[uint64]Offset
	held       map[uint64]heldOffset // nil as long as there was none
	// target says who is to own which partition of the subscribed topics; see
	// rebalance.go.
	target map[uint64]string
}

// Machine is the state of all consumer groups. It is not safe for concurrent
// use.
type Machine struct {
	now int64
	// floor is the highest generation of any group that was deleted; new
	// groups go on from there.
	floor  uint64
	groups map[string]*group

	// Derived from groups; not in snapshots.
	ids     []string // ascending
	offsets int      // committed, of all groups
	held    int      // of all groups; see held.go
	// heldBy lists the groups of which a transaction holds offsets.
	heldBy map[TxnRef][]string

	// rebalances counts changes of members and ownership of groups that
	// subscribe, since the machine was made or restored. Not replicated.
	rebalances uint64
}

// New returns a machine without groups.
func New() *Machine { return &Machine{groups: map[string]*group{}, heldBy: map[TxnRef][]string{}} }

// Now returns the machine's time, ms since the Unix epoch: the highest that a
// command brought.
func (m *Machine) Now() int64 { return m.now }

// Apply executes one command. It is total: whatever the command, the answer is
// a Result, and a refused command changes nothing but the machine's time.
// Without a catalogue no partition exists.
func (m *Machine) Apply(cat Catalog, cmd Command) Result {
	if cmd == nil {
		return Result{Refusal: Refusal{Code: CodeInvalidCommand}}
	}
	m.advance(cmd.time())
	switch cmd := cmd.(type) {
	case AssignPartitions:
		return m.assignPartitions(cat, cmd)
	case Subscribe:
		return m.subscribe(cat, cmd)
	case ReleasePartitions:
		return m.releasePartitions(cmd)
	case ExpireMembers:
		return m.expireMembers(cat, cmd)
	case TopicsChanged:
		return m.topicsChanged(cat, cmd)
	case LeaveGroup:
		return m.leaveGroup(cat, cmd)
	case CommitOffsets:
		return m.commitOffsets(cat, cmd)
	case DeleteGroup:
		return m.deleteGroup(cmd)
	case DeleteOffsets:
		return m.deleteOffsets(cmd)
	case ResetOffsets:
		return m.resetOffsets(cat, cmd)
	case RemovePartitions:
		return m.removePartitions(cat, cmd)
	default:
		return Result{Refusal: Refusal{Code: CodeInvalidCommand}}
	}
}

// advance moves the machine's time to at, never back: leaders' clocks differ.
func (m *Machine) advance(at int64) { m.now = max(m.now, at) }

// missing returns the first of the partitions that is not in the catalogue.
func missing(cat Catalog, partitions []uint64) (uint64, bool) {
	for _, p := range partitions {
		if cat == nil || !cat.HasPartition(p) {
			return p, true
		}
	}
	return 0, false
}

// ensure returns the group, made if it does not exist.
func (m *Machine) ensure(id string) *group {
	if g := m.groups[id]; g != nil {
		return g
	}
	g := &group{
		generation: m.floor,
		members:    map[string]member{},
		owners:     map[uint64]ownership{},
		offsets:    map[uint64]Offset{},
		target:     map[uint64]string{},
	}
	m.groups[id] = g
	i, _ := slices.BinarySearch(m.ids, id)
	m.ids = slices.Insert(m.ids, i, id)
	return g
}

// remove forgets the group.
func (m *Machine) remove(id string) {
	g := m.groups[id]
	m.floor = max(m.floor, g.generation)
	m.offsets -= len(g.offsets)
	delete(m.groups, id)
	i, _ := slices.BinarySearch(m.ids, id)
	m.ids = slices.Delete(m.ids, i, i+1)
}

// roomForGroup refuses a group that does not exist where there is no room for
// as many new ones as the command could make.
func (m *Machine) roomForGroup(id string, atMost int) Refusal {
	if m.groups[id] == nil && len(m.groups)+atMost > MaxGroups {
		return limit(id, len(m.groups)+atMost, MaxGroups)
	}
	return Refusal{}
}

func (m *Machine) setOffset(g *group, partition uint64, o Offset) {
	if _, had := g.offsets[partition]; !had {
		m.offsets++
	}
	g.offsets[partition] = o
}

// dropOffset reports whether there was one.
func (m *Machine) dropOffset(g *group, partition uint64) bool {
	if _, had := g.offsets[partition]; !had {
		return false
	}
	delete(g.offsets, partition)
	m.offsets--
	return true
}

// disown takes partitions from the members that own them, and reports whether
// there was one. The caller raises the generation.
func (g *group) disown(partitions []uint64) bool {
	lost := map[string][]uint64{}
	for _, p := range partitions {
		if o, ok := g.owners[p]; ok {
			lost[o.member] = append(lost[o.member], p)
			delete(g.owners, p)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(lost)) {
		gone := lost[id]
		slices.Sort(gone)
		loser := g.members[id]
		loser.partitions = slices.DeleteFunc(slices.Clone(loser.partitions), func(p uint64) bool {
			_, found := slices.BinarySearch(gone, p)
			return found
		})
		g.members[id] = loser
	}
	return len(lost) > 0
}

// sortedKeys returns the keys of a map, ascending.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func validGroup(id string) bool { return id != "" && len(id) <= MaxGroupIDBytes }
