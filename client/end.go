package client

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

const (
	opCommit   = "commit"
	opAbort    = "abort"
	opPrepare  = "prepare"
	opComplete = "complete prepared"
)

// abortLimit bounds Abort, which does not listen to its context's end.
const abortLimit = 10 * time.Second

// Commit makes everything sent in the transaction visible at once, together with
// the positions given to SendOffsets. It flushes first, and is repeated until the
// cluster has answered or ctx ends. Calling it again is safe: a transaction is
// decided once. It has four endings:
//
//   - nil: committed, for ever.
//   - class abortable: surely not committed. Abort it (a deferred Abort does), and
//     start over.
//   - class fatal: surely not committed, and starting over cannot help: the
//     producer was fenced, or something sent can never be accepted. Only if an
//     answer was lost and the cluster has forgotten the transaction since, nobody
//     can tell any more: Outcome of the error is OutcomeForgotten then.
//   - ErrOutcomeUnknown: ctx ended before the cluster had decided: no answer came,
//     or none but refusals to be repeated, such as OVERLOADED. Call Commit again
//     with another context, or ask Client.Outcome.
//
// After Commit was called nothing can be added; it waits for a Send that is under
// way. A transaction in which nothing was sent is committed without asking
// anybody.
func (t *Tx) Commit(ctx context.Context) (err error) {
	ctx, done := t.observe(ctx, SpanCommit)
	defer func() { done(err) }()
	if err := t.lock(ctx); err != nil {
		return t.commitNotReached(err)
	}
	defer t.unlock()
	switch state, doomed := t.current(); {
	case state == txCommitted:
		return nil
	case state == txUnknown:
		return t.decide(ctx)
	case state == txPrepared, state == txOpen && t.preparing:
		return t.isPrepared(opCommit)
	case state != txOpen:
		return t.failed(opCommit, "TXN_ENDED", ClassFatal, outcomeIn(state), ErrTxDone)
	case doomed != nil:
		return t.notCommitted(opCommit, doomed)
	}
	if err := t.gather(ctx, opCommit); err != nil {
		return err
	}
	if !t.w.touched() && len(t.consumed()) == 0 {
		t.leave(txCommitted, ErrTxDone)
		return nil
	}
	return t.decide(ctx)
}

// gather refuses further records and offsets, and makes what every Commit or Prepare
// sends, once all of it is durable.
func (t *Tx) gather(ctx context.Context, op string) error {
	t.seal()
	err := t.awaitSends(ctx)
	if err == nil {
		err = t.w.flush(ctx)
	}
	if err != nil {
		if _, doomed := t.current(); doomed != nil {
			return t.notCommitted(op, doomed)
		}
		return t.unsent(op, err)
	}
	if t.commit == nil {
		t.commit = &oncelogv1.EndTransactionRequest{
			Txn: t.w.ref, ProducerToken: t.p.token, Commit: true,
			Partitions: t.w.progress(), Offsets: t.groupOffsets(),
		}
	}
	return nil
}

// seal refuses further records and offsets.
func (t *Tx) seal() {
	t.mu.Lock()
	t.sealed = true
	t.mu.Unlock()
}

// commitNotReached is the ending of a Commit whose context ended before its turn
// came. It leaves the transaction alone: another Commit may be under way, and
// its word counts.
func (t *Tx) commitNotReached(err error) error {
	busy := len(t.ending) > 0 // looked at first: what has ended by now shows in the state
	switch state, _ := t.current(); {
	case state == txCommitted:
		return nil
	case state == txOpen && !busy:
		return t.commitEnded(err, false)
	case state == txOpen, state == txUnknown:
		return t.unknown(err)
	default:
		return t.failed(opCommit, "TXN_ENDED", ClassFatal, outcomeIn(state), ErrTxDone)
	}
}

