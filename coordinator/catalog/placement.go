package catalog

import (
	"cmp"
	"maps"
	"slices"
)

// placement is what a topic command will add.
type placement struct {
	newShards []Shard
	shards    []uint64 // the shard of each new partition, in index order
}

// usableNodes returns the active nodes among those given, ascending, or all active
// ones when none are given.
func (c *Catalog) usableNodes(given []uint64) []uint64 {
	nodes := slices.Clone(given)
	if len(nodes) == 0 {
		nodes = slices.Sorted(maps.Keys(c.nodes))
	}
	nodes = slices.DeleteFunc(nodes, func(id uint64) bool {
		n, ok := c.nodes[id]
		return !ok || n.Draining
	})
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// planPartitions finds shards for count more partitions of a topic (0 for a
// topic yet to be) without changing anything; false comes with the refusal.
func (c *Catalog) planPartitions(topic uint64, count, rf int, nodes []uint64) (placement, Result, bool) {
	total := count + len(c.topics[topic].Partitions)
	switch {
	case total > MaxPartitionsPerTopic:
		return placement{}, refuseNumbers(CodeInvalidPartitions, total, MaxPartitionsPerTopic), false
	case rf > MaxReplicationFactor:
		return placement{}, refuseNumbers(CodeInvalidReplicationFactor, rf, MaxReplicationFactor), false
	case rf > len(nodes):
		return placement{}, refuseNumbers(CodeInsufficientNodes, rf, len(nodes)), false
	case len(c.parts)+count > MaxPartitions:
		return placement{}, refuseNumbers(CodeLimitExceeded, len(c.parts)+count, MaxPartitions), false
	}
	usable := c.usableShards(rf, nodes)
	missing := int(c.Settings().ShardsPerNode)*len(nodes) - len(usable)
	// At the limit of shards the ones there are must do.
	missing = max(0, min(missing, MaxShards-len(c.shards)))
	if len(usable)+missing == 0 {
		return placement{}, refuseNumbers(CodeLimitExceeded, len(c.shards)+1, MaxShards), false
	}
	plan := placement{newShards: c.planShards(missing, rf, nodes)}
	for _, s := range plan.newShards {
		usable = append(usable, s.ID)
	}
	plan.shards = c.spread(topic, count, usable)
	return plan, Result{}, true
}

// usableShards returns the active shards of this replication factor that have
// a majority of their replicas on the given nodes, ascending by id.
func (c *Catalog) usableShards(rf int, nodes []uint64) []uint64 {
	var usable []uint64
	for _, id := range slices.Sorted(maps.Keys(c.shards)) {
		s := c.shards[id]
		if s.State != ShardActive || len(s.Replicas) != rf {
			continue
		}
		alive := 0
		for _, n := range s.Replicas {
			if _, ok := slices.BinarySearch(nodes, n); ok {
				alive++
			}
		}
		if alive > rf/2 {
			usable = append(usable, id)
		}
	}
	return usable
}

// planShards chooses the replica sets of count new shards. Each replica goes to
// the node with the fewest replicas; among equals to the one that shares the
// fewest shards with the nodes chosen already, so that the load of a failed
// node falls on many others and not on one; among equals still to the lowest id.
func (c *Catalog) planShards(count, rf int, nodes []uint64) []Shard {
	load := map[uint64]int{}
	shared := map[[2]uint64]int{}
	note := func(replicas []uint64) {
		for _, a := range replicas {
			load[a]++
			for _, b := range replicas {
				shared[[2]uint64{a, b}]++
			}
		}
	}
	for _, s := range c.Shards() {
		note(s.Replicas)
	}
	var planned []Shard
	for i := range count {
		var chosen []uint64
		for range rf {
			chosen = append(chosen, bestNode(nodes, chosen, load, shared))
		}
		slices.Sort(chosen)
		note(chosen)
		planned = append(planned, Shard{
			ID: c.lastShard + 1 + uint64(i), Replicas: chosen, Version: c.version + 1,
		})
	}
	return planned
}

// bestNode returns the next replica's node; nodes holds more than chosen does.
func bestNode(nodes, chosen []uint64, load map[uint64]int, shared map[[2]uint64]int) uint64 {
	var best uint64
	bestLoad, bestShared := -1, 0
	for _, n := range nodes {
		if slices.Contains(chosen, n) {
			continue
		}
		together := 0
		for _, other := range chosen {
			together += shared[[2]uint64{n, other}]
		}
		if bestLoad < 0 || cmp.Or(cmp.Compare(load[n], bestLoad), cmp.Compare(together, bestShared)) < 0 {
			best, bestLoad, bestShared = n, load[n], together
		}
	}
	return best
}

// spread chooses a shard for each of count new partitions of a topic: the one
// with the fewest partitions of this topic, among equals the one with the
// fewest partitions, then the lowest id. The topic comes first because its
// partitions are written together: a new empty shard must not get all of them.
func (c *Catalog) spread(topic uint64, count int, shards []uint64) []uint64 {
	own := map[uint64]int{}
	for _, id := range c.topics[topic].Partitions {
		own[c.parts[id].ShardID]++
	}
	all := map[uint64]int{}
	for _, s := range shards {
		all[s] = len(c.byShard[s])
	}
	out := make([]uint64, 0, count)
	for len(out) < count {
		lowest := slices.MinFunc(shards, func(a, b uint64) int { return cmp.Compare(own[a], own[b]) })
		level := own[lowest]
		var round []uint64
		for _, s := range shards {
			if own[s] == level {
				round = append(round, s)
			}
		}
		slices.SortFunc(round, func(a, b uint64) int {
			return cmp.Or(cmp.Compare(all[a], all[b]), cmp.Compare(a, b))
		})
		for _, s := range round[:min(len(round), count-len(out))] {
			own[s]++
			all[s]++
			out = append(out, s)
		}
	}
	return out
}
