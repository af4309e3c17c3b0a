package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// maxQueries is the contract's limit on the queries of one ListOffsets.
const maxQueries = 1000

// offsetTarget says which offset of a partition is wanted.
type offsetTarget struct {
	position oncelogv1.StartPosition
	time     time.Time // used if not zero
}

func (t offsetTarget) query(ref *oncelogv1.PartitionRef) *oncelogv1.OffsetQuery {
	if !t.time.IsZero() {
		return &oncelogv1.OffsetQuery{Partition: ref, Target: &oncelogv1.OffsetQuery_TimestampMs{TimestampMs: t.time.UnixMilli()}}
	}
	return &oncelogv1.OffsetQuery{Partition: ref, Target: &oncelogv1.OffsetQuery_Position{Position: t.position}}
}

// located is a partition and its shard.
type located struct {
	tp    TopicPartition
	ref   *oncelogv1.PartitionRef
	shard uint64
}

func partitionsOf(readers []*reader) []located {
	out := make([]located, len(readers))
	for i, r := range readers {
		out[i] = located{tp: r.tp, ref: r.ref, shard: r.shard}
	}
	return out
}

// listOffsets asks the leaders of partitions for offsets, and repeats for those
// without an answer until ctx ends. A partition without such an offset is not in
// the result.
func (c *Client) listOffsets(ctx context.Context, parts []located, target offsetTarget, isolation oncelogv1.IsolationLevel) (Offsets, error) {
	out := make(Offsets, len(parts))
	pauses := c.backoff()
	for {
		left, last, err := c.listOffsetsOnce(ctx, parts, target, isolation, out)
		switch {
		case err != nil:
			return nil, err
		case len(left) == 0:
			return out, nil
		case c.isClosed():
			return nil, ErrClosed
		}
		parts = left
		c.cfg.hooks.retried(OpOffsets, last)
		if pauses.atLeast(ctx, last.RetryAfter()) != nil {
			return nil, &endedError{ctx: ctx.Err(), last: last}
		}
	}
}

// listOffsetsOnce asks the leader of every shard once and returns the partitions
// that got no answer. One question is about one shard: a node that leads some of
// the shards in a question refuses all of it, and what it says about one must not
// be believed of another.
func (c *Client) listOffsetsOnce(ctx context.Context, parts []located, target offsetTarget,
	isolation oncelogv1.IsolationLevel, out Offsets) (left []located, last *apierrors.Error, err error) {
	byShard := make(map[uint64][]located)
	var shards []uint64 // in the order of the partitions
	for _, p := range parts {
		if byShard[p.shard] == nil {
			shards = append(shards, p.shard)
		}
		byShard[p.shard] = append(byShard[p.shard], p)
	}
	for _, shard := range shards {
		address := c.meta.target(shard)
		if address == "" {
			c.meta.refresh(byShard[shard][0].tp.Topic)
			left = append(left, byShard[shard]...)
			continue
		}
		for at := byShard[shard]; len(at) > 0; {
			group := at[:min(len(at), maxQueries)]
			at = at[len(group):]
			failure := c.askOffsets(ctx, address, group, target, isolation, out)
			switch {
			case failure == nil:
				continue
			case errors.Is(failure, ErrClosed):
				return nil, nil, ErrClosed
			}
			if last = apierrors.From(failure); !repeatable(last) {
				return nil, nil, last
			}
			c.meta.lesson(shard, group[0].tp.Topic, address, last)
			left = append(left, group...)
		}
	}
	return left, last, nil
}

func (c *Client) askOffsets(ctx context.Context, address string, group []located, target offsetTarget,
	isolation oncelogv1.IsolationLevel, out Offsets) error {
	service, err := c.logService(address)
	if err != nil {
		return err
	}
	req := &oncelogv1.ListOffsetsRequest{Isolation: isolation}
	for _, p := range group {
		req.Queries = append(req.Queries, target.query(p.ref))
	}
	ctx, cancel := c.rt.WithTimeout(ctx, c.cfg.requestTimeout)
	defer cancel()
	resp, err := service.ListOffsets(ctx, req)
	if err != nil {
		return err
	}
	if len(resp.GetAnswers()) != len(group) {
		return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_INTERNAL,
			fmt.Sprintf("%d answers to %d questions", len(resp.GetAnswers()), len(group)))
	}
	for i, a := range resp.GetAnswers() {
		c.meta.confirm(group[i].shard, address)
		if a.Offset != nil {
			out[group[i].tp] = int64(a.GetOffset())
		}
	}
	return nil
}

