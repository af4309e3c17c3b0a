package workload

import (
	"context"
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/history"
)

// life is how a producer's life goes on after a transaction.
type life bool

const (
	goOn life = true
	anew life = false // InitTransactions has to be called again
)

// producer is a producer with its next transaction: the name of that is the only
// one that tells the producer's epoch.
type producer struct {
	*client.Producer
	next *client.Tx
}

// transaction is one transaction, with what is in the history of it.
type transaction struct {
	*client.Tx
	note    *history.Txn
	records []*draft
	flushed bool
	acked   bool
}

// produce writes transactions until it is stopped.
func (w *worker) produce(ctx context.Context) error {
	for !w.over() {
		p, err := w.initTransactions(ctx)
		if err != nil {
			return err
		}
		for n, next := 0, goOn; p != nil && next == goOn && !w.over(); n++ {
			if w.cfg.PerInit > 0 && n == w.cfg.PerInit {
				break
			}
			if next, err = w.transact(ctx, p, nil); err != nil {
				return err
			}
			if !w.think(ctx) {
				return ctx.Err()
			}
		}
	}
	return nil
}

// initTransactions returns a producer with one of the client's ids; nil when the
// client was stopped before it got one.
func (w *worker) initTransactions(ctx context.Context) (*producer, error) {
	id := w.cfg.IDs[w.Rand.IntN(len(w.cfg.IDs))]
	opts := w.producerOptions()
	for !w.stopped() {
		p := &producer{}
		err := w.insist(ctx, func(ctx context.Context) error {
			call := w.note.Init(id)
			err := p.init(ctx, w.c, id, opts)
			if err != nil {
				call.Failed(codeOf(err))
				return err
			}
			previous, outcome := p.Previous()
			epoch := nameOf(p.next.ID())
			call.Done(epoch.Producer, epoch.Epoch, nameOf(previous), outcomeOf(outcome))
			return nil
		})
		switch {
		case err == nil:
			return p, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		}
		if err := plausible(err); err != nil {
			return nil, err
		}
		if !w.think(ctx) {
			return nil, ctx.Err()
		}
	}
	return nil, nil
}

func (p *producer) init(ctx context.Context, c *client.Client, id string, opts []client.ProducerOption) (err error) {
	if p.Producer, err = c.InitTransactions(ctx, id, opts...); err != nil {
		return err
	}
	p.next, err = p.Begin(context.WithoutCancel(ctx))
	return err
}

var codecs = []client.Compression{
	client.CompressionNone, client.CompressionSnappy, client.CompressionLZ4, client.CompressionZstd,
}

// producerOptions draws what does not matter for the result.
func (w *worker) producerOptions() []client.ProducerOption {
	opts := []client.ProducerOption{
		client.WithTransactionTimeout(w.cfg.TransactionTimeout),
		client.WithDeliveryTimeout(w.cfg.DeliveryTimeout),
		client.WithLinger(time.Duration(w.Rand.IntN(3)) * time.Millisecond),
		client.WithCompression(codecs[w.Rand.IntN(len(codecs))]),
	}
	if w.cfg.MaxInFlight > 0 {
		opts = append(opts, client.WithMaxInFlight(w.cfg.MaxInFlight))
	}
	return opts
}

// begin begins a transaction.
func (w *worker) begin(ctx context.Context, p *producer) (*transaction, error) {
	tx := p.next
	p.next = nil
	if tx == nil {
		var err error
		if tx, err = p.Begin(ctx); err != nil {
			return nil, err
		}
	}
	w.transactions++
	if len(w.recent) == recentTransactions {
		w.recent = w.recent[1:]
	}
	w.recent = append(w.recent, tx.ID())
	return &transaction{Tx: tx, note: w.note.Begin(tx.ID().TransactionalID, nameOf(tx.ID()))}, nil
}

// recentTransactions is how many transactions a client may ask about: more than
// the cluster remembers of an id.
const recentTransactions = 20

// transact is one transaction from its beginning until its outcome is known, or
// left to a successor. With a batch it is given the batch's positions, and writes
// what follows from it.
func (w *worker) transact(ctx context.Context, p *producer, b *polled) (life, error) {
	t, err := w.begin(ctx, p)
	if err != nil {
		b.note(nil)
		return anew, plausible(err)
	}
	b.note(t.note)
	if err := w.at(ctx, Begun); err != nil {
		return anew, err
	}
	failure, err := w.fill(ctx, t, b)
	if err != nil {
		return anew, err
	}
	var next life
	if failure != nil || w.hits(w.cfg.Aborts) {
		next, err = w.abort(ctx, t, failure)
	} else {
		next, err = w.commit(ctx, t)
	}
	b.rewound()
	if err == nil && w.hits(w.cfg.Asks) {
		err = w.ask(ctx, w.recent[w.Rand.IntN(len(w.recent))])
	}
	return next, err
}

