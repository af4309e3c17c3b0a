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
	gaps    func(partition uint64) uint64
}

// NewIndex returns the index over the rows and the log of one group. gaps tells the
// offset of a partition below which compaction may have removed records, and so rows;
// nil: nowhere. It is asked after a gap was met, and must not be older than the rows.
func NewIndex(rows raftstore.Rows, entries Entries, gaps func(partition uint64) uint64) *Index {
	if gaps == nil {
		gaps = func(uint64) uint64 { return 0 }
	}
	return &Index{rows: rows, entries: entries, gaps: gaps}
}

// gap returns an error unless the offsets [from, to) may be without a row.
func (x *Index) gap(partition, from, to uint64) error {
	if from >= to || to <= x.gaps(partition) {
		return nil
	}
	return fmt.Errorf("%w: partition %d: no rows for offsets %d to %d", ErrCorrupt, partition, from, to-1)
}

// Find returns the batch that holds the record at offset. False: there is no
// row at or below the offset that reaches so far.
func (x *Index) Find(partition, offset uint64) (b Batch, ok bool, err error) {
	b, ok, err = x.before(partition, offset)
	return b, ok && b.End() > offset, err
}

// before returns the last batch that begins at or below offset; false: there is none.
func (x *Index) before(partition, offset uint64) (b Batch, ok bool, err error) {
	lo, hi := PartitionRange(partition)
	if offset+1 != 0 {
		hi = AppendKey(nil, partition, offset+1)
	}
	var bad error
	err = x.rows.ScanReverse(lo, hi, func(key, value []byte) bool {
		_, b, bad = ParseRow(key, value)
		ok = bad == nil
		return false
	})
	if err == nil {
		err = bad
	}
	return b, ok && err == nil, err
}

// Scan calls fn for the batches in offset order, from the one that holds from, or
// the first one after it, to the last one that begins below end, until fn returns
// false. Where nothing was compacted offsets are dense, so there a gap between rows
// is reported as [ErrCorrupt]; so is a missing first row.
func (x *Index) Scan(partition, from, end uint64, fn func(Batch) bool) error {
	if from >= end {
		return nil
	}
	first, ok, err := x.Find(partition, from)
	next := from
	switch {
	case err != nil:
		return err
	case ok && (!fn(first) || first.End() >= end):
		return nil
	case ok:
		next = first.End()
	}
	var bad error
	stopped := false
	err = x.rows.Scan(AppendKey(nil, partition, next), AppendKey(nil, partition, end), func(key, value []byte) bool {
		var b Batch
		if _, b, bad = ParseRow(key, value); bad != nil {
			return false
		}
		if bad = x.gap(partition, next, b.BaseOffset); bad != nil {
			return false
		}
		if b.BaseOffset < next {
			bad = fmt.Errorf("%w: partition %d: a row at offset %d, and the one before it ends at %d", ErrCorrupt, partition, b.BaseOffset, next)
			return false
		}
		next = b.End()
		stopped = !fn(b)
		return !stopped
	})
	if err == nil {
		err = bad
	}
	if err == nil && !stopped {
		err = x.gap(partition, next, end)
	}
	return err
}

// Since returns an offset in [start, end) such that no record before it is of the
// time ts or later: the base offset of the first batch up to and with which the
// partition has seen such a timestamp, or start. It returns end if there is none.
func (x *Index) Since(partition, start, end uint64, ts int64) (uint64, error) {
	var bad error
	// Bisection over offsets, not rows: 64 look-ups at most whatever is stored.
	reached := func(offset uint64) bool {
		b, ok, err := x.before(partition, offset)
		if err == nil && (!ok || b.End() <= offset) {
			err = x.gap(partition, offset, offset+1)
		}
		if err != nil {
			bad = err
			return true
		}
		return ok && b.RunningMaxTimestamp >= ts
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
