// Package client is the Go SDK of oncelog: exactly-once transactions over
// partitioned logs.
//
// # The order of things
//
// Types carry the order, so what must not be done has no method:
//
//	Dial -> Client -> InitTransactions -> Producer -> Begin -> Tx -> Commit or Abort
//	               -> IdempotentProducer                (no transactions)
//	               -> Consume -> Consumer -> Poll -> Batch
//
// A transaction is a handle, as in database/sql: a finished one answers
// [ErrTxDone], and a deferred [Tx.Abort] is harmless after [Tx.Commit].
// Everything that can block takes a context. Nothing has to be drained, and no
// callback, a [Partitioner] included, runs under a lock.
//
// # What an error means
//
// [ClassOf] says what to do next: retriable (the same call again), abortable
// (abort the transaction and start it over) or fatal (InitTransactions again, or
// stop). The package repeats retriable calls itself until the context ends,
// always with identical bytes under the identity of the first attempt, so a
// repetition never does anything twice. [*Error] carries the details, and
// errors.Is finds the sentinels, such as [ErrFenced].
//
// Commit has exactly four endings:
//
//	nil                      committed, for ever
//	class abortable          surely not committed: abort, start over
//	class fatal              this producer is finished
//	ErrOutcomeUnknown        the answer was lost: call Commit again, ask
//	                         Client.Outcome, or after a crash Producer.Previous
//
// A transaction whose outcome a database is to decide is prepared instead: see
// [Tx.Prepare].
//
// One failed Send dooms the transaction, and Commit then returns that failure:
// nobody needs to look at single records to be correct.
//
// # Groups
//
// A Consumer of a group reads the share of its topics' partitions that the group
// gives it, and the shares change as members come and go. What was polled of a
// partition that is asked back cannot be committed (ErrStaleMember, abortable), and
// its next owner begins at the committed position; [Process] aborts and goes on
// with what there is. [WithOnAssigned], [WithOnRevoked] and [WithOnLost] tell of it.
// A consumer that is not polled for [WithMaxPollInterval] leaves. Whatever is late,
// hangs or was cut off: a commit is refused to who does not own the partition.
//
// # State
//
// Package [github.com/oncelog/oncelog/client/streams] is for programs that keep
// state by key: counts, tables, joins. It changes with the transaction.
//
// # Other systems
//
// A transaction covers topics and positions. Package
// [github.com/oncelog/oncelog/client/sink] takes topics into databases exactly once,
// and [CheckConfig] tells what in a program's description would not be.
//
// # Watching
//
// [Hooks] are told of batches, retries, transactions, fetches and rebalances, and
// [Client.Stats] of what is held now: package
// [github.com/oncelog/oncelog/client/metrics] shows them to Prometheus. A [Tracer]
// makes spans, and gives each record the W3C trace context of its own: package
// [github.com/oncelog/oncelog/client/otel] is one for OpenTelemetry. Who imports
// neither links neither. [WithLogger] takes what a person may want to know.
//
// # Testing
//
// There are no interfaces to put stand-ins behind: package
// [github.com/oncelog/oncelog/client/clienttest] is a real cluster in memory, in
// which everything that goes wrong in production can be made to go wrong.
//
// # Concurrency
//
// Client, Producer, IdempotentProducer and Consumer are safe for concurrent use.
// A Producer has one transaction at a time; several goroutines may Send to it. A
// Consumer is polled by one goroutine at a time; others wait.
package client
