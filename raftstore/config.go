package raftstore

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/oncelog/oncelog/internal/task"
)

// GroupID names a Raft group; the same on every member, never reused.
type GroupID uint64

// NodeID names a process, from 1 to MaxNodeID, or, with a life in its upper half, a
// member of a group: see NodeID.WithLife. Where a Leader is told it is the process.
type NodeID uint64

// MaxNodeID is the highest id of a process.
const MaxNodeID NodeID = 1<<32 - 1

// WithLife returns the id under which a process is a member of a group in one of
// its lives there, 0 to 2^32-1. The founders of a group are in their life 0. A
// process that left a group, or lost what it had of it, and comes back to it is
// another member, with a life that it never had in this group: nothing that is
// said to, or was promised by, the member of before counts for this one. A member
// that forgot its votes and its log under its old name could be counted twice.
func (n NodeID) WithLife(life uint32) NodeID { return n.Process() | NodeID(life)<<32 }

// Process returns the process of a member.
func (n NodeID) Process() NodeID { return n & MaxNodeID }

// Life returns the life of a member.
func (n NodeID) Life() uint32 { return uint32(n >> 32) }

// Entry is one committed command.
type Entry struct {
	Index, Term uint64
	// Data is the command as proposed. It must not be modified and is valid
	// for as long as it is referenced.
	Data []byte
}

// Machine is the replicated state of a group. Its methods are called by one
// goroutine, the owner loop, and must be quick: every group of the process
// waits meanwhile.
type Machine interface {
	// Apply applies one command and returns the result for the local
	// proposer, if there is one. Entries come in index order; entries that
	// Raft writes for itself are left out, so indexes have gaps. An error means that
	// the entry cannot be read here, while other members may have applied it: the
	// store ends, as skipping it would make this member differ from them for ever.
	// The state must be as it was before.
	Apply(e Entry, rows RowWriter) (any, error)
	// Snapshot encodes the state after the last applied entry. The result is
	// not modified afterwards.
	Snapshot() ([]byte, error)
	// Restore replaces the state by one that Snapshot returned after the entry
	// at index. Index 0 with no data is the initial state.
	Restore(index uint64, data []byte) error
}

// RowWriter changes the rows of one group. Writes become visible to [Rows]
// together, before the proposer of the entry is answered. They must depend
// only on the entry and the machine's state: after a restart the entries
// behind the last checkpoint are applied again over rows already there.
// Arguments are copied.
type RowWriter interface {
	Set(key, value []byte)
	Delete(key []byte)
	// DeleteRange deletes the keys in [lo, hi).
	DeleteRange(lo, hi []byte)
}

// Rows reads the rows of one group. It is safe for concurrent use. Right after
// a restart rows may be ahead of the machine, which applies the same entries
// again: bound every read by the machine's state.
type Rows interface {
	// Get returns a copy of the value at key.
	Get(key []byte) (value []byte, ok bool, err error)
	// Scan calls fn for the rows in [lo, hi) in key order until it returns
	// false; a nil hi is the end. The slices are valid only during the call.
	Scan(lo, hi []byte, fn func(key, value []byte) bool) error
	// ScanReverse is Scan from the last row below hi downwards to lo.
	ScanReverse(lo, hi []byte, fn func(key, value []byte) bool) error
}

// Leadership describes who leads a group as seen by this node.
type Leadership struct {
	Leader   NodeID // 0: unknown
	Term     uint64
	IsLeader bool
	// Ready is true when this node leads and has applied an entry of its own
	// term, that is, when its machine has seen everything that was committed
	// before it was elected.
	Ready bool
}

