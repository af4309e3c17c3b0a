package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/oncelog/oncelog/client"
)

// feedTick is how often the feeder sends.
const feedTick = 50 * time.Millisecond

// gate is how far the feeder may go: the script opens it step by step, so that
// every failure meets work, however fast the text is worked off.
type gate struct {
	mu     sync.Mutex
	limit  int // lines
	opened chan struct{}
}

func newGate(limit int) *gate { return &gate{limit: limit, opened: make(chan struct{})} }

// open lets the feeder go on to limit.
func (g *gate) open(limit int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit = max(g.limit, limit)
	close(g.opened)
	g.opened = make(chan struct{})
}

func (g *gate) state() (limit int, opened <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.limit, g.opened
}

// feed sends all lines, spread over the time that it is to take, as an
// idempotent producer.
func feed(ctx context.Context, c *client.Client, lines []line, takes time.Duration, g *gate, t *tally) error {
	producer, err := c.IdempotentProducer(ctx)
	if err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	defer producer.Close()
	ticker := time.NewTicker(feedTick)
	defer ticker.Stop()
	begin := t.now()
	for sent := 0; sent < len(lines); {
		due := len(lines)
		if elapsed := t.now().Sub(begin); elapsed < takes {
			due = int(float64(len(lines)) * float64(elapsed) / float64(takes))
		}
		limit, opened := g.state()
		due = min(due, limit)
		for _, l := range lines[sent:max(sent, due)] {
			r := &client.Record{Topic: topicLines, Key: []byte(l.key), Value: []byte(l.text)}
			if err := producer.Send(ctx, r); err != nil {
				return fmt.Errorf("feed: %w", err)
			}
			sent++
		}
		t.setFed(sent)
		wait := (<-chan struct{})(nil)
		if due == limit && limit < len(lines) {
			wait = opened
		}
		if err := nextTick(ctx, ticker, wait); err != nil {
			return err
		}
	}
	if err := producer.Flush(ctx); err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	return nil
}

// nextTick waits for the ticker, or for opened if it is not nil.
func nextTick(ctx context.Context, ticker *time.Ticker, opened <-chan struct{}) error {
	if opened == nil {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return cause(ctx)
		}
		return nil
	}
	select {
	case <-opened:
	case <-ctx.Done():
		return cause(ctx)
	}
	return nil
}
