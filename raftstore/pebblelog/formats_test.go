package pebblelog

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/oncelog/oncelog/api/codec"
	"github.com/oncelog/oncelog/internal/golden"
	"github.com/oncelog/oncelog/raftstore"
)

// device writes one of everything and returns the keys and values, in order.
func device(t *testing.T, s *Store) []golden.Sample {
	t.Helper()
	index, term, kind := uint64(8), uint64(2), raftpb.EntryNormal
	b := s.NewBatch()
	b.SetMembers(3, &raftpb.ConfState{Voters: []uint64{1, 2, 3}})
	b.SetHardState(3, raftstore.HardState{Term: 2, Vote: 1, Commit: 8})
	b.SetSnapshot(3, raftstore.Snapshot{Index: 7, Term: 1, Data: []byte("state")})
	b.Compact(3, 1, 7, 1)
	b.SetTrim(3, 6)
	b.Append(3, []*raftpb.Entry{{Index: &index, Term: &term, Type: &kind, Data: []byte("entry")}}, 7)
	b.Rows(3).Set([]byte("key"), []byte("row"))
	if err := s.Commit(b, true); err != nil {
		t.Fatal(err)
	}
	var out []golden.Sample
	err := s.present().scan(nil, nil, func(k, v []byte) (bool, error) {
		name := strings.ReplaceAll(strings.Split(keyName(k), " of group")[0], " ", "-")
		name = strings.ReplaceAll(name, "\"", "")
		if k[0] == kindFormat {
			v = encodeFormat("database")
		}
		out = append(out, golden.Sample{Name: name + ":key", Bytes: bytes.Clone(k)}, golden.Sample{Name: name + ":value", Bytes: bytes.Clone(v)})
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestDeviceFormat: the keys and values of older versions are read.
func TestDeviceFormat(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s, err := Open(Config{Dir: "db", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "log-device", formatVersion, device(t, s))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// The same bytes in another database.
	db, err := pebble.Open("old", &pebble.Options{FS: fs, FormatMajorVersion: engineVersion})
	if err != nil {
		t.Fatal(err)
	}
	old := golden.Read(t, "log-device", 1)
	for i := 0; i < len(old); i += 2 {
		if err := db.Set(old[i].Bytes, old[i+1].Bytes, pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(Config{Dir: "old", FS: fs}); err != nil {
		t.Fatal(err)
	}
	st, ok, err := s.Load(3)
	if err != nil || !ok || st.Hard != (raftstore.HardState{Term: 2, Vote: 1, Commit: 8}) || st.LastIndex != 8 ||
		st.CompactedIndex != 7 || st.CompactedTerm != 1 || st.SnapshotIndex != 7 || len(st.Members.GetVoters()) != 3 {
		t.Errorf("version 1 is read as %+v: %v", st, err)
	}
	if snap, err := s.Snapshot(3); err != nil || string(snap.Data) != "state" || snap.Term != 1 {
		t.Errorf("checkpoint %+v: %v", snap, err)
	}
	if e, err := s.Entries(3, 8, 9, 1); err != nil || string(e[0].GetData()) != "entry" || e[0].GetTerm() != 2 {
		t.Errorf("entry %v: %v", e, err)
	}
	if row, ok, err := s.Rows(3).Get([]byte("key")); err != nil || !ok || string(row) != "row" {
		t.Errorf("row %q: %v", row, err)
	}
	if s.ID() != "database" {
		t.Errorf("the database is called %q", s.ID())
	}
	// What a newer program wrote is told as that.
	if err := s.db.Set([]byte{kindFormat}, []byte{formatVersion + 1, 'x'}, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Open(Config{Dir: "old", FS: fs})
	const want = "open old: log device: version 2 is unknown, this program reads version 1"
	if !errors.Is(err, codec.ErrVersion) || !strings.Contains(err.Error(), want) {
		t.Error(err)
	}
}

// TestDatabaseWithoutVersion: one that has anything was given one.
func TestDatabaseWithoutVersion(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s, err := Open(Config{Dir: "db", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	device(t, s)
	if err := s.db.Delete([]byte{kindFormat}, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Open(Config{Dir: "db", FS: fs})
	if !errors.Is(err, raftstore.ErrCorrupt) || !strings.Contains(err.Error(), "the format version is missing, beside members of group 3") {
		t.Error(err)
	}
}

// TestLogListFormat: the list of write-ahead logs, and the mark of a batch.
func TestLogListFormat(t *testing.T) {
	t.Parallel()
	list := []walFile{{number: 7, first: 1, size: 300, crc: 5}, {number: 9, first: 400}}
	b := make([]byte, markAt+markBytes)
	b[batchHeader], b[batchHeader+1] = logDataKind, markBytes
	mark(b, 12, 11)
	golden.Check(t, "log-files", walsVersion, []golden.Sample{
		{Name: "list", Bytes: encodeWALs(list)},
		{Name: "mark", Bytes: b[markAt:]},
	})
	old := golden.Read(t, "log-files", 1)
	if got, err := decodeWALs(old[0].Bytes); err != nil || len(got) != 2 || got[0] != list[0] || got[1] != list[1] {
		t.Errorf("version 1 is read as %+v: %v", got, err)
	}
	copy(b[markAt:], old[1].Bytes)
	if number, synced, ok := readMark(b); !ok || number != 12 || synced != 11 {
		t.Errorf("mark %d %d %v", number, synced, ok)
	}
}
