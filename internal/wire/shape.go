package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// Shape says where the payloads of a message type are: a bytes field of its own,
// or one below the messages of a repeated field. A payload is what is large:
// encoded batches, and entries of a log.
type Shape struct {
	// Nested is the number of the repeated message field that Of describes, 0: none.
	Nested protowire.Number
	Of     *Shape
	// Payload is the number of the bytes field, 0: none.
	Payload protowire.Number
}

// errOdd says that a message is not what its sender should have written, or not
// simply that. Whoever gets it leaves the message to package proto, which says
// what is wrong with it, if anything is.
var errOdd = errors.New("wire: a message of another shape")

// Cut is a message taken apart.
type Cut struct {
	// Rest is the message as encoded, with every payload empty.
	Rest []byte
	// Payloads has one element for each message in which a payload may be, in
	// their order; nil: it has none.
	Payloads [][]byte
}

// Split takes an encoded message apart. The payloads are parts of b.
func Split(b []byte, s *Shape) (Cut, error) {
	return split(mem.BufferSlice{mem.SliceBuffer(b)}, s, true)
}

// split takes a message apart that arrived in pieces. Unless it is to alias, each
// payload is copied once, from the pieces to memory of its own.
func split(data mem.BufferSlice, s *Shape, alias bool) (Cut, error) {
	r := data.Reader()
	defer r.Close()
	c := cutter{r: r, alias: alias}
	rest, err := c.message(nil, s, r.Remaining())
	return Cut{Rest: rest, Payloads: c.payloads}, err
}

type cutter struct {
	r        *mem.Reader
	alias    bool
	payloads [][]byte
	pieces   [][]byte // scratch space
}

// message appends to rest what a message of n bytes has besides payloads.
func (c *cutter) message(rest []byte, s *Shape, n int) ([]byte, error) {
	slot := -1
	if s.Payload != 0 {
		slot = len(c.payloads)
		c.payloads = append(c.payloads, nil)
	}
	end := c.r.Remaining() - n // what is behind the message
	for c.r.Remaining() > end {
		tag, err := c.uvarint(end)
		if err != nil {
			return nil, err
		}
		num, typ := protowire.DecodeTag(tag)
		rest = binary.AppendUvarint(rest, tag)
		switch {
		case num < protowire.MinValidNumber:
			return nil, errOdd
		case typ == protowire.BytesType && num == s.Payload:
			size, err := c.length(end)
			if err != nil {
				return nil, err
			}
			if c.payloads[slot], err = c.take(size); err != nil {
				return nil, err
			}
			rest = append(rest, 0)
		case typ == protowire.BytesType && num == s.Nested:
			size, err := c.length(end)
			if err != nil {
				return nil, err
			}
			start := len(rest)
			if rest, err = c.message(rest, s.Of, size); err != nil {
				return nil, err
			}
			var prefix [binary.MaxVarintLen64]byte
			rest = slices.Insert(rest, start, prefix[:binary.PutUvarint(prefix[:], uint64(len(rest)-start))]...)
		default:
			if rest, err = c.field(rest, typ, end); err != nil {
				return nil, err
			}
		}
	}
	return rest, nil
}

// field appends a field's value as it is.
func (c *cutter) field(rest []byte, typ protowire.Type, end int) ([]byte, error) {
	var size int
	switch typ {
	case protowire.VarintType:
		v, err := c.uvarint(end)
		return binary.AppendUvarint(rest, v), err
	case protowire.Fixed32Type:
		size = 4
	case protowire.Fixed64Type:
		size = 8
	case protowire.BytesType:
		var err error
		if size, err = c.length(end); err != nil {
			return nil, err
		}
		rest = binary.AppendUvarint(rest, uint64(size))
	default: // groups: nobody has them
		return nil, errOdd
	}
	if size > c.r.Remaining()-end {
		return nil, errOdd
	}
	rest = slices.Grow(rest, size)
	value := rest[len(rest) : len(rest)+size]
	if _, err := io.ReadFull(c.r, value); err != nil {
		return nil, errOdd
	}
	return rest[:len(rest)+size], nil
}

// uvarint reads a number that ends before the last end bytes of the message.
func (c *cutter) uvarint(end int) (v uint64, err error) {
	for shift := 0; shift < 64; shift += 7 {
		b, err := c.r.ReadByte()
		if err != nil || c.r.Remaining() < end || shift == 63 && b > 1 {
			return 0, errOdd
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, nil
		}
	}
	return 0, errOdd
}

// length reads the length of something that is there in full.
func (c *cutter) length(end int) (int, error) {
	n, err := c.uvarint(end)
	if err != nil || n > math.MaxInt32 || int(n) > c.r.Remaining()-end {
		return 0, errOdd
	}
	return int(n), nil
}

// take reads a payload.
func (c *cutter) take(n int) (payload []byte, err error) {
	if c.pieces, err = c.r.Peek(n, c.pieces[:0]); err != nil {
		return nil, errOdd
	}
	if c.alias && len(c.pieces) == 1 {
		payload = c.pieces[0][:n:n]
	} else {
		payload = bytes.Join(c.pieces, nil) // does not clear memory that it overwrites
	}
	clear(c.pieces)
	if _, err := c.r.Discard(n); err != nil {
		return nil, errOdd
	}
	return payload, nil
}
