package pstate

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/oncelog/oncelog/api/codec"
)

// samples are one command of every kind with every field set, and their bytes.
// The bytes are in logs: a change here needs a new version, not a new string.
func samples(t testing.TB) map[Kind]struct {
	cmd   any
	entry []byte
	hex   string
} {
	t.Helper()
	type sample = struct {
		cmd   any
		entry []byte
		hex   string
	}
	must := func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	appends := []Append{
		{1700000000000, TxnRef{300, 2, 9}, []Batch{{5, 1000, 3, -1, 2}, {6, 0, 1, 8, 0}}},
		{1, TxnRef{1, 0, 0}, []Batch{{5, 1, 1, 0, 1}}},
	}
	markers := Markers{7, []Marker{
		{TxnRef{300, 2, 9}, Decision{OutcomeCommit, ReasonNone, []Progress{{5, 1003}, {6, 1}}, Point{2, 8}}},
		{TxnRef{1, 0, 4}, Decision{Outcome: OutcomeAbort, Reason: 200}},
	}}
	answers := EnlistAnswers{7, []EnlistAnswer{
		{Ref: TxnRef{300, 2, 9}, OpenedAt: 77, Verdict: VerdictStray, Fence: 3},
		{Ref: TxnRef{300, 9, 9}, OpenedAt: 78, Verdict: VerdictInvalid},
		{Ref: TxnRef{1, 0, 4}, OpenedAt: 79, Verdict: VerdictDecided, Decision: markers.List[0].Decision},
	}}
	sync := SyncPartitions{7, 12, false, 11, []PartitionInfo{{5, 2, "orders", 1, Retention{300, 4096}, Cleanup{}}}, []uint64{3, 4}}
	forget := Forget{7, []uint64{1, 300}}
	advance := AdvanceLogStarts{7, []LogStart{{5, 4096}, {6, 1}}}
	relocate := Relocate{7, 5, []StoredBatch{
		{300, 2, TxnRef{300, 2, 9}, 4, 12, 13, 2}, {302, 1, TxnRef{1, 0, 0}, 0, -1, 13, 1},
	}}
	configure := Configure{7, Config{1, 2, 3, 4, 5, 6, 7}}
	rewrite := Rewrite{7, 5, 3, 300, 310, 1000, relocate.Batches}
	compacted := Compacted{7, 5, 300, 310, 4, true}
	return map[Kind]sample{
		KindAppends: {appends, must(EncodeAppends(nil, appends, [][]byte{{0xaa, 0xbb}, {}, {0xcc}})),
			"01010280a0abfef962ac02020902" + "05e807030102" + "0600011000" + "020100000105010100" + "01" + "aabbcc"},
		KindMarkers: {markers, must(EncodeMarkers(nil, markers)),
			"01020e02ac02020901000208" + "0205eb070601" + "01000402c8000000"},
		KindEnlistAnswers: {answers, must(EncodeEnlistAnswers(nil, answers)),
			"01030e03ac0202094d0103" + "ac0209094e02" + "0100044f03010002080205eb070601"},
		KindSyncPartitions: {sync, must(EncodeSyncPartitions(nil, sync)),
			"01040e0c000b01" + "0502066f726465727301ac028020" + "020304"},
		KindForget:           {forget, must(EncodeForget(nil, forget)), "01050e0201ac02"},
		KindAdvanceLogStarts: {advance, must(EncodeAdvanceLogStarts(nil, advance)), "01060e020580200601"},
		KindRelocate: {relocate, must(EncodeRelocate(nil, relocate, [][]byte{{0xaa, 0xbb}, {0xcc}})),
			"01080e0502" + "ac0202ac02020904181a02" + "ae0201010000" + "00011a01" + "aabbcc"},
		KindRewrite: {rewrite, must(EncodeRewrite(nil, rewrite, [][]byte{{0xaa, 0xbb}, {0xcc}})),
			"02090e0503ac02b602e80702" + "ac0202ac02020904181a02" + "ae0201010000" + "00011a01" + "aabbcc"},
		KindCompacted: {compacted, must(EncodeCompacted(nil, compacted)), "020a0e05ac02b6020401"},
		KindConfigure: {configure, EncodeConfigure(nil, configure), "01070e04010304050607"},
	}
}

