// Package pebblestate keeps the state of package streams in files, in one Pebble
// database per instance, so that after a restart only what is missing has to be read
// from the changelogs.
//
//	backend, err := pebblestate.Open(pebblestate.Config{Dir: "data/word-count"})
//	...
//	app, err := streams.NewApp(c, topology, streams.WithState(backend))
//
// Nothing is synced. The changelog has everything; what a power cut takes from these
// files is the last of what was applied, and the checkpoints go with it, for both
// are written together and in one log. Damage is an error that names the directory:
// remove it, and everything is read from the changelogs.
package pebblestate

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/oncelog/oncelog/client/streams/state"
)

// Config describes a backend. Zero values take the stated defaults.
type Config struct {
	// Dir is created if it does not exist. One process uses it at a time. Required.
	Dir string
	// FS is the file system. Default: the operating system's.
	FS vfs.FS
	// CacheBytes bounds the cache of what is read. Default 32 MiB.
	CacheBytes int64
	// MemTableBytes is how much is gathered in memory before it becomes a file; up
	// to four times as much waits. Default 16 MiB.
	MemTableBytes uint64
	// Logger takes what goes wrong in the background. Default: nothing is logged.
	Logger *slog.Logger
}

// engineVersion is the version of Pebble's own formats, fixed so that an upgrade of
// the library does not change them unasked.
const engineVersion = pebble.FormatValueSeparation

// Backend is a state.Backend in files. It is safe for concurrent use.
type Backend struct {
	dir   string
	db    *pebble.DB
	cache *pebble.Cache

	mu   sync.Mutex
	open map[state.ID]bool
}

// Open opens the database, or makes it. Errors name the directory; one that a newer
// program has written is refused.
func Open(cfg Config) (*Backend, error) {
	if cfg.Dir == "" {
		return nil, errors.New("pebblestate: Dir is required")
	}
	if cfg.CacheBytes == 0 {
		cfg.CacheBytes = 32 << 20
	}
	if cfg.MemTableBytes == 0 {
		cfg.MemTableBytes = 16 << 20
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cache := pebble.NewCache(cfg.CacheBytes)
	db, err := pebble.Open(cfg.Dir, &pebble.Options{
		FS: cfg.FS, Cache: cache, MemTableSize: cfg.MemTableBytes, MemTableStopWritesThreshold: 4,
		FormatMajorVersion: engineVersion, Logger: logger{cfg.Logger},
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { cfg.Logger.Error("state store background error", "error", err) },
			DataCorruption: func(info pebble.DataCorruptionInfo) { // the listener of Pebble ends the process
				cfg.Logger.Error("state store is damaged", "path", info.Path, "error", info.Details)
			},
		},
	})
	if err != nil {
		cache.Unref()
		return nil, fmt.Errorf("pebblestate: %s: %w", cfg.Dir, err)
	}
	b := &Backend{dir: cfg.Dir, db: db, cache: cache, open: map[state.ID]bool{}}
	if err := b.checkVersion(); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// checkVersion compares the version in the database, or writes it.
func (b *Backend) checkVersion() error {
	found, err := b.get(formatKey)
	if err == nil && found == nil {
		err = b.db.Set(formatKey, []byte{formatVersion}, pebble.Sync)
	}
	switch {
	case err != nil:
		return b.named(err)
	case found != nil && (len(found) != 1 || found[0] != formatVersion):
		return fmt.Errorf("pebblestate: %s has version %v of the state format, known is %d", b.dir, found, formatVersion)
	}
	return nil
}

// Close closes the database. States that are open must not be used any more.
func (b *Backend) Close() error {
	err := b.db.Close()
	b.cache.Unref()
	if err != nil {
		return b.named(err)
	}
	return nil
}

func (b *Backend) named(err error) error { return fmt.Errorf("pebblestate: %s: %w", b.dir, err) }

// get returns a copy of a value; nil: there is none.
func (b *Backend) get(key []byte) ([]byte, error) { return get(b.db, key) }

func get(r pebble.Reader, key []byte) ([]byte, error) {
	v, done, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := append([]byte{}, v...)
	return out, done.Close()
}

// Open implements state.Backend.
func (b *Backend) Open(id state.ID) (state.State, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open[id] {
		return nil, state.ErrInUse
	}
	prefix := idPrefix(id)
	raw, err := b.get(checkpointKey(prefix))
	if err != nil {
		return nil, b.named(err)
	}
	at, err := decodeCheckpoint(raw)
	if err != nil {
		return nil, b.named(fmt.Errorf("store %s, partition %d: %w", id.Store, id.Partition, err))
	}
	b.open[id] = true
	return &partition{home: b, id: id, prefix: prefix, at: at}, nil
}

// partition is the state of one store in one partition.
type partition struct {
	home   *Backend
	id     state.ID
	prefix []byte

	mu sync.Mutex
	at state.Checkpoint
}

// Get implements state.Reader.
func (p *partition) Get(key []byte) ([]byte, error) {
	return p.reader(p.home.db, state.Checkpoint{}).Get(key)
}

// Scan implements state.Reader.
func (p *partition) Scan(from, to []byte, fn func(key, value []byte) bool) error {
	return p.reader(p.home.db, state.Checkpoint{}).Scan(from, to, fn)
}

// Checkpoint implements state.Reader.
func (p *partition) Checkpoint() state.Checkpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at
}

