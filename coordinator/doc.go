// Package coordinator runs the coordinator of a cluster: one Raft group that
// owns producer ids, transactions, consumer groups and their offsets, topics,
// shards, nodes, and who its own members are.
//
// What is decided is decided by four pure cores (txn, group, catalog, membership), which
// [replica] composes into the state machine of the group. Everything else here
// carries requests to them and does what their state says is owed:
//
//	client ── gRPC edge (*_service.go) ── propose.go ── Raft log ── replica.go ── cores
//	                                                                      │
//	shards ◄── markers.go (decisions owed) ◄── leader.go (duties) ◄───────┘
//	           placement.go (replicas to move)
//
// A leader keeps nothing that it cannot derive again: duties are read off the
// state, and what it knows of nodes and shard leaders (registry.go) comes back
// with their next heartbeat.
//
// Who takes part: members.go has the data directories of a new cluster made known,
// announce.go those of members that come later, and addresses; reconfigure.go is the
// duty that has the Raft group follow what is wanted.
//
// Non-obvious, each a bug that other systems had:
//
//   - A request is answered from what its command returned when it was applied,
//     never from state that was read before (B5, E14).
//   - Enlist answers that come from memory are given only after a ReadIndex: a
//     deposed leader that does not know a producer yet would have live records
//     discarded.
//   - After a change of leader no transaction expires for a while: its producer
//     had nobody to send its commit to.
//   - Work is repeated until the state says that it is done; nothing is counted
//     as done because it was sent.
package coordinator
