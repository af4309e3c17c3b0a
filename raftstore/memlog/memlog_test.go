package memlog_test

import (
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
