// Package group is the pure core of consumer groups: who owns which partition
// of a group, and how far the group has read.
//
// A group is of one of two kinds for as long as it has members. In the one each
// member names its partitions with [AssignPartitions] and takes them over from
// whoever had them. In the other it subscribes to topics with [Subscribe] and is
// given partitions, as in KIP-848; what follows is about that.
//
// # Rebalancing
//
// The group's target says who is to own which partition. It is computed anew, by
// an [Assignor], whenever members, subscriptions or topics change. Ownership
// follows the target: a partition that nobody owns is given away at once, and one
// that another member owns is first asked back. It changes hands when that member
// has let go ([ReleasePartitions]), has left, or was lost ([ExpireMembers]); until
// then its commits count. So no two members ever read a partition that both may
// commit in, and who needs not move is not disturbed.
//
// Nothing here waits or counts time. Whether a member is alive, and how long it
// takes to let go, is what a leader watches, from what [Machine.Sessions] tells.
//
// A static member is one with an instance id. A restart with the same one takes
// the place of the life before, whose commits are stale from then on, and nobody
// else notices.
//
// [Machine] is one of the state machines of the coordinator's Raft group. It
// takes a [Command] through [Machine.Apply] and answers with a [Result]; a
// refusal is a [Refusal] with a [Code], never an error. It reads no clock and
// starts nothing; equal states give equal bytes in [Machine.Snapshot].
//
// # The commit check
//
// Section 3 of the transaction protocol. For every partition of a commit
//
//   - the member must have owned it since a generation at or below the one the
//     commit carries: a member that lost a partition and got it back cannot
//     commit what it read in between, and
//   - the committed offset must still be the one the member last knew. It is a
//     compare-and-set: seeks stay free, and an administrator's reset is noticed.
//
// Otherwise the commit is STALE_MEMBER as a whole and nothing changes.
// [Machine.CheckCommits] and [Machine.ApplyCommits] are apart so that a
// transaction's decision can check the offsets when everything else allows the
// commit and move them exactly when it is decided, in one command.
//
// # File map
//
//	machine.go    the state, Apply
//	command.go    the commands and their limits
//	result.go     results, refusals, the closed lists of codes and reasons
//	assign.go     AssignPartitions, LeaveGroup
//	subscribe.go  Subscribe, static members
//	rebalance.go  from the target to ownership; ReleasePartitions, ExpireMembers, TopicsChanged
//	assignor.go   the target
//	commit.go     CommitOffsets, the commit check
//	admin.go      DeleteGroup, DeleteOffsets, ResetOffsets, RemovePartitions
//	query.go      offsets, lists, descriptions
//	codec.go      commands and commits as bytes
//	snapshot.go   the state as bytes
//	check.go      the invariants; those of membership in checkmembership.go
//
// # Non-obvious
//
//   - A repeated plain commit of a member is answered OK when the offsets are
//     where that member put them, whoever owns the partitions by now: its first
//     answer was lost. Only here can that be told from another member's commit of
//     the same offsets. A transaction's commit never gets that grace. There an offset already moved means that another
//     transaction consumed the same records.
//   - Generations of a group that was deleted and made again go on above the
//     old ones, so that a commit from its former life carries a generation from
//     before every ownership.
//   - A partition that a member releases although it may keep it is given back in
//     a new generation: a late copy of the release then does nothing.
//   - A static member remembers which life it replaced, so that a late copy of that
//     one's join does not take its place.
//   - A member id names one life of one consumer. A restarted consumer that took
//     its old id and the same partitions would change no ownership and so fence
//     nobody.
package group
