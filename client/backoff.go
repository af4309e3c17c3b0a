package client

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is a growing pause with jitter. Small at first: after the death of a
// leader a new one is there within about a second, and whoever waits long by
// then has waited for nothing.
type backoff struct {
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
	return half + rand.N(half+1)
}

func (b *backoff) reset() { b.current = 0 }

// pause waits for d, or for the end of ctx, whose error it returns.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
