package log

import (
	"errors"
	"fmt"
	"math"

	"github.com/oncelog/oncelog/api/codec"
	"github.com/oncelog/oncelog/partition/pstate"
)

// ErrCorrupt is wrapped by every error that means that a row, or the entry it
// points to, is not what was written.
var ErrCorrupt = errors.New("partition/log: index row is corrupt")

const (
	rowKind    = 'i'
	rowVersion = 1
	keyBytes   = 1 + 8 + 8
)

// Batch is one row: a stored batch and where its bytes are.
type Batch struct {
	// BaseOffset is the offset of the first record.
	BaseOffset uint64
	// Count is the number of records, at least 1.
	Count uint32
	// Index is the Raft log index of the entry that holds the bytes; they are
	// Length bytes at Position of the entry's data.
	Index            uint64
	Position, Length uint32
	// Ref is the producer and transaction that wrote the batch.
	Ref pstate.TxnRef
	// BaseSequence is the sequence of the first record.
	BaseSequence uint64
	// MaxTimestamp is the highest record timestamp in the batch.
	MaxTimestamp int64
	// RunningMaxTimestamp is the highest one in the partition up to and with
	// this batch. It never falls along the partition.
	RunningMaxTimestamp int64
}

// End returns the offset after the last record.
func (b Batch) End() uint64 { return b.BaseOffset + uint64(b.Count) }

// AppendKey appends the key of the row of a batch.
func AppendKey(dst []byte, partition, baseOffset uint64) []byte {
	dst = append(dst, rowKind)
	dst = codec.AppendUint64(dst, partition)
	return codec.AppendUint64(dst, baseOffset)
}

// PartitionRange returns the bounds of all rows of a partition, hi exclusive.
func PartitionRange(partition uint64) (lo, hi []byte) {
	lo = AppendKey(nil, partition, 0)
	if partition == math.MaxUint64 {
		return lo, []byte{rowKind + 1}
	}
	return lo, AppendKey(nil, partition+1, 0)
}

// AppendValue appends the value of the row of a batch.
func AppendValue(dst []byte, b Batch) []byte {
	dst = append(dst, rowVersion)
	for _, v := range [...]uint64{
		b.Index, uint64(b.Position), uint64(b.Length), uint64(b.Count), b.BaseSequence,
		b.Ref.ProducerID, uint64(b.Ref.Epoch), b.Ref.Number,
	} {
		dst = codec.AppendUvarint(dst, v)
	}
	dst = codec.AppendVarint(dst, b.MaxTimestamp)
	return codec.AppendVarint(dst, b.RunningMaxTimestamp)
}

// ParseRow reads a row. Errors wrap [ErrCorrupt].
func ParseRow(key, value []byte) (partition uint64, b Batch, err error) {
	k := codec.NewReader(key)
	kind := k.Byte()
	partition, b.BaseOffset = k.Uint64(), k.Uint64()
	if err := k.Close(); err != nil || kind != rowKind {
		return 0, Batch{}, fmt.Errorf("%w: key of %d bytes and kind %d: %w", ErrCorrupt, len(key), kind, err)
	}
	r := codec.NewReader(value)
	r.Version("index row", rowVersion, rowVersion)
	b.Index = r.Uvarint()
	b.Position, b.Length, b.Count = readUint32(r), readUint32(r), readUint32(r)
	b.BaseSequence = r.Uvarint()
	b.Ref = pstate.TxnRef{ProducerID: r.Uvarint(), Epoch: readUint32(r), Number: r.Uvarint()}
	b.MaxTimestamp, b.RunningMaxTimestamp = r.Varint(), r.Varint()
	switch err := r.Close(); {
	case err != nil:
		return 0, Batch{}, fmt.Errorf("%w: partition %d offset %d: %w", ErrCorrupt, partition, b.BaseOffset, err)
	case b.Count == 0 || b.BaseOffset > math.MaxUint64-uint64(b.Count):
		return 0, Batch{}, fmt.Errorf("%w: partition %d offset %d: %d records", ErrCorrupt, partition, b.BaseOffset, b.Count)
	}
	return partition, b, nil
}

func readUint32(r *codec.Reader) uint32 {
	v := r.Uvarint()
	if v > math.MaxUint32 {
		r.Fail(errors.New("a number above its range"))
		return 0
	}
	return uint32(v)
}
