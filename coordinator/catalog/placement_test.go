package catalog

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// spreadOf returns the lowest and highest number of things per key.
func spreadOf(counts map[uint64]int, keys []uint64) (low, high int) {
	low = counts[keys[0]]
	for _, k := range keys {
		low, high = min(low, counts[k]), max(high, counts[k])
	}
	return low, high
}

// TestReplicasAreSpread: with any number of nodes and any replication factor,
// nodes hold as many replicas as each other, give or take one, and no shard has
// two on a node.
func TestReplicasAreSpread(t *testing.T) {
	t.Parallel()
	for nodes := uint64(1); nodes <= 9; nodes++ {
		for rf := uint32(1); uint64(rf) <= nodes; rf++ {
			for _, perNode := range []uint32{1, 4} {
				c := cluster(t, nodes, Settings{ShardsPerNode: perNode})
				must(t, c, CreateTopic{Name: "t", Partitions: 100, ReplicationFactor: rf})
				if got := len(c.Shards()); got != int(nodes)*int(perNode) {
					t.Errorf("%d nodes: %d shards", nodes, got)
				}
				replicas, parts := map[uint64]int{}, map[uint64]int{}
				var ids, shards []uint64
				for _, n := range c.Nodes() {
					ids = append(ids, n.ID)
				}
				for _, s := range c.Shards() {
					shards = append(shards, s.ID)
					h, _ := c.Hosted(s.ID)
					parts[s.ID] = len(h.Partitions)
					for _, n := range s.Replicas {
						replicas[n]++
					}
				}
				if low, high := spreadOf(replicas, ids); high-low > 1 {
					t.Errorf("%d nodes, %d replicas: nodes hold %d to %d", nodes, rf, low, high)
				}
				if low, high := spreadOf(parts, shards); high-low > 1 {
					t.Errorf("%d nodes, %d replicas: shards hold %d to %d partitions", nodes, rf, low, high)
				}
			}
		}
	}
}

// TestFailedNodesLoadFallsOnMany: shards that share a node do not all share
// the same other ones.
func TestFailedNodesLoadFallsOnMany(t *testing.T) {
	t.Parallel()
	c := cluster(t, 6, Settings{ShardsPerNode: 2})
	must(t, c, CreateTopic{Name: "t", ReplicationFactor: 3})
	companions := map[uint64]bool{}
	for _, s := range c.Shards() {
		if slices.Contains(s.Replicas, 1) {
			for _, n := range s.Replicas {
				companions[n] = true
			}
		}
	}
	if len(companions) != 6 {
		t.Errorf("node 1 shares shards with %v only", companions)
	}
}

// TestNewNodesGetShards: shards are added for nodes that came later, on the
// nodes that have the fewest.
func TestNewNodesGetShards(t *testing.T) {
	t.Parallel()
	c := cluster(t, 3, Settings{})
	must(t, c, CreateTopic{Name: "a", Partitions: 3, ReplicationFactor: 1})
	must(t, c, node(4))
	must(t, c, node(5))
	must(t, c, CreateTopic{Name: "b", Partitions: 5, ReplicationFactor: 1})
	for id := uint64(1); id <= 5; id++ {
		if got := len(c.ShardsOf(id)); got != 1 {
			t.Errorf("node %d hosts %d shards", id, got)
		}
	}
	// One partition of b each, and not three on each of the empty shards.
	for _, p := range must(t, c, CreateTopic{Name: "c", Partitions: 2, ReplicationFactor: 1}).Topic.Partitions {
		part, _ := c.Partition(p)
		if s, _ := c.Shard(part.ShardID); s.Replicas[0] < 4 {
			t.Errorf("partition %d is on node %d, which has the most", p, s.Replicas[0])
		}
	}
	h, _ := c.Hosted(2)
	if len(h.Partitions) != 2 {
		t.Errorf("shard 2 hosts %+v", h.Partitions)
	}
}

