package workload

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/history"
)

// noAnswer reports whether a call found out nothing within its time.
func noAnswer(err error) bool {
	var e *client.Error
	if errors.As(err, &e) {
		return e.Code == "CONTEXT_ENDED"
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// codeOf returns the stable name of a failure; "" for nil.
func codeOf(err error) string {
	var e *client.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Code
	case noAnswer(err):
		return "CONTEXT_ENDED"
	default:
		return "OTHER"
	}
}

// explicable lists what may be answered to a client that does nothing wrong,
// whatever befalls the cluster and the client's siblings. Everything else would
// tell of a bug: requests that are not understood, sequences that do not fit,
// tokens that are refused, data that is damaged.
var explicable = []string{
	"CONTEXT_ENDED", "DELIVERY_TIMEOUT", "OUTCOME_UNKNOWN", "TX_TIMEOUT", "STALE_BATCH", "TXN_ENDED", "STALE_TXN",
	"FENCED", "CONFLICT", "FORGOTTEN", "THROTTLED", "STALE_MEMBER", "FENCED_INSTANCE_ID",
	// The SDK repeats these until the call's time is over.
	"UNAVAILABLE", "NOT_LEADER", "OVERLOADED", "UNKNOWN_RESULT", "DEADLINE", "UNKNOWN_PARTITION",
}

// errInexplicable is an answer that no fault can explain.
var errInexplicable = errors.New("an answer that no fault explains")

// plausible returns nil for answers that may be, and an error for others.
func plausible(err error) error {
	if err == nil || errors.Is(err, errStopped) || slices.Contains(explicable, codeOf(err)) {
		return nil
	}
	return fmt.Errorf("%w: %w", errInexplicable, err)
}

// endOf returns what the answer of a Commit says, or of an Abort that failed.
func endOf(err error) history.Outcome {
	var e *client.Error
	switch {
	case err == nil:
		return history.Committed
	case errors.Is(err, client.ErrOutcomeUnknown), !errors.As(err, &e):
		return history.Unknown
	}
	switch e.Outcome {
	case client.OutcomeCommitted:
		return history.Committed
	case client.OutcomeForgotten:
		return history.Forgotten
	default:
	}
	switch {
	case errors.Is(err, client.ErrFenced):
		return history.Fenced
	case e.Outcome == client.OutcomeAborted:
		return history.Aborted
	case e.Class == client.ClassRetriable:
		return history.Unknown
	default:
		return history.NotCommitted
	}
}

// outcomeOf turns an outcome that was asked for into the history's.
func outcomeOf(o client.Outcome) history.Outcome {
	switch o {
	case client.OutcomeOpen:
		return history.Open
	case client.OutcomeCommitted:
		return history.Committed
	case client.OutcomeAborted:
		return history.Aborted
	case client.OutcomeForgotten:
		return history.Forgotten
	case client.OutcomeInvalid:
		return history.Invalid
	default:
		return history.Unknown
	}
}

// nameOf turns a transaction's name into the history's.
func nameOf(id client.TxID) history.TxID {
	return history.TxID{Producer: id.ProducerID, Epoch: id.Epoch, Number: id.Number}
}
