package pebblelog

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/oncelog/oncelog/api/codec"
	"github.com/oncelog/oncelog/raftstore"
)

// engineVersion is the version of Pebble's own formats, fixed so that an upgrade
// of the library does not change them behind an operator's back. Recent enough
// for columnar blocks, value separation and sync offsets in the write-ahead log.
const engineVersion = pebble.FormatValueSeparation

// checkFiles looks at the files of a database before Pebble does. It finds what
// Pebble takes for a new database or for the end of a log.
func (w *wals) checkFiles() error {
	dir := w.files.dir
	names, err := w.files.fs.List(dir)
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	slices.Sort(names) // the newest marker comes last
	manifest, data := "", ""
	newest := uint64(0)
	for _, name := range names {
		if text, ok := strings.CutPrefix(name, "marker.format-version."); ok {
			_, text, _ = strings.Cut(text, ".")
			if v, err := strconv.ParseUint(text, 10, 64); err == nil && v > uint64(engineVersion) {
				return fmt.Errorf("%s: %w", w.files.path(name), &codec.VersionError{
					Format: "Pebble database", Found: v, First: uint64(engineVersion), Last: uint64(engineVersion),
				})
			}
		}
		if text, ok := strings.CutPrefix(name, "marker.manifest."); ok {
			_, manifest, _ = strings.Cut(text, ".")
		}
		if number, ok := walNumber(name); ok {
			newest = max(newest, number)
		}
		if isData(name) {
			data = name
		}
	}
	if manifest == "" {
		if data != "" {
			return fmt.Errorf("%s has no marker.manifest file, and has %s: %w", dir, data, raftstore.ErrCorrupt)
		}
		return nil
	}
	first, err := firstWAL(w.files.fs, w.files.path(manifest))
	if isNotExist(err) {
		return fmt.Errorf("%s is missing: %w", w.files.path(manifest), raftstore.ErrCorrupt)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", w.files.path(manifest), err)
	}
	if err := w.check(names, first); err != nil {
		return err
	}
	if newest >= first && newest > 0 {
		f := w.find(newest)
		return scanWAL(w.files.fs, w.files.path(f.name()), f)
	}
	return nil
}

// Exists reports whether there is a database in a directory, damaged or not: whether
// Open would open one and not make it.
func Exists(dir string) (bool, error) {
	names, err := vfs.Default.List(dir)
	if isNotExist(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list %s: %w", dir, err)
	}
	return slices.ContainsFunc(names, func(name string) bool { return isData(name) || strings.HasPrefix(name, "marker.manifest.") }), nil
}

// isData reports whether a file holds data, or names those that do. Pebble makes the
// manifest before all of them.
func isData(name string) bool {
	return strings.HasSuffix(name, ".log") || strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob") || name == walsFile.File
}

// openError makes what is damaged recognisable. What the operating system says
// of a file that is there is not about what is in it.
func openError(err error) error {
	var errno syscall.Errno
	var path *fs.PathError
	if errors.Is(err, raftstore.ErrCorrupt) || errors.Is(err, codec.ErrVersion) ||
		(errors.As(err, &errno) || errors.As(err, &path)) && !isNotExist(err) {
		return err
	}
	return fmt.Errorf("%w: %w", raftstore.ErrCorrupt, err)
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// damage takes note of data that cannot be read. Nothing is committed any more,
// so that the node ends instead of voting, and acknowledging, with what is left.
func (s *Store) damage(err error) {
	if s.damaged.CompareAndSwap(nil, &err) {
		s.log.Error("stored data is damaged; the node must not go on", "error", err)
	}
}

// checkFailed returns why nothing may be committed any more: what is damaged before
// what could not be written.
func (s *Store) checkFailed() error {
	for _, failure := range []*atomic.Pointer[error]{&s.damaged, &s.background} {
		if err := failure.Load(); err != nil {
			return *err
		}
	}
	return nil
}

// backgroundError is told of a flush or compaction that failed, as on a full disk.
// Pebble would begin it again at once, hundreds of times a second for as long as that
// lasts, while what is committed piles up in memory; a node whose writes fail stops.
func (s *Store) backgroundError(onFailure func(error)) func(error) {
	return func(err error) {
		// Its text alone: to a logger it shows its stack as well.
		err = fmt.Errorf("%s: written in the background: %w", s.dir, plainError{named(err)})
		if !s.background.CompareAndSwap(nil, &err) {
			return
		}
		s.log.Error("log store failed", "error", err)
		if onFailure != nil {
			onFailure(err)
		}
	}
}

// plainError is an error that is its text, however it is formatted.
type plainError struct{ cause error }

func (e plainError) Error() string { return e.cause.Error() }
func (e plainError) Unwrap() error { return e.cause }

// readError makes the error of a read name what was read.
func (s *Store) readError(what string, err error) error {
	err = named(err)
	if isNotExist(err) && !errors.Is(err, raftstore.ErrCorrupt) {
		err = fmt.Errorf("%w: %w", raftstore.ErrUnreadable, err)
	}
	err = fmt.Errorf("%s: %s: %w", s.dir, what, err)
	if errors.Is(err, raftstore.ErrCorrupt) {
		s.damage(err)
	}
	return err
}

// caught turns a panic of Pebble's into an error.
func caught(err *error) {
	if p := recover(); p != nil { //nolint:revive // it is deferred itself
		*err = panicked(p)
	}
}

// panicked makes an error of what Pebble panics with: what it wants the process
// to end for, and text, over a file of values that it cannot open.
func panicked(p any) error {
	switch p := p.(type) {
	case *fatalError:
		return named(p)
	case string:
		return fmt.Errorf("%w: a file of values is missing or damaged: %s", raftstore.ErrUnreadable, p)
	}
	panic(p)
}
