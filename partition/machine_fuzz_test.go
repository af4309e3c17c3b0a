package partition

import (
	"bytes"
	"testing"

	"github.com/oncelog/oncelog/partition/pstate"
)

// FuzzMachineRestore: a machine takes a checkpoint that it could have written,
// and writes the same one again, or it refuses.
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
		again, err := m.Snapshot()
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("%x comes back as %x, %v", data, again, err)
		}
	})
}
