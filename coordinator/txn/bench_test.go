package txn

import (
	"runtime"
	"testing"
)

func manyOpen(b *testing.B, n int) (*Machine, Env) {
	b.Helper()
	m := New(DefaultConfig())
	env := Env{Catalog: newWorld()}
	for i := range uint64(n) {
		m.InitProducer(1000, InitProducer{TransactionalID: "id-" + decimal(i), RequestID: RequestID{1}})
		m.Enlist(1000+Millis(i), Enlist{Items: []EnlistItem{{Ref: ref(i+1, 0, 1), Shard: 1 + i%4}}}, env)
	}
	return m, env
}

// One whole transaction over two shards: enlist, commit, two acknowledgements.
func BenchmarkTransaction(b *testing.B) {
	m, env := manyOpen(b, 10_000)
	b.ReportAllocs()
	number := uint64(1)
	for b.Loop() {
		number++
		r := ref(77, 0, number)
		m.Enlist(1000, Enlist{Items: []EnlistItem{{Ref: r, Shard: 1}, {Ref: r, Shard: 2}}}, env)
		m.EndTransaction(1000, EndTransaction{Ref: r, Commit: true, Participants: []Participant{at(1, 9), at(2, 9)}}, env)
		m.MarkersApplied(1000, MarkersApplied{Items: []MarkerAck{{r, 1, MarkerApplied}, {r, 2, MarkerApplied}}})
	}
}

func BenchmarkCommitDecodeAndApply(b *testing.B) {
	m, env := manyOpen(b, 10_000)
	b.ReportAllocs()
	number := uint64(1)
	for b.Loop() {
		number++
		entry := AppendCommand(nil, 1000, EndTransaction{Ref: ref(77, 0, number), Commit: true, Participants: []Participant{at(1, 9), at(2, 9)}})
		at, c, err := DecodeCommand(entry)
		if err != nil {
			b.Fatal(err)
		}
		m.Apply(at, c, env)
		m.MarkersApplied(1000, MarkersApplied{Items: []MarkerAck{{ref(77, 0, number), 1, MarkerApplied}, {ref(77, 0, number), 2, MarkerApplied}}})
	}
}

func BenchmarkPeekEnlist(b *testing.B) {
	m, env := manyOpen(b, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		m.PeekEnlist(EnlistItem{Ref: ref(50_000, 0, 1), Shard: 4}, env)
	}
}

// Asking what is owed, with 100,000 transactions open and nothing due.
func BenchmarkWorkNothingDue(b *testing.B) {
	m, _ := manyOpen(b, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		m.Work(1000, 1000)
	}
}

// The same with everything due, taking 1,000.
func BenchmarkWorkAllDue(b *testing.B) {
	m, _ := manyOpen(b, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		m.Work(1<<40, 1000)
	}
}

// The first 1,000 of 100,000 markers owed.
func BenchmarkOwed(b *testing.B) {
	m, env := manyOpen(b, 100_000)
	for i := range uint64(100_000) {
		m.EndTransaction(2000, EndTransaction{Ref: ref(i+1, 0, 1), Participants: []Participant{at(1, 1)}}, env)
	}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for range m.Owed(1) {
			if n++; n == 1000 {
				break
			}
		}
	}
}

func BenchmarkSnapshot(b *testing.B) {
	m, _ := manyOpen(b, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		b.SetBytes(int64(len(m.Snapshot())))
	}
}

func BenchmarkRestore(b *testing.B) {
	m, _ := manyOpen(b, 100_000)
	snapshot := m.Snapshot()
	b.ReportAllocs()
	b.SetBytes(int64(len(snapshot)))
	for b.Loop() {
		if err := New(DefaultConfig()).Restore(snapshot); err != nil {
			b.Fatal(err)
		}
	}
}

// Reports the memory of an idle id with one request and two outcomes.
func BenchmarkMemoryOfIdleIDs(b *testing.B) {
	var before, after runtime.MemStats
	const n = 200_000
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		m := New(DefaultConfig())
		for i := range uint64(n) {
			m.InitProducer(1000, InitProducer{
				TransactionalID: "some-service-" + decimal(i), RequestID: RequestID{1}, Owner: "User:svc", ClientHost: "10.0.0.1",
			})
			m.EndTransaction(1000, EndTransaction{Ref: ref(i+1, 0, 1), Commit: true}, Env{})
			m.EndTransaction(1000, EndTransaction{Ref: ref(i+1, 0, 2), Commit: true}, Env{})
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/id")
		runtime.KeepAlive(m)
	}
}
