package memlog_test

import (
	"errors"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/logtest"
	"github.com/oncelog/oncelog/raftstore/memlog"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	logtest.Run(t, logtest.Harness{
		Open:   func(*testing.T) raftstore.LogStore { return memlog.New(nil) },
		Reopen: func(_ *testing.T, s raftstore.LogStore) raftstore.LogStore { return s },
	})
}

func TestCrashKeepsWhatWasSynced(t *testing.T) {
	t.Parallel()
	s := memlog.New(nil)
	write := func(index uint64, sync bool) {
		b := s.NewBatch()
		b.SetMembers(1, &raftpb.ConfState{Voters: []uint64{1}})
		b.Append(1, logtest.Entries(index, index, 1, 3), index-1)
		if err := s.Commit(b, sync); err != nil {
			t.Fatal(err)
		}
	}
	write(1, false)
	write(2, true)
	write(3, false)
	write(4, false)
	if n := s.Unsynced(); n != 2 {
		t.Fatalf("%d unsynced batches", n)
	}
	s = s.Crash(1)
	if st, _, _ := s.Load(1); st.LastIndex != 3 {
		t.Fatalf("last index %d after the crash", st.LastIndex)
	}
	write(4, false)
	s = s.Crash(0)
	if st, _, _ := s.Load(1); st.LastIndex != 3 {
		t.Fatalf("last index %d after the second crash", st.LastIndex)
	}
}

// A power cut during a Commit, or after one that failed, may find its batch on
// the disk or not.
func TestCrashDuringACommit(t *testing.T) {
	t.Parallel()
	for keep, last := range []uint64{1, 2} {
		var s *memlog.Store
		broken := errors.New("broken")
		s = memlog.New(func(sync bool) error {
			if !sync {
				return nil
			}
			if n := s.Unsynced(); n != 2 {
				t.Errorf("%d batches at risk during the sync", n)
			}
			return broken
		})
		commit := func(index uint64, sync bool) error {
			b := s.NewBatch()
			b.Append(1, logtest.Entries(index, index, 1, 3), index-1)
			return s.Commit(b, sync)
		}
		if err := commit(1, false); err != nil {
			t.Fatal(err)
		}
		if err := commit(2, true); !errors.Is(err, broken) {
			t.Fatalf("the failing sync: %v", err)
		}
		if st, _, _ := s.Load(1); st.LastIndex != 1 {
			t.Errorf("last index %d is seen after the failure", st.LastIndex)
		}
		after := s.Crash(1 + keep)
		if st, _, _ := after.Load(1); st.LastIndex != last {
			t.Errorf("last index %d after a crash that keeps %d batches, want %d", st.LastIndex, 1+keep, last)
		}
	}
}

func TestFreeBytes(t *testing.T) {
	t.Parallel()
	s := memlog.New(nil)
	s.SetFreeBytes(5)
	if n, err := s.Crash(0).FreeBytes(); n != 5 || err != nil {
		t.Errorf("%d bytes free, %v", n, err)
	}
}