// decide sends the commit until its answer is known or ctx ends.
func (t *Tx) decide(ctx context.Context) error {
	uncertain, err := t.end(ctx, t.commit)
	t.uncertain = t.uncertain || uncertain
	if err == nil {
		t.committed()
		return nil
	}
	var refused *apierrors.Error
	if !errors.As(err, &refused) || refused.Code == oncelogv1.ErrorCode_ERROR_CODE_INTERNAL {
		return t.commitEnded(err, t.uncertain)
	}
	switch {
	case refused.Code == oncelogv1.ErrorCode_ERROR_CODE_CONFLICT:
		return t.aborted(opCommit, refused)
	case outlives(refused):
		return t.outlived(ctx, refused)
	}
	// Refused, and nothing decided. But an earlier attempt may still be on its way,
	// or a copy of it, and meet other circumstances: an abort makes the refusal final.
	if t.uncertain {
		return t.settle(ctx, refused)
	}
	return t.refuse(opCommit, refused)
}

// refuse is the ending of a Commit or Prepare that was refused, and nothing decided.
func (t *Tx) refuse(op string, refused *apierrors.Error) error {
	e := t.refusal(op, refused)
	e.Outcome = OutcomeOpen
	t.markStale(refused, e)
	t.doom(e)
	return e
}

// refusal names a refused commit. What was repeated long enough is retriable no
// more.
func (t *Tx) refusal(op string, refused *apierrors.Error) *Error {
	e := t.tag(fromServer(op, refused))
	if e.Class == ClassRetriable {
		e.Class = ClassAbortable
	}
	return e
}

// end sends an EndTransaction until it is answered.
func (t *Tx) end(ctx context.Context, req *oncelogv1.EndTransactionRequest) (uncertain bool, err error) {
	return t.ask(ctx, func(ctx context.Context, cc grpc.ClientConnInterface) error {
		_, err := oncelogv1.NewTransactionServiceClient(cc).EndTransaction(ctx, req)
		return err
	})
}

// ask sends a request that decides until it is answered. uncertain reports that some
// attempt may have been carried out, or may be yet. Besides those without an answer
// these are the ones that were refused for what passes, such as OVERLOADED: a proxy
// that repeats requests may have made a copy of one, which arrives when what it was
// refused for has passed, and finds the transaction open.
func (t *Tx) ask(ctx context.Context, fn attemptFunc) (uncertain bool, err error) {
	passing := false
	uncertain, err = t.p.c.invoke(ctx, call{}, func(ctx context.Context, cc grpc.ClientConnInterface) error {
		err := fn(ctx, cc)
		passing = passing || err != nil && apierrors.From(err).Class() == apierrors.Retriable
		return err
	})
	return uncertain || passing, err
}

// commitEnded is the ending of a Commit that got no answer in time.
func (t *Tx) commitEnded(err error, uncertain bool) error {
	state, _ := t.current()
	if !uncertain && state == txOpen {
		return t.unsent(opCommit, err)
	}
	t.mu.Lock()
	if t.state == txOpen {
		t.state = txUnknown
	}
	t.mu.Unlock()
	return t.unknown(err)
}

// unsent is the ending of a Commit or Prepare that surely did nothing.
func (t *Tx) unsent(op string, err error) error {
	e := *wrap(op, err)
	e.Outcome, e.TxID = OutcomeOpen, t.id
	if e.Class == ClassRetriable {
		e.Class = ClassAbortable
	}
	return &e
}

func (t *Tx) unknown(err error) *Error {
	return t.failed(opCommit, codeOutcomeUnknown, ClassRetriable, OutcomeUnknown,
		errors.Join(ErrOutcomeUnknown, err))
}

// committed takes note of a commit.
func (t *Tx) committed() {
	for _, o := range t.consumed() {
		o.consumer.positionsCommitted(o)
	}
	t.leave(txCommitted, ErrTxDone)
}

// aborted takes note of an abort that somebody else decided.
func (t *Tx) aborted(op string, refused *apierrors.Error) error {
	e := t.tag(fromServer(op, refused))
	if refused.Metadata[apierrors.KeyOutcome] == "COMMITTED" {
		e.Outcome = OutcomeCommitted // this client never asked for the opposite
		t.leave(txCommitted, e)
		return e
	}
	e.Outcome = OutcomeAborted
	t.rewind()
	t.leave(txAborted, e)
	if finishesProducer(e) {
		t.p.finish(e)
	}
	return e
}

