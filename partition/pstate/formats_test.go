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
	golden.Check(t, "shard-snapshot", snapshotVersion, []golden.Sample{{Name: "everything", Bytes: busy(t).Snapshot()}})
	for v := oldestSnapshotVersion; v <= snapshotVersion; v++ {
		old := golden.Read(t, "shard-snapshot", v)[0].Bytes
		s := New(Config{})
		if err := s.Restore(old); err != nil || old[0] != byte(v) {
			t.Errorf("version %d is not read: %v", v, err)
		}
		if v == snapshotVersion && !bytes.Equal(s.Snapshot(), old) {
			t.Errorf("version %d comes back as %x", v, s.Snapshot())
		}
	}
}
