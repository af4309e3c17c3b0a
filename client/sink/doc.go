// Package sink writes what is in topics to another system exactly once.
//
// Two recipes cover what databases can do:
//
//	[Run]            the store keeps the positions, in one transaction with what the
//	                 records led to. Whatever a transaction of the store can do is
//	                 done exactly once.
//	[RunIdempotent]  the group keeps the positions, and a record is written under a
//	                 key of its own, so that writing it again changes nothing. For
//	                 stores without transactions.
//
// Package [github.com/oncelog/oncelog/client/sink/postgres] has both for PostgreSQL.
// Another store implements [Store] or [Writer]; the tests in
// [github.com/oncelog/oncelog/client/sink/sinktest] tell whether it is one.
//
// # Why no transaction of the cluster
//
// A sink has one place where the result is: the store. If the position is there too,
// one transaction of the store decides on both, and nothing has to be agreed between
// two systems. The positions that the group knows are only told to it, now and then,
// so that `oncelog group lag` shows how far the sink is; nothing is ever read from
// them. A store that is restored from a backup is filled again from where it stands.
//
// # Zombies
//
// A group gives a partition to one member at a time, but a member that was paused may
// wake up with a batch in its hands. So whoever begins to read a partition first
// claims it in the store, which gives it a new epoch, and every later transaction
// names epoch and position. One of an older epoch, or from another position, is
// refused ([ErrFenced]) and leaves nothing behind. A claim waits for the transaction
// that is under way, so it knows where that one ended.
package sink
