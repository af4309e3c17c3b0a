package client

import (
	"context"
	"errors"
	"sync"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/task"
)

// Tx is one transaction: a handle that ends with Commit or Abort. Its methods
// are safe for concurrent use.
type Tx struct {
	p  *Producer
	id TxID
	w  *writer

	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *task.Timer // ends ctx at the transaction's timeout

	ending task.Lock // held by the Commit or Abort that runs

	mu      sync.Mutex
	state   txState
	doomed  *Error        // why it can only be aborted
	sealed  bool          // Commit was called: nothing can be added
	sends   int           // calls of Send that are under way
	idle    chan struct{} // closed when there are none; nil while nobody waits
	offsets []*txOffsets

	// Guarded by ending.
	commit    *oncelogv1.EndTransactionRequest // what every Commit sends
	uncertain bool                             // a commit may have been carried out, or may be yet
	preparing bool                             // the same of a prepare

	begun   time.Time
	endSpan func(error)
	told    bool  // the hooks and the tracer know of the end; guarded by mu
	cause   error // of the end; guarded by mu
}

// txState is where a transaction stands.
type txState uint8

const (
	txOpen       txState = iota
	txUnknown            // a commit was sent, and no answer decided it
	txPrepared           // another system decides
	txAborting           // Abort was called; the cluster has not confirmed it
	txRetracting         // the same after a Prepare without an answer
	txCommitted          // confirmed
	txAborted            // confirmed, or nothing was there to abort
	txFinished           // over, and the cluster has forgotten how
)

func newTx(ctx context.Context, p *Producer, id TxID) *Tx {
	t := &Tx{p: p, id: id, ending: task.NewLock()}
	t.begun = p.c.rt.Now()
	ctx, t.endSpan = p.c.cfg.start(context.WithoutCancel(ctx), Span{Kind: SpanTransaction, TxID: id})
	t.ctx, t.cancel = p.c.rt.WithCancelCause(ctx)
	t.w = newWriter(p.c, &p.cfg, p.mem, id, p.token, t.doom)
	t.w.within = t.ctx
	return t
}

// ID names the transaction. It may be stored and asked about later, see
// Client.Outcome.
func (t *Tx) ID() TxID { return t.id }

// Context ends with the transaction, when it is prepared or doomed, or when its
// timeout has passed since the first Send; context.Cause tells which. It has the
// values of the context that Begin was given.
func (t *Tx) Context() context.Context { return t.ctx }

// Send accepts records for the transaction, in their order. Their bytes are
// copied; they travel in the background. Send blocks only for buffer space, and
// for the first record of a topic until the topic's partitions are known.
//
// A Send that fails, for whatever reason, dooms the transaction: it can only be
// aborted. That includes the end of ctx, for then records are missing.
//
// Errors: abortable and fatal ones; ErrTxDone when the transaction has ended.
func (t *Tx) Send(ctx context.Context, rs ...*Record) error {
	if err := t.enter(); err != nil {
		return err
	}
	returned := false
	defer func() {
		if !returned {
			t.doom(&Error{Op: "send", Code: codePanicked, Class: ClassAbortable, TxID: t.id,
				Err: errors.New("the partitioner panicked, and records are missing")})
		}
		t.exit()
	}()
	t.startTimer()
	err := t.w.send(ctx, rs)
	returned = true
	return err
}

// enter begins a Send. Commit waits for those that are under way: a part of what
// one was given must not be committed while the rest is refused.
func (t *Tx) enter() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.usableLocked("send"); err != nil {
		return err
	}
	t.sends++
	return nil
}

func (t *Tx) exit() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sends--; t.sends == 0 && t.idle != nil {
		close(t.idle)
		t.idle = nil
	}
}

// awaitSends waits until no Send is under way, or the transaction has failed.
func (t *Tx) awaitSends(ctx context.Context) error {
	t.mu.Lock()
	if t.sends == 0 {
		t.mu.Unlock()
		return nil
	}
	if t.idle == nil {
		t.idle = make(chan struct{})
	}
	idle := t.idle
	t.mu.Unlock()
	if t.p.c.rt.Wait(idle, t.w.ended, ctx.Done()) == 2 {
		return ctx.Err()
	}
	return nil // sealed, so there will be no others; or failed, and flush tells why
}

// Flush waits until every record sent so far is durable, not yet committed.
// Afterwards Partition and Offset of the records are set. The end of ctx does not
// doom the transaction.
func (t *Tx) Flush(ctx context.Context) error {
	if err := t.usable("flush"); err != nil {
		return err
	}
	if err := t.w.flush(ctx); err != nil {
		return t.tag(wrap("flush", err))
	}
	return nil
}

