package pstate

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"
)

// A snapshot is stored and sent between versions: its bytes are a format. A new
// version gets a file of its own, and this one must go on restoring (TI-06).
func TestSnapshotGolden(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("testdata/snapshot_v4.hex")
	if err != nil {
		t.Fatal(err)
	}
	snap := busy(t).Snapshot()
	if got := hex.Dump(snap); got != string(file) {
		t.Errorf("the snapshot is\n%s", got)
	}
}

// Version 1 is version 2 without tombstones, and version 2 is version 3 without
// segments: everything is one then, and the whole log is needed.
func TestRestoreOfOldVersions(t *testing.T) {
	t.Parallel()
	for name, same := range map[string]*State{"testdata/snapshot_v1.hex": busyBefore(t), "testdata/snapshot_v2.hex": busy(t)} {
		file, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		s := New(Config{})
		if err := s.Restore(undump(t, string(file))); err != nil {
			t.Fatal(err)
		}
		if s.Needed() != 1 {
			t.Errorf("%s: needs the log from %d on", name, s.Needed())
		}
		for _, id := range []uint64{1, 2, 5} {
			got, _ := s.Partition(id)
			want, _ := same.Partition(id)
			equal(t, name, []PartitionStatus{got}, []PartitionStatus{want})
			s.partitions[id].segments, same.partitions[id].segments = nil, nil
			s.written = same.written
		}
		if got := s.Snapshot(); !bytes.Equal(got, same.Snapshot()) {
			t.Errorf("%s comes back as\n%s", name, hex.Dump(got))
		}
	}
}

// undump reads what [hex.Dump] wrote.
func undump(t *testing.T, dump string) (out []byte) {
	t.Helper()
	for line := range strings.Lines(dump) {
		_, digits, _ := strings.Cut(line, "  ")
		digits, _, _ = strings.Cut(digits, "|")
		b, err := hex.DecodeString(strings.Join(strings.Fields(digits), ""))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b...)
	}
	return out
}

// A snapshot that is damaged is refused as a whole, the aborted index in it
// included, and leaves the state as it was (PS-35, TI-02).
func TestRestoreRefusesDamage(t *testing.T) {
	t.Parallel()
	snap := busy(t).Snapshot()
	s := busy(t)
	for n := range snap {
		if s.Restore(snap[:n]) == nil {
			t.Fatalf("the first %d of %d bytes restore", n, len(snap))
		}
	}
	if err := s.Restore(append([]byte{9}, snap[1:]...)); !errors.Is(err, ErrVersion) {
		t.Fatal(err)
	}
	if s.Restore(append(bytes.Clone(snap), 0)) == nil {
		t.Fatal("a trailing byte restores")
	}
	if !bytes.Equal(s.Snapshot(), snap) {
		t.Fatal("a refused restore changed the state")
	}
	// Any single byte changed: refused, or a state that is whole.
	for i := range snap {
		for _, x := range []byte{1, 2, 0x80} {
			bad := bytes.Clone(snap)
			bad[i] ^= x
			if s := New(Config{}); s.Restore(bad) == nil && s.Check() != nil {
				t.Fatalf("byte %d ^ %d: restored a broken state", i, x)
			}
		}
	}
}

// The whole window of ranges is in the snapshot (Kafka keeps one batch there).
func TestDuplicatesAfterSnapshot(t *testing.T) {
	t.Parallel()
	s := New(Config{})
	s.SyncPartitions(1, full(1, 1))
	for i := range uint64(16) {
		s.Append(2+i, Append{Ref: t1, Batches: []Batch{{Partition: 1, BaseSequence: i * 2, Count: 2}}}, nil)
	}
	other := New(Config{RangesKept: 1})
	if err := other.Restore(s.Snapshot()); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(16) {
		res := other.Decide(t1, Batch{Partition: 1, BaseSequence: i * 2, Count: 2})
		if res.Code != CodeDuplicate || !res.OffsetKnown || res.BaseOffset != i*2 {
			t.Fatalf("batch %d: %+v", i, res)
		}
	}
	if other.Config() != s.Config() {
		t.Fatal("the configuration is not that of the snapshot")
	}
}

// Check is only as good as what it finds.
func TestCheckFinds(t *testing.T) {
	t.Parallel()
	prod := func(s *State) *producer { return s.producers[7] }
	for _, c := range []struct {
		want  string
		spoil func(*State)
	}{
		{"I8: log start", func(s *State) { s.partitions[1].start = 9 }},
		{"I2: log start outside", func(s *State) { s.partitions[5].segments[0].base = 3 }},
		{"I2: records without a segment", func(s *State) { s.partitions[5].start = s.partitions[5].end }},
		{"I2: log index of a segment", func(s *State) { s.partitions[1].segments[0].first = 99 }},
		{"I2: records below what is needed", func(s *State) { s.partitions[5].segments[0].first = 1 }},
		{"bytes of the segments", func(s *State) { s.partitions[1].size++ }},
		{"segment from the future", func(s *State) { s.partitions[1].segments[0].newest = 1 << 40 }},
		{"partition in no place", func(s *State) { s.partitions[1].place = 7 }},
		{"I8: stable end", func(s *State) { s.partitions[1].end = 0 }},
		{"I8: open transactions not by", func(s *State) { s.partitions[1].open.head.first = 11 }},
		{"I3: ended transaction holds", func(s *State) { prod(s).txn(t2.Point()).outcome = OutcomeCommit }},
		{"I3: hidden range outside", func(s *State) { s.partitions[5].aborted.chunks[0][0].end = 99 }},
		{"aborted index out of order", func(s *State) { in := s.partitions[5].aborted.chunks[0]; in[0], in[1] = in[1], in[0] }},
		{"length of the aborted index", func(s *State) { s.partitions[5].aborted.len++ }},
		{"I1: ended transaction above", func(s *State) { prod(s).settle = Point{} }},
		{"I1: ranges not dense", func(s *State) { s.producers[9].idem[0].ranges[0].offset = 0 }},
		{"I1: sequence outside", func(s *State) { s.producers[9].idem[0].end = 99 }},
		{"I1: more sequences", func(s *State) { prod(s).txn(t2.Point()).parts[0].next = 9 }},
		{"I5: transaction twice", func(s *State) { prod(s).txns[1].point = prod(s).txns[0].point }},
		{"I11: open list out of order", func(s *State) { s.open.head.openedAt = 99 }},
		{"I11: open transaction without", func(s *State) { prod(s).txn(t2.Point()).parts = nil }},
		{"open transactions of a producer", func(s *State) { prod(s).open-- }},
		{"open list and producers", func(s *State) { s.open.len++ }},
		{"sequence count", func(s *State) { s.sequences++ }},
		{"idle list out of order", func(s *State) { s.idle.head.seen = 1 << 40 }},
		{"idle list and producers", func(s *State) { s.idle.len++ }},
		{"producer of which nothing", func(s *State) { s.producers[50] = &producer{id: 50} }},
		{"wrong id", func(s *State) { s.partitions[77] = s.partitions[1] }},
		{"I1: producer that is gone", func(s *State) { s.gone.add(7, s.now) }},
		{"tombstones out of order", func(s *State) { s.gone.since[3] = 1 << 40 }},
		{"tombstones and their queue", func(s *State) { s.gone.queue[0] = 4 }},
		{"tombstones and their queue", func(s *State) { s.gone.queue = nil }},
		{"removed partition", func(s *State) { delete(s.partitions, 1) }},
	} {
		s := busy(t)
		c.spoil(s)
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %q, Check says %v", c.want, err)
		}
	}
}
