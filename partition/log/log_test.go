package log_test

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/oncelog/oncelog/api/codec"
	"github.com/oncelog/oncelog/internal/golden"
	"github.com/oncelog/oncelog/partition/log"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
)

const partition = 7

func sample() log.Batch {
	return log.Batch{
		BaseOffset: 300, Count: 5, Index: 77, Position: 1 << 20, Length: 999,
		Ref: pstate.TxnRef{ProducerID: math.MaxUint64, Epoch: math.MaxUint32, Number: 3}, BaseSequence: 12,
		MaxTimestamp: -4, RunningMaxTimestamp: math.MaxInt64,
	}
}

func TestRowsSurvive(t *testing.T) {
	t.Parallel()
	want := sample()
	id, got, err := log.ParseRow(log.AppendKey(nil, partition, want.BaseOffset), log.AppendValue(nil, want))
	if err != nil || id != partition || got != want {
		t.Errorf("%d %+v %v", id, got, err)
	}
	if got.End() != 305 {
		t.Errorf("end %d", got.End())
	}
}

// TestRowFormat: rows of older versions are read, and say so if they cannot be.
func TestRowFormat(t *testing.T) {
	t.Parallel()
	b := log.Batch{
		BaseOffset: 1, Count: 2, Index: 3, Position: 4, Length: 5, Ref: pstate.TxnRef{ProducerID: 6, Epoch: 7, Number: 8},
		BaseSequence: 9, MaxTimestamp: 10, RunningMaxTimestamp: 11,
	}
	golden.Check(t, "index-row", 1, []golden.Sample{
		{Name: "key", Bytes: log.AppendKey(nil, 0x0102, 1)},
		{Name: "value", Bytes: log.AppendValue(nil, b)},
	})
	old := golden.Read(t, "index-row", 1)
	if id, got, err := log.ParseRow(old[0].Bytes, old[1].Bytes); err != nil || id != 0x0102 || got != b {
		t.Errorf("version 1 is read as %d %+v, %v", id, got, err)
	}
	newer := append([]byte{2}, old[1].Bytes[1:]...)
	_, _, err := log.ParseRow(old[0].Bytes, newer)
	const want = "partition 258 offset 1: index row: version 2 is unknown, this program reads version 1"
	if !errors.Is(err, codec.ErrVersion) || !strings.Contains(err.Error(), want) {
		t.Errorf("version 2: %v", err)
	}
}

func TestDamagedRowsAreRefused(t *testing.T) {
	t.Parallel()
	key, value := log.AppendKey(nil, partition, 300), log.AppendValue(nil, sample())
	refused := func(k, v []byte) {
		t.Helper()
		if _, _, err := log.ParseRow(k, v); !errors.Is(err, log.ErrCorrupt) {
			t.Errorf("key %x value %x: %v", k, v, err)
		}
	}
	for i := range value {
		refused(key, value[:i])
	}
	for i := range key {
		refused(key[:i], value)
	}
	refused(key, append(bytes.Clone(value), 0))
	refused(append(bytes.Clone(key), 0), value)
	refused(append([]byte{'x'}, key[1:]...), value)
	refused(key, append([]byte{2}, value[1:]...))
	empty := sample()
	empty.Count = 0
	refused(key, log.AppendValue(nil, empty))
	refused(log.AppendKey(nil, partition, math.MaxUint64), value)
}

func FuzzParseRow(f *testing.F) {
	f.Add(log.AppendKey(nil, partition, 300), log.AppendValue(nil, sample()))
	f.Add([]byte{'i'}, []byte{1})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		id, b, err := log.ParseRow(key, value)
		if err != nil {
			if !errors.Is(err, log.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		id2, b2, err := log.ParseRow(log.AppendKey(nil, id, b.BaseOffset), log.AppendValue(nil, b))
		if err != nil || id2 != id || b2 != b {
			t.Fatalf("%+v became %+v, %v", b, b2, err)
		}
	})
}

// fakeEntries is a log whose entries are made of one byte each.
type fakeEntries map[uint64]int // lengths

func (f fakeEntries) EntryRange(index uint64, pos, n int) ([]byte, error) {
	size, ok := f[index]
	if !ok {
		return nil, raftstore.ErrNotApplied
	}
	return bytes.Repeat([]byte{byte(index)}, max(min(n, size-pos), 0)), nil
}

func store(t *testing.T, batches map[uint64][]log.Batch) raftstore.Rows {
	t.Helper()
	s := memlog.New(nil)
	b := s.NewBatch()
	b.SetHardState(1, raftstore.HardState{})
	for id, list := range batches {
		for _, x := range list {
			b.Rows(1).Set(log.AppendKey(nil, id, x.BaseOffset), log.AppendValue(nil, x))
		}
	}
	if err := s.Commit(b, true); err != nil {
		t.Fatal(err)
	}
	return s.Rows(1)
}

