package workload

import (
	"context"

	"github.com/oncelog/oncelog/client"
)

// process passes records on from one topic to the next, in transactions that
// move the group's positions.
func (w *worker) process(ctx context.Context) error {
	partitions := w.cfg.assigned()
	for !w.over() {
		p, err := w.initTransactions(ctx)
		if p == nil {
			return err
		}
		// After InitTransactions: it settles what an earlier life left behind, which
		// may move the group's positions.
		for next := goOn; next == goOn && !w.over(); partitions = w.turn() {
			in, err := w.consume(ctx, partitions, client.ReadCommitted, nil)
			if in == nil {
				return err
			}
			if next, err = w.processWith(ctx, in, p); err != nil {
				return err
			}
			if err := w.close(in); err != nil {
				return err
			}
		}
	}
	return nil
}

// processWith goes on until the consumer has to be opened anew, for which the
// producer may go on or not.
func (w *worker) processWith(ctx context.Context, in *reading, p *producer) (life, error) {
	for !w.over() {
		b, err := w.poll(ctx, in)
		switch {
		case ctx.Err() != nil:
			return anew, ctx.Err()
		case err != nil:
			return goOn, plausible(err)
		case b == nil:
			continue
		}
		next, err := w.transact(ctx, p, b)
		if err != nil || next == anew {
			return anew, err
		}
		if w.hits(w.cfg.Restarts) {
			return goOn, nil
		}
		if !w.think(ctx) {
			return anew, ctx.Err()
		}
	}
	return anew, nil
}
