package log

import (
	"fmt"
	"sort"

	"github.com/oncelog/oncelog/raftstore"
)

// Entries reads parts of a group's log; *raftstore.Group is one.
type Entries interface {
	// EntryRange returns n bytes at pos of an applied entry's data.
	EntryRange(index uint64, pos, n int) ([]byte, error)
}

// Index reads the batches of a shard. It is safe for concurrent use.
type Index struct {
	rows    raftstore.Rows
	entries Entries
}

// NewIndex returns the index over the rows and the log of one group.
func NewIndex(rows raftstore.Rows, entries Entries) *Index {
	return &Index{rows: rows, entries: entries}
}

// Find returns the batch that holds the record at offset. False: there is no
// row at or below the offset that reaches so far.
func (x *Index) Find(partition, offset uint64) (b Batch, ok bool, err error) {
	lo, hi := PartitionRange(partition)
	if offset+1 != 0 {
		hi = AppendKey(nil, partition, offset+1)
	}
	var bad error
	err = x.rows.ScanReverse(lo, hi, func(key, value []byte) bool {
		if _, b, bad = ParseRow(key, value); bad == nil {
			ok = b.End() > offset
		}
		return false
	})
	if err == nil {
		err = bad
	}
	return b, ok && err == nil, err
}

// Scan calls fn for the batches in offset order, from the one that holds from
// to the last one that begins below end, until fn returns false. Offsets are
// dense, so a gap between rows is reported as [ErrCorrupt]; so is a missing
// first row.
func (x *Index) Scan(partition, from, end uint64, fn func(Batch) bool) error {
	if from >= end {
		return nil
	}
	first, ok, err := x.Find(partition, from)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("%w: partition %d: no row for offset %d", ErrCorrupt, partition, from)
	case !fn(first) || first.End() >= end:
		return nil
	}
	var bad error
	next := first.End()
	err = x.rows.Scan(AppendKey(nil, partition, next), AppendKey(nil, partition, end), func(key, value []byte) bool {
		var b Batch
		if _, b, bad = ParseRow(key, value); bad != nil {
			return false
		}
		if b.BaseOffset != next {
			bad = fmt.Errorf("%w: partition %d: a row at offset %d, the next one is at %d", ErrCorrupt, partition, next, b.BaseOffset)
			return false
		}
		next = b.End()
		return fn(b)
	})
	if err == nil {
		err = bad
	}
	return err
}

// Since returns the base offset of the first batch in [start, end) up to and
// with which the partition has seen a timestamp of at least ts: no record
// before it is so new. It returns end if there is none. start must be at the
// beginning of a batch or inside of one.
func (x *Index) Since(partition, start, end uint64, ts int64) (uint64, error) {
	var bad error
	// Bisection over offsets, not rows: 64 look-ups at most whatever is stored.
	reached := func(offset uint64) bool {
		b, ok, err := x.Find(partition, offset)
		if err == nil && !ok {
			err = fmt.Errorf("%w: partition %d: no row for offset %d", ErrCorrupt, partition, offset)
		}
		if err != nil {
			bad = err
			return true
		}
		return b.RunningMaxTimestamp >= ts
	}
	if end <= start {
		return end, nil
	}
	const maxInt = int(^uint(0) >> 1)
	n := int(min(end-start, uint64(maxInt)))
	at := start + uint64(sort.Search(n, func(i int) bool { return bad != nil || reached(start+uint64(i)) }))
	return at, bad
}

// Read returns the encoded bytes of a batch. They must not be modified.
func (x *Index) Read(b Batch) ([]byte, error) {
	data, err := x.entries.EntryRange(b.Index, int(b.Position), int(b.Length))
	if err != nil {
		return nil, fmt.Errorf("read batch at offset %d: %w", b.BaseOffset, err)
	}
	if len(data) != int(b.Length) {
		return nil, fmt.Errorf("%w: batch at offset %d: entry %d has %d of %d bytes", ErrCorrupt, b.BaseOffset, b.Index, len(data), b.Length)
	}
	return data, nil
}
