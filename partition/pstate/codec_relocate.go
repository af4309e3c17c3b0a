package pstate

import "github.com/oncelog/oncelog/api/codec"

// EncodeRelocate appends the command to dst. payloads holds the bytes of every
// batch, in their order; [StoredBatch.Size] is taken from there. They lie at the end
// of the entry, as in an append.
func EncodeRelocate(dst []byte, c Relocate, payloads [][]byte) ([]byte, error) {
	if len(c.Batches) != len(payloads) {
		return dst, ErrValue
	}
	if len(c.Batches) > MaxBatchesPerEntry {
		return dst, ErrLimit
	}
	b := codec.AppendUvarint(codec.AppendVarint(head(dst, KindRelocate), c.At), c.Partition)
	b = codec.AppendUvarint(b, uint64(len(c.Batches)))
	for i, bt := range c.Batches {
		if len(payloads[i]) > MaxPayloadBytes {
			return dst, ErrLimit
		}
		b = codec.AppendUvarint(codec.AppendUvarint(b, bt.BaseOffset), uint64(bt.Count))
		b = codec.AppendUvarint(appendRef(b, bt.Ref), bt.BaseSequence)
		b = codec.AppendVarint(codec.AppendVarint(b, bt.MaxTimestamp), bt.RunningMaxTimestamp)
		b = codec.AppendUvarint(b, uint64(len(payloads[i])))
	}
	for _, p := range payloads {
		if len(b)-len(dst)+len(p) > MaxEntryBytes {
			return dst, ErrLimit
		}
		b = append(b, p...)
	}
	return within(dst, b)
}

// DecodeRelocate reads what [EncodeRelocate] wrote. The bytes of batch i are
// entry[Pos:Pos+Len] of span i, not copied and not looked at.
func DecodeRelocate(entry []byte) (Relocate, []Span, error) {
	r, err := open(entry, KindRelocate)
	if err != nil {
		return Relocate{}, nil, err
	}
	c := Relocate{At: r.Varint(), Partition: r.Uvarint()}
	var spans []Span
	total := uint64(0)
	for range r.Count(MaxBatchesPerEntry) {
		bt := StoredBatch{
			BaseOffset: r.Uvarint(), Count: readUint32(r), Ref: readRef(r), BaseSequence: r.Uvarint(),
			MaxTimestamp: r.Varint(), RunningMaxTimestamp: r.Varint(), Size: readUint32(r),
		}
		if bt.Size > MaxPayloadBytes || bt.Count == 0 || bt.BaseOffset > bt.End() {
			r.Fail(ErrValue)
		}
		spans = append(spans, Span{uint32(total), bt.Size})
		if total += uint64(bt.Size); total > MaxEntryBytes {
			r.Fail(ErrLimit)
		}
		if r.Err() != nil {
			break
		}
		c.Batches = append(c.Batches, bt)
	}
	if err := r.Err(); err != nil {
		return Relocate{}, nil, err
	}
	if uint64(r.Len()) != total {
		return Relocate{}, nil, ErrValue
	}
	for i := range spans {
		spans[i].Pos += uint32(r.Pos())
	}
	return c, spans, nil
}
