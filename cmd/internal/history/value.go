package history

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// MaxValue is the largest encoded value in bytes: what a record may take, with
// room for its key and timestamp.
const MaxValue = 1<<20 - 1024

// ErrValue tells of bytes that [Value.Encode] has not written, or that were
// damaged.
var ErrValue = errors.New("history: not a value of a workload")

// ValueID names one record of a history.
type ValueID struct {
	// Txn is the transaction's, or plain stream's, number within the history,
	// from 1; see [Txn.Number].
	Txn uint64 `json:"x"`
	// Index counts the records of the transaction over all partitions, from 0,
	// in the order in which they were sent.
	Index uint32 `json:"n,omitempty"`
}

// Source is where the input of a record was read: it was made from the record at
// Offset in the partition of that index of the flow's input topic.
type Source struct {
	// Known is false for a record that was not made from another.
	Known bool `json:"k,omitempty"`
	// Partition index.
	Partition int32 `json:"p,omitempty"`
	// Offset in it.
	Offset int64 `json:"o,omitempty"`
}

// Value is what a workload writes into one record. No two records of a history
// have the same ID.
type Value struct {
	ValueID
	// Client wrote it.
	Client uint32 `json:"c,omitempty"`
	// Partition is the index of the partition that it was sent to.
	Partition int32 `json:"p,omitempty"`
	// Amount of a transfer; those of one transaction add up to 0.
	Amount int64 `json:"a,omitempty"`
	// Source of the record in a flow.
	Source Source `json:"s,omitzero"`
}

// Key is the key of the record in a topic with so many of them.
func (v Value) Key(keys int) []byte {
	return fmt.Appendf(nil, "key%d", (v.Txn*31+uint64(v.Index))%uint64(keys))
}

const valueVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode returns the value's bytes: about 10, and at least size (at most
// [MaxValue]) with a pad that is different in every value and does not compress.
func (v Value) Encode(size int) []byte {
	const longest = 64
	b := make([]byte, 0, max(longest, size))
	b = append(b, 'h', valueVersion)
	b = binary.AppendUvarint(b, v.Txn)
	b = binary.AppendUvarint(b, uint64(v.Index))
	b = binary.AppendUvarint(b, uint64(v.Client))
	b = binary.AppendVarint(b, int64(v.Partition))
	b = binary.AppendVarint(b, v.Amount)
	if v.Source.Known {
		b = append(b, 1)
		b = binary.AppendVarint(b, int64(v.Source.Partition))
		b = binary.AppendVarint(b, v.Source.Offset)
	} else {
		b = append(b, 0)
	}
	pad := v.pad()
	for len(b) < min(size, MaxValue)-crc32.Size {
		b = append(b, pad.next())
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// DecodeValue reads the bytes of a record; every byte of them is checked.
// Errors: ErrValue.
func DecodeValue(b []byte) (Value, error) {
	if len(b) < 2+crc32.Size || len(b) > MaxValue || b[0] != 'h' || b[1] != valueVersion {
		return Value{}, fmt.Errorf("%w: %d bytes", ErrValue, len(b))
	}
	body := b[:len(b)-crc32.Size]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[len(body):]) {
		return Value{}, fmt.Errorf("%w: checksum", ErrValue)
	}
	r := valueReader{rest: body[2:]}
	v := Value{
		ValueID:   ValueID{Txn: r.uvarint(math.MaxUint64), Index: uint32(r.uvarint(math.MaxUint32))},
		Client:    uint32(r.uvarint(math.MaxUint32)),
		Partition: r.index(),
		Amount:    r.varint(),
	}
	if r.uvarint(1) == 1 {
		v.Source = Source{Known: true, Partition: r.index(), Offset: r.varint()}
	}
	pad := v.pad()
	for _, c := range r.rest {
		r.bad = r.bad || c != pad.next()
	}
	if r.bad {
		return Value{}, fmt.Errorf("%w: fields", ErrValue)
	}
	return v, nil
}

// valueReader reads varints; the first failure sticks.
type valueReader struct {
	rest []byte
	bad  bool
}

func (r *valueReader) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > limit {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *valueReader) varint() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *valueReader) index() int32 {
	v := r.varint()
	if v < math.MinInt32 || v > math.MaxInt32 {
		r.bad = true
	}
	return int32(v)
}

// padding is a generator of bytes; one value's differ from another's.
type padding uint64

func (v Value) pad() padding {
	return padding(v.Txn*0x9e3779b97f4a7c15 ^ uint64(v.Index)<<32 ^ uint64(v.Client) | 1)
}

// next is one step of xorshift64.
func (p *padding) next() byte {
	x := uint64(*p)
	x ^= x << 13
	x ^= x >> 7
	x ^= x << 17
	*p = padding(x)
	return byte(x >> 56)
}