// TestDeadNodesGetNothing: a shard that has lost its majority gets no new
// partitions, and the live nodes get shards in its place.
func TestDeadNodesGetNothing(t *testing.T) {
	t.Parallel()
	c := cluster(t, 3, Settings{})
	must(t, c, CreateTopic{Name: "a", ReplicationFactor: 1})
	must(t, c, CreateTopic{Name: "b", Partitions: 8, ReplicationFactor: 1, Nodes: []uint64{1, 3}})
	topic, _ := c.Topic("b")
	for _, id := range topic.Partitions {
		p, _ := c.Partition(id)
		if s, _ := c.Shard(p.ShardID); s.Replicas[0] == 2 {
			t.Errorf("partition %d is on the dead node", id)
		}
	}
	// A shard with two of three replicas alive goes on being used.
	d := cluster(t, 3, Settings{})
	must(t, d, CreateTopic{Name: "a", ReplicationFactor: 3})
	must(t, d, node(4))
	before := len(d.Shards())
	must(t, d, CreateTopic{Name: "b", Partitions: 3, ReplicationFactor: 3, Nodes: []uint64{1, 2, 4}})
	if got := len(d.Shards()); got != before {
		t.Errorf("%d shards before, %d after", before, got)
	}
}

func TestShardLimit(t *testing.T) {
	t.Parallel()
	c := cluster(t, 200, Settings{ShardsPerNode: 50})
	must(t, c, CreateTopic{Name: "a", ReplicationFactor: 1})
	if got := len(c.Shards()); got != MaxShards {
		t.Fatalf("%d shards", got)
	}
	if r := refused(t, c, CreateTopic{Name: "b", ReplicationFactor: 2}, CodeLimitExceeded); r.Have != MaxShards {
		t.Errorf("refusal %+v", r)
	}
	must(t, c, CreateTopic{Name: "b", Partitions: 20, ReplicationFactor: 1})
}

// TestPartitionLimit asks for a plan only: half a million real partitions take
// seconds to make and check under the race detector.
func TestPartitionLimit(t *testing.T) {
	t.Parallel()
	c := cluster(t, 1, Settings{})
	for id := range uint64(MaxPartitions - 5) {
		c.parts[id+1] = Partition{}
	}
	if _, r, ok := c.planPartitions(0, 6, 1, []uint64{1}); ok || r.Code != CodeLimitExceeded || r.Need != MaxPartitions+1 {
		t.Errorf("over the limit: %+v", r)
	}
	if plan, r, ok := c.planPartitions(0, 5, 1, []uint64{1}); !ok || len(plan.shards) != 5 {
		t.Errorf("at the limit: %+v", r)
	}
}

// naive is a second placement of partitions, one at a time by its definition.
func naive(c *Catalog, topic uint64, count int, shards []uint64) []uint64 {
	own, all := map[uint64]int{}, map[uint64]int{}
	for _, p := range c.parts {
		all[p.ShardID]++
		if p.TopicID == topic {
			own[p.ShardID]++
		}
	}
	var out []uint64
	for range count {
		best := shards[0]
		for _, s := range shards {
			a, b := [3]uint64{uint64(own[s]), uint64(all[s]), s}, [3]uint64{uint64(own[best]), uint64(all[best]), best}
			if slices.Compare(a[:], b[:]) < 0 {
				best = s
			}
		}
		own[best]++
		all[best]++
		out = append(out, best)
	}
	return out
}

func TestSpreadAgainstNaive(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 5))
		c := cluster(t, 1+rng.Uint64N(6), Settings{ShardsPerNode: 1 + rng.Uint32N(3)})
		for i := range 6 {
			must(t, c, CreateTopic{Name: fmt.Sprint("t", i), Partitions: 1 + rng.Uint32N(20), ReplicationFactor: 1})
		}
		must(t, c, DeleteTopic{Name: fmt.Sprint("t", rng.IntN(6))})
		var shards []uint64
		for _, s := range c.Shards() {
			shards = append(shards, s.ID)
		}
		topic, count := rng.Uint64N(7), rng.IntN(60)
		if got, want := c.spread(topic, count, shards), naive(c, topic, count, shards); !slices.Equal(got, want) {
			t.Fatalf("seed %d: topic %d, %d partitions: %v, want %v", seed, topic, count, got, want)
		}
	}
}