// GroupConfig describes one group on this node.
type GroupConfig struct {
	ID GroupID
	// Self is the member that this node is: Config.NodeID with a life, which is above
	// 0 only with Join. Default: Config.NodeID. What this node has of an earlier life
	// is deleted: with a later one the caller says that the earlier is no member any
	// more, and that a majority of the members know it. An earlier one than what
	// there is of is refused with ErrOtherLife.
	Self NodeID
	// Members are the voters. They must be the same on all members and are
	// read only when the group is created for the first time.
	Members []NodeID
	// Join, instead of Members, is for a node that becomes a member of a group that
	// there is: it knows no member, never campaigns, and waits for a leader that
	// adds it with Group.AddLearner.
	Join    bool
	Machine Machine
	// RetainLog says that the log is the data: a checkpoint only shortens
	// replay, entries go away only by Group.Trim, and a follower that needs some
	// that are gone gets all that are left. Without it the log is compacted behind
	// a checkpoint, and such a follower gets the checkpoint and the rows.
	RetainLog bool
	// SnapshotEntries and SnapshotBytes say after how many applied entries, or
	// bytes of them, a checkpoint is written; one of more than 1 MiB not before half
	// as many bytes were applied as it has. Defaults: 10,000 and 64 MiB.
	// Smaller means faster restarts and more time spent in Machine.Snapshot.
	SnapshotEntries uint64
	SnapshotBytes   uint64
	// TailEntries is how many entries stay in the log behind a checkpoint so
	// that a follower that was briefly away needs no snapshot. Default: half
	// of SnapshotEntries. Up to four times as many stay for a follower that is
	// catching up.
	TailEntries uint64
	// OnLeadership is called by the owner loop after every change. It must
	// return at once.
	OnLeadership func(Leadership)
	// OnRemoved is called once by the owner loop when this node is no member of the
	// group any more: proposals and reads get ErrNotMember, and what remains to be
	// done is Store.RemoveGroup, from another task, for it waits for the loop. A
	// node that was away at that time learns of it when it is back, if anybody is
	// left whom it knows. Until it is
	// called the others may still need this node's vote: do not delete the group
	// before.
	OnRemoved func()
}

// Config describes a store. Zero values take the stated defaults.
type Config struct {
	NodeID NodeID
	// Log is the durable store. The store owns it and closes it.
	Log LogStore
	// Transport sends to the other nodes. Nil is right for a cluster of one.
	Transport Transport
	// Runtime runs the store's tasks, and those that wait in its methods; nil:
	// the machine. Of the log's methods only Commit may wait through it. Raft
	// draws its election timeouts from crypto/rand.Reader: a simulator that
	// wants to replay a seed replaces that variable.
	Runtime *task.Runtime
	// Manual leaves out the tasks and the ticks: the caller drives the store
	// with Tick and Turn from one goroutine. For tests; the blocking methods of
	// Group then need somebody else to call Turn.
	Manual bool
	// TickInterval is the length of a tick. Default 50 ms.
	TickInterval time.Duration
	// ElectionTicks is how many ticks without a leader start an election (the
	// real timeout is drawn between once and twice that). Default 10: with the
	// default tick a dead leader is replaced within about a second. At least five
	// times HeartbeatTicks.
	ElectionTicks int
	// HeartbeatTicks is how many ticks pass between heartbeats. Default 2.
	HeartbeatTicks int
	// MaxProposalBytes bounds one proposal. Default 8 MiB.
	MaxProposalBytes int
	// MaxQueuedProposalBytes bounds, per group, proposals not yet handed to
	// Raft. Beyond it proposals get ErrOverloaded. Default 64 MiB.
	MaxQueuedProposalBytes int64
	// MaxUncommittedBytes bounds, per group, what a leader holds that no
	// majority has yet. Beyond it proposals get ErrOverloaded. Default 128 MiB.
	MaxUncommittedBytes uint64
	// MaxInboundBytes bounds messages received and not yet taken by the loop.
	// What exceeds it is dropped; Raft repeats it. Default 128 MiB.
	MaxInboundBytes int64
	// MaxInflightMsgs bounds the appends a leader sends a follower ahead of
	// its answers. Default 256.
	MaxInflightMsgs int
	// MaxSizePerMsg bounds the entries in one message in bytes, except that
	// one entry always fits. Default 1 MiB.
	MaxSizePerMsg uint64
	// TailCacheBytes bounds, per group, the recent entries kept in memory.
	// Default 4 MiB.
	TailCacheBytes int
	// SnapshotTimeout is how long a follower that is sent a snapshot may take no
	// part of it before the sender gives up and starts over, and how long one that
	// receives it waits for the next part. Default 60 s.
	SnapshotTimeout time.Duration
	// SnapshotBytesPerSecond bounds what this node sends of all snapshots
	// together, so that catching up a follower leaves the disk and the network to
	// the others. Default 64 MiB/s.
	SnapshotBytesPerSecond int64
	// SnapshotChunkBytes is the size of one part of a snapshot, of which one is
	// under way at a time. Default 1 MiB, at most MaxSnapshotChunkBytes.
	SnapshotChunkBytes int
	// MinFreeBytes is the low-water mark of the disk: below it proposals get
	// ErrDiskLow, and leaderships are offered to members with room. It must leave room for the log of all groups to commit
	// what is in flight. Default 256 MiB; negative turns the check off.
	MinFreeBytes int64
	// StallTimeout is how long one write may take before OnFatal is called
	// with ErrDiskStalled. Default 20 s; negative turns the watchdog off.
	StallTimeout time.Duration
	Logger       *slog.Logger
	// OnFatal is called once, when the store can not go on (failed write,
	// stalled disk, failed machine). The process should exit: a node must not
	// linger with state it may have lost. It is called from a task of its own,
	// or inline when Manual is set.
	OnFatal func(error)
}

