package group

// Limits of consumer groups. Replicas decide by them, so they are part of the
// meaning of a logged command: raising one is safe only when every replica
// runs the raised value before a command needs it.
const (
	// MaxCommandBytes bounds an encoded command or list of commits. A leader
	// refuses to propose anything longer; the decoders refuse to read it.
	MaxCommandBytes = 4 << 20
	// MaxGroupIDBytes bounds a group id, as Kafka bounds topic names.
	MaxGroupIDBytes = 249
	// MaxMemberIDBytes bounds a member id.
	MaxMemberIDBytes = 249
	// MaxClientIDBytes and MaxHostBytes bound what a member tells of itself.
	MaxClientIDBytes = 249
	MaxHostBytes     = 255
	// MaxMetadataBytes bounds the metadata of an offset, as Kafka's
	// offset.metadata.max.bytes does.
	MaxMetadataBytes = 4096
	// MaxPartitions bounds the partitions of one command, and those of one
	// member.
	MaxPartitions = 10_000
	// MaxCommits bounds the commits that one transaction carries.
	MaxCommits = 64
	// MaxMembers bounds the members of a group that name their partitions.
	MaxMembers = 10_000
	// MaxSubscribers bounds the members of a group that subscribe to topics: one
	// command shares out everything among them.
	MaxSubscribers = 1_000
	// MaxInstanceIDBytes bounds the id of a static member.
	MaxInstanceIDBytes = 249
	// MaxTopics and MaxTopicBytes bound a subscription. Its topics may have
	// MaxPartitions partitions together when it is made, and more when the topics
	// grow later.
	MaxTopics     = 1_000
	MaxTopicBytes = 249
	// MaxOwned bounds what a member can own, however its topics grow: it is above
	// what the catalogue takes.
	MaxOwned = 1_000_000
	// MaxExpired bounds the members that one command removes.
	MaxExpired = 1_000
	// MinSessionTimeout, MaxSessionTimeout and MaxRebalanceTimeout bound the
	// timeouts of a subscription, in milliseconds.
	MinSessionTimeout   = 500
	MaxSessionTimeout   = 30 * 60 * 1000
	MaxRebalanceTimeout = 60 * 60 * 1000
	// MaxGroups bounds the groups.
	MaxGroups = 100_000
	// MaxOffsets bounds the committed offsets of all groups together. A command
	// that starts below it may end above it by its own partitions.
	MaxOffsets = 4_000_000
)

// Catalog tells which partitions exist. A command gets it as it is at the
// command's place in the log.
type Catalog interface {
	// HasPartition reports whether the partition exists.
	HasPartition(partition uint64) bool
	// TopicPartitions returns the ids of a topic's partitions in the order of
	// their numbers; none if there is no such topic. The caller does not change
	// them.
	TopicPartitions(topic string) []uint64
}

// TxnRef names a transaction. The zero TxnRef means none: numbers start at 1.
type TxnRef struct {
	ProducerID uint64
	Epoch      uint32
	Number     uint64
}

// Entry is the new position of a group in one partition.
type Entry struct {
	Partition uint64
	Offset    uint64 // the next offset to read
	// Expected is the committed offset that the member knew last. Without
	// HasExpected a member expects that none is committed, and a commit
	// without a member expects nothing in particular.
	Expected    uint64
	HasExpected bool
	Metadata    string // up to MaxMetadataBytes, kept and returned as it is
}

// Commit is what one member commits in one group.
type Commit struct {
	Group string
	// Member is empty for a consumer without membership, which may commit in
	// partitions that nobody owns.
	Member     string
	Generation uint64 // of the AssignPartitions that the records were read under
	Entries    []Entry
}

// Command is one of the command types of this package. The set is closed.
type Command interface {
	// time returns the leader's stamp, in milliseconds since the Unix epoch.
	time() int64
}

// AssignPartitions makes a member own exactly these partitions. It takes them
// from other members and gives up those it does not name. The group and the
// member are made when they do not exist. The generation rises if any
// ownership changes; what a member keeps, it keeps since its old generation.
type AssignPartitions struct {
	At         int64 // leader's time, ms since the Unix epoch
	Group      string
	Member     string // unique to one life of one consumer
	ClientID   string // shown to operators
	Host       string // shown to operators
	Partitions []uint64
}

// Subscribe makes a member that is given its partitions, or changes what it
// asks for. The group is made when it does not exist. A member with the instance
// id of another one is that one's next life: it takes its place and its
// partitions, and nothing else moves.
type Subscribe struct {
	At               int64
	Group            string
	Member           string   // unique to one life of one consumer
	Instance         string   // names a static member; empty: a dynamic one
	ClientID         string   // shown to operators
	Host             string   // shown to operators
	Topics           []string // 1 to MaxTopics; they need not exist yet
	SessionTimeout   int64    // ms without a sign of life after which the member is lost
	RebalanceTimeout int64    // ms within which it has to let go of what it is asked for
	Assignor         Assignor
}

// ReleasePartitions is a member's word that it has stopped reading partitions
// which it was asked for. Whatever else it names, or owns since a generation that
// it did not know, stays.
type ReleasePartitions struct {
	At         int64
	Group      string
	Member     string
	Generation uint64 // that the member knew
	Partitions []uint64
}

// LostMember names one life of a member.
type LostMember struct {
	Group  string
	Member string
	Joined uint64 // generation in which it joined
}

// ExpireMembers removes members that a leader has not heard of for their session
// timeout, or that did not let go of partitions within their rebalance timeout.
// Members that are gone, or have joined again, are passed over.
type ExpireMembers struct {
	At      int64
	Members []LostMember
}

// TopicsChanged shares out anew what groups read of these topics.
type TopicsChanged struct {
	At     int64
	Topics []string
}

// LeaveGroup removes a member, whose partitions nobody owns then, or, in a group
// that subscribes, those that they are meant for next. Committed offsets stay.
type LeaveGroup struct {
	At     int64
	Group  string
	Member string
}

// CommitOffsets moves offsets without a transaction.
type CommitOffsets struct {
	At     int64
	Commit Commit
}

// DeleteGroup forgets a group without members, its offsets included.
type DeleteGroup struct {
	At    int64
	Group string
}

// DeleteOffsets forgets committed offsets of a group.
type DeleteOffsets struct {
	At         int64
	Group      string
	Partitions []uint64
	Force      bool // also of partitions that a member owns
}

// ResetOffsets sets committed offsets of a group, which is made when it does
// not exist. Expected of an entry is not looked at.
type ResetOffsets struct {
	At      int64
	Group   string
	Entries []Entry
	Force   bool // also of partitions that a member owns; its next commit is stale
}

// RemovePartitions forgets everything about partitions that were deleted, in
// all groups.
type RemovePartitions struct {
	At         int64
	Partitions []uint64 // any number: a topic is deleted as a whole
}

func (c AssignPartitions) time() int64  { return c.At }
func (c LeaveGroup) time() int64        { return c.At }
func (c Subscribe) time() int64         { return c.At }
func (c ReleasePartitions) time() int64 { return c.At }
func (c ExpireMembers) time() int64     { return c.At }
func (c TopicsChanged) time() int64     { return c.At }
func (c CommitOffsets) time() int64     { return c.At }
func (c DeleteGroup) time() int64       { return c.At }
func (c DeleteOffsets) time() int64     { return c.At }
func (c ResetOffsets) time() int64      { return c.At }
func (c RemovePartitions) time() int64  { return c.At }
