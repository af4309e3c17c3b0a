package group

import (
	"errors"
	"maps"
	"slices"
	"strconv"
)

// checkMembership verifies what holds in a group whose members subscribe.
func (g *group) checkMembership() error {
	instances := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(g.members)) {
		mm := g.members[id]
		if (mm.sub != nil) != g.subscribed() {
			return errors.New("members that subscribe and members that do not")
		}
		if mm.sub == nil {
			if mm.joined != 0 || mm.asked != 0 {
				return errors.New("member that does not subscribe has what only others have")
			}
			continue
		}
		if mm.sub.instance != "" && instances[mm.sub.instance] {
			return errors.New("two members with one instance id")
		}
		instances[mm.sub.instance] = true
		if err := mm.check(g.generation); err != nil {
			return err
		}
		if pending := len(g.revoking(id)) > 0; pending != (mm.asked > 0) {
			return errors.New("member " + strconv.Quote(id) + " is asked for partitions that it may keep, or not for those it may not")
		}
	}
	if g.subscribed() && len(g.members) > MaxSubscribers {
		return errors.New("too many members that subscribe")
	}
	return g.checkTarget()
}

func (mm *member) check(generation uint64) error {
	s := mm.sub
	bad := len(s.instance) > MaxInstanceIDBytes || len(s.replaced) > MaxMemberIDBytes || s.replaced != "" && s.instance == "" ||
		len(s.topics) == 0 || len(s.topics) > MaxTopics || !s.assignor.valid() ||
		s.session < MinSessionTimeout || s.session > MaxSessionTimeout ||
		s.rebalance < MinSessionTimeout || s.rebalance > MaxRebalanceTimeout
	for i, t := range s.topics {
		bad = bad || t == "" || len(t) > MaxTopicBytes || i > 0 && t <= s.topics[i-1]
	}
	if bad {
		return errors.New("subscription breaks its limits")
	}
	if mm.joined == 0 || mm.joined > generation || mm.asked > generation {
		return errors.New("member joined or was asked in a generation that is not one of the past")
	}
	return nil
}

// checkTarget verifies that ownership is on its way to the target.
func (g *group) checkTarget() error {
	counts := map[string]int{}
	for _, p := range slices.Sorted(maps.Keys(g.target)) {
		id := g.target[p]
		if g.members[id].sub == nil {
			return errors.New("partition is meant for who does not subscribe")
		}
		if _, owned := g.owners[p]; !owned {
			return errors.New("partition is meant for a member and owned by nobody")
		}
		counts[id]++
	}
	if !g.subscribed() || g.assignor() != AssignorSticky {
		return nil
	}
	ids := slices.Sorted(maps.Keys(g.members))
	least, most := len(g.target), 0
	for _, id := range ids {
		if !slices.Equal(g.members[id].sub.topics, g.members[ids[0]].sub.topics) {
			return nil
		}
		least, most = min(least, counts[id]), max(most, counts[id])
	}
	if most > least+1 {
		return errors.New("the target is out of balance")
	}
	return nil
}

// CheckAgainst verifies, besides [Machine.Check], that every partition of every
// topic that somebody subscribes to is meant for one who does, and nothing else
// is meant for anybody. The catalogue is the one of this moment.
func (m *Machine) CheckAgainst(cat Catalog) error {
	if err := m.Check(); err != nil {
		return err
	}
	for _, id := range m.ids {
		g := m.groups[id]
		broken := func(p uint64, what string) error {
			return errors.New("group " + strconv.Quote(id) + ": partition " + strconv.FormatUint(p, 10) + " " + what)
		}
		readers := map[string]map[string]bool{}
		// a set is made: the order does not matter
		for name, mm := range g.members {
			if mm.sub == nil {
				break
			}
			for _, t := range mm.sub.topics {
				if readers[t] == nil {
					readers[t] = map[string]bool{}
				}
				readers[t][name] = true
			}
		}
		wanted := 0
		for _, t := range sortedKeys(readers) {
			for _, p := range cat.TopicPartitions(t) {
				wanted++
				if !readers[t][g.target[p]] {
					return broken(p, "is meant for nobody, or for who does not read its topic")
				}
			}
		}
		if wanted != len(g.target) {
			return errors.New("group " + strconv.Quote(id) + ": partitions of topics that nobody reads are meant for somebody")
		}
	}
	return nil
}
