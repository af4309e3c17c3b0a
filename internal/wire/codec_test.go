package wire

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// carriers are the messages that the codec knows.
func carriers() []proto.Message {
	return []proto.Message{&oncelogv1.AppendStreamRequest{}, &oncelogv1.FetchResponse{}, &oncelogv1.ExchangeRequest{}}
}

// random fills in every field that a message has, so that one that is new, and that
// the codec does not know, is not forgotten; of a oneof one field, lists up to three
// elements long, and now and then something empty.
func random(rng *rand.Rand, m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if o := f.ContainingOneof(); o != nil && o.Fields().Get(rng.IntN(o.Fields().Len())) != f || rng.IntN(10) == 0 {
			continue
		}
		switch {
		case f.IsMap():
			panic("no message has a map")
		case f.IsList():
			list := m.Mutable(f).List()
			for range rng.IntN(4) {
				if f.Message() != nil {
					random(rng, list.AppendMutable().Message())
				} else {
					list.Append(randomValue(rng, f))
				}
			}
		case f.Message() != nil:
			random(rng, m.Mutable(f).Message())
		default:
			m.Set(f, randomValue(rng, f))
		}
	}
}

func randomValue(rng *rand.Rand, f protoreflect.FieldDescriptor) protoreflect.Value {
	switch f.Kind() { //nolint:exhaustive // the kinds that messages have
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(rng.IntN(2) == 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(rng.IntN(3)))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(rng.Uint32()))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(rng.Uint32())
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(rng.Uint64()))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(rng.Uint64() >> rng.IntN(64))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(string(bytes.Repeat([]byte("é"), rng.IntN(20))))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(noise(rng, []int{0, 1, attachFrom - 1, attachFrom, 3000, 40_000}[rng.IntN(6)]))
	}
	panic("no message has a " + f.Kind().String())
}

func noise(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// pieces cuts bytes as a network does.
func pieces(rng *rand.Rand, b []byte) (out mem.BufferSlice) {
	for len(b) > 0 {
		n := min(len(b), 1+rng.IntN(16<<10))
		if rng.IntN(8) == 0 {
			n = min(n, 3)
		}
		out = append(out, mem.SliceBuffer(b[:n]))
		b = b[n:]
	}
	return out
}

// What the codec writes, package proto reads, and the other way round.
func TestCodecIsProto(t *testing.T) {
	t.Parallel()
	attached := 0
	for _, kind := range carriers() {
		for seed := range uint64(80) {
			rng := rand.New(rand.NewPCG(1, seed))
			m := kind.ProtoReflect().New().Interface()
			random(rng, m.ProtoReflect())

			data, err := Codec{}.Marshal(m)
			if err != nil {
				t.Fatalf("%T, seed %d: %v", m, seed, err)
			}
			attached += len(data) / 2
			got := kind.ProtoReflect().New().Interface()
			if err := proto.Unmarshal(data.Materialize(), got); err != nil {
				t.Fatalf("%T, seed %d: %v", m, seed, err)
			}
			if !proto.Equal(m, got) {
				t.Fatalf("%T, seed %d: package proto reads something else", m, seed)
			}

			plain, err := proto.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			got = kind.ProtoReflect().New().Interface()
			if err := (Codec{}).Unmarshal(pieces(rng, plain), got); err != nil {
				t.Fatalf("%T, seed %d: %v", m, seed, err)
			}
			if !proto.Equal(m, got) {
				t.Fatalf("%T, seed %d: the codec reads something else", m, seed)
			}
		}
	}
	if attached == 0 {
		t.Error("nothing was ever attached")
	}
}

// The pieces go back to gRPC's pool when Unmarshal returns: nothing of them may be
// held. Of what is sent, large payloads are the sender's own bytes.
func TestCodecCopies(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(2, 2))
	batch := noise(rng, 50_000)
	m := &oncelogv1.AppendStreamRequest{Requests: []*oncelogv1.AppendRequest{{
		RequestId: 7, ProducerToken: []byte("token"),
		Partitions: []*oncelogv1.PartitionAppend{
			{BaseSequence: 1, Payload: &oncelogv1.PartitionAppend_Batch{Batch: batch}},
			{BaseSequence: 2, Payload: &oncelogv1.PartitionAppend_Batch{Batch: batch[:5000]}},
		},
	}}}
	data, err := Codec{}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(data, func(p mem.Buffer) bool {
		return unsafe.SliceData(p.ReadOnlyData()) == unsafe.SliceData(batch)
	}) {
		t.Error("a large batch was copied")
	}

	arrived := pieces(rng, data.Materialize())
	got := &oncelogv1.AppendStreamRequest{}
	if err := (Codec{}).Unmarshal(arrived, got); err != nil {
		t.Fatal(err)
	}
	for _, p := range arrived {
		clear(p.ReadOnlyData())
	}
	if !proto.Equal(m, got) {
		t.Error("what was decoded is still in the pieces")
	}
}

