package raftstore

import (
	"fmt"
	"slices"
	"sync"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// groupLog is the log of one group as Raft and readers see it: the LogStore
// behind a cache of the most recent entries, so that neither replication to
// followers that keep up nor reads near the end touch the disk. The loop
// writes; anybody may read.
type groupLog struct {
	id    GroupID
	store LogStore
	limit int // bytes of entry data kept in tail
	// checkpoint is where the last one is. It is for the loop alone.
	checkpoint Snapshot

	// initialHard is what raft asks for once, when it starts; members are those of
	// the checkpoint. Both are for the loop alone.
	initialHard HardState
	members     *raftpb.ConfState

	mu            sync.RWMutex
	compacted     uint64 // index before the first entry
	compactedTerm uint64
	last          uint64
	tail          []*raftpb.Entry // consecutive, ends at last; may be empty
	tailBytes     int
}

func newGroupLog(id GroupID, store LogStore, st LogState, limit int) *groupLog {
	return &groupLog{
		id: id, store: store, limit: limit,
		initialHard: st.Hard, members: st.Members,
		compacted: st.CompactedIndex, compactedTerm: st.CompactedTerm, last: st.LastIndex,
	}
}

// appended takes note of entries that were just made durable.
func (l *groupLog) appended(entries []*raftpb.Entry) {
	if len(entries) == 0 {
		return
	}
	first := entries[0].GetIndex()
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.tail); n > 0 {
		switch keep := int64(first) - int64(l.tail[0].GetIndex()); {
		case keep <= 0 || keep > int64(n):
			l.dropTail(n)
		case keep < int64(n): // the entries replace a suffix
			for i := int(keep); i < n; i++ {
				l.tailBytes -= entryWeight(l.tail[i])
				l.tail[i] = nil
			}
			l.tail = l.tail[:keep]
		}
	}
	l.tail = append(l.tail, entries...)
	for _, e := range entries {
		l.tailBytes += entryWeight(e)
	}
	l.last = entries[len(entries)-1].GetIndex()
	drop := 0
	for bytes := l.tailBytes; bytes > l.limit && drop < len(l.tail)-1; drop++ {
		bytes -= entryWeight(l.tail[drop])
	}
	l.dropTail(drop)
}

// dropTail forgets the n oldest cached entries.
func (l *groupLog) dropTail(n int) {
	for i := range n {
		l.tailBytes -= entryWeight(l.tail[i])
		l.tail[i] = nil // the array outlives the slice's start
	}
	l.tail = l.tail[n:]
}

// entryOverhead is what an entry costs in memory besides its data.
const entryOverhead = 96

func entryWeight(e *raftpb.Entry) int { return len(e.GetData()) + entryOverhead }

// compactedTo takes note that the entries up to index are gone.
func (l *groupLog) compactedTo(index, term uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.compacted, l.compactedTerm = index, term
	if len(l.tail) > 0 && l.tail[0].GetIndex() <= index {
		l.dropTail(min(len(l.tail), int(index-l.tail[0].GetIndex())+1))
	}
}

// reset takes note that the log of a snapshot replaces this one.
func (l *groupLog) reset(compacted, compactedTerm, last uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dropTail(len(l.tail))
	l.tail = nil
	l.compacted, l.compactedTerm, l.last = compacted, compactedTerm, last
}

// cached returns the entry at index if it is in memory.
func (l *groupLog) cached(index uint64) (*raftpb.Entry, bool) {
	if n := len(l.tail); n > 0 {
		if first := l.tail[0].GetIndex(); index >= first && index < first+uint64(n) {
			return l.tail[index-first], true
		}
	}
	return nil, false
}

// read returns n bytes at pos of an entry's data; n below 0 means the rest.
// The result is shared with the cache when it comes from there.
func (l *groupLog) read(index uint64, pos, n int) ([]byte, error) {
	l.mu.RLock()
	e, ok := l.cached(index)
	compacted := index <= l.compacted
	l.mu.RUnlock()
	switch {
	case compacted:
		return nil, ErrCompacted
	case ok:
		data := e.GetData()
		pos = min(max(pos, 0), len(data))
		if n < 0 || n > len(data)-pos {
			n = len(data) - pos
		}
		return data[pos : pos+n : pos+n], nil
	}
	data, err := l.store.ReadEntry(l.id, index, pos, n)
	if err != nil {
		l.mu.RLock()
		compacted = index <= l.compacted // while we were reading
		l.mu.RUnlock()
		if compacted {
			return nil, ErrCompacted
		}
	}
	return data, err
}

func (l *groupLog) bounds() (first, last uint64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.compacted + 1, l.last
}

// InitialState implements raft.Storage.
func (l *groupLog) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	hs := l.initialHard
	return &raftpb.HardState{Term: &hs.Term, Vote: &hs.Vote, Commit: &hs.Commit}, l.members, nil
}

// Entries implements raft.Storage.
func (l *groupLog) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	switch {
	case lo <= l.compacted:
		return nil, raft.ErrCompacted
	case hi > l.last+1:
		return nil, raft.ErrUnavailable
	case lo >= hi:
		return nil, nil
	}
	if _, ok := l.cached(lo); ok {
		first := l.tail[0].GetIndex()
		from, to := int(lo-first), int(hi-first)
		size := uint64(0)
		for i := from; i < to; i++ {
			size += uint64(entryWeight(l.tail[i]))
			if size > maxSize && i > from {
				to = i
				break
			}
		}
		// A copy: the cache clears what it evicts while raft keeps the slice.
		return slices.Clone(l.tail[from:to]), nil
	}
	// What lies before the cache comes from the store; the rest, if any, is
	// asked for in the next call.
	if len(l.tail) > 0 {
		hi = min(hi, l.tail[0].GetIndex())
	}
	entries, err := l.store.Entries(l.id, lo, hi, maxSize)
	if err != nil {
		return nil, fmt.Errorf("group %d: read entries [%d, %d): %w", l.id, lo, hi, err)
	}
	return entries, nil
}

// Term implements raft.Storage.
func (l *groupLog) Term(i uint64) (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	switch {
	case i == l.compacted:
		return l.compactedTerm, nil
	case i < l.compacted:
		return 0, raft.ErrCompacted
	case i > l.last:
		return 0, raft.ErrUnavailable
	}
	if e, ok := l.cached(i); ok {
		return e.GetTerm(), nil
	}
	return l.store.Term(l.id, i)
}

// LastIndex implements raft.Storage.
func (l *groupLog) LastIndex() (uint64, error) {
	_, last := l.bounds()
	return last, nil
}

// FirstIndex implements raft.Storage.
func (l *groupLog) FirstIndex() (uint64, error) {
	first, _ := l.bounds()
	return first, nil
}

// checkpointed takes note of the last checkpoint.
func (l *groupLog) checkpointed(index, term uint64) {
	l.checkpoint = Snapshot{Index: index, Term: term}
}

// Snapshot implements raft.Storage. It says where the last checkpoint is; what
// the follower gets is in snapshot.go.
func (l *groupLog) Snapshot() (*raftpb.Snapshot, error) {
	if l.checkpoint.Index == 0 {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	index, term := l.checkpoint.Index, l.checkpoint.Term
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		ConfState: l.members, Index: &index, Term: &term,
	}}, nil
}

var _ raft.Storage = (*groupLog)(nil)