// fill gives the transaction its positions and records. failure is what a call
// answered that dooms it.
func (w *worker) fill(ctx context.Context, t *transaction, b *polled) (failure, err error) {
	if b != nil {
		t.note.SendOffsets(w.cfg.Group, b.moves)
		failure = w.bounded(ctx, func(ctx context.Context) error { return t.SendOffsets(ctx, b.batch) })
		if failure != nil {
			return failure, plausible(failure)
		}
	}
	t.records = w.compose(b)
	// In several calls, so that some of it is on its way before the rest is there.
	for from := 0; from < len(t.records); {
		to := min(from+w.upTo(len(t.records)), len(t.records))
		if failure = w.send(ctx, t.note, t.records[from:to], t.Send); failure != nil {
			for _, d := range t.records[from:to] {
				t.note.Refused(d.partition, d.value)
			}
			return failure, plausible(failure)
		}
		from = to
	}
	if err := w.at(ctx, Sent); err != nil {
		return nil, err
	}
	if w.hits(w.cfg.Overtime) {
		w.Runtime.WaitFor(w.cfg.TransactionTimeout*3/2, w.Stop, ctx.Done())
	}
	if w.hits(w.cfg.Flushes) {
		if failure = w.bounded(ctx, t.Flush); failure != nil {
			return failure, plausible(failure)
		}
		t.flushed = true
		t.noteAcknowledged()
		err = w.at(ctx, Flushed)
	}
	return nil, err
}

// noteAcknowledged writes down where the records are.
func (t *transaction) noteAcknowledged() {
	if !t.acked {
		acknowledged(t.note, t.records)
		t.acked = true
	}
}

// commit asks for the commit until its outcome is known.
func (w *worker) commit(ctx context.Context, t *transaction) (life, error) {
	for {
		call := t.note.Commit()
		if err := w.at(ctx, Ending); err != nil {
			return anew, err
		}
		err := w.within(ctx, w.patience(), t.Commit)
		outcome := endOf(err)
		call.Done(outcome, codeOf(err))
		if err == nil {
			t.noteAcknowledged()
			return goOn, w.at(ctx, Ended)
		}
		if wrong := plausible(err); wrong != nil {
			return anew, wrong
		}
		switch outcome {
		case history.Unknown:
			if next, err := w.unknown(ctx, t); next == anew || err != nil {
				return anew, err
			}
		case history.Forgotten:
			return anew, nil // an Abort would be harmless, and would say nothing
		default:
			return w.abort(ctx, t, err)
		}
	}
}

// patience draws how long a commit may take.
func (w *worker) patience() time.Duration {
	// Without hurries nothing is drawn, and the rest of the work is what it was.
	if w.cfg.Hurries == 0 || !w.hits(w.cfg.Hurries) {
		return w.cfg.CallTimeout
	}
	return time.Duration(1 + w.Rand.Int64N(int64(w.cfg.Hurry)))
}

// unknown is what a client does that got no answer to its commit: goOn calls it
// again.
func (w *worker) unknown(ctx context.Context, t *transaction) (life, error) {
	if err := w.at(ctx, Unknown); err != nil {
		return anew, err
	}
	if err := ctx.Err(); err != nil {
		return anew, err
	}
	if w.hits(w.cfg.Asks) {
		if err := w.ask(ctx, t.ID()); err != nil {
			return anew, err
		}
	}
	if w.hits(w.cfg.Gaps) {
		return anew, nil
	}
	w.Runtime.Sleep(retryPause, ctx.Done())
	return goOn, nil
}

// abort ends a transaction that was not committed. why is the failure that led to
// it, nil if the client just wants to.
func (w *worker) abort(ctx context.Context, t *transaction, why error) (life, error) {
	call := t.note.Abort()
	if err := w.at(ctx, Ending); err != nil {
		return anew, err
	}
	err := t.Abort(ctx) // has a bound of its own
	switch {
	case err != nil:
		call.Done(endOf(err), codeOf(err))
	case t.flushed && why == nil:
		call.Done(history.Aborted, "")
	default:
		// Perhaps nothing of it had left the SDK, and nobody else knows of it.
		call.Done(history.NotCommitted, "")
	}
	if wrong := plausible(err); wrong != nil {
		return anew, wrong
	}
	if err := w.at(ctx, Ended); err != nil {
		return anew, err
	}
	if client.ClassOf(why) == client.ClassFatal || client.ClassOf(err) == client.ClassFatal {
		return anew, nil
	}
	return goOn, nil
}

// ask asks the cluster how a transaction ended.
func (w *worker) ask(ctx context.Context, id client.TxID) error {
	var outcome client.Outcome
	call := w.note.Outcome(id.TransactionalID, nameOf(id))
	err := w.bounded(ctx, func(ctx context.Context) (err error) {
		outcome, err = w.c.Outcome(ctx, id)
		return err
	})
	if err != nil {
		call.Failed(codeOf(err))
		return plausible(err)
	}
	call.Done(outcomeOf(outcome), "")
	return nil
}