// Split only points into what it is given, and with what it says of a message the
// message can be put together again.
func TestSplitAliases(t *testing.T) {
	t.Parallel()
	payload := []byte("payload")
	b := protowire.AppendTag(nil, 2, protowire.BytesType)
	b = protowire.AppendBytes(b, payload)
	cut, err := Split(b, &Shape{Payload: 2})
	if err != nil {
		t.Fatal(err)
	}
	if len(cut.Payloads) != 1 || !bytes.Equal(cut.Payloads[0], payload) || &cut.Payloads[0][0] != &b[2] {
		t.Errorf("payloads %q", cut.Payloads)
	}
	if !bytes.Equal(cut.Rest, []byte{b[0], 0}) {
		t.Errorf("rest %x", cut.Rest)
	}
}

// FuzzUnmarshal holds the codec to package proto for whatever may come.
func FuzzUnmarshal(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 3))
	for i, kind := range carriers() {
		for range 5 {
			m := kind.ProtoReflect().New()
			random(rng, m)
			b, err := proto.Marshal(m.Interface())
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), b, uint64(i))
			if len(b) > 0 {
				f.Add(uint8(i), b[:rng.IntN(len(b))], uint64(i)) // cut off
				damaged := bytes.Clone(b)
				damaged[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
				f.Add(uint8(i), damaged, uint64(i))
			}
		}
	}
	// A oneof twice, each way round: the last one counts.
	for _, order := range [][]protowire.Number{{3, 4}, {4, 3}, {4, 4}} {
		var p []byte
		for i, num := range order {
			p = protowire.AppendBytes(protowire.AppendTag(p, num, protowire.BytesType), bytes.Repeat([]byte{0}, 2000*(i+1)*int(num-3)))
		}
		r := protowire.AppendBytes(protowire.AppendTag(nil, partitionsField, protowire.BytesType), p)
		f.Add(uint8(0), protowire.AppendBytes(protowire.AppendTag(nil, requestsField, protowire.BytesType), r), uint64(1))
	}
	f.Fuzz(func(t *testing.T, i uint8, b []byte, seed uint64) {
		kind := carriers()[int(i)%len(carriers())]
		s := []*Shape{appendShape, fetchShape, exchangeShape}[int(i)%len(carriers())]
		want := kind.ProtoReflect().New().Interface()
		wantErr := proto.Unmarshal(b, want)
		// Also below the size from which the codec looks at a message at all.
		data := pieces(rand.New(rand.NewPCG(4, seed)), b)
		got := kind.ProtoReflect().New().Interface()
		var ok bool
		switch m := got.(type) {
		case *oncelogv1.AppendStreamRequest:
			ok = unmarshal(data, m, s, fillAppends)
		case *oncelogv1.FetchResponse:
			ok = unmarshal(data, m, s, fillFetched)
		case *oncelogv1.ExchangeRequest:
			ok = unmarshal(data, m, s, fillExchange)
		}
		if ok && (wantErr != nil || !proto.Equal(want, got)) {
			t.Fatalf("package proto says %v and %v, the codec %v", wantErr, want, got)
		}
		got = kind.ProtoReflect().New().Interface()
		if err := (Codec{}).Unmarshal(data, got); (err == nil) != (wantErr == nil) {
			t.Fatalf("package proto says %v, the codec %v", wantErr, err)
		}
	})
}
