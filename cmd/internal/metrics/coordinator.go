package metrics

import (
	"strconv"

	"github.com/oncelog/oncelog/coordinator"
	"github.com/oncelog/oncelog/raftstore"
)

const ofLeader = " On the leading coordinator only."

var coordinatorSection = &section{
	title: "Coordinators",
	about: "Coordinator nodes. Counters are of what a node did while it led: sum their rates over the nodes. What is " +
		"state is shown by the node that leads, and by no other: their state may be old.",
}

var (
	coordCommitted = coordinatorSection.counter("coordinator_transactions_committed_total", "Transactions that were decided as committed.")
	coordAborted   = coordinatorSection.counter("coordinator_transactions_aborted_total",
		"Transactions that were decided as aborted, by reason: CLIENT (the producer asked for it), TIMEOUT, FENCED (its transactional id was taken "+
			"over, or fenced by an operator), SUPERSEDED (the producer went on with a newer one), ADMIN.", "reason")
	coordRefused = coordinatorSection.counter("coordinator_end_refused_total",
		"EndTransaction, PrepareTransaction and CompletePrepared calls that did nothing, by code: UNKNOWN_ID, FENCED, CONFLICT, FORGOTTEN, INVALID, UNSETTLED_SENDS, "+
			"STALE_MEMBER, THROTTLED, PREPARED_EXISTS.", "code")
	coordPreparedTotal = coordinatorSection.counter("coordinator_transactions_prepared_total", "Transactions that were prepared for the word of another system.")
	coordInits         = coordinatorSection.counter("coordinator_producers_initialized_total",
		"InitProducer calls for a transactional id, by kind: NEW, or TAKEOVER, which fences whoever had the id before.", "kind")
	coordFenced = coordinatorSection.counter("coordinator_producers_fenced_total", "Producers that were fenced by an operator.")
	coordQuotas = coordinatorSection.counter("coordinator_quotas_refused_total",
		"Calls that were beyond a quota, by that: transactional_ids, inits_per_second, inits_per_second_per_id, partitions_per_minute, and cluster_transactional_ids, which "+
			"is how many there may be in all.", "quota")
	coordExpired = coordinatorSection.counter("coordinator_transactional_ids_expired_total", "Transactional ids that were removed because nobody had used them for transactional_id_expiration.")
	coordLost    = coordinatorSection.counter("coordinator_group_members_lost_total", "Members of consumer groups that were removed because their session or rebalance timeout had passed.")
	coordAnswers = coordinatorSection.counter("coordinator_marker_answers_total",
		"What shards answered to decisions: APPLIED, ALREADY, and, which must never happen, MISSING_DATA (a commit covers records that the shard does not "+
			"hold) and CONFLICT (the shard remembers the opposite).", "answer")
	coordUndelivered = coordinatorSection.counter("coordinator_marker_requests_failed_total", "Requests with decisions that a shard did not answer in full; they are repeated.")

	coordOpen = coordinatorSection.gauge("coordinator_open_transactions",
		"Undecided transactions by age, a range of which the end is excluded. Those shorter than the enlist_delay of the partition nodes are not known here."+ofLeader, "age")
	coordOldestOpen = coordinatorSection.gauge("coordinator_oldest_open_transaction_seconds", "Age of the oldest undecided transaction; 0 without any."+ofLeader)
	coordCompleting = coordinatorSection.gauge("coordinator_completing_transactions",
		"Transactions that are decided while some shard has not acknowledged: there readers of committed records wait for them."+ofLeader)
	coordOldestDone     = coordinatorSection.gauge("coordinator_oldest_completing_transaction_seconds", "How long ago the oldest of them was decided; 0 without any."+ofLeader)
	coordPrepared       = coordinatorSection.gauge("coordinator_prepared_transactions", "Transactions that wait for the word of another system: no timeout ends them, and readers of committed records wait for them."+ofLeader)
	coordOldestPrepared = coordinatorSection.gauge("coordinator_oldest_prepared_transaction_seconds", "How long ago the oldest of them was prepared; 0 without any."+ofLeader)
	coordPending        = coordinatorSection.gauge("coordinator_pending_markers", "Decisions that shards have to acknowledge, once for each shard."+ofLeader)
	coordPendingShard   = coordinatorSection.gauge("coordinator_shard_pending_markers",
		"Decisions that the shard has to acknowledge; of the "+strconv.Itoa(coordinator.MaxListedShards)+" shards with the most, and none without any."+ofLeader, "shard")
	coordIDs        = coordinatorSection.gauge("coordinator_transactional_ids", "Transactional ids that exist."+ofLeader)
	coordGroups     = coordinatorSection.gauge("coordinator_groups", "Consumer groups."+ofLeader)
	coordMembers    = coordinatorSection.gauge("coordinator_group_members", "Members of consumer groups."+ofLeader)
	coordOffsets    = coordinatorSection.gauge("coordinator_group_offsets", "Committed offsets of consumer groups."+ofLeader)
	coordTopics     = coordinatorSection.gauge("coordinator_topics", "Topics."+ofLeader)
	coordPartitions = coordinatorSection.gauge("coordinator_partitions", "Partitions of all topics."+ofLeader)
	coordShards     = coordinatorSection.gauge("coordinator_shards", "Shards."+ofLeader)
	coordUnserved   = coordinatorSection.gauge("coordinator_shards_unserved", "Shards without a leader that is known to serve them."+ofLeader)
	coordMoves      = coordinatorSection.gauge("coordinator_moves", "Moves of replicas that are under way."+ofLeader)
	coordOldestMove = coordinatorSection.gauge("coordinator_oldest_move_seconds", "How long ago the oldest of them began; 0 without any."+ofLeader)
	coordHeldUp     = coordinatorSection.gauge("coordinator_moves_held_up", "Of these, moves that wait for something that the shard's leader names: `oncelog shard describe` shows what."+ofLeader)
	coordMoveLag    = coordinatorSection.gauge("coordinator_move_lag_entries", "Log entries that the new replica which is furthest behind has to learn before it votes."+ofLeader)
	coordLostCopies = coordinatorSection.gauge("coordinator_replicas_lost", "Replicas that are gone with their disk and not made anew yet."+ofLeader)
	coordNodes      = coordinatorSection.gauge("coordinator_partition_nodes", "Partition nodes that are registered."+ofLeader)
	coordAlive      = coordinatorSection.gauge("coordinator_partition_nodes_alive", "Partition nodes that the leader has heard of in the last ten seconds."+ofLeader)
	coordLow        = coordinatorSection.gauge("coordinator_partition_nodes_disk_low", "Of these, nodes whose disk is below its low-water mark."+ofLeader)
	coordDraining   = coordinatorSection.gauge("coordinator_partition_nodes_draining", "Partition nodes that are to give all their replicas away."+ofLeader)
)

