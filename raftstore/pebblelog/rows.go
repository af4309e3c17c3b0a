package pebblelog

import (
	"bytes"

	"github.com/cockroachdb/pebble/v2"

	"github.com/oncelog/oncelog/raftstore"
)

// Rows implements raftstore.LogStore.
func (s *Store) Rows(g raftstore.GroupID) raftstore.Rows { return rows{s.present(), g} }

type rows struct {
	r reader
	g raftstore.GroupID
}

func (r rows) Get(key []byte) (value []byte, ok bool, err error) {
	err = r.r.settled(r.g, func(gen uint32) error {
		ok, err = r.r.get(rowKey(r.g, gen, key), func(v []byte) error {
			value = bytes.Clone(v)
			return nil
		})
		return err
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
	if hi != nil && bytes.Compare(lo, hi) >= 0 {
		return nil
	}
	keys := func(gen uint32) (from, to []byte) {
		if from = rowKey(r.g, gen, lo); hi == nil {
			return from, genEnd(kindRow, r.g, gen)
		}
		return from, rowKey(r.g, gen, hi)
	}
	return r.r.iterate(r.g, keys, func(it *pebble.Iterator) error {
		for more := start(it); more; more = step(it) {
			v, err := it.ValueAndErr()
			if err != nil {
				return pebbleError{err}
			}
			if !fn(it.Key()[genHeader:], v) {
				return nil
			}
		}
		return nil
	})
}
