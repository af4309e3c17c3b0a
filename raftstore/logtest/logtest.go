// Package logtest is the conformance suite of raftstore.LogStore: what every
// implementation must do, including across a reopening.
package logtest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/oncelog/oncelog/raftstore"
)

// Harness opens a store, and opens it again in the state that a graceful close
// left.
type Harness struct {
	Open   func(t *testing.T) raftstore.LogStore
	Reopen func(t *testing.T, s raftstore.LogStore) raftstore.LogStore
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	for name, test := range map[string]func(*testing.T, Harness){
		"Empty": testEmpty, "Log": testLog, "Truncate": testTruncate, "Compact": testCompact,
		"Install": testInstall, "InstallLeavesNothing": testInstallLeavesNothing, "View": testView, "States": testStates, "Rows": testRows, "DeleteGroup": testDeleteGroup,
		"Model": testModel,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, h)
		})
	}
}

// Entry makes an entry whose data is size bytes derived from index and term.
func Entry(index, term uint64, size int) *raftpb.Entry {
	data := bytes.Repeat([]byte{byte(index*31 + term)}, size)
	return &raftpb.Entry{Index: &index, Term: &term, Data: data}
}

// Entries makes the entries [from, to].
func Entries(from, to, term uint64, size int) (es []*raftpb.Entry) {
	for i := from; i <= to; i++ {
		es = append(es, Entry(i, term, size))
	}
	return es
}

func commit(t *testing.T, s raftstore.LogStore, fill func(b raftstore.LogBatch)) {
	t.Helper()
	b := s.NewBatch()
	fill(b)
	if b.Empty() {
		t.Fatal("batch is empty")
	}
	if err := s.Commit(b, true); err != nil {
		t.Fatal(err)
	}
}

// create makes a group with members, which every group has.
func create(t *testing.T, s raftstore.LogStore, g raftstore.GroupID) {
	t.Helper()
	commit(t, s, func(b raftstore.LogBatch) { b.SetMembers(g, &raftpb.ConfState{Voters: []uint64{1, 2, 3}}) })
}

// checkLog compares the group's log with want, which starts behind compacted.
func checkLog(t *testing.T, s raftstore.LogStore, g raftstore.GroupID, compacted, compactedTerm uint64, want []*raftpb.Entry) {
	t.Helper()
	st, ok, err := s.Load(g)
	if err != nil || !ok {
		t.Fatalf("load: %v %v", ok, err)
	}
	last := compacted + uint64(len(want))
	if st.CompactedIndex != compacted || st.CompactedTerm != compactedTerm || st.LastIndex != last {
		t.Fatalf("state %+v, want log behind (%d, %d) up to %d", st, compacted, compactedTerm, last)
	}
	if len(want) == 0 {
		return
	}
	got, err := s.Entries(g, compacted+1, last+1, math.MaxUint64)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(got, want, sameEntry) {
		t.Fatalf("log is %v, want %v", got, want)
	}
	for _, e := range want {
		if term, err := s.Term(g, e.GetIndex()); err != nil || term != e.GetTerm() {
			t.Fatalf("term of %d is %d, %v; want %d", e.GetIndex(), term, err, e.GetTerm())
		}
	}
}

func sameEntry(a, b *raftpb.Entry) bool {
	return a.GetIndex() == b.GetIndex() && a.GetTerm() == b.GetTerm() && a.GetType() == b.GetType() &&
		bytes.Equal(a.GetData(), b.GetData())
}

func testEmpty(t *testing.T, h Harness) {
	s := h.Open(t)
	if gs, err := s.Groups(); err != nil || len(gs) != 0 {
		t.Fatalf("groups %v, %v", gs, err)
	}
	if _, ok, err := s.Load(1); ok || err != nil {
		t.Fatalf("load of nothing: %v, %v", ok, err)
	}
	if !s.NewBatch().Empty() {
		t.Fatal("new batch is not empty")
	}
	if snap, err := s.Snapshot(1); err != nil || snap.Index != 0 {
		t.Fatalf("snapshot of nothing: %v, %v", snap, err)
	}
	if free, err := s.FreeBytes(); err == nil && free == 0 {
		t.Fatal("no free space")
	}
}

func testLog(t *testing.T, h Harness) {
	s := h.Open(t)
	for _, g := range []raftstore.GroupID{1, 2, math.MaxUint64} {
		create(t, s, g)
		commit(t, s, func(b raftstore.LogBatch) { b.Append(g, Entries(1, 100, uint64(g), 10), 0) })
	}
	for range 2 {
		for _, g := range []raftstore.GroupID{1, 2, math.MaxUint64} {
			checkLog(t, s, g, 0, 0, Entries(1, 100, uint64(g), 10))
		}
		es, err := s.Entries(2, 5, 50, 35)
		if err != nil || len(es) != 3 || es[0].GetIndex() != 5 {
			t.Fatalf("35 bytes of entries: %v, %v", es, err)
		}
		if es, err = s.Entries(2, 5, 50, 0); err != nil || len(es) != 1 {
			t.Fatalf("no bytes of entries: %v, %v", es, err)
		}
		for _, c := range []struct{ pos, n, want int }{{0, -1, 10}, {3, 4, 4}, {8, 5, 2}, {10, 1, 0}, {50, -1, 0}} {
			if data, err := s.ReadEntry(2, 7, c.pos, c.n); err != nil || len(data) != c.want {
				t.Fatalf("%d bytes at %d: %d, %v", c.n, c.pos, len(data), err)
			}
		}
		if _, err := s.Term(2, 101); !errors.Is(err, raftstore.ErrCorrupt) {
			t.Fatalf("term of a missing entry: %v", err)
		}
		if _, err := s.Entries(2, 99, 103, math.MaxUint64); !errors.Is(err, raftstore.ErrCorrupt) {
			t.Fatalf("missing entries: %v", err)
		}
		s = h.Reopen(t, s)
	}
}

