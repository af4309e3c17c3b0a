package pstate

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/oncelog/oncelog/internal/golden"
)

// TestCommandFormat: what was once logged is read, and is what is written.
func TestCommandFormat(t *testing.T) {
	t.Parallel()
	all := samples(t)
	var out []golden.Sample
	kinds := slices.Sorted(maps.Keys(all))
	for _, kind := range kinds {
		out = append(out, golden.Sample{Name: fmt.Sprintf("kind-%d", kind), Bytes: all[kind].entry})
	}
	sync := all[KindSyncPartitions].cmd.(SyncPartitions)
	sync.Add = []PartitionInfo{{5, 2, "orders", 1, Retention{300, 4096}, Cleanup{true, 300, 7}}}
	entry, err := EncodeSyncPartitions(nil, sync)
	if err != nil {
		t.Fatal(err)
	}
	out = append(out, golden.Sample{Name: "kind-4-cleanup", Bytes: entry})
	if got, err := DecodeSyncPartitions(entry); err != nil || !reflect.DeepEqual(got, sync) {
		t.Errorf("the cleanup of a partition is read as %+v: %v", got, err)
	}
	golden.Check(t, "shard-command", entryVersion, out)
	for i, s := range golden.Read(t, "shard-command", 1) {
		cmd, again, err := decode(s.Bytes)
		if err != nil || !reflect.DeepEqual(cmd, all[kinds[i]].cmd) || !bytes.Equal(again, s.Bytes) {
			t.Errorf("%s of version 1 is read as %+v: %v", s.Name, cmd, err)
		}
	}
}

// TestSnapshotFormat: a snapshot is stored, and sent to members of other versions.
func TestSnapshotFormat(t *testing.T) {
	t.Parallel()
	golden.Check(t, "shard-snapshot", snapshotVersion, []golden.Sample{
		{Name: "everything", Bytes: busy(t).Snapshot()}, {Name: "compacted", Bytes: busyCompacted(t).Snapshot()},
	})
	for v := oldestSnapshotVersion; v <= snapshotVersion; v++ {
		old := golden.Read(t, "shard-snapshot", v)[0].Bytes
		s := New(Config{})
		if err := s.Restore(old); err != nil || old[0] != byte(v) {
			t.Errorf("version %d is not read: %v", v, err)
		}
		if v == snapshotVersion && !bytes.Equal(s.Snapshot(), old) {
			t.Errorf("version %d comes back as %x", v, s.Snapshot())
		}
		if v == snapshotVersion-1 && !bytes.Equal(s.Snapshot(), busy(t).Snapshot()) {
			t.Errorf("version %d, which has nothing of compaction, comes back as %x", v, s.Snapshot())
		}
	}
	s := New(Config{})
	compacted := golden.Read(t, "shard-snapshot", snapshotVersion)[1].Bytes
	if err := s.Restore(compacted); err != nil || !bytes.Equal(s.Snapshot(), compacted) {
		t.Errorf("what was compacted comes back as %x: %v", s.Snapshot(), err)
	}
}
