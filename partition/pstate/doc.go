// Package pstate is the replicated state of one shard: which partitions it
// hosts and how far each reaches, what every producer has sent, which
// transactions are open, which records are hidden from read_committed, and
// therefore the last stable offset (LSO) of every partition.
//
// It is a pure core: commands in, answers out. It has no goroutine, clock,
// disk or network, it never sees a record, only the metadata of batches, and
// it is a function of the shard's Raft log alone. The runner decodes an entry
// (codec.go), calls the method for its command with the entry's log index, and
// uses the results for index rows, answers and wake-ups. Every replica that
// has applied the same entries holds the same state, byte for byte in
// [State.Snapshot].
//
// A refusal is a result ([Code], [MarkerCode], [SyncCode]), never an error:
// replicas must agree on refusals too. The rules are those of section 4 of the
// protocol; comments name the rule or invariant they carry out.
//
// # File map
//
//   - append.go: the append rules, in their order; marker.go: decisions;
//     enlist.go: the coordinator's answers about open transactions
//   - partition.go: partitions come and go; retention.go, segment.go: log starts
//     move; needed.go: what of the log is still of use; relocate.go, compact.go:
//     batches are written once more, all of them or what compaction leaves
//   - producer.go: floors, fences, sequences; expire.go: what is forgotten,
//     when; gone.go: what is kept of a producer id that does not exist any more
//   - visible.go: the one function that says what may be read; aborted.go: the
//     index of hidden records
//   - describe.go: what a leader owes and what people ask
//   - codec.go: the commands as bytes; snapshot.go, restore.go, check.go
//
// # Not obvious
//
//   - The floor of a producer is computed: the highest settled TxnRef or the
//     highest open one. So an open transaction that turns out to carry an
//     epoch nobody handed out leaves no trace in the floor (model, H10).
//   - A commit that covers only a prefix of what is stored also shortens the
//     sequence state: a repeated batch above the prefix must not be answered
//     with success, because its records will never be visible (I2).
//   - Damage found by a marker is remembered with the outcome, so that a
//     repeated marker reports it again; the first answer may have been lost.
//   - The sweep of idle producers runs at the end of a command, not before it:
//     the command that wakes a producer up finds its sequences.
package pstate
