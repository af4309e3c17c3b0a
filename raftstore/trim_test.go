package raftstore_test

import (
	"errors"
	"testing"

	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
)

// retained is a store of one node, driven by hand, with one group that retains
// its log and holds commands at 2..last.
func retained(t *testing.T, log raftstore.LogStore, last uint64) (*raftstore.Store, *raftstore.Group) {
	t.Helper()
	s, err := raftstore.Open(raftstore.Config{NodeID: 1, Log: log, Manual: true, TailCacheBytes: 500})
	if err != nil {
		t.Fatal(err)
	}
	g, err := s.CreateGroup(raftstore.GroupConfig{
		ID: 1, Members: []raftstore.NodeID{1}, Machine: &chain{}, RetainLog: true, SnapshotEntries: 40, TailEntries: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	for s.Turn() {
	}
	for g.Applied() < last {
		g.ProposeAsync([]byte("command"), 0, func(res raftstore.ProposalResult) {
			if res.Err != nil {
				t.Error(res.Err)
			}
		})
		for s.Turn() {
		}
	}
	return s, g
}

func tick(s *raftstore.Store) {
	s.Tick()
	for s.Turn() {
	}
}

func TestTrim(t *testing.T) {
	t.Parallel()
	log := memlog.New(nil)
	s, g := retained(t, log, 100) // checkpoints at 40 and 80
	before := s.Metrics().Syncs
	g.Trim(30)
	if first := g.First(); first != 1 {
		t.Errorf("the log starts at %d before anything was written", first)
	}
	tick(s)
	if first := g.First(); first != 31 {
		t.Errorf("the log starts at %d, trimmed to 30", first)
	}
	if _, err := g.Entry(30); !errors.Is(err, raftstore.ErrCompacted) {
		t.Errorf("a trimmed entry: %v", err)
	}
	if data, err := g.Entry(31); err != nil || string(data) != "command" {
		t.Errorf("the first entry: %q, %v", data, err)
	}
	g.Trim(10)
	tick(s)
	if first := g.First(); first != 31 {
		t.Errorf("the log starts at %d after a smaller mark", first)
	}
	// Further than the last checkpoint: as far as that now, the rest behind the
	// next one.
	g.Trim(95)
	tick(s)
	if first := g.First(); first != 81 {
		t.Errorf("the log starts at %d, the last checkpoint is at 80", first)
	}
	if n := s.Metrics().Syncs - before; n != 0 {
		t.Errorf("%d syncs for removals", n)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The end wrote a checkpoint, and nobody has to ask again.
	s, g = retained(t, log, 0)
	if first := g.First(); first != 96 {
		t.Errorf("the log starts at %d after a restart, trimmed to 95", first)
	}
	if _, n := g.Status(), g.Applied(); n < 100 {
		t.Errorf("applied %d after a restart", n)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A crash between any two writes leaves a log that a checkpoint covers, and the
// mark if it was written.
func TestTrimSurvivesACrash(t *testing.T) {
	t.Parallel()
	for keep := 0; ; keep++ {
		log := memlog.New(nil)
		s, g := retained(t, log, 100)
		g.Trim(95)
		tick(s)
		unsynced := log.Unsynced()
		if keep > unsynced {
			if keep < 2 {
				t.Fatal("everything was synced: nothing was tried")
			}
			break
		}
		log = log.Crash(keep)
		st, ok, err := log.Load(1)
		if err != nil || !ok || st.CompactedIndex > st.SnapshotIndex || st.Trim == 0 && st.CompactedIndex > 0 {
			t.Fatalf("keeping %d of %d batches: %+v, %v, %v", keep, unsynced, st, ok, err)
		}
		s, g = retained(t, log, 130) // past the next checkpoint
		tick(s)
		if want := map[bool]uint64{true: 96, false: 1}[st.Trim > 0]; g.First() != want {
			t.Errorf("keeping %d of %d batches: the log starts at %d, want %d", keep, unsynced, g.First(), want)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// A group whose log is compacted by itself has nothing to trim.
func TestTrimNeedsRetainLog(t *testing.T) {
	t.Parallel()
	s, g, _, _ := single(t, memlog.New(nil), func(c *raftstore.Config) { c.Manual = true })
	for s.Turn() {
	}
	g.Trim(1)
	tick(s)
	if first := g.First(); first != 1 {
		t.Errorf("the log starts at %d", first)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
