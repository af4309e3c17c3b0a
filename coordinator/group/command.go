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
	// MaxMembers bounds the members of a group.
	MaxMembers = 10_000
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

// LeaveGroup removes a member, whose partitions nobody owns then. Committed
// offsets stay.
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

func (c AssignPartitions) time() int64 { return c.At }
func (c LeaveGroup) time() int64       { return c.At }
func (c CommitOffsets) time() int64    { return c.At }
func (c DeleteGroup) time() int64      { return c.At }
func (c DeleteOffsets) time() int64    { return c.At }
func (c ResetOffsets) time() int64     { return c.At }
func (c RemovePartitions) time() int64 { return c.At }
