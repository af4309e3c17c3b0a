package raftstore

import (
	"sync/atomic"
	"time"
)

// latencyBounds are the upper bounds of the buckets of every [Histogram], twice the
// one before: from well below the fsync of a good disk to the time after which a
// write counts as stalled.
var latencyBounds = func() []time.Duration {
	bounds := make([]time.Duration, 16)
	for i := range bounds {
		bounds[i] = 250 * time.Microsecond << i
	}
	return bounds
}()

// Histogram says how long something took, how often.
type Histogram struct {
	// Bounds are upper bounds, inclusive and ascending; the same in every histogram
	// of this package. They must not be modified.
	Bounds []time.Duration
	// Counts has a number for each bound: how many took that long or less. They
	// never fall along the bounds.
	Counts []uint64
	// Count is how many there were in all, Sum how long they took together.
	Count uint64
	Sum   time.Duration
}

// histogram is a Histogram while it is being counted: by one goroutine, while others
// read.
type histogram struct {
	buckets [17]atomic.Uint64 // the last one is above every bound
	sum     atomic.Int64
}

func (h *histogram) observe(d time.Duration) {
	i := 0
	for i < len(latencyBounds) && d > latencyBounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(int64(d))
}

// read returns what was counted. Count is always that of the buckets; what is
// observed meanwhile may be in the sum already.
func (h *histogram) read() Histogram {
	out := Histogram{Bounds: latencyBounds, Counts: make([]uint64, len(latencyBounds))}
	for i := range h.buckets {
		out.Count += h.buckets[i].Load()
		if i < len(out.Counts) {
			out.Counts[i] = out.Count
		}
	}
	out.Sum = time.Duration(h.sum.Load())
	return out
}
