// Package batch is the encoded record batch: the bytes a producer encodes
// once, a shard stores as they came, and a consumer decodes. A server looks at
// the fixed header and the checksum only ([Validate]); it neither decompresses
// nor decodes records.
//
// A batch holds no offset, producer or sequence. Where it was sent from and
// where it landed travel beside it and live in the shard's index, so its bytes
// never change after encoding, and a retry resends identical bytes.
//
// # Format, version 1
//
// Integers of the header are most significant byte first.
//
//	offset  size  field
//	     0     3  magic "olb"
//	     3     1  version, 1
//	     4     4  CRC-32C (Castagnoli) of everything from offset 8
//	     8     4  length of the whole batch in bytes, this header included
//	    12     4  attributes: bits 0-2 the codec, the others 0
//	    16     4  number of records, at least 1
//	    20     4  size of the records block before compression
//	    24     8  base timestamp: that of the first record, ms since the Unix epoch
//	    32     8  max timestamp
//	    40        records block, compressed as the attributes say
//
// Records follow each other in the block without padding. Lengths are unsigned
// and the delta is a zig-zag varint, as in encoding/binary. A nilable field is
// 0 for nil, else its length plus one and its bytes: an empty key is not a
// missing one, and a nil value is a tombstone.
//
//	timestamp delta to the base timestamp
//	key, nilable
//	value, nilable
//	number of headers, then for each: length and bytes of the key; value, nilable
//
// A batch that compression would not shrink is stored uncompressed, whatever
// the codec asked for.
package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/oncelog/oncelog/api/codec"
)

// Errors of this package, besides [*LimitError]. They are wrapped with detail;
// test with errors.Is.
var (
	// ErrChecksum: the bytes were damaged after encoding.
	ErrChecksum = errors.New("batch: checksum mismatch")
	// ErrCorrupt: the bytes are not what an encoder of this format writes.
	ErrCorrupt = errors.New("batch: malformed")
	// ErrVersion: a format version this build does not know.
	ErrVersion = codec.ErrVersion
	// ErrCodec: a compression codec this build does not know.
	ErrCodec = errors.New("batch: unknown codec")
	// ErrEmpty: a batch of no records cannot be encoded.
	ErrEmpty = errors.New("batch: no records")
	// ErrFull: the record does not fit into a [Builder] that holds others;
	// build the batch and append the record to the next one.
	ErrFull = errors.New("batch: full")
)

// Record is one record of a batch.
type Record struct {
	Key       []byte // nil: no key; partitioners and compaction tell it from empty
	Value     []byte // nil: a tombstone
	Headers   []Header
	Timestamp int64 // ms since the Unix epoch
}

// Header is one header of a record. Keys may repeat; the order is kept.
type Header struct {
	Key   string
	Value []byte // may be nil
}

// Codec is the compression of a batch's records.
type Codec uint8

// The codecs. The numbers are those of Kafka's record batch.
const (
	CodecNone   Codec = 0
	CodecSnappy Codec = 2 // Snappy block format
	CodecLZ4    Codec = 3 // LZ4 block format
	CodecZstd   Codec = 4
)

// String returns the codec's name as Kafka's compression.type spells it.
func (c Codec) String() string {
	switch c {
	case CodecNone:
		return "none"
	case CodecSnappy:
		return "snappy"
	case CodecLZ4:
		return "lz4"
	case CodecZstd:
		return "zstd"
	default:
		return fmt.Sprintf("codec(%d)", uint8(c))
	}
}

// ParseCodec is the reverse of [Codec.String].
func ParseCodec(name string) (Codec, error) {
	for _, c := range []Codec{CodecNone, CodecSnappy, CodecLZ4, CodecZstd} {
		if c.String() == name {
			return c, nil
		}
	}
	return 0, fmt.Errorf("%w: %q", ErrCodec, name)
}

func (c Codec) known() bool { return c == CodecNone || c >= CodecSnappy && c <= CodecZstd }

// HeaderBytes is the size of the fixed header.
const HeaderBytes = 40

const (
	magic     = "olb"
	version   = 1
	codecMask = 7

	// crcStart is where the checksummed bytes begin.
	crcStart = 8
	// minRecordBytes is the size of a record of nothing: delta, key, value and
	// number of headers take a byte each.
	minRecordBytes = 4
	// maxFormatBytes bounds what the 32 bit sizes can say, with room so that
	// sums stay in range.
	maxFormatBytes = 1 << 30
)

