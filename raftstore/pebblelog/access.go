package pebblelog

import (
	"errors"
	"io"

	"github.com/cockroachdb/pebble/v2"

	"github.com/oncelog/oncelog/raftstore"
)

// Every read goes through get or iterate, which count readers, turn what Pebble
// panics with into errors, and have errors name what was read.

// enter begins a read; leave must follow unless it fails.
func (s *Store) enter() error {
	s.readers.Add(1)
	if s.closed.Load() {
		s.leave()
		return raftstore.ErrStopped
	}
	return nil
}

func (s *Store) leave() {
	if s.readers.Add(-1) == 0 && s.closed.Load() {
		select {
		case s.idle <- struct{}{}:
		default:
		}
	}
}

// get calls fn with the value at key, which is valid only during the call.
func (r reader) get(key []byte, fn func(v []byte) error) (ok bool, err error) {
	if err := r.s.enter(); err != nil {
		return false, err
	}
	defer r.s.leave()
	v, closer, err := r.lookUp(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, r.s.readError(keyName(key), err)
	}
	defer closer.Close()
	return true, fn(v)
}

func (r reader) lookUp(key []byte) (v []byte, closer io.Closer, err error) {
	defer caught(&err)
	return r.source().Get(key)
}

// pebbleError is what Pebble says inside of iterate, as opposed to what the
// caller makes of the data.
type pebbleError struct{ error }

// iterate lets fn walk over keys of the group's present generation.
func (r reader) iterate(g raftstore.GroupID, bounds func(gen uint32) (lo, hi []byte), fn func(*pebble.Iterator) error) error {
	if err := r.s.enter(); err != nil {
		return err
	}
	defer r.s.leave()
	var at []byte // about where, for errors
	err := r.walk(g, func(gen uint32) (lo, hi []byte) {
		lo, hi = bounds(gen)
		at = append(at[:0], lo...)
		return lo, hi
	}, func(it *pebble.Iterator) error {
		err := fn(it)
		if it.Valid() {
			at = append(at[:0], it.Key()...)
		}
		return err
	})
	if p, ok := err.(pebbleError); ok { //nolint:errorlint // never wrapped
		return r.s.readError("at or behind "+keyName(at), p.error)
	}
	return err
}

func (r reader) walk(g raftstore.GroupID, bounds func(gen uint32) (lo, hi []byte), fn func(*pebble.Iterator) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = pebbleError{panicked(p)}
		}
	}()
	it, err := r.open(g, bounds)
	if err != nil {
		return pebbleError{err}
	}
	err = fn(it)
	if failed := it.Error(); failed != nil && err == nil {
		err = pebbleError{failed}
	}
	if failed := it.Close(); failed != nil && err == nil {
		err = pebbleError{failed}
	}
	return err
}

// open returns an iterator over keys of the group's present generation.
func (r reader) open(g raftstore.GroupID, bounds func(gen uint32) (lo, hi []byte)) (it *pebble.Iterator, err error) {
	err = r.settled(g, func(gen uint32) error {
		if it != nil {
			_ = it.Close() // nothing was read: nothing is lost with its error
		}
		lo, hi := bounds(gen)
		it, err = r.source().NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
		return err
	})
	return it, err
}
