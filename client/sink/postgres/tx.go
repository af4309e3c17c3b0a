package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/oncelog/oncelog/client/sink"
)

type tag = pgconn.CommandTag

// handlerTx is the transaction as the handler sees it: its end is the sink's.
type handlerTx struct{ pgx.Tx }

var errEnd = errors.New("postgres sink: the transaction is ended by the sink, not by its handler")

// Commit is refused.
func (handlerTx) Commit(context.Context) error { return errEnd }

// Rollback is refused: return an error instead.
func (handlerTx) Rollback(context.Context) error { return errEnd }

// transact runs fn in a transaction, and marks what may pass as retriable: also a
// commit without an answer, which the caller repeats and then finds done.
func transact(ctx context.Context, db DB, options pgx.TxOptions, idle time.Duration, fn func(tx pgx.Tx) error) error {
	tx, err := db.BeginTx(ctx, options)
	if err != nil {
		return classify(err, true)
	}
	// Also when fn panics. It does nothing after Commit, and must work when ctx has
	// ended; a connection that does not answer is closed by pgx.
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	// The server ends the transaction of a process that hangs.
	_, err = tx.Exec(ctx, "SELECT set_config('idle_in_transaction_session_timeout', $1, true)", fmt.Sprint(idle.Milliseconds()))
	if err == nil {
		err = fn(tx)
	}
	if err != nil {
		return classify(err, tx.Conn().IsClosed())
	}
	err = tx.Commit(ctx)
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		return fmt.Errorf("postgres sink: a statement of the handler has failed, and the handler has returned no error: %w", err)
	}
	return classify(err, true) // the connection belongs to somebody else by now
}

// defaultIdle is the default of WithIdleTimeout, and what transactions have without it.
const defaultIdle = time.Minute

// classify marks what may pass. broken: the connection is closed, or may be, so what
// was said is about that unless the server said it.
func classify(err error, broken bool) error {
	var server *pgconn.PgError
	var connect *pgconn.ConnectError
	switch {
	case err == nil || sink.IsRetriable(err):
		return err
	case errors.Is(err, sink.ErrFenced):
		return err
	case errors.As(err, &server):
		if passes(server.Code) {
			return sink.Retriable(err)
		}
		return err
	case errors.As(err, &connect), isNetwork(err):
		return sink.Retriable(err)
	case broken && !errors.Is(err, context.Canceled):
		return sink.Retriable(err)
	}
	return err
}

func isNetwork(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// passes says for an SQLSTATE whether the same transaction may succeed later.
func passes(code string) bool {
	switch code {
	case "40001", // serialization_failure
		"40P01", // deadlock_detected
		"55P03", // lock_not_available
		"57P01", // admin_shutdown
		"57P02", // crash_shutdown
		"57P03", // cannot_connect_now: starting, stopping, recovering
		"57P05", // idle_session_timeout
		"25P03", // idle_in_transaction_session_timeout
		"25006": // read_only_sql_transaction: a standby that is to be promoted
		return true
	}
	// Connection exceptions; out of disk, memory, connections.
	return strings.HasPrefix(code, "08") || strings.HasPrefix(code, "53")
}
