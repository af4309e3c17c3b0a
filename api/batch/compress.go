package batch

import (
	"fmt"
	"slices"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// The zstd coders are made on first use: they keep tables of a megabyte and
// more, and most processes use one codec. Both are safe for concurrent use in
// the whole-buffer form used here and start no goroutines.

var zstdEncoder = sync.OnceValues(func() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithEncoderCRC(false), // the batch has its own checksum
		zstd.WithLowerEncoderMem(true))
})

var zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil,
		// Never decode more than the destination was made for: the bound on
		// decompression bombs.
		zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxMemory(maxFormatBytes),
		zstd.WithDecoderLowmem(true))
})

var lz4Compressors = sync.Pool{New: func() any { return new(lz4.Compressor) }}

// compress appends the compressed block to dst and reports whether that is
// shorter than the block. If not, what it appended is of no use.
func compress(dst, block []byte, codec Codec) (out []byte, shrunk bool, err error) {
	start := len(dst)
	switch codec {
	case CodecNone:
		return dst, false, nil
	case CodecSnappy:
		dst = slices.Grow(dst, s2.MaxEncodedLen(len(block)))
		n := len(s2.EncodeSnappy(dst[start:cap(dst)], block))
		dst = dst[:start+n]
	case CodecLZ4:
		dst = slices.Grow(dst, lz4.CompressBlockBound(len(block)))
		c := lz4Compressors.Get().(*lz4.Compressor)
		n, err := c.CompressBlock(block, dst[start:cap(dst)])
		lz4Compressors.Put(c)
		if err != nil {
			return dst, false, fmt.Errorf("batch: lz4: %w", err)
		}
		if n == 0 { // incompressible
			return dst, false, nil
		}
		dst = dst[:start+n]
	case CodecZstd:
		enc, err := zstdEncoder()
		if err != nil {
			return dst, false, fmt.Errorf("batch: zstd encoder: %w", err)
		}
		dst = enc.EncodeAll(block, dst)
	default:
		return dst, false, fmt.Errorf("%w: %d", ErrCodec, codec)
	}
	return dst, len(dst)-start < len(block), nil
}

// decompress writes the block of exactly size bytes to buf, which it replaces
// when it is too small. The caller has held size to its limit.
func decompress(buf, stored []byte, codec Codec, size int) ([]byte, error) {
	if cap(buf) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size:size]
	var n int
	var err error
	switch codec {
	case CodecSnappy:
		// The block states its size; s2 allocates by that statement.
		if n, err = s2.DecodedLen(stored); err == nil && n == size {
			_, err = s2.Decode(buf, stored)
		}
	case CodecLZ4:
		n, err = lz4.UncompressBlock(stored, buf)
	case CodecZstd:
		var dec *zstd.Decoder
		if dec, err = zstdDecoder(); err == nil {
			var out []byte
			out, err = dec.DecodeAll(stored, buf[:0])
			n = len(out)
		}
	default:
		return buf, fmt.Errorf("%w: %d", ErrCodec, codec)
	}
	if err != nil {
		return buf, fmt.Errorf("%w: %s: %w", ErrCorrupt, codec, err)
	}
	if n != size {
		return buf, fmt.Errorf("%w: %s gave %d bytes, the header says %d", ErrCorrupt, codec, n, size)
	}
	return buf, nil
}
