package pstate

import (
	"github.com/oncelog/oncelog/api/codec"
)

// Span is where the bytes of one batch lie inside an entry.
type Span struct{ Pos, Len uint32 }

// EncodeAppends appends a command of several appends to dst. payloads holds the
// encoded bytes of every batch, in the order of the appends and of the batches
// in them; [Batch.Size] is taken from there. The payloads lie together at the
// end of the entry, so that decoding touches only what is before them.
func EncodeAppends(dst []byte, list []Append, payloads [][]byte) ([]byte, error) {
	batches := 0
	for _, a := range list {
		batches += len(a.Batches)
	}
	if batches != len(payloads) {
		return dst, ErrValue
	}
	if batches > MaxBatchesPerEntry || len(list) > MaxBatchesPerEntry {
		return dst, ErrLimit
	}
	b := codec.AppendUvarint(head(dst, KindAppends), uint64(len(list)))
	n := 0
	for _, a := range list {
		b = appendRef(codec.AppendVarint(b, a.At), a.Ref)
		b = codec.AppendUvarint(b, uint64(len(a.Batches)))
		for _, bt := range a.Batches {
			if len(payloads[n]) > MaxPayloadBytes {
				return dst, ErrLimit
			}
			b = codec.AppendUvarint(b, bt.Partition)
			b = codec.AppendUvarint(b, bt.BaseSequence)
			b = codec.AppendUvarint(b, uint64(bt.Count))
			b = codec.AppendVarint(b, bt.MaxTimestamp)
			b = codec.AppendUvarint(b, uint64(len(payloads[n])))
			n++
		}
	}
	for _, p := range payloads {
		if len(b)-len(dst)+len(p) > MaxEntryBytes {
			return dst, ErrLimit
		}
		b = append(b, p...)
	}
	return within(dst, b)
}

// DecodeAppends reads what [EncodeAppends] wrote. The spans are in the order of
// the payloads; the bytes of batch i are entry[Pos:Pos+Len], not copied and not
// looked at.
func DecodeAppends(entry []byte) ([]Append, []Span, error) {
	r, err := open(entry, KindAppends)
	if err != nil {
		return nil, nil, err
	}
	var spans []Span
	list := make([]Append, 0, min(r.Len(), 16))
	total := uint64(0)
	for range r.Count(MaxBatchesPerEntry) {
		a := Append{At: r.Varint(), Ref: readRef(r)}
		n := r.Count(MaxBatchesPerEntry - len(spans))
		if n > 0 {
			a.Batches = make([]Batch, 0, n)
		}
		for range n {
			bt := Batch{
				Partition: r.Uvarint(), BaseSequence: r.Uvarint(), Count: readUint32(r),
				MaxTimestamp: r.Varint(), Size: readUint32(r),
			}
			if bt.Size > MaxPayloadBytes {
				r.Fail(ErrLimit)
			}
			spans = append(spans, Span{uint32(total), bt.Size})
			a.Batches = append(a.Batches, bt)
			if total += uint64(bt.Size); total > MaxEntryBytes {
				r.Fail(ErrLimit)
			}
			if r.Err() != nil {
				break
			}
		}
		if r.Err() != nil {
			break
		}
		list = append(list, a)
	}
	if err := r.Err(); err != nil {
		return nil, nil, err
	}
	if uint64(r.Len()) != total {
		return nil, nil, ErrValue
	}
	for i := range spans {
		spans[i].Pos += uint32(r.Pos())
	}
	return list, spans, nil
}
