package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
)

// claim makes the sink the owner of what was assigned, and has it read from where the
// store stands.
func (s *runner) claim(ctx context.Context, in *client.Consumer) error {
	for {
		var parts []Partition
		var numbers map[client.TopicPartition]uint64
		var claims []Claim
		err := s.repeated(ctx, "claim", func(ctx context.Context) (err error) {
			// Asked before every attempt: a partition that the group has given to
			// somebody else meanwhile must not be taken from them.
			if parts, numbers = s.waiting(in); len(parts) == 0 {
				return nil
			}
			claims, err = s.store.Claim(ctx, s.name, parts)
			return err
		})
		if err != nil || len(parts) == 0 {
			return err
		}
		if len(claims) != len(parts) {
			return fmt.Errorf("sink %s: the store answered %d claims for %d partitions", s.name, len(claims), len(parts))
		}
		positions := make([]*position, len(parts))
		for i, c := range claims {
			positions[i] = &position{part: parts[i], epoch: c.Epoch, next: c.Next}
		}
		if err := s.place(ctx, in, positions, numbers); err != nil {
			return err
		}
		s.begin(in, positions, numbers)
	}
}

// place stores where partitions begin that have no position: whoever takes over before
// the first record must begin there, too.
func (s *runner) place(ctx context.Context, in *client.Consumer, positions []*position, numbers map[client.TopicPartition]uint64) error {
	logs := map[string][]*oncelogv1.PartitionStatus{}
	var begins []Part
	for _, p := range positions {
		if p.next != NoPosition {
			continue
		}
		tp := p.part.TopicPartition
		if s.cfg.start == client.StartNone {
			return fmt.Errorf("sink %s: %v: %w in the store", s.name, tp, client.ErrNoOffset)
		}
		status, known := logs[tp.Topic]
		if !known {
			var err error
			if status, err = s.c.Admin().DescribePartitions(ctx, tp.Topic); err != nil {
				return err
			}
			logs[tp.Topic] = status
		}
		if int(tp.Partition) >= len(status) {
			return fmt.Errorf("sink %s: topic %s has no partition %d any more", s.name, tp.Topic, tp.Partition)
		}
		p.next = int64(status[tp.Partition].GetStartOffset())
		if s.cfg.start == client.StartLatest {
			p.next = int64(status[tp.Partition].GetStableEnd())
		}
		begins = append(begins, Part{Partition: p.part, Epoch: p.epoch, From: NoPosition, To: p.next})
	}
	if len(begins) == 0 {
		return nil
	}
	return s.applyAll(ctx, func() []Part { return begins }, func(lost []client.TopicPartition) {
		begins = slices.DeleteFunc(begins, func(p Part) bool { return slices.Contains(lost, p.Partition.TopicPartition) })
		s.fence(in, lost, func(tp client.TopicPartition) bool {
			n, waiting := s.fresh[tp]
			return waiting && n == numbers[tp]
		})
	})
}

// apply takes a batch into the store.
func (s *runner) apply(ctx context.Context, in *client.Consumer, b *client.Batch) error {
	all := s.parts(in, b)
	var last []Part
	err := s.applyAll(ctx, func() []Part {
		last = s.stillOwned(all)
		return last
	}, func(lost []client.TopicPartition) {
		s.fence(in, lost, func(tp client.TopicPartition) bool {
			p := s.owned[tp]
			return p != nil && slices.ContainsFunc(last, func(part Part) bool { return part.Partition.TopicPartition == tp && part.Epoch == p.epoch })
		})
	})
	if err != nil {
		return err
	}
	s.advance(last)
	if len(last) > 0 && s.cfg.report > 0 {
		s.untold = append(s.untold, b)
	}
	return nil
}

// applyAll applies parts until all that are left of them are taken. parts is asked
// before every attempt; lost is told what the store has refused.
func (s *runner) applyAll(ctx context.Context, parts func() []Part, lost func([]client.TopicPartition)) error {
	for {
		err := s.repeated(ctx, "apply", func(ctx context.Context) error {
			now := parts()
			if len(now) == 0 {
				return nil
			}
			return s.store.Apply(ctx, s.name, now)
		})
		var fenced *FencedError
		if !errors.As(err, &fenced) || len(fenced.Partitions) == 0 {
			return err
		}
		s.cfg.logger.Warn("somebody else has claimed partitions", "sink", s.name, "partitions", fmt.Sprint(fenced.Partitions))
		lost(fenced.Partitions)
	}
}

// parts splits a batch by partition. Records of partitions that are not claimed any
// more are left out, and such as were taken already.
func (s *runner) parts(in *client.Consumer, b *client.Batch) []Part {
	records := map[client.TopicPartition][]*client.Record{}
	for r := range b.Records() {
		tp := client.TopicPartition{Topic: r.Topic, Partition: r.Partition}
		records[tp] = append(records[tp], r)
	}
	starts, ends := b.StartOffsets(), b.Offsets()
	s.mu.Lock()
	defer s.mu.Unlock()
	var parts []Part
	for _, tp := range sortedPartitions(ends) {
		p := s.owned[tp]
		if p == nil || ends[tp] <= p.next {
			continue
		}
		if starts[tp] > p.next {
			if !s.cfg.skipRemoved {
				in.Seek(client.Offsets{tp: p.next}) // never a hole
				continue
			}
			s.cfg.logger.Warn("records were removed before they were taken",
				"sink", s.name, "partition", tp.String(), "position", p.next, "continues_at", starts[tp])
		}
		rs := slices.DeleteFunc(records[tp], func(r *client.Record) bool { return r.Offset < p.next })
		parts = append(parts, Part{Partition: p.part, Epoch: p.epoch, From: p.next, To: ends[tp], Records: rs})
	}
	return parts
}

func sortedPartitions(o client.Offsets) []client.TopicPartition {
	all := make([]client.TopicPartition, 0, len(o))
	for tp := range o { // sorted below
		all = append(all, tp)
	}
	slices.SortFunc(all, byName)
	return all
}

// stillOwned leaves out parts whose partition is not claimed any more.
func (s *runner) stillOwned(parts []Part) []Part {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Part
	for _, part := range parts {
		if p := s.owned[part.Partition.TopicPartition]; p != nil && p.epoch == part.Epoch {
			out = append(out, part)
		}
	}
	return out
}

// advance takes note of what the store has taken.
func (s *runner) advance(parts []Part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, part := range parts {
		if p := s.owned[part.Partition.TopicPartition]; p != nil && p.epoch == part.Epoch {
			p.next = part.To
		}
	}
}
