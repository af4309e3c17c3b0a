package sinktest

import (
	"context"
	"slices"
	"sync"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/sink"
)

// Memory is a sink.Store in memory, for tests of programs that use package sink, and
// of the package itself. What it has taken is what a table with one row per record
// would hold.
type Memory struct {
	// Before is called by every Apply before it does anything, and After when it has
	// taken effect; an error is what the caller gets. Both may block, and are called
	// concurrently. Set them before the store is used.
	Before, After func(ctx context.Context, parts []sink.Part) error

	mu        sync.Mutex
	positions map[place]row
	taken     []client.Record
}

type place struct {
	sink string
	tp   client.TopicPartition
}

type row struct {
	id    uint64
	epoch int64
	next  int64
}

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{positions: map[place]row{}} }

// Claim implements sink.Store.
func (m *Memory) Claim(ctx context.Context, name string, partitions []sink.Partition) ([]sink.Claim, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	claims := make([]sink.Claim, len(partitions))
	for i, p := range partitions {
		r, known := m.positions[place{name, p.TopicPartition}]
		if !known {
			r = row{id: p.ID, next: sink.NoPosition}
		}
		if r.id != p.ID {
			return nil, &sink.TopicChangedError{Partition: p, Stored: r.id}
		}
		claims[i] = sink.Claim{Epoch: r.epoch + 1, Next: r.next}
	}
	for i, p := range partitions {
		m.positions[place{name, p.TopicPartition}] = row{id: p.ID, epoch: claims[i].Epoch, next: claims[i].Next}
	}
	return claims, nil
}

// Apply implements sink.Store.
func (m *Memory) Apply(ctx context.Context, name string, parts []sink.Part) error {
	if m.Before != nil {
		if err := m.Before(ctx, parts); err != nil {
			return err
		}
	}
	if err := m.apply(ctx, name, parts); err != nil {
		return err
	}
	if m.After != nil {
		return m.After(ctx, parts)
	}
	return nil
}

func (m *Memory) apply(ctx context.Context, name string, parts []sink.Part) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var fenced []client.TopicPartition
	done := 0
	for _, p := range parts {
		r := m.positions[place{name, p.Partition.TopicPartition}]
		switch {
		case r.epoch != p.Epoch || r.id != p.Partition.ID || r.next != p.From && r.next != p.To:
			fenced = append(fenced, p.Partition.TopicPartition)
		case r.next == p.To:
			done++
		}
	}
	if fenced != nil {
		return &sink.FencedError{Partitions: fenced}
	}
	if done == len(parts) {
		return nil
	}
	for _, p := range parts {
		r := m.positions[place{name, p.Partition.TopicPartition}]
		if r.next == p.To {
			continue
		}
		r.next = p.To
		m.positions[place{name, p.Partition.TopicPartition}] = r
		for _, rec := range p.Records {
			m.taken = append(m.taken, *rec)
		}
	}
	return nil
}

// Taken returns what was taken, in the order of taking.
func (m *Memory) Taken() []client.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.taken)
}

// Claims returns how often partitions were claimed, over all of them.
func (m *Memory) Claims() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	var n int64
	for _, r := range m.positions { // a sum: the order does not matter
		n += r.epoch
	}
	return n
}

// Position returns where a sink stands in a partition; sink.NoPosition: nowhere.
func (m *Memory) Position(name string, tp client.TopicPartition) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, known := m.positions[place{name, tp}]; known {
		return r.next
	}
	return sink.NoPosition
}
