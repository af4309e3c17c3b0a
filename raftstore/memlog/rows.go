package memlog

import (
	"bytes"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/oncelog/oncelog/raftstore"
)

// Rows implements raftstore.LogStore.
func (s *Store) Rows(id raftstore.GroupID) raftstore.Rows { return rows{s, id} }

type rows struct {
	s  *Store
	id raftstore.GroupID
}

func (r rows) Get(key []byte) (value []byte, ok bool, err error) {
	err = r.Scan(key, append(bytes.Clone(key), 0), func(_, v []byte) bool {
		value, ok = bytes.Clone(v), true
		return false
	})
	return value, ok, err
}

// view copies the rows in [lo, hi), so that fn may take its time.
func (r rows) view(lo, hi []byte) []row {
	r.s.mu.RLock()
	defer r.s.mu.RUnlock()
	g := r.s.live[r.id]
	if g == nil {
		return nil
	}
	return g.between(lo, hi)
}

// between copies the rows in [lo, hi).
func (g *group) between(lo, hi []byte) []row {
	to := len(g.rows)
	if hi != nil {
		to = g.seek(string(hi))
	}
	if from := g.seek(string(lo)); from < to {
		return slices.Clone(g.rows[from:to])
	}
	return nil
}

func (r rows) Scan(lo, hi []byte, fn func(key, value []byte) bool) error {
	for _, kv := range r.view(lo, hi) {
		if !fn([]byte(kv.key), kv.value) {
			break
		}
	}
	return nil
}

func (r rows) ScanReverse(lo, hi []byte, fn func(key, value []byte) bool) error {
	for _, kv := range slices.Backward(r.view(lo, hi)) {
		if !fn([]byte(kv.key), kv.value) {
			break
		}
	}
	return nil
}

// View implements raftstore.LogStore.
func (s *Store) View(id raftstore.GroupID) (raftstore.LogView, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	then := New(nil)
	if g := s.live[id]; g != nil {
		then.live[id] = g.clone()
	}
	return view{then, id}, nil
}

// view is a store with one group in it.
type view struct {
	s  *Store
	id raftstore.GroupID
}

func (v view) Load() (raftstore.LogState, error) {
	st, _, err := v.s.Load(v.id)
	return st, err
}

func (v view) Snapshot() (raftstore.Snapshot, error) { return v.s.Snapshot(v.id) }

func (v view) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	return v.s.Entries(v.id, lo, hi, maxBytes)
}

func (v view) Rows() raftstore.Rows { return v.s.Rows(v.id) }

func (v view) Close() error { return nil }
