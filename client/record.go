package client

import (
	"cmp"
	"fmt"
	"time"

	"github.com/oncelog/oncelog/api/batch"
)

// Header is a key and a value beside a record. Order and repetition are kept.
type Header struct {
	// Key, at most 1,024 bytes.
	Key string
	// Value; nil is kept apart from empty.
	Value []byte
}

// Record is one entry of a log.
//
// To send, set Topic, Value, and what else is wanted. Its bytes are copied by
// Send; the record itself must not be changed before Flush or Commit has
// returned, because they fill in Partition and Offset.
type Record struct {
	// Topic that the record is in or goes to.
	Topic string
	// Key, at most 64 KiB. Records with equal keys go to the same partition, in
	// order. nil: no key, which is kept apart from an empty one.
	Key []byte
	// Value; nil is a tombstone and kept apart from empty. A whole record takes at
	// most 1 MiB.
	Value []byte
	// Headers, at most 128; the two of a trace context count, see WithTracer.
	Headers []Header
	// Timestamp, in milliseconds on the wire. Zero: Send sets it to the time.
	Timestamp time.Time
	// Partition is where the record is. When sending it is a result; to choose the
	// partition use WithPartition.
	Partition int32
	// Offset of the record within its partition; -1 after a Flush when the cluster
	// had stored the record but no longer remembers where.
	Offset int64

	pinned bool // WithPartition was called
}

// WithPartition sends the record to partition p of its topic, whatever its key,
// and returns the record.
func (r *Record) WithPartition(p int32) *Record {
	r.Partition, r.pinned = p, true
	return r
}

// memory returns what the record takes of a producer's buffer.
func (r *Record) memory() int {
	n := recordOverhead + len(r.Key) + len(r.Value)
	for i := range r.Headers {
		n += headerOverhead + len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return n
}

// Bookkeeping and lengths beside a record's own bytes, roughly.
const (
	recordOverhead = 64
	headerOverhead = 16
)

func (r *Record) encode(headers []Header) batch.Record {
	out := batch.Record{Key: r.Key, Value: r.Value, Timestamp: r.Timestamp.UnixMilli()}
	if len(headers) > 0 {
		out.Headers = make([]batch.Header, len(headers))
		for i, h := range headers {
			out.Headers[i] = batch.Header{Key: h.Key, Value: h.Value}
		}
	}
	return out
}

func (r *Record) decode(tp TopicPartition, offset int64, in *batch.Record) {
	*r = Record{
		Topic:     tp.Topic,
		Partition: tp.Partition,
		Offset:    offset,
		Key:       in.Key,
		Value:     in.Value,
		Timestamp: time.UnixMilli(in.Timestamp),
	}
	if len(in.Headers) > 0 {
		r.Headers = make([]Header, len(in.Headers))
		for i, h := range in.Headers {
			r.Headers[i] = Header{Key: h.Key, Value: h.Value}
		}
	}
}

// TopicPartition names one partition.
type TopicPartition struct {
	// Topic name.
	Topic string
	// Partition is the index within the topic, from 0.
	Partition int32
}

// String returns "topic/partition".
func (tp TopicPartition) String() string { return fmt.Sprintf("%s/%d", tp.Topic, tp.Partition) }

// compare orders by topic and partition.
func (tp TopicPartition) compare(other TopicPartition) int {
	return cmp.Or(cmp.Compare(tp.Topic, other.Topic), cmp.Compare(tp.Partition, other.Partition))
}

// Offsets are positions by partition: each the next offset to read.
type Offsets map[TopicPartition]int64
