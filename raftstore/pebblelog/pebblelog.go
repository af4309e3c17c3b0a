// Package pebblelog is a raftstore.LogStore on Pebble: one database, and so
// one write-ahead log with group commit and file recycling, for all groups of
// a process.
//
// Entries, hard states, checkpoints and machine rows share that log, so the
// order of writes is the order of batches: what a crash loses is always a
// suffix of the unsynced batches.
package pebblelog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/raftstore"
)

// Config describes a store. Zero values take the stated defaults.
type Config struct {
	// Dir is created if it does not exist.
	Dir string
	// FS is the file system. Default: the operating system's.
	FS vfs.FS
	// CacheBytes bounds the block cache. Default 64 MiB; it serves reads of
	// old entries and rows, recent entries are kept by raftstore itself.
	CacheBytes int64
	// MemTableBytes is the size at which recent writes are flushed to a table;
	// up to four wait in memory. Default 64 MiB. Larger means that more of the
	// log is compacted away before it was ever written a second time.
	MemTableBytes uint64
	// SeparateValuesFrom stores entries of at least this many bytes outside
	// the tables, so that they are not rewritten by compactions. 0 turns it
	// off. Worth it for large batches that stay; space is freed more lazily.
	SeparateValuesFrom int
	Logger             *slog.Logger
}

