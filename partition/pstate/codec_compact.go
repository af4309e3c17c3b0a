package pstate

import "github.com/oncelog/oncelog/api/codec"

// EncodeRewrite appends the command to dst. payloads holds the bytes of every batch,
// in their order; [StoredBatch.Size] is taken from there. They lie at the end of the
// entry, as in an append.
func EncodeRewrite(dst []byte, c Rewrite, payloads [][]byte) ([]byte, error) {
	b := codec.AppendUvarint(codec.AppendVarint(head2(dst, KindRewrite), c.At), c.Partition)
	for _, v := range []uint64{c.Seen, c.From, uint64(c.To), c.Replaced} {
		b = codec.AppendUvarint(b, v)
	}
	return appendStored(dst, b, c.Batches, payloads)
}

// DecodeRewrite reads what [EncodeRewrite] wrote. The bytes of batch i are
// entry[Pos:Pos+Len] of span i, not copied and not looked at.
func DecodeRewrite(entry []byte) (Rewrite, []Span, error) {
	r, err := open(entry, KindRewrite)
	if err != nil {
		return Rewrite{}, nil, err
	}
	c := Rewrite{At: r.Varint(), Partition: r.Uvarint(), Seen: r.Uvarint(), From: r.Uvarint(), To: End(r.Uvarint()), Replaced: r.Uvarint()}
	var spans []Span
	c.Batches, spans, err = readStored(r)
	if err != nil {
		return Rewrite{}, nil, err
	}
	return c, spans, nil
}

// EncodeCompacted appends the command to dst.
func EncodeCompacted(dst []byte, c Compacted) ([]byte, error) {
	b := codec.AppendUvarint(codec.AppendVarint(head2(dst, KindCompacted), c.At), c.Partition)
	for _, v := range []uint64{c.From, uint64(c.To), c.Horizon} {
		b = codec.AppendUvarint(b, v)
	}
	return within(dst, codec.AppendBool(b, c.Tombstones))
}

// DecodeCompacted reads what [EncodeCompacted] wrote.
func DecodeCompacted(entry []byte) (Compacted, error) {
	r, err := open(entry, KindCompacted)
	if err != nil {
		return Compacted{}, err
	}
	c := Compacted{At: r.Varint(), Partition: r.Uvarint(), From: r.Uvarint(), To: End(r.Uvarint()), Horizon: r.Uvarint(), Tombstones: r.Bool()}
	if err := r.Close(); err != nil {
		return Compacted{}, err
	}
	return c, nil
}
