package catalog

import (
	"maps"
	"slices"

	"github.com/oncelog/oncelog/api/acl"
)

// Key is a secret that signs producer tokens.
type Key struct {
	ID      uint32 // from 1, never reused
	Secret  []byte
	Created int64 // ms since the Unix epoch
}

// Node is a partition node.
type Node struct {
	ID            uint64
	ClientAddress string
	PeerAddress   string
	Instance      string // id of the node's data directory; "": lost, a new one may register
	RegisteredAt  int64  // first registration, ms since the Unix epoch
	Draining      bool   // gets nothing new, and what it has moves away
}

// Topic is a named list of partitions.
type Topic struct {
	ID                uint64
	Name              string
	ReplicationFactor uint32
	CreatedAt         int64    // ms since the Unix epoch
	Partitions        []uint64 // partition ids by partition index
	Retention         Retention
	Cleanup           Cleanup
	ConfigVersion     uint64 // how often Retention or Cleanup was altered
}

// Retention says how much of each partition of a topic is kept. The zero value
// keeps all.
type Retention struct {
	Millis uint64 // records older than this may go; 0: none; at most MaxRetention
	Bytes  uint64 // the oldest beyond so many bytes may go; 0: none; at most MaxRetention
}

// Policy says what may be removed from a topic. The numbers are written to logs.
type Policy uint8

// The policies.
const (
	PolicyDelete        Policy = 0 // what Retention lets go
	PolicyCompact       Policy = 1 // older records of a key
	PolicyCompactDelete Policy = 2 // both
)

// Cleanup says how a topic is compacted by key. The zero value is not at all.
type Cleanup struct {
	Policy          Policy
	MinLag          uint64 // ms; younger records are not compacted; at most MaxRetention
	DeleteRetention uint64 // ms; how long tombstones stay; 0: a day; at most MaxRetention
}

// Compact reports whether the policy has older records of a key go.
func (p Policy) Compact() bool { return p == PolicyCompact || p == PolicyCompactDelete }

// DefaultDeleteRetention is how long tombstones stay if nobody has said, in
// milliseconds: a day, as in Kafka.
const DefaultDeleteRetention = 24 * 60 * 60 * 1000

// Partition is one partition of a topic and the shard it lives in, for ever.
type Partition struct {
	ID      uint64
	TopicID uint64
	Index   uint32 // position within the topic
	ShardID uint64
}

// ShardState says what may happen to a shard.
type ShardState uint8

// The states of a shard.
const (
	// ShardActive: new partitions may be placed in it.
	ShardActive ShardState = iota
	// ShardDraining: it serves its partitions and gets no new ones.
	ShardDraining
)

// Shard is one Raft group of partition nodes.
type Shard struct {
	ID       uint64
	Replicas []uint64 // nodes of the group's voters, ascending
	State    ShardState
	Version  uint64 // the catalogue's version at the shard's last change

	// Lives are the lives above 0 of Replicas, by node.
	Lives    map[uint64]uint32
	LastLife uint32 // the last one handed out
	// MembersIndex is the index in the shard's log at which Replicas were reported;
	// 0: they are the founders.
	MembersIndex uint64
	// Lost are those of Replicas whose copy is gone with their disk, ascending.
	Lost []uint64
	Move Move
}

// Move is a replica that is to take the place of another. The zero value is none.
type Move struct {
	Add     uint64 // node; it is Remove, too, where a lost copy is made anew
	AddLife uint32
	Remove  uint64 // node, one of Replicas
	// Cancelled: what was begun is to be undone. If it was done already it stays.
	Cancelled bool
	// AddLost: the copy that was begun is gone with its disk; the move is cancelled.
	AddLost   bool
	StartedAt int64 // ms since the Unix epoch
}

// Active reports whether there is a move.
func (m Move) Active() bool { return m.Add != 0 }

// Replica is a member of a shard's group: a node in one of its lives there.
type Replica struct {
	Node uint64
	Life uint32
}

// Member returns the node's member of the shard: the one that a move adds, or else
// the one among Replicas that is not lost.
func (s Shard) Member(node uint64) (Replica, bool) {
	switch {
	case node == 0:
		return Replica{}, false
	case s.Move.Add == node && !s.Move.AddLost:
		return Replica{node, s.Move.AddLife}, true
	case slices.Contains(s.Replicas, node) && !slices.Contains(s.Lost, node):
		return Replica{node, s.Lives[node]}, true
	}
	return Replica{}, false
}

// Has reports whether the replica is, or may yet become, a member of the shard. One
// that is not, though its node was told to keep it, never will be again.
func (s Shard) Has(r Replica) bool {
	return s.Move.Active() && r == Replica{s.Move.Add, s.Move.AddLife} || slices.Contains(s.Replicas, r.Node) && s.Lives[r.Node] == r.Life
}

// Members returns Replicas with their lives.
func (s Shard) Members() []Replica {
	out := make([]Replica, 0, len(s.Replicas))
	for _, n := range s.Replicas {
		out = append(out, Replica{n, s.Lives[n]})
	}
	return out
}

