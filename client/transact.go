package client

import (
	"context"
	"errors"
)

// Transact runs fn, possibly more than once, each time in a new transaction, and
// commits it. So fn must do nothing but what the transaction can take back, and
// must not keep the Tx.
//
//   - If fn fails, the transaction is aborted and its error returned unchanged;
//     only if the error is an abortable one of this package everything is tried
//     again, and if it is a fatal one nothing is.
//   - If Commit fails with class abortable everything is tried again, but not after
//     ErrStaleMember: the batch belongs to another member now.
//   - If the outcome of Commit is unknown, Commit is repeated until ctx ends, and
//     then ErrOutcomeUnknown returned, with the TxID in the [*Error]. Neither is fn
//     run again nor anything aborted. To go on, call InitTransactions, whose
//     Previous tells the outcome.
//   - If fn panics, the transaction is aborted and the panic goes on.
//
// Within fn the producer is busy: a nested Transact fails with ErrTxOpen. An abort
// goes on when ctx has ended, for 10 s at most, see [Tx.Abort].
func (p *Producer) Transact(ctx context.Context, fn func(tx *Tx) error, opts ...TransactOption) error {
	cfg := defaultTransactConfig()
	for _, o := range opts {
		o(&cfg)
	}
	pauses := backoff{rt: p.c.rt, first: cfg.backoffMin, longest: cfg.backoffMax}
	for n := 1; ; n++ {
		err := p.attempt(ctx, fn)
		if ClassOf(err) != ClassAbortable || errors.Is(err, ErrStaleMember) || n == cfg.attempts || ctx.Err() != nil {
			return err
		}
		p.c.log.Debug("transaction is started over", "transactional_id", p.id.TransactionalID, "attempt", n, "error", err)
		if pauses.pause(ctx) != nil {
			return err
		}
	}
}

// attempt runs fn in one transaction.
func (p *Producer) attempt(ctx context.Context, fn func(tx *Tx) error) error {
	tx, err := p.Begin(ctx)
	if err != nil {
		return err
	}
	// Also when fn panics or ends its goroutine. A no-op after Commit; after a
	// Commit without an answer it sends nothing.
	defer func() { _ = tx.Abort(ctx) }()
	if err := fn(tx); err != nil {
		return err
	}
	pauses := p.c.backoff()
	for {
		err := tx.Commit(ctx)
		if !errors.Is(err, ErrOutcomeUnknown) || p.c.isClosed() || pauses.pause(ctx) != nil {
			return err
		}
	}
}

// Process consumes, transforms and produces, exactly once: it runs fn, possibly
// more than once, for every batch that in polls, each time in a transaction of
// out that also moves in's position past the batch. If the transaction is aborted
// in reads the batch again, also in a later Process. So fn must do nothing but
// what the transaction can take back.
//
// To scale out, run it in more instances: each with a Consumer of the same group,
// and a Producer of its own transactional id. A rebalance in the middle of a
// transaction costs that run: it is aborted, and Process goes on with the
// partitions that the consumer has now.
//
// Process runs until ctx ends, whose error it returns, or until something fails
// that trying again does not help: an error of fn's own, a fatal error,
// ErrStaleMember when another member has taken over a partition that was assigned
// manually, ErrOutcomeUnknown when ctx ended during a commit, or the last abortable
// error when WithMaxAttempts runs failed in a row; rebalances do not count. After
// ErrOutcomeUnknown call InitTransactions and Consume to go on: they settle the
// transaction and find the position that holds. After ErrStaleMember call Consume.
func Process(ctx context.Context, in *Consumer, out *Producer, fn func(tx *Tx, b *Batch) error, opts ...TransactOption) error {
	cfg := defaultTransactConfig()
	for _, o := range opts {
		o(&cfg)
	}
	pauses := backoff{rt: out.c.rt, first: cfg.backoffMin, longest: cfg.backoffMax}
	failures := 0
	for {
		b, err := in.Poll(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
		taken := false
		spanned, end := ctx, func(error) {}
		if out.c.cfg.tracer != nil {
			spanned, end = out.c.cfg.start(ctx, Span{Kind: SpanProcess, Group: in.group, Records: b.count, Causes: b.causes()})
		}
		err = out.attempt(spanned, func(tx *Tx) error {
			if err := tx.SendOffsets(ctx, b); err != nil {
				return err
			}
			taken = true // from here on an abort takes in back
			return fn(tx, b)
		})
		end(err)
		if !taken {
			in.putBack(b)
		}
		failures++
		switch {
		case err == nil:
			failures = 0
			pauses.reset()
		case errors.Is(err, ErrStaleMember) && in.m != nil:
			failures-- // the group has shared out anew
		case errors.Is(err, ErrOutcomeUnknown), errors.Is(err, ErrStaleMember):
			return err
		case ctx.Err() != nil && isContextEnd(err):
			return ctx.Err()
		case ClassOf(err) != ClassAbortable || failures == cfg.attempts:
			return err
		default:
			if err := pauses.pause(ctx); err != nil {
				return err
			}
		}
	}
}

// isContextEnd reports whether err is the end of a context.
func isContextEnd(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
