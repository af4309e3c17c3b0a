// Package wire is gRPC's codec for messages that carry record batches. On the wire
// is what every other codec of Protocol Buffers writes and reads. What differs is
// how often a batch is copied: package proto copies it into the message that is
// sent, and of a received one twice, first together and then out of it. Here it is
// sent from where it lies, and copied once, from the pieces that came to memory of
// its own.
//
// All other messages, small ones, and what does not look as it should are left to
// gRPC's own codec.
package wire

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec for the rest
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// Codec is the codec: for clients with grpc.ForceCodecV2, for servers with
// grpc.ForceServerCodecV2. Payloads of what it sends must not change afterwards;
// those of what it received are the receiver's.
type Codec struct{}

var _ encoding.CodecV2 = Codec{}

// Marshaler is a message that encodes itself.
type Marshaler interface {
	MarshalWire() (mem.BufferSlice, error)
}

const name = "proto"

var standard = encoding.GetCodecV2(name)

// Name implements [encoding.CodecV2]. It is that of the encoding, which others share.
func (Codec) Name() string { return name }

// Marshal implements [encoding.CodecV2].
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	switch m := v.(type) {
	case Marshaler:
		return m.MarshalWire()
	case *oncelogv1.AppendStreamRequest:
		if data, ok := marshalAppends(m); ok {
			return data, nil
		}
	case *oncelogv1.FetchResponse:
		if data, ok := marshalFetched(m); ok {
			return data, nil
		}
	}
	return standard.Marshal(v)
}

// Unmarshal implements [encoding.CodecV2].
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	if data.Len() >= attachFrom {
		switch m := v.(type) {
		case *oncelogv1.AppendStreamRequest:
			if unmarshal(data, m, appendShape, fillAppends) {
				return nil
			}
		case *oncelogv1.FetchResponse:
			if unmarshal(data, m, fetchShape, fillFetched) {
				return nil
			}
		case *oncelogv1.ExchangeRequest:
			if unmarshal(data, m, exchangeShape, fillExchange) {
				return nil
			}
		}
	}
	return standard.Unmarshal(data, v)
}

// unmarshal decodes what is not payload as package proto does, and puts the payloads
// into it.
func unmarshal[M proto.Message](data mem.BufferSlice, m M, s *Shape, fill func(M, *slots)) bool {
	c, err := split(data, s, false)
	if err != nil || proto.Unmarshal(c.Rest, m) != nil {
		return false
	}
	rest := slots{left: c.Payloads}
	fill(m, &rest)
	return !rest.short && len(rest.left) == 0
}

// slots hands payloads out in their order.
type slots struct {
	left  [][]byte
	short bool
}

// next returns the payload of the next message that may have one; nil: it has none.
func (s *slots) next() (payload []byte) {
	if len(s.left) == 0 {
		s.short = true
		return nil
	}
	payload, s.left = s.left[0], s.left[1:]
	return payload
}
