// Package bench is `oncelog bench`: how fast transactions are, and what they
// cost.
//
// It measures through the SDK, as a program would: one-record transactions from
// one producer and from many, large records in long transactions against the same
// without transactions, and the way of a record to a reader of committed data.
// Beside throughput and latency it tells how many synced writes, Raft entries and
// Raft messages a transaction took on the coordinators and on the partition
// nodes, from the counters of all nodes before and after, so that the cost of the
// protocol can be read off whatever the speed of the machine.
//
// Workloads take turns, round by round, so that a machine that is slow for a
// while is slow for all of them; what is reported is the median over the rounds,
// with the smallest and the largest.
package bench
