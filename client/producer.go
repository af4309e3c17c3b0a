package client

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"

	"google.golang.org/grpc"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// initAttempt bounds one attempt of InitTransactions: the cluster holds the
// answer back until earlier transactions of the id are complete.
const initAttempt = 30 * time.Second

// Producer writes transactions under one transactional id. It has one
// transaction at a time; methods are safe for concurrent use.
type Producer struct {
	c        *Client
	cfg      producerConfig
	id       TxID // Number 0
	token    []byte
	mem      *memory
	previous TxID
	outcome  Outcome
	pending  []uint64 // shards that had not completed earlier transactions

	mu      sync.Mutex
	number  uint64 // of the last transaction
	current *Tx    // the last transaction; nil before the first
	// prepared is an earlier life's transaction that waits for its word; zero: none.
	prepared TxID
	fatal    *Error // why the producer is finished
	closed   bool
}

// InitTransactions registers this process as the user of a transactional id, 1
// to 249 bytes, and returns its producer. It fences every earlier user of the id
// and aborts what they left open; so two processes must not share an id. What they
// left prepared it does not: that is ErrTxPrepared, unless WithKeepPrepared.
//
// It returns when earlier transactions of the id are complete, so that what they
// wrote can be read back. If some node is down it returns without waiting for
// its part any longer.
func (c *Client) InitTransactions(ctx context.Context, transactionalID string, opts ...ProducerOption) (*Producer, error) {
	cfg := defaultProducerConfig()
	for _, o := range opts {
		o(&cfg)
	}
	if err := cfg.check("init transactions"); err != nil {
		return nil, err
	}
	if n := len(transactionalID); n == 0 || n > maxNameBytes {
		return nil, invalid("init transactions", "transactional id of %d bytes: 1 to %d", n, maxNameBytes)
	}
	resp, err := c.initProducer(ctx, transactionalID, &cfg)
	if err != nil {
		return nil, wrap("init transactions", err)
	}
	p := &Producer{
		c: c, cfg: cfg, mem: newMemory(c.rt, cfg.bufferBytes), token: resp.GetProducerToken(),
		id:      TxID{TransactionalID: transactionalID, ProducerID: resp.GetProducerId(), Epoch: resp.GetEpoch()},
		pending: resp.GetIncompleteShards(),
	}
	if prev := resp.GetPrevious(); prev.GetTxn() != nil {
		p.previous = TxID{
			TransactionalID: transactionalID, ProducerID: prev.GetTxn().GetProducerId(),
			Epoch: prev.GetTxn().GetEpoch(), Number: prev.GetTxn().GetTxnNumber(),
		}
		p.outcome = outcomeOf(prev.GetOutcome())
	}
	if kept := resp.GetPrepared(); kept != nil {
		p.prepared = TxID{
			TransactionalID: transactionalID, ProducerID: kept.GetProducerId(),
			Epoch: kept.GetEpoch(), Number: kept.GetTxnNumber(),
		}
	}
	if len(p.pending) > 0 {
		c.log.Warn("earlier transactions are not complete on all shards yet",
			"transactional_id", transactionalID, "shards", p.pending)
	}
	if err := c.adopt(p); err != nil {
		return nil, wrap("init transactions", err)
	}
	return p, nil
}

// initProducer asks for a producer id and epoch. Repetitions carry the same
// request id, so that the epoch is raised once.
func (c *Client) initProducer(ctx context.Context, id string, cfg *producerConfig) (*oncelogv1.InitProducerResponse, error) {
	req := &oncelogv1.InitProducerRequest{
		TransactionalId: id,
		RequestId:       randomID(),
		TimeoutMs:       cfg.timeout.Milliseconds(),
		KeepPrepared:    cfg.keepPrepared,
		ClientId:        c.cfg.clientID,
	}
	var resp *oncelogv1.InitProducerResponse
	_, err := c.invoke(ctx, call{attempt: initAttempt}, func(ctx context.Context, cc grpc.ClientConnInterface) (err error) {
		resp, err = oncelogv1.NewTransactionServiceClient(cc).InitProducer(ctx, req)
		return err
	})
	return resp, err
}

