package wire

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// frames of appends: one small batch, and what a busy producer sends.
func benchmarkFrame(batches, size int) *oncelogv1.AppendStreamRequest {
	rng := rand.New(rand.NewPCG(1, 1))
	m := &oncelogv1.AppendStreamRequest{}
	for i := range batches {
		m.Requests = append(m.Requests, &oncelogv1.AppendRequest{
			RequestId: uint64(i), Txn: &oncelogv1.TxnRef{ProducerId: 1, Epoch: 1, TxnNumber: 1}, ProducerToken: noise(rng, 40),
			Partitions: []*oncelogv1.PartitionAppend{{
				Partition: &oncelogv1.PartitionRef{PartitionId: 1}, BaseSequence: uint64(i),
				Payload: &oncelogv1.PartitionAppend_Batch{Batch: noise(rng, size)},
			}},
		})
	}
	return m
}

// BenchmarkAppendFrame is what a frame costs between the batches of a client and
// the batches of a node, without the network, beside gRPC's own codec.
func BenchmarkAppendFrame(b *testing.B) {
	for _, codec := range []struct {
		name string
		encoding.CodecV2
	}{{"wire", Codec{}}, {"proto", standard}} {
		for _, size := range []int{256, 10_000, 100_000} {
			m := benchmarkFrame(4, size)
			data, err := codec.Marshal(m)
			if err != nil {
				b.Fatal(err)
			}
			arrived := cutFrames(data.Materialize())
			b.Run(fmt.Sprintf("send/codec=%s/batch=%d", codec.name, size), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(data.Len()))
				for b.Loop() {
					data, err := codec.Marshal(m)
					if err != nil {
						b.Fatal(err)
					}
					data.Free()
				}
			})
			b.Run(fmt.Sprintf("receive/codec=%s/batch=%d", codec.name, size), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(data.Len()))
				for b.Loop() {
					if err := codec.Unmarshal(arrived, &oncelogv1.AppendStreamRequest{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// cutFrames cuts a message into pieces of the size of HTTP/2 frames.
func cutFrames(b []byte) (out mem.BufferSlice) {
	const frame = 16 << 10
	for ; len(b) > frame; b = b[frame:] {
		out = append(out, mem.SliceBuffer(b[:frame]))
	}
	return append(out, mem.SliceBuffer(b))
}

// BenchmarkFetchFrame is what a response with a stored batch costs the node and the
// reader, without the network.
func BenchmarkFetchFrame(b *testing.B) {
	m := &oncelogv1.FetchResponse{NextOffset: 9}
	rng := rand.New(rand.NewPCG(1, 1))
	const size = 100_000
	m.Batches = []*oncelogv1.FetchedBatch{{BaseOffset: 1, VisibleRecords: 8, Batch: noise(rng, size)}}
	for _, codec := range []struct {
		name string
		encoding.CodecV2
	}{{"wire", Codec{}}, {"proto", standard}} {
		data, err := codec.Marshal(m)
		if err != nil {
			b.Fatal(err)
		}
		arrived := cutFrames(data.Materialize())
		b.Run("send/codec="+codec.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(size)
			for b.Loop() {
				data, err := codec.Marshal(m)
				if err != nil {
					b.Fatal(err)
				}
				data.Free()
			}
		})
		b.Run("receive/codec="+codec.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(size)
			for b.Loop() {
				if err := codec.Unmarshal(arrived, &oncelogv1.FetchResponse{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
