package pebblelog_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"path"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/logtest"
	"github.com/oncelog/oncelog/raftstore/pebblelog"
)

const salvagedGroups = 4

// manyGroups writes a database of several groups, in tables and files of values, whose
// node was told to join each in a life of its own; the last one has installed a snapshot.
func manyGroups(t *testing.T) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewMem()
	last := map[raftstore.GroupID]uint64{}
	for range 2 {
		s := open(t, fs, "db")
		for i := range 150 {
			b := s.NewBatch()
			for g := raftstore.GroupID(1); g <= salvagedGroups; g++ {
				if last[g] == 0 {
					b.SetMembers(g, &raftpb.ConfState{Voters: []uint64{1, 2, 3}})
					b.SetLife(g, uint32(10+g))
				}
				if g == salvagedGroups && i == 10 && last[g] < 50 {
					b.StageEntries(g, logtest.Entries(last[g]+1, last[g]+2, 1, 100))
					b.Install(g, last[g], 1)
					last[g] += 2
				}
				b.Append(g, logtest.Entries(last[g]+1, last[g]+2, 1, 100+i%2*2000), last[g])
				last[g] += 2
				b.SetHardState(g, raftstore.HardState{Term: 1, Vote: 1, Commit: last[g]})
				b.SetSnapshot(g, raftstore.Snapshot{Index: last[g], Term: 1, Data: []byte("state")})
				b.Rows(g).Set([]byte(fmt.Sprintf("row %06d", last[g])), []byte("value"))
			}
			check(t, s.Commit(b, true))
		}
		s.Settle()
		check(t, s.Close())
	}
	return fs
}

// dump returns everything of a group.
func dump(s *pebblelog.Store, g raftstore.GroupID) (string, error) {
	st, ok, err := s.Load(g)
	if err != nil || !ok {
		return "", err
	}
	snap, err := s.Snapshot(g)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	fmt.Fprintln(&out, st.Hard, st.Life, st.CompactedIndex, st.LastIndex, st.Staged, snap.Index, string(snap.Data))
	entries, err := s.Entries(g, st.CompactedIndex+1, st.LastIndex+1, math.MaxUint64)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		fmt.Fprintf(&out, "%d %d %x\n", e.GetIndex(), e.GetTerm(), e.GetData())
	}
	err = s.Rows(g).Scan(nil, nil, func(k, v []byte) bool { fmt.Fprintf(&out, "%s=%s\n", k, v); return true })
	return out.String(), err
}

// TestSalvage flips bits all over the tables and files of values of a database. What is
// salvaged of it is whole groups, each as it was written; the others are named with
// their lives. Where the damage cannot be confined that is said. The old database stays.
func TestSalvage(t *testing.T) {
	if testing.Short() {
		t.Skip("a sweep in which nothing of ours is concurrent")
	}
	t.Parallel()
	fs := manyGroups(t)
	want := map[raftstore.GroupID]string{}
	s := open(t, fs, "db")
	id := s.ID()
	for g := raftstore.GroupID(1); g <= salvagedGroups; g++ {
		var err error
		if want[g], err = dump(s, g); err != nil || want[g] == "" {
			t.Fatalf("group %d: %q, %v", g, want[g], err)
		}
	}
	s.Settle()
	check(t, s.Close())
	names, err := fs.List("db")
	check(t, err)
	confined, whole, unhurt := map[string]int{}, 0, 0
	for _, name := range names {
		ext := path.Ext(name)
		if ext != ".sst" && ext != ".blob" {
			continue
		}
		info, err := fs.Stat("db/" + name)
		check(t, err)
		for at := int64(1); at < info.Size(); at += max(1, info.Size()/9) {
			damaged := vfs.NewMem()
			if ok, err := vfs.Clone(fs, damaged, "db", "db"); err != nil || !ok {
				t.Fatal(ok, err)
			}
			flip(t, damaged, "db/"+name, at)
			what := fmt.Sprintf("a bit of byte %d of %s, which has %d", at, name, info.Size())
			lost, err := pebblelog.Salvage(small(damaged, "db"), "copy")
			if err != nil {
				if !errors.Is(err, raftstore.ErrCorrupt) {
					t.Errorf("%s: %v", what, err)
				}
				whole++
				continue
			}
			switch {
			case len(lost) == 0:
				unhurt++
			case len(lost) < salvagedGroups:
				confined[ext]++
			}
			gone := map[raftstore.GroupID]bool{}
			for _, l := range lost {
				gone[l.Group] = true
				if l.Life != uint32(10+l.Group) || !errors.Is(l.Err, raftstore.ErrUnreadable) || !strings.Contains(l.Err.Error(), fmt.Sprintf("group %d", l.Group)) {
					t.Errorf("%s: lost is %+v", what, l)
				}
			}
			salvaged := open(t, damaged, "copy")
			if salvaged.ID() != id {
				t.Errorf("%s: the copy is named %s, and the log was %s", what, salvaged.ID(), id)
			}
			for g := raftstore.GroupID(1); g <= salvagedGroups; g++ {
				expected := want[g]
				if gone[g] {
					expected = ""
				}
				if got, err := dump(salvaged, g); err != nil || got != expected {
					t.Errorf("%s: group %d has %d bytes of %d in the copy, lost is %v: %v", what, g, len(got), len(expected), lost, err)
				}
			}
			check(t, salvaged.Close())
			if _, err := damaged.Stat("db/" + name); err != nil {
				t.Error(err)
			}
		}
	}
	t.Logf("confined to some groups: %v; not confined: %d; nothing that is needed: %d", confined, whole, unhurt)
	if confined[".sst"] == 0 || confined[".blob"] == 0 {
		t.Errorf("confined %v", confined)
	}
}

// TestSalvageNothing: damage of a file that concerns all groups is confined to none, and
// a copy that was begun before is in nobody's way.
func TestSalvageNothing(t *testing.T) {
	t.Parallel()
	fs := manyGroups(t)
	lost, err := pebblelog.Salvage(small(fs, "db"), "copy")
	if err != nil || len(lost) != 0 {
		t.Fatal(lost, err)
	}
	s := open(t, fs, "copy")
	b := s.NewBatch()
	b.SetMembers(99, &raftpb.ConfState{Voters: []uint64{1}})
	check(t, s.Commit(b, true))
	check(t, s.Close())
	if lost, err = pebblelog.Salvage(small(fs, "db"), "copy"); err != nil || len(lost) != 0 {
		t.Fatal(lost, err)
	}
	s = open(t, fs, "copy")
	if groups, err := s.Groups(); err != nil || len(groups) != salvagedGroups {
		t.Errorf("groups of the copy: %v, %v", groups, err)
	}
	check(t, s.Close())
	names, err := fs.List("db")
	check(t, err)
	for _, name := range names {
		if path.Ext(name) == ".log" {
			check(t, fs.Remove("db/"+name))
		}
	}
	if _, err := pebblelog.Salvage(small(fs, "db"), "copy"); !errors.Is(err, raftstore.ErrCorrupt) || errors.Is(err, raftstore.ErrUnreadable) {
		t.Errorf("without write-ahead logs: %v", err)
	}
}
