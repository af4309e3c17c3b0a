package txn

import (
	"slices"
	"testing"
)

func TestOpenAges(t *testing.T) {
	t.Parallel()
	m := New(DefaultConfig())
	const now = 1_000_000
	for i, age := range []Millis{0, 999, 1000, 9_999, 10_000, 50_000} {
		id := string(rune('a' + i))
		p := m.InitProducer(now, InitProducer{TransactionalID: id, Timeout: 60_000, RequestID: RequestID{byte(i + 1)}})
		if p.Code != CodeOK {
			t.Fatal(p)
		}
		m.begin(m.byID[p.ProducerID], 1, age)
	}
	ages := m.OpenAges(now, []Millis{1000, 10_000})
	if !slices.Equal(ages.Counts, []int{2, 2, 2}) || ages.Oldest != 50_000 {
		t.Errorf("%+v", ages)
	}
	// A clock that is behind the machine's makes nothing younger.
	if again := m.OpenAges(0, []Millis{1000, 10_000}); !slices.Equal(again.Counts, ages.Counts) {
		t.Errorf("by a clock that is behind: %+v", again)
	}
	if empty := New(DefaultConfig()).OpenAges(now, nil); !slices.Equal(empty.Counts, []int{0}) || empty.Oldest != 0 {
		t.Errorf("without any: %+v", empty)
	}
}

func TestCompletingCountsTransactionsAndNotMarkers(t *testing.T) {
	t.Parallel()
	m := New(DefaultConfig())
	p := m.InitProducer(1000, InitProducer{TransactionalID: "a", Timeout: 60_000, RequestID: RequestID{1}})
	id := p.ProducerID
	ref := func(n uint64) Ref { return Ref{ProducerID: id, Number: n} }
	m.advance(2000)
	m.decide(m.byID[id], ref(1), Committed, ReasonNone, []Participant{{Shard: 2}, {Shard: 3}})
	m.advance(3000)
	m.decide(m.byID[id], ref(2), Committed, ReasonNone, []Participant{{Shard: 3}})
	check := func(when string, count int, oldest Millis) {
		t.Helper()
		if n, o := m.Completing(5000); n != count || o != oldest {
			t.Errorf("%s: %d, the oldest decided %d ms ago; want %d, %d", when, n, o, count, oldest)
		}
	}
	check("decided", 2, 3000)
	m.MarkersApplied(3000, MarkersApplied{Items: []MarkerAck{{ref(1), 2, MarkerApplied}}})
	check("one shard of the first", 2, 3000)
	m.MarkersApplied(3000, MarkersApplied{Items: []MarkerAck{{ref(1), 3, MarkerApplied}}})
	check("the first", 1, 2000)
	m.MarkersApplied(3000, MarkersApplied{Items: []MarkerAck{{ref(2), 3, MarkerApplied}}})
	check("both", 0, 0)
}