func TestIndexAgainstAList(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	var list []log.Batch
	end, newest := uint64(0), int64(math.MinInt64)
	for range 40 {
		b := log.Batch{BaseOffset: end, Count: 1 + rng.Uint32N(5), Index: 9, Length: 1, MaxTimestamp: rng.Int64N(50)}
		newest = max(newest, b.MaxTimestamp)
		b.RunningMaxTimestamp = newest
		end = b.End()
		list = append(list, b)
	}
	neighbours := []log.Batch{{BaseOffset: 0, Count: 3}, {BaseOffset: 3, Count: 1000}}
	x := log.NewIndex(store(t, map[uint64][]log.Batch{partition: list, partition - 1: neighbours, partition + 1: neighbours}), fakeEntries{}, nil)
	for offset := range end + 3 {
		got, ok, err := x.Find(partition, offset)
		if err != nil || ok != (offset < end) || ok && (got.BaseOffset > offset || got.End() <= offset) {
			t.Fatalf("find %d: %+v %v %v", offset, got, ok, err)
		}
	}
	for range 300 {
		from, to := rng.Uint64N(end), rng.Uint64N(end+1)
		var want, got []log.Batch
		for _, b := range list {
			if from < to && b.End() > from && b.BaseOffset < to {
				want = append(want, b)
			}
		}
		if err := x.Scan(partition, from, to, func(b log.Batch) bool { got = append(got, b); return true }); err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) || len(got) > 0 && (got[0] != want[0] || got[len(got)-1] != want[len(want)-1]) {
			t.Fatalf("scan [%d, %d): %d batches, want %d", from, to, len(got), len(want))
		}
		ts := rng.Int64N(55)
		at, err := x.Since(partition, from, max(from, to), ts)
		wantAt := max(from, to)
		for _, b := range list {
			if b.RunningMaxTimestamp >= ts && b.End() > from && b.BaseOffset < wantAt {
				wantAt = max(b.BaseOffset, from)
				break
			}
		}
		if err != nil || at != wantAt {
			t.Fatalf("since %d in [%d, %d): %d %v, want %d", ts, from, to, at, err, wantAt)
		}
	}
}

func TestHolesAreReported(t *testing.T) {
	t.Parallel()
	x := log.NewIndex(store(t, map[uint64][]log.Batch{partition: {
		{BaseOffset: 0, Count: 2, Index: 3, Length: 4}, {BaseOffset: 5, Count: 2, Index: 4, Length: 4},
	}}), fakeEntries{3: 4, 4: 2}, nil)
	n := 0
	if err := x.Scan(partition, 0, 7, func(log.Batch) bool { n++; return true }); !errors.Is(err, log.ErrCorrupt) || n != 1 {
		t.Errorf("scan over a hole: %v after %d", err, n)
	}
	if err := x.Scan(partition, 3, 7, func(log.Batch) bool { return true }); !errors.Is(err, log.ErrCorrupt) {
		t.Errorf("scan from a hole: %v", err)
	}
	if _, err := x.Since(partition, 0, 7, 5); !errors.Is(err, log.ErrCorrupt) {
		t.Errorf("search over a hole: %v", err)
	}
	if b, err := x.Read(log.Batch{Index: 3, Length: 4}); err != nil || !bytes.Equal(b, []byte{3, 3, 3, 3}) {
		t.Errorf("read: %v %v", b, err)
	}
	if _, err := x.Read(log.Batch{Index: 4, Length: 4}); !errors.Is(err, log.ErrCorrupt) {
		t.Errorf("read of a short entry: %v", err)
	}
	if _, err := x.Read(log.Batch{Index: 9, Length: 4}); !errors.Is(err, raftstore.ErrNotApplied) {
		t.Errorf("read of no entry: %v", err)
	}
}

func TestPartitionRangeHoldsAllRows(t *testing.T) {
	t.Parallel()
	for _, id := range []uint64{0, 1, 255, math.MaxUint64 - 1, math.MaxUint64} {
		lo, hi := log.PartitionRange(id)
		for _, offset := range []uint64{0, 1, math.MaxUint64} {
			if k := log.AppendKey(nil, id, offset); bytes.Compare(k, lo) < 0 || bytes.Compare(k, hi) >= 0 {
				t.Errorf("partition %d offset %d is outside", id, offset)
			}
		}
		if id < math.MaxUint64 {
			if k := log.AppendKey(nil, id+1, 0); bytes.Compare(k, hi) < 0 {
				t.Errorf("partition %d reaches into the next", id)
			}
		}
	}
}
