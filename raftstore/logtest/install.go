package logtest

import (
	"math"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/oncelog/oncelog/raftstore"
)

func rowKeys(t *testing.T, r raftstore.Rows) (keys []string) {
	t.Helper()
	if err := r.Scan(nil, nil, func(k, v []byte) bool {
		keys = append(keys, string(k)+"="+string(v))
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return keys
}

func checkStaged(t *testing.T, s raftstore.LogStore, g raftstore.GroupID, want bool) {
	t.Helper()
	if st, ok, err := s.Load(g); err != nil || !ok || st.Staged != want {
		t.Fatalf("state %+v, %v, %v; want staged: %v", st, ok, err, want)
	}
}

// testInstall stages a snapshot beside a group in use and puts it in its place.
func testInstall(t *testing.T, h Harness) {
	s := h.Open(t)
	for _, g := range []raftstore.GroupID{1, 2, math.MaxUint64} {
		create(t, s, g)
		commit(t, s, func(b raftstore.LogBatch) {
			b.Append(g, Entries(1, 20, 1, 5), 0)
			b.Rows(g).Set([]byte("k"), []byte("old"))
			b.Rows(g).Set([]byte("z"), []byte("old"))
		})
	}
	staged := func(g raftstore.GroupID, want bool) {
		t.Helper()
		checkStaged(t, s, g, want)
	}
	untouched := func(g raftstore.GroupID) {
		t.Helper()
		checkLog(t, s, g, 0, 0, Entries(1, 20, 1, 5))
		if got := rowKeys(t, s.Rows(g)); !slices.Equal(got, []string{"k=old", "z=old"}) {
			t.Fatalf("rows %v of group %d", got, g)
		}
	}
	for _, g := range []raftstore.GroupID{1, math.MaxUint64} {
		commit(t, s, func(b raftstore.LogBatch) {
			b.StageRow(g, []byte("a"), []byte("dropped"))
			b.StageEntries(g, Entries(900, 950, 7, 5))
		})
		staged(g, true)
		s = h.Reopen(t, s)
		staged(g, true)
		commit(t, s, func(b raftstore.LogBatch) { b.DiscardStaged(g) })
		staged(g, false)
		commit(t, s, func(b raftstore.LogBatch) {
			b.StageRow(g, []byte("k"), []byte("new"))
			b.StageRow(g, []byte("l"), nil)
		})
		commit(t, s, func(b raftstore.LogBatch) { b.StageEntries(g, Entries(991, 995, 8, 5)) })
		commit(t, s, func(b raftstore.LogBatch) { b.StageEntries(g, Entries(996, 1000, 8, 5)) })
		untouched(g)
	}
	staged(2, false)
	// With entries behind it in the same batch.
	for _, g := range []raftstore.GroupID{1, math.MaxUint64} {
		commit(t, s, func(b raftstore.LogBatch) {
			b.Install(g, 990, 7)
			b.SetSnapshot(g, raftstore.Snapshot{Index: 1000, Term: 8, Data: []byte("state")})
			b.Append(g, Entries(1001, 1002, 9, 5), 1000)
			b.Rows(g).Set([]byte("m"), []byte("later"))
		})
	}
	for range 2 {
		for _, g := range []raftstore.GroupID{1, math.MaxUint64} {
			checkLog(t, s, g, 990, 7, append(Entries(991, 1000, 8, 5), Entries(1001, 1002, 9, 5)...))
			if got := rowKeys(t, s.Rows(g)); !slices.Equal(got, []string{"k=new", "l=", "m=later"}) {
				t.Errorf("rows %v after the installation", got)
			}
			if _, ok, err := s.Rows(g).Get([]byte("z")); ok || err != nil {
				t.Errorf("an old row: %v, %v", ok, err)
			}
			staged(g, false)
		}
		untouched(2)
		s = h.Reopen(t, s)
	}
}

// testInstallLeavesNothing: what was replaced or dropped does not come back with
// the next installation, nor with a group of the same id.
func testInstallLeavesNothing(t *testing.T, h Harness) {
	s := h.Open(t)
	create(t, s, 1)
	commit(t, s, func(b raftstore.LogBatch) {
		b.Append(1, Entries(1, 20, 1, 5), 0)
		b.Rows(1).Set([]byte("k"), []byte("old"))
	})
	commit(t, s, func(b raftstore.LogBatch) { b.Install(1, 2000, 9) })
	checkLog(t, s, 1, 2000, 9, nil)
	if got := rowKeys(t, s.Rows(1)); got != nil {
		t.Errorf("rows %v after the installation of nothing", got)
	}
	commit(t, s, func(b raftstore.LogBatch) { b.StageRow(1, []byte("s"), nil) })
	commit(t, s, func(b raftstore.LogBatch) { b.DeleteGroup(1) })
	s = h.Reopen(t, s)
	create(t, s, 1)
	checkLog(t, s, 1, 0, 0, nil)
	checkStaged(t, s, 1, false)
	if got := rowKeys(t, s.Rows(1)); got != nil {
		t.Errorf("rows %v of a new group", got)
	}
}

// testView reads a group as it was while it changes.
func testView(t *testing.T, h Harness) {
	s := h.Open(t)
	create(t, s, 1)
	commit(t, s, func(b raftstore.LogBatch) {
		b.Append(1, Entries(1, 20, 1, 5), 0)
		b.SetSnapshot(1, raftstore.Snapshot{Index: 10, Term: 1, Data: []byte("then")})
		b.Rows(1).Set([]byte("k"), []byte("then"))
	})
	commit(t, s, func(b raftstore.LogBatch) { b.Compact(1, 1, 5, 1) })
	view, err := s.View(1)
	if err != nil {
		t.Fatal(err)
	}
	commit(t, s, func(b raftstore.LogBatch) {
		b.Append(1, Entries(15, 16, 2, 5), 20)
		b.Rows(1).Set([]byte("k"), []byte("now"))
		b.SetMembers(1, &raftpb.ConfState{Voters: []uint64{4}})
	})
	commit(t, s, func(b raftstore.LogBatch) { b.Compact(1, 6, 12, 1) })
	commit(t, s, func(b raftstore.LogBatch) {
		b.StageRow(1, []byte("k"), []byte("installed"))
		b.Install(1, 100, 3)
		b.SetSnapshot(1, raftstore.Snapshot{Index: 100, Term: 3, Data: []byte("now")})
	})
	st, err := view.Load()
	if err != nil || st.CompactedIndex != 5 || st.LastIndex != 20 || st.SnapshotIndex != 10 || len(st.Members.GetVoters()) != 3 {
		t.Errorf("state %+v, %v", st, err)
	}
	if snap, err := view.Snapshot(); err != nil || string(snap.Data) != "then" {
		t.Errorf("checkpoint %+v, %v", snap, err)
	}
	if es, err := view.Entries(6, 21, math.MaxUint64); err != nil || !slices.EqualFunc(es, Entries(6, 20, 1, 5), sameEntry) {
		t.Errorf("entries %v, %v", es, err)
	}
	if es, err := view.Entries(6, 21, 12); err != nil || len(es) != 2 {
		t.Errorf("12 bytes of entries: %v, %v", es, err)
	}
	if got := rowKeys(t, view.Rows()); !slices.Equal(got, []string{"k=then"}) {
		t.Errorf("rows %v", got)
	}
	if err := view.Close(); err != nil {
		t.Error(err)
	}
	if got := rowKeys(t, s.Rows(1)); !slices.Equal(got, []string{"k=installed"}) {
		t.Errorf("rows %v now", got)
	}
	// One that is left open does not hold up the end.
	if view, err = s.View(1); err != nil {
		t.Fatal(err)
	}
	h.Reopen(t, s)
	if err := view.Close(); err != nil {
		t.Errorf("closing a view after its store: %v", err)
	}
}
