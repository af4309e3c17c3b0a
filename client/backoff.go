package client

import (
	"context"
	"time"

	"github.com/oncelog/oncelog/internal/task"
)

// backoff is a growing pause with jitter. Small at first: after the death of a
// leader a new one is there within about a second, and whoever waits long by
// then has waited for nothing.
type backoff struct {
	rt             *task.Runtime
	first, longest time.Duration
	current        time.Duration
}

// next returns the next pause: between half and the whole of a step that grows
// by half each time.
func (b *backoff) next() time.Duration {
	switch {
	case b.current == 0:
		b.current = b.first
	case b.current < b.longest:
		b.current += b.current / 2
	}
	b.current = min(b.current, b.longest)
	half := max(b.current, 0) / 2
	return half + time.Duration(b.rt.Rand().Int64N(int64(half)+1))
}

func (b *backoff) reset() { b.current = 0 }

// pause waits for the next pause, or for the end of ctx, whose error it returns.
func (b *backoff) pause(ctx context.Context) error { return b.atLeast(ctx, 0) }

// atLeast is pause for no less than a server has asked for.
func (b *backoff) atLeast(ctx context.Context, asked time.Duration) error {
	if b.rt.Sleep(max(b.next(), asked), ctx.Done()) {
		return nil
	}
	return ctx.Err()
}
