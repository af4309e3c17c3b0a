// Package sim runs whole clusters and their clients in simulated worlds.
//
// Everything that decides anything is the code that ships: the coordinator with
// its cores, duties and services, the Raft stores and their owner loops, the
// partition nodes, and the client SDK with its producers and consumers. It all
// runs as tasks of [task.Runtime] on one event loop, and so does what is simulated
// around it:
//
//	world.go      virtual time and what is due
//	fiber.go      tasks as coroutines: exactly one runs at a time
//	proc.go       processes: lives, pauses, clocks; the scheduler of their tasks
//	network.go    messages: lost, repeated, late, cut off one way or both
//	rpc.go        gRPC's unary calls between processes, as bytes
//	stream.go     gRPC's streams, which break
//	raft.go       Raft's messages and snapshots
//	disk.go       logs that lose what was not synced, slow, full and failing disks
//	lost.go       nodes that lose their disk, and must be refused
//	damage.go     copies of shards that cannot be read any more, and are made anew
//	replace.go    coordinators that others take the place of
//	cluster.go    the servers, from the constructors that the binary uses
//	client.go     the clients, from cmd/internal/workload
//	backup.go     who takes backups, and looks whether a cluster could begin with each
//	meddler.go    one more, from cmd/internal/meddle, who does everything that is wrong
//	operator.go   another, who moves replicas and drains, removes and replaces nodes
//	checkpoints.go  what nodes write as their state, and whole logs carried out again
//	plan.go       what a seed decides: sizes, weather, faults, work
//	nemesis.go    the faults
//	simulation.go the course of a world: set up, work and suffer, heal, recover
//	settle.go     the end: everything is read, stopped, and checked
//	reach.go      situations that must come up now and then
//	runner.go     many seeds; one seed shrunk
//
// # A seed is a bug report
//
// Every source of chance is seeded: what is drawn, in which order tasks run and
// which ready channel a wait takes, what becomes of a message, how long an fsync
// takes, Raft's election timeouts (through crypto/rand.Reader, for which reason one
// process runs one seed at a time). The same seed and program give the same
// trace hash, in any process and under the race detector.
//
// # What is not simulated
//
// Tasks of one process are interrupted only where they wait, so data races are
// for the race detector. Pebble, gRPC's transport, TLS and the command line have
// tests of their own and the chaos runner.
package sim
