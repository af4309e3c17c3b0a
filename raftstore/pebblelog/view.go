package pebblelog

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/oncelog/oncelog/raftstore"
)

// view is a group as a snapshot of the database shows it.
type view struct {
	r reader
	g raftstore.GroupID
}

// View implements raftstore.LogStore. It is called by the owner loop, so that no
// generation is installed meanwhile.
func (s *Store) View(g raftstore.GroupID) (raftstore.LogView, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	v := &view{reader{s: s, at: s.db.NewSnapshot(), gen: s.gen(g)}, g}
	s.viewsMu.Lock()
	defer s.viewsMu.Unlock()
	s.views[v] = struct{}{}
	return v, nil
}

func (v *view) Load() (raftstore.LogState, error) {
	st, ok, err := v.r.load(v.g)
	if err == nil && !ok {
		err = fmt.Errorf("group %d: %w", v.g, raftstore.ErrGroupNotFound)
	}
	return st, err
}

func (v *view) Snapshot() (raftstore.Snapshot, error) { return v.r.snapshot(v.g) }

func (v *view) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	return v.r.entries(v.g, lo, hi, maxBytes)
}

func (v *view) Rows() raftstore.Rows { return rows{v.r, v.g} }

func (v *view) Close() error {
	v.r.s.viewsMu.Lock()
	defer v.r.s.viewsMu.Unlock()
	if _, open := v.r.s.views[v]; !open {
		return nil
	}
	delete(v.r.s.views, v)
	return named(v.r.at.Close())
}

// closeViews is part of closing the store, when nobody reads any more: Pebble
// does not close while a snapshot is open.
func (s *Store) closeViews() {
	s.viewsMu.Lock()
	defer s.viewsMu.Unlock()
	for v := range s.views {
		_ = v.r.at.Close() // its error would be that it is closed already
	}
	clear(s.views)
}
