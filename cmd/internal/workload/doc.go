// Package workload is what clients do while things go wrong: transactions over
// many partitions, transfers, chains of read-process-write, plain records, and
// readers of all kinds, through the SDK alone, with everything written down in a
// history that is checked afterwards.
//
// The simulator and the runner over real processes share it. So a workload does
// no more than the SDK does: it waits, tells the time and starts tasks through a
// [task.Runtime], and draws from the generator that it is given; the same seed in
// the same simulated world leads to the same calls.
//
// One [Config] describes one client, which is one process as far as the cluster
// can tell: it dials once, and what it does it does one thing after the other.
// Who runs it decides what befalls it. A client is killed by whoever runs it, at
// any time; or it asks at every [Point] of a transaction and is told to go on, to
// wait, or to end then and there:
//
//	err := workload.Run(ctx, workload.Env{
//		Runtime: rt, Rand: rng, History: rec, Stop: stop,
//		Dial: func(ctx context.Context) (*client.Client, error) { return client.Dial(ctx, seeds) },
//		At: func(ctx context.Context, p workload.Point) error { ... },
//	}, workload.Config{Kind: workload.Append, Client: 1, IDs: []string{"a"}, Output: topic})
//
// # What becomes of a call
//
// Every call is bounded, and its answer is one of: it happened, it surely did not
// happen, nobody knows. A commit without an answer is called again, asked about,
// or left to a successor that asks for the previous transaction; all are in the
// history. Answers that no fault can explain, such as that a request is invalid,
// end the workload with an error.
package workload
