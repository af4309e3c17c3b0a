package partition

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
)

// rowMap is rows in memory.
type rowMap map[string]string

func (r rowMap) Set(k, v []byte) { r[string(k)] = string(v) }
func (r rowMap) Delete(k []byte) { delete(r, string(k)) }
func (r rowMap) DeleteRange(lo, hi []byte) {
	maps.DeleteFunc(r, func(k, _ string) bool { return k >= string(lo) && k < string(hi) })
}

// shardLog is a log with appends, decisions, a repetition and a partition that
// goes.
func shardLog(t *testing.T) (entries []raftstore.Entry) {
	t.Helper()
	add := func(data []byte, err error) {
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, raftstore.Entry{Index: uint64(len(entries) + 1), Term: 1, Data: data})
	}
	info := func(id uint64) pstate.PartitionInfo { return pstate.PartitionInfo{ID: id, TopicID: id, Topic: "t"} }
	add(pstate.EncodeSyncPartitions(nil, pstate.SyncPartitions{At: 1, Version: 1, Add: []pstate.PartitionInfo{info(4), info(5)}}))
	write := func(at int64, number, partition uint64) {
		a := pstate.Append{At: at, Ref: pstate.TxnRef{ProducerID: 7, Number: number}, Batches: []pstate.Batch{{Partition: partition, Count: 2, Size: 3}}}
		add(pstate.EncodeAppends(nil, []pstate.Append{a}, [][]byte{[]byte("abc")}))
	}
	mark := func(at int64, number uint64, o pstate.Outcome) {
		add(pstate.EncodeMarkers(nil, pstate.Markers{At: at, List: []pstate.Marker{{
			Ref:      pstate.TxnRef{ProducerID: 7, Number: number},
			Decision: pstate.Decision{Outcome: o, Progress: []pstate.Progress{{Partition: 4, Next: 2}}},
		}}}))
	}
	write(10, 1, 4)
	write(11, 1, 4)
	write(12, 1, 5)
	mark(20, 1, pstate.OutcomeCommit)
	write(30, 2, 4)
	mark(40, 2, pstate.OutcomeAbort)
	mark(41, 2, pstate.OutcomeAbort)
	add(pstate.EncodeSyncPartitions(nil, pstate.SyncPartitions{At: 50, Version: 2, From: 1, Remove: []uint64{5}}))
	return entries
}

// TestOfflineIsWhatAReplicaIs: the whole log leads to the state and the rows of
// a replica that was restored after every entry, and answers are told.
func TestOfflineIsWhatAReplicaIs(t *testing.T) {
	t.Parallel()
	entries, rows := shardLog(t), rowMap{}
	m := newMachine(pstate.Config{}, newWaiters())
	var data []byte
	for _, e := range entries {
		m.Apply(e, rows)
		var err error
		if data, err = m.Snapshot(); err != nil {
			t.Fatal(err)
		}
		if err := CheckSnapshot(data); err != nil {
			t.Fatalf("after entry %d: %v", e.Index, err)
		}
		m = newMachine(pstate.Config{}, newWaiters())
		if err := m.Restore(e.Index, data); err != nil {
			t.Fatal(err)
		}
	}
	var answers []string
	again := rowMap{}
	offline := NewOffline(pstate.Config{}, again, func(answer string) { answers = append(answers, answer) })
	for _, e := range entries {
		if err := offline.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	got, err := offline.Snapshot()
	if err != nil || !bytes.Equal(got, data) || !maps.Equal(again, rows) {
		t.Errorf("another state or other rows, error %v", err)
	}
	want := []string{
		"partitions APPLIED", "append APPENDED", "append DUPLICATE", "append APPENDED", "decision APPLIED",
		"append APPENDED", "decision APPLIED", "decision ALREADY", "partitions APPLIED",
	}
	if !slices.Equal(answers, want) {
		t.Errorf("answers %q", answers)
	}
	if err := offline.Apply(raftstore.Entry{Index: 99, Data: []byte("x")}); err == nil {
		t.Error("nonsense was carried out")
	}
}

// TestCheckSnapshotRefusesDamage: of a snapshot nothing can be missing.
func TestCheckSnapshotRefusesDamage(t *testing.T) {
	t.Parallel()
	m := newMachine(pstate.Config{}, newWaiters())
	for _, e := range shardLog(t) {
		m.Apply(e, rowMap{})
	}
	data, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckSnapshot(data); err != nil {
		t.Fatal(err)
	}
	for n := range data {
		if CheckSnapshot(data[:n]) == nil {
			t.Errorf("the first %d of %d bytes pass", n, len(data))
		}
	}
}
