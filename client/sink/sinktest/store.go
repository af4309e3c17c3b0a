package sinktest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/sink"
)

// Row is what a store's handler wrote of one record.
type Row struct {
	// Topic, Partition and Offset of the record.
	Topic     string
	Partition int32
	Offset    int64
	// Value of the record.
	Value string
}

// Handler is what TestStore has a store do with records: write a [Row] of each into
// the transaction, then call Then, and fail with its error.
type Handler struct {
	mu   sync.Mutex
	then func() error
}

// Then is to be called by the store's handler after it has written its rows.
func (h *Handler) Then() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.then == nil {
		return nil
	}
	return h.then()
}

func (h *Handler) set(then func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.then = then
}

// Opened is a store to be tested.
type Opened struct {
	// Store is empty at first.
	Store sink.Store
	// Rows returns what the handler's committed transactions wrote.
	Rows func(ctx context.Context) ([]Row, error)
}

// TestStore holds a store to the interface. open returns an empty store with handler h,
// for one subtest.
func TestStore(t *testing.T, open func(t *testing.T, h *Handler) Opened) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(s *suite)
	}{
		{"ClaimsRaiseEpochs", (*suite).claimsRaiseEpochs},
		{"ApplyMovesAndWrites", (*suite).applyMovesAndWrites},
		{"ARepeatedApplyDoesNothing", (*suite).repeatedApply},
		{"AnOlderEpochIsFenced", (*suite).olderEpoch},
		{"AnotherPositionIsFenced", (*suite).otherPosition},
		{"AllOrNothing", (*suite).allOrNothing},
		{"AFailedHandlerLeavesNothing", (*suite).failedHandler},
		{"PositionsWithoutRecords", (*suite).withoutRecords},
		{"SinksDoNotMeet", (*suite).sinksApart},
		{"AnotherLifeOfTheTopic", (*suite).topicChanged},
		{"NamesAreTakenAsTheyAre", (*suite).oddNames},
		{"AnEndedContext", (*suite).endedContext},
		{"ManyPartitionsAtOnce", (*suite).manyPartitions},
		{"OwnersInConcurrence", (*suite).concurrence},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := &Handler{}
			test.run(&suite{T: t, h: h, o: open(t, h)})
		})
	}
}

type suite struct {
	*testing.T
	h *Handler
	o Opened
}

const name = "test sink"

func part(topic string, index int32) sink.Partition {
	return sink.Partition{TopicPartition: client.TopicPartition{Topic: topic, Partition: index}, ID: 100 + uint64(index)}
}

func (s *suite) claim(name string, ps ...sink.Partition) []sink.Claim {
	s.Helper()
	c, err := s.o.Store.Claim(s.Context(), name, ps)
	if err != nil || len(c) != len(ps) {
		s.Fatalf("claim: %v, %v", c, err)
	}
	return c
}

// move is a Part with a record per offset.
func move(p sink.Partition, epoch, from, to int64) sink.Part {
	out := sink.Part{Partition: p, Epoch: epoch, From: from, To: to}
	for o := max(from, 0); o < to; o++ {
		out.Records = append(out.Records, &client.Record{
			Topic: p.Topic, Partition: p.Partition, Offset: o, Value: fmt.Appendf(nil, "%s-%d", p.TopicPartition, o),
		})
	}
	return out
}

func (s *suite) apply(parts ...sink.Part) {
	s.Helper()
	if err := s.o.Store.Apply(s.Context(), name, parts); err != nil {
		s.Fatalf("apply: %v", err)
	}
}

func (s *suite) refused(want []sink.Partition, parts ...sink.Part) {
	s.Helper()
	err := s.o.Store.Apply(s.Context(), name, parts)
	var fenced *sink.FencedError
	if !errors.As(err, &fenced) || !errors.Is(err, sink.ErrFenced) || sink.IsRetriable(err) {
		s.Fatalf("apply: %v, want a FencedError", err)
	}
	var got, names []string
	for _, tp := range fenced.Partitions {
		got = append(got, tp.String())
	}
	for _, p := range want {
		names = append(names, p.String())
	}
	slices.Sort(got)
	if !slices.Equal(got, names) {
		s.Errorf("fenced: %v, want %v", got, names)
	}
}

// holds checks what was written: per partition the offsets below its end, once.
func (s *suite) holds(ends map[sink.Partition]int64) {
	s.Helper()
	rows, err := s.o.Rows(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	var want []Row
	for p, end := range ends { // sorted below
		for o := range end {
			want = append(want, Row{p.Topic, p.Partition, o, fmt.Sprintf("%s-%d", p.TopicPartition, o)})
		}
	}
	order := func(a, b Row) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	}
	slices.SortFunc(rows, order)
	slices.SortFunc(want, order)
	if !slices.Equal(rows, want) {
		s.Errorf("rows:\n%v\nwant:\n%v", rows, want)
	}
}

