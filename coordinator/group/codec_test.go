package group

import (
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/oncelog/oncelog/api/codec"
)

func sampleCommit() Commit {
	return Commit{Group: "g", Member: "m", Generation: 3, Entries: []Entry{
		{Partition: 300, Offset: 7, Metadata: "meta"},
		{Partition: 1, Offset: 9, Expected: 8, HasExpected: true},
	}}
}

// golden holds logged commands readable for ever: never change a line.
func golden() []struct {
	cmd Command
	hex string
} {
	return []struct {
		cmd Command
		hex string
	}{
		{AssignPartitions{At: 5, Group: "g", Member: "m", ClientID: "c", Host: "h", Partitions: []uint64{2, 300}}, "01010a0167016d016301680202ac02"},
		{LeaveGroup{At: 5, Group: "g", Member: "m"}, "01020a0167016d"},
		{CommitOffsets{At: 5, Commit: sampleCommit()}, "01030a0167016d0302ac02070000046d6574610109010800"},
		{DeleteGroup{At: -1, Group: "g"}, "0104010167"},
		{DeleteOffsets{At: 5, Group: "g", Partitions: []uint64{1}, Force: true}, "01050a0167010101"},
		{ResetOffsets{At: 5, Group: "g", Entries: []Entry{{Partition: 1, Offset: 2}}}, "01060a016701010200000000"},
		{RemovePartitions{At: 5, Partitions: []uint64{1, 2}}, "01070a020102"},
		{Subscribe{
			At: 5, Group: "g", Member: "m", Instance: "i", ClientID: "c", Host: "h", Topics: []string{"t", "u"},
			SessionTimeout: 500, RebalanceTimeout: 1000, Assignor: AssignorRange,
		}, "01080a0167016d0169016301680201740175e807d00f02"},
		{ReleasePartitions{At: 5, Group: "g", Member: "m", Generation: 7, Partitions: []uint64{300}}, "01090a0167016d0701ac02"},
		{ExpireMembers{At: 5, Members: []LostMember{{Group: "g", Member: "m", Joined: 3}}}, "010a0a010167016d03"},
		{TopicsChanged{At: 5, Topics: []string{"t"}}, "010b0a010174"},
	}
}

func TestCommandGolden(t *testing.T) {
	t.Parallel()
	for _, g := range golden() {
		if got := hex.EncodeToString(AppendCommand(nil, g.cmd)); got != g.hex {
			t.Errorf("%T is encoded as %s, golden %s", g.cmd, got, g.hex)
		}
		b, _ := hex.DecodeString(g.hex)
		got, err := DecodeCommand(b)
		if err != nil || !reflect.DeepEqual(got, g.cmd) {
			t.Errorf("golden %T is decoded as %+v, %v", g.cmd, got, err)
		}
		for n := range b {
			if _, err := DecodeCommand(b[:n]); err == nil {
				t.Errorf("%T cut to %d bytes is decoded", g.cmd, n)
			}
		}
		if _, err := DecodeCommand(append(b, 0)); !errors.Is(err, codec.ErrTrailing) {
			t.Errorf("%T with a byte too many: %v", g.cmd, err)
		}
	}
}

func TestCommitsGolden(t *testing.T) {
	t.Parallel()
	const want = "01020167016d0302ac02070000046d65746101090108000168000000"
	commits := []Commit{sampleCommit(), {Group: "h"}}
	if got := hex.EncodeToString(AppendCommits(nil, commits)); got != want {
		t.Errorf("encoded as %s, golden %s", got, want)
	}
	b, _ := hex.DecodeString(want)
	if got, err := DecodeCommits(b); err != nil || !reflect.DeepEqual(got, commits) {
		t.Errorf("golden is decoded as %+v, %v", got, err)
	}
}

func TestDecodeErrors(t *testing.T) {
	t.Parallel()
	if _, err := DecodeCommand([]byte{2, 1, 0}); !errors.Is(err, ErrVersion) {
		t.Errorf("version: %v", err)
	}
	if _, err := DecodeCommand([]byte{1, 99, 0}); !errors.Is(err, ErrCorrupt) {
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
	const want = "012800030165000000010901001c000000000167020201610000160201020202000162016301681401040100000201050178180161000000040300280162050607017302020178016301681c0a0101020103010401050106010701080109010a01010102000001027430d00fa01f010179016301681c00010200000001027430d00fa01f010a0101780201780301780401780501780601790701790801790901790a017900"
	m := populated(t)
	if got := hex.EncodeToString(m.Snapshot()); got != want {
		t.Errorf("snapshot is %s, golden %s", got, want)
	}
	b, _ := hex.DecodeString(want)
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
	for _, g := range golden() {
		f.Add(AppendCommand(nil, g.cmd))
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
