package pebblelog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/raftstore"
)

// reader reads the database as it is, or as a view shows it.
type reader struct {
	s *Store
	// at is the view's snapshot, gen the generation of its group then; nil: the
	// present.
	at  *pebble.Snapshot
	gen uint32
}

func (s *Store) present() reader { return reader{s: s} }

func (r reader) source() pebble.Reader {
	if r.at != nil {
		return r.at
	}
	return r.s.db
}

// settled calls read with the group's generation, and again if another was
// installed meanwhile: what read then found, or did not find, is of no state.
func (r reader) settled(g raftstore.GroupID, read func(gen uint32) error) error {
	if r.at != nil {
		return read(r.gen)
	}
	for {
		gen := r.s.gen(g)
		if err := read(gen); r.s.gen(g) == gen {
			return err
		}
	}
}

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

// keyRange tells the keys to walk over, [lo, hi), in a generation of a group.
type keyRange func(gen uint32) (lo, hi []byte)

// scan calls fn for [lo, hi), keys without a generation, until it returns false or
// an error.
func (r reader) scan(lo, hi []byte, fn func(k, v []byte) (bool, error)) error {
	return r.scanGroup(0, func(uint32) ([]byte, []byte) { return lo, hi }, fn)
}

// scanGroup is scan of keys of the group's present generation.
func (r reader) scanGroup(g raftstore.GroupID, keys keyRange, fn func(k, v []byte) (bool, error)) error {
	return r.iterate(g, keys, func(it *pebble.Iterator) error {
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

// iterate lets fn walk over keys of the group's present generation.
func (r reader) iterate(g raftstore.GroupID, keys keyRange, fn func(*pebble.Iterator) error) error {
	if err := r.s.enter(); err != nil {
		return err
	}
	defer r.s.leave()
	var at []byte // about where, for errors
	err := r.walk(g, keys, &at, fn)
	if p, ok := err.(pebbleError); ok { //nolint:errorlint // never wrapped
		return r.s.readError("at or behind "+keyName(at), p.error)
	}
	return err
}

func (r reader) walk(g raftstore.GroupID, keys keyRange, at *[]byte, fn func(*pebble.Iterator) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = pebbleError{panicked(p)}
		}
	}()
	it, err := r.iterator(g, keys, at)
	if err != nil {
		return pebbleError{err}
	}
	err = fn(it)
	if it.Valid() {
		*at = append((*at)[:0], it.Key()...)
	}
	if failed := it.Error(); failed != nil && err == nil {
		err = pebbleError{failed}
	}
	if failed := it.Close(); failed != nil && err == nil {
		err = pebbleError{failed}
	}
	return err
}

// iterator makes one, over the present generation for as long as it lives. at
// becomes where it begins.
func (r reader) iterator(g raftstore.GroupID, keys keyRange, at *[]byte) (it *pebble.Iterator, err error) {
	err = r.settled(g, func(gen uint32) error {
		if it != nil {
			_ = it.Close() // nothing was read: nothing is lost with its error
		}
		lo, hi := keys(gen)
		*at = append((*at)[:0], lo...)
		it, err = r.source().NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
		return err
	})
	return it, err
}

// Groups implements raftstore.LogStore.
func (s *Store) Groups() ([]raftstore.GroupID, error) {
	var ids []raftstore.GroupID
	err := s.present().scan([]byte{kindMembers}, []byte{kindMembers + 1}, func(k, _ []byte) (bool, error) {
		if len(k) != 9 {
			return false, fmt.Errorf("members key of %d bytes: %w", len(k), raftstore.ErrCorrupt)
		}
		ids = append(ids, raftstore.GroupID(binary.BigEndian.Uint64(k[1:])))
		return true, nil
	})
	return ids, err
}

// Load implements raftstore.LogStore.
func (s *Store) Load(g raftstore.GroupID) (raftstore.LogState, bool, error) {
	return s.present().load(g)
}

// load is called by the owner loop, which installs generations itself, or of a view.
func (r reader) load(g raftstore.GroupID) (st raftstore.LogState, ok bool, err error) {
	ok, err = r.get(groupKey(kindMembers, g), func(v []byte) error {
		st.Members = &raftpb.ConfState{}
		if err := proto.Unmarshal(v, st.Members); err != nil {
			return fmt.Errorf("members: %w: %w", raftstore.ErrCorrupt, err)
		}
		return nil
	})
	if err != nil || !ok {
		return st, false, err
	}
	var life uint64
	for _, value := range []struct {
		kind byte
		what string
		ints []*uint64
	}{
		{kindHard, "hard state", []*uint64{&st.Hard.Term, &st.Hard.Vote, &st.Hard.Commit}},
		{kindCompacted, "compaction mark", []*uint64{&st.CompactedIndex, &st.CompactedTerm}},
		{kindLife, "life", []*uint64{&life}},
		{kindTrim, "trim mark", []*uint64{&st.Trim}},
	} {
		if _, err = r.get(groupKey(value.kind, g), func(v []byte) error {
			return decodeInts(value.what, v, value.ints...)
		}); err != nil {
			return st, false, err
		}
	}
	if st.Life = uint32(life); life > math.MaxUint32 {
		return st, false, fmt.Errorf("life %d in group %d: %w", life, g, raftstore.ErrCorrupt)
	}
	snap, err := r.snapshot(g)
	if err != nil {
		return st, false, err
	}
	st.SnapshotIndex = snap.Index
	if st.Staged, err = r.staged(g); err != nil {
		return st, false, err
	}
	st.LastIndex, err = r.lastIndex(g, st.CompactedIndex)
	return st, err == nil, err
}

// staged reports whether there are keys of a generation to come.
func (r reader) staged(g raftstore.GroupID) (found bool, err error) {
	for _, kind := range []byte{kindEntry, kindRow} {
		next := func(gen uint32) (lo, hi []byte) { return genEnd(kind, g, gen), groupEnd(kind, g) }
		if err := r.scanGroup(g, next, func(_, _ []byte) (bool, error) {
			found = true
			return false, nil
		}); err != nil {
			return false, err
		}
	}
	return found, nil
}

// lastIndex finds the last entry and checks that the first one is where it
// should be: a log that lost its start is damaged.
func (r reader) lastIndex(g raftstore.GroupID, compacted uint64) (last uint64, err error) {
	last = compacted
	keys := func(gen uint32) (lo, hi []byte) { return genKey(kindEntry, g, gen), genEnd(kindEntry, g, gen) }
	err = r.iterate(g, keys, func(it *pebble.Iterator) error {
		if !it.First() {
			return nil
		}
		if first := binary.BigEndian.Uint64(it.Key()[genHeader:]); first != compacted+1 {
			return fmt.Errorf("log of group %d starts at %d instead of %d: %w", g, first, compacted+1, raftstore.ErrCorrupt)
		}
		if it.Last() {
			last = binary.BigEndian.Uint64(it.Key()[genHeader:])
		}
		return nil
	})
	return last, err
}

// Entries implements raftstore.LogStore.
func (s *Store) Entries(g raftstore.GroupID, lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	return s.present().entries(g, lo, hi, maxBytes)
}

func (r reader) entries(g raftstore.GroupID, lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	var entries []*raftpb.Entry
	size, full := uint64(0), false
	bounds := func(gen uint32) (from, to []byte) { return entryKey(g, gen, lo), entryKey(g, gen, hi) }
	err := r.scanGroup(g, bounds, func(k, v []byte) (bool, error) {
		index := binary.BigEndian.Uint64(k[genHeader:])
		if index != lo+uint64(len(entries)) {
			return false, fmt.Errorf("entry %d of group %d is missing: %w", lo+uint64(len(entries)), g, raftstore.ErrCorrupt)
		}
		size += uint64(len(v) - min(len(v), entryHeader))
		if full = len(entries) > 0 && size > maxBytes; full {
			return false, nil
		}
		e, err := decodeEntry(g, index, v)
		entries = append(entries, e)
		return true, err
	})
	if err != nil {
		return nil, err
	}
	if !full && uint64(len(entries)) != hi-lo {
		return nil, fmt.Errorf("entry %d of group %d is missing: %w", lo+uint64(len(entries)), g, raftstore.ErrCorrupt)
	}
	return entries, nil
}

// Term implements raftstore.LogStore.
func (s *Store) Term(g raftstore.GroupID, index uint64) (term uint64, err error) {
	err = s.withEntry(g, index, func(v []byte) { term = binary.BigEndian.Uint64(v) })
	return term, err
}

// ReadEntry implements raftstore.LogStore.
func (s *Store) ReadEntry(g raftstore.GroupID, index uint64, pos, n int) (data []byte, err error) {
	err = s.withEntry(g, index, func(v []byte) {
		v = v[entryHeader:]
		v = v[min(max(pos, 0), len(v)):]
		if n >= 0 && n < len(v) {
			v = v[:n]
		}
		data = append([]byte(nil), v...)
	})
	return data, err
}

func (s *Store) withEntry(g raftstore.GroupID, index uint64, fn func(v []byte)) error {
	r := s.present()
	return r.settled(g, func(gen uint32) error {
		ok, err := r.get(entryKey(g, gen, index), func(v []byte) error {
			if len(v) < entryHeader {
				return fmt.Errorf("entry %d of group %d has %d bytes: %w", index, g, len(v), raftstore.ErrCorrupt)
			}
			fn(v)
			return nil
		})
		if err == nil && !ok {
			return fmt.Errorf("entry %d of group %d is missing: %w", index, g, raftstore.ErrCorrupt)
		}
		return err
	})
}

// Snapshot implements raftstore.LogStore.
func (s *Store) Snapshot(g raftstore.GroupID) (raftstore.Snapshot, error) {
	return s.present().snapshot(g)
}

func (r reader) snapshot(g raftstore.GroupID) (snap raftstore.Snapshot, err error) {
	_, err = r.get(groupKey(kindSnapshot, g), func(v []byte) (err error) {
		snap, err = decodeSnapshot(g, v)
		return err
	})
	return snap, err
}