// Store is a LogStore on Pebble.
type Store struct {
	db     *pebble.DB
	cache  *pebble.Cache
	fs     vfs.FS
	dir    string
	failed bool // after a failed commit Pebble must be left alone

	// Pebble panics when it is used after Close, so readers are counted.
	readers atomic.Int64
	closed  atomic.Bool
	idle    chan struct{}
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

// Open opens or creates the store. An error that wraps raftstore.ErrCorrupt
// means that stored bytes are damaged: the node must not start from them.
func Open(cfg Config) (*Store, error) {
	if cfg.FS == nil {
		cfg.FS = vfs.Default
	}
	if cfg.CacheBytes == 0 {
		cfg.CacheBytes = 64 << 20
	}
	if cfg.MemTableBytes == 0 {
		cfg.MemTableBytes = 64 << 20
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	// Pebble makes the directory, and syncs every directory above that gets a new
	// name by it: else a power cut could take the log away, name and all.
	cache := pebble.NewCache(cfg.CacheBytes)
	db, err := pebble.Open(cfg.Dir, options(cfg, cache))
	if err != nil {
		cache.Unref()
		return nil, fmt.Errorf("pebblelog: open %s: %w", cfg.Dir, named(err))
	}
	s := &Store{db: db, cache: cache, fs: cfg.FS, dir: cfg.Dir, idle: make(chan struct{}, 1)}
	if err := s.checkFormat(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func options(cfg Config, cache *pebble.Cache) *pebble.Options {
	o := &pebble.Options{
		FS:                          cfg.FS,
		Cache:                       cache,
		MemTableSize:                cfg.MemTableBytes,
		MemTableStopWritesThreshold: 4,
		// Fixed, so that an upgrade of the library does not change the format
		// behind an operator's back. Recent enough for columnar blocks, value
		// separation and sync offsets in the write-ahead log.
		FormatMajorVersion:         pebble.FormatValueSeparation,
		MaxOpenFiles:               1000,
		L0CompactionThreshold:      2,
		L0StopWritesThreshold:      1000,
		LBaseMaxBytes:              64 << 20,
		CompactionConcurrencyRange: func() (int, int) { return 1, 2 },
		// Writes of a flush reach the disk in small steps: one large write
		// would stand in front of the log's fsync.
		BytesPerSync:    512 << 10,
		WALBytesPerSync: 0,
		Logger:          logger{cfg.Logger},
	}
	// The default listener logs every flush and compaction.
	o.EventListener = &pebble.EventListener{
		BackgroundError: func(err error) { cfg.Logger.Error("log store background error", "error", err) },
		DiskSlow: func(info pebble.DiskSlowInfo) {
			cfg.Logger.Warn("slow disk operation", "operation", info.OpType.String(), "path", info.Path, "duration", info.Duration)
		},
	}
	if cfg.SeparateValuesFrom > 0 {
		policy := pebble.ValueSeparationPolicy{
			Enabled: true, MinimumSize: cfg.SeparateValuesFrom, MaxBlobReferenceDepth: 10,
			RewriteMinimumAge: 5 * time.Minute, TargetGarbageRatio: 0.3,
		}
		o.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy { return policy }
	}
	return o
}

// checkFormat refuses a database written by an unknown version of this
// package, and marks a new one.
func (s *Store) checkFormat() error {
	v, closer, err := s.db.Get([]byte{kindFormat})
	if errors.Is(err, pebble.ErrNotFound) {
		return s.db.Set([]byte{kindFormat}, []byte{formatVersion}, pebble.Sync)
	}
	if err != nil {
		return fmt.Errorf("pebblelog: read format version: %w", named(err))
	}
	defer closer.Close()
	if len(v) != 1 || v[0] != formatVersion {
		return fmt.Errorf("pebblelog: format version %v, this program knows %d", v, formatVersion)
	}
	return nil
}

// named makes Pebble's corruption errors recognizable.
func named(err error) error {
	if err != nil && pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %w", raftstore.ErrCorrupt, err)
	}
	return err
}

// NewBatch implements raftstore.LogStore.
func (s *Store) NewBatch() raftstore.LogBatch { return &batch{db: s.db} }

// Commit implements raftstore.LogStore.
func (s *Store) Commit(lb raftstore.LogBatch, sync bool) (err error) {
	b := lb.(*batch)
	if b.err != nil || b.b == nil {
		return b.err
	}
	defer func() {
		// Pebble does not return a failed write: it calls Logger.Fatalf.
		if p := recover(); p != nil {
			f, ok := p.(*fatalError)
			if !ok {
				panic(p)
			}
			s.failed = true
			err = named(f)
		}
	}()
	if err := s.db.Apply(b.b, &pebble.WriteOptions{Sync: sync}); err != nil {
		s.failed = true
		return named(err)
	}
	return b.b.Close()
}

// Groups implements raftstore.LogStore.
func (s *Store) Groups() ([]raftstore.GroupID, error) {
	var ids []raftstore.GroupID
	err := s.scan([]byte{kindMembers}, []byte{kindMembers + 1}, func(k, _ []byte) (bool, error) {
		if len(k) != 9 {
			return false, fmt.Errorf("members key of %d bytes: %w", len(k), raftstore.ErrCorrupt)
		}
		ids = append(ids, raftstore.GroupID(binary.BigEndian.Uint64(k[1:])))
		return true, nil
	})
	return ids, err
}

// Load implements raftstore.LogStore.
func (s *Store) Load(g raftstore.GroupID) (st raftstore.LogState, ok bool, err error) {
	ok, err = s.get(groupKey(kindMembers, g), func(v []byte) error {
		st.Members = &raftpb.ConfState{}
		if err := proto.Unmarshal(v, st.Members); err != nil {
			return fmt.Errorf("members: %w: %w", raftstore.ErrCorrupt, err)
		}
		return nil
	})
	if err != nil || !ok {
		return st, false, err
	}
	if _, err = s.get(groupKey(kindHard, g), func(v []byte) error {
		return decodeInts("hard state", v, &st.Hard.Term, &st.Hard.Vote, &st.Hard.Commit)
	}); err != nil {
		return st, false, err
	}
	if _, err = s.get(groupKey(kindCompacted, g), func(v []byte) error {
		return decodeInts("compaction mark", v, &st.CompactedIndex, &st.CompactedTerm)
	}); err != nil {
		return st, false, err
	}
	if _, err = s.get(groupKey(kindTrim, g), func(v []byte) error {
		return decodeInts("trim mark", v, &st.Trim)
	}); err != nil {
		return st, false, err
	}
	snap, err := s.Snapshot(g)
	if err != nil {
		return st, false, err
	}
	st.SnapshotIndex = snap.Index
	st.LastIndex, err = s.lastIndex(g, st.CompactedIndex)
	return st, err == nil, err
}

// lastIndex finds the last entry and checks that the first one is where it
// should be: a log that lost its start is damaged.
func (s *Store) lastIndex(g raftstore.GroupID, compacted uint64) (uint64, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: groupKey(kindEntry, g), UpperBound: groupEnd(kindEntry, g),
	})
	if err != nil {
		return 0, named(err)
	}
	defer it.Close()
	if !it.First() {
		return compacted, named(it.Error())
	}
	if first := binary.BigEndian.Uint64(it.Key()[9:]); first != compacted+1 {
		return 0, fmt.Errorf("log of group %d starts at %d instead of %d: %w", g, first, compacted+1, raftstore.ErrCorrupt)
	}
	it.Last()
	if err := it.Error(); err != nil {
		return 0, named(err)
	}
	return binary.BigEndian.Uint64(it.Key()[9:]), nil
}

// Entries implements raftstore.LogStore.
func (s *Store) Entries(g raftstore.GroupID, lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	var entries []*raftpb.Entry
	size, full := uint64(0), false
	err := s.scan(entryKey(g, lo), entryKey(g, hi), func(k, v []byte) (bool, error) {
		index := binary.BigEndian.Uint64(k[9:])
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
	ok, err := s.get(entryKey(g, index), func(v []byte) error {
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
}

// Snapshot implements raftstore.LogStore.
func (s *Store) Snapshot(g raftstore.GroupID) (snap raftstore.Snapshot, err error) {
	_, err = s.get(groupKey(kindSnapshot, g), func(v []byte) (err error) {
		snap, err = decodeSnapshot(g, v)
		return err
	})
	return snap, err
}

// FreeBytes implements raftstore.LogStore.
func (s *Store) FreeBytes() (uint64, error) {
	u, err := s.fs.GetDiskUsage(s.dir)
	return u.AvailBytes, err
}

// Close implements raftstore.LogStore. It waits for reads under way; later
// ones fail with raftstore.ErrStopped. After a failed write Pebble can not be
// closed in order; its files are left as a crash would leave them.
func (s *Store) Close() error {
	if s.closed.Swap(true) || s.failed {
		return nil
	}
	for s.readers.Load() > 0 {
		<-s.idle
	}
	err := s.db.Close()
	s.cache.Unref()
	return err
}

// get calls fn with the value at key, which is valid only during the call.
func (s *Store) get(key []byte, fn func(v []byte) error) (ok bool, err error) {
	if err := s.enter(); err != nil {
		return false, err
	}
	defer s.leave()
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, named(err)
	}
	defer closer.Close()
	return true, fn(v)
}

// scan calls fn for [lo, hi) until it returns false or an error.
func (s *Store) scan(lo, hi []byte, fn func(k, v []byte) (bool, error)) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return named(err)
	}
	defer it.Close()
	for more := it.First(); more; more = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return named(err)
		}
		if more, err = fn(it.Key(), v); err != nil || !more {
			return err
		}
	}
	return named(it.Error())
}

// logger passes on what Pebble says and turns its way of ending the process
// into something that Commit can catch. In Pebble's own goroutines nobody
// catches it, and the process ends as Pebble meant.
type logger struct{ log *slog.Logger }

type fatalError struct {
	msg   string
	cause error
}

func (e *fatalError) Error() string { return e.msg }
func (e *fatalError) Unwrap() error { return e.cause }

func (l logger) Infof(format string, args ...any)  { l.log.Debug(fmt.Sprintf(format, args...)) }
func (l logger) Errorf(format string, args ...any) { l.log.Error(fmt.Sprintf(format, args...)) }
func (l logger) Fatalf(format string, args ...any) {
	e := &fatalError{msg: fmt.Sprintf(format, args...)}
	for _, a := range args {
		if cause, ok := a.(error); ok {
			e.cause = cause
		}
	}
	l.log.Error("log store failed", "error", e)
	panic(e)
}
