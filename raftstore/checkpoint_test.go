package raftstore_test

import (
	"bytes"
	"testing"

	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
)

// large is a machine with a state of so many bytes.
type large struct{ state []byte }

func (*large) Apply(raftstore.Entry, raftstore.RowWriter) (any, error) { return nil, nil }
func (l *large) Snapshot() ([]byte, error)                             { return l.state, nil }
func (*large) Restore(uint64, []byte) error                            { return nil }

// A small state is written after so many entries. A large one, which would be written
// more often than anything else, waits until half as much was applied as it has, also
// after a restart; and its log is then removed behind it as that of any other.
func TestCheckpointsOfLargeStatesAreRare(t *testing.T) {
	t.Parallel()
	const (
		entry = 64 << 10
		every = 4 // entries, SnapshotEntries
	)
	for _, test := range []struct {
		name  string
		state int
		// between is how many entries are applied from one checkpoint to the next.
		between int
	}{
		{"nothing", 0, every},
		{"1 MiB", 1 << 20, every},
		{"just above", 1<<20 + 2*entry, 9},
		{"4 MiB", 4 << 20, 32},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			log := memlog.New(nil)
			m := &large{state: make([]byte, test.state)}
			var s *raftstore.Store
			var g *raftstore.Group
			open := func() {
				t.Helper()
				var err error
				if s, err = raftstore.Open(raftstore.Config{NodeID: 1, Log: log, Manual: true}); err != nil {
					t.Fatal(err)
				}
				g, err = s.CreateGroup(raftstore.GroupConfig{
					ID: 1, Members: []raftstore.NodeID{1}, Machine: m, SnapshotEntries: every, TailEntries: 1,
				})
				if err != nil {
					t.Fatal(err)
				}
				for s.Turn() {
				}
			}
			// untilNext proposes until one more checkpoint was written, and returns how many
			// entries that took.
			untilNext := func() (n int) {
				t.Helper()
				for before := s.Metrics().Checkpoints; s.Metrics().Checkpoints == before; n++ {
					if n > 10*test.between {
						t.Fatalf("no checkpoint after %d entries", n)
					}
					g.ProposeAsync(bytes.Repeat([]byte{1}, entry), 0, func(res raftstore.ProposalResult) {
						if res.Err != nil {
							t.Error(res.Err)
						}
					})
					for s.Turn() {
					}
				}
				return n
			}
			open()
			untilNext() // the first one: nobody knows how large the state is
			for range 2 {
				if n := untilNext(); n != test.between {
					t.Errorf("a checkpoint after %d entries, want %d", n, test.between)
				}
				if kept := g.Applied() - g.First() + 1; kept != 1 {
					t.Errorf("%d entries are in the log behind a checkpoint", kept)
				}
			}
			// A crash: the end wrote none, and what was applied since counts.
			log = log.Crash(log.Unsynced())
			open()
			// The new term's empty entry is one of those that count.
			if n := untilNext(); n < test.between-1 || n > test.between {
				t.Errorf("a checkpoint after %d entries since a restart, want %d", n, test.between)
			}
			if err := s.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}