func (c Config) withDefaults() (Config, error) {
	def(&c.TickInterval, 50*time.Millisecond)
	def(&c.ElectionTicks, 10)
	def(&c.HeartbeatTicks, 2)
	def(&c.MaxProposalBytes, 8<<20)
	def(&c.MaxQueuedProposalBytes, 64<<20)
	def(&c.MaxUncommittedBytes, 128<<20)
	def(&c.MaxInboundBytes, 128<<20)
	def(&c.MaxInflightMsgs, 256)
	def(&c.MaxSizePerMsg, 1<<20)
	def(&c.TailCacheBytes, 4<<20)
	def(&c.SnapshotTimeout, 60*time.Second)
	def(&c.SnapshotBytesPerSecond, 64<<20)
	def(&c.SnapshotChunkBytes, 1<<20)
	def(&c.MinFreeBytes, 256<<20)
	def(&c.StallTimeout, 20*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.OnFatal == nil {
		c.OnFatal = func(error) {}
	}
	if c.Transport == nil {
		c.Transport = noTransport{}
	}
	switch {
	case c.NodeID == 0:
		return c, fmt.Errorf("raftstore: NodeID must be above 0")
	case c.NodeID > MaxNodeID:
		return c, fmt.Errorf("raftstore: NodeID %d must be at most %d", c.NodeID, MaxNodeID)
	case c.Log == nil:
		return c, fmt.Errorf("raftstore: Log is required")
	case c.HeartbeatTicks < 0 || c.ElectionTicks < 5*c.HeartbeatTicks:
		return c, fmt.Errorf("raftstore: ElectionTicks %d must be at least five times HeartbeatTicks %d",
			c.ElectionTicks, c.HeartbeatTicks)
	case c.SnapshotBytesPerSecond < 0:
		return c, fmt.Errorf("raftstore: SnapshotBytesPerSecond %d must be above 0", c.SnapshotBytesPerSecond)
	case c.SnapshotChunkBytes < 0 || c.SnapshotChunkBytes > MaxSnapshotChunkBytes:
		return c, fmt.Errorf("raftstore: SnapshotChunkBytes %d must be above 0 and at most %d", c.SnapshotChunkBytes, MaxSnapshotChunkBytes)
	case c.MaxProposalBytes < 0 || uint64(c.MaxProposalBytes) > c.MaxUncommittedBytes:
		return c, fmt.Errorf("raftstore: MaxProposalBytes %d must not exceed MaxUncommittedBytes %d",
			c.MaxProposalBytes, c.MaxUncommittedBytes)
	}
	return c, nil
}

func (c GroupConfig) withDefaults(self NodeID) (GroupConfig, error) {
	def(&c.SnapshotEntries, 10_000)
	def(&c.SnapshotBytes, 64<<20)
	def(&c.TailEntries, c.SnapshotEntries/2)
	def(&c.Self, self)
	c.Members = slices.Sorted(slices.Values(c.Members))
	if c.OnLeadership == nil {
		c.OnLeadership = func(Leadership) {}
	}
	if c.OnRemoved == nil {
		c.OnRemoved = func() {}
	}
	switch {
	case c.ID == 0:
		return c, fmt.Errorf("raftstore: group id must be above 0")
	case c.Machine == nil:
		return c, fmt.Errorf("raftstore: group %d has no machine", c.ID)
	case c.Self.Process() != self || c.Self != self && !c.Join:
		return c, fmt.Errorf("raftstore: group %d: node %d cannot be its member %d, or has to Join", c.ID, self, c.Self)
	case c.Join && len(c.Members) > 0:
		return c, fmt.Errorf("raftstore: group %d: Join with Members %v", c.ID, c.Members)
	case c.Join:
	case len(c.Members) > MaxMembers:
		return c, fmt.Errorf("raftstore: group %d has %d members, limit is %d", c.ID, len(c.Members), MaxMembers)
	case !slices.Contains(c.Members, self):
		return c, fmt.Errorf("raftstore: node %d is not a member of group %d %v", self, c.ID, c.Members)
	case c.Members[0] == 0 || len(slices.Compact(slices.Clone(c.Members))) != len(c.Members):
		return c, fmt.Errorf("raftstore: group %d has a zero or repeated member %v", c.ID, c.Members)
	}
	return c, nil
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
