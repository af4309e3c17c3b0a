package txn

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/oncelog/oncelog/api/codec"
	"github.com/oncelog/oncelog/internal/golden"
)

// everyCommand is one of each kind, with every field set.
func everyCommand() []Command {
	return []Command{
		InitProducer{
			TransactionalID: "orders-1", Timeout: 60_000, RequestID: RequestID{1, 2, 3, 15: 9},
			Owner: "User:ann", ClientHost: "10.0.0.7", KeepPrepared: true,
		},
		AllocateProducerIDs{Count: 500},
		Enlist{Items: []EnlistItem{
			{Ref: ref(7, 3, 1<<40), Shard: 2, OpenedAt: 99, Age: 250, Partitions: []uint64{20, 21}},
			{Ref: ref(8, 0, 1), Shard: 3},
		}},
		EndTransaction{
			Ref: ref(7, 3, 12), Commit: true,
			Participants:   []Participant{{Shard: 2, Progress: []Progress{{20, 300}, {21, 0}}}, {Shard: 3}},
			OffsetsPayload: []byte("offsets"),
		},
		EndTransaction{Ref: ref(7, 3, 13)},
		Expire{Refs: []Ref{ref(7, 3, 14), ref(9, 0, 1)}},
		MarkersApplied{Items: []MarkerAck{{ref(7, 3, 12), 2, MarkerApplied}, {ref(7, 3, 12), 3, MarkerRemoved}}},
		AbortTransaction{Ref: ref(7, 3, 15), Force: true},
		FenceProducer{TransactionalID: "orders-1", Epoch: 4},
		DeleteID{TransactionalID: "orders-1", ProducerID: 7},
		ExpireIDs{ProducerIDs: []uint64{7, 8, 9}},
		InitProducer{TransactionalID: "orders-1", RequestID: RequestID{1}, Owner: "ann", Exclusive: true},
		PrepareTransaction{
			Ref:            ref(7, 3, 12),
			Participants:   []Participant{{Shard: 2, Progress: []Progress{{20, 300}, {21, 0}}}, {Shard: 3}},
			OffsetsPayload: []byte("offsets"),
		},
		CompletePrepared{Ref: ref(7, 3, 12), Commit: true},
	}
}

func TestCommandsSurviveTheirEncoding(t *testing.T) {
	t.Parallel()
	for _, c := range everyCommand() {
		b := AppendCommand([]byte("before"), 1_700_000_000_000, c)
		at, got, err := DecodeCommand(b[len("before"):])
		if err != nil || at != 1_700_000_000_000 || !reflect.DeepEqual(got, c) {
			t.Errorf("%#v became %#v at %d: %v", c, got, at, err)
		}
		for n := range len(b) - len("before") {
			if _, _, err := DecodeCommand(b[len("before"):][:n]); err == nil {
				t.Errorf("%T cut to %d bytes decodes", c, n)
			}
		}
		if _, _, err := DecodeCommand(append(b[len("before"):], 0)); !errors.Is(err, codec.ErrTrailing) {
			t.Errorf("%T with a trailing byte: %v", c, err)
		}
	}
}

// A log outlives the program that wrote it.
func TestCommandGolden(t *testing.T) {
	t.Parallel()
	var samples []golden.Sample
	for _, c := range everyCommand() {
		name := strings.TrimPrefix(reflect.TypeOf(c).String(), "txn.")
		samples = append(samples, golden.Sample{Name: name, Bytes: AppendCommand(nil, 1_700_000_000_000, c)})
	}
	golden.Check(t, "transaction-command", commandVersion, samples)
	for i, s := range golden.Read(t, "transaction-command", 1) {
		at, got, err := DecodeCommand(s.Bytes)
		if err != nil || at != 1_700_000_000_000 || !reflect.DeepEqual(got, everyCommand()[i]) {
			t.Errorf("%s of version 1 is read as %#v at %d: %v", s.Name, got, at, err)
		}
	}
}

func TestDecodeCommandRefusals(t *testing.T) {
	t.Parallel()
	encode := func(c Command) []byte { return AppendCommand(nil, 1, c) }
	tests := []struct {
		name string
		b    []byte
		err  error
	}{
		{"empty", nil, codec.ErrShort},
		{"version", []byte{2, 1, 2}, ErrVersion},
		{"kind", []byte{commandVersion, 99, 2}, ErrVersion},
		{"kind 0", []byte{commandVersion, 0, 2}, ErrVersion},
		{"time", AppendCommand(nil, 1<<60, Expire{}), ErrValue},
		{"count above 32 bits", append([]byte{commandVersion, byte(kindAllocateProducerIDs), 2}, codec.AppendUvarint(nil, 1<<32)...), ErrValue},
		{"marker answer", encode(MarkersApplied{Items: []MarkerAck{{Answer: 9}}}), ErrValue},
		{"id", encode(DeleteID{TransactionalID: strings.Repeat("x", MaxTextLength+1)}), codec.ErrTooLong},
		{"items", encode(Expire{Refs: make([]Ref, MaxItems+1)}), codec.ErrTooLong},
		{"offsets", encode(EndTransaction{OffsetsPayload: make([]byte, MaxOffsetsPayload+1)}), codec.ErrTooLong},
	}
	for _, test := range tests {
		if _, _, err := DecodeCommand(test.b); !errors.Is(err, test.err) {
			t.Errorf("%s: %v, want %v", test.name, err, test.err)
		}
	}
}

