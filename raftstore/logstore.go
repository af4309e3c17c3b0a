package raftstore

import "go.etcd.io/raft/v3/raftpb"

// HardState is what Raft must not forget: the term, whom it voted for in it,
// and, as a hint, how far the log was committed.
type HardState struct {
	Term, Vote, Commit uint64
}

// Snapshot is a checkpoint of a machine after the entry (Index, Term).
type Snapshot struct {
	Index, Term uint64
	Data        []byte
}

// LogState is what a LogStore knows of a group when it is opened.
type LogState struct {
	Hard    HardState
	Members *raftpb.ConfState
	// Life is the last SetLife, 0 without one.
	Life uint32
	// CompactedIndex and CompactedTerm name the entry before the first one in
	// the log; 0 when nothing was compacted.
	CompactedIndex, CompactedTerm uint64
	// LastIndex is the last entry in the log, or CompactedIndex.
	LastIndex uint64
	// SnapshotIndex is the index of the stored checkpoint, 0 without one.
	SnapshotIndex uint64
	// Trim is the last SetTrim, 0 without one.
	Trim uint64
	// Staged says that something is staged.
	Staged bool
}

// LogStore keeps the logs, hard states, checkpoints and rows of many groups on
// one device. Commit is called by one goroutine; the reading methods are safe
// to call concurrently with it and see every batch whose Commit has returned.
type LogStore interface {
	// Groups lists the groups that exist, in order of their ids.
	Groups() ([]GroupID, error)
	// Load returns the state of a group; ok is false if there is none.
	Load(g GroupID) (state LogState, ok bool, err error)
	// NewBatch returns an empty batch.
	NewBatch() LogBatch
	// Commit writes the batch atomically and ends it. With sync, the batch and
	// every one before it are durable when Commit returns nil. Without, a
	// crash may lose it together with everything committed after it. After an
	// error nothing may be assumed and the store must not be used again.
	Commit(b LogBatch, sync bool) error
	// Entries returns entries from lo on, up to hi exclusive or maxBytes of
	// data, at least one. It fails with ErrCorrupt if one of them is missing.
	Entries(g GroupID, lo, hi, maxBytes uint64) ([]*raftpb.Entry, error)
	// Term returns the term of the entry at index.
	Term(g GroupID, index uint64) (uint64, error)
	// ReadEntry returns a copy of n bytes at pos of the entry's data, or of
	// what there is of them; n below 0 means up to the end.
	ReadEntry(g GroupID, index uint64, pos, n int) ([]byte, error)
	// Snapshot returns the stored checkpoint, or the zero value.
	Snapshot(g GroupID) (Snapshot, error)
	// Rows reads the rows of a group.
	Rows(g GroupID) Rows
	// View returns the group as it is now: what is written afterwards does not
	// show. Close it soon: it keeps the device from reusing space.
	View(g GroupID) (LogView, error)
	// FreeBytes returns the space left on the device.
	FreeBytes() (uint64, error)
	// Close releases the store. It does not sync.
	Close() error
}

// LogBatch collects changes for one atomic write. A batch is used by one
// goroutine. Arguments are copied or encoded at once, except that entries are
// never modified by anybody and may be kept.
type LogBatch interface {
	// Empty reports whether nothing was added.
	Empty() bool
	// Append adds consecutive entries and removes those behind the last of
	// them; last is the index of the group's last entry so far.
	Append(g GroupID, entries []*raftpb.Entry, last uint64)
	SetHardState(g GroupID, hs HardState)
	SetMembers(g GroupID, cs *raftpb.ConfState)
	// SetLife remembers in which life this node is a member; see [NodeID.WithLife].
	SetLife(g GroupID, life uint32)
	SetSnapshot(g GroupID, s Snapshot)
	// Compact removes the entries first..index; first is the index of the
	// group's first entry so far, term that of the entry at index.
	Compact(g GroupID, first, index, term uint64)
	// SetTrim remembers up to where the log may be compacted; see [Group.Trim].
	SetTrim(g GroupID, index uint64)
	// StageEntries and StageRow add, in order of index and key, to a log and
	// rows that are received beside those of the group. Nobody sees them, and
	// they change nothing, until Install.
	StageEntries(g GroupID, entries []*raftpb.Entry)
	StageRow(g GroupID, key, value []byte)
	// DiscardStaged removes what was staged.
	DiscardStaged(g GroupID)
	// Install replaces the group's log and rows by what was staged, which may be
	// nothing, as one change however much that is; index and term name the entry
	// before the first. What follows in the batch changes the new state.
	Install(g GroupID, index, term uint64)
	// DeleteGroup removes everything of the group.
	DeleteGroup(g GroupID)
	// Rows writes rows of the group.
	Rows(g GroupID) RowWriter
}

// LogView is a group at one moment. Its methods are like those of LogStore. It
// is used by one goroutine at a time.
type LogView interface {
	Load() (LogState, error)
	Snapshot() (Snapshot, error)
	Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error)
	Rows() Rows
	// Close ends the view. Closing the store ends it as well.
	Close() error
}
