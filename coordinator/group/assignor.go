package group

import (
	"cmp"
	"slices"
	"strconv"
)

// Assignor is a rule by which the partitions of a group's topics are shared
// out. A group uses the one that most of its members ask for.
type Assignor uint8

// The assignors. The numbers are in logs and snapshots: never renumber.
const (
	// AssignorSticky moves as few partitions as balance needs. With equal
	// subscriptions no member has two partitions more than another.
	AssignorSticky Assignor = 1
	// AssignorRange gives each member a run of neighbouring partitions of every
	// topic, so that topics with the same number of partitions are shared out
	// alike. The first members have one partition more, of each topic.
	AssignorRange Assignor = 2

	assignorEnd = 3
)

// String returns the assignor's stable name.
func (a Assignor) String() string {
	switch a {
	case AssignorSticky:
		return "sticky"
	case AssignorRange:
		return "range"
	default:
		return "ASSIGNOR_" + strconv.Itoa(int(a))
	}
}

func (a Assignor) valid() bool { return a > 0 && a < assignorEnd }

// subscriber is a member as the assignors see it.
type subscriber struct {
	id  string
	key string // what members are ordered by: the instance id, if there is one
	// held are the partitions meant for the member so far, as far as it may
	// still have them; ascending.
	held []uint64
}

// topicPlan is one topic to share out: its partitions in the order of their
// numbers, and who reads it, as places in the list of subscribers.
type topicPlan struct {
	partitions []uint64
	readers    []int
}

// assign computes who is to own each partition of the subscribed topics.
func (g *group) assign(cat Catalog) map[uint64]string {
	subs := g.subscribers()
	target := map[uint64]string{}
	if len(subs) == 0 {
		return target
	}
	topics, equal := g.topicPlans(cat, subs)
	switch {
	case g.assignor() == AssignorRange:
		assignRange(topics, subs, target)
	case equal:
		g.hold(subs, topics)
		assignEqually(topics, subs, g.owners, target)
	default:
		g.hold(subs, topics)
		assignLeastLoaded(topics, subs, target)
	}
	return target
}

// subscribers returns the members in the order of the assignors.
func (g *group) subscribers() []subscriber {
	var subs []subscriber
	// they are sorted below: the order does not matter
	for id, mm := range g.members {
		if mm.sub != nil {
			subs = append(subs, subscriber{id: id, key: cmp.Or(mm.sub.instance, id)})
		}
	}
	slices.SortFunc(subs, func(a, b subscriber) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.id, b.id))
	})
	return subs
}

// topicPlans returns the topics that somebody reads, by name, and whether all
// members read the same ones.
func (g *group) topicPlans(cat Catalog, subs []subscriber) (plans []topicPlan, equal bool) {
	readers := map[string][]int{}
	for i := range subs {
		for _, t := range g.members[subs[i].id].sub.topics {
			readers[t] = append(readers[t], i)
		}
	}
	equal = true
	for _, t := range sortedKeys(readers) {
		equal = equal && len(readers[t]) == len(subs)
		if cat == nil {
			continue
		}
		if partitions := cat.TopicPartitions(t); len(partitions) > 0 {
			plans = append(plans, topicPlan{partitions: partitions, readers: readers[t]})
		}
	}
	return plans, equal
}

// assignor returns what most members ask for; of two that as many ask for, the
// sticky one.
func (g *group) assignor() Assignor {
	var votes [assignorEnd]int
	// votes are counted: the order does not matter
	for _, mm := range g.members {
		if mm.sub != nil {
			votes[mm.sub.assignor]++
		}
	}
	if votes[AssignorRange] > votes[AssignorSticky] {
		return AssignorRange
	}
	return AssignorSticky
}

