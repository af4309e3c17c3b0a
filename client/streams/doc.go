// Package streams processes topics: typed steps from records to records, with state
// that survives, exactly once.
//
//	t := streams.NewTopology("word-count")
//	words := streams.FlatMapValues(streams.From(t, lines), strings.Fields)
//	streams.SelectKey(words, func(_ streams.Nothing, word string) string { return word }).
//		Repartition("by-word", streams.String(), streams.String()).
//		Count(store).
//		Updates().To(counts)
//
//	app, err := streams.NewApp(c, t, streams.WithInstanceID(hostname))
//	...
//	err = app.Run(ctx)
//
// # Topologies
//
// A [Topology] is a value. Its steps are generic functions and methods, so that what
// does not fit does not compile; what the compiler cannot see, such as counting by
// keys that may be spread over partitions, NewApp and NewDriver report as a
// [*TopologyError]. A [Stream] is facts, a [Table] the latest value of every key.
// Where the steps are not enough, [Process] runs code of one's own, with stores and
// timers.
//
// # What happens exactly once
//
// A worker gathers records for a commit interval, 100 ms by default, in one
// transaction: the positions of what it read, what it wrote, and the changes of its
// stores, as records of their changelogs. It is committed as a whole or not at all,
// and the commit is refused if somebody else owns the partitions by then. What a
// step does besides, such as a call to another service, may happen more than once.
//
// A store is two layers: what is committed, and what the transaction has changed.
// The lower one is a copy of the changelog, and knows up to which offset; it is only
// changed after a commit. So a transaction that is aborted is taken back by
// forgetting the upper layer, and after a crash what is missing is read from the
// changelog. A copy that is ahead of its changelog, or of another one, is thrown
// away.
//
// When the group moves a partition to another instance, the worker commits first and
// lets go then. The next owner reads the changelog to its end before it processes
// the first record, and waits for what was decided and is not yet visible. A worker
// that hung and wakes up cannot commit.
//
// # Topics
//
// Input and output topics are yours. The application creates
// "<application>-<name>-repartition" and "<application>-<store>-changelog" with the
// number of partitions that they need. What has been consumed of a repartition topic
// is removed after half a minute. A changelog is compacted by key: the newest record
// of each key stays. One that was created by an earlier version is not;
// `oncelog topic alter TOPIC --cleanup-policy compact` changes that. A copy of a store
// that was away for longer than the changelog's delete.retention.ms, a day, and may
// have missed deletions for it, begins anew. A table that is read by TableFrom is restored from its own topic.
// Deleting the internal topics, and the group, makes the application begin anew.
//
// Topics that are read together need the same number of partitions, and the same
// partitioner as the application's, client.Murmur2Partitioner.
//
// # Time
//
// Windows go by the timestamps of records. Stream time is the highest one that a
// task has seen, from 1970 on; it decides which records are too late, and when
// windows go. A restored task begins with the stream time of its last change.
//
// # Testing
//
// A [Driver] runs a topology without a cluster, by a clock that the test moves.
// [github.com/oncelog/oncelog/client/clienttest] is a cluster in memory, for
// everything that can go wrong.
package streams
