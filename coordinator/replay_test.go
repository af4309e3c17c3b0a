package coordinator

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/coordinator/group"
	"github.com/oncelog/oncelog/coordinator/txn"
	"github.com/oncelog/oncelog/raftstore"
)

// logOf makes entries of commands.
func logOf(commands [][]byte) (entries []raftstore.Entry) {
	for i, data := range commands {
		entries = append(entries, raftstore.Entry{Index: uint64(i + 1), Term: 1, Data: data})
	}
	return entries
}

// TestOfflineIsWhatAReplicaIs: the whole log leads to the state of a replica
// that was restored from a checkpoint on the way, every state on the way keeps the
// invariants, and answers are told.
func TestOfflineIsWhatAReplicaIs(t *testing.T) {
	t.Parallel()
	answers := map[string]int{}
	for seed := range uint64(5) {
		random := rand.New(rand.NewPCG(seed, 1))
		commands := opening()
		for i := range 300 {
			commands = append(commands, randomEntry(random, int64(1_000_000+1000*i)))
		}
		entries := logOf(commands)
		r := emptyReplica()
		for i, e := range entries {
			r.Apply(e, nil)
			if i%50 != 49 {
				continue
			}
			data, err := r.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckSnapshot(Rules(), data); err != nil {
				t.Fatalf("seed %d: after entry %d: %v", seed, e.Index, err)
			}
			if err := r.Restore(e.Index, data); err != nil {
				t.Fatal(err)
			}
		}
		want, err := r.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		offline := NewOffline(Rules(), func(core, answer string) { answers[core+" "+answer]++ })
		for _, e := range entries {
			if err := offline.Apply(e); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		got, err := offline.Snapshot()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("seed %d: another state, error %v", seed, err)
		}
	}
	for _, answer := range []string{
		"txn OK", "catalog OK", "group OK", "txn UNKNOWN_ID", "coordinator undecodable", "txn from free to open", "txn outcome ABORTED",
	} {
		if answers[answer] == 0 {
			t.Errorf("nobody was answered %q; answers: %v", answer, answers)
		}
	}
}

// everything is a catalogue in which every partition exists.
type everything struct{}

func (everything) HasPartition(uint64) bool        { return true }
func (everything) TopicPartitions(string) []uint64 { return nil }
func (anyShard) HasPartition(uint64, uint64) bool  { return true }
func (anyShard) HasShard(uint64) bool              { return true }

// anyShard is the same for the core of transactions.
type anyShard struct{}

// TestCheckSnapshotNamesWhatIsWrong: states that no log leads to.
func TestCheckSnapshotNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want  string
		spoil func(r *replica)
	}{
		{"", func(*replica) {}},
		{`group "g" has partition 99`, func(r *replica) {
			r.groups.Apply(everything{}, group.ResetOffsets{Group: "g", Entries: []group.Entry{{Partition: 99}}})
		}},
		{"markers are owed to shard 77", func(r *replica) {
			r.txns.EndTransaction(0, txn.EndTransaction{
				Ref: txn.Ref{ProducerID: 1, Number: 2}, Commit: true, Participants: []txn.Participant{{Shard: 77}},
			}, txn.Env{Catalog: anyShard{}})
		}},
		{"a marker covers partition 99", func(r *replica) {
			r.txns.EndTransaction(0, txn.EndTransaction{
				Ref: txn.Ref{ProducerID: 1, Number: 2}, Commit: true,
				Participants: []txn.Participant{{Shard: catalog.FirstShardID, Progress: []txn.Progress{{Partition: 99, NextSequence: 1}}}},
			}, txn.Env{Catalog: anyShard{}})
		}},
	} {
		r := emptyReplica()
		for _, e := range logOf(opening()) {
			r.Apply(e, nil)
		}
		c.spoil(r)
		data, err := r.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		err = CheckSnapshot(Rules(), data)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %q, got %v", c.want, err)
		}
	}
	if err := CheckSnapshot(Rules(), []byte{snapshotVersion}); err == nil {
		t.Error("half a snapshot passes")
	}
}

// TestOutcomesStand: a transaction that was committed is never said to be aborted.
func TestOutcomesStand(t *testing.T) {
	t.Parallel()
	o := NewOffline(Rules(), nil)
	for _, e := range logOf(opening()) {
		if err := o.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	ref := txn.Ref{ProducerID: 1, Number: 1}
	if o.decided[ref] != txn.StatusCommitted {
		t.Fatalf("the transaction is %v", o.decided[ref])
	}
	o.decided[ref] = txn.StatusAborted
	if err := o.compare(ref); err == nil || !strings.Contains(err.Error(), "is COMMITTED and was ABORTED") {
		t.Errorf("a change of mind is no error: %v", err)
	}
}

// TestPhasesFollowEachOther: what one command may do to a transaction.
func TestPhasesFollowEachOther(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, to txn.Phase
		may      bool
	}{
		{txn.PhaseOpen, txn.PhaseOpen, true},
		{txn.PhaseOpen, txn.PhaseCompleting, true},
		{txn.PhaseCompleting, txn.PhaseOver, true}, // completed and pushed out at once
		{txn.PhaseCompleting, txn.PhaseOpen, false},
		{txn.PhaseComplete, txn.PhaseCompleting, false},
		{txn.PhaseOver, txn.PhaseFree, false},
	} {
		if got := mayBecome(c.from, c.to); got != c.may {
			t.Errorf("from %v to %v: %v", c.from, c.to, got)
		}
	}
}
