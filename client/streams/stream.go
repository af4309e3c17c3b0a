package streams

import (
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/streams/internal/engine"
)

// Stream is a stream of records within a topology. Each step returns a new one;
// several steps may follow one stream, and each gets every record.
//
// What a function of a step is given it must not modify. It runs on many tasks at
// the same time, and again after a transaction was aborted: what it has to remember
// belongs in a store.
type Stream[K, V any] struct {
	t       *Topology
	at      *sourceNode // one of the topics that it comes from
	next    []stage[K, V]
	rekeyed string // the step that may have changed keys; "": none
}

// emit hands a record to the steps that follow.
func (s *Stream[K, V]) emit(t *engine.Task, r Record[K, V]) error {
	for _, next := range s.next {
		if err := next(t, r); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stream[K, V]) then(next stage[K, V]) { s.next = append(s.next, next) }

// follow returns the stream of a step behind s. rekeyed is the step, if it may
// change keys.
func follow[K, V, K2, V2 any](s *Stream[K, V], rekeyed string) *Stream[K2, V2] {
	out := &Stream[K2, V2]{t: s.t, at: s.at, rekeyed: s.rekeyed}
	if rekeyed != "" {
		out.rekeyed = rekeyed
	}
	return out
}

// Filter keeps the records that keep says true of.
func (s *Stream[K, V]) Filter(keep func(r Record[K, V]) bool) *Stream[K, V] {
	out := follow[K, V, K, V](s, "")
	s.then(func(t *engine.Task, r Record[K, V]) error {
		if !keep(r) {
			return nil
		}
		return out.emit(t, r)
	})
	return out
}

// Peek shows every record to look, which may log or count it: possibly more than
// once.
func (s *Stream[K, V]) Peek(look func(r Record[K, V])) *Stream[K, V] {
	s.then(func(_ *engine.Task, r Record[K, V]) error {
		look(r)
		return nil
	})
	return s
}

// Merge returns a stream of the records of both. Their topics need the same number
// of partitions.
func (s *Stream[K, V]) Merge(other *Stream[K, V]) *Stream[K, V] {
	out := follow[K, V, K, V](s, other.rekeyed)
	if s.t != other.t {
		s.t.fail("Merge", other.t.application, "the stream is of another topology")
		return out
	}
	join(s.at, other.at)
	s.then(out.emit)
	other.then(out.emit)
	return out
}

// To writes the stream to a topic, which must exist. Records go to the partition of
// their key.
func (s *Stream[K, V]) To(topic Topic[K, V]) {
	if !validName(topic.Name) {
		s.t.fail("To", topic.Name, "not the name of a topic")
	}
	s.t.checkSerdes("To", topic.Name, topic.Key.complete() && topic.Value.complete())
	s.then(func(t *engine.Task, r Record[K, V]) error {
		out, err := topic.encode(r)
		if err != nil {
			return err
		}
		return t.Send(out)
	})
}

// RepartitionOption configures Repartition.
type RepartitionOption func(*engine.Source)

// WithPartitions sets the number of partitions, 1 to 10,000. Default: as many as the
// topics that are read together with it, else as many as the topics before it.
func WithPartitions(n int) RepartitionOption { return func(s *engine.Source) { s.Partitions = n } }

// Repartition sends the stream through the topic "<application>-<name>-repartition",
// which the application creates, so that records with equal keys are in one
// partition again. It is needed between a step that changes keys and one that keeps
// state by key.
func (s *Stream[K, V]) Repartition(name string, key Serde[K], value Serde[V], opts ...RepartitionOption) *Stream[K, V] {
	topic := NewTopic(s.t.application+"-"+name+"-repartition", key, value)
	out := &Stream[K, V]{t: s.t}
	source := engine.Source{
		Topic: topic.Name, Internal: true, From: s.at.source.Topic,
		Process: func(t *engine.Task, r *client.Record) error {
			in, err := topic.decode(r)
			if err != nil {
				return err
			}
			return out.emit(t, in)
		},
	}
	for _, o := range opts {
		o(&source)
	}
	if source.Partitions < 0 || source.Partitions > maxPartitions {
		s.t.fail("Repartition", name, "the number of partitions is 1 to 10,000")
	}
	out.at = s.t.add("Repartition", source)
	s.To(topic)
	return out
}

// maxPartitions is the contract's limit on the partitions of a topic.
const maxPartitions = 10_000

// MarkAsPartitioned says that the records are in the partitions of their keys
// although a step may have changed those. If it is not true, equal keys are counted
// apart.
func (s *Stream[K, V]) MarkAsPartitioned() *Stream[K, V] {
	out := follow[K, V, K, V](s, "")
	out.rekeyed = ""
	s.then(out.emit)
	return out
}

// byKey reports a step that needs equal keys in one partition.
func (s *Stream[K, V]) byKey(step, name string) {
	if s.rekeyed != "" {
		s.t.fail(step, name, s.rekeyed+" may have changed keys, and equal ones may be in different partitions: Repartition first")
	}
}

// Map makes one record of every record. If it leaves keys alone, MapValues keeps
// the partitioning.
func Map[K, V, K2, V2 any](s *Stream[K, V], f func(r Record[K, V]) Record[K2, V2]) *Stream[K2, V2] {
	out := follow[K, V, K2, V2](s, "Map")
	s.then(func(t *engine.Task, r Record[K, V]) error { return out.emit(t, f(r)) })
	return out
}

// FlatMap makes any number of records of every record.
func FlatMap[K, V, K2, V2 any](s *Stream[K, V], f func(r Record[K, V]) []Record[K2, V2]) *Stream[K2, V2] {
	out := follow[K, V, K2, V2](s, "FlatMap")
	s.then(func(t *engine.Task, r Record[K, V]) error {
		for _, next := range f(r) {
			if err := out.emit(t, next); err != nil {
				return err
			}
		}
		return nil
	})
	return out
}

// MapValues changes values.
func MapValues[K, V, V2 any](s *Stream[K, V], f func(v V) V2) *Stream[K, V2] {
	out := follow[K, V, K, V2](s, "")
	s.then(func(t *engine.Task, r Record[K, V]) error { return out.emit(t, withValue(r, f(r.Value))) })
	return out
}

// FlatMapValues makes any number of values of every value.
func FlatMapValues[K, V, V2 any](s *Stream[K, V], f func(v V) []V2) *Stream[K, V2] {
	out := follow[K, V, K, V2](s, "")
	s.then(func(t *engine.Task, r Record[K, V]) error {
		for _, v := range f(r.Value) {
			if err := out.emit(t, withValue(r, v)); err != nil {
				return err
			}
		}
		return nil
	})
	return out
}

// SelectKey gives records another key. Before a step that keeps state by key,
// Repartition.
func SelectKey[K, V, K2 any](s *Stream[K, V], f func(key K, value V) K2) *Stream[K2, V] {
	out := follow[K, V, K2, V](s, "SelectKey")
	s.then(func(t *engine.Task, r Record[K, V]) error { return out.emit(t, withKey(r, f(r.Key, r.Value))) })
	return out
}

func withValue[K, V, V2 any](r Record[K, V], v V2) Record[K, V2] {
	return Record[K, V2]{Key: r.Key, Value: v, Timestamp: r.Timestamp, Headers: r.Headers}
}

func withKey[K, V, K2 any](r Record[K, V], k K2) Record[K2, V] {
	return Record[K2, V]{Key: k, Value: r.Value, Timestamp: r.Timestamp, Headers: r.Headers}
}
