package group

import (
	"bytes"
	"testing"
)

// heldMachine has a prepared transaction that is to move partition 1 of group g from
// 5 to 8, and partition 2, which has no position, to 3. Member m owns both.
func heldMachine(t *testing.T) (*Machine, TxnRef) {
	t.Helper()
	m := New()
	by := TxnRef{ProducerID: 7, Epoch: 1, Number: 4}
	if r := m.Apply(anyPartition{}, AssignPartitions{At: 1, Group: "g", Member: "m", Partitions: []uint64{1, 2, 3}}); !r.OK() {
		t.Fatal(r)
	}
	first := Commit{Group: "g", Member: "m", Generation: 1, Entries: []Entry{{Partition: 1, Offset: 5}}}
	if r := m.Apply(anyPartition{}, CommitOffsets{At: 2, Commit: first}); !r.OK() {
		t.Fatal(r)
	}
	commits := []Commit{{Group: "g", Member: "m", Generation: 1, Entries: []Entry{
		{Partition: 1, Offset: 8, Expected: 5, HasExpected: true}, {Partition: 2, Offset: 3, Metadata: "x"},
	}}}
	if r := m.CheckCommits(anyPartition{}, by, commits); !r.OK() {
		t.Fatal(r)
	}
	m.HoldCommits(3, by, commits)
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	return m, by
}

type anyPartition struct{}

func (anyPartition) HasPartition(id uint64) bool     { return id < 100 }
func (anyPartition) TopicPartitions(string) []uint64 { return nil }

// Nothing may come between what was checked and what was promised.
func TestNothingMovesAHeldOffset(t *testing.T) {
	t.Parallel()
	one := []Entry{{Partition: 1, Offset: 9, Expected: 5, HasExpected: true}}
	tests := map[string]Command{
		"its member":                 CommitOffsets{At: 4, Commit: Commit{Group: "g", Member: "m", Generation: 1, Entries: one}},
		"its member, where none was": CommitOffsets{At: 4, Commit: Commit{Group: "g", Member: "m", Generation: 1, Entries: []Entry{{Partition: 2, Offset: 1}}}},
		"an operator":                ResetOffsets{At: 4, Group: "g", Entries: one, Force: true},
		"an operator who deletes":    DeleteOffsets{At: 4, Group: "g", Partitions: []uint64{1}, Force: true},
		"who takes it over":          AssignPartitions{At: 4, Group: "g", Member: "other", Partitions: []uint64{2}},
	}
	for name, cmd := range tests {
		m, _ := heldMachine(t)
		before := m.Snapshot()
		res := m.Apply(anyPartition{}, cmd)
		if res.Code != CodeOffsetHeld || res.Group != "g" || res.Partition != 1 && res.Partition != 2 {
			t.Errorf("%s: %+v", name, res.Refusal)
		}
		m.now = 3 // time moves with any command
		if !bytes.Equal(before, m.Snapshot()) {
			t.Errorf("%s: refused, and something changed", name)
		}
	}
	// Another transaction of its member, and one of a member that has lost it.
	m, _ := heldMachine(t)
	if r := m.CheckCommits(anyPartition{}, TxnRef{9, 0, 1}, []Commit{{Group: "g", Member: "m", Generation: 1, Entries: one}}); r.Code != CodeOffsetHeld {
		t.Errorf("another transaction: %+v", r)
	}
	if r := m.CheckCommits(anyPartition{}, TxnRef{9, 0, 1}, []Commit{{Group: "g", Member: "x", Generation: 1, Entries: one}}); r.Code != CodeStaleMember {
		t.Errorf("a zombie is told to try again: %+v", r)
	}
	// What is not held goes on.
	if r := m.Apply(anyPartition{}, CommitOffsets{At: 4, Commit: Commit{Group: "g", Member: "m", Generation: 1, Entries: []Entry{{Partition: 3, Offset: 1}}}}); !r.OK() {
		t.Errorf("another partition: %+v", r)
	}
	m.Apply(anyPartition{}, LeaveGroup{At: 5, Group: "g", Member: "m"})
	if r := m.Apply(anyPartition{}, DeleteGroup{At: 6, Group: "g"}); r.Code != CodeOffsetHeld {
		t.Errorf("delete group: %+v", r)
	}
}

func TestHeldOffsetsAreSettledOnce(t *testing.T) {
	t.Parallel()
	for _, commit := range []bool{true, false} {
		m, by := heldMachine(t)
		if m.SettleHeld(9, TxnRef{7, 1, 5}, true) || m.HeldCount() != 2 {
			t.Fatal("another transaction settled them")
		}
		if !m.SettleHeld(9, by, commit) || m.SettleHeld(10, by, !commit) {
			t.Fatal("not settled once")
		}
		o := m.Offsets("g", []uint64{1, 2})
		if commit != (o[0].Offset.Next == 8) || commit != o[1].Committed || !commit && o[0].Offset.Next != 5 {
			t.Errorf("commit %v: %+v", commit, o)
		}
		if commit && (o[1].Offset.Txn != by || o[1].Offset.Metadata != "x" || o[1].Offset.CommittedAt != 9 || o[1].Offset.Member != "m") {
			t.Errorf("%+v", o[1])
		}
		if m.HeldCount() != 0 || len(m.Holders()) != 0 || !m.CheckHeld("g", nil).OK() || m.Snapshot()[0] != plain {
			t.Error("something is held still")
		}
		if err := m.Check(); err != nil {
			t.Error(err)
		}
	}
}

func TestHeldOffsetsSurviveASnapshot(t *testing.T) {
	t.Parallel()
	m, by := heldMachine(t)
	r := New()
	if err := r.Restore(m.Snapshot()); err != nil || !bytes.Equal(r.Snapshot(), m.Snapshot()) {
		t.Fatal(err)
	}
	for _, g := range []*Machine{m, r} {
		if d, _ := g.Describe("g"); d.Partitions[1].Held != by || d.Partitions[1].Committed {
			t.Fatalf("%+v", d.Partitions)
		}
		if !g.SettleHeld(20, by, true) {
			t.Fatal("nothing was held")
		}
	}
	if !bytes.Equal(r.Snapshot(), m.Snapshot()) {
		t.Fatal("a restored machine settles otherwise")
	}
}

func TestHeldOffsetsGoWithTheirPartitions(t *testing.T) {
	t.Parallel()
	m, by := heldMachine(t)
	m.Apply(anyPartition{}, RemovePartitions{At: 4, Partitions: []uint64{1}})
	if err := m.Check(); err != nil || m.HeldCount() != 1 {
		t.Fatal(err, m.HeldCount())
	}
	m.SettleHeld(5, by, true)
	if o := m.Offsets("g", []uint64{1, 2}); o[0].Committed || !o[1].Committed {
		t.Fatalf("%+v", o)
	}
}
