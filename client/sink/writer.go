package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/oncelog/oncelog/client"
)

// RunIdempotent writes the records of topics with a Writer, each at least once, and
// commits the group's positions after it, until ctx ends, whose error it returns, or
// until something fails that trying again does not help. Since writing again changes
// nothing, the result is that of writing once.
//
// name is the consumer group, 1 to 249 bytes. A call of the writer that fails with a
// retriable error is repeated until ctx ends; every other error ends the sink,
// unchanged. A batch whose partitions the group has given away meanwhile is written
// again by their next owner.
//
// What was removed by retention before it was written is an error unless
// WithSkipRemoved is given. WithReportInterval has no meaning here.
func RunIdempotent(ctx context.Context, c *client.Client, name string, topics []string, w Writer, opts ...Option) error {
	cfg := defaultConfig()
	for _, o := range opts {
		o(&cfg)
	}
	if err := cfg.check(name, topics); err != nil {
		return err
	}
	if w == nil {
		return fmt.Errorf("sink %s: no writer", name)
	}
	b := newBase(ctx, c, name, cfg)
	consumer := append(b.options(), client.WithStart(cfg.start), client.WithOnRevoked(func(*client.Consumer, []client.TopicPartition) { b.awaitCall() }))
	if !cfg.skipRemoved {
		consumer = append(consumer, client.WithoutReset())
	}
	in, err := c.Consume(ctx, name, topics, consumer...)
	if err != nil {
		return ended(ctx, err)
	}
	err = b.write(ctx, in, w)
	if closeErr := in.Close(); closeErr != nil {
		cfg.logger.Debug("the group was not told that the sink has ended", "sink", name, "error", closeErr)
	}
	return ended(ctx, err)
}

func (b *base) write(ctx context.Context, in *client.Consumer, w Writer) error {
	for {
		batch, err := in.Poll(ctx)
		if err != nil {
			return explained(b.name, err)
		}
		records := slices.Collect(batch.Records())
		err = b.repeated(ctx, "write", func(ctx context.Context) error { return w.Write(ctx, records) })
		if err != nil {
			return err
		}
		// After ErrStaleMember the group's next owner reads again what was not
		// committed; what is left of the batch here is put back.
		if err := in.Commit(ctx, batch); err != nil && !errors.Is(err, client.ErrStaleMember) {
			return err
		}
	}
}
