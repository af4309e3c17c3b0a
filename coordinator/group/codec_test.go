package group

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/oncelog/oncelog/api/codec"
	"github.com/oncelog/oncelog/internal/golden"
)

func sampleCommit() Commit {
	return Commit{Group: "g", Member: "m", Generation: 3, Entries: []Entry{
		{Partition: 300, Offset: 7, Metadata: "meta"},
		{Partition: 1, Offset: 9, Expected: 8, HasExpected: true},
	}}
}

// everyCommand is one of each kind, with every field set.
func everyCommand() []Command {
	return []Command{
		AssignPartitions{At: 5, Group: "g", Member: "m", ClientID: "c", Host: "h", Partitions: []uint64{2, 300}},
		LeaveGroup{At: 5, Group: "g", Member: "m"},
		CommitOffsets{At: 5, Commit: sampleCommit()},
		DeleteGroup{At: -1, Group: "g"},
		DeleteOffsets{At: 5, Group: "g", Partitions: []uint64{1}, Force: true},
		ResetOffsets{At: 5, Group: "g", Entries: []Entry{{Partition: 1, Offset: 2}}},
		RemovePartitions{At: 5, Partitions: []uint64{1, 2}},
		Subscribe{
			At: 5, Group: "g", Member: "m", Instance: "i", ClientID: "c", Host: "h", Topics: []string{"t", "u"},
			SessionTimeout: 500, RebalanceTimeout: 1000, Assignor: AssignorRange,
		},
		ReleasePartitions{At: 5, Group: "g", Member: "m", Generation: 7, Partitions: []uint64{300}},
		ExpireMembers{At: 5, Members: []LostMember{{Group: "g", Member: "m", Joined: 3}}},
		TopicsChanged{At: 5, Topics: []string{"t"}},
	}
}

func TestCommandGolden(t *testing.T) {
	t.Parallel()
	var samples []golden.Sample
	for _, cmd := range everyCommand() {
		name := strings.TrimPrefix(reflect.TypeOf(cmd).String(), "group.")
		samples = append(samples, golden.Sample{Name: name, Bytes: AppendCommand(nil, cmd)})
	}
	golden.Check(t, "group-command", commandVersion, samples)
	for i, s := range golden.Read(t, "group-command", 1) {
		b, want := s.Bytes, everyCommand()[i]
		got, err := DecodeCommand(b)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s of version 1 is decoded as %+v, %v", s.Name, got, err)
		}
		for n := range b {
			if _, err := DecodeCommand(b[:n]); err == nil {
				t.Errorf("%s cut to %d bytes is decoded", s.Name, n)
			}
		}
		if _, err := DecodeCommand(append(b, 0)); !errors.Is(err, codec.ErrTrailing) {
			t.Errorf("%s with a byte too many: %v", s.Name, err)
		}
	}
}

func TestCommitsGolden(t *testing.T) {
	t.Parallel()
	commits := []Commit{sampleCommit(), {Group: "h"}}
	golden.Check(t, "group-commits", commitsVersion, []golden.Sample{{Name: "two", Bytes: AppendCommits(nil, commits)}})
	old := golden.Read(t, "group-commits", 1)[0].Bytes
	if got, err := DecodeCommits(old); err != nil || !reflect.DeepEqual(got, commits) {
		t.Errorf("version 1 is decoded as %+v, %v", got, err)
	}
}

func TestDecodeErrors(t *testing.T) {
	t.Parallel()
	if _, err := DecodeCommand([]byte{2, 1, 0}); !errors.Is(err, ErrVersion) {
		t.Errorf("version: %v", err)
	}
	if _, err := DecodeCommand([]byte{1, 99, 0}); !errors.Is(err, ErrVersion) {
		t.Errorf("kind: %v", err)
	}
	if _, err := DecodeCommand(make([]byte, MaxCommandBytes+1)); !errors.Is(err, codec.ErrTooLong) {
		t.Errorf("length: %v", err)
	}
	if _, err := DecodeCommits([]byte{2, 0}); !errors.Is(err, ErrVersion) {
		t.Errorf("version of commits: %v", err)
	}
	if _, err := DecodeCommits(make([]byte, MaxCommandBytes+1)); !errors.Is(err, codec.ErrTooLong) {
		t.Errorf("length of commits: %v", err)
	}
	if err := New().Restore([]byte{9}); !errors.Is(err, ErrVersion) {
		t.Errorf("version of a snapshot: %v", err)
	}
	if got := AppendCommand([]byte("kept"), nil); string(got) != "kept" {
		t.Errorf("nil command appends %q", got)
	}
}

