package raftstore_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
	"github.com/oncelog/oncelog/raftstore/pebblelog"
)

// backup returns the pieces of a group, and where it ends.
func (h *hands) backup(id raftstore.NodeID) (pieces [][]byte, index, term uint64) {
	h.t.Helper()
	b, err := h.keep(id)
	if err != nil {
		h.t.Fatal(err)
	}
	defer b.Close()
	// What comes afterwards is not in it.
	h.propose(id, 30)
	for last := false; !last; {
		var piece []byte
		if piece, last, err = b.Next(); err != nil {
			h.t.Fatal(err)
		}
		pieces = append(pieces, slices.Clone(piece))
	}
	return pieces, b.Index, b.Term
}

// keep is Backup for stores that are turned by hand: everybody goes on while it is
// found out what was committed, and nobody while it is kept.
func (h *hands) keep(id raftstore.NodeID) (*raftstore.Backup, error) {
	h.t.Helper()
	confirmed := make(chan error, 1)
	asked := make(chan struct{})
	go func() {
		close(asked)
		_, err := h.groups[id].ReadIndex(h.t.Context())
		confirmed <- err
	}()
	<-asked
	for {
		select {
		case err := <-confirmed:
			if err != nil {
				return nil, err
			}
			return h.groups[id].BackupNow()
		default:
			h.tick(1)
		}
	}
}

// A group goes on, in a cluster of other members, from its backup: with the state, the
// rows and the log that it had, and whoever joins later gets all of that.
func TestABackupBeginsAnotherGroup(t *testing.T) {
	t.Parallel()
	for _, retain := range []bool{true, false} {
		h := newHands(t)
		for id := raftstore.NodeID(1); id <= 3; id++ {
			h.start(id, memlog.New(nil), func(_ *raftstore.Config, g *raftstore.GroupConfig) { g.RetainLog = retain })
		}
		h.tick(3)
		h.propose(1, 45)
		hash, count := h.chains[1].state()
		pieces, index, term := h.backup(1)

		next := newHands(t)
		for id := raftstore.NodeID(4); id <= 5; id++ {
			fs := vfs.NewMem()
			log, err := pebblelog.Open(pebblelog.Config{Dir: "log", FS: fs})
			if err != nil {
				t.Fatal(err)
			}
			in := raftstore.NewImport(log, 3, index, term, []raftstore.NodeID{4, 5})
			for _, p := range pieces {
				if err := in.Add(p); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(in.Close(), log.Close()); err != nil {
				t.Fatal(err)
			}
			if log, err = pebblelog.Open(pebblelog.Config{Dir: "log", FS: fs}); err != nil {
				t.Fatal(err)
			}
			next.start(id, log, func(_ *raftstore.Config, g *raftstore.GroupConfig) {
				g.Members, g.Join, g.RetainLog = nil, true, retain
			})
			if h2, n2 := next.chains[id].state(); h2 != hash || n2 != count {
				t.Fatalf("retain %v: the state of %d commands is one of %d", retain, count, n2)
			}
		}
		next.tick(60)
		leader := next.leader()
		if got := next.voters(leader); !slices.Equal(got, []raftstore.NodeID{4, 5}) {
			t.Fatalf("members %v", got)
		}
		next.propose(leader, 10)
		rows := 0
		if err := next.groups[leader].Rows().Scan(nil, nil, func([]byte, []byte) bool { rows++; return true }); err != nil || rows != int(count)+10 {
			t.Fatalf("%d rows of %d commands: %v", rows, count+10, err)
		}
		if retain {
			if first := next.groups[leader].First(); first != 2 {
				t.Errorf("the log begins at %d", first)
			}
			if e, err := next.groups[leader].Entry(index); err != nil || !bytes.Equal(e, bytes.Repeat([]byte("x"), 50)) {
				t.Errorf("entry %d: %q, %v", index, e, err)
			}
		}
	}
}

// Every piece counts, and where it is.
func TestAnImportNeedsAllPieces(t *testing.T) {
	t.Parallel()
	h := newHands(t)
	for id := raftstore.NodeID(1); id <= 3; id++ {
		h.start(id, memlog.New(nil), nil)
	}
	h.tick(3)
	h.propose(1, 45)
	pieces, index, term := h.backup(1)
	if len(pieces) < 4 {
		t.Fatalf("%d pieces", len(pieces))
	}
	try := func(index uint64, pieces [][]byte) error {
		in := raftstore.NewImport(memlog.New(nil), 3, index, term, []raftstore.NodeID{4})
		for _, p := range pieces {
			if err := in.Add(p); err != nil {
				return err
			}
		}
		return in.Close()
	}
	if err := try(index, pieces); err != nil {
		t.Fatal(err)
	}
	swapped := slices.Clone(pieces)
	swapped[len(swapped)-1], swapped[len(swapped)-2] = swapped[len(swapped)-2], swapped[len(swapped)-1]
	for name, damaged := range map[string][][]byte{
		"without the first": pieces[1:], "without the last": pieces[:len(pieces)-1], "swapped": swapped, "nothing": nil,
		"without one": slices.Delete(slices.Clone(pieces), 2, 3), "one twice": slices.Insert(slices.Clone(pieces), 3, pieces[3]),
	} {
		if err := try(index, damaged); !errors.Is(err, raftstore.ErrBadSnapshot) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, other := range []uint64{index - 1, index + 1} {
		if err := try(other, pieces); !errors.Is(err, raftstore.ErrBadSnapshot) {
			t.Errorf("up to %d instead of %d: %v", other, index, err)
		}
	}
}
