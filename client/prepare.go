package client

import (
	"context"
	"errors"

	"google.golang.org/grpc"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// Prepare makes sure that the transaction can be committed, and leaves the decision to
// another system: the first phase of a two-phase commit, of which that system is the
// coordinator. A program that keeps its state in a database
//
//  1. calls Prepare;
//  2. stores ID().String() in the database, in the database's own transaction, and
//     commits that: this is the decision;
//  3. calls Client.CompletePrepared with the word of the database, and Begin works
//     again.
//
// After a crash it calls InitTransactions with WithKeepPrepared; if Producer.Prepared
// names a transaction, it looks whether its name is in the database, and calls
// CompletePrepared: with true if it is, else with false.
//
// Once Prepare has returned nil, the transaction has no timeout, and Commit and Abort
// refuse it with ErrTxPrepared, so that a deferred Abort is harmless. Until its word is
// carried out, readers of committed records wait for it, and so does everybody for the
// positions given to SendOffsets. Not within Transact, which commits.
//
// Any error says that the decision must not be commit: call Prepare again if its class
// is retriable, else Abort. Errors: those of Commit, but never ErrOutcomeUnknown.
func (t *Tx) Prepare(ctx context.Context) (err error) {
	defer t.tellEnd()
	if err := t.lock(ctx); err != nil {
		return t.unsent(opPrepare, err)
	}
	defer t.unlock()
	switch state, doomed := t.current(); {
	case state == txPrepared:
		return nil
	case state != txOpen:
		return t.failed(opPrepare, "TXN_ENDED", ClassFatal, outcomeIn(state), ErrTxDone)
	case doomed != nil:
		return t.notCommitted(opPrepare, doomed)
	}
	if err := t.gather(ctx, opPrepare); err != nil {
		return err
	}
	uncertain, err := t.sendPrepare(ctx)
	t.preparing = t.preparing || uncertain
	if err == nil {
		t.leave(txPrepared, ErrTxPrepared)
		return nil
	}
	var refused *apierrors.Error
	if !errors.As(err, &refused) || refused.Code == oncelogv1.ErrorCode_ERROR_CODE_INTERNAL {
		if !t.preparing {
			return t.unsent(opPrepare, err)
		}
		e := *wrap(opPrepare, err)
		e.Class, e.Outcome, e.TxID = ClassRetriable, OutcomeOpen, t.id
		return &e
	}
	switch {
	case refused.Code == oncelogv1.ErrorCode_ERROR_CODE_CONFLICT:
		return t.aborted(opPrepare, refused)
	case outlives(refused):
		return t.prepareOutlived(ctx, refused)
	}
	return t.refuse(opPrepare, refused)
}

// sendPrepare sends all that a commit would until it is answered.
func (t *Tx) sendPrepare(ctx context.Context) (uncertain bool, err error) {
	req := &oncelogv1.PrepareTransactionRequest{
		Txn: t.commit.GetTxn(), ProducerToken: t.commit.GetProducerToken(),
		Partitions: t.commit.GetPartitions(), Offsets: t.commit.GetOffsets(),
	}
	return t.ask(ctx, func(ctx context.Context, cc grpc.ClientConnInterface) error {
		_, err := oncelogv1.NewTransactionServiceClient(cc).PrepareTransaction(ctx, req)
		return err
	})
}

// prepareOutlived is the ending of a Prepare whose producer was replaced. If an earlier
// attempt arrived before that, whoever has replaced it carries out the word.
func (t *Tx) prepareOutlived(ctx context.Context, refused *apierrors.Error) error {
	e := t.tag(fromServer(opPrepare, refused))
	e.Outcome = OutcomeAborted
	if t.preparing || refused.Code != oncelogv1.ErrorCode_ERROR_CODE_FENCED {
		// If nobody answers, nobody knows: the zero value says so.
		e.Outcome, _ = t.p.c.Outcome(ctx, t.id)
	}
	if !t.learn(e.Outcome, e) {
		t.rewind()
		t.leave(txFinished, e)
	}
	t.p.finish(e)
	return e
}

// waits reports whether the transaction waits for the word of another system.
func (t *Tx) waits() bool {
	state, _ := t.current()
	return state == txPrepared
}

// isPrepared refuses what only the word of another system decides.
func (t *Tx) isPrepared(op string) error { return preparedExists(op, t.id) }

func preparedExists(op string, id TxID) *Error {
	return &Error{Op: op, Code: codePreparedExists, Class: ClassFatal, Outcome: OutcomePrepared, TxID: id, Err: ErrTxPrepared}
}

// learn ends the transaction locally in the way in which it was decided; it reports
// whether it was.
func (t *Tx) learn(o Outcome, cause error) bool {
	switch o {
	case OutcomeCommitted:
		t.committed()
		return true
	case OutcomeAborted:
		t.rewind()
		t.leave(txAborted, cause)
		return true
	case OutcomeForgotten:
		t.rewind()
		t.leave(txFinished, cause)
		return true
	default:
		return false
	}
}

// CompletePrepared carries out the word of another system about a prepared
// transaction: commit or abort. It may be called by any process, not only by the one
// that prepared it, and again: the same word gets the same answer. It is repeated until
// the cluster has answered or ctx ends, and returns when the decision is durable.
//
//   - nil: carried out, now or before.
//   - ErrOutcomeUnknown: ctx ended before the answer came. Call it again.
//   - any other error: not carried out. Its Outcome is what is known of the
//     transaction: it was decided the other way, by an operator who forced it; it is
//     forgotten, or was never prepared.
func (c *Client) CompletePrepared(ctx context.Context, id TxID, commit bool) error {
	for _, p := range c.producers() {
		if t := p.transaction(id); t != nil {
			return t.complete(ctx, commit)
		}
	}
	o, err := c.complete(ctx, id, commit)
	if o == OutcomeCommitted || o == OutcomeAborted || o == OutcomeForgotten {
		for _, p := range c.producers() {
			p.letGo(id)
		}
	}
	return err
}

// producers returns those of the client that are not closed.
func (c *Client) producers() []*Producer {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*Producer
	for part := range c.parts {
		if p, ok := part.(*Producer); ok {
			out = append(out, p)
		}
	}
	return out
}

// transaction returns the producer's transaction if it has the name and a word about it
// may be carried out.
func (p *Producer) transaction(id TxID) *Tx {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == nil || p.current.id != id || p.current.released() {
		return nil
	}
	return p.current
}

// letGo forgets an earlier life's transaction that has ended.
func (p *Producer) letGo(id TxID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.prepared == id {
		p.prepared = TxID{}
	}
}

// complete carries out the word about a transaction of this process.
func (t *Tx) complete(ctx context.Context, commit bool) (err error) {
	kind := SpanAbort
	if commit {
		kind = SpanCommit
	}
	ctx, done := t.observe(ctx, kind)
	defer func() { done(err) }()
	if err := t.lock(ctx); err != nil {
		return t.tag(wrap(opComplete, err))
	}
	defer t.unlock()
	o, err := t.p.c.complete(ctx, t.id, commit)
	cause := err
	if cause == nil {
		cause = ErrTxDone
	}
	if !t.released() {
		t.learn(o, cause)
	}
	return err
}

// complete carries out a word. The outcome is what is known then.
func (c *Client) complete(ctx context.Context, id TxID, commit bool) (Outcome, error) {
	word := OutcomeAborted
	if commit {
		word = OutcomeCommitted
	}
	_, err := c.sendWord(ctx, id, commit)
	if err == nil {
		return word, nil
	}
	var refused *apierrors.Error
	if !errors.As(err, &refused) || refused.Code == oncelogv1.ErrorCode_ERROR_CODE_INTERNAL {
		return OutcomeUnknown, &Error{
			Op: opComplete, Code: codeOutcomeUnknown, Class: ClassRetriable, TxID: id, Err: errors.Join(ErrOutcomeUnknown, err),
		}
	}
	e := fromServer(opComplete, refused)
	e.TxID, e.Class = id, ClassFatal
	// What a repetition is refused for may hide that the first attempt did it. If nobody
	// answers, nobody knows: the zero value says so.
	if e.Outcome, _ = c.Outcome(ctx, id); e.Outcome == word {
		return word, nil
	}
	return e.Outcome, e
}

// sendWord sends the word until it is answered.
func (c *Client) sendWord(ctx context.Context, id TxID, commit bool) (uncertain bool, err error) {
	req := &oncelogv1.CompletePreparedRequest{Txn: id.ref(), Commit: commit}
	return c.invoke(ctx, call{}, func(ctx context.Context, cc grpc.ClientConnInterface) error {
		_, err := oncelogv1.NewTransactionServiceClient(cc).CompletePrepared(ctx, req)
		return err
	})
}
