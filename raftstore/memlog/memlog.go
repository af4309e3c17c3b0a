// Package memlog is a raftstore.LogStore in memory, for tests and simulators.
// It knows which batches were synced, so Crash can show what a disk would
// still have after a power cut.
package memlog

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"sync"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/raftstore"
)

// Store is a LogStore in memory. It is safe for concurrent use.
type Store struct {
	mu       sync.RWMutex
	live     groups
	durable  groups
	unsynced [][]op // batches in live and not yet in durable
	// pending is the batch of a Commit that has not ended, or that failed.
	pending []op
	fault   func(sync bool) error
	free    uint64
}

type groups map[raftstore.GroupID]*group

type group struct {
	state    raftstore.LogState
	entries  []*raftpb.Entry // state.CompactedIndex+1 .. state.LastIndex
	snapshot raftstore.Snapshot
	rows     []row // sorted by key
	staged   *group
}

type row struct {
	key   string
	value []byte
}

// op is one change of one group.
type op struct {
	group raftstore.GroupID
	apply func(gs groups, g *group)
}

// New returns an empty store on a device with room for ever. fault, which may
// be nil, is called by every Commit before anything is written, and may take
// its time. An error it returns fails the Commit: nobody sees the batch, and
// whether the disk has it is for Crash to say.
func New(fault func(sync bool) error) *Store {
	return &Store{live: groups{}, durable: groups{}, fault: fault, free: math.MaxUint64}
}

// Crash returns a store with what survives a power cut now: everything synced
// and the first keep batches after that, of which one that is being committed,
// or that failed, is the last. The old store must not be used any more.
func (s *Store) Crash(keep int) *Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	lost := s.atRisk()
	for _, ops := range lost[:min(keep, len(lost))] {
		s.durable.apply(ops)
	}
	n := New(s.fault)
	n.durable, n.free = s.durable, s.free
	n.live = s.durable.clone()
	return n
}

// Unsynced returns how many batches Crash(0) would lose.
func (s *Store) Unsynced() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.atRisk())
}

func (s *Store) atRisk() [][]op {
	if s.pending == nil {
		return s.unsynced
	}
	return append(slices.Clip(s.unsynced), s.pending)
}

// SetFreeBytes sets what FreeBytes returns.
func (s *Store) SetFreeBytes(n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = n
}

func (gs groups) clone() groups {
	c := groups{}
	for id, g := range gs {
		c[id] = g.clone()
	}
	return c
}

func (g *group) clone() *group {
	if g == nil {
		return nil
	}
	n := *g
	n.entries, n.rows, n.staged = slices.Clone(g.entries), slices.Clone(g.rows), g.staged.clone()
	return &n
}

func (gs groups) apply(ops []op) {
	for _, o := range ops {
		g := gs[o.group]
		if g == nil {
			g = &group{}
			gs[o.group] = g
		}
		o.apply(gs, g)
	}
}

// Commit implements raftstore.LogStore.
func (s *Store) Commit(b raftstore.LogBatch, sync bool) error {
	ops := b.(*batch).ops
	if s.fault != nil {
		s.mu.Lock()
		s.pending = ops
		s.mu.Unlock()
		if err := s.fault(sync); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = nil
	s.live.apply(ops)
	s.unsynced = append(s.unsynced, ops)
	if sync {
		for _, ops := range s.unsynced {
			s.durable.apply(ops)
		}
		s.unsynced = nil
	}
	return nil
}

// Groups implements raftstore.LogStore.
func (s *Store) Groups() ([]raftstore.GroupID, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.live)), nil
}

// Load implements raftstore.LogStore.
func (s *Store) Load(id raftstore.GroupID) (raftstore.LogState, bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	g := s.live[id]
	if g == nil {
		return raftstore.LogState{}, false, nil
	}
	return g.state, true, nil
}

// Entries implements raftstore.LogStore.
func (s *Store) Entries(id raftstore.GroupID, lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	g := s.live[id]
	if g == nil || lo <= g.state.CompactedIndex || hi > g.state.LastIndex+1 {
		return nil, fmt.Errorf("memlog: entries [%d, %d) of group %d: %w", lo, hi, id, raftstore.ErrCorrupt)
	}
	first := g.state.CompactedIndex + 1
	n, size := lo, uint64(0)
	for ; n < hi; n++ {
		size += uint64(len(g.entries[n-first].GetData()))
		if n > lo && size > maxBytes {
			break
		}
	}
	return slices.Clone(g.entries[lo-first : n-first]), nil
}

func (s *Store) entry(id raftstore.GroupID, index uint64) (*raftpb.Entry, error) {
	es, err := s.Entries(id, index, index+1, math.MaxUint64)
	if err != nil {
		return nil, err
	}
	return es[0], nil
}

// Term implements raftstore.LogStore.
func (s *Store) Term(id raftstore.GroupID, index uint64) (uint64, error) {
	e, err := s.entry(id, index)
	return e.GetTerm(), err
}

// ReadEntry implements raftstore.LogStore.
func (s *Store) ReadEntry(id raftstore.GroupID, index uint64, pos, n int) ([]byte, error) {
	e, err := s.entry(id, index)
	if err != nil {
		return nil, err
	}
	data := e.GetData()
	data = data[min(max(pos, 0), len(data)):]
	if n >= 0 && n < len(data) {
		data = data[:n]
	}
	return bytes.Clone(data), nil
}

