package coordinator

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/oncelog/oncelog/api/codec"
	"github.com/oncelog/oncelog/api/level"
	"github.com/oncelog/oncelog/api/token"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/coordinator/group"
	"github.com/oncelog/oncelog/coordinator/membership"
	"github.com/oncelog/oncelog/coordinator/txn"
	"github.com/oncelog/oncelog/internal/golden"
	"github.com/oncelog/oncelog/raftstore"
)

func emptyReplica() *replica {
	return newReplica(Rules(), &token.Keyring{}, level.Newest, newNotifier(), newNotifier())
}

func applied(t testing.TB, r *replica, index uint64, data []byte) any {
	t.Helper()
	res, err := r.Apply(raftstore.Entry{Index: index, Data: data}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func entryOfTxn(at int64, cmd txn.Command) []byte {
	return txn.AppendCommand([]byte{entryTxn}, at, cmd)
}

func entryOfCatalog(cmd catalog.Command) []byte {
	return catalog.AppendCommand([]byte{entryCatalog}, cmd)
}

func entryOfGroup(cmd group.Command) []byte {
	return group.AppendCommand([]byte{entryGroup}, cmd)
}

func entryOfMember(cmd membership.Command) []byte {
	return membership.AppendCommand([]byte{entryMember}, cmd)
}

// opening is a log that gives a replica a cluster, nodes, topics, a producer
// and a group.
func opening() [][]byte {
	at := int64(1_000_000)
	log := [][]byte{entryOfMember(membership.Found{Members: []membership.Member{
		{ID: 1, ClientAddress: "c1", PeerAddress: "p1"}, {ID: 2, ClientAddress: "c2", PeerAddress: "p2"},
	}}), entryOfCatalog(catalog.InitCluster{At: at, ClusterID: "c", KeySecret: bytes.Repeat([]byte{7}, 32)})}
	for id := uint64(1); id <= 3; id++ {
		log = append(log, entryOfCatalog(catalog.RegisterNode{
			At: at, ID: id, ClientAddress: "c", PeerAddress: "p", Instance: fmt.Sprint(id),
		}))
	}
	return append(log,
		entryOfCatalog(catalog.CreateTopic{At: at, Name: "a", Partitions: 3}),
		entryOfCatalog(catalog.CreateTopic{At: at, Name: "b", Partitions: 2}),
		entryOfTxn(at, txn.InitProducer{TransactionalID: "x", RequestID: txn.RequestID{1}}),
		entryOfGroup(group.AssignPartitions{At: at, Group: "g", Member: "m", Partitions: []uint64{1, 2}}),
		entryOfTxn(at, txn.EndTransaction{
			Ref: txn.Ref{ProducerID: 1, Number: 1}, Commit: true,
			Participants:   []txn.Participant{{Shard: 2, Progress: []txn.Progress{{Partition: 1, NextSequence: 4}}}},
			OffsetsPayload: group.AppendCommits(nil, []group.Commit{{Group: "g", Member: "m", Generation: 1, Entries: []group.Entry{{Partition: 2, Offset: 8}}}}),
		}))
}

// randomEntry is a command about the few things that a replica of this test
// has, or bytes that are none.
func randomEntry(r *rand.Rand, at int64) []byte {
	pid := func() uint64 { return uint64(1 + r.IntN(4)) }
	ref := func() txn.Ref {
		return txn.Ref{ProducerID: pid(), Epoch: uint32(r.IntN(3)), Number: uint64(1 + r.IntN(6))}
	}
	id := func() string { return string(rune('w' + r.IntN(4))) }
	shard := func() uint64 { return uint64(1 + r.IntN(5)) }
	part := func() uint64 { return uint64(1 + r.IntN(9)) }
	topic := func() string { return string(rune('a' + r.IntN(4))) }
	switch r.IntN(15) {
	case 0:
		return entryOfTxn(at, txn.InitProducer{TransactionalID: id(), RequestID: txn.RequestID{byte(1 + r.IntN(200))}, KeepPrepared: r.IntN(2) == 0})
	case 1, 2:
		return entryOfTxn(at, txn.Enlist{Items: []txn.EnlistItem{{Ref: ref(), Shard: shard(), Partitions: []uint64{part()}}}})
	case 3, 4, 5:
		end := txn.EndTransaction{Ref: ref(), Commit: r.IntN(3) > 0, Participants: []txn.Participant{{Shard: shard()}}}
		if end.Commit {
			end.Participants[0].Progress = []txn.Progress{{Partition: part(), NextSequence: 3}}
			end.OffsetsPayload = group.AppendCommits(nil, []group.Commit{{Group: "g", Entries: []group.Entry{{Partition: part(), Offset: uint64(r.IntN(9))}}}})
		}
		if r.IntN(9) == 0 {
			end.OffsetsPayload = []byte("no commits")
		}
		switch r.IntN(8) {
		case 0, 1:
			return entryOfTxn(at, txn.PrepareTransaction{Ref: end.Ref, Participants: end.Participants, OffsetsPayload: end.OffsetsPayload})
		case 2, 3:
			return entryOfTxn(at, txn.CompletePrepared{Ref: end.Ref, Commit: end.Commit})
		case 4:
			return entryOfTxn(at, txn.AbortTransaction{Ref: end.Ref, Force: end.Commit})
		}
		return entryOfTxn(at, end)
	case 6, 7:
		return entryOfTxn(at, txn.MarkersApplied{Items: []txn.MarkerAck{{Ref: ref(), Shard: shard(), Answer: txn.MarkerAnswer(1 + r.IntN(5))}}})
	case 8:
		return entryOfTxn(at, txn.Expire{Refs: []txn.Ref{ref()}})
	case 9:
		return entryOfTxn(at, txn.DeleteID{TransactionalID: id()})
	case 10:
		return entryOfCatalog(catalog.CreateTopic{At: at, Name: topic(), Partitions: uint32(1 + r.IntN(3))})
	case 11:
		return entryOfCatalog(catalog.DeleteTopic{At: at, Name: topic()})
	case 12:
		if r.IntN(2) == 0 {
			return entryOfCatalog(catalog.DrainShard{At: at, ID: shard()})
		}
		return entryOfCatalog(catalog.RemoveShard{At: at, ID: shard()})
	case 13:
		return entryOfMember([]membership.Command{
			membership.Add{ID: shard(), ClientAddress: topic(), PeerAddress: topic(), Replaces: shard() - 1},
			membership.Announce{ID: shard(), Instance: id(), ClientAddress: "c", PeerAddress: topic(), Joining: r.IntN(2) == 0},
			membership.Settle{ID: shard()}, membership.Remove{ID: shard()}, membership.Forget{ID: shard()},
		}[r.IntN(5)])
	default:
		// Nonsense of a version that everybody knows.
		b := []byte{byte(1 + r.IntN(4)), 1, byte(1 + r.IntN(7))}
		for range r.IntN(12) {
			b = append(b, byte(r.IntN(4)))
		}
		return b
	}
}

// TestReplicasAgree: full replay, replay from a snapshot in the middle, and a
// replica that restarted after every entry end with the same bytes, and give
// the same results on the way.
func TestReplicasAgree(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			full, late, restarted := emptyReplica(), emptyReplica(), emptyReplica()
			log := opening()
			for i := range 250 {
				log = append(log, randomEntry(r, 1_000_000+int64(i*r.IntN(2_000))))
			}
			half := r.IntN(len(log))
			for i, data := range log {
				want := resultText(applied(t, full, uint64(i+1), data))
				if err := checkReplica(full); err != nil {
					t.Fatalf("after entry %d %x: %v", i, data, err)
				}
				if got := resultText(applied(t, restarted, uint64(i+1), data)); got != want {
					t.Fatalf("entry %d: %s, after a restart %s", i, want, got)
				}
				next := emptyReplica()
				if err := next.Restore(uint64(i+1), snapshotOf(t, restarted)); err != nil {
					t.Fatal(err)
				}
				restarted = next
				if i == half {
					if err := late.Restore(uint64(i+1), snapshotOf(t, full)); err != nil {
						t.Fatal(err)
					}
				} else if i > half {
					applied(t, late, uint64(i+1), data)
				}
			}
			want := snapshotOf(t, full)
			if !bytes.Equal(snapshotOf(t, late), want) || !bytes.Equal(snapshotOf(t, restarted), want) {
				t.Fatal("replicas differ")
			}
			if !full.keys.Check(late.keys.Sign(1, 0), 1, 0) {
				t.Fatal("a restored replica signs with another key")
			}
		})
	}
}

