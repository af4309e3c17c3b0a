package pstate

import "testing"

func benchState(b *testing.B, partitions uint64) *State {
	b.Helper()
	s := New(Config{})
	c := SyncPartitions{Version: 1, Full: true}
	for id := range partitions {
		c.Add = append(c.Add, PartitionInfo{ID: id})
	}
	s.SyncPartitions(1, c)
	return s
}

// One batch of a transaction that goes on.
func BenchmarkAppend(b *testing.B) {
	s := benchState(b, 100)
	dst := make([]BatchResult, 0, 1)
	batches := []Batch{{Partition: 5, Count: 10, Size: 1000}}
	b.ReportAllocs()
	for i := range uint64(b.N) {
		batches[0].BaseSequence = i * 10
		dst = s.Append(i+2, Append{At: 1, Ref: t1, Batches: batches}, dst[:0])
		if dst[0].Code != CodeAppended {
			b.Fatal(dst[0].Code)
		}
	}
}

// A whole transaction over ten partitions: append and marker.
func BenchmarkTransaction(b *testing.B) {
	s := benchState(b, 100)
	var dst []BatchResult
	batches := make([]Batch, 10)
	progress := make([]Progress, 10)
	for i := range batches {
		batches[i] = Batch{Partition: uint64(i * 7), Count: 10, Size: 1000}
		progress[i] = Progress{uint64(i * 7), 10}
	}
	b.ReportAllocs()
	for i := range uint64(b.N) {
		ref := TxnRef{1, 0, i + 1}
		dst = s.Append(2*i+2, Append{At: 1, Ref: ref, Batches: batches}, dst[:0])
		m := commit(ref, progress...)
		m.CompleteBelow = Point{0, i}
		res := s.Markers(2*i+3, Markers{At: 1, List: []Marker{m}})
		if res[0].Code != MarkerApplied {
			b.Fatal(res[0])
		}
	}
}

// What a fetch asks for every batch, in a partition with many aborted
// transactions.
func BenchmarkCommittedPrefix(b *testing.B) {
	s := benchState(b, 1)
	const txns = 100_000
	for i := range uint64(txns) {
		ref := TxnRef{1 + i%50, 0, i + 1}
		s.Append(2*i+2, Append{Ref: ref, Batches: []Batch{{Count: 1}}}, nil)
		m := abort(ref, ReasonClient)
		m.CompleteBelow = ref.Point()
		s.Markers(2*i+3, Markers{List: []Marker{m}})
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range uint64(b.N) {
		n := i * 7919 % txns
		if s.CommittedPrefix(0, TxnRef{1 + n%50, 0, n + 1}, n, 0, 1) != 0 {
			b.Fatal(n)
		}
	}
}

func BenchmarkDecodeAppends(b *testing.B) {
	batches := make([]Batch, 10)
	payloads := make([][]byte, 10)
	for i := range payloads {
		payloads[i] = make([]byte, 10_000)
	}
	entry, err := EncodeAppends(nil, []Append{{1, t1, batches}}, payloads)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := DecodeAppends(entry); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEncodeAppends is the one copy that a leader makes of a batch itself.
func BenchmarkEncodeAppends(b *testing.B) {
	batches := make([]Batch, 10)
	payloads := make([][]byte, 10)
	for i := range payloads {
		payloads[i] = make([]byte, 10_000)
	}
	var entry []byte
	b.ReportAllocs()
	b.SetBytes(100_000)
	for b.Loop() {
		var err error
		if entry, err = EncodeAppends(entry[:0], []Append{{1, t1, batches}}, payloads); err != nil {
			b.Fatal(err)
		}
	}
}
