package workload

import (
	"context"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/history"
)

// follow reads as a member of a group and commits positions without
// transactions.
func (w *worker) follow(ctx context.Context) error {
	partitions := w.cfg.assigned()
	for !w.over() {
		in, err := w.consume(ctx, partitions, client.ReadCommitted, nil)
		if in == nil {
			return err
		}
		if err := w.followWith(ctx, in); err != nil {
			return err
		}
		if err := w.close(in); err != nil {
			return err
		}
		partitions = w.turn()
	}
	return nil
}

// followWith goes on until the consumer has to be opened anew.
func (w *worker) followWith(ctx context.Context, in *reading) error {
	for !w.over() {
		b, err := w.poll(ctx, in)
		switch {
		case err != nil:
			return plausible(err)
		case b == nil:
			continue
		}
		b.note(nil)
		if err := w.commitPositions(ctx, in, b); err != nil {
			return plausible(err)
		}
		if w.hits(w.cfg.Restarts) || !w.think(ctx) {
			return ctx.Err()
		}
	}
	return nil
}

func (w *worker) commitPositions(ctx context.Context, in *reading, b *polled) error {
	call := w.note.CommitOffsets(w.cfg.Group, b.moves)
	err := w.bounded(ctx, func(ctx context.Context) error { return in.Commit(ctx, b.batch) })
	switch {
	case err == nil:
		call.Done(history.Committed, "")
	case noAnswer(err), codeOf(err) == "STALE_MEMBER":
		// Somebody else has the partition by now. An attempt whose answer was lost may
		// have moved the position before that.
		call.Failed(codeOf(err))
	default:
		call.Done(history.Refused, codeOf(err))
	}
	return err
}

// read reads a topic over and over: from the start, and from anywhere.
func (w *worker) read(ctx context.Context) error {
	isolation := client.ReadCommitted
	if w.cfg.Uncommitted {
		isolation = client.ReadUncommitted
	}
	reached := make(client.Offsets)
	for !w.over() {
		in, err := w.consume(ctx, w.cfg.assigned(), isolation, w.anywhere(reached))
		if in == nil {
			return err
		}
		if err := w.readWith(ctx, in, reached); err != nil {
			return err
		}
		if err := w.close(in); err != nil {
			return err
		}
	}
	return nil
}

// anywhere draws where to read from, half of the time: below what was reached
// before.
func (w *worker) anywhere(reached client.Offsets) client.Offsets {
	if w.Rand.IntN(2) == 0 {
		return nil
	}
	out := make(client.Offsets)
	for _, p := range w.cfg.assigned() {
		tp := client.TopicPartition{Topic: w.cfg.Input.Name, Partition: p}
		out[tp] = w.Rand.Int64N(reached[tp] + 1)
	}
	return out
}

// readWith reads until the consumer is to be opened anew.
func (w *worker) readWith(ctx context.Context, in *reading, reached client.Offsets) error {
	for !w.over() {
		b, err := w.poll(ctx, in)
		if err != nil {
			return plausible(err)
		}
		b.note(nil)
		if b != nil {
			for tp, next := range b.batch.Offsets() {
				reached[tp] = max(reached[tp], next)
			}
		} else if err := w.observeEnds(ctx, in); err != nil {
			return err
		}
		if w.hits(w.cfg.Restarts) || !w.think(ctx) {
			return ctx.Err()
		}
	}
	return nil
}

// observeEnds writes down the bounds of the partitions as their leaders know
// them.
func (w *worker) observeEnds(ctx context.Context, in *reading) error {
	return plausible(w.bounded(ctx, func(ctx context.Context) error {
		all, err := w.c.Admin().DescribePartitions(ctx, w.cfg.Input.Name)
		if err != nil {
			return err
		}
		for i, st := range all {
			in.note.Ends("", history.Partition{Topic: w.cfg.Input.Name, Index: int32(i)}, history.Ends{
				Start: int64(st.GetStartOffset()), Stable: int64(st.GetStableEnd()), End: int64(st.GetAppliedEnd()),
			})
		}
		return nil
	}))
}
