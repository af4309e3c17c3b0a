package client

import (
	"context"
	"errors"
)

// observe begins the span of a Commit or Abort. done ends it, and tells the hooks;
// it is called without locks, when the call has its result.
func (t *Tx) observe(ctx context.Context, kind SpanKind) (spanned context.Context, done func(error)) {
	began := t.p.c.rt.Now()
	spanned, end := t.p.c.cfg.start(ctx, Span{Kind: kind, TxID: t.id, Within: t.ctx})
	return spanned, func(err error) {
		end(err)
		if kind == SpanCommit {
			t.p.c.cfg.hooks.commitReturned(CommitEvent{TxID: t.id, Took: t.p.c.rt.Since(began), Err: err})
		}
		t.tellEnd()
	}
}

// tellEnd tells of the end of the transaction, once it has ended.
func (t *Tx) tellEnd() {
	t.mu.Lock()
	if t.told || t.state == txOpen || t.state == txUnknown || t.state == txPrepared {
		t.mu.Unlock()
		return
	}
	t.told = true
	e := TxEvent{TxID: t.id, Outcome: outcomeIn(t.state), Open: t.p.c.rt.Since(t.begun)}
	cause := context.Cause(t.ctx)
	if errors.Is(cause, ErrTxPrepared) {
		cause = t.cause
	}
	t.mu.Unlock()
	var failure error
	if e.Outcome != OutcomeCommitted {
		if e.Outcome == OutcomeOpen { // Abort was called, and nothing can commit it any more
			e.Outcome = OutcomeAborted
		}
		if e.Reason = reasonOf(cause); e.Reason != reasonClient {
			failure = cause
		}
	}
	t.p.c.cfg.hooks.txEnded(e)
	t.endSpan(failure)
}

// reasonClient: the application wanted it so.
const reasonClient = "CLIENT"

// reasonOf is why a transaction or producer ended, in one word: what is behind an
// answer says more than its code.
func reasonOf(cause error) string {
	var e *Error
	switch {
	case errors.Is(cause, ErrFenced):
		return "FENCED"
	case errors.Is(cause, ErrTxTimeout):
		return codeTxTimeout
	case errors.Is(cause, ErrTxDone), errors.Is(cause, ErrTxPrepared):
		return reasonClient
	case errors.As(cause, &e):
		return e.Code
	default:
		return reasonClient
	}
}
