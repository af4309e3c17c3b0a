// Package postgres has sinks that write to PostgreSQL exactly once, with pgx.
//
//	NewStore   a handler writes to any tables in the transaction that also moves the
//	           positions; for sink.Run. The default: whatever the handler's statements
//	           do, they do once.
//	NewRows    one row per record, or per key, that may be written again; for
//	           sink.RunIdempotent. For tables in a database in which no table of
//	           positions can be, and for loads that are to be kept simple.
//
// It needs PostgreSQL 10 or newer, and no extension or setting: no prepared
// transactions are used. Neither the handler nor anybody else may run statements on
// the connection by other ways than the transaction that it is given.
//
// # Who hangs
//
// A sink that is stopped in the middle of a transaction holds the rows of its
// positions locked, and its successor waits for them. So the server is told to end
// such a session by itself after [WithIdleTimeout] (idle_in_transaction_session_timeout,
// for the sink's transactions only).
package postgres