// TestOversizedCommandReachesApply: what is too long is refused by the
// machine, never by the decoder of the log.
func TestOversizedCommandReachesApply(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100_000)
	cmd, err := DecodeCommand(AppendCommand(nil, LeaveGroup{Group: long, Member: long}))
	if err != nil {
		t.Fatal(err)
	}
	refused(t, New(), cmd, CodeUnknownGroup)
}

func populated(t testing.TB) *Machine {
	m := New()
	for _, cmd := range []Command{
		AssignPartitions{At: 10, Group: "g", Member: "b", ClientID: "c", Host: "h", Partitions: []uint64{4, 2}},
		AssignPartitions{At: 11, Group: "g", Member: "a", Partitions: []uint64{1, 2}},
		CommitOffsets{At: 12, Commit: Commit{Group: "g", Member: "a", Generation: 2, Entries: []Entry{{Partition: 1, Offset: 5, Metadata: "x"}}}},
		ResetOffsets{At: 13, Group: "f", Entries: []Entry{{Partition: 9, Offset: 1}}},
		DeleteGroup{At: 14, Group: "f"},
		ResetOffsets{At: 13, Group: "e", Entries: []Entry{{Partition: 9, Offset: 1}}},
		join("s", "x", "t0"),
		join("s", "y", "t0"),
	} {
		if r := m.Apply(cat, cmd); !r.OK() {
			t.Fatal(r)
		}
	}
	m.ApplyCommits(20, TxnRef{5, 6, 7}, []Commit{{Group: "g", Member: "b", Entries: []Entry{{Partition: 4, Offset: 3}}}})
	return m
}

func TestSnapshotGolden(t *testing.T) {
	t.Parallel()
	m := populated(t)
	held := populated(t)
	held.HoldCommits(21, TxnRef{5, 6, 8}, []Commit{{Group: "g", Member: "b", Entries: []Entry{{Partition: 4, Offset: 9, Metadata: "x"}}}})
	golden.Check(t, "group-snapshot", snapshotVersion, []golden.Sample{{Name: "everything", Bytes: held.Snapshot()}})
	b := golden.Read(t, "group-snapshot", 1)[0].Bytes
	r := New()
	if err := r.Restore(b); err != nil {
		t.Fatal(err)
	}
	check(t, r)
	if !slices.Equal(r.Snapshot(), b) {
		t.Error("the restored state has another snapshot")
	}
	da, _ := m.Describe("g")
	db, _ := r.Describe("g")
	if !reflect.DeepEqual(da, db) {
		t.Errorf("restored %+v, was %+v", db, da)
	}
}

func TestRestoreRefusesDamage(t *testing.T) {
	t.Parallel()
	b := populated(t).Snapshot()
	for n := range b {
		m := populated(t)
		if err := m.Restore(b[:n]); err == nil {
			t.Fatalf("a snapshot cut to %d bytes is restored", n)
		}
		if !slices.Equal(m.Snapshot(), b) {
			t.Fatalf("a failed restore of %d bytes changed the state", n)
		}
	}
}

func FuzzDecodeCommand(f *testing.F) {
	for _, cmd := range everyCommand() {
		f.Add(AppendCommand(nil, cmd))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		cmd, err := DecodeCommand(b)
		if err != nil {
			return
		}
		again, err := DecodeCommand(AppendCommand(nil, cmd))
		if err != nil || !reflect.DeepEqual(again, cmd) {
			t.Fatalf("%+v, then %+v, %v", cmd, again, err)
		}
		m := populated(t)
		m.Apply(cat, cmd)
		if err := m.Check(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzDecodeCommits(f *testing.F) {
	f.Add(AppendCommits(nil, []Commit{sampleCommit(), {Group: "h"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		commits, err := DecodeCommits(b)
		if err != nil {
			return
		}
		again, err := DecodeCommits(AppendCommits(nil, commits))
		if err != nil || !reflect.DeepEqual(again, commits) {
			t.Fatalf("%+v, then %+v, %v", commits, again, err)
		}
		m := populated(t)
		if m.CheckCommits(cat, TxnRef{1, 1, 1}, commits).OK() {
			m.ApplyCommits(1, TxnRef{1, 1, 1}, commits)
		}
		if err := m.Check(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzRestore(f *testing.F) {
	f.Add(populated(f).Snapshot())
	f.Fuzz(func(t *testing.T, b []byte) {
		m := New()
		if m.Restore(b) != nil {
			return
		}
		again := New()
		if err := again.Restore(m.Snapshot()); err != nil || !slices.Equal(again.Snapshot(), m.Snapshot()) {
			t.Fatalf("restored twice: %v", err)
		}
	})
}
