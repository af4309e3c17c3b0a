package rafttransport

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"unsafe"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/wire"
	"github.com/oncelog/oncelog/raftstore"
)

func noise(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// full is a message with every field that there is: one that a newer raft has, and
// that appendMessage does not know, is missing at the other end.
func full(rng *rand.Rand, entries ...int) *raftpb.Message {
	m := &raftpb.Message{}
	r := m.ProtoReflect()
	fields := r.Descriptor().Fields()
	for i := range fields.Len() {
		switch f := fields.Get(i); {
		case f.Name() == "entries":
		case f.IsList():
			r.Mutable(f).List().AppendMutable()
		case f.Message() != nil:
			r.Mutable(f)
		case f.Name() == "context":
			m.Context = noise(rng, 20)
		default:
			r.Set(f, f.Default())
		}
	}
	for i, n := range entries {
		e := &raftpb.Entry{Term: new(uint64(i)), Index: new(rng.Uint64()), Type: raftpb.EntryConfChangeV2.Enum(), Data: noise(rng, n)}
		if n < 0 {
			e.Data = nil
		}
		m.Entries = append(m.Entries, e)
	}
	return m
}

// A frame is an ExchangeRequest, and what arrives of it is what was sent.
func TestFrameIsExchangeRequest(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 1))
	unknown := full(rng, 5000)
	unknown.Entries[0].ProtoReflect().SetUnknown([]byte{0x78, 1}) // a field 15 of a newer version
	f := &frame{header: &oncelogv1.ExchangeRequest{ClusterId: "c", FromNode: 1, ToNode: 2, FromInstance: "a", ToInstance: "b"}}
	var sent []raftstore.Message
	for i, m := range []*raftpb.Message{
		full(rng), full(rng, 10), full(rng, 0), full(rng, 20_000, 0, 3, 100_000), unknown, {Type: raftpb.MsgHeartbeat.Enum()},
	} {
		sent = append(sent, raftstore.Message{Group: raftstore.GroupID(i), Raft: m})
		f.add(sent[i], proto.Size(m))
	}
	data, err := wire.Codec{}.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	plain, got := &oncelogv1.ExchangeRequest{}, &oncelogv1.ExchangeRequest{}
	if err := proto.Unmarshal(data.Materialize(), plain); err != nil {
		t.Fatal(err)
	}
	if err := (wire.Codec{}).Unmarshal(data, got); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(plain, got) {
		t.Error("the codec reads something else than package proto")
	}
	if len(got.GetMessages()) != len(sent) {
		t.Fatalf("%d messages, want %d", len(got.GetMessages()), len(sent))
	}
	for i, rm := range got.GetMessages() {
		m, err := decodeMessage(rm.GetMessage())
		if err != nil || rm.GetGroupId() != uint64(sent[i].Group) || !proto.Equal(m, sent[i].Raft) {
			t.Errorf("message %d: %v, %v, want %v", i, m, err, sent[i].Raft)
		}
		whole := &raftpb.Message{}
		if err := proto.Unmarshal(rm.GetMessage(), whole); err != nil || !proto.Equal(whole, m) {
			t.Errorf("message %d: package proto reads %v, %v", i, whole, err)
		}
	}
	got.Messages = nil
	if !proto.Equal(got, f.header) {
		t.Errorf("header %v, want %v", got, f.header)
	}
}

// An entry is sent to each peer from where it lies; at the other end it is copied
// once, out of pieces that are used again.
func TestEntryIsNotCopied(t *testing.T) {
	t.Parallel()
	m := full(rand.New(rand.NewPCG(2, 2)), 50_000)
	f := &frame{header: &oncelogv1.ExchangeRequest{}}
	f.add(raftstore.Message{Group: 1, Raft: m}, proto.Size(m))
	data, err := f.MarshalWire()
	if err != nil {
		t.Fatal(err)
	}
	at := unsafe.SliceData(m.Entries[0].GetData())
	attached := false
	for _, part := range data {
		attached = attached || unsafe.SliceData(part.ReadOnlyData()) == at
	}
	if !attached {
		t.Error("the entry was copied to be sent")
	}

	pieces := httpFrames(data.Materialize())
	got := &oncelogv1.ExchangeRequest{}
	if err := (wire.Codec{}).Unmarshal(pieces, got); err != nil {
		t.Fatal(err)
	}
	for _, p := range pieces {
		clear(p.ReadOnlyData())
	}
	raw := got.GetMessages()[0].GetMessage()
	back, err := decodeMessage(raw)
	if err != nil || !proto.Equal(back, m) {
		t.Fatalf("%v, %v", back.GetType(), err)
	}
	if entry := back.Entries[0].GetData(); &entry[0] != &raw[bytes.Index(raw, entry)] {
		t.Error("the entry was copied out of its message")
	}
}

// httpFrames cuts a message into pieces as HTTP/2 does.
func httpFrames(b []byte) (out mem.BufferSlice) {
	const frame = 16 << 10
	for ; len(b) > frame; b = b[frame:] {
		out = append(out, mem.SliceBuffer(b[:frame]))
	}
	return append(out, mem.SliceBuffer(b))
}

// BenchmarkFrame is what a message of entries costs the leader for one follower, and
// that follower, without the network. The payload is counted once, so
// B/op divided by it is how often it was allocated.
func BenchmarkFrame(b *testing.B) {
	for _, size := range []int{256, 10_000, 300_000} {
		m := full(rand.New(rand.NewPCG(3, 3)), size)
		f := &frame{header: &oncelogv1.ExchangeRequest{ClusterId: "cluster", FromNode: 1, ToNode: 2}}
		f.add(raftstore.Message{Group: 1, Raft: m}, proto.Size(m))
		data, err := wire.Codec{}.Marshal(f)
		if err != nil {
			b.Fatal(err)
		}
		arrived := httpFrames(data.Materialize())
		b.Run(fmt.Sprintf("send/entry=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				data, err := wire.Codec{}.Marshal(f)
				if err != nil {
					b.Fatal(err)
				}
				data.Free()
			}
		})
		b.Run(fmt.Sprintf("receive/entry=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				got := &oncelogv1.ExchangeRequest{}
				if err := (wire.Codec{}).Unmarshal(arrived, got); err != nil {
					b.Fatal(err)
				}
				if _, err := decodeMessage(got.GetMessages()[0].GetMessage()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
