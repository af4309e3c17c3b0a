package raftstore

import (
	"errors"
	"sync/atomic"
	"time"
)

// Metrics are counters since the store was opened.
type Metrics struct {
	// Proposals were accepted for the queue of a group.
	Proposals uint64
	// Entries were appended to the local log, as leader or follower.
	Entries uint64
	// Applied entries were committed and applied, Raft's own included.
	Applied uint64
	// Batches were written to the log store; Syncs of them were synced.
	Batches, Syncs uint64
	// Fsync is how long the synced writes took; its count is Syncs.
	Fsync Histogram
	// Commit is how long proposals took that were made here and applied here: from
	// the turn of the loop that took them to the one that answers.
	Commit Histogram
	// Writing is how long the write that is under way has taken until now; 0: none is.
	Writing time.Duration
	// LeaderChanges are the times at which this node saw a group get a leader that
	// it had not before.
	LeaderChanges uint64
	// Refused are proposals that surely had no effect.
	Refused Refused
	// MessagesSent left in FramesSent frames; MessagesDropped found the peer
	// unreachable; InboundDropped did not fit into MaxInboundBytes.
	MessagesSent, FramesSent, MessagesDropped uint64
	MessagesReceived, InboundDropped          uint64
	// ReadRounds are rounds of heartbeats made for ReadIndex.
	ReadRounds uint64
	// Checkpoints were written by this node.
	Checkpoints                      uint64
	SnapshotsSent, SnapshotsReceived uint64
	// SnapshotBytesSent counts parts of snapshots that were read to be sent,
	// SnapshotBytesReceived those that were staged.
	SnapshotBytesSent, SnapshotBytesReceived uint64
}

// Refused are counters of refused proposals, by the reason.
type Refused struct {
	NotLeader  uint64 // *NotLeaderError: the caller asks the leader
	Overloaded uint64 // ErrOverloaded, but for the disk: too much is queued or not committed
	DiskLow    uint64 // ErrDiskLow: too little room on this node's disk
	Invalid    uint64 // empty or too large
	Stopped    uint64 // the store, or the group, is going away or is gone
}

// counters is Metrics while it is being counted.
type counters struct {
	Proposals, Entries, Applied, Batches      atomic.Uint64
	MessagesSent, FramesSent, MessagesDropped atomic.Uint64
	MessagesReceived, InboundDropped          atomic.Uint64
	ReadRounds, Checkpoints, LeaderChanges    atomic.Uint64
	SnapshotsSent, SnapshotsReceived          atomic.Uint64
	SnapshotBytesSent, SnapshotBytesReceived  atomic.Uint64

	fsync, committed                                 histogram
	notLeader, overloaded, diskLow, invalid, stopped atomic.Uint64
}

// refused counts a proposal that is answered with err.
func (c *counters) refused(err error) {
	var notLeader *NotLeaderError
	switch {
	case errors.As(err, &notLeader):
		c.notLeader.Add(1)
	case errors.Is(err, ErrDiskLow): // which is an ErrOverloaded, too
		c.diskLow.Add(1)
	case errors.Is(err, ErrOverloaded):
		c.overloaded.Add(1)
	case errors.Is(err, ErrProposalEmpty), errors.Is(err, ErrProposalTooLarge):
		c.invalid.Add(1)
	default:
		c.stopped.Add(1)
	}
}

func (c *counters) metrics() Metrics {
	fsync := c.fsync.read()
	return Metrics{
		Proposals: c.Proposals.Load(), Entries: c.Entries.Load(), Applied: c.Applied.Load(),
		Batches: c.Batches.Load(), Syncs: fsync.Count, Fsync: fsync, Commit: c.committed.read(),
		LeaderChanges: c.LeaderChanges.Load(),
		Refused: Refused{
			NotLeader: c.notLeader.Load(), Overloaded: c.overloaded.Load(), DiskLow: c.diskLow.Load(),
			Invalid: c.invalid.Load(), Stopped: c.stopped.Load(),
		},
		MessagesSent: c.MessagesSent.Load(), FramesSent: c.FramesSent.Load(), MessagesDropped: c.MessagesDropped.Load(),
		MessagesReceived: c.MessagesReceived.Load(), InboundDropped: c.InboundDropped.Load(),
		ReadRounds: c.ReadRounds.Load(), Checkpoints: c.Checkpoints.Load(),
		SnapshotsSent: c.SnapshotsSent.Load(), SnapshotsReceived: c.SnapshotsReceived.Load(),
		SnapshotBytesSent: c.SnapshotBytesSent.Load(), SnapshotBytesReceived: c.SnapshotBytesReceived.Load(),
	}
}
