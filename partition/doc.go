// Package partition runs one partition node: it keeps copies of shards, writes
// and reads their partitions, applies the coordinator's decisions, and asks the
// coordinator about every transaction that is open in a shard it leads.
//
// What happens to a record is decided by a pure core, pstate, when the entry
// that carries it is applied. Everything else here carries requests to it and
// does what its state says is owed:
//
//	client ── append*.go, fetch.go ──┐                 ┌── duties.go: partitions, forgetting
//	                                 ├─ shard (Raft) ──┤
//	coordinator ── markers.go ───────┘   machine.go    └── enlist.go: open transactions
//	            ◄── heartbeat.go, coordinator_client.go
//
// # File map
//
//   - node.go: start, stop, status; gate.go: no store is closed under a reader;
//     identity.go, assignment.go: what a node keeps outside of its log, in
//     datafile.go's files; routing.go: which shard a partition is in
//   - shard.go: one Raft group with its machine; machine.go: entries to pstate
//     and index rows; waiters.go: who is woken when
//   - moves.go: the leader puts a replica in another's place, hands over; release.go: a
//     copy that nobody needs is deleted
//   - retention.go: what is too old or too much goes; relocate.go: what little is kept
//     of an old part of the log moves on, so that the rest of it can go
//   - append.go: checks and proposals; append_unary.go, append_stream.go: the
//     two calls; refusal.go: verdicts as errors of the contract
//   - reader.go: batches that a reader may see; fetch.go, offsets.go, describe.go
//
// # Not obvious
//
//   - Tasks, waits, time and contexts go through [Config.Runtime] (package
//     internal/task): nothing here blocks in a channel operation of its own or
//     holds a mutex while it waits.
//   - The machine's state runs ahead of its rows for the length of one pass of
//     the Raft loop. A reader takes its bound from the state first and then
//     waits until the group has published that log index (shard.published);
//     only then it reads rows.
//   - A reader takes its wake-up channel before it looks at the state. The
//     machine marks whoever waits when it applies and wakes them once the rows
//     are visible. Nobody polls and no wake-up is lost.
//   - A verdict is given before the log only if it is final (pstate.Code.Final):
//     for the others an earlier copy of the batch may be on its way.
//   - Proposals of duties carry the term in which they were computed. Appends
//     need not: what they do is decided when they are applied.
//   - An assignment never removes a shard's data: an empty list from a
//     coordinator that lost its state must not cost any. A copy goes only when the
//     coordinator releases it by shard and life, one that nobody can need any more.
package partition
