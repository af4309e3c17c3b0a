package pstate

import "github.com/oncelog/oncelog/api/codec"

// EncodeRelocate appends the command to dst. payloads holds the bytes of every
// batch, in their order; [StoredBatch.Size] is taken from there. They lie at the end
// of the entry, as in an append.
func EncodeRelocate(dst []byte, c Relocate, payloads [][]byte) ([]byte, error) {
	b := codec.AppendUvarint(codec.AppendVarint(head(dst, KindRelocate), c.At), c.Partition)
	return appendStored(dst, b, c.Batches, payloads)
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
	c.Batches, spans, err = readStored(r)
	if err != nil {
		return Relocate{}, nil, err
	}
	return c, spans, nil
}

// appendStored ends a command with batches and their bytes. dst is what it was
// appended to.
func appendStored(dst, b []byte, batches []StoredBatch, payloads [][]byte) ([]byte, error) {
	if len(batches) != len(payloads) {
		return dst, ErrValue
	}
	if len(batches) > MaxBatchesPerEntry {
		return dst, ErrLimit
	}
	b = codec.AppendUvarint(b, uint64(len(batches)))
	for i, bt := range batches {
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

// readStored reads what appendStored wrote.
func readStored(r *codec.Reader) (batches []StoredBatch, spans []Span, err error) {
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
		batches = append(batches, bt)
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
	return batches, spans, nil
}