// SendOffsets makes the commit of the transaction move the position of the
// batch's consumer group past the batch. If the transaction is aborted, its
// consumer reads the batch again. Nothing is sent before Commit; ctx is there for
// consumers that the future may bring.
//
// Batches of one consumer are given in the order in which they were polled. While
// a transaction that was given an earlier one has not ended, a later one of the
// same partition is refused elsewhere: the first may yet be aborted.
// A failed SendOffsets dooms the transaction.
func (t *Tx) SendOffsets(ctx context.Context, b *Batch) error {
	return t.add(ctx, opSendOffsets, func() error { return t.addOffsets(b) })
}

// Claim makes the commit of the transaction fail with ErrStaleMember unless the
// consumer owns these partitions then, and moves no position: for a transaction
// that acts for partitions of which it has read nothing, as a timer does. Without
// it somebody who has lost them, and does not know, could still write.
//
// A failed Claim dooms the transaction.
func (t *Tx) Claim(ctx context.Context, k *Consumer, partitions ...TopicPartition) error {
	return t.add(ctx, opClaim, func() error {
		if k == nil || len(partitions) == 0 {
			return invalid(opClaim, "a consumer and its partitions are needed")
		}
		return t.addTo(k, func(o *txOffsets) error { return k.claim(o, partitions) })
	})
}

// add adds positions to what the transaction commits.
func (t *Tx) add(ctx context.Context, op string, add func() error) error {
	if err := t.usable(op); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		e := t.tag(wrap(op, err))
		e.Class = ClassAbortable
		t.doom(e)
		return e
	}
	if err := add(); err != nil {
		if errors.Is(err, ErrTxDone) {
			return t.failed(op, "TXN_ENDED", ClassFatal, OutcomeUnknown, ErrTxDone)
		}
		e := t.tag(wrap(op, err))
		t.doom(e)
		return e
	}
	return nil
}

// usable reports why nothing can be added to the transaction any more.
func (t *Tx) usable(op string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.usableLocked(op)
}

func (t *Tx) usableLocked(op string) error {
	switch {
	case t.state != txOpen || t.sealed:
		return &Error{Op: op, Code: "TXN_ENDED", Class: ClassFatal, TxID: t.id, Err: ErrTxDone}
	case t.doomed != nil:
		return t.doomed
	}
	return nil
}

// startTimer counts the transaction's timeout from the first Send, which is
// before the cluster starts to count.
func (t *Tx) startTimer() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer == nil {
		t.timer = t.p.c.rt.AfterFunc(t.p.cfg.timeout, func() {
			t.cancel(&Error{Op: "transaction", Code: codeTxTimeout, Class: ClassAbortable, TxID: t.id, Err: ErrTxTimeout})
		})
	}
}

// doom leaves nothing but Abort. The first reason stays.
func (t *Tx) doom(e *Error) {
	t.mu.Lock()
	if t.doomed != nil || t.state != txOpen {
		t.mu.Unlock()
		return
	}
	t.doomed = e
	t.mu.Unlock()
	t.cancel(e)
	t.w.fail(e) // harmless if the writer has failed before
	if finishesProducer(e) {
		t.p.finish(e)
	}
}

// released reports whether the producer may go on to its next transaction. An
// abort that the cluster has not confirmed does not hold it up: nothing but that
// abort can be sent for the transaction any more, and the next transaction closes
// it, too; unless it may be prepared.
func (t *Tx) released() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch t.state {
	case txOpen, txUnknown, txPrepared, txRetracting:
		return false
	default:
		return true
	}
}

// leave ends the transaction locally, or leaves it to another system, and releases
// what it holds.
func (t *Tx) leave(state txState, cause error) {
	t.mu.Lock()
	t.state, t.cause = state, cause
	if t.timer != nil {
		t.timer.Stop()
	}
	t.mu.Unlock()
	t.w.stop()
	t.cancel(cause)
}

// lock waits for another Commit or Abort of the same transaction to return.
func (t *Tx) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !t.ending.LockUntil(t.p.c.rt, ctx.Done()) {
		return ctx.Err()
	}
	return nil
}

func (t *Tx) unlock() { t.ending.Unlock() }

func (t *Tx) current() (txState, *Error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state, t.doomed
}

// tag names the transaction in an error, which others may hold, too.
func (t *Tx) tag(e *Error) *Error {
	if e.TxID == t.id {
		return e
	}
	tagged := *e
	tagged.TxID = t.id
	return &tagged
}
