package partition

import (
	"bytes"
	"testing"

	"github.com/oncelog/oncelog/partition/pstate"
)

// FuzzMachineRestore: a machine refuses a checkpoint, or takes it and writes one
// that gives the same machine again.
func FuzzMachineRestore(f *testing.F) {
	m := newMachine(pstate.Config{}, newWaiters())
	m.change(func(s *pstate.State) {
		s.SyncPartitions(1, pstate.SyncPartitions{Version: 1, Full: true, Add: []pstate.PartitionInfo{{ID: 4, TopicID: 1, Topic: "t"}}})
		s.Append(2, pstate.Append{At: 5, Ref: pstate.TxnRef{ProducerID: 7, Number: 1}, Batches: []pstate.Batch{{Partition: 4, Count: 2, Size: 10}}}, nil)
	})
	whole, err := m.Snapshot()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Fuzz(func(t *testing.T, data []byte) {
		m := newMachine(pstate.Config{}, newWaiters())
		if err := m.Restore(9, data); err != nil {
			return
		}
		first, err := m.Snapshot()
		if err == nil {
			err = m.Restore(9, first)
		}
		if err != nil {
			t.Fatal(err)
		}
		if again, err := m.Snapshot(); err != nil || !bytes.Equal(again, first) {
			t.Errorf("%x becomes %x and then %x, %v", data, first, again, err)
		}
	})
}
