// Package raftstore replicates bytes for many Raft groups in one process over
// one log device. It knows nothing of transactions, topics or partitions: a
// group is a log of opaque commands and a [Machine] that applies them in order.
//
// # Shape
//
// One owner loop drives the go.etcd.io/raft RawNode of every group. A turn of
// the loop takes everything that arrived since the last turn (messages, ticks,
// proposals, reads), then writes the entries and hard states of all groups
// that have something new in one batch with one fsync, and only then sends the
// messages and gives the answers that depend on that write. While a sync runs
// the next turn's input gathers by itself, so group commit needs no timer.
//
// The loop has no task, clock or lock of its own. [Store] wraps it in a task
// that ticks; with [Config.Manual] the caller drives it with [Store.Tick] and
// [Store.Turn] instead. Either way a whole cluster can be a deterministic
// function of its inputs: tasks, waits and time come from [Config.Runtime].
//
// # Rules that look arbitrary and are not
//
//   - A proposal is identified by the (index, term) its entry got, not by an id
//     inside the entry: Raft's log matching makes the pair unique, and a leader
//     learns it when the entry shows up in the very next Ready. So commands are
//     stored exactly as given.
//   - Only MsgApp, heartbeats and read-index traffic leave before the local
//     fsync. Vote requests do not: a candidate that crashed and forgot its last
//     entries must not win with votes it got because of them.
//   - A change of the commit index alone is never written by itself. It rides
//     with the next write of its group. What is lost in a crash is re-learnt
//     from the leader, and a checkpoint always carries a commit index at or
//     above its own index.
//   - Rows written by a machine go unsynced into the same write-ahead log,
//     behind the entries that caused them. After a crash the machine restarts
//     at its last checkpoint and writes identical rows again.
//   - An append without entries waits for the next append, heartbeat or tick
//     (hold.go): half of all messages tell nothing else than a commit index.
//   - What is received of a snapshot is staged beside the group's state, and
//     installed by one write that is small however large the snapshot is
//     (snapshot.go).
//   - A new configuration is checkpointed, synced, before anything is done by it,
//     and a removed member stops only when it is told (membership.go,
//     departure.go).
//   - A node that comes back to a group, after it left or lost its data, is another
//     member, with a life in the upper half of its id. What is meant for another life
//     is dropped: a member that forgot its votes and its log must not be counted
//     under the name that it had when it gave them.
//   - A failed write stops the store for good. The kernel may drop the dirty
//     page and report success for the next fsync, so a retry would lie.
package raftstore
