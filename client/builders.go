package client

import (
	"sync"

	"github.com/oncelog/oncelog/api/batch"
)

// builders keeps the buffers of encoded batches' builders for the next ones, by
// codec. A pool holds no state that anybody could see.
var builders [CompressionZstd + 1]sync.Pool

func newBuilder(codec Compression) *batch.Builder {
	if b, ok := builders[codec].Get().(*batch.Builder); ok {
		return b
	}
	return batch.NewBuilder(batch.Codec(codec), batch.Limits{MaxBatchBytes: maxBatchBytes})
}

func recycleBuilder(b *batch.Builder, codec Compression) {
	b.Reset()
	builders[codec].Put(b)
}
