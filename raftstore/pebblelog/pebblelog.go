// Package pebblelog is a raftstore.LogStore on Pebble: one database, and so
// one write-ahead log with group commit and file recycling, for all groups of
// a process.
//
// Entries, hard states, checkpoints and machine rows share that log, so the
// order of writes is the order of batches: what a crash loses is always a
// suffix of the unsynced batches.
package pebblelog

import (
	"crypto/rand"
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
	// OnFailure is called once, and must return at once, when writing failed that no
	// Commit waits for. Whatever is committed from then on fails.
	OnFailure func(error)
	Logger    *slog.Logger
	// readOnly changes nothing in Dir.
	readOnly bool
}

// Store is a LogStore on Pebble.
type Store struct {
	db     *pebble.DB
	cache  *pebble.Cache
	fs     vfs.FS
	dir    string
	id     string
	log    *slog.Logger
	wals   *wals
	synced uint64 // number of the last batch that is known to be durable
	// tableBytes is Config.MemTableBytes.
	tableBytes uint64
	readOnly   bool
	failed     bool // after a failed commit Pebble must be left alone
	// damaged is the first damage that a read has found; see damage.
	damaged atomic.Pointer[error]
	// background is the first failure of writing that no Commit waits for.
	background atomic.Pointer[error]

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

// Open opens or creates the store. An error that wraps raftstore.ErrCorrupt
// means that stored bytes are damaged: the node must not start from them. After one
// that says that writing failed, as on a full disk, the process must end: Pebble may
// still be at it.
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
	s := &Store{fs: cfg.FS, dir: cfg.Dir, log: cfg.Logger, idle: make(chan struct{}, 1), tableBytes: cfg.MemTableBytes, readOnly: cfg.readOnly}
	s.wals = &wals{files: vfsFiles{fs: cfg.FS, dir: cfg.Dir}}
	s.wals.batch.Store(1)
	if err := s.wals.checkFiles(); err != nil {
		return nil, fmt.Errorf("pebblelog: open %s: %w", cfg.Dir, err)
	}
	// Pebble makes the directory, and syncs every directory above that gets a new
	// name by it: else a power cut could take the log away, name and all.
	s.cache = pebble.NewCache(cfg.CacheBytes)
	if err := s.openDB(cfg); err != nil {
		s.cache.Unref()
		return nil, fmt.Errorf("pebblelog: open %s: %w", cfg.Dir, openError(err))
	}
	s.gens.Store(&map[raftstore.GroupID]uint32{})
	s.views = map[*view]struct{}{}
	if err := errors.Join(s.checkFormat(), s.loadGens()); err != nil {
		return nil, errors.Join(fmt.Errorf("pebblelog: open %s: %w", cfg.Dir, err), s.Close())
	}
	return s, nil
}

// openDB does not wait for Pebble once writing in the background has failed: Pebble
// flushes what a crash left in its log before it is open, and tries that for ever.
func (s *Store) openDB(cfg Config) error {
	type result struct {
		db  *pebble.DB
		err error
	}
	opened, failed := make(chan result, 1), make(chan error, 1)
	onFailure := cfg.OnFailure
	cfg.OnFailure = func(err error) {
		failed <- err
		if onFailure != nil {
			onFailure(err)
		}
	}
	options := s.options(cfg)
	go func() {
		var r result
		defer func() { opened <- r }()
		defer caught(&r.err)
		r.db, r.err = pebble.Open(cfg.Dir, options)
	}()
	select {
	case r := <-opened:
		s.db = r.db
		return errors.Join(r.err, s.wals.err())
	case err := <-failed:
		return err
	}
}

func (s *Store) options(cfg Config) *pebble.Options {
	o := &pebble.Options{
		FS:                          manifestFS{cfg.FS},
		ReadOnly:                    cfg.readOnly,
		Cache:                       s.cache,
		MemTableSize:                cfg.MemTableBytes,
		MemTableStopWritesThreshold: 4,
		FormatMajorVersion:          engineVersion,
		MaxOpenFiles:                1000,
		L0CompactionThreshold:       2,
		L0StopWritesThreshold:       1000,
		LBaseMaxBytes:               64 << 20,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		// Writes of a flush reach the disk in small steps: one large write
		// would stand in front of the log's fsync.
		BytesPerSync:    512 << 10,
		WALBytesPerSync: 0,
		Logger:          logger{cfg.Logger},
	}
	// Batches come compressed from the client where that helps.
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	// The default listener logs every flush and compaction.
	o.EventListener = &pebble.EventListener{
		BackgroundError: s.backgroundError(cfg.OnFailure),
		// Pebble's own listener ends the process, in whatever goroutine it is.
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			s.damage(fmt.Errorf("%w: %s: %w", raftstore.ErrUnreadable, info.Path, info.Details))
		},
		WALCreated: s.wals.created,
		WALDeleted: s.wals.deleted,
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
// package, and gives a new one its version and its name.
func (s *Store) checkFormat() error {
	ok, err := s.present().get([]byte{kindFormat}, func(v []byte) (err error) {
		s.id, err = decodeFormat(v)
		return err
	})
	if err != nil || ok {
		return err
	}
	if s.readOnly {
		return fmt.Errorf("the format version is missing: %w", raftstore.ErrCorrupt)
	}
	err = s.present().scan(nil, nil, func(k, _ []byte) (bool, error) {
		return false, fmt.Errorf("the format version is missing, beside %s: %w", keyName(k), raftstore.ErrCorrupt)
	})
	if err != nil {
		return err
	}
	s.id = rand.Text()
	return s.db.Set([]byte{kindFormat}, encodeFormat(s.id), pebble.Sync)
}

// ID names the database: it is drawn when the database is made, and never
// changes. Whoever remembers it can tell that a log is not the one it had.
func (s *Store) ID() string { return s.id }

// named makes Pebble's corruption errors recognizable.
func named(err error) error {
	if err != nil && pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %w", raftstore.ErrUnreadable, err)
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
	if err := errors.Join(s.checkFailed(), s.wals.err()); err != nil {
		return err
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
	number := s.wals.batch.Load()
	s.wals.large.Store(s.large(b.b))
	mark(b.b.Repr(), number, s.synced)
	if err := s.db.Apply(b.b, &pebble.WriteOptions{Sync: sync}); err != nil {
		s.failed = true
		return named(err)
	}
	s.wals.batch.Store(number + 1)
	s.wals.large.Store(false)
	if sync {
		s.synced = number
	}
	return b.b.Close()
}

// A change costs less than nodeBytes in a table in memory besides its bytes, and the
// table itself less than emptyBytes.
const (
	nodeBytes  = 256
	emptyBytes = 4 << 10
)

// large reports whether Pebble may hold a batch for too large for a table in memory,
// which begins at half of one. What it is not sure of counts as large: then a log is said
// to begin one batch too late, which only leaves that one unguarded.
func (s *Store) large(b *pebble.Batch) bool {
	return 2*(uint64(b.Len())+nodeBytes*uint64(b.Count()))+emptyBytes >= s.tableBytes
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
	err := s.closeDB()
	s.cache.Unref()
	if err != nil || s.readOnly || s.damaged.Load() != nil {
		return err
	}
	return s.wals.ended()
}

func (s *Store) closeDB() (err error) {
	defer caught(&err)
	return s.db.Close()
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
