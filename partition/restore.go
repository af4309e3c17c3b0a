package partition

import (
	"fmt"
	"math"

	"github.com/oncelog/oncelog/internal/datafile"
	"github.com/oncelog/oncelog/partition/log"
	"github.com/oncelog/oncelog/partition/pstate"
)

// MakeIdentity makes a data directory that of a node of a restored cluster, whose
// catalogue knows it by its instance.
func MakeIdentity(files datafile.Files, node uint64, instance, cluster string) error {
	return identity{node: node, instance: instance, cluster: cluster}.write(files)
}

// Contents are what a checkpoint of a shard has.
type Contents struct {
	Partitions []pstate.PartitionStatus // ascending by id
	Producers  int
	Open       int // transactions
}

// OpenCheckpoint reads a shard's checkpoint, and checks it.
func OpenCheckpoint(data []byte) (Contents, error) {
	if err := CheckSnapshot(data); err != nil {
		return Contents{}, err
	}
	st := pstate.New(pstate.Config{})
	if err := st.Restore(data); err != nil {
		return Contents{}, err
	}
	stats := st.Stats()
	return Contents{Partitions: st.Partitions(), Producers: stats.Producers, Open: stats.OpenTxns}, nil
}

// RowEntry reads a row of a shard and returns the index of the log entry that it
// points to, and how many bytes that has at least.
func RowEntry(key, value []byte) (index uint64, size uint32, err error) {
	_, b, err := log.ParseRow(key, value)
	if err == nil && b.Position > math.MaxUint32-b.Length {
		err = fmt.Errorf("%w: %d bytes at %d of entry %d", log.ErrCorrupt, b.Length, b.Position, b.Index)
	}
	return b.Index, b.Position + b.Length, err
}
