package workload

import (
	"context"

	"github.com/oncelog/oncelog/client"
)

// plain writes records without transactions: each is there once as soon as it is
// durable.
func (w *worker) plain(ctx context.Context) error {
	for !w.over() {
		var p *client.IdempotentProducer
		err := w.insist(ctx, func(ctx context.Context) (err error) {
			p, err = w.c.IdempotentProducer(ctx, w.producerOptions()...)
			return err
		})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			err = w.plainWith(ctx, p)
		default:
			err = plausible(err)
		}
		if err != nil || !w.think(ctx) {
			return err
		}
	}
	return nil
}

// plainWith writes until the producer has failed.
func (w *worker) plainWith(ctx context.Context, p *client.IdempotentProducer) error {
	t := w.note.Plain(0)
	for n := 0; !w.over(); n++ {
		if w.cfg.PerInit > 0 && n == w.cfg.PerInit {
			return plausible(p.Close())
		}
		w.transactions++ // of one group of records each
		some := w.spread()
		err := w.send(ctx, t, some, p.Send)
		if err == nil {
			err = w.insist(ctx, p.Flush)
		}
		if err != nil {
			_ = p.Close() // it has told why already
			return plausible(err)
		}
		acknowledged(t, some)
		if !w.think(ctx) {
			return ctx.Err()
		}
	}
	return nil
}
