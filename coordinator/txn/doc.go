// Package txn is the pure core that decides transactions: producer ids and
// epochs, which transaction of a producer is open, what was decided about it,
// and which shards still owe an acknowledgement of the decision.
//
// A [Machine] is driven by the applied entries of one Raft group. It has no
// clock, goroutine, disk or randomness: time arrives with every command, and
// the same commands give the same state, the same results and the same
// snapshot bytes on every replica. A refused command is a typed result, never
// an error and never a panic.
//
// # The life of one transaction
//
// A transaction is named by a [Ref] in every message about it. It is opened by
// the first [Enlist] of a shard that holds records of it, or never opened at
// all when the producer ends it before any shard has asked. It is decided
// exactly once (by [EndTransaction], [Expire], [AbortTransaction], or as a
// side effect of [InitProducer], [FenceProducer], [DeleteID] or of its
// successor). While some participant has not applied the marker it is
// completing; afterwards it is one of the last remembered outcomes of its id.
// [Phase] names these states and [Phase.CanBecome] is the transition table.
//
// # What a leader owes
//
// Nothing is queued. What has to be done next is read from the state by
// [Machine.Work], [Machine.Owed] and [Machine.Expired], so that a new leader
// owes exactly what its predecessor owed. The indexes behind them are rebuilt
// by [Machine.Restore] and are no part of a snapshot.
//
// # Order of checks
//
// Every command about a transaction asks in this order: is the producer known;
// is the outcome of exactly this Ref remembered (then that is the answer); was
// its epoch ever handed out and is its number legal; is it open or its number
// still free; if its epoch is over, is it certain that it was never decided
// (then FENCED, else FORGOTTEN); everything else. The order matters: a commit
// whose answer was lost must find its own outcome even after its producer was
// fenced, and must not be told FENCED, which means surely not committed, once
// that outcome has left the memory. For this the machine keeps, of the last
// epochs that have ended, the highest number decided in each.
//
// "Timed out" is not a separate test: a transaction is timed out when an
// [Expire] has decided it, and the remembered outcome then says so. A commit
// that reaches the log after the deadline but before the Expire still commits.
package txn
