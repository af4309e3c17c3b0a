package pebblelog

import (
	"errors"
	"io"

	"github.com/cockroachdb/pebble/v2"

	"github.com/oncelog/oncelog/raftstore"
)

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
func (s *Store) get(key []byte, fn func(v []byte) error) (ok bool, err error) {
	if err := s.enter(); err != nil {
		return false, err
	}
	defer s.leave()
	v, closer, err := s.lookUp(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, s.readError(keyName(key), err)
	}
	defer closer.Close()
	return true, fn(v)
}

func (s *Store) lookUp(key []byte) (v []byte, closer io.Closer, err error) {
	defer caught(&err)
	return s.db.Get(key)
}

// scan calls fn for [lo, hi) until it returns false or an error.
func (s *Store) scan(lo, hi []byte, fn func(k, v []byte) (bool, error)) error {
	return s.iterate(lo, hi, func(it *pebble.Iterator) error {
		for more := it.First(); more; more = it.Next() {
			v, err := it.ValueAndErr()
			if err != nil {
				return pebbleError{err}
			}
			if more, err = fn(it.Key(), v); err != nil || !more {
				return err
			}
		}
		return nil
	})
}

// pebbleError is what Pebble says inside of iterate, as opposed to what the
// caller makes of the data.
type pebbleError struct{ error }

// iterate lets fn walk over [lo, hi).
func (s *Store) iterate(lo, hi []byte, fn func(*pebble.Iterator) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	at := append([]byte(nil), lo...) // about where, for errors
	err := s.walk(lo, hi, func(it *pebble.Iterator) error {
		err := fn(it)
		if it.Valid() {
			at = append(at[:0], it.Key()...)
		}
		return err
	})
	if p, ok := err.(pebbleError); ok { //nolint:errorlint // never wrapped
		return s.readError("at or behind "+keyName(at), p.error)
	}
	return err
}

func (s *Store) walk(lo, hi []byte, fn func(*pebble.Iterator) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = pebbleError{panicked(p)}
		}
	}()
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
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
