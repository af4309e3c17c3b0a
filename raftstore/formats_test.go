package raftstore

import (
	"errors"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/oncelog/oncelog/internal/golden"
)

// TestSnapshotStreamFormat: a member may get its snapshot from one of another
// version.
func TestSnapshotStreamFormat(t *testing.T) {
	t.Parallel()
	m := manifest{compacted: 300, compactedTerm: 2, checkpointBytes: 5}
	index, term := uint64(301), uint64(3)
	chunk := appendCheckpoint(nil, []byte("state"))
	chunk = appendRow(chunk, []byte("key"), []byte("row"))
	chunk = appendEntry(chunk, &raftpb.Entry{Index: &index, Term: &term, Type: raftpb.EntryNormal.Enum(), Data: []byte("entry")})
	golden.Check(t, "snapshot-stream", manifestVersion, []golden.Sample{
		{Name: "manifest", Bytes: m.encode()}, {Name: "chunk", Bytes: chunk},
	})
	old := golden.Read(t, "snapshot-stream", 1)
	if got, err := decodeManifest(old[0].Bytes); err != nil || got != m {
		t.Errorf("manifest of version 1 is read as %+v: %v", got, err)
	}
	got, err := decodeChunk(old[1].Bytes)
	if err != nil || len(got.checkpoint) != 1 || string(got.checkpoint[0]) != "state" || len(got.rows) != 1 || string(got.rows[0][0]) != "key" ||
		len(got.entries) != 1 || got.entries[0].GetIndex() != 301 || string(got.entries[0].GetData()) != "entry" {
		t.Errorf("chunk of version 1 is read as %+v: %v", got, err)
	}
	_, err = decodeManifest(append([]byte{2}, old[0].Bytes[1:]...))
	if !errors.Is(err, ErrBadSnapshot) || !strings.Contains(err.Error(), "begins with 02, and this program reads version 1") {
		t.Error(err)
	}
}
