package streams

import (
	"errors"
	"fmt"

	"github.com/oncelog/oncelog/client/streams/internal/engine"
)

// StoreRef is a store that a [Processor] works with: a [Store] or a [WindowStore].
type StoreRef interface {
	// spec returns what the engine has to know, and what is wrong with it.
	spec() (s engine.StoreSpec, problem string)
}

// Scope is where a store is read and changed: the [Context] of a step, which sees
// what the transaction has changed so far, or a [Driver]. For what is committed see
// [Query].
type Scope interface {
	scope(store string) (*engine.Store, error)
}

// Store names a key-value store and says how its entries are encoded. Every task
// has one of its own, with the keys of its partition. Each change goes to the
// store's changelog, the topic "<application>-<name>-changelog", in the transaction
// that it belongs to.
type Store[K, V any] struct {
	name  string
	key   Serde[K]
	value Serde[V]
}

// NewStore returns a store's name and types. The name, characters of
// [a-zA-Z0-9._-], is unique within a topology.
func NewStore[K, V any](name string, key Serde[K], value Serde[V]) Store[K, V] {
	return Store[K, V]{name: name, key: key, value: value}
}

// Name returns the name of the store.
func (s Store[K, V]) Name() string { return s.name }

func (s Store[K, V]) spec() (engine.StoreSpec, string) {
	if !s.key.complete() || !s.value.complete() {
		return engine.StoreSpec{Name: s.name}, "a serde lacks Encode or Decode"
	}
	return engine.StoreSpec{Name: s.name}, ""
}

// Get returns the value of a key; ok says whether there is one.
func (s Store[K, V]) Get(in Scope, key K) (value V, ok bool, err error) {
	e, k, err := s.open(in, key)
	if err != nil {
		return value, false, err
	}
	b, err := e.Get(k)
	return decodeValue(s.name, s.value, b, err)
}

// Put sets the value of a key. A value of which nothing is encoded removes it.
func (s Store[K, V]) Put(in Scope, key K, value V) error {
	e, k, err := s.open(in, key)
	if err != nil {
		return err
	}
	b, err := s.value.Encode(value)
	if err != nil {
		return &EncodeError{Topic: s.name, Part: "value", Err: err}
	}
	e.Put(k, b)
	return nil
}

// Delete removes a key, if it is there.
func (s Store[K, V]) Delete(in Scope, key K) error {
	e, k, err := s.open(in, key)
	if err != nil {
		return err
	}
	e.Put(k, nil)
	return nil
}

// Each calls fn with every entry, in the order of the keys' bytes, until it fails,
// and returns its error unchanged. fn may change the store; whether it is shown
// changes of what is still to come is not said.
func (s Store[K, V]) Each(in Scope, fn func(key K, value V) error) error {
	e, err := in.scope(s.name)
	if err != nil {
		return err
	}
	return each(e, nil, nil, func(k, v []byte) error { return s.entry(k, v, fn) })
}

// Range is Each from a key on, up to and without another one.
func (s Store[K, V]) Range(in Scope, from, to K, fn func(key K, value V) error) error {
	e, first, err := s.open(in, from)
	if err != nil {
		return err
	}
	end, err := encodeKey(s.name, s.key, to)
	if err != nil {
		return err
	}
	return each(e, first, end, func(k, v []byte) error { return s.entry(k, v, fn) })
}

func (s Store[K, V]) open(in Scope, key K) (*engine.Store, []byte, error) {
	e, err := in.scope(s.name)
	if err != nil {
		return nil, nil, err
	}
	k, err := encodeKey(s.name, s.key, key)
	return e, k, err
}

func (s Store[K, V]) entry(k, v []byte, fn func(key K, value V) error) error {
	key, err := s.key.Decode(k)
	if err != nil {
		return fmt.Errorf("streams: a key of store %s: %w", s.name, err)
	}
	value, _, err := decodeValue(s.name, s.value, v, nil)
	if err != nil {
		return err
	}
	return fn(key, value)
}

// scanner is what a store and the state that is committed have in common.
type scanner interface {
	Get(key []byte) ([]byte, error)
	Scan(from, to []byte, fn func(key, value []byte) bool) error
}

// each is Scan with a function that can fail.
func each(s scanner, from, to []byte, fn func(key, value []byte) error) error {
	var failed error
	err := s.Scan(from, to, func(k, v []byte) bool {
		failed = fn(k, v)
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

func encodeKey[K any](store string, serde Serde[K], key K) ([]byte, error) {
	b, err := serde.Encode(key)
	if err == nil && b == nil {
		err = errors.New("nothing was encoded; an entry of a store has a key")
	}
	if err != nil {
		return nil, &EncodeError{Topic: store, Part: "key", Err: err}
	}
	return b, nil
}

func decodeValue[V any](store string, serde Serde[V], b []byte, err error) (value V, ok bool, _ error) {
	if err != nil || b == nil {
		return value, false, err
	}
	if value, err = serde.Decode(b); err != nil {
		return value, false, fmt.Errorf("streams: a value of store %s: %w", store, err)
	}
	return value, true, nil
}

// entryOf is Get and Put for steps of the package, within a task.
func (s Store[K, V]) entryOf(t *engine.Task, key K) (e *engine.Store, k []byte, value V, ok bool, err error) {
	if e = t.Store(s.name); e == nil {
		return nil, nil, value, false, noStore(s.name)
	}
	if k, err = encodeKey(s.name, s.key, key); err != nil {
		return nil, nil, value, false, err
	}
	b, err := e.Get(k)
	value, ok, err = decodeValue(s.name, s.value, b, err)
	return e, k, value, ok, err
}

func noStore(name string) error { return fmt.Errorf("%w: %s", ErrNoStore, name) }