// Snapshot implements raftstore.LogStore.
func (s *Store) Snapshot(id raftstore.GroupID) (raftstore.Snapshot, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if g := s.live[id]; g != nil {
		return g.snapshot, nil
	}
	return raftstore.Snapshot{}, nil
}

// FreeBytes implements raftstore.LogStore.
func (s *Store) FreeBytes() (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.free, nil
}

// Close implements raftstore.LogStore. What was not synced stays lost only if
// Crash is called.
func (s *Store) Close() error { return nil }

// NewBatch implements raftstore.LogStore.
func (s *Store) NewBatch() raftstore.LogBatch { return &batch{} }

type batch struct{ ops []op }

func (b *batch) add(id raftstore.GroupID, apply func(g *group)) {
	b.ops = append(b.ops, op{id, func(_ groups, g *group) { apply(g) }})
}

func (b *batch) Empty() bool { return len(b.ops) == 0 }

func (b *batch) Append(id raftstore.GroupID, entries []*raftpb.Entry, _ uint64) {
	entries = slices.Clone(entries)
	b.add(id, func(g *group) {
		keep := entries[0].GetIndex() - g.state.CompactedIndex - 1
		g.entries = append(g.entries[:keep], entries...) // readers have copies
		g.state.LastIndex = entries[len(entries)-1].GetIndex()
	})
}

func (b *batch) SetHardState(id raftstore.GroupID, hs raftstore.HardState) {
	b.add(id, func(g *group) { g.state.Hard = hs })
}

func (b *batch) SetMembers(id raftstore.GroupID, cs *raftpb.ConfState) {
	cs = proto.Clone(cs).(*raftpb.ConfState)
	b.add(id, func(g *group) { g.state.Members = cs })
}

func (b *batch) SetLife(id raftstore.GroupID, life uint32) {
	b.add(id, func(g *group) { g.state.Life = life })
}

func (b *batch) SetSnapshot(id raftstore.GroupID, s raftstore.Snapshot) {
	b.add(id, func(g *group) { g.snapshot, g.state.SnapshotIndex = s, s.Index })
}

func (b *batch) Compact(id raftstore.GroupID, _, index, term uint64) {
	b.add(id, func(g *group) {
		g.entries = slices.Clone(g.entries[index-g.state.CompactedIndex:])
		g.state.CompactedIndex, g.state.CompactedTerm = index, term
	})
}

func (b *batch) SetTrim(id raftstore.GroupID, index uint64) {
	b.add(id, func(g *group) { g.state.Trim = index })
}

func (b *batch) stage(id raftstore.GroupID, apply func(staged *group)) {
	b.add(id, func(g *group) {
		if g.staged == nil {
			g.staged, g.state.Staged = &group{}, true
		}
		apply(g.staged)
	})
}

func (b *batch) StageEntries(id raftstore.GroupID, entries []*raftpb.Entry) {
	entries = slices.Clone(entries)
	b.stage(id, func(staged *group) { staged.entries = append(staged.entries, entries...) })
}

func (b *batch) StageRow(id raftstore.GroupID, key, value []byte) {
	k, v := string(key), bytes.Clone(value)
	b.stage(id, func(staged *group) { staged.rows = append(staged.rows, row{k, v}) })
}

func (b *batch) DiscardStaged(id raftstore.GroupID) {
	b.add(id, func(g *group) { g.staged, g.state.Staged = nil, false })
}

func (b *batch) Install(id raftstore.GroupID, index, term uint64) {
	b.add(id, func(g *group) {
		g.entries, g.rows = nil, nil
		if g.staged != nil {
			g.entries, g.rows = g.staged.entries, g.staged.rows
		}
		g.staged, g.state.Staged = nil, false
		g.state.CompactedIndex, g.state.CompactedTerm, g.state.LastIndex = index, term, index+uint64(len(g.entries))
	})
}

func (b *batch) DeleteGroup(id raftstore.GroupID) {
	b.ops = append(b.ops, op{id, func(gs groups, _ *group) { delete(gs, id) }})
}

func (b *batch) Rows(id raftstore.GroupID) raftstore.RowWriter { return rowWriter{b, id} }

type rowWriter struct {
	b  *batch
	id raftstore.GroupID
}

func (g *group) seek(key string) int {
	return sort.Search(len(g.rows), func(i int) bool { return g.rows[i].key >= key })
}

func (w rowWriter) Set(key, value []byte) {
	k, v := string(key), bytes.Clone(value)
	w.b.add(w.id, func(g *group) {
		if i := g.seek(k); i < len(g.rows) && g.rows[i].key == k {
			g.rows[i].value = v
		} else {
			g.rows = slices.Insert(g.rows, i, row{k, v})
		}
	})
}

func (w rowWriter) Delete(key []byte) { w.DeleteRange(key, append(bytes.Clone(key), 0)) }

func (w rowWriter) DeleteRange(lo, hi []byte) {
	l, h := string(lo), string(hi)
	w.b.add(w.id, func(g *group) {
		if from, to := g.seek(l), g.seek(h); from < to {
			g.rows = slices.Delete(g.rows, from, to)
		}
	})
}