// EndOffsets returns, per partition, the offset after the last record that the
// consumer's isolation level shows now.
func (k *Consumer) EndOffsets(ctx context.Context) (Offsets, error) {
	o, err := k.ends(ctx, k.isolation())
	if err != nil {
		return nil, wrap("end offsets", err)
	}
	return o, nil
}

// Lag returns, per partition, how many offsets lie between the position and the
// end that the consumer's isolation level shows. Offsets of records that are not
// shown count, too.
func (k *Consumer) Lag(ctx context.Context) (Offsets, error) {
	ends, err := k.EndOffsets(ctx)
	if err != nil {
		return nil, err
	}
	for tp, position := range k.Position() {
		ends[tp] = max(ends[tp]-position, 0)
	}
	return ends, nil
}

// HiddenLag returns, per partition, how many offsets lie behind the last stable
// offset: durable, but held back from read_committed readers by a transaction that
// is open. They are not part of Lag, unless the consumer reads uncommitted.
func (k *Consumer) HiddenLag(ctx context.Context) (Offsets, error) {
	stable, err := k.ends(ctx, oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_COMMITTED)
	if err != nil {
		return nil, wrap("hidden lag", err)
	}
	ends, err := k.ends(ctx, oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_UNCOMMITTED)
	if err != nil {
		return nil, wrap("hidden lag", err)
	}
	for tp, end := range ends {
		ends[tp] = max(end-stable[tp], 0)
	}
	return ends, nil
}

// OffsetsAt returns, per partition, the offset of the first record with a
// timestamp of at least at; partitions without one are missing. Seek takes it.
func (k *Consumer) OffsetsAt(ctx context.Context, at time.Time) (Offsets, error) {
	o, err := k.c.listOffsets(ctx, partitionsOf(k.reading()), offsetTarget{time: at}, k.isolation())
	if err != nil {
		return nil, wrap("offsets at time", err)
	}
	return o, nil
}

func (k *Consumer) ends(ctx context.Context, isolation oncelogv1.IsolationLevel) (Offsets, error) {
	return k.c.listOffsets(ctx, partitionsOf(k.reading()),
		offsetTarget{position: oncelogv1.StartPosition_START_POSITION_LATEST}, isolation)
}

// Reached reports whether the positions are at or after ends, such as those of
// EndOffsets; partitions that are not assigned are ignored.
func (k *Consumer) Reached(ends Offsets) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.reachedLocked(ends)
}

func (k *Consumer) reachedLocked(ends Offsets) bool {
	for tp, end := range ends {
		if r := k.byKey[tp]; r != nil && r.position < end {
			return false
		}
	}
	return true
}

// ReadToEnd polls until everything that was durable when it was called has been
// read or passed over, and gives every batch to fn. Where open transactions hold
// readers back it waits for them to end. It is how a program reads its own state
// back: InitTransactions first, which ends what an earlier life left open, then
// ReadToEnd. An error of fn is returned unchanged.
func (k *Consumer) ReadToEnd(ctx context.Context, fn func(b *Batch) error) error {
	ends, err := k.ends(ctx, oncelogv1.IsolationLevel_ISOLATION_LEVEL_READ_UNCOMMITTED)
	if err != nil {
		return wrap("read to end", err)
	}
	return k.readTo(ctx, "read to end", ends, fn)
}

// ReadTo polls until the positions are at or after ends, whether there are records
// before them or not, and gives every batch to fn; it may give it records after
// them. Partitions that are not assigned are ignored. An error of fn is returned
// unchanged.
func (k *Consumer) ReadTo(ctx context.Context, ends Offsets, fn func(b *Batch) error) error {
	return k.readTo(ctx, "read to", ends, fn)
}

func (k *Consumer) readTo(ctx context.Context, op string, ends Offsets, fn func(b *Batch) error) error {
	for {
		b, err := k.poll(ctx, ends)
		if err != nil {
			return wrap(op, err)
		}
		if b == nil {
			return nil
		}
		if err := fn(b); err != nil {
			return err
		}
	}
}