// decode reads any entry and returns the command and its encoding again.
func decode(entry []byte) (cmd any, again []byte, err error) {
	kind, err := KindOf(entry)
	if err != nil {
		return nil, nil, err
	}
	switch kind {
	case KindAppends:
		list, spans, err := DecodeAppends(entry)
		if err != nil {
			return nil, nil, err
		}
		payloads := make([][]byte, len(spans))
		for i, sp := range spans {
			payloads[i] = entry[sp.Pos : sp.Pos+sp.Len]
		}
		again, err := EncodeAppends(nil, list, payloads)
		return list, again, err
	case KindMarkers:
		return reencode(entry, DecodeMarkers, EncodeMarkers)
	case KindEnlistAnswers:
		return reencode(entry, DecodeEnlistAnswers, EncodeEnlistAnswers)
	case KindSyncPartitions:
		return reencode(entry, DecodeSyncPartitions, EncodeSyncPartitions)
	case KindForget:
		return reencode(entry, DecodeForget, EncodeForget)
	case KindAdvanceLogStarts:
		return reencode(entry, DecodeAdvanceLogStarts, EncodeAdvanceLogStarts)
	case KindRelocate:
		c, spans, err := DecodeRelocate(entry)
		if err != nil {
			return nil, nil, err
		}
		payloads := make([][]byte, len(spans))
		for i, sp := range spans {
			payloads[i] = entry[sp.Pos : sp.Pos+sp.Len]
		}
		again, err := EncodeRelocate(nil, c, payloads)
		return c, again, err
	case KindRewrite:
		c, spans, err := DecodeRewrite(entry)
		if err != nil {
			return nil, nil, err
		}
		payloads := make([][]byte, len(spans))
		for i, sp := range spans {
			payloads[i] = entry[sp.Pos : sp.Pos+sp.Len]
		}
		again, err := EncodeRewrite(nil, c, payloads)
		return c, again, err
	case KindCompacted:
		return reencode(entry, DecodeCompacted, EncodeCompacted)
	case KindConfigure:
		return reencode(entry, DecodeConfigure, func(b []byte, c Configure) ([]byte, error) {
			return EncodeConfigure(b, c), nil
		})
	}
	return nil, nil, ErrKind
}

func reencode[T any](entry []byte, dec func([]byte) (T, error), enc func([]byte, T) ([]byte, error)) (any, []byte, error) {
	cmd, err := dec(entry)
	if err != nil {
		return nil, nil, err
	}
	again, err := enc(nil, cmd)
	return cmd, again, err
}

func TestCodecGolden(t *testing.T) {
	t.Parallel()
	for kind, s := range samples(t) {
		if got := hex.EncodeToString(s.entry); got != s.hex {
			t.Errorf("kind %d encodes as\n%s, want\n%s", kind, got, s.hex)
		}
		cmd, again, err := decode(s.entry)
		if err != nil || !reflect.DeepEqual(cmd, s.cmd) || !bytes.Equal(again, s.entry) {
			t.Errorf("kind %d: %v\n%+v, want\n%+v", kind, err, cmd, s.cmd)
		}
		for n := range s.entry {
			if _, _, err := decode(s.entry[:n]); err == nil {
				t.Errorf("kind %d: the first %d of %d bytes decode", kind, n, len(s.entry))
			}
		}
		if _, _, err := decode(append(bytes.Clone(s.entry), 0)); err == nil {
			t.Errorf("kind %d: a trailing byte decodes", kind)
		}
	}
}

func TestAppendSpans(t *testing.T) {
	t.Parallel()
	entry := samples(t)[KindAppends].entry
	_, spans, err := DecodeAppends(entry)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, sp := range spans {
		got = append(got, hex.EncodeToString(entry[sp.Pos:sp.Pos+sp.Len]))
	}
	equal(t, "payloads", got, []string{"aabb", "", "cc"})
	// The encoding appends: what was in front stays, and spans count from the entry.
	both, err := EncodeAppends([]byte("head"), []Append{{Batches: make([]Batch, 1)}}, [][]byte{{1}})
	if err != nil || string(both[:4]) != "head" {
		t.Fatal(both, err)
	}
	if _, spans, err = DecodeAppends(both[4:]); err != nil || both[4:][spans[0].Pos] != 1 {
		t.Fatal(spans, err)
	}
}

