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
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

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

	// gens are the groups' generations that are not 0. The map is replaced,
	// never changed.
	gens atomic.Pointer[map[raftstore.GroupID]uint32]

	viewsMu sync.Mutex
	views   map[*view]struct{} // not closed
}

func (s *Store) gen(g raftstore.GroupID) uint32 { return (*s.gens.Load())[g] }

// setGens takes note of what a batch is about to install: a reader that finds
// the old generation gone must also find that there is a new one.
func (s *Store) setGens(installed map[raftstore.GroupID]uint32) {
	if len(installed) == 0 {
		return
	}
	gens := maps.Clone(*s.gens.Load())
	maps.Copy(gens, installed)
	s.gens.Store(&gens)
}

// loadGens reads the generations.
func (s *Store) loadGens() error {
	gens := map[raftstore.GroupID]uint32{}
	s.gens.Store(&gens)
	return s.present().scan([]byte{kindGen}, []byte{kindGen + 1}, func(k, v []byte) (bool, error) {
		var gen uint64
		if len(k) != 9 {
			return false, fmt.Errorf("generation key of %d bytes: %w", len(k), raftstore.ErrCorrupt)
		}
		if err := decodeInts("generation", v, &gen); err != nil {
			return false, err
		}
		gens[raftstore.GroupID(binary.BigEndian.Uint64(k[1:]))] = uint32(gen)
		return true, nil
	})
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
	s.views = map[*view]struct{}{}
	if err := errors.Join(s.checkFormat(), s.loadGens()); err != nil {
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
func (s *Store) NewBatch() raftstore.LogBatch { return &batch{s: s} }

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
	s.setGens(b.gens)
	if err := s.db.Apply(b.b, &pebble.WriteOptions{Sync: sync}); err != nil {
		s.failed = true
		return named(err)
	}
	return b.b.Close()
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
	s.closeViews()
	err := s.db.Close()
	s.cache.Unref()
	return err
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