// Info is what the fixed header of a batch says.
type Info struct {
	Checksum          uint32
	Length            int // of the whole batch, in bytes
	Codec             Codec
	Records           int
	UncompressedBytes int   // size of the records block before compression
	BaseTimestamp     int64 // of the first record, ms since the Unix epoch
	MaxTimestamp      int64 // ms since the Unix epoch
}

// ParseHeader reads the header without verifying the checksum or any limit. It
// is for bytes that were validated before; b may go on after the batch, whose
// end is at Length.
func ParseHeader(b []byte) (Info, error) {
	if len(b) < HeaderBytes {
		return Info{}, fmt.Errorf("%w: %d bytes are less than a header", ErrCorrupt, len(b))
	}
	if string(b[:3]) != magic {
		return Info{}, fmt.Errorf("%w: wrong magic bytes", ErrCorrupt)
	}
	if b[3] != version {
		return Info{}, &codec.VersionError{Format: "record batch", Found: uint64(b[3]), First: version, Last: version}
	}
	attributes := binary.BigEndian.Uint32(b[12:])
	h := Info{
		Checksum:          binary.BigEndian.Uint32(b[4:]),
		Length:            int(binary.BigEndian.Uint32(b[8:])),
		Codec:             Codec(attributes & codecMask),
		Records:           int(binary.BigEndian.Uint32(b[16:])),
		UncompressedBytes: int(binary.BigEndian.Uint32(b[20:])),
		BaseTimestamp:     int64(binary.BigEndian.Uint64(b[24:])),
		MaxTimestamp:      int64(binary.BigEndian.Uint64(b[32:])),
	}
	if attributes&^codecMask != 0 {
		return h, fmt.Errorf("%w: unknown attributes %#x", ErrCorrupt, attributes)
	}
	return h, nil
}

// Validate checks what a server has to know before it stores a batch: that b
// is exactly one batch, undamaged, within the limits, and that its sizes fit
// together. Records are not looked at, so a batch that passes may still fail to
// decode if its encoder was broken.
func Validate(b []byte, l Limits) (Info, error) {
	l = l.withDefaults()
	if len(b) > l.MaxBatchBytes {
		return Info{}, &LimitError{Field: "batch bytes", Value: len(b), Limit: l.MaxBatchBytes}
	}
	h, err := ParseHeader(b)
	if err != nil {
		return h, err
	}
	if h.Length != len(b) {
		return h, fmt.Errorf("%w: %d bytes, the header says %d", ErrCorrupt, len(b), h.Length)
	}
	if sum := checksum(b); sum != h.Checksum {
		return h, fmt.Errorf("%w: %08x, the header says %08x", ErrChecksum, sum, h.Checksum)
	}
	if !h.Codec.known() {
		return h, fmt.Errorf("%w: %d", ErrCodec, h.Codec)
	}
	if h.Records > l.MaxRecords {
		return h, &LimitError{Field: "records", Value: h.Records, Limit: l.MaxRecords}
	}
	if h.UncompressedBytes > l.MaxUncompressedBytes {
		return h, &LimitError{Field: "uncompressed bytes", Value: h.UncompressedBytes, Limit: l.MaxUncompressedBytes}
	}
	return h, h.consistent()
}

// consistent checks that the sizes fit together.
func (h Info) consistent() error {
	stored := h.Length - HeaderBytes
	switch {
	case h.Records == 0:
		return fmt.Errorf("%w: no records", ErrCorrupt)
	case h.UncompressedBytes/minRecordBytes < h.Records:
		return fmt.Errorf("%w: %d records in %d bytes", ErrCorrupt, h.Records, h.UncompressedBytes)
	case h.Codec == CodecNone && h.UncompressedBytes != stored:
		return fmt.Errorf("%w: %d bytes of records, the header says %d", ErrCorrupt, stored, h.UncompressedBytes)
	case h.Codec != CodecNone && (stored == 0 || stored >= h.UncompressedBytes):
		return fmt.Errorf("%w: %d bytes compressed to %d", ErrCorrupt, h.UncompressedBytes, stored)
	case h.MaxTimestamp < h.BaseTimestamp:
		return fmt.Errorf("%w: max timestamp below the base", ErrCorrupt)
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b[crcStart:], castagnoli) }
