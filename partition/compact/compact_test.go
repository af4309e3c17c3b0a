package compact_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/oncelog/oncelog/api/batch"
	"github.com/oncelog/oncelog/partition/compact"
)

// TestCutAgainstAMap cuts random batches and compares with what a map of the newest
// records says: what is left is what it was, at its place; the newest of each key is
// there; what was hidden or deleted is not.
func TestCutAgainstAMap(t *testing.T) {
	t.Parallel()
	cuts := 0
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		codec := []batch.Codec{batch.CodecNone, batch.CodecSnappy, batch.CodecLZ4, batch.CodecZstd}[seed%4]
		horizon := uint64(rnd.IntN(200))
		keys := compact.NewKeys(0)
		var batches []compact.Batch
		var all []batch.Record
		newest := map[string]int{}
		for len(all) < 300 {
			base := uint64(len(all))
			var records []batch.Record
			for range 1 + rnd.IntN(60) {
				r := batch.Record{Timestamp: rnd.Int64N(1000), Value: []byte(strings.Repeat("v", rnd.IntN(300)))}
				switch n := rnd.IntN(40); {
				case n < 30:
					r.Key = fmt.Appendf(nil, "%d", n)
				case n < 39:
					r.Key, r.Headers = []byte{}, []batch.Header{{Key: "h"}}
				}
				if rnd.IntN(4) == 0 {
					r.Value = nil
				}
				records = append(records, r)
			}
			data, err := batch.Encode(nil, records, codec)
			if err != nil {
				t.Fatal(err)
			}
			b := compact.Batch{Base: base, Count: uint32(len(records)), Visible: uint32(len(records)), Data: data}
			if rnd.IntN(3) == 0 {
				b.Visible = uint32(rnd.IntN(len(records) + 1))
			}
			if err := keys.Add(b.Base, int(b.Visible), data, batch.Limits{}); err != nil {
				t.Fatal(err)
			}
			for i, r := range records[:b.Visible] {
				if r.Key != nil {
					newest[string(r.Key)] = int(base) + i
				}
			}
			batches, all = append(batches, b), append(all, records...)
		}
		f := compact.Filter{Keys: keys, Horizon: horizon, MaxBatchBytes: 1500, MaxBytes: 1 << 20}
		for _, b := range batches {
			res, err := f.Cut(b)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			left := map[int]batch.Record{}
			if res.Whole {
				res.Runs = []compact.Run{{Count: b.Count, Data: b.Data}}
			} else {
				cuts++
			}
			end, dropped := uint32(0), int(b.Count)
			for _, run := range res.Runs {
				records, err := batch.Decode(run.Data, batch.Limits{})
				if err != nil || len(records) != int(run.Count) || run.Skip < end || !res.Whole && len(run.Data) > 1500 {
					t.Fatalf("seed %d: run %+v behind %d: %v", seed, run, end, err)
				}
				end, dropped = run.Skip+run.Count, dropped-len(records)
				for i, r := range records {
					left[int(b.Base)+int(run.Skip)+i] = r
				}
			}
			if dropped != res.Dropped {
				t.Fatalf("seed %d: %d records went, not %d", seed, dropped, res.Dropped)
			}
			tombstones := false
			for i := int(b.Base); i < int(b.Base)+int(b.Count); i++ {
				got, there := left[i]
				want := all[i]
				visible := i < int(b.Base)+int(b.Visible)
				last := newest[string(want.Key)]
				switch {
				case there && !equal(got, want):
					t.Fatalf("seed %d: offset %d is %+v, and was %+v", seed, i, got, want)
				case there && !visible:
					t.Fatalf("seed %d: what was aborted is left at %d", seed, i)
				case there && want.Key != nil && last > i && all[last].Value == nil:
					t.Fatalf("seed %d: what was deleted at %d is left at %d", seed, last, i)
				case !there && visible && (want.Key == nil || last == i && (want.Value != nil || i >= int(horizon))):
					t.Fatalf("seed %d: offset %d has gone: %+v", seed, i, want)
				}
				tombstones = tombstones || there && want.Key != nil && want.Value == nil
			}
			if tombstones != res.Tombstones {
				t.Fatalf("seed %d: tombstones: %v, said %v", seed, tombstones, res.Tombstones)
			}
		}
	}
	if cuts < 100 {
		t.Errorf("%d batches were cut", cuts)
	}
}

func equal(a, b batch.Record) bool {
	return a.Timestamp == b.Timestamp && string(a.Key) == string(b.Key) && (a.Key == nil) == (b.Key == nil) &&
		string(a.Value) == string(b.Value) && (a.Value == nil) == (b.Value == nil) && len(a.Headers) == len(b.Headers)
}

func encoded(t *testing.T, records ...batch.Record) compact.Batch {
	t.Helper()
	data, err := batch.Encode(nil, records, batch.CodecNone)
	if err != nil {
		t.Fatal(err)
	}
	return compact.Batch{Count: uint32(len(records)), Visible: uint32(len(records)), Data: data}
}

// A batch that would grow stays as it is, but for what must not stay.
func TestABatchThatWouldGrow(t *testing.T) {
	t.Parallel()
	small := func(key string) batch.Record { return batch.Record{Key: []byte(key), Value: []byte("v")} }
	b := encoded(t, small("a"), small("b"), small("c"))
	keys := compact.NewKeys(0)
	add := func(base uint64, r batch.Record) {
		n := encoded(t, r)
		if err := keys.Add(base, 1, n.Data, batch.Limits{}); err != nil {
			t.Fatal(err)
		}
	}
	f := compact.Filter{Keys: keys, MaxBatchBytes: 1 << 20, MaxBytes: 1 << 20}
	add(10, small("b"))
	if res, err := f.Cut(b); err != nil || !res.Whole {
		t.Errorf("two batches of one record in the place of one of three: %+v, %v", res, err)
	}
	add(11, batch.Record{Key: []byte("b")})
	if res, err := f.Cut(b); err != nil || len(res.Runs) != 2 || res.Dropped != 1 {
		t.Errorf("what was deleted: %+v, %v", res, err)
	}
	f.MaxBytes = 10
	if res, err := f.Cut(b); err == nil {
		t.Errorf("too much of it: %+v", res)
	}
	b.Data = b.Data[:len(b.Data)-1]
	if res, err := f.Cut(b); err == nil {
		t.Errorf("half a batch: %+v", res)
	}
}

func TestKeysHaveALimit(t *testing.T) {
	t.Parallel()
	keys := compact.NewKeys(3)
	if !keys.Room(100) {
		t.Error("no room for the first batch")
	}
	b := encoded(t, batch.Record{Key: []byte("a")}, batch.Record{Key: []byte("b")}, batch.Record{})
	if err := keys.Add(0, 3, b.Data, batch.Limits{}); err != nil {
		t.Fatal(err)
	}
	if !keys.Room(1) || keys.Room(2) {
		t.Error("two keys of three: room for one")
	}
	if err := keys.Add(0, 3, slices.Concat(b.Data, []byte{0}), batch.Limits{}); err == nil {
		t.Error("nonsense was added")
	}
}