// hold finds what each member may keep: what is meant for it, or, where that
// member is gone, what it owns still.
func (g *group) hold(subs []subscriber, topics []topicPlan) {
	place := make(map[string]int, len(subs))
	for i := range subs {
		place[subs[i].id] = i
	}
	for _, t := range topics {
		for _, p := range t.partitions {
			i, ok := place[g.target[p]]
			if !ok || !reads(t.readers, i) {
				if i, ok = place[g.owners[p].member]; !ok || !reads(t.readers, i) {
					continue
				}
			}
			subs[i].held = append(subs[i].held, p)
		}
	}
	for i := range subs {
		slices.Sort(subs[i].held)
	}
}

func assignRange(topics []topicPlan, subs []subscriber, target map[uint64]string) {
	for _, t := range topics {
		low, extra := len(t.partitions)/len(t.readers), len(t.partitions)%len(t.readers)
		rest := t.partitions
		for n, i := range t.readers {
			take := low
			if n < extra {
				take++
			}
			for _, p := range rest[:take] {
				target[p] = subs[i].id
			}
			rest = rest[take:]
		}
	}
}

// assignEqually gives every member its share. Who holds most keeps one more
// where the shares do not come out even, so that nothing moves without need.
func assignEqually(topics []topicPlan, subs []subscriber, owners map[uint64]ownership, target map[uint64]string) {
	total := 0
	for _, t := range topics {
		total += len(t.partitions)
	}
	order := make([]int, len(subs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(subs[b].held), len(subs[a].held)) })
	room := make([]int, len(subs))
	for n, i := range order {
		room[i] = total / len(subs)
		if n < total%len(subs) {
			room[i]++
		}
	}
	for i := range subs {
		// What it owns comes before what it only waits for: that need not move twice.
		slices.SortStableFunc(subs[i].held, func(a, b uint64) int {
			return cmp.Compare(waits(owners, a, subs[i].id), waits(owners, b, subs[i].id))
		})
		for _, p := range subs[i].held[:min(room[i], len(subs[i].held))] {
			target[p] = subs[i].id
			room[i]--
		}
	}
	turn := 0
	for _, t := range topics {
		for _, p := range t.partitions {
			if _, kept := target[p]; kept {
				continue
			}
			for room[turn%len(subs)] == 0 { // the rooms sum up to what is left
				turn++
			}
			i := turn % len(subs)
			target[p] = subs[i].id
			room[i]--
			turn++
		}
	}
}

func waits(owners map[uint64]ownership, p uint64, id string) int {
	if owners[p].member == id {
		return 0
	}
	return 1
}

// levelRounds bounds the rounds in which partitions are moved from members with
// many to members with few. Two are enough unless subscriptions overlap in long
// chains.
const levelRounds = 16

// assignLeastLoaded is for members that read different topics: each partition
// stays where it is, or goes to the reader of its topic with the fewest, and then
// moves as long as that makes two members more equal.
func assignLeastLoaded(topics []topicPlan, subs []subscriber, target map[uint64]string) {
	at := map[uint64]int{}
	load := make([]int, len(subs))
	for i := range subs {
		for _, p := range subs[i].held {
			at[p] = i
			load[i]++
		}
	}
	least := func(readers []int) int {
		return slices.MinFunc(readers, func(a, b int) int { return cmp.Compare(load[a], load[b]) })
	}
	// Topics with few readers first: the others can give way.
	slices.SortStableFunc(topics, func(a, b topicPlan) int { return cmp.Compare(len(a.readers), len(b.readers)) })
	for range levelRounds {
		moved := false
		for _, t := range topics {
			to := least(t.readers)
			for _, p := range t.partitions {
				i, placed := at[p]
				if placed && load[i] <= load[to]+1 {
					continue
				}
				if placed {
					load[i]--
				}
				at[p] = to
				load[to]++
				moved, to = true, least(t.readers)
			}
		}
		if !moved {
			break
		}
	}
	// every partition is placed by itself: the order does not matter
	for p, i := range at {
		target[p] = subs[i].id
	}
}

// reads reports whether a place is in a list of readers, which is ascending.
func reads(readers []int, i int) bool {
	_, found := slices.BinarySearch(readers, i)
	return found
}
