package metrics

import "github.com/prometheus/client_golang/prometheus"

// Row is one metric.
type Row struct {
	// Name is its whole name.
	Name string
	// Kind is counter, gauge or histogram.
	Kind string
	// Labels of it.
	Labels []string
	// Help says what it is.
	Help string
}

// namespace begins every name.
const namespace = "oncelog_client_"

func row(kind, name, help string, labels ...string) Row {
	return Row{Name: namespace + name, Kind: kind, Labels: labels, Help: help}
}

// The table of metrics.
var (
	rowBatches       = row("counter", "batches_acked_total", "Batches of records that are durable.", "topic")
	rowRecords       = row("counter", "records_acked_total", "Records that are durable; of a transaction that may yet be aborted, too.", "topic")
	rowBytes         = row("counter", "bytes_acked_total", "Bytes of these records, as encoded and sent.", "topic")
	rowDuplicates    = row("counter", "duplicate_batches_total", "Batches that were sent again and had been stored before: each would have been a duplicate.", "topic")
	rowSendLatency   = row("histogram", "batch_ack_seconds", "Time from a batch's first record, given to Send, until the batch is durable.")
	rowRetries       = row("counter", "retries_total", "Requests that are repeated: op is append, fetch, offsets or coordinator, code is why.", "op", "code")
	rowBlocked       = row("counter", "sends_blocked_total", "Sends that had to wait for buffer memory.")
	rowBlockedTime   = row("counter", "sends_blocked_seconds_total", "Time for which they waited.")
	rowBegun         = row("counter", "transactions_begun_total", "Transactions that were begun.")
	rowCommitted     = row("counter", "transactions_committed_total", "Transactions that were committed.")
	rowAborted       = row("counter", "transactions_aborted_total", "Transactions that ended in another way, by reason: CLIENT (the program), FENCED, TX_TIMEOUT, STALE_MEMBER, DELIVERY_TIMEOUT or another code of docs/ERRORS.md.", "reason")
	rowCommitLatency = row("histogram", "commit_seconds", "Time of a call of Commit, with its flush, by result: committed, failed, or unknown if no answer came.", "result")
	rowOpenTime      = row("histogram", "transaction_open_seconds", "Time from Begin to the end of a transaction.")
	rowFinished      = row("counter", "producers_finished_total", "Producers that can do nothing any more, by reason; FENCED: another one has taken over their transactional id.", "reason")
	rowFetched       = row("counter", "records_fetched_total", "Records that arrived ahead of Poll.", "group", "topic")
	rowFetchedBytes  = row("counter", "bytes_fetched_total", "Bytes of the batches with them, as stored.", "group", "topic")
	rowPolled        = row("counter", "records_polled_total", "Records that the program has got; those that it read again count again.", "group")
	rowPollWait      = row("histogram", "poll_wait_seconds", "Time for which calls of Poll waited for records.", "group")
	rowPositions     = row("counter", "position_commits_total", "Commits of positions without a transaction; code is OK, or why not.", "group", "code")
	rowRebalances    = row("counter", "partitions_moved_total", "Partitions that a group has given, asked back or lost: change is assigned, revoked or lost.", "group", "change")

	rowProducers  = row("gauge", "producers", "Producers that are open.")
	rowConsumers  = row("gauge", "consumers", "Consumers that are open.")
	rowOpen       = row("gauge", "open_transactions", "Transactions that were begun and have not ended.")
	rowBuffered   = row("gauge", "buffered_bytes", "Bytes of records that await their acknowledgement.")
	rowBuffer     = row("gauge", "buffer_limit_bytes", "Bytes that may, over all producers.")
	rowWaiting    = row("gauge", "sends_waiting", "Sends that wait for buffer memory.")
	rowPrefetched = row("gauge", "prefetched_bytes", "Bytes that were fetched and wait for Poll.")
	rowAssigned   = row("gauge", "assigned_partitions", "Partitions that consumers read.", "group")
	rowLag        = row("gauge", "lag_records", "Offsets between the position of a consumer and the end that its isolation level shows.", "group", "topic", "partition")
	rowHidden     = row("gauge", "hidden_records", "Offsets behind the last stable offset: durable, and held back from read_committed by an open transaction.", "group", "topic", "partition")
	rowLagErrors  = row("counter", "lag_errors_total", "Times that a scrape got no lag of a consumer.", "group")
)

var counters = []*Row{
	&rowBatches, &rowRecords, &rowBytes, &rowDuplicates, &rowRetries, &rowBlocked, &rowBlockedTime, &rowBegun, &rowCommitted,
	&rowAborted, &rowFinished, &rowFetched, &rowFetchedBytes, &rowPolled, &rowPositions, &rowRebalances, &rowLagErrors,
}

var histograms = []*Row{&rowSendLatency, &rowCommitLatency, &rowOpenTime, &rowPollWait}

var gauges = []*Row{
	&rowProducers, &rowConsumers, &rowOpen, &rowBuffered, &rowBuffer, &rowWaiting, &rowPrefetched, &rowAssigned, &rowLag, &rowHidden,
}

// Table returns every metric: producers, transactions, consumers.
func Table() []Row {
	var out []Row
	for _, r := range []*Row{
		&rowBatches, &rowRecords, &rowBytes, &rowDuplicates, &rowSendLatency, &rowRetries, &rowBlocked, &rowBlockedTime, &rowWaiting,
		&rowBuffered, &rowBuffer, &rowProducers, &rowFinished, &rowBegun, &rowOpen, &rowCommitted, &rowAborted, &rowCommitLatency,
		&rowOpenTime, &rowConsumers, &rowAssigned, &rowRebalances, &rowFetched, &rowFetchedBytes, &rowPrefetched, &rowPolled,
		&rowPollWait, &rowPositions, &rowLag, &rowHidden, &rowLagErrors,
	} {
		out = append(out, *r)
	}
	return out
}

// buckets of all histograms: from an append on a fast disk to a transaction timeout.
var buckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

func (r *Row) desc() *prometheus.Desc { return prometheus.NewDesc(r.Name, r.Help, r.Labels, nil) }
