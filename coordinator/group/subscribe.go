package group

import "slices"

// subscription is what a member that does not name its partitions asks for. It
// is replaced, never changed in place.
type subscription struct {
	instance  string // names a static member; empty: dynamic
	replaced  string // the member that had the instance before; fenced
	topics    []string
	session   int64 // ms
	rebalance int64 // ms
	assignor  Assignor
}

// equal reports whether two subscriptions are shared out alike.
func (s *subscription) equal(o *subscription) bool {
	return s.assignor == o.assignor && slices.Equal(s.topics, o.topics)
}

func (m *Machine) subscribe(cat Catalog, cmd Subscribe) Result {
	if r := m.checkSubscribe(cat, cmd); !r.OK() {
		return Result{Refusal: r}
	}
	topics := slices.Clone(cmd.Topics)
	slices.Sort(topics)
	sub := &subscription{
		instance: cmd.Instance, topics: slices.Compact(topics), session: cmd.SessionTimeout,
		rebalance: cmd.RebalanceTimeout, assignor: cmd.Assignor,
	}
	g := m.ensure(cmd.Group)
	old, known := g.members[cmd.Member]
	next := member{clientID: cmd.ClientID, host: cmd.Host, sub: sub}
	if known {
		sub.replaced = old.sub.replaced
		next.joinedAt, next.joined = old.joinedAt, old.joined
		next.partitions, next.asked = old.partitions, old.asked
		g.members[cmd.Member] = next
		same := old.sub.equal(sub)
		if !same {
			g.rebalance(cat)
			m.rebalances++
		}
		unchanged := same && old.sub.session == sub.session && old.sub.rebalance == sub.rebalance &&
			old.clientID == next.clientID && old.host == next.host
		return Result{Changed: !unchanged, Generation: g.generation}
	}
	m.rebalances++
	next.joinedAt, next.joined = m.now, g.generation+1
	if before := g.holder(cmd.Instance); before != "" {
		sub.replaced = before
		if g.replace(before, cmd.Member, next) {
			return Result{Changed: true, Generation: g.generation}
		}
	} else {
		g.members[cmd.Member] = next
	}
	g.rebalance(cat)
	return Result{Changed: true, Generation: g.generation}
}

// holder returns the member that has the instance id.
func (g *group) holder(instance string) string {
	if instance == "" {
		return ""
	}
	// an instance id has one holder: the order does not matter
	for id, mm := range g.members {
		if mm.sub != nil && mm.sub.instance == instance {
			return id
		}
	}
	return ""
}

// replace puts a new life of a static member in the place of the old one. What
// the old one was to let go is free at once: its program has been started again.
// It reports whether nothing else has to change; otherwise the caller
// rebalances.
func (g *group) replace(before, id string, next member) (done bool) {
	old := g.members[before]
	g.disown(old.partitions)
	delete(g.members, before)
	g.members[id] = next
	// every partition is renamed by itself: the order does not matter
	for p, to := range g.target {
		if to == before {
			g.target[p] = id
		}
	}
	if !old.sub.equal(next.sub) {
		return false
	}
	g.generation++
	g.settle()
	return true
}

func (m *Machine) checkSubscribe(cat Catalog, cmd Subscribe) Refusal {
	if !validGroup(cmd.Group) {
		return refuse(CodeInvalidGroup, cmd.Group)
	}
	if cmd.Member == "" || len(cmd.Member) > MaxMemberIDBytes || len(cmd.Instance) > MaxInstanceIDBytes ||
		len(cmd.ClientID) > MaxClientIDBytes || len(cmd.Host) > MaxHostBytes {
		return refuse(CodeInvalidMember, cmd.Group)
	}
	if r := checkSubscription(cat, cmd); !r.OK() {
		return r
	}
	g := m.groups[cmd.Group]
	if g == nil {
		return m.roomForGroup(cmd.Group, 1)
	}
	if len(g.members) > 0 && !g.subscribed() {
		return refuse(CodeMixedMembers, cmd.Group)
	}
	if old, known := g.members[cmd.Member]; known {
		if old.sub.instance != cmd.Instance {
			return refuse(CodeInvalidMember, cmd.Group)
		}
		return Refusal{}
	}
	before := g.holder(cmd.Instance)
	if before == "" && len(g.members) >= MaxSubscribers {
		return limit(cmd.Group, len(g.members)+1, MaxSubscribers)
	}
	if before != "" && g.members[before].sub.replaced == cmd.Member {
		// A late copy of the join of the life before: it must not take its
		// successor's place.
		return Refusal{Code: CodeFencedInstance, Group: cmd.Group, Owner: before}
	}
	return Refusal{}
}

func checkSubscription(cat Catalog, cmd Subscribe) Refusal {
	invalid := refuse(CodeInvalidSubscription, cmd.Group)
	switch {
	case len(cmd.Topics) == 0, !cmd.Assignor.valid(),
		cmd.SessionTimeout < MinSessionTimeout, cmd.SessionTimeout > MaxSessionTimeout,
		cmd.RebalanceTimeout < MinSessionTimeout, cmd.RebalanceTimeout > MaxRebalanceTimeout:
		return invalid
	case len(cmd.Topics) > MaxTopics:
		return limit(cmd.Group, len(cmd.Topics), MaxTopics)
	}
	total := 0
	for _, t := range cmd.Topics {
		if t == "" || len(t) > MaxTopicBytes {
			return invalid
		}
		if cat != nil {
			total += len(cat.TopicPartitions(t))
		}
	}
	if total > MaxPartitions {
		return limit(cmd.Group, total, MaxPartitions)
	}
	return Refusal{}
}