// outlives reports whether the cluster has gone on without the transaction: its
// producer was replaced, it was forgotten, or its transactional id was removed.
func outlives(e *apierrors.Error) bool {
	switch e.Code {
	case oncelogv1.ErrorCode_ERROR_CODE_FENCED, oncelogv1.ErrorCode_ERROR_CODE_FORGOTTEN,
		oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PRODUCER:
		return true
	default:
		return false
	}
}

// outlived is the ending of a transaction whose producer has been replaced. If a
// commit may have arrived before that, its outcome is asked for: the answer to
// the repetition says only that it is not remembered. Only FENCED says that none
// has, and so it may have where every attempt was refused: something on the way
// may have repeated one of them, and a copy met other circumstances.
func (t *Tx) outlived(ctx context.Context, refused *apierrors.Error) error {
	e := t.tag(fromServer(opCommit, refused))
	e.Outcome = OutcomeAborted
	state := txAborted
	if t.uncertain || refused.Code != oncelogv1.ErrorCode_ERROR_CODE_FENCED {
		o, err := t.p.c.Outcome(ctx, t.id)
		switch {
		case err != nil:
			return t.commitEnded(err, true)
		case o == OutcomeCommitted:
			t.committed()
			return nil
		case o != OutcomeAborted:
			e.Outcome, state = OutcomeForgotten, txFinished
		}
	}
	t.rewind()
	t.leave(state, e)
	t.p.finish(e)
	return e
}

// settle makes a refusal final by an abort, where an earlier attempt may be carried
// out yet.
func (t *Tx) settle(ctx context.Context, refused *apierrors.Error) error {
	e := t.refusal(opCommit, refused)
	_, err := t.end(ctx, t.abortRequest())
	var conflict *apierrors.Error
	switch {
	case err == nil:
	case !errors.As(err, &conflict):
		return t.commitEnded(err, true)
	case conflict.Code == oncelogv1.ErrorCode_ERROR_CODE_CONFLICT &&
		conflict.Metadata[apierrors.KeyOutcome] == "COMMITTED":
		t.committed() // the late attempt was accepted
		return nil
	case outlives(conflict):
		return t.outlived(ctx, conflict)
	default:
		return t.commitEnded(err, true)
	}
	e.Outcome = OutcomeAborted
	t.markStale(refused, e)
	t.rewind()
	t.leave(txAborted, e)
	if finishesProducer(e) {
		t.p.finish(e)
	}
	return e
}

// Abort discards everything sent in the transaction and takes its consumers back
// to where they were. It does nothing when the transaction has ended, so a
// deferred Abort is harmless. It goes on when ctx is cancelled, for 10 s at most.
//
// After a commit without an answer it sends nothing and returns
// ErrOutcomeUnknown, and once the transaction is prepared ErrTxPrepared. Any other
// error says that the abort is not confirmed. The transaction ends all the same, by
// its timeout or with the producer's next one, which Begin allows; except after a
// Prepare without an answer: then call Abort again. Abort never returns class
// abortable.
func (t *Tx) Abort(ctx context.Context) (err error) {
	if state, _ := t.current(); state == txCommitted || state == txAborted || state == txFinished {
		return nil
	}
	ctx, done := t.observe(ctx, SpanAbort)
	defer func() { done(err) }()
	ctx, cancel := t.p.c.rt.WithTimeout(context.WithoutCancel(ctx), abortLimit)
	defer cancel()
	if err := t.lock(ctx); err != nil {
		return t.tag(wrap(opAbort, err))
	}
	defer t.unlock()
	switch state, _ := t.current(); state {
	case txCommitted, txAborted, txFinished:
		return nil
	case txUnknown:
		return t.failed(opAbort, codeOutcomeUnknown, ClassRetriable, OutcomeUnknown, ErrOutcomeUnknown)
	case txPrepared:
		return t.isPrepared(opAbort)
	case txOpen:
		if t.preparing {
			t.leave(txRetracting, ErrTxDone)
		} else {
			t.leave(txAborting, ErrTxDone)
		}
		t.rewind()
	case txAborting, txRetracting: // called again: the cluster has not confirmed it yet
	}
	if (!t.w.touched() && t.commit == nil) || t.fenced() {
		t.leave(txAborted, ErrTxDone)
		return nil
	}
	return t.sendAbort(ctx)
}

