package txn

import (
	"math"

	"github.com/oncelog/oncelog/api/codec"
)

// The encodings of the values that commands and snapshots share.

func appendRef(b []byte, r Ref) []byte {
	b = codec.AppendUvarint(b, r.ProducerID)
	b = codec.AppendUvarint(b, uint64(r.Epoch))
	return codec.AppendUvarint(b, r.Number)
}

func readRef(r *codec.Reader) Ref {
	return Ref{ProducerID: r.Uvarint(), Epoch: readUint32(r), Number: r.Uvarint()}
}

func readUint32(r *codec.Reader) uint32 {
	v := r.Uvarint()
	if v > math.MaxUint32 {
		r.Fail(ErrValue)
		return 0
	}
	return uint32(v)
}

// readTime reads a time or a span.
func readTime(r *codec.Reader) Millis {
	v := r.Varint()
	if !legalTime(v) {
		r.Fail(ErrValue)
		return 0
	}
	return v
}

func readRequestID(r *codec.Reader) RequestID {
	var id RequestID
	for i := range id {
		id[i] = r.Byte()
	}
	return id
}

func appendUint64s(b []byte, list []uint64) []byte {
	b = codec.AppendUvarint(b, uint64(len(list)))
	for _, v := range list {
		b = codec.AppendUvarint(b, v)
	}
	return b
}

func readUint64s(r *codec.Reader, limit int) []uint64 {
	n := r.Count(limit)
	if n == 0 {
		return nil
	}
	list := make([]uint64, n)
	for i := range list {
		list[i] = r.Uvarint()
	}
	return list
}

func appendProgress(b []byte, list []Progress) []byte {
	b = codec.AppendUvarint(b, uint64(len(list)))
	for _, pr := range list {
		b = codec.AppendUvarint(b, pr.Partition)
		b = codec.AppendUvarint(b, pr.NextSequence)
	}
	return b
}

func readProgress(r *codec.Reader) []Progress {
	var list []Progress
	for n := r.Count(MaxPartitions); n > 0 && r.Err() == nil; n-- {
		list = append(list, Progress{Partition: r.Uvarint(), NextSequence: r.Uvarint()})
	}
	return list
}