func testTruncate(t *testing.T, h Harness) {
	s := h.Open(t)
	create(t, s, 1)
	commit(t, s, func(b raftstore.LogBatch) { b.Append(1, Entries(1, 500, 1, 5), 0) })
	commit(t, s, func(b raftstore.LogBatch) { b.Append(1, Entries(490, 492, 2, 5), 500) })
	checkLog(t, s, 1, 0, 0, append(Entries(1, 489, 1, 5), Entries(490, 492, 2, 5)...))
	commit(t, s, func(b raftstore.LogBatch) { b.Append(1, Entries(10, 11, 3, 5), 492) })
	s = h.Reopen(t, s)
	checkLog(t, s, 1, 0, 0, append(Entries(1, 9, 1, 5), Entries(10, 11, 3, 5)...))
}

func testCompact(t *testing.T, h Harness) {
	s := h.Open(t)
	create(t, s, 1)
	commit(t, s, func(b raftstore.LogBatch) { b.Append(1, Entries(1, 500, 4, 5), 0) })
	commit(t, s, func(b raftstore.LogBatch) { b.Compact(1, 1, 10, 4) })
	checkLog(t, s, 1, 10, 4, Entries(11, 500, 4, 5))
	commit(t, s, func(b raftstore.LogBatch) { b.Compact(1, 11, 499, 4) })
	s = h.Reopen(t, s)
	checkLog(t, s, 1, 499, 4, Entries(500, 500, 4, 5))
	commit(t, s, func(b raftstore.LogBatch) { b.Compact(1, 500, 500, 4) })
	checkLog(t, s, 1, 500, 4, nil)
	commit(t, s, func(b raftstore.LogBatch) { b.Append(1, Entries(501, 502, 5, 5), 500) })
	checkLog(t, s, 1, 500, 4, Entries(501, 502, 5, 5))
}

func testStates(t *testing.T, h Harness) {
	s := h.Open(t)
	create(t, s, 1)
	create(t, s, 2)
	hs := raftstore.HardState{Term: 3, Vote: 2, Commit: 77}
	data := bytes.Repeat([]byte("snapshot"), 100_000)
	commit(t, s, func(b raftstore.LogBatch) {
		b.SetTrim(1, 60)
		b.SetLife(1, 7)
		b.SetHardState(1, hs)
		b.SetSnapshot(1, raftstore.Snapshot{Index: 70, Term: 3, Data: data})
		b.SetSnapshot(2, raftstore.Snapshot{Index: 1, Term: 1})
	})
	for range 2 {
		st, ok, err := s.Load(1)
		if err != nil || !ok || st.Hard != hs || st.SnapshotIndex != 70 || st.Trim != 60 || st.Life != 7 || !slices.Equal(st.Members.GetVoters(), []uint64{1, 2, 3}) {
			t.Fatalf("state %+v, %v, %v", st, ok, err)
		}
		if other, _, err := s.Load(2); err != nil || other.Trim != 0 {
			t.Fatalf("state of the other group %+v, %v", other, err)
		}
		snap, err := s.Snapshot(1)
		if err != nil || snap.Index != 70 || snap.Term != 3 || !bytes.Equal(snap.Data, data) {
			t.Fatalf("snapshot at (%d, %d) with %d bytes, %v", snap.Index, snap.Term, len(snap.Data), err)
		}
		if snap, err = s.Snapshot(2); err != nil || snap.Index != 1 || len(snap.Data) != 0 {
			t.Fatalf("empty snapshot: %v, %v", snap, err)
		}
		if gs, err := s.Groups(); err != nil || !slices.Equal(gs, []raftstore.GroupID{1, 2}) {
			t.Fatalf("groups %v, %v", gs, err)
		}
		s = h.Reopen(t, s)
	}
}

