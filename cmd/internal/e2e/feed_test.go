package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/oncelog/oncelog/client"
)

// feed writes to a topic until it is stopped, in transactions of which every fifth is
// aborted.
type feed struct {
	t      *testing.T
	cancel context.CancelFunc
	done   chan struct{}

	mu        sync.Mutex
	committed []string
}

func startFeed(t *testing.T, c *client.Client, topic string) *feed {
	t.Helper()
	p := producer(t, c, unique(t, "feed"))
	ctx, cancel := context.WithCancel(t.Context())
	f := &feed{t: t, cancel: cancel, done: make(chan struct{})}
	go f.run(ctx, p, topic)
	t.Cleanup(func() { f.stop() })
	return f
}

func (f *feed) run(ctx context.Context, p *client.Producer, topic string) {
	defer close(f.done)
	for n := 0; ctx.Err() == nil; n++ {
		let(f.t, 50*time.Millisecond)
		var values []string
		bad := fmt.Errorf("transaction %d is to be aborted", n)
		// Not ctx: what has begun is ended, so that its outcome is known.
		err := p.Transact(context.WithoutCancel(ctx), func(tx *client.Tx) error {
			values = nil
			for i := range 10 {
				v := fmt.Sprintf("v%d.%d", n, i)
				values = append(values, v)
				if err := tx.Send(ctx, &client.Record{Topic: topic, Key: []byte(v), Value: []byte(v)}); err != nil {
					return err
				}
			}
			if n%5 == 4 {
				return bad
			}
			return nil
		})
		if err == bad || ctx.Err() != nil && err != nil { //nolint:errorlint // its own error, unchanged
			continue
		}
		if err != nil {
			f.t.Errorf("feed: %v", err)
			return
		}
		f.mu.Lock()
		f.committed = append(f.committed, values...)
		f.mu.Unlock()
	}
}

// so returns what was committed so far.
func (f *feed) so() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.committed)
}

// stop stops writing and returns what was committed.
func (f *feed) stop() []string {
	f.cancel()
	<-f.done
	return f.so()
}
