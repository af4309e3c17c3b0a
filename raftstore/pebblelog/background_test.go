package pebblelog_test

import (
	"errors"
	"io/fs"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/logtest"
	"github.com/oncelog/oncelog/raftstore/pebblelog"
)

// A full disk is first met by a flush, which no Commit waits for. The node is told, once,
// and commits nothing more, so that it ends instead of flushing in vain without end; what
// was committed before is there when there is space again.
func TestFailedFlushEndsTheStore(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	var full atomic.Bool
	noSpace := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.HasSuffix(op.Path, ".sst") {
			return &fs.PathError{Op: "write", Path: op.Path, Err: syscall.ENOSPC}
		}
		return nil
	})
	disk := errorfs.Wrap(mem, noSpace)
	var told atomic.Int32
	failures := make(chan error, 1)
	cfg := small(disk, "db")
	cfg.OnFailure = func(err error) {
		if told.Add(1) == 1 {
			failures <- err
		}
	}
	s, err := pebblelog.Open(cfg)
	check(t, err)
	last := uint64(0)
	commit := func() error {
		b := s.NewBatch()
		b.SetMembers(1, &raftpb.ConfState{Voters: []uint64{1}})
		b.Append(1, logtest.Entries(last+1, last+4, 1, 100_000), last)
		b.SetHardState(1, raftstore.HardState{Term: 1, Commit: last + 4})
		err := s.Commit(b, true)
		if err == nil {
			last += 4
		}
		return err
	}
	check(t, commit())
	full.Store(true)
	for err = nil; err == nil; {
		err = commit()
		if last > 10_000 {
			t.Fatal("commits go on, and nothing can be flushed")
		}
	}
	first := <-failures
	for _, err := range []error{err, first, commit()} {
		if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, raftstore.ErrCorrupt) || strings.Contains(err.Error(), "\n") {
			t.Errorf("it fails with %v", err)
		}
	}
	_ = s.Close() // an error: it could not flush
	if n := told.Load(); n != 1 {
		t.Errorf("the failure was told %d times", n)
	}
	// A start without space ends as well: what a crash left in the log is flushed first.
	crashed := mem.CrashClone(vfs.CrashCloneCfg{})
	cfg.FS, cfg.OnFailure = errorfs.Wrap(mem.CrashClone(vfs.CrashCloneCfg{}), noSpace), nil
	if _, err := pebblelog.Open(cfg); !errors.Is(err, syscall.ENOSPC) || errors.Is(err, raftstore.ErrCorrupt) {
		t.Errorf("opened on a full disk: %v", err)
	}
	full.Store(false)
	s = open(t, crashed, "db")
	st, ok, err := s.Load(1)
	if err != nil || !ok || st.LastIndex != last || st.Hard.Commit != last {
		t.Errorf("with space again the log is %+v, %t, %v; committed were %d entries", st, ok, err, last)
	}
	check(t, s.Close())
}