func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return hex.EncodeToString(b[:])
}

// Begin starts a transaction. Nothing is sent: the cluster learns of a
// transaction with its first record. ctx gives Tx.Context its values, not its
// end. Begin does not wait for the markers of the last transaction.
//
// Errors: ErrTxOpen while the last transaction has neither been committed nor
// aborted, or its outcome is unknown; ErrTxPrepared while one is prepared; fatal ones
// once the producer is finished.
func (p *Producer) Begin(ctx context.Context) (*Tx, error) {
	if err := ctx.Err(); err != nil {
		return nil, wrap("begin", err)
	}
	tx, err := p.next(ctx)
	if err != nil {
		return nil, err
	}
	p.c.cfg.hooks.txBegun(tx.id)
	return tx, nil
}

// next makes the next transaction.
func (p *Producer) next(ctx context.Context) (*Tx, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return nil, wrap("begin", ErrClosed)
	case p.fatal != nil:
		return nil, p.fatal
	case p.prepared != (TxID{}):
		return nil, preparedExists("begin", p.prepared)
	case p.current != nil && p.current.waits():
		return nil, preparedExists("begin", p.current.id)
	case p.current != nil && !p.current.released():
		return nil, &Error{Op: "begin", Code: "TX_OPEN", Class: ClassFatal, TxID: p.current.id, Err: ErrTxOpen}
	}
	p.number++
	id := p.id
	id.Number = p.number
	p.current = newTx(ctx, p, id)
	return p.current, nil
}

// Previous returns the last transaction of the transactional id before this
// producer, and how it ended: what a process asks that crashed while committing.
// The TxID is zero if there was none. A transaction that the cluster never heard of,
// because it crashed within milliseconds and its commit did not arrive, is not
// named: Client.Outcome of its TxID says that it was aborted.
func (p *Producer) Previous() (TxID, Outcome) { return p.previous, p.outcome }

// Prepared returns the transaction of an earlier life of the transactional id that
// was kept because it is prepared, see WithKeepPrepared, as long as this process has
// not completed it. Nothing can be begun before that.
func (p *Producer) Prepared() (id TxID, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.prepared, p.prepared != (TxID{})
}

// IncompleteShards lists shards that had not applied the end of earlier
// transactions when InitTransactions returned; readers may have to wait for them.
// Empty as a rule.
func (p *Producer) IncompleteShards() []uint64 { return p.pending }

// TransactionalID returns the id of the producer.
func (p *Producer) TransactionalID() string { return p.id.TransactionalID }

// Close aborts an open transaction and ends the producer. A transaction whose
// commit got no answer is left as it is, and so is one that is prepared. It takes
// 10 s at most. Closing twice is harmless.
func (p *Producer) Close() error {
	p.mu.Lock()
	tx := p.current
	already := p.closed
	p.closed = true
	p.mu.Unlock()
	if already {
		return nil
	}
	p.c.release(p)
	if tx != nil {
		// The cluster aborts it anyway, at its timeout.
		_ = tx.Abort(context.Background())
	}
	return nil
}

// shutdown ends the producer with its client, which can no longer send.
func (p *Producer) shutdown() {
	p.mu.Lock()
	tx := p.current
	p.closed = true
	p.mu.Unlock()
	if tx != nil {
		tx.doom(&Error{Op: "send", Code: "CLOSED", Class: ClassFatal, TxID: tx.id, Err: ErrClosed})
	}
}

// finish ends the producer for good.
func (p *Producer) finish(e *Error) {
	p.mu.Lock()
	first := p.fatal == nil
	if first {
		p.fatal = e
	}
	p.mu.Unlock()
	if first {
		p.c.cfg.hooks.producerFinished(ProducerEvent{TransactionalID: p.id.TransactionalID, Code: reasonOf(e)})
	}
}
