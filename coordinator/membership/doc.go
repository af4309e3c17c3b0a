// Package membership is the pure core that knows who the coordinators are: their
// ids, addresses and data directories, who joins and who leaves.
//
// It is one of the state machines of the coordinator's Raft group. [Membership]
// takes a [Command] through [Membership.Apply] and answers with a [Result]; a
// refusal is a result with a [Code], never an error.
//
// What it keeps is what is wanted. Who votes is decided by the configuration of the
// Raft group, which the leader brings in line with this state one step at a time
// (coordinator/reconfigure.go), and which goes first: a member is [Member.Voter]
// here after it votes, and gone from here after it does not vote any more. So a new
// leader reads off the two what the old one had left to do.
//
// # File map
//
//	membership.go  the state, its queries and its commands
//	codec.go       commands and the state as bytes
//	check.go       the invariants
//
// # Non-obvious
//
//   - An id is never used twice, whatever became of its member: the id of a new
//     member is above all that there ever were. A vote is counted by its id, so a
//     member that lost its log must not come back under the old one.
//   - One change at a time: while a member joins or leaves, no other may. Two changes
//     that are safe one after the other may together leave no majority.
//   - An instance is written down once. Who comes to join is held to it before it
//     takes part in Raft, who is a voter announces it from within.
package membership