func resultText(result any) string {
	if u, ok := result.(undecodable); ok {
		return u.err.Error()
	}
	return fmt.Sprintf("%+v", result)
}

func snapshotOf(t testing.TB, r *replica) []byte {
	t.Helper()
	b, err := r.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What a prepared transaction promised about offsets is kept, or let go of, in the step
// that decides it, whoever does.
func TestPreparedOffsetsAreDecidedWithTheirTransaction(t *testing.T) {
	t.Parallel()
	ref := txn.Ref{ProducerID: 1, Number: 2}
	prepare := txn.PrepareTransaction{
		Ref: ref, Participants: []txn.Participant{{Shard: 2, Progress: []txn.Progress{{Partition: 1, NextSequence: 4}}}},
		OffsetsPayload: group.AppendCommits(nil, []group.Commit{{Group: "g", Member: "m", Generation: 1, Entries: []group.Entry{
			{Partition: 2, Offset: 11, Expected: 8, HasExpected: true},
		}}}),
	}
	for name, test := range map[string]struct {
		cmd  txn.Command
		next uint64
		held int
	}{
		"commit":          {txn.CompletePrepared{Ref: ref, Commit: true}, 11, 0},
		"abort":           {txn.CompletePrepared{Ref: ref}, 8, 0},
		"force":           {txn.AbortTransaction{Ref: ref, Force: true}, 8, 0},
		"operator":        {txn.AbortTransaction{Ref: ref}, 8, 1},
		"another":         {txn.CompletePrepared{Ref: txn.Ref{ProducerID: 1, Number: 3}, Commit: true}, 8, 1},
		"EndTransaction":  {txn.EndTransaction{Ref: ref, Commit: true}, 8, 1},
		"timeout":         {txn.Expire{Refs: []txn.Ref{ref}}, 8, 1},
		"takeover":        {txn.InitProducer{TransactionalID: "x", RequestID: txn.RequestID{2}}, 8, 1},
		"keeping it":      {txn.InitProducer{TransactionalID: "x", RequestID: txn.RequestID{2}, KeepPrepared: true}, 8, 1},
		"fence":           {txn.FenceProducer{TransactionalID: "x"}, 8, 1},
		"deletion":        {txn.DeleteID{TransactionalID: "x"}, 8, 1},
		"an id that rots": {txn.ExpireIDs{ProducerIDs: []uint64{1}}, 8, 1},
	} {
		r := emptyReplica()
		for _, data := range opening() {
			applied(t, r, 0, data)
		}
		res := applied(t, r, 0, entryOfTxn(1_000_001, prepare))
		if end, ok := res.(endResult); !ok || end.Code != txn.CodeOK || end.Outcome != txn.Undecided {
			t.Fatalf("prepare: %+v", res)
		}
		if o := r.groups.Offsets("g", []uint64{2}); o[0].Offset.Next != 8 || r.groups.HeldCount() != 1 {
			t.Fatalf("prepared: %+v, %d held", o, r.groups.HeldCount())
		}
		applied(t, r, 0, entryOfTxn(1<<41, test.cmd))
		if o := r.groups.Offsets("g", []uint64{2}); o[0].Offset.Next != test.next || r.groups.HeldCount() != test.held {
			t.Errorf("%s: at %d, %d held; want %d, %d", name, o[0].Offset.Next, r.groups.HeldCount(), test.next, test.held)
		}
		if prepared := r.txns.Phase(ref) == txn.PhasePrepared; prepared != (test.held > 0) {
			t.Errorf("%s: phase %v", name, r.txns.Phase(ref))
		}
		if err := checkReplica(r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOneCommandDecidesAndMovesOffsets(t *testing.T) {
	t.Parallel()
	r := emptyReplica()
	for _, data := range opening() {
		applied(t, r, 0, data)
	}
	if o := r.groups.Offsets("g", []uint64{2}); !o[0].Committed || o[0].Offset.Next != 8 || o[0].Offset.Txn.Number != 1 {
		t.Fatalf("offset %+v", o)
	}
	if n := r.txns.OwedCount(2); n != 1 {
		t.Fatalf("%d markers owed", n)
	}
	// A topic that goes takes along what waits for it and what was read of it.
	applied(t, r, 0, entryOfCatalog(catalog.DeleteTopic{At: 2_000_000, Name: "a"}))
	if o := r.groups.Offsets("g", []uint64{2}); o[0].Committed {
		t.Fatalf("offset %+v", o)
	}
	for m := range r.txns.Owed(2) {
		if len(m.Progress) != 0 {
			t.Fatalf("marker %+v", m)
		}
	}
	// A shard that goes completes what waits for it.
	for _, cmd := range []catalog.Command{
		catalog.DeleteTopic{Name: "b"}, catalog.DrainShard{ID: 2}, catalog.RemoveShard{ID: 2},
	} {
		res := applied(t, r, 0, entryOfCatalog(cmd))
		if c, ok := res.(catalog.Result); !ok || c.Code != catalog.CodeOK {
			t.Fatalf("%+v: %+v", cmd, res)
		}
	}
	if got := r.txns.Phase(txn.Ref{ProducerID: 1, Number: 1}); got != txn.PhaseComplete {
		t.Fatalf("phase %v", got)
	}
	if err := checkReplica(r); err != nil {
		t.Fatal(err)
	}
}

func TestEntriesThatCannotBeReadAreSkippedAlike(t *testing.T) {
	t.Parallel()
	for name, data := range map[string][]byte{
		"nothing":        {},
		"cut":            entryOfTxn(5, txn.Expire{Refs: []txn.Ref{{ProducerID: 1}}})[:5],
		"trailing":       append(entryOfTxn(5, txn.Expire{}), 0),
		"catalogue":      {entryCatalog, 1, 8, 2, 200},
		"group":          {entryGroup, 1, 4, 2, 200},
		"membership":     {entryMember, 1, 2, 200},
		"unknown answer": entryOfTxn(5, txn.MarkersApplied{Items: []txn.MarkerAck{{}}}),
	} {
		a, b := emptyReplica(), emptyReplica()
		for _, entry := range opening() {
			applied(t, a, 0, entry)
		}
		if err := b.Restore(1, snapshotOf(t, a)); err != nil {
			t.Fatal(err)
		}
		before := snapshotOf(t, a)
		for _, r := range []*replica{a, b} {
			if res, ok := applied(t, r, 0, data).(undecodable); !ok || res.err == nil {
				t.Errorf("%s: %+v", name, res)
			}
			if !bytes.Equal(snapshotOf(t, r), before) {
				t.Errorf("%s: changed the state", name)
			}
		}
	}
}

// TestNewerEntriesStopAReplica: it must not go on without what others apply.
// Covers SM-07, TL-04 of CONFORMANCE.md.
func TestNewerEntriesStopAReplica(t *testing.T) {
	t.Parallel()
	for want, data := range map[string][]byte{
		"coordinator entry: kind 9 of version 1 is unknown":                        {9, 1, 2, 3},
		"transaction command: version 99 is unknown, this program reads version 1": {entryTxn, 99, 1},
		"transaction command: kind 200 of version 1 is unknown":                    {entryTxn, 1, 200, 0},
		"catalogue command: kind 200 of version 1 is unknown":                      {entryCatalog, 1, 200, 0},
		"group command: version 2 is unknown, this program reads version 1":        {entryGroup, 2, 1},
		"membership command: version 2 is unknown, this program reads version 1":   {entryMember, 2, 1},
	} {
		r := emptyReplica()
		before := snapshotOf(t, r)
		_, err := r.Apply(raftstore.Entry{Index: 7, Term: 3, Data: data}, nil)
		if !errors.Is(err, codec.ErrVersion) || !strings.HasPrefix(fmt.Sprint(err), want) || !strings.Contains(fmt.Sprint(err), "start this node with the program that the other coordinators run") {
			t.Errorf("%x: %v", data, err)
		}
		if !bytes.Equal(snapshotOf(t, r), before) {
			t.Errorf("%x changed the state", data)
		}
	}
}

// TestLevelAboveThePrograms: a node that reads up to level 1 goes no further than the
// entry that raises the level to 2, and does not start from a checkpoint behind it.
func TestLevelAboveThePrograms(t *testing.T) {
	t.Parallel()
	raise := membership.AppendCommand([]byte{entryMember}, membership.Raise{Level: 2})
	found := membership.AppendCommand([]byte{entryMember}, membership.Found{Members: []membership.Member{{ID: 1}}})
	newer, older := emptyReplica(), emptyReplica()
	older.maxLevel = 1
	for _, r := range []*replica{newer, older} {
		applied(t, r, 1, found)
	}
	before := snapshotOf(t, older)
	const want = "the cluster writes formats of level 2, and this program reads up to level 1"
	if _, err := older.Apply(raftstore.Entry{Index: 2, Data: raise}, nil); !errors.Is(err, codec.ErrVersion) || !strings.Contains(err.Error(), want) {
		t.Errorf("the entry: %v", err)
	}
	if !bytes.Equal(snapshotOf(t, older), before) {
		t.Error("the entry changed the state")
	}
	applied(t, newer, 2, raise)
	if err := older.Restore(2, snapshotOf(t, newer)); !errors.Is(err, codec.ErrVersion) || !strings.Contains(err.Error(), want) {
		t.Errorf("the checkpoint: %v", err)
	}
	if !bytes.Equal(snapshotOf(t, older), before) {
		t.Error("the checkpoint changed the state")
	}
	if err := emptyReplica().Restore(2, snapshotOf(t, newer)); err != nil {
		t.Errorf("a newer program: %v", err)
	}
}

// TestSnapshotFormat: checkpoints of older versions are read.
func TestSnapshotFormat(t *testing.T) {
	t.Parallel()
	r := emptyReplica()
	var entries []golden.Sample
	for _, entry := range opening() {
		applied(t, r, 0, entry)
		entries = append(entries, golden.Sample{Name: fmt.Sprintf("core-%d", entry[0]), Bytes: entry[:2]})
	}
	slices.SortFunc(entries, func(a, b golden.Sample) int { return strings.Compare(a.Name, b.Name) })
	golden.Check(t, "coordinator-entry", entryVersion, slices.CompactFunc(entries, func(a, b golden.Sample) bool { return a.Name == b.Name }))
	golden.Check(t, "coordinator-snapshot", snapshotVersion, []golden.Sample{{Name: "everything", Bytes: snapshotOf(t, r)}})
	old, again := golden.Read(t, "coordinator-snapshot", 1)[0].Bytes, emptyReplica()
	if err := again.Restore(1, old); err != nil || !bytes.Equal(snapshotOf(t, again), old) {
		t.Errorf("version 1 is not read: %v", err)
	}
}

func TestRestoreRefusesWhatIsNoSnapshot(t *testing.T) {
	t.Parallel()
	good := emptyReplica()
	for _, entry := range opening() {
		applied(t, good, 0, entry)
	}
	b := snapshotOf(t, good)
	r := emptyReplica()
	before := snapshotOf(t, r)
	for name, data := range map[string][]byte{
		"another version": append([]byte{2}, b[1:]...),
		"three parts":     {snapshotVersion, 0, 0, 0},
		"cut":             b[:len(b)/2],
		"trailing":        append(bytes.Clone(b), 0),
		"empty parts":     {snapshotVersion, 0, 0, 0, 0},
	} {
		if err := r.Restore(1, data); err == nil {
			t.Errorf("%s: restored", name)
		}
		if !bytes.Equal(snapshotOf(t, r), before) {
			t.Errorf("%s: changed the state", name)
		}
	}
	if err := r.Restore(1, b); err != nil || !bytes.Equal(snapshotOf(t, r), b) {
		t.Fatalf("the good one: %v", err)
	}
	if err := r.Restore(0, nil); err != nil || !bytes.Equal(snapshotOf(t, r), before) {
		t.Fatalf("the initial state: %v", err)
	}
}

// FuzzApply: whatever is in the log, a replica does not panic, its invariants
// hold, and its snapshot restores to the same bytes.
func FuzzApply(f *testing.F) {
	for _, entry := range opening() {
		f.Add(entry, entry)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		f.Add(randomEntry(r, 2_000_000), randomEntry(r, 3_000_000))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		r := emptyReplica()
		for _, entry := range append(opening(), first, second, first) {
			_, _ = r.Apply(raftstore.Entry{Data: entry}, nil) // refused or not
			if err := checkReplica(r); err != nil {
				t.Fatal(err)
			}
		}
		b := snapshotOf(t, r)
		restored := emptyReplica()
		if err := restored.Restore(1, b); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(snapshotOf(t, restored), b) {
			t.Fatal("the snapshot of the restored state is another one")
		}
	})
}

// FuzzRestore: a replica takes a snapshot that it could have written, and writes
// the same one again, or it refuses and stays as it was.
func FuzzRestore(f *testing.F) {
	r := emptyReplica()
	for _, entry := range opening() {
		applied(f, r, 0, entry)
	}
	whole := snapshotOf(f, r)
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(append(bytes.Clone(whole), 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := emptyReplica()
		before := snapshotOf(t, r)
		if err := r.Restore(1, data); err != nil {
			if !bytes.Equal(snapshotOf(t, r), before) {
				t.Error("a refused snapshot changed the state")
			}
			return
		}
		if err := checkReplica(r); err != nil {
			t.Error(err)
		}
		if len(data) > 0 && !bytes.Equal(snapshotOf(t, r), data) {
			t.Error("the snapshot of the restored state is another one")
		}
	})
}
