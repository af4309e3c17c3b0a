package metrics

import (
	"strconv"

	"github.com/oncelog/oncelog/partition"
)

const ofLed = " Of the shards that this node leads."

var partitionSection = &section{
	title: "Partition nodes",
	about: "Partition nodes. Counters are of what a node did while it led a shard: sum their rates over the nodes. What is " +
		"state is of the shards that the node leads, so a sum over the nodes counts nothing twice.",
}

var (
	partLed  = partitionSection.gauge("partition_shards_led", "Shards that this node leads and serves.")
	partBeat = partitionSection.gauge("partition_heartbeat_age_seconds",
		"Time since a coordinator last answered a heartbeat of this node, or since it started. Heartbeats wait up to two seconds for news.")

	partBatches = partitionSection.counter("partition_batches_total",
		"Verdicts on batches: APPENDED, DUPLICATE (it was stored before: a retry that cost nothing), and refusals by code, such as FENCED, OUT_OF_ORDER, "+
			"STALE_TXN or PRODUCER_LIMIT.", "verdict")
	partRecords = partitionSection.counter("partition_appended_records_total", "Records that were appended; duplicates are not.")
	partBytes   = partitionSection.counter("partition_appended_bytes_total", "Bytes of the batches that were appended, as their producers encoded them.")

	partResponses    = partitionSection.counter("partition_fetch_responses_total", "Responses that were sent to readers.")
	partFetched      = partitionSection.counter("partition_fetched_records_total", "Records in them.")
	partFetchedBytes = partitionSection.counter("partition_fetched_bytes_total", "Bytes of batches in them, as they are stored. Readers that ask for plain records are not counted here.")

	partMarkers = partitionSection.counter("partition_markers_total",
		"What became of decisions, from the coordinator and as answers to enlistments: APPLIED, RECORDED (nothing of the transaction was here), ALREADY, "+
			"DISCARDED (of no transaction that could be committed), DROPPED (not open any more), INVALID, and, which must never happen, MISSING_DATA and CONFLICT.", "result")

	partQueue       = partitionSection.gauge("partition_enlist_queue", "Open transactions that the coordinator is asked about, now or later.")
	partEnlisted    = partitionSection.counter("partition_enlist_answers_total", "Answers to that: ACCEPTED (still open), DECIDED, STRAY, THROTTLED.", "verdict")
	partUnanswered  = partitionSection.counter("partition_enlist_requests_failed_total", "Requests about open transactions that no coordinator answered; they are repeated.")
	partMoves       = partitionSection.counter("partition_log_starts_moved_total", "Moves of the start of a partition's log by retention.")
	partRelocated   = partitionSection.counter("partition_relocated_bytes_total", "Bytes that were written once more so that old parts of a shard's log could go.")
	partCompactions = partitionSection.counter("partition_compactions_total", "Passes of compaction over a partition that came to their end.")
	partCompacted   = partitionSection.counter("partition_compacted_records_total", "Records that compaction removed: older ones of a key, tombstones whose time had come, those of aborted transactions.")
	partRewritten   = partitionSection.counter("partition_compacted_bytes_total", "Bytes that compaction wrote in the place of others.")
	partPartitions  = partitionSection.gauge("partition_partitions", "Partitions."+ofLed)
	partStored      = partitionSection.gauge("partition_stored_bytes", "Bytes of the batches that are kept, once for all replicas."+ofLed)
	partProducers   = partitionSection.gauge("partition_producers", "Producers that a shard remembers."+ofLed)
	partSequences   = partitionSection.gauge("partition_sequences", "Sequences of producers in partitions that a shard remembers."+ofLed)
	partOpen        = partitionSection.gauge("partition_open_transactions", "Transactions that are open in a shard, counted in each."+ofLed)
	partOldest      = partitionSection.gauge("partition_oldest_open_transaction_seconds", "Time since the first record of the oldest of them; 0 without any.")
	partBlocked     = partitionSection.gauge("partition_lso_blocked_partitions", "Partitions in which an open transaction holds the last stable offset."+ofLed)
	partMaxLag      = partitionSection.gauge("partition_lso_lag_max_records", "Most records that are stored in one partition and not visible to read_committed yet."+ofLed)
	partMaxLagAge   = partitionSection.gauge("partition_lso_lag_max_seconds", "Longest time for which the last stable offset of a partition has been held by one transaction."+ofLed)
	partListed      = " Of the " + strconv.Itoa(partition.MaxListedPartitions) + " partitions of this node that are held the longest, and none that is not held."
	partLag         = partitionSection.gauge("partition_lso_lag_records", "Records of the partition that are stored and not visible to read_committed yet."+partListed, "topic", "partition")
	partLagAge      = partitionSection.gauge("partition_lso_lag_seconds", "How long ago the transaction was opened that holds the last stable offset of the partition."+partListed, "topic", "partition")
)

func readPartition(s *scrape, st *partition.Stats) {
	s.set(partLed, float64(st.Led))
	s.set(partBeat, st.HeartbeatAge.Seconds())
	s.setAll(partBatches, st.Batches)
	s.set(partRecords, float64(st.AppendedRecords))
	s.set(partBytes, float64(st.AppendedBytes))
	s.set(partResponses, float64(st.FetchResponses))
	s.set(partFetched, float64(st.FetchedRecords))
	s.set(partFetchedBytes, float64(st.FetchedBytes))
	s.setAll(partMarkers, st.Markers)
	s.set(partQueue, float64(st.EnlistQueue))
	s.setAll(partEnlisted, st.EnlistAnswers)
	s.set(partUnanswered, float64(st.EnlistFailures))
	s.set(partMoves, float64(st.LogStartsMoved))
	s.set(partRelocated, float64(st.RelocatedBytes))
	s.set(partCompactions, float64(st.Compactions))
	s.set(partCompacted, float64(st.CompactedRecords))
	s.set(partRewritten, float64(st.CompactedBytes))
	s.set(partPartitions, float64(st.Partitions))
	s.set(partStored, float64(st.StoredBytes))
	s.set(partProducers, float64(st.Producers))
	s.set(partSequences, float64(st.Sequences))
	s.set(partOpen, float64(st.OpenTransactions))
	s.set(partOldest, st.OldestOpen.Seconds())
	s.set(partBlocked, float64(st.BlockedPartitions))
	s.set(partMaxLag, float64(st.MaxLagRecords))
	s.set(partMaxLagAge, st.MaxLagAge.Seconds())
	for _, b := range st.Blocked {
		number := strconv.FormatUint(uint64(b.Partition), 10)
		s.set(partLag, float64(b.LagRecords), b.Topic, number)
		s.set(partLagAge, b.LagAge.Seconds(), b.Topic, number)
	}
}
