package catalog

// Limits of the catalogue. Replicas decide by them, so they are part of the
// meaning of a logged command: raising one is safe only when every replica
// runs the raised value before a command needs it.
const (
	// MaxCommandBytes bounds an encoded command. A leader refuses to propose
	// anything longer; [DecodeCommand] refuses to read it.
	MaxCommandBytes = 1 << 20
	// MaxClusterIDBytes bounds the cluster id.
	MaxClusterIDBytes = 64
	// MaxAddressBytes bounds a node's client or peer address.
	MaxAddressBytes = 255
	// MaxInstanceBytes bounds the id of a node's data directory.
	MaxInstanceBytes = 64
	// MaxTopicNameBytes is Kafka's bound on topic names.
	MaxTopicNameBytes = 249
	// MaxNodes bounds the registered nodes.
	MaxNodes = 1_000
	// MaxTopics bounds the topics.
	MaxTopics = 100_000
	// MaxPartitionsPerTopic bounds the partitions of one topic.
	MaxPartitionsPerTopic = 10_000
	// MaxPartitions bounds the partitions of the cluster.
	MaxPartitions = 500_000
	// FirstShardID is the lowest id of a shard. A shard's id is that of its Raft
	// group, and group 1 is the coordinator's.
	FirstShardID = 2
	// MaxShards bounds the shards of the cluster.
	MaxShards = 10_000
	// MaxShardsPerNode bounds [Settings.ShardsPerNode].
	MaxShardsPerNode = 64
	// MaxReplicationFactor bounds the replicas of a shard: beyond nine a Raft
	// group only gets slower.
	MaxReplicationFactor = 9
	// MaxMovesPerNode bounds the moves that copy to a node at a time, and those that
	// take a replica from it: moves are to leave the node to its clients.
	MaxMovesPerNode = 4
	// MaxRetention bounds the numbers of a [Retention] and a [Cleanup].
	MaxRetention = 1 << 53
	// MaxKeys bounds the signing keys kept at a time.
	MaxKeys = 16
	// MinKeyBytes and MaxKeyBytes bound a key's secret. HMAC-SHA-256 gains
	// nothing from more than its block of 64 bytes.
	MinKeyBytes = 32
	MaxKeyBytes = 64
)

// Command is one of the command types of this package. The set is closed.
type Command interface {
	// time returns the leader's stamp, in milliseconds since the Unix epoch.
	time() int64
}

// Settings are the replicated defaults and the density of shards. The zero
// value of each field means its default.
type Settings struct {
	// ShardsPerNode is how many shards of each replication factor are wanted
	// per node; 0 means 1. More shards use more cores of a node but cost more
	// heartbeats and more marker entries per transaction.
	ShardsPerNode uint32
	// DefaultPartitions is the number of partitions of a topic created
	// without one; 0 means 1.
	DefaultPartitions uint32
	// DefaultReplicationFactor is the replication factor of a topic created
	// without one; 0 means three, or fewer where there are fewer nodes.
	DefaultReplicationFactor uint32
}

// InitCluster gives the cluster its id, its first signing key and its
// settings. The first one wins: a later one changes nothing and is answered OK
// with the id that holds.
type InitCluster struct {
	At        int64    // leader's time, ms since the Unix epoch
	ClusterID string   // 1 to MaxClusterIDBytes of [a-zA-Z0-9._-]
	KeySecret []byte   // MinKeyBytes to MaxKeyBytes random bytes; becomes key 1
	Settings  Settings // zero values mean defaults
}

// UpdateSettings replaces the settings. They act on later placements only.
type UpdateSettings struct {
	At       int64
	Settings Settings
}

// AddKey adds a signing key that verifies at once but does not sign before
// [ActivateKey], so that every shard can learn it first. Adding a secret that
// is there already is answered OK with its id.
type AddKey struct {
	At     int64
	Secret []byte // MinKeyBytes to MaxKeyBytes random bytes
}

// ActivateKey makes a key the one that signs new tokens.
type ActivateKey struct {
	At int64
	ID uint32
}

// RemoveKey forgets a key. Tokens signed with it stop being valid. The active
// key cannot be removed.
type RemoveKey struct {
	At int64
	ID uint32
}

// RegisterNode makes a partition node known, or updates its addresses.
type RegisterNode struct {
	At            int64
	ID            uint64 // > 0
	ClientAddress string // host:port that clients dial; 1 to MaxAddressBytes
	PeerAddress   string // host:port that other nodes dial; 1 to MaxAddressBytes
	// Instance is drawn once when the node's data directory is made. A node
	// that comes back with the same id and another instance has lost its disk:
	// as a voter that forgot its votes it could break Raft's promises, so it is
	// refused with CodeNodeMismatch until LoseDisk or UnregisterNode.
	Instance string // 1 to MaxInstanceBytes
	// Known says that the data directory has belonged to this cluster before. Where
	// there is no such node, it was removed, and is refused with CodeNodeRemoved: what
	// it has is of no use, and its owner is to know. With a new directory the id may
	// be used again: in whatever shard it gets it is another member than before.
	Known bool
}

