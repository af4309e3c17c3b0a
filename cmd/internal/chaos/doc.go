// Package chaos is `oncelog chaos`: a real cluster, processes on real sockets and
// real files, with real clients, to which everything is done that machines,
// networks, disks and people do; and then every log and every answer is checked.
//
// A run starts three coordinators and three partition nodes behind a network that
// can be cut (package netfault), where there is FUSE on disks that can fail
// (package diskfault), and a crew: processes that run workloads through the SDK
// and send what they note, event by event, to this one. Faults follow a plan that
// is drawn from a seed: every kind comes up as a card in a shuffled deck, so that
// a long run has seen them all, several times. When the time is over everything is
// healed. Then all workloads must get on and no transaction may stay open (I11),
// and when they have stopped the checkers of package history look at what was
// noted and at what is in the logs.
//
// The same seed draws the same faults for the same moments. What they meet there
// is up to the machine: a run cannot be repeated as the simulator's can. Its
// history can be checked again, see [CheckFile].
//
// # File map
//
//	chaos.go     a session: runs, one after the other, until the time is over
//	plan.go      what a seed draws
//	run.go       one run from its start to its verdict
//	roster.go    the processes of clients; crew.go: one of them
//	worker.go    the same from inside
//	merge.go     many recorders' events as one history
//	world.go     the cluster with its network and disks
//	faults*.go   the kinds of faults
//	verdict.go   liveness, audit, checks
//	summary.go   figures; ledger.go: the line in RELIABILITY.md
package chaos
