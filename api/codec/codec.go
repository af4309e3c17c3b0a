// Package codec is the byte encoding of everything that is written to a Raft
// log, a snapshot or a state row: fixed and variable length integers and
// length-prefixed bytes, appended to a slice and read back by a [Reader].
//
// It is a leaf: the pure cores use it for their snapshots, so it imports
// nothing but encoding/binary. Equal values give equal bytes, which is what
// makes "same state, same snapshot" checkable.
//
// Every format written with it starts with a version byte; golden files in the
// packages that own a format keep old versions readable.
package codec

import (
	"encoding/binary"
	"errors"
)

// Errors of a [Reader]. Both mean that the input is not what the writer wrote.
var (
	// ErrShort reports input that ends inside a value.
	ErrShort = errors.New("codec: input ends inside a value")
	// ErrTooLong reports a length or count above the reader's stated limit.
	ErrTooLong = errors.New("codec: length above its limit")
	// ErrTrailing reports bytes after the last expected value.
	ErrTrailing = errors.New("codec: bytes after the last value")
)

// AppendUvarint appends v in the variable length form of encoding/binary.
func AppendUvarint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

// AppendVarint appends v in the zig-zag form of encoding/binary.
func AppendVarint(b []byte, v int64) []byte { return binary.AppendVarint(b, v) }

// AppendUint64 appends v as eight bytes, most significant first, so that the
// order of the bytes is the order of the numbers (for keys).
func AppendUint64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

// AppendUint32 appends v as four bytes, most significant first.
func AppendUint32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }

// AppendBool appends one byte, 0 or 1.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// AppendBytes appends the length of v and v.
func AppendBytes(b, v []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

// AppendString appends the length of v and v.
func AppendString(b []byte, v string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

// Reader reads values in the order in which they were appended. The first
// failure sticks: later reads return zero values, and [Reader.Err] tells it, so
// that a decoder checks once at its end. A Reader never allocates for a length
// that the remaining input cannot hold.
type Reader struct {
	b   []byte
	n   int // length of the input at the start
	err error
}

// NewReader reads from b, which must not change while the reader is in use.
func NewReader(b []byte) *Reader { return &Reader{b: b, n: len(b)} }

// Err returns the first failure, or nil.
func (r *Reader) Err() error { return r.err }

// Len returns how many bytes are left.
func (r *Reader) Len() int { return len(r.b) }

// Pos returns how many bytes have been read.
func (r *Reader) Pos() int { return r.n - len(r.b) }

// Close returns the first failure, or [ErrTrailing] when bytes are left.
func (r *Reader) Close() error {
	if len(r.b) > 0 {
		r.Fail(ErrTrailing)
	}
	return r.err
}

// Fail makes err the reader's failure unless it has one already.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
		r.b = nil
	}
}

// Uvarint reads a value written by [AppendUvarint].
func (r *Reader) Uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.Fail(ErrShort)
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Varint reads a value written by [AppendVarint].
func (r *Reader) Varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.Fail(ErrShort)
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Uint64 reads a value written by [AppendUint64].
func (r *Reader) Uint64() uint64 {
	if len(r.b) < 8 {
		r.Fail(ErrShort)
		return 0
	}
	v := binary.BigEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}

// Uint32 reads a value written by [AppendUint32].
func (r *Reader) Uint32() uint32 {
	if len(r.b) < 4 {
		r.Fail(ErrShort)
		return 0
	}
	v := binary.BigEndian.Uint32(r.b)
	r.b = r.b[4:]
	return v
}

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if len(r.b) < 1 {
		r.Fail(ErrShort)
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

// Bool reads a value written by [AppendBool]; a byte other than 0 and 1 fails.
func (r *Reader) Bool() bool {
	v := r.Byte()
	if v > 1 {
		r.Fail(errors.New("codec: a boolean is neither 0 nor 1"))
	}
	return v == 1
}

// Bytes reads a value written by [AppendBytes] of at most limit bytes. The
// result is part of the reader's input, not a copy.
func (r *Reader) Bytes(limit int) []byte {
	n := r.Uvarint()
	if r.err != nil {
		return nil
	}
	if n > uint64(limit) {
		r.Fail(ErrTooLong)
		return nil
	}
	if n > uint64(len(r.b)) {
		r.Fail(ErrShort)
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// String reads a value written by [AppendString] of at most limit bytes.
func (r *Reader) String(limit int) string { return string(r.Bytes(limit)) }

// Count reads the length of a list whose elements take at least one byte each,
// so that a forged count cannot make the caller allocate more than the input
// could fill.
func (r *Reader) Count(limit int) int {
	n := r.Uvarint()
	if r.err != nil {
		return 0
	}
	if n > uint64(limit) {
		r.Fail(ErrTooLong)
		return 0
	}
	if n > uint64(len(r.b)) {
		r.Fail(ErrShort)
		return 0
	}
	return int(n)
}