// DrainNode makes a node one that gets nothing new and whose replicas and leaderships
// move away, or one like any other again.
type DrainNode struct {
	At   int64
	ID   uint64
	Undo bool
}

// LoseDisk says that the disk of a node is lost for ever. Its id may register with a
// new data directory; never again with the old one. Every replica of the node is lost
// and made anew, there or elsewhere. Refused with CodeNoMajority where more of a
// shard would be lost than it can stand.
type LoseDisk struct {
	At int64
	ID uint64
	// Instance: only if this is the node's data directory. "": whichever it is. A late
	// copy must not take the next one.
	Instance string
}

// LoseReplica says that the copy of one shard that a node has in one of its lives there
// is lost for ever, and the rest of its disk is not. It is made anew, there or elsewhere.
// One that is no member any more is no matter. Refused with CodeNoMajority as LoseDisk is.
type LoseReplica struct {
	At    int64
	Shard uint64
	Node  uint64
	Life  uint32
}

// MoveReplica begins to replace the replica of a shard on node From by one on node To.
// Where From's is lost To may be From itself. A repeated one is OK and changes nothing.
type MoveReplica struct {
	At       int64
	Shard    uint64
	From, To uint64
}

// CancelMove asks for the move of a shard to be undone as long as it is not done.
type CancelMove struct {
	At    int64
	Shard uint64
}

// ReportMembers is what the leader of a shard's group says of its members, settled
// and as of Index of its log. It ends a move.
type ReportMembers struct {
	At    int64
	Shard uint64
	Index uint64
	// Seen is the version of the shard that is in the shard's log: whatever leads it
	// from here on acts on none that is older.
	Seen    uint64
	Members []Replica // voters and learners, ascending by node, then life
}

// Rebalance asks for replicas to be spread evenly over the active nodes. One that is
// under way is answered OK.
type Rebalance struct {
	At int64
}

// EndRebalance says that the rebalance that was asked for at version Since is done. A
// late one changes nothing.
type EndRebalance struct {
	At    int64
	Since uint64
}

// UnregisterNode forgets a node that holds no replica of any shard. Instance is the
// data directory that is meant; "": the one there is. A node that has another one is
// another node: CodeUnknownNode.
type UnregisterNode struct {
	At       int64
	ID       uint64
	Instance string
}

// CreateTopic creates a topic and places its partitions.
type CreateTopic struct {
	At                int64
	Name              string   // see [ValidTopicName]
	Partitions        uint32   // 0 means Settings.DefaultPartitions
	ReplicationFactor uint32   // 0 means Settings.DefaultReplicationFactor
	Nodes             []uint64 // nodes believed alive; empty means all registered
	Retention         Retention
	Cleanup           Cleanup
}

// CreatePartitions raises the number of partitions of a topic to Total.
type CreatePartitions struct {
	At    int64
	Name  string
	Total uint32   // above the present number
	Nodes []uint64 // nodes believed alive; empty means all registered
}

// AlterTopic changes how a topic is kept.
type AlterTopic struct {
	At                  int64
	TopicID             uint64
	SetMillis, SetBytes bool // which fields of Retention are meant
	Retention           Retention
	// Which fields of Cleanup are meant.
	SetPolicy, SetMinLag, SetDeleteRetention bool
	Cleanup                                  Cleanup
	// CheckVersion says that nothing is to change unless the topic's
	// ConfigVersion is Version: a late copy must not undo what came after it.
	CheckVersion bool
	Version      uint64
}

// DeleteTopic removes a topic and its partitions at once. The result lists the
// removed partitions by shard, for whoever awaits markers there. With an ID the
// command can be repeated: a topic of that id which was deleted before is OK and
// changes nothing.
type DeleteTopic struct {
	At   int64
	Name string // "": only with ID
	ID   uint64 // 0: the topic that has the name
}

// DrainShard keeps new partitions out of a shard. It cannot be undone: a
// shard that is wanted again is a new shard.
type DrainShard struct {
	At int64
	ID uint64
}

// RemoveShard forgets a draining shard that has no partition left.
type RemoveShard struct {
	At int64
	ID uint64
}

func (c InitCluster) time() int64      { return c.At }
func (c UpdateSettings) time() int64   { return c.At }
func (c AddKey) time() int64           { return c.At }
func (c ActivateKey) time() int64      { return c.At }
func (c RemoveKey) time() int64        { return c.At }
func (c RegisterNode) time() int64     { return c.At }
func (c UnregisterNode) time() int64   { return c.At }
func (c CreateTopic) time() int64      { return c.At }
func (c CreatePartitions) time() int64 { return c.At }
func (c AlterTopic) time() int64       { return c.At }
func (c DeleteTopic) time() int64      { return c.At }
func (c DrainNode) time() int64        { return c.At }
func (c LoseDisk) time() int64         { return c.At }
func (c LoseReplica) time() int64      { return c.At }
func (c MoveReplica) time() int64      { return c.At }
func (c CancelMove) time() int64       { return c.At }
func (c ReportMembers) time() int64    { return c.At }
func (c Rebalance) time() int64        { return c.At }
func (c EndRebalance) time() int64     { return c.At }
func (c DrainShard) time() int64       { return c.At }
func (c RemoveShard) time() int64      { return c.At }
