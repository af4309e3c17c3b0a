// Package conformance holds the coordinator to what its contract says, at its
// edge: every call goes through the registered gRPC handlers of running
// coordinators, encoded and decoded as on the wire.
//
// There are two kinds of tests. The tables in testdata cross every state of a
// transactional id (or of a group) with every command and every relation between
// what the command names and what is there; a cell says what the answer is and
// what became of the transaction. The scenarios are those of Kafka's own test
// suite that mean something here, under the ids of CONFORMANCE.md at the
// repository's root.
//
// The tables are compared with what happens. After a change of the rules
//
//	go test ./coordinator/conformance -rewrite
//
// writes them anew, and the difference (git diff -w) is what is reviewed.
package conformance
