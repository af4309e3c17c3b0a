package client

import (
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"

	apierrors "github.com/oncelog/oncelog/api/errors"
)

// Hooks are functions that a client calls when something has happened: for
// metrics, mostly. Each may be nil, and fields may be added. They run in the task
// that did what they tell of, at the same time as others, and hold it up: they
// should count and return. They may call the client, but must not Close anything.
//
// Package [github.com/oncelog/oncelog/client/metrics] is made of them.
type Hooks struct {
	// Dialed: a client has connected. Closed: it was closed.
	Dialed, Closed func(*Client)
	// BatchAcked: a batch of records is durable.
	BatchAcked func(BatchEvent)
	// Retried: something was refused or got no answer, and is tried again.
	Retried func(RetryEvent)
	// SendBlocked: a Send has waited for buffer memory.
	SendBlocked func(BlockEvent)
	// TxBegun: Begin has returned a transaction.
	TxBegun func(TxID)
	// CommitReturned: a call of Commit has returned; there may be several for one
	// transaction.
	CommitReturned func(CommitEvent)
	// TxEnded: a transaction is over for this client. One whose outcome is unknown
	// has not ended, and may never.
	TxEnded func(TxEvent)
	// ProducerFinished: nothing is left for a producer but InitTransactions.
	ProducerFinished func(ProducerEvent)
	// Fetched: records of a partition have arrived, ahead of Poll.
	Fetched func(FetchEvent)
	// Polled: Poll, ReadTo or ReadToEnd has got a batch.
	Polled func(PollEvent)
	// PositionsCommitted: Consumer.Commit has returned.
	PositionsCommitted func(PositionsEvent)
	// Rebalanced: a consumer of a group was given partitions, or has none of them
	// any more.
	Rebalanced func(RebalanceEvent)
}

// WithHooks has hooks called. Given several times all are, in their order. Default:
// none.
func WithHooks(h Hooks) Option { return func(c *config) { c.hooks = append(c.hooks, h) } }

// BatchEvent is a batch that is durable.
type BatchEvent struct {
	// TopicPartition is where it is.
	TopicPartition
	// TxID is its transaction; of an idempotent producer Number is 0.
	TxID TxID
	// Records in it, and its Bytes as encoded and sent.
	Records, Bytes int
	// Duplicate: an earlier copy, whose answer was lost, had been stored.
	Duplicate bool
	// Latency since Send has accepted the first of its records.
	Latency time.Duration
}

// Op is a kind of request in a [RetryEvent].
type Op string

// Ops.
const (
	// OpAppend: a batch is sent again.
	OpAppend Op = "append"
	// OpFetch: a partition is read over another stream.
	OpFetch Op = "fetch"
	// OpOffsets: leaders of partitions are asked again for offsets.
	OpOffsets Op = "offsets"
	// OpCoordinator: any call to the coordinator is repeated.
	OpCoordinator Op = "coordinator"
)

// RetryEvent is something that is tried again.
type RetryEvent struct {
	// Op is what is.
	Op Op
	// Code is why: a name of ErrorCode in the contract, such as NOT_LEADER.
	Code string
}

// BlockEvent is a Send that has waited for buffer memory.
type BlockEvent struct {
	// Waited is for how long.
	Waited time.Duration
	// Err says why it got none; nil: it did.
	Err error
}

// CommitEvent is a Commit that has returned.
type CommitEvent struct {
	// TxID is the transaction.
	TxID TxID
	// Took is the time of the call, with its flush.
	Took time.Duration
	// Err is what it returned.
	Err error
}

// TxEvent is a transaction that has ended.
type TxEvent struct {
	// TxID is the transaction.
	TxID TxID
	// Outcome is OutcomeCommitted, OutcomeAborted or OutcomeForgotten.
	Outcome Outcome
	// Reason is why it was not committed: FENCED, TX_TIMEOUT, or any other code of an
	// [*Error]; CLIENT when the application aborted it.
	Reason string
	// Open is how long it was, since Begin.
	Open time.Duration
}