// HostedPartition is a partition as the node that hosts it needs to know it.
type HostedPartition struct {
	ID        uint64
	TopicID   uint64
	TopicName string
	Index     uint32
	// Retention has no bounds where the topic's policy does not ask for them.
	Retention Retention
	// Cleanup has all fields set if the topic is compacted, and else none.
	Cleanup Cleanup
}

// hosted returns what nodes are told of how a topic is kept.
func (t Topic) hosted() (r Retention, c Cleanup) {
	if t.Cleanup.Policy != PolicyCompact {
		r = t.Retention
	}
	if t.Cleanup.Policy.Compact() {
		c = t.Cleanup.withDefaults()
	}
	return r, c
}

// HostedShard is a shard with everything a node needs to host it.
type HostedShard struct {
	Shard                        // its Version is also that of its partitions
	Partitions []HostedPartition // ascending by id
}

// Catalog is the state. It is not safe for concurrent use; what its queries
// return is never changed afterwards and must not be modified.
type Catalog struct {
	version   uint64
	now       int64
	clusterID string // "" until InitCluster
	settings  Settings
	keys      []Key // ascending by id
	activeKey uint32
	balancing uint64 // version at which a rebalance was asked for; 0: none is under way
	nodes     map[uint64]Node
	topics    map[uint64]Topic
	parts     map[uint64]Partition
	shards    map[uint64]Shard

	acls       []acl.Rule // in their order; replaced, never changed
	aclVersion uint64     // version at which they last changed

	// The last id handed out of each kind.
	lastKey       uint32
	lastTopic     uint64
	lastPartition uint64
	lastShard     uint64 // starts below FirstShardID

	// Derived from the above; not in snapshots.
	topicIDs map[string]uint64
	names    []string            // of topics, ascending
	byShard  map[uint64][]uint64 // partition ids, ascending; private to this struct
}

// New returns an empty catalogue that awaits InitCluster.
func New() *Catalog {
	return &Catalog{
		nodes:    map[uint64]Node{},
		topics:   map[uint64]Topic{},
		parts:    map[uint64]Partition{},
		shards:   map[uint64]Shard{},
		topicIDs: map[string]uint64{},
		byShard:  map[uint64][]uint64{},

		lastShard: FirstShardID - 1,
	}
}

// Apply executes one command. It is total: whatever the command, the answer is
// a Result, and the state changed only if the result says so.
func (c *Catalog) Apply(cmd Command) Result {
	r := c.dispatch(cmd)
	if r.Changed {
		c.version++
	}
	r.Version = c.version
	return r
}

func (c *Catalog) dispatch(cmd Command) Result {
	if cmd == nil {
		return refuse(CodeInvalidCommand)
	}
	// Leaders' clocks differ; the machine's time never goes back.
	c.now = max(c.now, cmd.time())
	if init, ok := cmd.(InitCluster); ok {
		return c.initCluster(init)
	}
	if c.clusterID == "" {
		return refuse(CodeNotInitialized)
	}
	switch cmd := cmd.(type) {
	case UpdateSettings:
		return c.updateSettings(cmd)
	case AddKey:
		return c.addKey(cmd)
	case ActivateKey:
		return c.activateKey(cmd)
	case RemoveKey:
		return c.removeKey(cmd)
	case RegisterNode:
		return c.registerNode(cmd)
	case UnregisterNode:
		return c.unregisterNode(cmd)
	case CreateTopic:
		return c.createTopic(cmd)
	case CreatePartitions:
		return c.createPartitions(cmd)
	case AlterTopic:
		return c.alterTopic(cmd)
	case DeleteTopic:
		return c.deleteTopic(cmd)
	case DrainNode:
		return c.drainNode(cmd)
	case LoseDisk:
		return c.loseDisk(cmd)
	case LoseReplica:
		return c.loseReplica(cmd)
	case MoveReplica:
		return c.moveReplica(cmd)
	case CancelMove:
		return c.cancelMove(cmd)
	case ReportMembers:
		return c.reportMembers(cmd)
	case Rebalance:
		return c.rebalance(cmd)
	case EndRebalance:
		return c.endRebalance(cmd)
	case AddACLs:
		return c.addACLs(cmd)
	case RemoveACLs:
		return c.removeACLs(cmd)
	case DrainShard:
		return c.drainShard(cmd)
	case RemoveShard:
		return c.removeShard(cmd)
	default:
		return refuse(CodeInvalidCommand)
	}
}

// Version returns the number of effective changes so far.
func (c *Catalog) Version() uint64 { return c.version }

// Now returns the machine's time, ms since the Unix epoch.
func (c *Catalog) Now() int64 { return c.now }

// ClusterID returns the cluster's id, "" before InitCluster.
func (c *Catalog) ClusterID() string { return c.clusterID }

// Settings returns the settings with their defaults filled in, except a
// DefaultReplicationFactor of 0, which depends on the number of nodes.
func (c *Catalog) Settings() Settings {
	s := c.settings
	s.ShardsPerNode = max(s.ShardsPerNode, 1)
	s.DefaultPartitions = max(s.DefaultPartitions, 1)
	return s
}