// ages are the values of the label age, by the ranges of coordinator.OpenAgeBounds.
var ages = func() []string {
	var out []string
	from := "0s"
	for _, b := range coordinator.OpenAgeBounds {
		to := short(b)
		out = append(out, from+"-"+to)
		from = to
	}
	return append(out, from+"-")
}()

func readCoordinator(s *scrape, st *coordinator.Stats) {
	s.set(coordCommitted, float64(st.Committed))
	s.set(coordPreparedTotal, float64(st.PreparedTotal))
	s.setAll(coordAborted, st.Aborted)
	s.setAll(coordRefused, st.EndsRefused)
	s.setAll(coordInits, map[string]uint64{"NEW": st.NewIDs, "TAKEOVER": st.Takeovers})
	s.set(coordFenced, float64(st.Fenced))
	s.setAll(coordQuotas, st.QuotasRefused)
	s.set(coordExpired, float64(st.IDsExpired))
	s.set(coordLost, float64(st.MembersLost))
	s.setAll(coordAnswers, st.Markers)
	s.set(coordUndelivered, float64(st.MarkerRequestsFailed))
	l := st.Leader
	if l == nil {
		return
	}
	for i, n := range l.Open {
		s.set(coordOpen, float64(n), ages[i])
	}
	s.set(coordOldestOpen, l.OldestOpen.Seconds())
	s.set(coordCompleting, float64(l.Completing))
	s.set(coordOldestDone, l.OldestCompleting.Seconds())
	s.set(coordPrepared, float64(l.Prepared))
	s.set(coordOldestPrepared, l.OldestPrepared.Seconds())
	s.set(coordPending, float64(l.PendingMarkers))
	for _, p := range l.PendingMarkersByShard {
		s.set(coordPendingShard, float64(p.Count), strconv.FormatUint(p.Shard, 10))
	}
	s.set(coordIDs, float64(l.TransactionalIDs))
	s.set(coordGroups, float64(l.Groups))
	s.set(coordMembers, float64(l.Members))
	s.set(coordOffsets, float64(l.Offsets))
	s.set(coordTopics, float64(l.Topics))
	s.set(coordPartitions, float64(l.Partitions))
	s.set(coordShards, float64(l.Shards))
	s.set(coordUnserved, float64(l.Unserved))
	s.set(coordMoves, float64(l.Moves))
	s.set(coordOldestMove, l.OldestMove.Seconds())
	s.set(coordHeldUp, float64(l.HeldUp))
	s.set(coordMoveLag, float64(l.MoveLag))
	s.set(coordLostCopies, float64(l.LostReplicas))
	s.set(coordNodes, float64(l.Nodes))
	s.set(coordAlive, float64(l.Alive))
	s.set(coordLow, float64(l.LowOnDisk))
	s.set(coordDraining, float64(l.Draining))
}

// coordinatorGroups are the Raft groups of a coordinator node.
func coordinatorGroups(st *coordinator.Stats) []raftstore.Status {
	if st.Group == nil {
		return nil
	}
	return []raftstore.Status{*st.Group}
}
