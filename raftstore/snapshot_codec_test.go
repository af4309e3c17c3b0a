package raftstore

import (
	"bytes"
	"errors"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/internal/golden"
)

// TestSnapshotFormat: members of other versions send and read snapshots.
func TestSnapshotFormat(t *testing.T) {
	t.Parallel()
	entry := &raftpb.Entry{Index: proto.Uint64(7), Term: proto.Uint64(2), Type: raftpb.EntryNormal.Enum(), Data: []byte("data")}
	m := manifest{1, 2, 3}
	chunk := appendEntry(appendRow(appendCheckpoint(nil, []byte("state")), []byte("key"), []byte("row")), entry)
	golden.Check(t, "raft-snapshot", manifestVersion, []golden.Sample{{Name: "manifest", Bytes: m.encode()}, {Name: "chunk", Bytes: chunk}})
	old := golden.Read(t, "raft-snapshot", 1)
	if got, err := decodeManifest(old[0].Bytes); err != nil || got != m {
		t.Errorf("version 1 is read as %+v: %v", got, err)
	}
	c, err := decodeChunk(old[1].Bytes)
	if err != nil || len(c.checkpoint) != 1 || len(c.rows) != 1 || len(c.entries) != 1 || !proto.Equal(c.entries[0], entry) {
		t.Errorf("version 1 is read as %+v: %v", c, err)
	}
}

// FuzzDecodeChunk: what a peer sends is refused, or is what somebody encodes.
func FuzzDecodeChunk(f *testing.F) {
	f.Add([]byte{})
	entry := &raftpb.Entry{Index: proto.Uint64(7), Term: proto.Uint64(2), Type: raftpb.EntryConfChangeV2.Enum(), Data: []byte("d")}
	f.Add(appendEntry(appendRow(appendCheckpoint(nil, []byte("state")), []byte("key"), nil), entry))
	f.Add(appendEntry(nil, &raftpb.Entry{Index: proto.Uint64(1 << 60), Term: proto.Uint64(1)}))
	f.Add(manifest{1, 2, 3}.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := decodeManifest(data); err == nil {
			if again, err := decodeManifest(m.encode()); err != nil || again != m {
				t.Errorf("manifest %+v came back as %+v, %v", m, again, err)
			}
		} else if !errors.Is(err, ErrBadSnapshot) {
			t.Error(err)
		}
		c, err := decodeChunk(data)
		if err != nil {
			if !errors.Is(err, ErrBadSnapshot) {
				t.Error(err)
			}
			return
		}
		var b []byte
		for _, piece := range c.checkpoint {
			b = appendCheckpoint(b, piece)
		}
		for _, row := range c.rows {
			b = appendRow(b, row[0], row[1])
		}
		for _, e := range c.entries {
			b = appendEntry(b, e)
		}
		again, err := decodeChunk(b)
		if err != nil || len(again.checkpoint) != len(c.checkpoint) || len(again.rows) != len(c.rows) || len(again.entries) != len(c.entries) {
			t.Fatalf("%+v came back as %+v, %v", c, again, err)
		}
		for i, e := range c.entries {
			if !proto.Equal(e, again.entries[i]) {
				t.Errorf("%v came back as %v", e, again.entries[i])
			}
		}
		for i, row := range c.rows {
			if !bytes.Equal(row[0], again.rows[i][0]) || !bytes.Equal(row[1], again.rows[i][1]) {
				t.Errorf("row %q came back as %q", row, again.rows[i])
			}
		}
	})
}
