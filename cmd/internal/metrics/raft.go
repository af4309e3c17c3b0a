package metrics

import (
	"fmt"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncelog/oncelog/internal/clock"
	"github.com/oncelog/oncelog/raftstore"
)

// maxListedGroups bounds the Raft groups that have metrics of their own: the ones
// with the lowest ids.
const maxListedGroups = 256

var nodeSection = &section{title: "Nodes", about: "Every node."}

var nodeInfo = nodeSection.gauge("node_info", "1, with the version of the program and the id of the cluster, which is empty until the node has joined one.",
	"version", "cluster_id")

var (
	clockOffset = nodeSection.gauge("clock_offset_seconds",
		"By how much the node's clock is ahead of that of the coordinators' leader; below 0 it is behind. Absent until they were compared.")
	clockError = nodeSection.gauge("clock_offset_error_seconds", "How wrong that may be: half of the time that the messages took.")
)

// readClock gives what a node knows of its clock.
func readClock(s *scrape, o clock.Offset) {
	if o.Known() {
		s.set(clockOffset, o.Ahead.Seconds())
		s.set(clockError, o.Error.Seconds())
	}
}

var raftSection = &section{title: "Replication and disk", about: "Every node."}

var (
	raftGroups = raftSection.gauge("raft_groups", "Raft groups that this node is a member of.")
	raftLed    = raftSection.gauge("raft_groups_led", "Raft groups that this node leads.")
	raftOrphan = raftSection.gauge("raft_groups_without_leader", "Raft groups of which this node knows no leader: they take no writes as far as it can see.")
	raftListed = fmt.Sprintf(" Of the %d groups with the lowest ids.", maxListedGroups)
	raftLeader = raftSection.gauge("raft_is_leader", "1 on the node that leads the group, 0 on the others."+raftListed, "group")
	raftTerm   = raftSection.gauge("raft_term", "Raft's term of the group."+raftListed, "group")
	raftCommit = raftSection.gauge("raft_commit_index", "Highest log index that this node knows to be on a majority."+raftListed, "group")
	raftApply  = raftSection.gauge("raft_applied_index", "Highest log index that this node has applied."+raftListed, "group")
	raftLog    = raftSection.gauge("raft_log_entries", "Entries in the log of this node."+raftListed, "group")

	raftElected   = raftSection.counter("raft_leader_changes_total", "Times this node saw a group get a leader that it did not have before.")
	raftProposals = raftSection.counter("raft_proposals_total", "Proposals that were taken from callers on this node.")
	raftRefused   = raftSection.counter("raft_proposals_refused_total",
		"Proposals that surely had no effect, by reason: NOT_LEADER, OVERLOADED, DISK_LOW, INVALID (empty or too large), STOPPED.", "reason")
	raftQueued  = raftSection.gauge("raft_proposals_queued_bytes", "Bytes of proposals that were not handed to Raft yet.")
	raftLatency = raftSection.histogram("raft_commit_duration_seconds",
		"Time from taking a proposal to its answer: on the disks of a majority, and applied here.")
	raftAppended = raftSection.counter("raft_entries_appended_total", "Entries written to the log of this node, as leader or follower.")
	raftApplied  = raftSection.counter("raft_entries_applied_total", "Entries applied by this node, Raft's own included.")
	raftReads    = raftSection.counter("raft_read_rounds_total", "Rounds of heartbeats that were made for linearizable reads.")

	raftSent      = raftSection.counter("raft_messages_sent_total", "Raft messages handed to the transport.")
	raftFrames    = raftSection.counter("raft_frames_sent_total", "Frames that carried them.")
	raftUnsent    = raftSection.counter("raft_messages_dropped_total", "Raft messages that were not sent: the peer is unreachable or its queue is full. Raft repeats what matters.")
	raftReceived  = raftSection.counter("raft_messages_received_total", "Raft messages received.")
	raftOverrun   = raftSection.counter("raft_inbound_dropped_total", "Raft messages received and dropped, because the node does not keep up.")
	raftSaved     = raftSection.counter("raft_checkpoints_total", "Checkpoints of the state of a group, written by this node.")
	raftSnapsOut  = raftSection.counter("raft_snapshots_sent_total", "Snapshots sent to followers that need entries which are gone.")
	raftSnapsIn   = raftSection.counter("raft_snapshots_received_total", "Snapshots received and installed.")
	raftSnapBytes = raftSection.counter("raft_snapshot_sent_bytes_total", "Bytes of snapshots that were read to be sent.")
	raftStaged    = raftSection.counter("raft_snapshot_received_bytes_total", "Bytes of snapshots that were received.")

	logFsync  = raftSection.histogram("log_fsync_duration_seconds", "Time of a synced write to the log device; one serves all groups of a node.")
	logHangs  = raftSection.gauge("log_write_in_progress_seconds", "How long the write to the log device that is under way has taken until now; 0: none is.")
	logWrites = raftSection.counter("log_writes_total", "Writes to the log device, synced or not.")

	diskFree = raftSection.gauge("disk_free_bytes", "Free space on the disk of the node's data. Absent if the node does not look (min_free_bytes is 0).")
	diskMin  = raftSection.gauge("disk_min_free_bytes", "The low-water mark, min_free_bytes.")
	diskLow  = raftSection.gauge("disk_low", "1 while less than the low-water mark is free: the node refuses writes and hands its leaderships to others.")
)

