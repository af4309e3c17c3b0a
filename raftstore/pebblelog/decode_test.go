package pebblelog

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/oncelog/oncelog/api/codec"
	"github.com/oncelog/oncelog/raftstore"
)

// FuzzDecode feeds arbitrary values to every decoder: each must accept only
// what it could have written, or say that it is corrupt.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(encodeHard(raftstore.HardState{Term: 1, Vote: 2, Commit: 3}))
	f.Add(append(make([]byte, snapshotHeader), 1, 2, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		var hs raftstore.HardState
		if err := decodeInts("hard state", b, &hs.Term, &hs.Vote, &hs.Commit); err == nil {
			if !bytes.Equal(encodeHard(hs), b) {
				t.Errorf("hard state %+v from %x", hs, b)
			}
		} else if !errors.Is(err, raftstore.ErrCorrupt) {
			t.Error(err)
		}
		if e, err := decodeEntry(1, 2, b); err == nil {
			if e.GetIndex() != 2 || len(e.GetData()) != len(b)-entryHeader {
				t.Errorf("entry %v from %x", e, b)
			}
		} else if !errors.Is(err, raftstore.ErrCorrupt) {
			t.Error(err)
		}
		if s, err := decodeSnapshot(1, b); err == nil {
			if !bytes.Equal(s.Data, b[snapshotHeader:]) {
				t.Errorf("checkpoint %v from %x", s, b)
			}
		} else if !errors.Is(err, raftstore.ErrCorrupt) {
			t.Error(err)
		}
	})
}

// FuzzFiles puts arbitrary bytes in the place of the files that are looked at
// before Pebble is: they are damage, or another version, or make no difference.
func FuzzFiles(f *testing.F) {
	fs := vfs.NewMem()
	s, err := Open(Config{Dir: "db", FS: fs})
	if err != nil {
		f.Fatal(err)
	}
	b := s.NewBatch()
	b.SetHardState(1, raftstore.HardState{Term: 1})
	if err := errors.Join(s.Commit(b, true), s.Close()); err != nil {
		f.Fatal(err)
	}
	names, err := fs.List("db")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		data, _, err := vfsFiles{fs, "db"}.Read(name)
		if err != nil {
			f.Fatal(err)
		}
		switch {
		case name == walsFile.File:
			f.Add(byte(0), data)
		case strings.HasSuffix(name, ".log"):
			f.Add(byte(1), data)
		case strings.HasPrefix(name, "MANIFEST"):
			f.Add(byte(2), data)
		}
	}
	f.Fuzz(func(t *testing.T, which byte, data []byte) {
		dir := vfsFiles{vfs.NewMem(), "db"}
		if err := dir.fs.MkdirAll("db", 0o755); err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string][]byte{"marker.manifest.000001.MANIFEST-000001": nil, "MANIFEST-000001": nil, "000002.log": nil} {
			if err := dir.Write(name, content); err != nil {
				t.Fatal(err)
			}
		}
		name := []string{walsFile.File, "000002.log", "MANIFEST-000001"}[which%3]
		if err := dir.Write(name, data); err != nil {
			t.Fatal(err)
		}
		w := wals{files: dir}
		err := w.checkFiles()
		if err != nil && !errors.Is(err, raftstore.ErrCorrupt) && !errors.Is(err, codec.ErrVersion) && which%3 != 2 {
			t.Errorf("%s: %v", name, err)
		}
		if list, err := decodeWALs(data); err == nil {
			if again, err := decodeWALs(encodeWALs(list)); err != nil || !slices.Equal(again, list) {
				t.Errorf("%+v comes back as %+v: %v", list, again, err)
			}
		}
	})
}
