// Package demo is `oncelog demo`: a word count that is exact although nodes and
// workers are killed while it runs.
//
// A cluster of real processes keeps three topics. The feeder writes every line of
// a text to the first, as an idempotent producer. Workers, processes of their
// own, turn lines into words and words into counts:
//
//	lines --split--> words --count--> counts
//
// Every batch that a worker reads is one transaction: what it writes and how far
// it has read become visible together or not at all. A count worker keeps its
// counts in memory and, when it starts, reads them back from what was committed.
//
// Meanwhile the demo kills, with kill -9, a worker in mid-transaction, the leader
// of the coordinator and the leader of a shard, and stops another worker in
// mid-transaction, replaces it, and lets the old one, now a zombie, try to
// commit. At the end it reads all topics and compares them with a count of the
// text that has nothing to do with the cluster.
package demo