func (s *suite) claimsRaiseEpochs() {
	a, b := part("t", 0), part("t", 1)
	first := s.claim(name, a, b)
	for _, c := range first {
		if c.Epoch != 1 || c.Next != sink.NoPosition {
			s.Errorf("first claim: %+v", c)
		}
	}
	s.apply(move(b, 1, sink.NoPosition, 3))
	second := s.claim(name, b) // the other one stays
	if second[0].Epoch != 2 || second[0].Next != 3 {
		s.Errorf("second claim: %+v", second)
	}
	both := s.claim(name, b, a) // in the order of the question
	if both[0].Epoch != 3 || both[0].Next != 3 || both[1].Epoch != 2 || both[1].Next != sink.NoPosition {
		s.Errorf("third claim: %+v", both)
	}
}

func (s *suite) applyMovesAndWrites() {
	a := part("t", 0)
	s.claim(name, a)
	s.apply(move(a, 1, sink.NoPosition, 2))
	s.apply(move(a, 1, 2, 5))
	s.holds(map[sink.Partition]int64{a: 5})
	if c := s.claim(name, a); c[0].Next != 5 {
		s.Errorf("position %d, want 5", c[0].Next)
	}
}

func (s *suite) repeatedApply() {
	a, b := part("t", 0), part("t", 1)
	s.claim(name, a, b)
	for range 3 {
		s.apply(move(a, 1, sink.NoPosition, 2), move(b, 1, sink.NoPosition, 4))
	}
	s.apply(move(b, 1, sink.NoPosition, 4)) // what is left of it
	s.holds(map[sink.Partition]int64{a: 2, b: 4})
}

func (s *suite) olderEpoch() {
	a := part("t", 0)
	s.claim(name, a)
	s.apply(move(a, 1, sink.NoPosition, 2))
	s.claim(name, a)
	s.refused([]sink.Partition{a}, move(a, 1, 2, 4))
	s.refused([]sink.Partition{a}, move(a, 1, sink.NoPosition, 2)) // also what was done in time
	s.apply(move(a, 2, 2, 3))
	s.holds(map[sink.Partition]int64{a: 3})
}

func (s *suite) otherPosition() {
	a, unknown := part("t", 0), part("t", 7)
	s.claim(name, a)
	s.apply(move(a, 1, sink.NoPosition, 2))
	s.refused([]sink.Partition{a}, move(a, 1, 1, 4))
	s.refused([]sink.Partition{a}, move(a, 1, 3, 4))
	s.refused([]sink.Partition{unknown}, move(unknown, 1, 0, 1)) // never claimed
	s.holds(map[sink.Partition]int64{a: 2})
}

func (s *suite) allOrNothing() {
	a, b, c := part("t", 0), part("t", 1), part("t", 2)
	s.claim(name, a, b, c)
	s.claim(name, b)
	s.refused([]sink.Partition{b}, move(a, 1, sink.NoPosition, 2), move(b, 1, sink.NoPosition, 2), move(c, 1, sink.NoPosition, 2))
	s.holds(map[sink.Partition]int64{})
	s.apply(move(a, 1, sink.NoPosition, 2), move(c, 1, sink.NoPosition, 2)) // what is left
	s.holds(map[sink.Partition]int64{a: 2, c: 2})
}

func (s *suite) failedHandler() {
	a := part("t", 0)
	s.claim(name, a)
	bad := errors.New("not today")
	s.h.set(func() error { return bad })
	if err := s.o.Store.Apply(s.Context(), name, []sink.Part{move(a, 1, sink.NoPosition, 2)}); !errors.Is(err, bad) || sink.IsRetriable(err) {
		s.Errorf("a handler's error came back as %v", err)
	}
	s.h.set(func() error { return sink.Retriable(bad) })
	if err := s.o.Store.Apply(s.Context(), name, []sink.Part{move(a, 1, sink.NoPosition, 2)}); !errors.Is(err, bad) || !sink.IsRetriable(err) {
		s.Errorf("a handler's retriable error came back as %v", err)
	}
	s.holds(map[sink.Partition]int64{})
	s.h.set(nil)
	s.apply(move(a, 1, sink.NoPosition, 2))
	s.holds(map[sink.Partition]int64{a: 2})
}