// fenced reports whether the cluster has aborted the transaction with its
// producer.
func (t *Tx) fenced() bool {
	_, doomed := t.current()
	return doomed != nil && errors.Is(doomed, ErrFenced)
}

// abortRequest names every partition that something may have arrived in.
func (t *Tx) abortRequest() *oncelogv1.EndTransactionRequest {
	return &oncelogv1.EndTransactionRequest{
		Txn: t.w.ref, ProducerToken: t.p.token, Partitions: t.w.progress(),
	}
}

func (t *Tx) sendAbort(ctx context.Context) error {
	_, err := t.end(ctx, t.abortRequest())
	if apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_PREPARED_EXISTS && t.preparing {
		// The prepare without an answer has arrived. As nobody was told that it has,
		// nobody can have decided for commit.
		_, err = t.p.c.sendWord(ctx, t.id, false)
	}
	if err == nil {
		t.leave(txAborted, ErrTxDone)
		return nil
	}
	e := t.tag(wrap(opAbort, err))
	switch apierrors.CodeOf(serverError(e)) {
	case oncelogv1.ErrorCode_ERROR_CODE_FENCED, oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PRODUCER:
		t.p.finish(e)
		fallthrough // a newer producer had it aborted, or the id was removed
	case oncelogv1.ErrorCode_ERROR_CODE_FORGOTTEN:
		t.leave(txAborted, e) // over long ago, and nobody has asked for a commit
		return nil
	case oncelogv1.ErrorCode_ERROR_CODE_CONFLICT:
		return t.aborted(opAbort, apierrors.From(serverError(e)))
	}
	if e.Class == ClassAbortable {
		e.Class = ClassRetriable
	}
	if finishesProducer(e) {
		t.p.finish(e)
	}
	return e
}

// consumed returns what was given to SendOffsets. Once the transaction is sealed
// or over it no longer changes.
func (t *Tx) consumed() []*txOffsets {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.offsets
}

// rewind takes consumers back to where the transaction found them.
func (t *Tx) rewind() {
	for _, o := range t.consumed() {
		o.consumer.rewind(o)
	}
}

// markStale ends the consumers of the group that a commit was refused for: they
// own less than they think, or their positions were moved.
func (t *Tx) markStale(refused *apierrors.Error, e *Error) {
	if refused.Code != oncelogv1.ErrorCode_ERROR_CODE_STALE_MEMBER {
		return
	}
	for _, o := range t.consumed() {
		if group := refused.Metadata[apierrors.KeyGroup]; group == "" || group == o.consumer.group {
			o.consumer.markStale(o, e)
		}
	}
}

// notCommitted is the word of Commit or Prepare about a doomed transaction.
func (t *Tx) notCommitted(op string, doomed *Error) error {
	e := *doomed
	e.Op, e.TxID, e.Outcome = op, t.id, OutcomeOpen
	return &e
}

func (t *Tx) failed(op, code string, class Class, o Outcome, err error) *Error {
	return &Error{Op: op, Code: code, Class: class, Outcome: o, TxID: t.id, Err: err}
}

func outcomeIn(s txState) Outcome {
	switch s {
	case txAborted:
		return OutcomeAborted
	case txCommitted:
		return OutcomeCommitted
	case txFinished:
		return OutcomeForgotten
	case txPrepared:
		return OutcomePrepared
	default:
		return OutcomeOpen
	}
}
