package streams

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/internal/task"
)

// unit is what a worker does between two commits, for all of its tasks.
type unit interface {
	// consume makes the commit move the positions past a batch.
	consume(ctx context.Context, b *client.Batch) error
	// claim makes the commit fail unless the worker owns partitions.
	claim(ctx context.Context, partitions []client.TopicPartition) error
	send(ctx context.Context, r *client.Record) error
	// flush waits until everything sent is durable, and commit makes it count.
	commit(ctx context.Context) error
	// abort takes the consumer back to where the unit began.
	abort(ctx context.Context)
}

// writer begins units, one after the other.
type writer interface {
	begin(ctx context.Context) (unit, error)
	// renew gets over the failure of a unit, and reports whether that is possible.
	renew(err error) bool
	close()
}

func (w *worker) newWriter(ctx context.Context) (writer, error) {
	if w.app.cfg.guarantee == AtLeastOnce {
		return &plainWriter{w: w}, nil
	}
	opts := append([]client.ProducerOption{client.WithTransactionTimeout(transactionTimeout)}, w.app.cfg.producer...)
	p, err := w.app.c.InitTransactions(ctx, w.name, opts...)
	if err != nil {
		return nil, err
	}
	return &txWriter{w: w, p: p}, nil
}

// txWriter makes every unit a transaction.
type txWriter struct {
	w *worker
	p *client.Producer
}

func (t *txWriter) begin(ctx context.Context) (unit, error) {
	tx, err := t.p.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return &txUnit{w: t.w, tx: tx}, nil
}

func (t *txWriter) renew(err error) bool { return client.ClassOf(err) != client.ClassFatal }

func (t *txWriter) close() { _ = t.p.Close() }

type txUnit struct {
	w  *worker
	tx *client.Tx
}

func (u *txUnit) consume(ctx context.Context, b *client.Batch) error { return u.tx.SendOffsets(ctx, b) }

func (u *txUnit) claim(ctx context.Context, partitions []client.TopicPartition) error {
	return u.tx.Claim(ctx, u.w.in, partitions...)
}

func (u *txUnit) send(ctx context.Context, r *client.Record) error { return u.tx.Send(ctx, r) }

// commit asks until it knows how the transaction ended, ctx ends, or the client was
// closed: then nobody will answer any more.
func (u *txUnit) commit(ctx context.Context) error {
	pause := pauses{rt: u.w.app.rt}
	for {
		err := u.tx.Commit(ctx)
		if !errors.Is(err, client.ErrOutcomeUnknown) || errors.Is(err, client.ErrClosed) || !pause.pause(ctx) {
			return err
		}
	}
}

func (u *txUnit) abort(ctx context.Context) { _ = u.tx.Abort(ctx) }

// plainWriter writes without transactions.
type plainWriter struct {
	w *worker
	p *client.IdempotentProducer // nil: to be made
}

func (p *plainWriter) begin(ctx context.Context) (unit, error) {
	if p.p == nil {
		made, err := p.w.app.c.IdempotentProducer(ctx, p.w.app.cfg.producer...)
		if err != nil {
			return nil, err
		}
		p.p = made
	}
	return &plainUnit{w: p.w, p: p.p}, nil
}

// renew begins with another producer: one that has failed is finished. What it had
// sent may be sent again.
func (p *plainWriter) renew(error) bool {
	p.close()
	return true
}

func (p *plainWriter) close() {
	if p.p != nil {
		_ = p.p.Close()
		p.p = nil
	}
}

type plainUnit struct {
	w       *worker
	p       *client.IdempotentProducer
	batches []*client.Batch
}

func (u *plainUnit) consume(_ context.Context, b *client.Batch) error {
	u.batches = append(u.batches, b)
	return nil
}

func (u *plainUnit) claim(context.Context, []client.TopicPartition) error { return nil }

func (u *plainUnit) send(ctx context.Context, r *client.Record) error { return u.p.Send(ctx, r) }

// commit moves the positions when everything that was written is durable. A batch
// that is followed by others in all of its partitions need not be committed.
func (u *plainUnit) commit(ctx context.Context) error {
	if err := u.p.Flush(ctx); err != nil {
		return err
	}
	followed, last := map[client.TopicPartition]bool{}, []*client.Batch(nil)
	for _, b := range slices.Backward(u.batches) {
		needed := false
		for tp := range b.Offsets() {
			needed = needed || !followed[tp]
			followed[tp] = true
		}
		if needed {
			last = append(last, b)
		}
	}
	for _, b := range slices.Backward(last) {
		if err := u.w.in.Commit(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// abort takes the consumer back to where the unit began: to the first batch of each
// partition, which is put back first.
func (u *plainUnit) abort(context.Context) {
	for _, b := range u.batches {
		u.w.in.PutBack(b)
	}
}

// Pauses after failures: the first and the longest, each twice as long as the one
// before.
const (
	pauseFirst   = 20 * time.Millisecond
	pauseLongest = time.Second
)

// pauses are growing pauses.
type pauses struct {
	rt   *task.Runtime
	next time.Duration
}

func (p *pauses) reset() { p.next = 0 }

// pause waits; false: ctx has ended.
func (p *pauses) pause(ctx context.Context) bool {
	p.next = min(max(2*p.next, pauseFirst), pauseLongest)
	half := p.next / 2
	return p.rt.Sleep(half+time.Duration(p.rt.Rand().Int64N(int64(half))), ctx.Done())
}