func TestEncodersRefuseWhatDecodersWould(t *testing.T) {
	t.Parallel()
	ok := Decision{Outcome: OutcomeAbort}
	for _, c := range []struct {
		name string
		want error
		run  func() ([]byte, error)
	}{
		{"payloads missing", ErrValue, func() ([]byte, error) {
			return EncodeAppends(nil, []Append{{Batches: make([]Batch, 2)}}, make([][]byte, 1))
		}},
		{"too many batches", ErrLimit, func() ([]byte, error) {
			n := MaxBatchesPerEntry + 1
			return EncodeAppends(nil, []Append{{Batches: make([]Batch, n)}}, make([][]byte, n))
		}},
		{"payload too large", ErrLimit, func() ([]byte, error) {
			return EncodeAppends(nil, []Append{{Batches: make([]Batch, 1)}}, [][]byte{make([]byte, MaxPayloadBytes+1)})
		}},
		{"entry too large", ErrLimit, func() ([]byte, error) {
			half := make([]byte, MaxPayloadBytes)
			return EncodeAppends(nil, []Append{{Batches: make([]Batch, 2)}}, [][]byte{half, half})
		}},
		{"too many markers", ErrLimit, func() ([]byte, error) {
			return EncodeMarkers(nil, Markers{List: make([]Marker, MaxMarkersPerEntry+1)})
		}},
		{"marker without transaction", ErrValue, func() ([]byte, error) {
			return EncodeMarkers(nil, Markers{List: []Marker{{TxnRef{1, 0, 0}, ok}}})
		}},
		{"marker without outcome", ErrValue, func() ([]byte, error) {
			return EncodeMarkers(nil, Markers{List: []Marker{{t1, Decision{}}}})
		}},
		{"progress twice", ErrValue, func() ([]byte, error) {
			return EncodeMarkers(nil, Markers{List: []Marker{commit(t1, Progress{1, 1}, Progress{1, 2})}})
		}},
		{"too much progress", ErrLimit, func() ([]byte, error) {
			return EncodeMarkers(nil, Markers{List: []Marker{commit(t1, make([]Progress, MaxProgress+1)...)}})
		}},
		{"too many answers", ErrLimit, func() ([]byte, error) {
			return EncodeEnlistAnswers(nil, EnlistAnswers{List: make([]EnlistAnswer, MaxMarkersPerEntry+1)})
		}},
		{"answer without verdict", ErrValue, func() ([]byte, error) {
			return EncodeEnlistAnswers(nil, EnlistAnswers{List: []EnlistAnswer{{Ref: t1}}})
		}},
		{"answer without outcome", ErrValue, func() ([]byte, error) {
			return EncodeEnlistAnswers(nil, EnlistAnswers{List: []EnlistAnswer{{Ref: t1, Verdict: VerdictDecided}}})
		}},
		{"answer without transaction", ErrValue, func() ([]byte, error) {
			return EncodeEnlistAnswers(nil, EnlistAnswers{List: []EnlistAnswer{{Verdict: VerdictStray}}})
		}},
		{"long topic", ErrLimit, func() ([]byte, error) {
			return EncodeSyncPartitions(nil, SyncPartitions{Add: []PartitionInfo{{Topic: strings.Repeat("x", MaxTopicName+1)}}})
		}},
		{"too many partitions", ErrLimit, func() ([]byte, error) {
			return EncodeSyncPartitions(nil, SyncPartitions{Remove: make([]uint64, MaxSyncPartitions+1)})
		}},
		{"too many to forget", ErrLimit, func() ([]byte, error) {
			return EncodeForget(nil, Forget{Producers: make([]uint64, MaxForget+1)})
		}},
	} {
		if b, err := c.run(); !errors.Is(err, c.want) || len(b) != 0 {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestDecodersRefuse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		entry string
		want  error
	}{
		"empty":                  {"", codec.ErrShort},
		"version":                {"0201", ErrVersion},
		"kind 0":                 {"0100", ErrVersion},
		"kind 9":                 {"0109", ErrVersion},
		"count beyond the bytes": {"01020e05", codec.ErrShort},
		"epoch beyond 32 bits":   {"01020e0101" + "8080808010" + "01" + "0100000000", ErrValue},
		"marker of no number":    {"01020e01010000" + "0100000000", ErrValue},
		"outcome 3":              {"01020e01010001" + "0300000000", ErrValue},
		"progress descending":    {"01020e01010001" + "010000000205010401", ErrValue},
		"verdict 4":              {"01030e01010001" + "0704", ErrValue},
		"payload missing":        {"01010100010000010501010005" + "aabb", ErrValue},
	} {
		entry, err := hex.DecodeString(c.entry)
		if err != nil {
			t.Fatal(err)
		}
		if cmd, _, err := decode(entry); !errors.Is(err, c.want) {
			t.Errorf("%s: %+v, %v, want %v", name, cmd, err, c.want)
		}
	}
	if _, err := DecodeMarkers(samples(t)[KindForget].entry); !errors.Is(err, ErrKind) {
		t.Error("a decoder read another kind:", err)
	}
}

// FuzzDecode: what decodes, encodes and decodes to the same; nothing panics.
func FuzzDecode(f *testing.F) {
	for _, s := range samples(f) {
		f.Add(s.entry)
	}
	f.Fuzz(func(t *testing.T, entry []byte) {
		cmd, again, err := decode(entry)
		if err != nil {
			return
		}
		other, third, err := decode(again)
		if err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%+v encodes as %x, which reads as %+v, %v", cmd, again, other, err)
		}
	})
}

