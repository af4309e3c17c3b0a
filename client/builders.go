package client

import (
	"sync"

	"github.com/oncelog/oncelog/api/batch"
)

// produced are the limits that a server holds batches to.
var produced = batch.Limits{
	MaxBatchBytes:     maxBatchBytes,
	MaxRecords:        10_000,
	MaxKeyBytes:       64 << 10,
	MaxHeaders:        128,
	MaxHeaderKeyBytes: 1024,
}

// consumed are the limits that keep a broken batch from taking all memory. They
// are far above what any server stores: a batch that is stored must be readable.
var consumed = batch.Limits{
	MaxBatchBytes:        32 << 20,
	MaxUncompressedBytes: 64 << 20,
	MaxRecords:           1 << 20,
	MaxRecordBytes:       32 << 20,
	MaxKeyBytes:          32 << 20,
	MaxHeaders:           1 << 16,
	MaxHeaderKeyBytes:    1 << 20,
}

// builders keeps the buffers of encoded batches' builders for the next ones, by
// codec. A pool holds no state that anybody could see.
var builders [CompressionZstd + 1]sync.Pool

func newBuilder(codec Compression) *batch.Builder {
	if b, ok := builders[codec].Get().(*batch.Builder); ok {
		return b
	}
	return batch.NewBuilder(batch.Codec(codec), produced)
}

func recycleBuilder(b *batch.Builder, codec Compression) {
	b.Reset()
	builders[codec].Put(b)
}
