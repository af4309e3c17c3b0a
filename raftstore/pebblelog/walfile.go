package pebblelog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/oncelog/oncelog/api/codec"
	"github.com/oncelog/oncelog/internal/datafile"
	"github.com/oncelog/oncelog/raftstore"
)

// Pebble takes a write-ahead log that is missing, or ends early, for one that
// was never written: a crash leaves the same. What was acknowledged would be
// gone without a word, and this node would vote with the rest. So a file beside
// the database names the write-ahead logs before anything is written to them,
// and after an orderly end also how the newest one ends.

// tailBytes is how much of the end of a write-ahead log is remembered.
const tailBytes = 64 << 10

const (
	walsVersion = 1
	walsMagic   = "ollwals"
	maxWALs     = 1 << 16
)

var walsFile = datafile.Format{
	File: "WALS", What: "list of write-ahead logs", Magic: walsMagic, First: walsVersion, Last: walsVersion,
}

// walFile is one write-ahead log.
type walFile struct {
	number uint64
	// first is the number of the first batch in it.
	first uint64
	// size and crc are the least length of the file, and the CRC-32C of the last
	// tailBytes before it. 0: not known.
	size uint64
	crc  uint32
}

func (w walFile) name() string { return fmt.Sprintf("%06d.log", w.number) }

// wals keeps the list. Pebble tells it from goroutines of its own.
type wals struct {
	files vfsFiles
	// batch is the number of the batch that is being written, or will be next; large:
	// it is as large as a table in memory allows, or nearly.
	batch atomic.Uint64
	large atomic.Bool

	mu     sync.Mutex
	list   []walFile // ascending
	failed error     // the list could not be written
}

func encodeWALs(list []walFile) []byte {
	b := codec.AppendUvarint(nil, uint64(len(list)))
	for _, w := range list {
		b = codec.AppendUvarint(b, w.number)
		b = codec.AppendUvarint(b, w.first)
		b = codec.AppendUvarint(b, w.size)
		b = codec.AppendUint32(b, w.crc)
	}
	return b
}

func decodeWALs(b []byte) ([]walFile, error) {
	r := codec.NewReader(b)
	var list []walFile
	for range r.Count(maxWALs) {
		list = append(list, walFile{number: r.Uvarint(), first: r.Uvarint(), size: r.Uvarint(), crc: r.Uint32()})
	}
	return list, r.Close()
}

// created is called by Pebble before it writes to a new log.
func (w *wals) created(info pebble.WALCreateInfo) {
	if info.Err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drop(uint64(info.RecycledFileNum))
	first := w.batch.Load()
	if w.large.Load() {
		// Pebble writes a batch that is too large for a table in memory to the log that
		// there is, and makes the next one before it says so.
		first++
	}
	w.list = append(w.list, walFile{number: uint64(info.FileNum), first: first})
	w.save()
}

// deleted is called by Pebble. The list on disk may have more than there is: what
// Pebble does not need any more is not asked for.
func (w *wals) deleted(info pebble.WALDeleteInfo) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drop(uint64(info.FileNum))
}

func (w *wals) drop(number uint64) {
	w.list = slices.DeleteFunc(w.list, func(f walFile) bool { return f.number == number })
}

func (w *wals) save() {
	if err := walsFile.Write(w.files, encodeWALs(w.list)); err != nil && w.failed == nil {
		w.failed = err
	}
}

func (w *wals) err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// ended remembers how the newest log ends. The database is closed.
func (w *wals) ended() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.list) == 0 {
		return nil
	}
	last := &w.list[len(w.list)-1]
	data, err := w.files.tail(last.name(), -1)
	if err != nil {
		return fmt.Errorf("read the end of %s: %w", w.files.path(last.name()), err)
	}
	last.size, last.crc = data.size, crc32.Checksum(data.bytes, castagnoli)
	w.save()
	return w.failed
}

