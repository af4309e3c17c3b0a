package client

import (
	"iter"
	"sync/atomic"
)

// Batch is what one Poll returned: records of one or more partitions, and the
// positions after them.
type Batch struct {
	consumer  *Consumer
	parts     []batchPart
	count     int
	committed atomic.Bool // by a transaction or by Consumer.Commit
}

// batchPart is the part of one partition, with one record at least.
type batchPart struct {
	reader  *reader
	start   int64 // position before the batch
	next    int64 // position after it
	seek    uint64
	records []Record
}

// begins reports whether a position is where the part begins: before its first
// record, with nothing but records between that are not shown.
func (p *batchPart) begins(position int64) bool {
	return p.start <= position && position <= p.records[0].Offset
}

// Records returns the records: in the order of their offsets within a partition,
// partition by partition. Keys and values may be kept, but not modified.
func (b *Batch) Records() iter.Seq[*Record] {
	return func(yield func(*Record) bool) {
		for i := range b.parts {
			for j := range b.parts[i].records {
				if !yield(&b.parts[i].records[j]) {
					return
				}
			}
		}
	}
}

// Len returns the number of records.
func (b *Batch) Len() int { return b.count }

// StartOffsets returns the positions before the batch: where reading it again would
// begin.
func (b *Batch) StartOffsets() Offsets {
	o := make(Offsets, len(b.parts))
	for _, p := range b.parts {
		o[p.reader.tp] = p.start
	}
	return o
}

// Offsets returns the positions after the batch: per partition the next offset
// to read. They may be more than one above the last record's, because records of
// aborted transactions are passed over.
func (b *Batch) Offsets() Offsets {
	o := make(Offsets, len(b.parts))
	for _, p := range b.parts {
		o[p.reader.tp] = p.next
	}
	return o
}
