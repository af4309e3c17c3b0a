package client

import (
	"context"
	"testing"
)

// The benchmarks measure the client with gRPC, in memory; the servers do next to
// nothing.

// BenchmarkTransaction commits transactions of ten records in four partitions.
func BenchmarkTransaction(b *testing.B) {
	f := newFake(b)
	f.topic("t", 4)
	p := f.producer(f.dial())
	ctx := context.Background()
	value := make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		tx := f.begin(p)
		for i := range 10 {
			if err := tx.Send(ctx, (&Record{Topic: "t", Value: value}).WithPartition(int32(i%4))); err != nil {
				b.Fatal(err)
			}
		}
		if err := tx.Commit(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSend sends records that share batches, and flushes at the end.
func BenchmarkSend(b *testing.B) {
	f := newFake(b)
	f.topic("t", 4)
	p, err := f.dial().IdempotentProducer(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	value := make([]byte, 100)
	b.ReportAllocs()
	b.SetBytes(int64(len(value)))
	for b.Loop() {
		if err := p.Send(ctx, &Record{Topic: "t", Value: value}); err != nil {
			b.Fatal(err)
		}
	}
	if err := p.Flush(ctx); err != nil {
		b.Fatal(err)
	}
	if err := p.Close(); err != nil {
		b.Fatal(err)
	}
}
