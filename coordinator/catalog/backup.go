package catalog

import (
	"maps"
	"slices"
)

// Backup returns the state as Snapshot does, without keys: a backup is to be kept
// where tokens cannot be forged with it, and what was signed before a restore is not
// to be believed afterwards.
func (c *Catalog) Backup() []byte {
	b := *c
	b.keys, b.activeKey = nil, 0
	return b.Snapshot()
}

// NewHome is where the state of a backup is to live.
type NewHome struct {
	// ClusterID is the new cluster's, as in InitCluster.
	ClusterID string
	// Instances are the data directories of its nodes, at least one, by node.
	Instances map[uint64]string
	// Indexes are the last indexes of the shards' logs, by shard.
	Indexes map[uint64]uint64
}

// unknownAddress is that of a node that has not registered yet: a name that is never
// found (RFC 6761), and not the one of a node of the old cluster.
const unknownAddress = "restored.invalid:1"

// Rehome makes the state one of a new cluster. A shard stays on its nodes if the new
// cluster has them all, and is spread over those that there are if not; where they are
// fewer than its replicas, its topics get fewer. What moves and rebalances were under
// way is forgotten. An error leaves the state as it was.
func (c *Catalog) Rehome(home NewHome) Code {
	nodes := slices.Sorted(maps.Keys(home.Instances))
	switch {
	case c.clusterID == "":
		return CodeNotInitialized
	case !validName(home.ClusterID, MaxClusterIDBytes) || home.ClusterID == c.clusterID:
		return CodeInvalidClusterID
	case len(nodes) == 0 || len(nodes) > MaxNodes:
		return CodeInsufficientNodes
	}
	for _, id := range nodes {
		if !validNode(RegisterNode{ID: id, ClientAddress: unknownAddress, PeerAddress: unknownAddress, Instance: home.Instances[id]}) {
			return CodeInvalidNode
		}
	}
	c.version++
	c.clusterID, c.balancing = home.ClusterID, 0
	c.keys, c.activeKey = nil, 0
	c.nodes = map[uint64]Node{}
	for _, id := range nodes {
		c.nodes[id] = Node{
			ID: id, ClientAddress: unknownAddress, PeerAddress: unknownAddress, Instance: home.Instances[id], RegisteredAt: c.now,
		}
	}
	for turn, s := range c.Shards() {
		s.Replicas = settle(s.Replicas, nodes, turn)
		// Members that come back later are told by their lives; these begin anew, in a
		// group that has no founders.
		s.Lives, s.Lost, s.Move = nil, nil, Move{}
		s.MembersIndex = max(s.MembersIndex, home.Indexes[s.ID], 1)
		s.Version = c.version
		c.shards[s.ID] = s
	}
	for id, t := range c.topics { // each by itself: the order does not matter
		t.ReplicationFactor = min(t.ReplicationFactor, uint32(len(nodes)))
		c.topics[id] = t
	}
	return CodeOK
}

// settle returns which nodes, ascending, get the replicas that were on others.
func settle(replicas, nodes []uint64, turn int) []uint64 {
	want := min(len(replicas), len(nodes))
	var out []uint64
	for _, n := range replicas {
		if slices.Contains(nodes, n) && len(out) < want {
			out = append(out, n)
		}
	}
	for i := 0; len(out) < want; i++ {
		if n := nodes[(turn+i)%len(nodes)]; !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}
