package batch

import (
	"encoding/binary"
	"math"
	"slices"
)

// Encode appends a batch of the records to dst and returns it. It holds the
// batch to what the format can say, not to any [Limits]: a batch that is larger
// than a server's limits is refused there. On an error dst is returned unchanged.
func Encode(dst []byte, recs []Record, codec Codec) ([]byte, error) {
	b := NewBuilder(codec, Limits{
		MaxBatchBytes:        maxFormatBytes,
		MaxUncompressedBytes: maxFormatBytes,
		MaxRecords:           maxFormatBytes,
		MaxRecordBytes:       maxFormatBytes,
		MaxKeyBytes:          maxFormatBytes,
		MaxHeaders:           maxFormatBytes,
		MaxHeaderKeyBytes:    maxFormatBytes,
	})
	size := 0
	for i := range recs {
		size += recs[i].sizeBound()
	}
	b.block = make([]byte, 0, size)
	for i := range recs {
		if _, err := b.Append(recs[i]); err != nil {
			return dst, err
		}
	}
	return b.Build(dst)
}

// Builder collects records for a batch, for a producer that lets them linger.
// After [Builder.Reset] it reuses its buffer. It is not safe for concurrent use.
type Builder struct {
	codec  Codec
	limits Limits
	block  []byte // encoded records
	count  int
	base   int64
	newest int64
}

// NewBuilder returns an empty builder of batches within the limits.
func NewBuilder(codec Codec, l Limits) *Builder {
	return &Builder{codec: codec, limits: l.withDefaults()}
}

// Append encodes one record, which is not referred to afterwards, and returns
// [Builder.Size]. A record that could be in no batch is refused with a
// [*LimitError]; one that does not fit into this one any more, with [ErrFull].
// A refused record leaves the builder as it was.
//
// The batch is full by its size before compression. That is what a batch has
// in the worst case, and what its reader needs memory for.
func (b *Builder) Append(r Record) (size int, err error) {
	if err := b.limits.checkParts(&r); err != nil {
		return b.Size(), err
	}
	// Before encoding, so that a huge record is not copied for nothing. The
	// varints that sizeBound overestimates are checked exactly below.
	if bare := len(r.Key) + len(r.Value); bare > b.limits.MaxRecordBytes {
		return b.Size(), &LimitError{Field: "record bytes", Value: bare, Limit: b.limits.MaxRecordBytes}
	}
	base, newest := r.Timestamp, r.Timestamp
	if b.count > 0 {
		base, newest = b.base, max(b.newest, r.Timestamp)
	}
	// The difference may wrap around; adding it to the base wraps back.
	start := len(b.block)
	block := appendRecord(b.block, &r, r.Timestamp-base)
	if err := b.fits(len(block)-start, len(block)); err != nil {
		b.block = block[:start] // keeps the grown buffer
		return b.Size(), err
	}
	b.block, b.count, b.base, b.newest = block, b.count+1, base, newest
	return b.Size(), nil
}

func (b *Builder) fits(record, block int) error {
	l := b.limits
	if err := within("record bytes", record, l.MaxRecordBytes); err != nil {
		return err
	}
	if err := within("batch bytes", HeaderBytes+record, l.MaxBatchBytes); err != nil {
		return err
	}
	if err := within("uncompressed bytes", record, l.MaxUncompressedBytes); err != nil {
		return err
	}
	if HeaderBytes+block > l.MaxBatchBytes || block > l.MaxUncompressedBytes || b.count >= l.MaxRecords {
		return ErrFull
	}
	return nil
}

// Len returns the number of records.
func (b *Builder) Len() int { return b.count }

// Size returns the size of the batch in bytes, header included, if compression
// did nothing. [Builder.Build] appends no more than that.
func (b *Builder) Size() int { return HeaderBytes + len(b.block) }

// Reset empties the builder for the next batch and keeps its buffer.
func (b *Builder) Reset() { b.block, b.count, b.base, b.newest = b.block[:0], 0, 0, 0 }

// Build appends the encoded batch to dst and returns it. The builder stays as
// it is: the same records with another Build give the same bytes. On an error
// dst is returned unchanged.
func (b *Builder) Build(dst []byte) ([]byte, error) {
	if b.count == 0 {
		return dst, ErrEmpty
	}
	start := len(dst)
	out := append(slices.Grow(dst, HeaderBytes+len(b.block)), make([]byte, HeaderBytes)...)
	codec := b.codec
	out, shrunk, err := compress(out, b.block, codec)
	if err != nil {
		return dst, err
	}
	if !shrunk {
		codec = CodecNone
		out = append(out[:start+HeaderBytes], b.block...)
	}
	h := out[start:]
	copy(h, magic)
	h[3] = version
	binary.BigEndian.PutUint32(h[8:], uint32(len(h)))
	binary.BigEndian.PutUint32(h[12:], uint32(codec))
	binary.BigEndian.PutUint32(h[16:], uint32(b.count))
	binary.BigEndian.PutUint32(h[20:], uint32(len(b.block)))
	binary.BigEndian.PutUint64(h[24:], uint64(b.base))
	binary.BigEndian.PutUint64(h[32:], uint64(b.newest))
	binary.BigEndian.PutUint32(h[4:], checksum(h))
	return out, nil
}

func appendRecord(b []byte, r *Record, delta int64) []byte {
	b = binary.AppendVarint(b, delta)
	b = appendNilable(b, r.Key)
	b = appendNilable(b, r.Value)
	b = binary.AppendUvarint(b, uint64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		b = binary.AppendUvarint(b, uint64(len(h.Key)))
		b = append(b, h.Key...)
		b = appendNilable(b, h.Value)
	}
	return b
}

func appendNilable(b, v []byte) []byte {
	if v == nil {
		return append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(v))+1)
	return append(b, v...)
}

// sizeBound returns a size that the encoded record does not exceed.
func (r *Record) sizeBound() int {
	size := math.MaxInt8 + len(r.Key) + len(r.Value)
	for i := range r.Headers {
		size += 2*binary.MaxVarintLen32 + len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return size
}
