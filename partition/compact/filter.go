package compact

import (
	"errors"
	"fmt"
	"slices"

	"github.com/oncelog/oncelog/api/batch"
)

// rowBytes is what a batch costs besides its bytes: its index row and what it adds
// to the entry that holds it, roughly.
const rowBytes = 100

// Filter cuts batches down to what is not obsolete.
type Filter struct {
	// Keys are those of the part of the partition that makes records obsolete.
	Keys *Keys
	// Horizon is the offset below which tombstones go.
	Horizon uint64
	// Limits are what batches are held to when they are decoded. MaxBatchBytes is what
	// one may have that is made: compression may do worse than it did for the sender.
	Limits        batch.Limits
	MaxBatchBytes int
	// MaxBytes bounds what is made of one batch.
	MaxBytes int
}

// Batch is a batch as it is stored.
type Batch struct {
	Base    uint64 // offset of the first record
	Count   uint32
	Visible uint32 // how many, from the first, are committed; the others go
	Data    []byte
}

// Run is what is left of a batch: records that were next to each other.
type Run struct {
	Skip, Count  uint32 // how many records of the batch are before it, and in it
	MaxTimestamp int64
	Data         []byte
}

// Result says what is left of a batch.
type Result struct {
	// Whole: all of it, as it is. There are no runs then.
	Whole bool
	Runs  []Run
	// Dropped counts the records that go. Tombstones: some that stay have no value.
	Dropped    int
	Tombstones bool
}

// ErrTooLarge says that what must go can be cut out of a batch only at the price of
// more bytes than [Filter.MaxBytes].
var ErrTooLarge = errors.New("compact: what is left of a batch is larger than the limit")

// fate is what becomes of a record.
type fate uint8

const (
	kept fate = iota
	may       // go, if that saves something
	must      // go
)

// Cut returns what is left of a batch. Errors say that it cannot be decoded, or
// [ErrTooLarge].
func (f *Filter) Cut(b Batch) (Result, error) {
	if b.Visible == 0 {
		return Result{Dropped: int(b.Count)}, nil
	}
	records, err := batch.Decode(b.Data, f.Limits)
	if err != nil {
		return Result{}, fmt.Errorf("batch at offset %d: %w", b.Base, err)
	}
	if len(records) != int(b.Count) {
		return Result{}, fmt.Errorf("batch at offset %d: %w: %d records, %d expected", b.Base, batch.ErrCorrupt, len(records), b.Count)
	}
	fates := make([]fate, len(records))
	for i := range records {
		if fates[i] = must; uint32(i) < b.Visible {
			fates[i] = f.fate(b.Base+uint64(i), &records[i])
		}
	}
	h, err := batch.ParseHeader(b.Data)
	if err != nil {
		return Result{}, err
	}
	for _, from := range []fate{may, must} {
		if !slices.ContainsFunc(fates, func(x fate) bool { return x >= from }) {
			continue
		}
		res, size, err := f.cut(records, fates, from, h.Codec)
		if err != nil {
			return Result{}, fmt.Errorf("batch at offset %d: %w", b.Base, err)
		}
		smaller := size+rowBytes*len(res.Runs) < len(b.Data)+rowBytes
		if size <= f.MaxBytes && (smaller || from == must) {
			return res, nil
		}
		if from == must {
			return Result{}, fmt.Errorf("batch at offset %d: %w", b.Base, ErrTooLarge)
		}
	}
	return Result{Whole: true, Tombstones: tombstones(records)}, nil
}

func tombstones(records []batch.Record) bool {
	return slices.ContainsFunc(records, func(r batch.Record) bool { return r.Key != nil && r.Value == nil })
}

// fate decides about a committed record. One without a key is never obsolete.
func (f *Filter) fate(offset uint64, r *batch.Record) fate {
	if r.Key == nil {
		return kept
	}
	if n, ok := f.Keys.find(r.Key); ok && n.offset() > offset {
		if n.tombstone() {
			return must
		}
		return may
	}
	if r.Value == nil && offset < f.Horizon {
		return may
	}
	return kept
}

// cut encodes what is left without records whose fate is at least from, and returns
// the bytes of that.
func (f *Filter) cut(records []batch.Record, fates []fate, from fate, codec batch.Codec) (res Result, size int, err error) {
	for i := 0; i < len(records); {
		if fates[i] >= from {
			res.Dropped++
			i++
			continue
		}
		end := i + 1
		for end < len(records) && fates[end] < from {
			end++
		}
		first := len(res.Runs)
		if res.Runs, err = f.encode(res.Runs, records, i, end, codec); err != nil {
			return Result{}, 0, err
		}
		for _, r := range res.Runs[first:] {
			size += len(r.Data)
		}
		res.Tombstones = res.Tombstones || tombstones(records[i:end])
		i = end
	}
	return res, size, nil
}

// encode appends the records [from, to) as one run, or as several if that would be
// too large.
func (f *Filter) encode(runs []Run, records []batch.Record, from, to int, codec batch.Codec) ([]Run, error) {
	data, err := batch.Encode(nil, records[from:to], codec)
	if err != nil {
		return runs, err
	}
	if len(data) <= f.MaxBatchBytes {
		h, err := batch.ParseHeader(data)
		return append(runs, Run{Skip: uint32(from), Count: uint32(to - from), MaxTimestamp: h.MaxTimestamp, Data: data}), err
	}
	if to-from == 1 {
		return runs, ErrTooLarge
	}
	half := from + (to-from)/2
	if runs, err = f.encode(runs, records, from, half, codec); err != nil {
		return runs, err
	}
	return f.encode(runs, records, half, to, codec)
}
