// Package conformance holds a partition node to what its contract says, at its
// edge: every call goes over gRPC to the registered services of running nodes.
//
// There are two kinds of tests. The tables in testdata cross every state that a
// producer can be in, seen from a shard, with every command and every relation
// between what the command names and what is there; a cell says what the answer
// is and what became of the partition. The scenarios are those of Kafka's own
// test suite that mean something for a log, under the ids of CONFORMANCE.md at
// the repository's root.
//
// The tables are compared with what happens. After a change of the rules
//
//	go test ./partition/conformance -rewrite
//
// writes them anew, and the difference is what is reviewed.
package conformance
