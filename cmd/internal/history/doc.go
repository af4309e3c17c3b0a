// Package history is what happened in a run, and whether it may have happened:
// a recorder for workloads, the values that they write, and checkers that find
// every breach of the protocol's invariants in what was recorded.
//
// The simulator and the chaos runner share it. It is pure: it has no clock (the
// recorder is given one), starts nothing, and the same history gives the same
// report, in the same order.
//
// # How a workload uses it
//
//	rec := history.NewRecorder(now)            // nanoseconds, virtual or wall
//	s := rec.Session(7)                        // client 7, a new incarnation
//
//	init := s.Init("transfer-7")
//	p, err := c.InitTransactions(ctx, "transfer-7")
//	// on error: init.Failed(code); else from Begin's TxID and Previous:
//	init.Done(producer, epoch, previous, outcome)
//
//	t := s.Begin("transfer-7", id)             // id: of Tx.ID
//	partition := history.Partition{Topic: "accounts", Index: 2}
//	v := t.Send(partition, 10, history.Source{})
//	err = tx.Send(ctx, record.WithPartition(2)) // record.Value = v.Encode(0)
//	// on error: t.Refused(partition, v)
//	t.SendOffsets("group", moves)              // with tx.SendOffsets
//	end := t.Commit()
//	err = tx.Commit(ctx)
//	end.Done(outcome, code)                    // see Outcome for the four endings
//	t.Acked(partition, v, record.Offset)       // after Flush or Commit, if it is set
//
//	r := s.Reader(history.ReadCommitted)
//	r.Position(partition, 0)                   // after Consume, Seek and every rewind
//	r.Read(partition, from, next, seen)        // one call per Poll and partition
//
// Every call is noted before it is made and again when it has returned; a call
// that never returned is simply left without its answer. When everything has
// healed the driver reads the logs, builds an [Audit], and asks [Check]:
//
//	h := &history.History{Rules: rules, Events: rec.Events(), Audit: audit}
//	report := history.Check(h)
//	for _, v := range report.Violations { ... }
//
// [Save] and [Load] keep a history as JSON lines, so that it can be checked again
// later, by newer checkers.
//
// # What is checked
//
//	I1   copies, sequences and order, of sends and of polls     logs.go, sends.go, reads.go
//	I2   acknowledged and committed is readable, at its offset  logs.go, reads.go
//	I3   aborted, undecided, phantom; read before its commit    logs.go, reads.go, cycles.go
//	I4   all or nothing; sums of transfers; flows               logs.go, flows.go
//	I5   one outcome, at coordinator, shards and over time      resolve.go
//	I6   nothing of an older epoch is committed, or let in      resolve.go, logs.go
//	I7   positions: one unbroken way, by commits of owners      groups.go, owners.go, flows.go, cycles.go
//	I8   LSO and end never go back, nothing is shown above      sends.go, reads.go
//	I9   producer ids and epochs                                sends.go
//	I10  replicas                                               sends.go
//	I11  nothing is left over once everything was healed        logs.go, flows.go, resolve.go
//	I12  what was acknowledged or shown is there                logs.go, reads.go
//	I13  what clients were told                                 resolve.go
//
// and, by porcupine, that the coordinator's answers about each producer fit one
// order of the calls (coordinator.go, with its reference machine in reference.go).
// Of Jepsen's anomalies G0 is allowed, and counted: writes of transactions
// interleave. So is int-send-skip, which is the same thing seen by one of them.
//
// # What the checkers trust
//
// The order of events is the order in which they were recorded, which is real
// time as one process saw it. Values name the transaction that wrote them, so
// every check is one pass over events and logs. Answers that were lost are
// resolved from the final logs and the coordinator's outcomes before anything is
// judged, and where nothing tells, both ends are taken for possible.
//
// A workload keeps to two rules: it never seeks with a consumer whose positions it
// commits, and it has one plain stream per idempotent producer.
package history
