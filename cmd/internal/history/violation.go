package history

import (
	"cmp"
	"fmt"
	"strings"
)

// Invariant is one of the protocol's, by its name.
type Invariant string

// The invariants that a history can show to be broken.
const (
	// ExactlyOnce (I1): each record is visible at most once, and the order of one
	// transaction in a partition is its send order.
	ExactlyOnce Invariant = "I1"
	// Readable (I2): an acknowledged record of a committed transaction can be read at
	// its offset by every read_committed reader.
	Readable Invariant = "I2"
	// CommittedOnly (I3): read_committed shows nothing of an aborted or undecided
	// transaction, nor what the commit did not cover.
	CommittedOnly Invariant = "I3"
	// Atomic (I4): all of a transaction becomes visible, or nothing.
	Atomic Invariant = "I4"
	// OneOutcome (I5): a transaction has one outcome, everywhere.
	OneOutcome Invariant = "I5"
	// FencedOff (I6): once an epoch is durable nothing of an older one is committed.
	FencedOff Invariant = "I6"
	// OffsetsOnce (I7): positions move with decisions, and each input is consumed by
	// one committed transaction at most.
	OffsetsOnce Invariant = "I7"
	// Stable (I8): LSO and end never move backwards, and read_committed shows nothing
	// above the LSO.
	Stable Invariant = "I8"
	// UniqueIDs (I9): no producer id and epoch is handed out twice.
	UniqueIDs Invariant = "I9"
	// SameState (I10): replicas with the same applied index have the same state.
	SameState Invariant = "I10"
	// Live (I11): everything ends by itself.
	Live Invariant = "I11"
	// Durable (I12): what was acknowledged is durable.
	Durable Invariant = "I12"
	// Truthful (I13): what a client was told is true.
	Truthful Invariant = "I13"
	// Linearizable: the coordinator's answers about one transactional id fit one order
	// of the calls, which respects real time.
	Linearizable Invariant = "linearizable"
	// Recorded: the history itself is not one that a workload can have recorded.
	Recorded Invariant = "history"
)

// The anomalies, by the names of Jepsen's Kafka workload where it has one.
const (
	AnomalyAbortedRead      = "G1a"
	AnomalyCycle            = "G1c"
	AnomalyLostWrite        = "lost-write"
	AnomalyUnseen           = "unseen"
	AnomalyDuplicate        = "duplicate"
	AnomalyOffsets          = "inconsistent-offsets"
	AnomalyPollSkip         = "poll-skip"
	AnomalyNonmonotonicPoll = "nonmonotonic-poll"
	AnomalyNonmonotonicSend = "nonmonotonic-send"
	AnomalyInternalSend     = "int-nonmonotonic-send"
	AnomalyPrecommitted     = "precommitted-read"
	AnomalyTorn             = "torn"
	AnomalyPhantom          = "phantom"
	AnomalyLostUpdate       = "lost-update"
	AnomalyBank             = "bank"
)

// Violation is one breach.
type Violation struct {
	// Invariant that is broken.
	Invariant Invariant
	// Anomaly is Jepsen's name of it, or "".
	Anomaly string
	// Text says what happened, in one line.
	Text string
	// Partition, Offset, Txn and TxID say where; Offset is -1 and the others zero
	// where they do not apply.
	Partition Partition
	Offset    int64
	Txn       uint64
	TxID      TxID
}

// String returns the violation in one line.
func (v Violation) String() string {
	var b strings.Builder
	b.WriteString(string(v.Invariant))
	if v.Anomaly != "" {
		b.WriteString(" " + v.Anomaly)
	}
	b.WriteString(":")
	if !v.Partition.IsZero() {
		b.WriteString(" " + v.Partition.String())
	}
	if v.Offset >= 0 {
		fmt.Fprintf(&b, " offset %d", v.Offset)
	}
	if v.Txn != 0 {
		fmt.Fprintf(&b, " txn %d", v.Txn)
	}
	if !v.TxID.IsZero() {
		fmt.Fprintf(&b, " (%v)", v.TxID)
	}
	b.WriteString(" " + v.Text)
	return b.String()
}

// compare orders violations so that the same history gives the same report.
func (v Violation) compare(o Violation) int {
	return cmp.Or(
		cmp.Compare(invariantOrder(v.Invariant), invariantOrder(o.Invariant)), cmp.Compare(v.Anomaly, o.Anomaly),
		v.Partition.Compare(o.Partition), cmp.Compare(v.Offset, o.Offset), cmp.Compare(v.Txn, o.Txn), v.TxID.Compare(o.TxID),
		cmp.Compare(v.Text, o.Text))
}

// invariantOrder sorts I2 before I10.
func invariantOrder(i Invariant) string { return fmt.Sprintf("%02d%s", len(i), i) }

// Report is the result of all checks.
type Report struct {
	// Violations, sorted; at most MaxViolations, of which there were Total.
	Violations []Violation
	Total      int
	Stats      Stats
}

// MaxViolations is how many violations a report keeps.
const MaxViolations = 1000

// Stats count what was checked: a check of nothing finds nothing.
type Stats struct {
	Events       int
	Transactions int
	Committed    int
	Aborted      int
	// Unresolved transactions: neither answers, logs nor outcomes tell how they
	// ended.
	Unresolved int
	// Resolved transactions: the client did not know, logs or coordinator do.
	Resolved int
	// Plain records outside of transactions.
	Plain int
	// Records in the final logs, and how many of them are visible.
	Records, Visible int
	// Reads by consumers, and the records in them.
	Reads, ReadRecords int
	// Moves of group positions by committed transactions and plain commits.
	Moves int
	// Calls of the coordinator that were judged for linearizability.
	CoordinatorCalls int
	// Interleaved counts groups of transactions whose writes interleave (G0), which
	// is allowed.
	Interleaved int
	// Replicas whose states were compared at one index or more.
	Replicas int
}