func (p *partition) reader(r pebble.Reader, at state.Checkpoint) *reader {
	return &reader{p: p, r: r, at: at}
}

// View implements state.State.
func (p *partition) View(fn func(r state.Reader) error) (err error) {
	snapshot := p.home.db.NewSnapshot()
	defer func() { err = errors.Join(err, snapshot.Close()) }()
	raw, err := get(snapshot, checkpointKey(p.prefix))
	if err != nil {
		return p.home.named(err)
	}
	at, err := decodeCheckpoint(raw)
	if err != nil {
		return p.home.named(err)
	}
	return fn(p.reader(snapshot, at))
}

// Apply implements state.State.
func (p *partition) Apply(c state.Changes) (err error) {
	b := p.home.db.NewBatch()
	defer func() { err = errors.Join(err, b.Close()) }()
	first, end := dataKey(p.prefix, nil), dataEnd(p.prefix)
	var errs []error
	if c.Clear {
		errs = append(errs, b.DeleteRange(first, end, nil))
	}
	for _, e := range c.Entries {
		if e.Value == nil {
			errs = append(errs, b.Delete(dataKey(p.prefix, e.Key), nil))
		} else {
			errs = append(errs, b.Set(dataKey(p.prefix, e.Key), e.Value, nil))
		}
	}
	if c.DropBefore != nil {
		errs = append(errs, b.DeleteRange(first, dataKey(p.prefix, c.DropBefore), nil))
	}
	errs = append(errs, b.Set(checkpointKey(p.prefix), encodeCheckpoint(c.Checkpoint), nil))
	if err := errors.Join(errs...); err != nil {
		return p.home.named(err)
	}
	if err := commit(b); err != nil {
		return p.home.named(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = c.Checkpoint
	return nil
}

// commit writes a batch. Pebble does not return a failed write: it calls
// Logger.Fatalf.
func commit(b *pebble.Batch) (err error) {
	defer func() {
		if p := recover(); p != nil {
			f, ok := p.(*fatalError)
			if !ok {
				panic(p)
			}
			err = f
		}
	}()
	return b.Commit(pebble.NoSync)
}

// Close implements state.State.
func (p *partition) Close() error {
	p.home.mu.Lock()
	defer p.home.mu.Unlock()
	delete(p.home.open, p.id)
	return nil
}

// reader reads the database, or a snapshot of it.
type reader struct {
	p  *partition
	r  pebble.Reader
	at state.Checkpoint
}

// Get implements state.Reader.
func (r *reader) Get(key []byte) ([]byte, error) {
	v, err := get(r.r, dataKey(r.p.prefix, key))
	if err != nil {
		return nil, r.p.home.named(err)
	}
	return v, nil
}

// Scan implements state.Reader.
func (r *reader) Scan(from, to []byte, fn func(key, value []byte) bool) (err error) {
	o := &pebble.IterOptions{LowerBound: dataKey(r.p.prefix, from), UpperBound: dataEnd(r.p.prefix)}
	if to != nil {
		o.UpperBound = dataKey(r.p.prefix, to)
	}
	if string(o.LowerBound) >= string(o.UpperBound) {
		return nil
	}
	it, err := r.r.NewIter(o)
	if err != nil {
		return r.p.home.named(err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	skip := len(r.p.prefix) + 1
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return r.p.home.named(err)
		}
		if v == nil {
			v = []byte{}
		}
		if !fn(it.Key()[skip:], v) {
			return nil
		}
	}
	return it.Error()
}

// Checkpoint implements state.Reader.
func (r *reader) Checkpoint() state.Checkpoint { return r.at }

// logger hands what Pebble says on. Fatalf must not return, and must not end the
// user's process either.
type logger struct{ log *slog.Logger }

// fatalError is a write that failed.
type fatalError struct {
	msg   string
	cause error
}

func (e *fatalError) Error() string { return e.msg }
func (e *fatalError) Unwrap() error { return e.cause }

// Infof implements pebble.Logger.
func (l logger) Infof(format string, args ...any) { l.log.Debug(fmt.Sprintf(format, args...)) }

// Errorf implements pebble.Logger.
func (l logger) Errorf(format string, args ...any) { l.log.Error(fmt.Sprintf(format, args...)) }

// Fatalf implements pebble.Logger.
func (l logger) Fatalf(format string, args ...any) {
	e := &fatalError{msg: fmt.Sprintf(format, args...)}
	for _, a := range args {
		if cause, ok := a.(error); ok {
			e.cause = cause
		}
	}
	l.log.Error("state store failed", "error", e)
	panic(e)
}