func testRows(t *testing.T, h Harness) {
	s := h.Open(t)
	create(t, s, 1)
	create(t, s, 2)
	key := func(i int) []byte { return fmt.Appendf(nil, "%04d", i) }
	commit(t, s, func(b raftstore.LogBatch) {
		for i := range 100 {
			b.Rows(1).Set(key(i), key(i*i))
			b.Rows(2).Set(key(i), nil)
		}
		b.Rows(1).Delete(key(5))
		b.Rows(1).DeleteRange(key(10), key(90))
	})
	s = h.Reopen(t, s)
	collect := func(scan func(lo, hi []byte, fn func(k, v []byte) bool) error, lo, hi []byte, limit int) (got []string) {
		err := scan(lo, hi, func(k, v []byte) bool {
			got = append(got, string(k)+"="+string(v))
			return len(got) < limit
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	r := s.Rows(1)
	if got, want := collect(r.Scan, key(4), key(91), 99), []string{"0004=0016", "0006=0036", "0007=0049", "0008=0064", "0009=0081", "0090=8100"}; !slices.Equal(got, want) {
		t.Errorf("scan: %v, want %v", got, want)
	}
	if got, want := collect(r.ScanReverse, key(9), nil, 2), []string{"0099=9801", "0098=9604"}; !slices.Equal(got, want) {
		t.Errorf("reverse scan from the end: %v, want %v", got, want)
	}
	if got, want := collect(r.ScanReverse, nil, key(90), 2), []string{"0009=0081", "0008=0064"}; !slices.Equal(got, want) {
		t.Errorf("reverse scan: %v, want %v", got, want)
	}
	if got := collect(r.Scan, key(9), key(3), 9); got != nil {
		t.Errorf("scan of an empty range: %v", got)
	}
	if got := collect(s.Rows(2).Scan, nil, nil, 1000); len(got) != 100 {
		t.Errorf("%d rows in the other group", len(got))
	}
	if _, ok, err := r.Get(key(5)); ok || err != nil {
		t.Errorf("deleted row: %v, %v", ok, err)
	}
	if v, ok, err := r.Get(key(6)); !ok || err != nil || string(v) != "0036" {
		t.Errorf("row: %q, %v, %v", v, ok, err)
	}
}

func testDeleteGroup(t *testing.T, h Harness) {
	s := h.Open(t)
	for _, g := range []raftstore.GroupID{1, 2, 3} {
		create(t, s, g)
		commit(t, s, func(b raftstore.LogBatch) {
			b.Append(g, Entries(1, 5, 1, 5), 0)
			b.SetHardState(g, raftstore.HardState{Term: 1})
			b.SetTrim(g, 1)
			b.SetLife(g, 1)
			b.SetSnapshot(g, raftstore.Snapshot{Index: 1, Term: 1})
			b.Rows(g).Set([]byte("k"), []byte("v"))
		})
	}
	commit(t, s, func(b raftstore.LogBatch) { b.DeleteGroup(2) })
	s = h.Reopen(t, s)
	if gs, err := s.Groups(); err != nil || !slices.Equal(gs, []raftstore.GroupID{1, 3}) {
		t.Fatalf("groups %v, %v", gs, err)
	}
	if _, ok, err := s.Load(2); ok || err != nil {
		t.Fatalf("deleted group: %v, %v", ok, err)
	}
	create(t, s, 2)
	checkLog(t, s, 2, 0, 0, nil)
	if st, _, _ := s.Load(2); st.Hard.Term != 0 || st.SnapshotIndex != 0 || st.Trim != 0 || st.Life != 0 {
		t.Fatalf("deleted state came back: %+v", st)
	}
	if _, ok, _ := s.Rows(2).Get([]byte("k")); ok {
		t.Fatal("deleted row came back")
	}
	checkLog(t, s, 1, 0, 0, Entries(1, 5, 1, 5))
	checkLog(t, s, 3, 0, 0, Entries(1, 5, 1, 5))
}

// testModel applies random changes to the store and to a plain slice.
func testModel(t *testing.T, h Harness) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := h.Open(t)
	create(t, s, 1)
	var log []*raftpb.Entry
	var compacted, compactedTerm, term uint64
	for range 200 {
		last := compacted + uint64(len(log))
		switch rng.IntN(6) {
		case 0: // replace a suffix
			term++
			from := compacted + 1 + rng.Uint64N(last-compacted+1)
			es := Entries(from, from+rng.Uint64N(100), term, rng.IntN(50))
			commit(t, s, func(b raftstore.LogBatch) { b.Append(1, es, last) })
			log = append(log[:from-compacted-1], es...)
		case 1:
			if len(log) == 0 {
				continue
			}
			n := 1 + rng.IntN(len(log))
			e := log[n-1]
			commit(t, s, func(b raftstore.LogBatch) { b.Compact(1, compacted+1, e.GetIndex(), e.GetTerm()) })
			log, compacted, compactedTerm = log[n:], e.GetIndex(), e.GetTerm()
		case 2:
			if rng.IntN(10) == 0 {
				s = h.Reopen(t, s)
			}
		default:
			es := Entries(last+1, last+1+rng.Uint64N(20), term, rng.IntN(50))
			commit(t, s, func(b raftstore.LogBatch) { b.Append(1, es, last) })
			log = append(log, es...)
		}
		if rng.IntN(10) == 0 {
			checkLog(t, s, 1, compacted, compactedTerm, log)
		}
	}
	checkLog(t, s, 1, compacted, compactedTerm, log)
}