// FuzzApply: every sequence of commands that decodes leaves a state that passes
// Check and survives its own snapshot. Entries are preceded by their length.
func FuzzApply(f *testing.F) {
	var all []byte
	for _, kind := range []Kind{4, 1, 1, 2, 3, 6, 5, 7} {
		e := samples(f)[kind].entry
		all = append(append(all, byte(len(e))), e...)
	}
	f.Add(all)
	// The same again, when the producers are gone.
	for _, kind := range []Kind{5, 1, 2, 3, 5} {
		e := samples(f)[kind].entry
		all = append(append(all, byte(len(e))), e...)
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, in []byte) {
		s := New(Config{MaxProducers: 8, MaxSequences: 16, MaxPartitions: 8, RangesKept: 2, ProducerExpiration: 10})
		s.SyncPartitions(1, full(1, 1, 2, 5))
		for index := uint64(2); len(in) > 0 && index < 100; index++ {
			n := min(int(in[0]), len(in)-1)
			entry := in[1 : 1+n]
			in = in[1+n:]
			if _, _, err := decode(entry); err != nil {
				continue
			}
			apply(&testing.T{}, s, index, entry)
			if err := s.Check(); err != nil {
				t.Fatalf("entry %d %x: %v", index, entry, err)
			}
		}
		snap := s.Snapshot()
		other := New(Config{})
		if err := other.Restore(snap); err != nil || !bytes.Equal(other.Snapshot(), snap) {
			t.Fatalf("restore of its own snapshot: %v", err)
		}
	})
}

// FuzzRestore: damaged bytes are refused or give a state that passes Check and
// takes commands.
func FuzzRestore(f *testing.F) {
	f.Add(busy(f).Snapshot())
	f.Add(New(Config{}).Snapshot())
	f.Fuzz(func(t *testing.T, b []byte) {
		s := New(Config{})
		if s.Restore(b) != nil {
			return
		}
		for _, smp := range samples(t) {
			apply(t, s, s.Index()+1, smp.entry)
			if err := s.Check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// busy returns a state that has something of everything.
func busyBefore(t testing.TB) *State {
	t.Helper()
	s := New(Config{RangesKept: 3})
	s.SyncPartitions(1, SyncPartitions{At: 5, Version: 3, Full: true, Add: full(3, 1, 2, 5).Add})
	put := func(index uint64, ref TxnRef, partition, base uint64) {
		t.Helper()
		res := s.Append(index, Append{At: Millis(10 * index), Ref: ref, Batches: []Batch{
			{Partition: partition, BaseSequence: base, Count: 2, MaxTimestamp: 77, Size: 9},
		}}, nil)
		if res[0].Code != CodeAppended {
			t.Fatalf("entry %d: %+v", index, res)
		}
	}
	put(2, t1, 1, 0)
	put(3, t1, 2, 0)
	put(4, id, 1, 0)
	put(5, t2, 1, 0)
	put(6, t1, 1, 2)
	s.Markers(7, Markers{List: []Marker{commit(t1, Progress{1, 3}, Progress{2, 2}, Progress{5, 1})}})
	put(8, t3, 5, 0)
	s.Markers(9, Markers{List: []Marker{abort(t3, ReasonTimeout), abort(TxnRef{3, 1, 1}, ReasonAdmin)}})
	put(10, o1, 1, 0)
	put(11, o1, 5, 0)
	s.EnlistAnswers(12, EnlistAnswers{List: []EnlistAnswer{{Ref: o1, OpenedAt: 10, Verdict: VerdictStray, Fence: 1}}})
	put(13, e1, 2, 0)
	put(14, TxnRef{20, 0, 1}, 1, 0)
	s.AdvanceLogStarts(15, AdvanceLogStarts{Starts: []LogStart{{5, 1}}})
	return s
}

// busy is busyBefore with a tombstone.
func busy(t testing.TB) *State {
	t.Helper()
	s := busyBefore(t)
	s.Forget(16, Forget{At: 160, Producers: []uint64{3}})
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	return s
}
