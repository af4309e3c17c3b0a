package pebblelog

import (
	"bytes"
	"errors"
	"testing"

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
