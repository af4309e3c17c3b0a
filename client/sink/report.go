package sink

import (
	"context"
	"errors"

	"github.com/oncelog/oncelog/client"
)

// tell tells the group how far the store is, if it is time. Only people look at that:
// what goes wrong is told another time, or never.
func (s *runner) tell(ctx context.Context, in *client.Consumer, now bool) {
	s.untold = newest(s.untold)
	if !now {
		return
	}
	s.lastTold = s.rt.Now()
	ctx, cancel := s.rt.WithTimeout(ctx, closeLimit)
	defer cancel()
	for _, b := range s.untold {
		if !s.holds(b) {
			continue // a commit that is refused would have the rest of the batch read again
		}
		if err := in.Commit(ctx, b); err != nil {
			s.cfg.logger.Debug("the group was not told the positions", "sink", s.name, "error", err)
			if errors.Is(err, context.DeadlineExceeded) {
				break
			}
		}
	}
	s.untold = nil
}

// newest leaves out batches that later ones go beyond.
func newest(batches []*client.Batch) []*client.Batch {
	if len(batches) < 2 {
		return batches
	}
	covered := map[client.TopicPartition]bool{}
	var out []*client.Batch
	for i := len(batches) - 1; i >= 0; i-- {
		news := false
		for tp := range batches[i].Offsets() { // a set: the order does not matter
			news = news || !covered[tp]
			covered[tp] = true
		}
		if news {
			out = append([]*client.Batch{batches[i]}, out...)
		}
	}
	return out
}

// holds reports whether all partitions of a batch are still claimed.
func (s *runner) holds(b *client.Batch) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for tp := range b.Offsets() { // all of them: the order does not matter
		if s.owned[tp] == nil {
			return false
		}
	}
	return true
}

// finish ends the consumer, after the group was told the last positions.
func (s *runner) finish(ctx context.Context, in *client.Consumer) {
	s.tell(context.WithoutCancel(ctx), in, len(s.untold) > 0)
	if err := in.Close(); err != nil {
		s.cfg.logger.Debug("the group was not told that the sink has ended", "sink", s.name, "error", err)
	}
}