// readStore gives the figures of a node's store and of its groups.
func readStore(s *scrape, m *raftstore.Metrics, disk raftstore.Disk, groups []raftstore.Status) {
	s.set(raftElected, float64(m.LeaderChanges))
	s.set(raftProposals, float64(m.Proposals))
	s.setAll(raftRefused, map[string]uint64{
		"NOT_LEADER": m.Refused.NotLeader, "OVERLOADED": m.Refused.Overloaded, "DISK_LOW": m.Refused.DiskLow,
		"INVALID": m.Refused.Invalid, "STOPPED": m.Refused.Stopped,
	})
	s.latency(raftLatency, m.Commit)
	s.set(raftAppended, float64(m.Entries))
	s.set(raftApplied, float64(m.Applied))
	s.set(raftReads, float64(m.ReadRounds))
	s.set(raftSent, float64(m.MessagesSent))
	s.set(raftFrames, float64(m.FramesSent))
	s.set(raftUnsent, float64(m.MessagesDropped))
	s.set(raftReceived, float64(m.MessagesReceived))
	s.set(raftOverrun, float64(m.InboundDropped))
	s.set(raftSaved, float64(m.Checkpoints))
	s.set(raftSnapsOut, float64(m.SnapshotsSent))
	s.set(raftSnapsIn, float64(m.SnapshotsReceived))
	s.set(raftSnapBytes, float64(m.SnapshotBytesSent))
	s.set(raftStaged, float64(m.SnapshotBytesReceived))
	s.latency(logFsync, m.Fsync)
	s.set(logHangs, m.Writing.Seconds())
	s.set(logWrites, float64(m.Batches))
	if disk.MinFreeBytes > 0 {
		s.set(diskFree, float64(disk.FreeBytes))
		s.set(diskMin, float64(disk.MinFreeBytes))
		s.set(diskLow, truth(disk.Low))
	}
	readGroups(s, groups)
}

func readGroups(s *scrape, groups []raftstore.Status) {
	led, orphans, queued := 0, 0, int64(0)
	for i, g := range groups {
		if g.IsLeader {
			led++
		}
		if g.Leader == 0 {
			orphans++
		}
		queued += g.QueuedBytes
		if i >= maxListedGroups {
			continue
		}
		id := strconv.FormatUint(uint64(g.ID), 10)
		s.set(raftLeader, truth(g.IsLeader), id)
		s.set(raftTerm, float64(g.Term), id)
		s.set(raftCommit, float64(g.Commit), id)
		s.set(raftApply, float64(g.Applied), id)
		s.set(raftLog, float64(g.LastIndex+1-g.FirstIndex), id)
	}
	s.set(raftGroups, float64(len(groups)))
	s.set(raftLed, float64(led))
	s.set(raftOrphan, float64(orphans))
	s.set(raftQueued, float64(queued))
}

// latency gives a histogram its value.
func (s *scrape) latency(m *metric, h raftstore.Histogram) {
	buckets := make(map[float64]uint64, len(h.Bounds))
	for i, b := range h.Bounds {
		buckets[b.Seconds()] = h.Counts[i]
	}
	s.ch <- prometheus.MustNewConstHistogram(m.desc, h.Count, h.Sum.Seconds(), buckets)
}
