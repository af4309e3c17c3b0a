package group

import (
	"errors"
	"maps"
	"slices"
	"strconv"
)

// Check verifies the invariants of the state. An error is a bug of this
// package or a snapshot that was not written by it.
func (m *Machine) Check() error {
	if !slices.Equal(m.ids, slices.Sorted(maps.Keys(m.groups))) {
		return errors.New("group: list of ids is wrong")
	}
	if len(m.ids) > MaxGroups {
		return errors.New("group: too many groups")
	}
	offsets := 0
	for _, id := range m.ids {
		if !validGroup(id) {
			return errors.New("group: invalid id " + strconv.Quote(id))
		}
		if err := m.groups[id].check(id, m.now); err != nil {
			return err
		}
		offsets += len(m.groups[id].offsets)
	}
	if offsets != m.offsets {
		return errors.New("group: count of offsets is wrong")
	}
	return m.checkHeld()
}

func (g *group) check(id string, now int64) error {
	broken := func(what string) error { return errors.New("group " + strconv.Quote(id) + ": " + what) }
	if len(g.members) > MaxMembers {
		return broken("too many members")
	}
	owned := 0
	for _, name := range slices.Sorted(maps.Keys(g.members)) {
		mm := g.members[name]
		if name == "" || len(name) > MaxMemberIDBytes || len(mm.clientID) > MaxClientIDBytes || len(mm.host) > MaxHostBytes {
			return broken("member breaks its limits")
		}
		if mm.joinedAt > now {
			return broken("member joined in the future")
		}
		if len(mm.partitions) > MaxPartitions && (mm.sub == nil || len(mm.partitions) > MaxOwned) {
			return broken("member has too many partitions")
		}
		for i, p := range mm.partitions {
			if i > 0 && p <= mm.partitions[i-1] {
				return broken("partitions of a member are unsorted")
			}
			o := g.owners[p]
			if o.member != name {
				return broken("member lists a partition that it does not own")
			}
			if o.since == 0 || o.since > g.generation {
				return broken("partition owned since a generation that is not one of the past")
			}
		}
		owned += len(mm.partitions)
	}
	if owned != len(g.owners) {
		return broken("partition owned by no member")
	}
	if err := g.checkMembership(); err != nil {
		return broken(err.Error())
	}
	for _, p := range slices.Sorted(maps.Keys(g.offsets)) {
		o := g.offsets[p]
		if len(o.Metadata) > MaxMetadataBytes || len(o.Member) > MaxMemberIDBytes || o.CommittedAt > now {
			return broken("offset breaks its limits")
		}
		if o.Txn.Number == 0 && o.Txn != (TxnRef{}) {
			return broken("offset of a transaction without a number")
		}
	}
	return nil
}
