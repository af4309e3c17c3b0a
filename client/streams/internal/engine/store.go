package engine

import (
	"bytes"
	"slices"
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/streams/internal/sorted"
	"github.com/oncelog/oncelog/client/streams/state"
)

// Store is a store of one task: what is committed, and above it what the
// transaction has changed.
type Store struct {
	spec *StoreSpec
	task *Task
	base state.State

	dirty sorted.Map     // value nil: removed
	last  *client.Record // the last one that Flush gave to the changelog
}

// Get returns the value of a key; nil: there is none.
func (s *Store) Get(key []byte) ([]byte, error) {
	if floor := s.floor(); floor != nil && bytes.Compare(key, floor) < 0 {
		return nil, nil
	}
	if v, ok := s.dirty.Get(key); ok {
		return v, nil
	}
	return s.base.Get(key)
}

// Put sets the value of a key; nil: removes it. It keeps both.
func (s *Store) Put(key, value []byte) {
	if floor := s.floor(); floor != nil && bytes.Compare(key, floor) < 0 {
		return
	}
	s.dirty.Put(key, value)
}

// pageEntries is how much Scan copies at a time.
const pageEntries = 128

// Scan is that of [state.Reader]. fn may read and change the store; whether the
// scan sees changes of what it has yet to pass is not said.
func (s *Store) Scan(from, to []byte, fn func(key, value []byte) bool) error {
	if floor := s.floor(); bytes.Compare(from, floor) < 0 {
		from = floor
	}
	for {
		page, bound, err := s.page(from, to)
		if err != nil {
			return err
		}
		for _, e := range page {
			if e.Value != nil && !fn(e.Key, e.Value) {
				return nil
			}
		}
		if bound == nil {
			return nil
		}
		from = append(slices.Clone(bound), 0)
	}
}

// page returns entries from a key on, removed ones included, up to and with bound;
// bound nil: there are no others.
func (s *Store) page(from, to []byte) (page []sorted.Entry, bound []byte, err error) {
	var below, above []sorted.Entry
	err = s.base.Scan(from, to, func(k, v []byte) bool {
		below = append(below, sorted.Entry{Key: bytes.Clone(k), Value: slices.Clone(v)})
		return len(below) < pageEntries
	})
	if err != nil {
		return nil, nil, err
	}
	s.dirty.Scan(from, to, func(e sorted.Entry) bool {
		above = append(above, e)
		return len(above) < pageEntries
	})
	for _, part := range [][]sorted.Entry{below, above} {
		if len(part) == pageEntries {
			if end := part[pageEntries-1].Key; bound == nil || bytes.Compare(end, bound) < 0 {
				bound = end
			}
		}
	}
	for len(below)+len(above) > 0 {
		var next sorted.Entry
		switch {
		case len(above) == 0:
			next, below = below[0], below[1:]
		case len(below) == 0:
			next, above = above[0], above[1:]
		default:
			c := bytes.Compare(below[0].Key, above[0].Key)
			if c < 0 {
				next, below = below[0], below[1:]
				break
			}
			next, above = above[0], above[1:]
			if c == 0 {
				below = below[1:]
			}
		}
		if bound != nil && bytes.Compare(next.Key, bound) > 0 {
			break
		}
		page = append(page, next)
	}
	return page, bound, nil
}

// floor is the lowest key that has not expired; nil: nothing expires.
func (s *Store) floor() []byte {
	if !s.spec.Window {
		return nil
	}
	return windowFloor(s.task.streamTime - s.spec.Retention + 1)
}

// flush gives the changelog what was changed.
func (s *Store) flush(out Output) (err error) {
	s.last = nil
	if s.spec.OfSource {
		return nil
	}
	floor := s.floor()
	s.dirty.Scan(floor, nil, func(e sorted.Entry) bool {
		if e.Value == nil {
			var old []byte
			if old, err = s.base.Get(e.Key); err != nil {
				return false
			}
			if old == nil {
				return true // came and went within the transaction
			}
		}
		r := (&client.Record{
			Topic: s.spec.Topic, Key: e.Key, Value: e.Value, Timestamp: time.UnixMilli(max(s.task.streamTime, 0)),
		}).WithPartition(s.task.id.Partition)
		s.last = r
		err = out(r)
		return err == nil
	})
	return err
}

// commit makes the changes part of what is committed. position is how far the
// source of the store has been consumed, if it has one.
func (s *Store) commit(position int64) error {
	at := s.base.Checkpoint()
	next := max(at.Next, position)
	if s.last != nil {
		// -1, where the cluster no longer knows: then the position stays behind, and a
		// restore reads more than it needs, to the same end.
		next = max(next, s.last.Offset+1)
	}
	if s.dirty.Len() == 0 && next == at.Next {
		return nil
	}
	c := state.Changes{
		Entries: make([]state.Entry, 0, s.dirty.Len()), DropBefore: s.floor(),
		Checkpoint: state.Checkpoint{Topic: at.Topic, Next: next, StreamTime: max(at.StreamTime, s.task.streamTime)},
	}
	s.dirty.Scan(nil, nil, func(e sorted.Entry) bool {
		c.Entries = append(c.Entries, state.Entry{Key: e.Key, Value: e.Value})
		return true
	})
	s.rollback()
	return s.base.Apply(c)
}

func (s *Store) rollback() {
	s.dirty.Clear()
	s.last = nil
}

// Restore puts records of the topic that a store is a copy of into its state, and
// moves the checkpoint to next.
func Restore(spec *StoreSpec, s state.State, topic uint64, next int64, records []*client.Record) error {
	at := s.Checkpoint()
	c := state.Changes{Checkpoint: state.Checkpoint{Topic: topic, Next: next, StreamTime: at.StreamTime}}
	for _, r := range records {
		if spec.Accept != nil && !spec.Accept(r) {
			continue
		}
		if spec.Window {
			if _, _, err := SplitWindowKey(r.Key); err != nil {
				return err
			}
		}
		c.Checkpoint.StreamTime = max(c.Checkpoint.StreamTime, r.Timestamp.UnixMilli())
		c.Entries = append(c.Entries, state.Entry{Key: r.Key, Value: r.Value})
	}
	if spec.Window {
		c.DropBefore = windowFloor(c.Checkpoint.StreamTime - spec.Retention + 1)
	}
	return s.Apply(c)
}
