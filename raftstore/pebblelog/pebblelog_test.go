package pebblelog_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/logtest"
	"github.com/oncelog/oncelog/raftstore/pebblelog"
)

// small configures a database of little memory.
func small(fs vfs.FS, dir string) pebblelog.Config {
	return pebblelog.Config{Dir: dir, FS: fs, CacheBytes: 1 << 20, MemTableBytes: 1 << 20, SeparateValuesFrom: 512}
}

func open(t *testing.T, fs vfs.FS, dir string) *pebblelog.Store {
	t.Helper()
	s, err := pebblelog.Open(small(fs, dir))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	t.Parallel()
	var dirs atomic.Int64
	root := t.TempDir()
	reopenable := func(t *testing.T, dir string) raftstore.LogStore {
		return &located{open(t, vfs.Default, dir), dir}
	}
	logtest.Run(t, logtest.Harness{
		Open: func(t *testing.T) raftstore.LogStore {
			return reopenable(t, filepath.Join(root, strconv.FormatInt(dirs.Add(1), 10)))
		},
		Reopen: func(t *testing.T, s raftstore.LogStore) raftstore.LogStore {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return reopenable(t, s.(*located).dir)
		},
	})
}

// located remembers where a store lives.
type located struct {
	*pebblelog.Store
	dir string
}

// TestNewDirectoriesSurviveACrash: a log in directories that Open has made is not
// lost with the name of one of them.
func TestNewDirectoriesSurviveACrash(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	s := open(t, fs, "data/node/log")
	commit := s.NewBatch()
	commit.SetMembers(1, &raftpb.ConfState{Voters: []uint64{1}})
	if err := s.Commit(commit, true); err != nil {
		t.Fatal(err)
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, crashed, "data/node/log")
	if _, ok, err := s.Load(1); err != nil || !ok {
		t.Errorf("load after a crash: %v, %v", ok, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCrash cuts the power at random moments with random pieces of unsynced
// data on disk. What was synced must be there, the log must be a prefix of
// what was written, and rows must never be ahead of their entries.
func TestCrash(t *testing.T) {
	t.Parallel()
	for round := range 10 {
		seed := rand.Uint64()
		t.Logf("round %d seed %d", round, seed)
		rng := rand.New(rand.NewPCG(seed, 0))
		fs := vfs.NewCrashableMem()
		s := open(t, fs, "db")
		var last, syncedLast uint64
		var synced, written raftstore.HardState
		for step := range 60 {
			b := s.NewBatch()
			b.SetMembers(1, &raftpb.ConfState{Voters: []uint64{1}})
			n := uint64(rng.IntN(20) + 1)
			b.Append(1, logtest.Entries(last+1, last+n, 1, rng.IntN(3000)), last)
			last += n
			written.Term++
			written.Vote = uint64(rng.IntN(3) + 1)
			b.SetHardState(1, written)
			b.Rows(1).Set([]byte("applied"), []byte{byte(last)})
			sync := rng.IntN(3) == 0
			if err := s.Commit(b, sync); err != nil {
				t.Fatal(err)
			}
			if sync {
				syncedLast, synced = last, written
			}
			if step == 0 || rng.IntN(15) != 0 {
				continue
			}
			crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			fs = crashed
			s = open(t, fs, "db")
			st, ok, err := s.Load(1)
			if err != nil || !ok && syncedLast > 0 {
				t.Fatalf("load after crash: %v, %v", ok, err)
			}
			if st.LastIndex < syncedLast || st.LastIndex > last {
				t.Fatalf("last index %d after crash, synced %d, written %d", st.LastIndex, syncedLast, last)
			}
			if st.Hard.Term < synced.Term || st.Hard.Term == synced.Term && st.Hard != synced {
				t.Fatalf("hard state %+v after crash, synced %+v", st.Hard, synced)
			}
			if row, ok, err := s.Rows(1).Get([]byte("applied")); err != nil || ok != (st.LastIndex > 0) || ok && row[0] != byte(st.LastIndex) {
				t.Fatalf("row %v, %v, %v with last index %d", row, ok, err, st.LastIndex)
			}
			if st.LastIndex > 0 {
				if _, err := s.Entries(1, 1, st.LastIndex+1, math.MaxUint64); err != nil {
					t.Fatal(err)
				}
			}
			last, written = st.LastIndex, st.Hard
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFailedSync checks that a failed fsync of the write-ahead log comes back
// as an error of Commit.
func TestFailedSync(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	boom := errors.New("boom")
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && strings.HasSuffix(op.Path, ".log") && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo) {
			return boom
		}
		return nil
	}))
	s := open(t, fs, "db")
	write := func() error {
		b := s.NewBatch()
		b.SetHardState(1, raftstore.HardState{Term: 1})
		return s.Commit(b, true)
	}
	if err := write(); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	if err := write(); err == nil {
		t.Fatal("a failed fsync went unnoticed")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCorruption flips one byte in the middle of the flushed data or the log
// and expects an error that says so, never a start with less than was there.
// Covers SM-06 of CONFORMANCE.md.
func TestCorruption(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := open(t, fs, "db")
	last := uint64(0)
	for range 20 {
		b := s.NewBatch()
		b.SetMembers(1, &raftpb.ConfState{Voters: []uint64{1}})
		b.Append(1, logtest.Entries(last+1, last+10, 1, 2000), last)
		last += 10
		if err := s.Commit(b, true); err != nil {
			t.Fatal(err)
		}
	}
	// The state on disk while the store is running: the log is what counts.
	names, err := fs.List("db")
	if err != nil {
		t.Fatal(err)
	}
	copied := vfs.NewMem()
	if ok, err := vfs.Clone(fs, copied, "db", "db"); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	flipped := false
	for _, name := range names {
		if strings.HasSuffix(name, ".log") {
			flip(t, copied, copied.PathJoin("db", name), 100_000)
			flipped = true
		}
	}
	if !flipped {
		t.Fatalf("no log among %v", names)
	}
	_, err = pebblelog.Open(pebblelog.Config{Dir: "db", FS: copied})
	if !errors.Is(err, raftstore.ErrCorrupt) {
		t.Fatalf("open with a damaged log: %v", err)
	}
}

func flip(t *testing.T, fs vfs.FS, path string, at int64) {
	t.Helper()
	f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0xff
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// TestReadersSurviveClose reads while the store is closed: the reads must end
// with an error, not a panic.
func TestReadersSurviveClose(t *testing.T) {
	t.Parallel()
	s := open(t, vfs.NewMem(), "db")
	b := s.NewBatch()
	b.SetMembers(1, &raftpb.ConfState{Voters: []uint64{1}})
	b.Append(1, logtest.Entries(1, 10, 1, 10), 0)
	b.Rows(1).Set([]byte("k"), []byte("v"))
	if err := s.Commit(b, true); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	started := make(chan struct{}, 4)
	for range 4 {
		wg.Go(func() {
			started <- struct{}{}
			for {
				_, err := s.ReadEntry(1, 3, 0, -1)
				if err == nil {
					err = s.Rows(1).Scan(nil, nil, func(_, _ []byte) bool {
						_, _, err := s.Rows(1).Get([]byte("k")) // while Close waits
						return err == nil
					})
				}
				if err != nil {
					if !errors.Is(err, raftstore.ErrStopped) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	for range 4 {
		<-started
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
}