// ProducerEvent is a producer that is finished.
type ProducerEvent struct {
	// TransactionalID of the producer.
	TransactionalID string
	// Code is why, such as FENCED.
	Code string
}

// FetchEvent are records that have arrived.
type FetchEvent struct {
	// TopicPartition is where they are.
	TopicPartition
	// Group of the consumer; empty: none.
	Group string
	// Records that may be shown, and Bytes of their batches as stored.
	Records, Bytes int
}

// PollEvent is a batch that was polled.
type PollEvent struct {
	// Group of the consumer; empty: none.
	Group string
	// Records of the batch.
	Records int
	// Waited is for how long the call did.
	Waited time.Duration
}

// PositionsEvent is a Consumer.Commit that has returned.
type PositionsEvent struct {
	// Group of the consumer.
	Group string
	// Took is the time of the call.
	Took time.Duration
	// Err is what it returned.
	Err error
}

// RebalanceEvent is a change of what a consumer of a group reads.
type RebalanceEvent struct {
	// Group of the consumer.
	Group string
	// Assigned are new; Revoked were asked back; Lost may be somebody else's already.
	Assigned, Revoked, Lost []TopicPartition
}

// hooks are all that were given. Its methods are called without locks.
type hooks []Hooks

// tell calls what pick chooses of each.
func tell[E any](hs hooks, e E, pick func(*Hooks) func(E)) {
	for i := range hs {
		if f := pick(&hs[i]); f != nil {
			f(e)
		}
	}
}

func (hs hooks) dialed(c *Client) { tell(hs, c, func(h *Hooks) func(*Client) { return h.Dialed }) }
func (hs hooks) closed(c *Client) { tell(hs, c, func(h *Hooks) func(*Client) { return h.Closed }) }
func (hs hooks) batchAcked(e BatchEvent) {
	tell(hs, e, func(h *Hooks) func(BatchEvent) { return h.BatchAcked })
}

func (hs hooks) retried(op Op, e *apierrors.Error) {
	if len(hs) == 0 {
		return
	}
	code := oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE // a silence, or a connection that broke
	if e != nil {
		code = e.Code
	}
	tell(hs, RetryEvent{Op: op, Code: apierrors.Name(code)}, func(h *Hooks) func(RetryEvent) { return h.Retried })
}

func (hs hooks) sendBlocked(e BlockEvent) {
	tell(hs, e, func(h *Hooks) func(BlockEvent) { return h.SendBlocked })
}

func (hs hooks) txBegun(id TxID) { tell(hs, id, func(h *Hooks) func(TxID) { return h.TxBegun }) }

func (hs hooks) commitReturned(e CommitEvent) {
	tell(hs, e, func(h *Hooks) func(CommitEvent) { return h.CommitReturned })
}

func (hs hooks) txEnded(e TxEvent) { tell(hs, e, func(h *Hooks) func(TxEvent) { return h.TxEnded }) }

func (hs hooks) producerFinished(e ProducerEvent) {
	tell(hs, e, func(h *Hooks) func(ProducerEvent) { return h.ProducerFinished })
}

func (hs hooks) fetched(e FetchEvent) {
	tell(hs, e, func(h *Hooks) func(FetchEvent) { return h.Fetched })
}

func (hs hooks) polled(e PollEvent) {
	tell(hs, e, func(h *Hooks) func(PollEvent) { return h.Polled })
}

func (hs hooks) positionsCommitted(e PositionsEvent) {
	tell(hs, e, func(h *Hooks) func(PositionsEvent) { return h.PositionsCommitted })
}

func (hs hooks) rebalanced(e RebalanceEvent) {
	if len(e.Assigned)+len(e.Revoked)+len(e.Lost) > 0 {
		tell(hs, e, func(h *Hooks) func(RebalanceEvent) { return h.Rebalanced })
	}
}
