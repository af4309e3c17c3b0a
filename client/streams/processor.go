package streams

import (
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/streams/internal/engine"
)

// Clock is what a punctuation goes by.
type Clock uint8

// Clocks.
const (
	// StreamTime is the highest timestamp that the task has seen. It stands still
	// while no records come.
	StreamTime Clock = iota
	// WallTime is the time of day. Punctuations are at most one commit interval late.
	WallTime
)

// Processor is a step that the others cannot express: it may send any records, at
// any time, keep what it likes in stores, and fail.
type Processor[K, V, K2, V2 any] struct {
	// Stores are what Process and the punctuators work with; they may be those of
	// other steps.
	Stores []StoreRef
	// Process is called with every record. An error ends the application: it would
	// happen again. Required.
	Process func(ctx *Context[K2, V2], r Record[K, V]) error
	// Punctuators are called from time to time.
	Punctuators []Punctuator[K2, V2]
}

// Punctuator is called from time to time by every task, in a transaction like a
// record.
type Punctuator[K, V any] struct {
	// Every is the period, 1 ms or more. Periods are counted from 1970; one that
	// several periods have passed over is called once.
	Every time.Duration
	// Clock is what Every is measured by.
	Clock Clock
	// Do is called with the time by that clock.
	Do func(ctx *Context[K, V], now time.Time) error
}

// Context is what a [Processor] is given: the task that it runs in. It is valid
// during the call.
type Context[K, V any] struct {
	task *engine.Task
	out  *Stream[K, V]
}

// Forward hands a record to the steps that follow. Its error is to be returned.
func (c *Context[K, V]) Forward(r Record[K, V]) error { return c.out.emit(c.task, r) }

// StreamTime returns the highest timestamp that the task has seen; zero: none.
func (c *Context[K, V]) StreamTime() time.Time {
	ms := c.task.StreamTime()
	if ms < 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// WallTime returns the time of day when the task was last given something to do.
func (c *Context[K, V]) WallTime() time.Time { return time.UnixMilli(c.task.WallTime()) }

// Partition returns the partition of the task.
func (c *Context[K, V]) Partition() int32 { return c.task.ID().Partition }

// Source returns where the record that is processed comes from; ok is false during a
// punctuation.
func (c *Context[K, V]) Source() (at client.TopicPartition, offset int64, ok bool) {
	r := c.task.Current()
	if r == nil {
		return at, 0, false
	}
	return client.TopicPartition{Topic: r.Topic, Partition: r.Partition}, r.Offset, true
}

func (c *Context[K, V]) scope(store string) (*engine.Store, error) {
	if s := c.task.Store(store); s != nil {
		return s, nil
	}
	return nil, noStore(store)
}

// Process runs a processor on a stream. Keys of what it forwards may have changed:
// before a step that keeps state by key, Repartition.
func Process[K, V, K2, V2 any](s *Stream[K, V], p Processor[K, V, K2, V2]) *Stream[K2, V2] {
	const step = "Process"
	out := follow[K, V, K2, V2](s, step)
	for _, store := range p.Stores {
		s.t.attach(step, store, s.at)
	}
	if p.Process == nil {
		s.t.fail(step, s.at.source.Topic, "Process is nil")
		return out
	}
	s.then(func(t *engine.Task, r Record[K, V]) error { return p.Process(&Context[K2, V2]{task: t, out: out}, r) })
	for _, u := range p.Punctuators {
		if u.Every < time.Millisecond || u.Do == nil || u.Clock > WallTime {
			s.t.fail(step, s.at.source.Topic, "a punctuator needs a period of 1 ms or more, one of the two clocks, and Do")
			continue
		}
		s.t.punctuators = append(s.t.punctuators, &punctuatorNode{at: s.at, p: engine.Punctuator{
			Every: u.Every.Milliseconds(), Wall: u.Clock == WallTime,
			Do: func(t *engine.Task, now int64) error {
				return u.Do(&Context[K2, V2]{task: t, out: out}, time.UnixMilli(now))
			},
		}})
	}
	return out
}
