package batch

import "fmt"

// Limits bound what a batch may be. A zero field means its default. A server's
// limits must be at least those of its producers and at most those of its
// consumers, or a stored batch could not be read.
type Limits struct {
	// MaxBatchBytes bounds the encoded batch. Default 1 MiB, Kafka's message.max.bytes.
	MaxBatchBytes int
	// MaxUncompressedBytes bounds the records block before compression: what a
	// reader allocates for a batch. Default 8 MiB; at least MaxBatchBytes is sensible.
	MaxUncompressedBytes int
	// MaxRecords bounds the records of a batch. Default 65,536.
	MaxRecords int
	// MaxRecordBytes bounds one encoded record. Default 1 MiB.
	MaxRecordBytes int
	// MaxKeyBytes bounds a record's key. Default 64 KiB.
	MaxKeyBytes int
	// MaxHeaders bounds the headers of a record. Default 128.
	MaxHeaders int
	// MaxHeaderKeyBytes bounds a header's key. Default 1 KiB.
	MaxHeaderKeyBytes int
}

// DefaultLimits returns the limits that a zero [Limits] stands for.
func DefaultLimits() Limits { return Limits{}.withDefaults() }

func (l Limits) withDefaults() Limits {
	set := func(field *int, value int) {
		if *field <= 0 {
			*field = value
		}
		*field = min(*field, maxFormatBytes)
	}
	set(&l.MaxBatchBytes, 1<<20)
	set(&l.MaxUncompressedBytes, 8<<20)
	set(&l.MaxRecords, 1<<16)
	set(&l.MaxRecordBytes, 1<<20)
	set(&l.MaxKeyBytes, 64<<10)
	set(&l.MaxHeaders, 128)
	set(&l.MaxHeaderKeyBytes, 1<<10)
	return l
}

// LimitError reports what was too large.
type LimitError struct {
	Field string // "batch bytes", "uncompressed bytes", "records", "record bytes", "key bytes", "headers", "header key bytes"
	Value int
	Limit int
}

// Error tells the field, its value and the limit.
func (e *LimitError) Error() string {
	return fmt.Sprintf("batch: %s %d above the limit of %d", e.Field, e.Value, e.Limit)
}

func within(field string, value, limit int) error {
	if value > limit {
		return &LimitError{Field: field, Value: value, Limit: limit}
	}
	return nil
}

// checkParts holds the parts of a record to the limits.
func (l Limits) checkParts(r *Record) error {
	if err := within("key bytes", len(r.Key), l.MaxKeyBytes); err != nil {
		return err
	}
	if err := within("headers", len(r.Headers), l.MaxHeaders); err != nil {
		return err
	}
	for i := range r.Headers {
		if err := within("header key bytes", len(r.Headers[i].Key), l.MaxHeaderKeyBytes); err != nil {
			return err
		}
	}
	return nil
}
