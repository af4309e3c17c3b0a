package client

import (
	"context"
	"time"

	"github.com/oncelog/oncelog/internal/task"
)

// IdempotentProducer writes without transactions: every record is stored once,
// in order per partition, and visible as soon as it is durable. Its methods are
// safe for concurrent use.
type IdempotentProducer struct {
	c *Client
	w *writer

	closing task.Lock // held by the Close that runs
	closed  bool      // guarded by closing
}

// closeFlushLimit bounds the flush of a Close.
const closeFlushLimit = 5 * time.Second

// IdempotentProducer returns a producer with an identity of its own. What it has
// written cannot be taken up by a later one: use InitTransactions for that.
func (c *Client) IdempotentProducer(ctx context.Context, opts ...ProducerOption) (*IdempotentProducer, error) {
	cfg := defaultProducerConfig()
	for _, o := range opts {
		o(&cfg)
	}
	if err := cfg.check("idempotent producer"); err != nil {
		return nil, err
	}
	resp, err := c.initProducer(ctx, "", &cfg)
	if err != nil {
		return nil, wrap("idempotent producer", err)
	}
	id := TxID{ProducerID: resp.GetProducerId(), Epoch: resp.GetEpoch()}
	p := &IdempotentProducer{c: c, closing: task.NewLock()}
	p.w = newWriter(c, &cfg, newMemory(c.rt, cfg.bufferBytes), id, resp.GetProducerToken(), nil)
	p.w.fatalOnly = true
	if err := c.adopt(p); err != nil {
		return nil, wrap("idempotent producer", err)
	}
	return p, nil
}

// Send accepts records, in their order. Their bytes are copied; they travel in
// the background, and Flush tells whether they have arrived. Send blocks only for
// buffer space, and for the first record of a topic until its partitions are
// known.
//
// A record that is refused before it gets a sequence, such as one that is too
// large, or because ctx ended, fails this call alone; those before it in the same
// call are sent. Any other failure is fatal: the producer is finished, because a
// sequence cannot be left out.
func (p *IdempotentProducer) Send(ctx context.Context, rs ...*Record) error {
	return p.w.send(ctx, rs)
}

// Flush waits until every record sent so far is durable. Afterwards Partition and
// Offset of the records are set.
func (p *IdempotentProducer) Flush(ctx context.Context) error {
	if err := p.w.flush(ctx); err != nil {
		return wrap("flush", err)
	}
	return nil
}

// Close flushes, for 5 s at most, and ends the producer. It returns why records
// were lost, if any were. Closing twice is harmless.
func (p *IdempotentProducer) Close() error {
	p.closing.Lock(p.c.rt)
	defer p.closing.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	ctx, cancel := p.c.rt.WithTimeout(p.c.ctx, closeFlushLimit)
	defer cancel()
	err := p.Flush(ctx)
	p.shutdown()
	p.c.release(p)
	return err
}

// shutdown ends the producer at once.
func (p *IdempotentProducer) shutdown() {
	p.w.fail(&Error{Op: "send", Code: "CLOSED", Class: ClassFatal, Err: ErrClosed})
}