// Keys returns the keys that verify tokens, ascending by id.
func (c *Catalog) Keys() []Key { return slices.Clone(c.keys) }

// ActiveKey returns the key that signs new tokens; false before InitCluster.
func (c *Catalog) ActiveKey() (Key, bool) { return c.Key(c.activeKey) }

// Key returns the key with this id.
func (c *Catalog) Key(id uint32) (Key, bool) {
	if i := c.keyIndex(id); i >= 0 {
		return c.keys[i], true
	}
	return Key{}, false
}

func (c *Catalog) keyIndex(id uint32) int {
	return slices.IndexFunc(c.keys, func(k Key) bool { return k.ID == id })
}

// Node returns the node with this id.
func (c *Catalog) Node(id uint64) (Node, bool) {
	n, ok := c.nodes[id]
	return n, ok
}

// Nodes returns the registered nodes, ascending by id.
func (c *Catalog) Nodes() []Node {
	out := make([]Node, 0, len(c.nodes))
	for _, id := range slices.Sorted(maps.Keys(c.nodes)) {
		out = append(out, c.nodes[id])
	}
	return out
}

// Balancing returns the version of the catalogue at which the rebalance that is under
// way was asked for; 0: none is.
func (c *Catalog) Balancing() uint64 { return c.balancing }

// Topic returns the topic with this name.
func (c *Catalog) Topic(name string) (Topic, bool) { return c.TopicByID(c.topicIDs[name]) }

// TopicByID returns the topic with this id.
func (c *Catalog) TopicByID(id uint64) (Topic, bool) {
	t, ok := c.topics[id]
	return t, ok
}

// TopicCount returns the number of topics.
func (c *Catalog) TopicCount() int { return len(c.topics) }

// Topics returns up to limit topics whose names come after the given one,
// ascending by name, and whether there are more. Start with "".
func (c *Catalog) Topics(after string, limit int) (page []Topic, more bool) {
	i, found := slices.BinarySearch(c.names, after)
	if found {
		i++
	}
	end := min(len(c.names), i+max(limit, 0))
	for _, name := range c.names[i:end] {
		page = append(page, c.topics[c.topicIDs[name]])
	}
	return page, end < len(c.names)
}

// Partition returns the partition with this id.
func (c *Catalog) Partition(id uint64) (Partition, bool) {
	p, ok := c.parts[id]
	return p, ok
}

// PartitionCount returns the number of partitions of the cluster.
func (c *Catalog) PartitionCount() int { return len(c.parts) }

// Resolve returns the partition with this index of the topic with this name.
func (c *Catalog) Resolve(topic string, index uint32) (Partition, bool) {
	t, ok := c.Topic(topic)
	if !ok || uint64(index) >= uint64(len(t.Partitions)) {
		return Partition{}, false
	}
	return c.Partition(t.Partitions[index])
}

// HasPartition reports whether the partition exists and lives in this shard.
func (c *Catalog) HasPartition(shard, partition uint64) bool {
	p, ok := c.parts[partition]
	return ok && p.ShardID == shard
}

// HasShard reports whether the shard exists.
func (c *Catalog) HasShard(shard uint64) bool {
	_, ok := c.shards[shard]
	return ok
}

// Shard returns the shard with this id.
func (c *Catalog) Shard(id uint64) (Shard, bool) {
	s, ok := c.shards[id]
	return s, ok
}

// Shards returns all shards, ascending by id.
func (c *Catalog) Shards() []Shard {
	out := make([]Shard, 0, len(c.shards))
	for _, id := range slices.Sorted(maps.Keys(c.shards)) {
		out = append(out, c.shards[id])
	}
	return out
}

// PartitionsIn returns how many partitions live in the shard.
func (c *Catalog) PartitionsIn(shard uint64) int { return len(c.byShard[shard]) }

// Hosted returns a shard with its partitions.
func (c *Catalog) Hosted(shard uint64) (HostedShard, bool) {
	s, ok := c.shards[shard]
	if !ok {
		return HostedShard{}, false
	}
	h := HostedShard{Shard: s}
	for _, id := range c.byShard[shard] {
		p := c.parts[id]
		t := c.topics[p.TopicID]
		hosted := HostedPartition{ID: id, TopicID: p.TopicID, TopicName: t.Name, Index: p.Index}
		hosted.Retention, hosted.Cleanup = t.hosted()
		h.Partitions = append(h.Partitions, hosted)
	}
	return h, true
}

// ShardsOf returns what a node must host, ascending by shard id. That a shard is not
// listed does not say that the node may delete what it has of it: see [Shard.Has].
func (c *Catalog) ShardsOf(node uint64) []HostedShard {
	var out []HostedShard
	for _, id := range slices.Sorted(maps.Keys(c.shards)) {
		if _, member := c.shards[id].Member(node); member {
			h, _ := c.Hosted(id)
			out = append(out, h)
		}
	}
	return out
}