// What WithinLimits lets through decodes, and the rest does not.
func TestWithinLimits(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", MaxTextLength+1)
	beyond := []Command{
		InitProducer{TransactionalID: long}, InitProducer{Owner: long}, InitProducer{ClientHost: long},
		InitProducer{Timeout: 1 << 60},
		Enlist{Items: make([]EnlistItem, MaxItems+1)}, Enlist{Items: []EnlistItem{{Age: -1 << 60}}},
		Enlist{Items: []EnlistItem{{Partitions: make([]uint64, MaxPartitions+1)}}},
		EndTransaction{Participants: make([]Participant, MaxItems+1)},
		EndTransaction{Participants: []Participant{{Progress: make([]Progress, MaxPartitions+1)}}},
		EndTransaction{OffsetsPayload: make([]byte, MaxOffsetsPayload+1)},
		PrepareTransaction{Participants: make([]Participant, MaxItems+1)},
		PrepareTransaction{OffsetsPayload: make([]byte, MaxOffsetsPayload+1)},
		Expire{Refs: make([]Ref, MaxItems+1)},
		MarkersApplied{Items: []MarkerAck{{}}},
		FenceProducer{TransactionalID: long}, DeleteID{TransactionalID: long},
		ExpireIDs{ProducerIDs: make([]uint64, MaxItems+1)},
	}
	acks := make([]MarkerAck, MaxItems+1)
	for i := range acks {
		acks[i].Answer = MarkerApplied
	}
	beyond = append(beyond, MarkersApplied{Items: acks})
	for i, c := range beyond {
		if _, _, err := DecodeCommand(AppendCommand(nil, 1, c)); WithinLimits(c) || err == nil {
			t.Errorf("case %d, %T: within limits %v, decoding says %v", i, c, WithinLimits(c), err)
		}
	}
	for _, c := range everyCommand() {
		if !WithinLimits(c) {
			t.Errorf("%#v is within the limits", c)
		}
	}
}

// Covers MD-13 of CONFORMANCE.md.
func TestNamesOfEveryValue(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	names := func(kind string, n int, name func(i int) string) {
		for i := range n {
			s := kind + name(i)
			if seen[s] || strings.Contains(s, "UNKNOWN") && s != "code UNKNOWN_ID" && s != "status UNKNOWN_ID" || strings.Contains(s, "nknown") {
				t.Errorf("%s value %d is called %q", kind, i, s)
			}
			seen[s] = true
		}
		if s := name(200); !strings.Contains(strings.ToLower(s), "unknown") {
			t.Errorf("%s value 200 is called %q", kind, s)
		}
	}
	names("outcome ", 3, func(i int) string { return Outcome(i).String() })
	names("reason ", int(lastReason)+1, func(i int) string { return Reason(i).String() })
	names("problem ", int(lastProblem)+1, func(i int) string { return Problem(i).String() })
	names("phase ", int(PhaseOver)+1, func(i int) string { return Phase(i).String() })
	one := func(f func(i int) string) func(int) string { return func(i int) string { return f(i + 1) } }
	names("code ", int(lastCode), one(func(i int) string { return Code(i).String() }))
	names("verdict ", 4, one(func(i int) string { return Verdict(i).String() }))
	names("answer ", int(lastMarkerAnswer), one(func(i int) string { return MarkerAnswer(i).String() }))
	names("status ", 6, one(func(i int) string { return Status(i).String() }))
	names("state ", 6, one(func(i int) string { return State(i).String() }))
}

func FuzzDecodeCommand(f *testing.F) {
	for _, c := range everyCommand() {
		f.Add(AppendCommand(nil, 1_700_000_000_000, c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		at, c, err := DecodeCommand(b)
		if err != nil {
			return
		}
		again, c2, err := DecodeCommand(AppendCommand(nil, at, c))
		if err != nil || again != at || !reflect.DeepEqual(c, c2) {
			t.Fatalf("%#v became %#v: %v", c, c2, err)
		}
	})
}

// FuzzApply runs a log of arbitrary commands: pairs of a length and that many
// bytes, decoded when they can be. Nothing may break the invariants.
func FuzzApply(f *testing.F) {
	var all []byte
	setup := []Command{
		InitProducer{TransactionalID: "a", Timeout: 10, RequestID: RequestID{1}},
		Enlist{Items: []EnlistItem{{Ref: ref(1, 0, 1), Shard: 1, Partitions: []uint64{10}}, {Ref: ref(1, 0, 2), Shard: 2}}},
		EndTransaction{Ref: ref(1, 0, 2), Commit: true, Participants: []Participant{at(2, 7)}},
		Expire{Refs: []Ref{ref(1, 0, 1)}},
		MarkersApplied{Items: []MarkerAck{{ref(1, 0, 2), 2, MarkerMissingData}}},
	}
	for _, c := range append(setup, everyCommand()...) {
		b := AppendCommand(nil, 100, c)
		all = append(append(all, byte(len(b))), b...)
		f.Add(all)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := New(tightConfig())
		w := newWorld()
		for len(b) > 0 {
			n := min(int(b[0]), len(b)-1)
			at, c, err := DecodeCommand(b[1 : 1+n])
			b = b[1+n:]
			if err != nil {
				continue
			}
			m.Apply(at, c, Env{Catalog: w, Offsets: &offsets{}})
			if err := m.Check(); err != nil {
				t.Fatalf("after %#v: %v", c, err)
			}
		}
		again := New(tightConfig())
		if err := again.Restore(m.Snapshot()); err != nil {
			t.Fatal(err)
		}
	})
}
