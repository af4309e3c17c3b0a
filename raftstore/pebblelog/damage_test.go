package pebblelog_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/oncelog/oncelog/api/codec"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/logtest"
	"github.com/oncelog/oncelog/raftstore/pebblelog"
)

// content is what a database of these tests has.
type content struct {
	last, rows uint64
	hard       raftstore.HardState
}

// filled writes a database that has everything, in tables, in files of values and
// in a write-ahead log that is longer than what its end is remembered of.
func filled(t *testing.T) (fs *vfs.MemFS, s *pebblelog.Store, c content) {
	t.Helper()
	fs = vfs.NewMem()
	s = open(t, fs, "db")
	write := func(n int) {
		for i := range n {
			b := s.NewBatch()
			b.SetMembers(1, &raftpb.ConfState{Voters: []uint64{1, 2, 3}})
			b.Append(1, logtest.Entries(c.last+1, c.last+2, 1, 100+i%2*2000), c.last)
			c.last += 2
			c.rows++
			c.hard = raftstore.HardState{Term: 1, Vote: 1, Commit: c.last}
			b.SetHardState(1, c.hard)
			b.SetSnapshot(1, raftstore.Snapshot{Index: c.last, Term: 1, Data: []byte("state")})
			b.Rows(1).Set([]byte(fmt.Sprintf("row %06d", c.rows)), []byte("value"))
			if err := s.Commit(b, true); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(900)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, fs, "db")
	write(100)
	s.Settle()
	return fs, s, c
}

// readAll reads everything.
func readAll(s *pebblelog.Store, want content) error {
	st, ok, err := s.Load(1)
	if err != nil {
		return err
	}
	if !ok || st.LastIndex != want.last || st.Hard != want.hard {
		return fmt.Errorf("lost without a word: %v, %+v, want %+v", ok, st, want)
	}
	if _, err = s.Entries(1, 1, st.LastIndex+1, math.MaxUint64); err != nil {
		return err
	}
	rows := uint64(0)
	if err := s.Rows(1).Scan(nil, nil, func(_, _ []byte) bool { rows++; return true }); err != nil {
		return err
	}
	if rows != want.rows {
		return fmt.Errorf("lost without a word: %d rows of %d", rows, want.rows)
	}
	return nil
}

// ways to damage a file of some size.
var damages = map[string]func(t *testing.T, fs *vfs.MemFS, path string, size int64){
	"removed":                 func(t *testing.T, fs *vfs.MemFS, path string, _ int64) { check(t, fs.Remove(path)) },
	"emptied":                 func(t *testing.T, fs *vfs.MemFS, path string, _ int64) { truncate(t, fs, path, 0) },
	"half":                    func(t *testing.T, fs *vfs.MemFS, path string, size int64) { truncate(t, fs, path, size/2) },
	"without last byte":       func(t *testing.T, fs *vfs.MemFS, path string, size int64) { truncate(t, fs, path, size-1) },
	"bit at the start":        func(t *testing.T, fs *vfs.MemFS, path string, _ int64) { flip(t, fs, path, 5) },
	"bit in the middle":       func(t *testing.T, fs *vfs.MemFS, path string, size int64) { flip(t, fs, path, size/2) },
	"bit in the last write":   func(t *testing.T, fs *vfs.MemFS, path string, size int64) { flip(t, fs, path, size-1000) },
	"bit in the write before": func(t *testing.T, fs *vfs.MemFS, path string, size int64) { flip(t, fs, path, size-6000) },
	"zeros in the middle": func(t *testing.T, fs *vfs.MemFS, path string, size int64) {
		f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
		check(t, err)
		_, err = f.WriteAt(make([]byte, 4096), size/2)
		check(t, errors.Join(err, f.Close()))
	},
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func truncate(t *testing.T, fs *vfs.MemFS, path string, size int64) {
	t.Helper()
	f, err := fs.Open(path)
	check(t, err)
	b := make([]byte, size)
	if size > 0 {
		_, err = f.ReadAt(b, 0)
		check(t, err)
	}
	check(t, f.Close())
	f, err = fs.Create(path, vfs.WriteCategoryUnspecified)
	check(t, err)
	_, err = f.Write(b)
	check(t, errors.Join(err, f.Close()))
}

// TestDamage damages one file of a database in one way, for all files and ways,
// and reads everything. Nothing may be lost without a word: what is damaged is
// found by Open, or when it is read, by an error that names it; and a store that
// has found damage takes no more writes, so that its node cannot vote. What
// Pebble does not need may be damaged.
func TestDamage(t *testing.T) {
	if testing.Short() {
		t.Skip("a sweep in which nothing of ours is concurrent")
	}
	t.Parallel()
	fs, s, want := filled(t)
	crashed := vfs.NewMem()
	if ok, err := vfs.Clone(fs, crashed, "db", "db"); err != nil || !ok {
		t.Fatal(ok, err)
	}
	check(t, s.Close())
	for _, from := range []struct {
		name string
		fs   *vfs.MemFS
	}{{"after a crash", crashed}, {"after an orderly end", fs}} {
		names, err := from.fs.List("db")
		check(t, err)
		kinds := map[string]bool{}
		for _, name := range names {
			info, err := from.fs.Stat("db/" + name)
			check(t, err)
			kind := path.Ext(name)
			if strings.HasPrefix(name, "MANIFEST") || strings.HasPrefix(name, "marker.manifest") || name == "WALS" {
				kind, _, _ = strings.Cut(name, "-")
			}
			kinds[kind] = true
			for way, do := range damages {
				if way != "removed" && info.Size() < 8192 && (info.Size() == 0 || strings.HasPrefix(way, "bit in the last") || strings.HasPrefix(way, "bit in the write") || strings.HasPrefix(way, "zeros")) {
					continue
				}
				t.Run(from.name+"/"+name+"/"+way, func(t *testing.T) {
					fs := vfs.NewMem()
					if ok, err := vfs.Clone(from.fs, fs, "db", "db"); err != nil || !ok {
						t.Fatal(ok, err)
					}
					do(t, fs, "db/"+name, info.Size())
					t.Log(judge(t, fs, from.name, name, way, want))
				})
			}
		}
		for _, kind := range []string{".sst", ".blob", ".log", "MANIFEST", "WALS"} {
			if !kinds[kind] {
				t.Errorf("%s: no %s file among %v", from.name, kind, names)
			}
		}
	}
}

// tornOff are losses that look like a crash: after a crash nobody can tell them
// from it. After an orderly end they are told.
func tornOff(from, name, way string) bool {
	return from == "after a crash" && strings.HasSuffix(name, ".log") &&
		(way == "half" || way == "without last byte" || way == "emptied" || way == "bit in the last write")
}

func judge(t *testing.T, fs *vfs.MemFS, from, name, way string, want content) error {
	s, err := pebblelog.Open(small(fs, "db"))
	if err != nil {
		if !errors.Is(err, raftstore.ErrCorrupt) {
			t.Errorf("open: %v, which does not say that data is damaged", err)
		}
		return fmt.Errorf("open: %w", err)
	}
	err = readAll(s, want)
	switch {
	case tornOff(from, name, way):
		if err == nil {
			t.Error("read what is not there")
		}
		_ = s.Close()
		return errors.New("taken for a crash")
	case err == nil:
		if ext := path.Ext(name); (ext == ".blob" || ext == ".log") && (way == "removed" || way == "emptied" || way == "half") {
			t.Error("nobody noticed") // although all was read
		}
		check(t, s.Close())
		return nil
	case !errors.Is(err, raftstore.ErrCorrupt) || !strings.Contains(err.Error(), "group 1"):
		t.Errorf("read: %v, which does not say what is damaged", err)
	}
	b := s.NewBatch()
	b.SetHardState(1, raftstore.HardState{Term: 9, Vote: 9})
	if err := s.Commit(b, true); !errors.Is(err, raftstore.ErrCorrupt) {
		t.Errorf("a vote is written to a damaged store: %v", err)
	}
	_ = s.Close()
	return fmt.Errorf("read: %w", err)
}

// TestDamagedFirstWAL: the first write-ahead log of a database has chunks of another
// form. A bit that is flipped before its end was acknowledged, and is found too.
func TestDamagedFirstWAL(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := open(t, fs, "db")
	const batches = 50
	for i := range uint64(batches) {
		b := s.NewBatch()
		b.SetMembers(1, &raftpb.ConfState{Voters: []uint64{1, 2, 3}})
		b.Append(1, logtest.Entries(i+1, i+1, 1, 100), i)
		check(t, s.Commit(b, true))
	}
	crashed := vfs.NewMem()
	if ok, err := vfs.Clone(fs, crashed, "db", "db"); err != nil || !ok {
		t.Fatal(ok, err)
	}
	check(t, s.Close())
	names, err := crashed.List("db")
	check(t, err)
	name := names[slices.IndexFunc(names, func(n string) bool { return strings.HasSuffix(n, ".log") })]
	info, err := crashed.Stat("db/" + name)
	check(t, err)
	for at := int64(200); at < info.Size()-600; at += 97 {
		fs := vfs.NewMem()
		if ok, err := vfs.Clone(crashed, fs, "db", "db"); err != nil || !ok {
			t.Fatal(ok, err)
		}
		flip(t, fs, "db/"+name, at)
		s, err := pebblelog.Open(pebblelog.Config{Dir: "db", FS: fs})
		if err == nil {
			check(t, s.Close())
		}
		if !errors.Is(err, raftstore.ErrCorrupt) || !strings.Contains(err.Error(), name) {
			t.Errorf("a bit of byte %d of %s, which has %d, is flipped: %v", at, name, info.Size(), err)
		}
	}
}

// TestLostManifestIsNoNewDatabase: without its marker Pebble would begin anew.
func TestLostManifestIsNoNewDatabase(t *testing.T) {
	t.Parallel()
	fs, s, _ := filled(t)
	check(t, s.Close())
	names, err := fs.List("db")
	check(t, err)
	for _, name := range names {
		if strings.HasPrefix(name, "marker.manifest") {
			check(t, fs.Remove("db/"+name))
		}
	}
	_, err = pebblelog.Open(small(fs, "db"))
	if !errors.Is(err, raftstore.ErrCorrupt) || !strings.Contains(err.Error(), "db has no marker.manifest file") {
		t.Error(err)
	}
}

// TestNewerDatabase: what a newer program made is not damage.
func TestNewerDatabase(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := open(t, fs, "db")
	check(t, s.Close())
	f, err := fs.Create("db/marker.format-version.000099.099", vfs.WriteCategoryUnspecified)
	check(t, err)
	check(t, f.Close())
	_, err = pebblelog.Open(small(fs, "db"))
	if !errors.Is(err, codec.ErrVersion) || errors.Is(err, raftstore.ErrCorrupt) {
		t.Error(err)
	}
}

// TestNameOfADatabase: it stays, and another database has another.
func TestNameOfADatabase(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	a := open(t, fs, "a")
	id := a.ID()
	check(t, a.Close())
	a, b := open(t, fs, "a"), open(t, fs, "b")
	if id == "" || a.ID() != id || b.ID() == id {
		t.Errorf("%q, then %q; another is %q", id, a.ID(), b.ID())
	}
	check(t, a.Close())
	check(t, b.Close())
}

// TestCrashIsNoDamage cuts the power before every operation on the file system
// that changes it, from the first start over rotations of the write-ahead log and
// an orderly end to the next start. Whatever a crash leaves must open, with
// everything that was synced.
func TestCrashIsNoDamage(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	type crash struct {
		fs     *vfs.MemFS
		synced uint64
		before string
	}
	mem := vfs.NewCrashableMem()
	var mu sync.Mutex // Pebble works in goroutines of its own
	var crashes []crash
	synced, ops, logs := uint64(0), 0, 0
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		ops++
		if strings.HasSuffix(op.Path, ".log") && (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpReuseForWrite) {
			logs++
		}
		// Files are made, renamed and removed seldom, and written often.
		if op.Kind == errorfs.OpFileWrite && rng.IntN(60) > 0 || op.Kind == errorfs.OpFileSync && rng.IntN(20) > 0 {
			return nil
		}
		if testing.Short() && rng.IntN(3) > 0 {
			return nil
		}
		clone := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		crashes = append(crashes, crash{clone, synced, fmt.Sprintf("%v of %s", op.Kind, op.Path)})
		return nil
	}))
	last := uint64(0)
	for range 2 {
		cfg := small(fs, "db")
		cfg.MemTableBytes = 256 << 10 // to rotate the log
		s, err := pebblelog.Open(cfg)
		check(t, err)
		for range 90 {
			b := s.NewBatch()
			b.SetMembers(1, &raftpb.ConfState{Voters: []uint64{1}})
			// Small: Pebble looks for the one bit that would mend a torn write, which
			// takes the square of its length.
			b.Append(1, logtest.Entries(last+1, last+4, 1, 1000), last)
			last += 4
			b.SetHardState(1, raftstore.HardState{Term: 1, Commit: last})
			check(t, s.Commit(b, true))
			mu.Lock()
			synced = last
			mu.Unlock()
		}
		check(t, s.Close())
	}
	if len(crashes) < 50 || logs < 4 {
		t.Errorf("%d crashes at %d operations, %d logs", len(crashes), ops, logs)
	}
	for _, c := range crashes {
		s, err := pebblelog.Open(small(c.fs, "db"))
		if err != nil {
			t.Errorf("a crash before %s: %v", c.before, err)
			continue
		}
		st, _, err := s.Load(1)
		if err != nil || st.LastIndex < c.synced {
			t.Errorf("a crash before %s: %d entries of %d: %v", c.before, st.LastIndex, c.synced, err)
		}
		if st.LastIndex > 0 {
			if _, err := s.Entries(1, 1, st.LastIndex+1, math.MaxUint64); err != nil {
				t.Errorf("a crash before %s: %v", c.before, err)
			}
		}
		check(t, s.Close())
	}
	t.Logf("%d crashes at %d operations, %d logs", len(crashes), ops, logs)
}

// TestFirstBatchOfALog: what is too large for a table in memory goes to the log that there
// is, and only then is the next one made. That was said to begin with the large batch, and
// if the one behind it was torn, a crash looked like damage.
func TestFirstBatchOfALog(t *testing.T) {
	t.Parallel()
	s := open(t, vfs.NewMem(), "db")
	last := uint64(0)
	for i, size := range []int{100, 700 << 10, 100, 300 << 10, 300 << 10, 300 << 10, 300 << 10, 1200 << 10, 800 << 10, 100, 100} {
		b := s.NewBatch()
		b.Append(1, logtest.Entries(last+1, last+1, 1, size), last)
		if err := s.Commit(b, true); err != nil {
			t.Fatal(err)
		}
		last++
		said, is, err := s.Begins()
		if err != nil {
			t.Fatal(err)
		}
		for n := range said {
			if is[n] != 0 && is[n] != said[n] {
				t.Errorf("batch %d: log %d begins with batch %d, and is said to begin with %d", i+1, n, is[n], said[n])
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
