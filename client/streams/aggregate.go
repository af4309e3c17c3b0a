package streams

import (
	"github.com/oncelog/oncelog/client/streams/internal/engine"
)

// Aggregate keeps a value per key, and folds every record into it. A key that is new
// begins with the zero value. f must not modify what it is given.
func Aggregate[K, V, A any](s *Stream[K, V], store Store[K, A], f func(so A, r Record[K, V]) A) *Table[K, A] {
	return fold(s, "Aggregate", store, func(so A, _ bool, r Record[K, V]) A { return f(so, r) })
}

// Reduce keeps a value per key: the first one, and then what f makes of that and
// each that follows.
func (s *Stream[K, V]) Reduce(store Store[K, V], f func(so, v V) V) *Table[K, V] {
	return fold(s, "Reduce", store, func(so V, ok bool, r Record[K, V]) V {
		if !ok {
			return r.Value
		}
		return f(so, r.Value)
	})
}

// Count counts the records of every key.
func (s *Stream[K, V]) Count(store Store[K, int64]) *Table[K, int64] {
	return fold(s, "Count", store, func(n int64, _ bool, _ Record[K, V]) int64 { return n + 1 })
}

// ToTable keeps the latest value of every key.
func (s *Stream[K, V]) ToTable(store Store[K, V]) *Table[K, V] {
	return fold(s, "ToTable", store, func(_ V, _ bool, r Record[K, V]) V { return r.Value })
}

func fold[K, V, A any](s *Stream[K, V], step string, store Store[K, A], f func(so A, ok bool, r Record[K, V]) A) *Table[K, A] {
	table := &Table[K, A]{t: s.t, at: s.at, get: store.get}
	s.byKey(step, store.name)
	s.t.attach(step, store, s.at)
	s.then(func(t *engine.Task, r Record[K, V]) error {
		e, k, so, ok, err := store.entryOf(t, r.Key)
		if err != nil {
			return err
		}
		next := f(so, ok, r)
		b, err := store.value.Encode(next)
		if err != nil {
			return &EncodeError{Topic: store.name, Part: "value", Err: err}
		}
		e.Put(k, b)
		c := change[K, A]{key: r.Key, value: &next, timestamp: r.Timestamp, headers: r.Headers}
		if b == nil {
			c.value = nil
		}
		return table.emit(t, c)
	})
	return table
}

// AggregateWindows keeps a value per key and window, and folds every record into
// those of the windows that it is in. Records that are too late are dropped.
func AggregateWindows[K, V, A any](s *Stream[K, V], store WindowStore[K, A], f func(so A, r Record[K, V]) A) *Table[Windowed[K], A] {
	return foldWindows(s, "AggregateWindows", store, f)
}

// CountWindows counts the records of every key and window.
func CountWindows[K, V any](s *Stream[K, V], store WindowStore[K, int64]) *Table[Windowed[K], int64] {
	return foldWindows(s, "CountWindows", store, func(n int64, _ Record[K, V]) int64 { return n + 1 })
}

func foldWindows[K, V, A any](s *Stream[K, V], step string, store WindowStore[K, A], f func(so A, r Record[K, V]) A) *Table[Windowed[K], A] {
	w, flat := store.windows, store.flat()
	table := &Table[Windowed[K], A]{t: s.t, at: s.at, get: flat.get}
	s.byKey(step, store.name)
	s.t.attach(step, store, s.at)
	s.then(func(t *engine.Task, r Record[K, V]) error {
		late := true
		err := w.starts(r.Timestamp.UnixMilli(), func(start int64) error {
			if start+(w.Size+w.Grace).Milliseconds() <= t.StreamTime() {
				return nil
			}
			late = false
			key := windowAt(r.Key, start, w.Size)
			e, k, so, _, err := flat.entryOf(t, key)
			if err != nil {
				return err
			}
			next := f(so, r)
			b, err := store.value.Encode(next)
			if err != nil {
				return &EncodeError{Topic: store.name, Part: "value", Err: err}
			}
			e.Put(k, b)
			c := change[Windowed[K], A]{key: key, value: &next, timestamp: r.Timestamp, headers: r.Headers}
			if b == nil {
				c.value = nil
			}
			return table.emit(t, c)
		})
		if late {
			t.Drop()
		}
		return err
	})
	return table
}

// attach has a step work on a store.
func (t *Topology) attach(step string, store StoreRef, at *sourceNode) {
	spec, problem := store.spec()
	if problem != "" {
		t.fail(step, spec.Name, problem)
	}
	t.useStore(step, spec, at)
}