func (s *suite) withoutRecords() {
	a := part("t", 0)
	s.claim(name, a)
	s.h.set(func() error { return errors.New("called without records") })
	s.apply(sink.Part{Partition: a, Epoch: 1, From: sink.NoPosition, To: 0})
	s.apply(sink.Part{Partition: a, Epoch: 1, From: 0, To: 9}) // aborted records only
	if c := s.claim(name, a); c[0].Next != 9 {
		s.Errorf("position %d, want 9", c[0].Next)
	}
}

func (s *suite) sinksApart() {
	a := part("t", 0)
	s.claim(name, a)
	s.apply(move(a, 1, sink.NoPosition, 2))
	if c := s.claim("another", a); c[0].Epoch != 1 || c[0].Next != sink.NoPosition {
		s.Errorf("another sink: %+v", c)
	}
	s.apply(move(a, 1, 2, 3))
}

func (s *suite) topicChanged() {
	a, b := part("t", 0), part("t", 1)
	s.claim(name, a)
	s.apply(move(a, 1, sink.NoPosition, 2))
	anew := a
	anew.ID = 4711
	_, err := s.o.Store.Claim(s.Context(), name, []sink.Partition{b, anew})
	var changed *sink.TopicChangedError
	if !errors.As(err, &changed) || changed.Stored != a.ID || changed.Partition != anew {
		s.Fatalf("claim of another life of the topic: %v", err)
	}
	s.apply(move(a, 1, 2, 3)) // the claim has left no trace
	if c := s.claim(name, b); c[0].Epoch != 1 {
		s.Errorf("a refused claim has raised an epoch: %+v", c)
	}
}

func (s *suite) oddNames() {
	odd := `o'dd "näme" -- ` + "\n;{}%s$1"
	a := part(odd, 0)
	s.claim(odd, a)
	if err := s.o.Store.Apply(s.Context(), odd, []sink.Part{move(a, 1, sink.NoPosition, 2)}); err != nil {
		s.Fatal(err)
	}
	s.holds(map[sink.Partition]int64{a: 2})
}

func (s *suite) endedContext() {
	a := part("t", 0)
	s.claim(name, a)
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	if err := s.o.Store.Apply(ctx, name, []sink.Part{move(a, 1, sink.NoPosition, 2)}); err == nil {
		s.Error("apply with an ended context succeeded")
	}
	if _, err := s.o.Store.Claim(ctx, name, []sink.Partition{a}); err == nil {
		s.Error("claim with an ended context succeeded")
	}
	s.apply(move(a, 1, sink.NoPosition, 1))
	s.holds(map[sink.Partition]int64{a: 1})
}

func (s *suite) manyPartitions() {
	const n = 1000
	all, parts, ends := make([]sink.Partition, n), make([]sink.Part, n), map[sink.Partition]int64{}
	for i := range all {
		all[i] = part("t", int32(n-1-i))
		parts[i] = move(all[i], 1, sink.NoPosition, 1)
		ends[all[i]] = 1
	}
	s.claim(name, all...)
	s.apply(parts...)
	s.holds(ends)
}

// concurrence: two owners claim and apply at the same time; each loses to the other
// now and then, and what is written is every record once.
func (s *suite) concurrence() {
	const end = 60
	parts := []sink.Partition{part("t", 0), part("t", 1)}
	var owners sync.WaitGroup
	for owner := range 3 {
		owners.Go(func() {
			mine := slices.Clone(parts)
			if owner == 1 {
				slices.Reverse(mine) // must not end in a deadlock that stays
			}
			for s.Context().Err() == nil && !s.Failed() {
				if s.own(mine, end) {
					return
				}
			}
		})
	}
	owners.Wait()
	s.holds(map[sink.Partition]int64{parts[0]: end, parts[1]: end})
}

// own claims the partitions and moves them until it is fenced; true: all stand at end.
func (s *suite) own(parts []sink.Partition, end int64) bool {
	claims, err := s.o.Store.Claim(s.Context(), name, parts)
	if sink.IsRetriable(err) {
		return false
	}
	if err != nil {
		s.Errorf("claim: %v", err)
		return true
	}
	for {
		var moves []sink.Part
		for i := range claims {
			from := claims[i].Next
			if from == end {
				continue
			}
			claims[i].Next = min(max(from, 0)+7, end)
			moves = append(moves, move(parts[i], claims[i].Epoch, from, claims[i].Next))
		}
		if len(moves) == 0 {
			return true
		}
		err := s.o.Store.Apply(s.Context(), name, moves)
		for sink.IsRetriable(err) {
			err = s.o.Store.Apply(s.Context(), name, moves)
		}
		if errors.Is(err, sink.ErrFenced) {
			return false
		}
		if err != nil {
			s.Errorf("apply: %v", err)
			return true
		}
	}
}
