package pebblelog

import (
	"bytes"

	"github.com/cockroachdb/pebble/v2"

	"github.com/oncelog/oncelog/raftstore"
)

// Rows implements raftstore.LogStore.
func (s *Store) Rows(g raftstore.GroupID) raftstore.Rows { return rows{s, g} }

type rows struct {
	s *Store
	g raftstore.GroupID
}

func (r rows) Get(key []byte) (value []byte, ok bool, err error) {
	ok, err = r.s.get(rowKey(r.g, key), func(v []byte) error {
		value = bytes.Clone(v)
		return nil
	})
	return value, ok, err
}

func (r rows) Scan(lo, hi []byte, fn func(key, value []byte) bool) error {
	return r.scan(lo, hi, (*pebble.Iterator).First, (*pebble.Iterator).Next, fn)
}

func (r rows) ScanReverse(lo, hi []byte, fn func(key, value []byte) bool) error {
	return r.scan(lo, hi, (*pebble.Iterator).Last, (*pebble.Iterator).Prev, fn)
}

func (r rows) scan(lo, hi []byte, start, step func(*pebble.Iterator) bool, fn func(key, value []byte) bool) error {
	lower, upper := rowKey(r.g, lo), groupEnd(kindRow, r.g)
	if hi != nil {
		upper = rowKey(r.g, hi)
	}
	if bytes.Compare(lower, upper) >= 0 {
		return nil
	}
	return r.s.iterate(lower, upper, func(it *pebble.Iterator) error {
		for more := start(it); more; more = step(it) {
			v, err := it.ValueAndErr()
			if err != nil {
				return pebbleError{err}
			}
			if !fn(it.Key()[9:], v) {
				return nil
			}
		}
		return nil
	})
}
