// Package clienttest is a real cluster in memory, for tests of programs that use
// package client.
//
// Nothing in it is a stand-in: the coordinators, partition nodes and Raft groups
// are those of the shipping processes, and clients reach them through gRPC. Only
// disks and wires are memory, and can be broken.
//
//	func TestBilling(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			cluster := clienttest.Start(t)
//			cluster.CreateTopic("invoices", 3)
//			bill(t.Context(), cluster.Client())
//			records := cluster.Records("invoices")
//			...
//		})
//	}
//
// A cluster starts in milliseconds, ends with its test, and leaves no goroutine
// behind. Tests that run in parallel have clusters of their own.
//
// # The clock
//
// Within a bubble of testing/synctest everything runs by the bubble's clock: time
// passes only while everybody waits, so a timeout of a minute takes no time, and a
// test that sleeps is neither slow nor flaky. Create clients within the bubble,
// too. Outside of a bubble the cluster runs by the machine's clock.
//
// # What can be broken
//
//	what happens in production        what a test says
//	-----------------------------     --------------------------------------------------
//	a node loses power, comes back    Node.Crash, Node.Start
//	an operator restarts a node       Node.Stop, Node.Start
//	a node is added, loses its disk   Cluster.AddNode, Node.ReplaceDisk
//	a node, or a client, hangs        Node.Pause, Host.Pause, then Resume
//	leadership moves                  Node.HandOver; Cluster.CoordinatorLeader, Leader
//	the network is cut, one way       Cluster.Cut, CutOneWay, Isolate, then Heal
//	connections break                 Cluster.Break
//	a request is lost, late, refused  Cluster.Inject
//	the answer to a commit is lost    Cluster.LoseCommitAnswer
//	a transaction is left open        Cluster.ExpireTransactions
//	a second process takes over       Cluster.Host: two hosts, one transactional id
//
// Faults last until they are removed, healed, resumed or started again; the client
// is expected to get over each of them.
package clienttest
