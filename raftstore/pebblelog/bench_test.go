package pebblelog_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/oncelog/oncelog/raftstore/pebblelog"
)

// benchStore is a store as a partition node has it, on the real disk, with a group.
func benchStore(b *testing.B) *pebblelog.Store {
	b.Helper()
	s, err := pebblelog.Open(pebblelog.Config{Dir: b.TempDir(), SeparateValuesFrom: 512})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	batch := s.NewBatch()
	batch.SetMembers(1, &raftpb.ConfState{Voters: []uint64{1}})
	if err := s.Commit(batch, true); err != nil {
		b.Fatal(err)
	}
	return s
}

func appendEntry(b *testing.B, s *pebblelog.Store, index uint64, data []byte) {
	batch := s.NewBatch()
	batch.Append(1, []*raftpb.Entry{{Term: new(uint64(1)), Index: &index, Data: data}}, index-1)
	if err := s.Commit(batch, true); err != nil {
		b.Fatal(err)
	}
}

func randomBytes(n int) []byte {
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	return data
}

// BenchmarkAppend is one entry, synced, and its flush later. Beside time and
// allocations it tells how many bytes went to the write-ahead log and to tables for
// each byte of the entry.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{256, 10_000, 192 << 10, 600_000} {
		b.Run(fmt.Sprintf("entry=%d", size), func(b *testing.B) {
			s := benchStore(b)
			data := randomBytes(size)
			walBefore, tablesBefore, err := s.Written()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.SetBytes(int64(size))
			index := uint64(0)
			for b.Loop() {
				index++
				appendEntry(b, s, index, data)
			}
			wal, tables, err := s.Written()
			if err != nil {
				b.Fatal(err)
			}
			payload := float64(index) * float64(size)
			b.ReportMetric(float64(wal-walBefore)/payload, "wal-B/B")
			b.ReportMetric(float64(tables-tablesBefore)/payload, "table-B/B")
		})
	}
}

// BenchmarkReadEntry is a reader that is behind what raftstore keeps in memory: an
// entry of a flushed table, in the cache of the file system or of Pebble.
func BenchmarkReadEntry(b *testing.B) {
	for _, size := range []int{10_000, 192 << 10} {
		b.Run(fmt.Sprintf("entry=%d", size), func(b *testing.B) {
			s := benchStore(b)
			data := randomBytes(size)
			const entries = 64
			for i := range uint64(entries) {
				appendEntry(b, s, i+1, data)
			}
			if _, _, err := s.Written(); err != nil { // flushes
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.SetBytes(int64(size))
			index := uint64(0)
			for b.Loop() {
				index = index%entries + 1
				got, err := s.ReadEntry(1, index, 0, -1)
				if err != nil || len(got) != size {
					b.Fatal(len(got), err)
				}
			}
		})
	}
}
