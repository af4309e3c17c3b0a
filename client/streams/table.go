package streams

import (
	"errors"
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/streams/internal/engine"
)

// Table is the latest value of every key: a topic whose records replace each other,
// or an aggregate. It is kept in a store of the topology.
type Table[K, V any] struct {
	t    *Topology
	at   *sourceNode
	get  func(t *engine.Task, key K) (value V, ok bool, err error)
	next []func(t *engine.Task, c change[K, V]) error
}

// change is a new value of a key; nil: it was removed.
type change[K, V any] struct {
	key       K
	value     *V
	timestamp time.Time
	headers   []client.Header
}

func (t *Table[K, V]) emit(task *engine.Task, c change[K, V]) error {
	for _, next := range t.next {
		if err := next(task, c); err != nil {
			return err
		}
	}
	return nil
}

// TableFrom reads a topic as a table: a record replaces the one before it with the
// same key, and one without a value removes it. The table is kept in a store of
// the name, which is restored from the topic itself; so the topic must keep its
// records.
func TableFrom[K, V any](t *Topology, topic Topic[K, V], store string) *Table[K, V] {
	const step = "TableFrom"
	table, kept := &Table[K, V]{t: t}, NewStore(store, topic.Key, topic.Value)
	t.checkSerdes(step, topic.Name, topic.Key.complete() && topic.Value.complete())
	decode := func(r *client.Record) (c change[K, V], err error) {
		if r.Key == nil {
			return c, decodeError(r, "key", errors.New("a record of a table has a key"))
		}
		c.timestamp, c.headers = r.Timestamp, r.Headers
		if c.key, err = topic.Key.Decode(r.Key); err != nil {
			return c, decodeError(r, "key", err)
		}
		if r.Value != nil {
			v, err := topic.Value.Decode(r.Value)
			if err != nil {
				return c, decodeError(r, "value", err)
			}
			c.value = &v
		}
		return c, nil
	}
	table.at = t.add(step, engine.Source{Topic: topic.Name, Table: true, Process: func(task *engine.Task, r *client.Record) error {
		c, err := decode(r)
		if err != nil {
			return err
		}
		task.Store(store).Put(r.Key, r.Value)
		return table.emit(task, c)
	}})
	t.addStore(step, engine.StoreSpec{
		Name: store, Topic: topic.Name, OfSource: true,
		Accept: func(r *client.Record) bool { _, err := decode(r); return err == nil },
	}, table.at)
	table.get = kept.get
	return table
}

// get reads the store within a task.
func (s Store[K, V]) get(t *engine.Task, key K) (value V, ok bool, err error) {
	_, _, value, ok, err = s.entryOf(t, key)
	return value, ok, err
}

// Updates returns the new values of the table as a stream. That a key was removed
// is not among them, see Changes.
func (t *Table[K, V]) Updates() *Stream[K, V] {
	out := &Stream[K, V]{t: t.t, at: t.at}
	t.next = append(t.next, func(task *engine.Task, c change[K, V]) error {
		if c.value == nil {
			return nil
		}
		return out.emit(task, Record[K, V]{Key: c.key, Value: *c.value, Timestamp: c.timestamp, Headers: c.headers})
	})
	return out
}

// Changes returns the new values of the table as a stream; nil: the key was
// removed. Optional has a serde for them.
func Changes[K, V any](t *Table[K, V]) *Stream[K, *V] {
	out := &Stream[K, *V]{t: t.t, at: t.at}
	t.next = append(t.next, func(task *engine.Task, c change[K, V]) error {
		return out.emit(task, Record[K, *V]{Key: c.key, Value: c.value, Timestamp: c.timestamp, Headers: c.headers})
	})
	return out
}

// Join gives every record of a stream what a table has under its key, and drops
// those that it has nothing for. It is the table as it is when the record is
// processed: of what has arrived the older is processed first, so a change that
// comes later by the clock, or arrives later, is not seen. Both topics need the same
// number of partitions.
func Join[K, V, T, R any](s *Stream[K, V], table *Table[K, T], f func(r Record[K, V], t T) R) *Stream[K, R] {
	return joinTable(s, table, "Join", func(r Record[K, V], t T, ok bool) (R, bool) {
		if !ok {
			var none R
			return none, false
		}
		return f(r, t), true
	})
}

// LeftJoin is Join that keeps every record; t is nil if the table has nothing under
// its key.
func LeftJoin[K, V, T, R any](s *Stream[K, V], table *Table[K, T], f func(r Record[K, V], t *T) R) *Stream[K, R] {
	return joinTable(s, table, "LeftJoin", func(r Record[K, V], t T, ok bool) (R, bool) {
		if !ok {
			return f(r, nil), true
		}
		return f(r, &t), true
	})
}

func joinTable[K, V, T, R any](s *Stream[K, V], table *Table[K, T], step string,
	f func(r Record[K, V], t T, ok bool) (R, bool)) *Stream[K, R] {
	out := follow[K, V, K, R](s, "")
	s.byKey(step, s.at.source.Topic)
	if s.t != table.t {
		s.t.fail(step, table.t.application, "the table is of another topology")
		return out
	}
	join(s.at, table.at)
	s.then(func(t *engine.Task, r Record[K, V]) error {
		found, ok, err := table.get(t, r.Key)
		if err != nil {
			return err
		}
		v, ok := f(r, found, ok)
		if !ok {
			return nil
		}
		return out.emit(t, withValue(r, v))
	})
	return out
}