// check refuses a directory whose logs are not all there. first is the oldest
// that is still needed.
func (w *wals) check(names []string, first uint64) error {
	payload, _, ok, err := walsFile.Read(w.files)
	if err != nil || !ok {
		if errors.Is(err, datafile.ErrDamaged) {
			err = fmt.Errorf("%w: %w", raftstore.ErrCorrupt, err)
		}
		return err
	}
	if w.list, err = decodeWALs(payload); err != nil {
		return fmt.Errorf("%w: %w", raftstore.ErrCorrupt, walsFile.Damaged(w.files, err))
	}
	w.list = slices.DeleteFunc(w.list, func(f walFile) bool { return f.number < first })
	for _, f := range w.list {
		path := w.files.path(f.name())
		if !slices.Contains(names, f.name()) {
			return fmt.Errorf("%s, a write-ahead log, is missing: %w", path, raftstore.ErrCorrupt)
		}
		if f.size == 0 {
			continue
		}
		data, err := w.files.tail(f.name(), int64(f.size))
		switch {
		case err != nil:
			return fmt.Errorf("read the end of %s: %w", path, err)
		case data.size < f.size:
			return fmt.Errorf("%s, a write-ahead log, has %d bytes and had %d: %w", path, data.size, f.size, raftstore.ErrCorrupt)
		case crc32.Checksum(data.bytes, castagnoli) != f.crc:
			return fmt.Errorf("%s, a write-ahead log: its end is not what was written: %w", path, raftstore.ErrCorrupt)
		}
	}
	return nil
}

// vfsFiles is [datafile.Files] in the directory of the database.
type vfsFiles struct {
	fs  vfs.FS
	dir string
}

func (v vfsFiles) path(name string) string { return v.fs.PathJoin(v.dir, name) }

// Read implements [datafile.Files].
func (v vfsFiles) Read(name string) (data []byte, ok bool, err error) {
	f, err := v.fs.Open(v.path(name))
	if isNotExist(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	data, err = io.ReadAll(f)
	err = errors.Join(err, f.Close())
	return data, err == nil, err
}

// Write implements [datafile.Files].
func (v vfsFiles) Write(name string, data []byte) error {
	tmp := v.path(name + ".new")
	f, err := v.fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := v.fs.Rename(tmp, v.path(name)); err != nil {
		return err
	}
	dir, err := v.fs.OpenDir(v.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

type fileTail struct {
	size  uint64
	bytes []byte
}

// tail returns the length of a file and its last bytes before end; below 0 is
// its own end.
func (v vfsFiles) tail(name string, end int64) (fileTail, error) {
	f, err := v.fs.Open(v.path(name))
	if err != nil {
		return fileTail{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fileTail{}, err
	}
	t := fileTail{size: uint64(info.Size())}
	if end < 0 {
		end = info.Size()
	}
	end = min(end, info.Size())
	t.bytes = make([]byte, min(end, tailBytes))
	if len(t.bytes) == 0 {
		return t, nil
	}
	if _, err := f.ReadAt(t.bytes, end-int64(len(t.bytes))); err != nil && !errors.Is(err, io.EOF) {
		return fileTail{}, err
	}
	return t, nil
}

// find returns what is known of a log.
func (w *wals) find(number uint64) walFile {
	for _, f := range w.list {
		if f.number == number {
			return f
		}
	}
	return walFile{number: number}
}

// firstWAL reads from a manifest which write-ahead log is the oldest that is
// needed. Every record of a manifest begins with it, if the record changes it,
// behind the name of the comparer in the first one.
func firstWAL(fs vfs.FS, path string) (first uint64, err error) {
	const tagComparer, tagLog = 1, 2
	f, err := fs.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	records := record.NewReader(f, 0)
	for {
		r, err := records.Next()
		if errors.Is(err, io.EOF) || record.IsInvalidRecord(err) {
			return first, nil // Pebble judges the end
		}
		if err != nil {
			return 0, err
		}
		edit, err := io.ReadAll(r)
		if err != nil {
			if record.IsInvalidRecord(err) {
				return first, nil
			}
			return 0, err
		}
		fields := bytes.NewReader(edit)
		tag, _ := binary.ReadUvarint(fields)
		if tag == tagComparer {
			n, _ := binary.ReadUvarint(fields)
			_, _ = fields.Seek(int64(min(n, uint64(len(edit)))), io.SeekCurrent)
			tag, _ = binary.ReadUvarint(fields)
		}
		if tag != tagLog {
			continue
		}
		if n, err := binary.ReadUvarint(fields); err == nil {
			first = max(first, n)
		}
	}
}

// walNumber returns the number of a write-ahead log by its name.
func walNumber(name string) (number uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, ".log")
	if !ok {
		return 0, false
	}
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, err == nil
}
