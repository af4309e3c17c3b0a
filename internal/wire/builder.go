package wire

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// attachFrom is the size from which a payload is sent from where it lies. A smaller
// one is cheaper to copy than to handle by itself.
const attachFrom = 1 << 10

// Builder makes an encoded message of small parts, which it copies, and payloads,
// which it does not. The zero value is an empty one.
type Builder struct {
	parts mem.BufferSlice
	// buf has what was copied; what lies below done is in parts. A part may be of
	// an array that buf has outgrown: its bytes do not change any more.
	buf  []byte
	done int
	size int
}

// Proto appends the fields of a message.
func (b *Builder) Proto(m proto.Message) error {
	n := len(b.buf)
	var err error
	if b.buf, err = (proto.MarshalOptions{}).MarshalAppend(b.buf, m); err != nil {
		b.buf = b.buf[:n]
	}
	b.size += len(b.buf) - n
	return err
}

// Head begins a field of so many bytes.
func (b *Builder) Head(num protowire.Number, size int) {
	n := len(b.buf)
	b.buf = protowire.AppendVarint(protowire.AppendTag(b.buf, num, protowire.BytesType), uint64(size))
	b.size += len(b.buf) - n
}

// Payload appends a bytes field. The payload must not change from now on, not even
// when the message was sent.
func (b *Builder) Payload(num protowire.Number, payload []byte) {
	b.Head(num, len(payload))
	b.size += len(payload)
	if len(payload) < attachFrom {
		b.buf = append(b.buf, payload...)
		return
	}
	b.cut()
	b.parts = append(b.parts, mem.SliceBuffer(payload))
}

// cut ends the part that is being written.
func (b *Builder) cut() {
	if len(b.buf) > b.done {
		b.parts = append(b.parts, mem.SliceBuffer(b.buf[b.done:len(b.buf):len(b.buf)]))
		b.done = len(b.buf)
	}
}

// Len returns how many bytes there are so far.
func (b *Builder) Len() int { return b.size }

// Message returns the message.
func (b *Builder) Message() mem.BufferSlice {
	b.cut()
	return b.parts
}

// FieldSize is the size of a field of so many bytes, with its number and length.
func FieldSize(num protowire.Number, size int) int {
	return protowire.SizeTag(num) + protowire.SizeBytes(size)
}
