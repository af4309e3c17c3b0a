package raftstore

import "sync/atomic"

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
	// SyncNanos is the time spent in synced writes.
	SyncNanos uint64
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

// counters is Metrics while it is being counted.
type counters struct {
	Proposals, Entries, Applied, Batches, Syncs, SyncNanos atomic.Uint64
	MessagesSent, FramesSent, MessagesDropped              atomic.Uint64
	MessagesReceived, InboundDropped                       atomic.Uint64
	ReadRounds, Checkpoints                                atomic.Uint64
	SnapshotsSent, SnapshotsReceived                       atomic.Uint64
	SnapshotBytesSent, SnapshotBytesReceived               atomic.Uint64
}

func (c *counters) metrics() Metrics {
	return Metrics{
		Proposals: c.Proposals.Load(), Entries: c.Entries.Load(), Applied: c.Applied.Load(),
		Batches: c.Batches.Load(), Syncs: c.Syncs.Load(), SyncNanos: c.SyncNanos.Load(),
		MessagesSent: c.MessagesSent.Load(), FramesSent: c.FramesSent.Load(), MessagesDropped: c.MessagesDropped.Load(),
		MessagesReceived: c.MessagesReceived.Load(), InboundDropped: c.InboundDropped.Load(),
		ReadRounds: c.ReadRounds.Load(), Checkpoints: c.Checkpoints.Load(),
		SnapshotsSent: c.SnapshotsSent.Load(), SnapshotsReceived: c.SnapshotsReceived.Load(),
		SnapshotBytesSent: c.SnapshotBytesSent.Load(), SnapshotBytesReceived: c.SnapshotBytesReceived.Load(),
	}
}
