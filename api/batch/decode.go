package batch

import (
	"encoding/binary"
	"fmt"
)

// Decode validates a batch and returns its records. Keys and values are parts
// of b, or, in a compressed batch, of one buffer made for it: they live as long
// as it does and must not be modified.
func Decode(b []byte, l Limits) ([]Record, error) {
	var d Decoder
	h, err := d.Reset(b, l)
	if err != nil {
		return nil, err
	}
	recs := make([]Record, 0, h.Records)
	for d.Next() {
		recs = append(recs, d.Record())
	}
	if err := d.Err(); err != nil {
		return nil, err
	}
	return recs, nil
}

// Decoder reads the records of a batch one by one:
//
//	h, err := d.Reset(b, limits)
//	for d.Next() {
//		use(d.Record())
//	}
//	err = d.Err()
//
// The zero Decoder is ready for Reset. It is not safe for concurrent use.
type Decoder struct {
	limits Limits
	header Info
	buf    []byte // of decompression, reused by Reset
	rest   []byte // records not read yet
	left   int
	newest int64
	record Record
	slab   []Header // headers of records to come are cut from it
	err    error
}

// Reset starts on a batch, after validating it as [Validate] does and
// decompressing it. Records of a compressed batch read before are overwritten:
// whoever keeps records uses [Decode] or a new Decoder.
func (d *Decoder) Reset(b []byte, l Limits) (Info, error) {
	*d = Decoder{limits: l.withDefaults(), buf: d.buf}
	if d.header, d.err = Validate(b, l); d.err != nil {
		return d.header, d.err
	}
	d.rest = b[HeaderBytes:len(b):len(b)]
	if d.header.Codec != CodecNone {
		// Validate held the size to the limit before it is allocated here.
		d.buf, d.err = decompress(d.buf, d.rest, d.header.Codec, d.header.UncompressedBytes)
		d.rest = d.buf
	}
	d.left = d.header.Records
	d.newest = d.header.BaseTimestamp
	return d.header, d.err
}

// Next reads the next record and reports whether there is one. It returns
// false at the end and on an error, see [Decoder.Err].
func (d *Decoder) Next() bool {
	if d.err != nil || d.left == 0 {
		return false
	}
	first := d.left == d.header.Records
	before := len(d.rest)
	d.record = Record{}
	delta := d.varint()
	d.record.Timestamp = d.header.BaseTimestamp + delta
	d.record.Key = d.nilable()
	d.record.Value = d.nilable()
	d.readHeaders()
	if first && delta != 0 {
		d.fail("first record is not at the base timestamp")
	}
	if d.err == nil {
		d.err = within("record bytes", before-len(d.rest), d.limits.MaxRecordBytes)
	}
	if d.err == nil {
		d.err = d.limits.checkParts(&d.record)
	}
	d.left--
	d.newest = max(d.newest, d.record.Timestamp)
	if d.left == 0 {
		d.finish()
	}
	return d.err == nil
}

// finish checks what only the last record can tell.
func (d *Decoder) finish() {
	if len(d.rest) > 0 {
		d.fail("bytes after the last record")
	}
	if d.newest != d.header.MaxTimestamp {
		d.fail("max timestamp is not that of a record")
	}
}

// Record returns the record that Next read.
func (d *Decoder) Record() Record { return d.record }

// Err returns what ended the reading, nil at the end of the batch.
func (d *Decoder) Err() error { return d.err }

func (d *Decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s (record %d)", ErrCorrupt, what, d.header.Records-d.left)
	}
	d.rest = nil
}

func (d *Decoder) readHeaders() {
	n := d.uvarint()
	if n == 0 || d.err != nil {
		return
	}
	if n > uint64(d.limits.MaxHeaders) {
		d.err = &LimitError{Field: "headers", Value: int(min(n, maxFormatBytes)), Limit: d.limits.MaxHeaders}
		return
	}
	if n > uint64(len(d.rest)/2) { // a header takes two bytes at least
		d.fail("more headers than bytes")
		return
	}
	count := int(n)
	if len(d.slab) < count {
		// A batch's records mostly have as many headers each: room for 32
		// records more, but not for more headers than bytes are left.
		d.slab = make([]Header, min(count*min(d.left, 32), len(d.rest)/2))
	}
	headers := d.slab[:count:count]
	d.slab = d.slab[count:]
	for i := range headers {
		headers[i] = Header{Key: string(d.take(d.uvarint())), Value: d.nilable()}
	}
	d.record.Headers = headers
}

func (d *Decoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.fail("varint")
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *Decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.fail("varint")
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *Decoder) nilable() []byte {
	n := d.uvarint()
	if n == 0 {
		return nil
	}
	return d.take(n - 1)
}

func (d *Decoder) take(n uint64) []byte {
	if n > uint64(len(d.rest)) {
		d.fail("record ends outside the batch")
		return nil
	}
	v := d.rest[:n:n]
	d.rest = d.rest[n:]
	return v
}
