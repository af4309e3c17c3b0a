package bench

import (
	"math/bits"
	"time"
)

// Histogram counts durations in buckets whose width is at most 1/64 of their
// value, so that a percentile is right to 1.6 %. It takes 30 KiB, however much is
// recorded. The zero value is empty. It is not safe for concurrent use.
type Histogram struct {
	counts [buckets]uint64
	total  uint64
	max    time.Duration
}

const (
	// subBits: a power of two is divided into 2^subBits buckets.
	subBits = 6
	// buckets: values below 2^subBits ns have one each, every greater power of two
	// 2^subBits of them.
	buckets = (64 - subBits) << subBits
)

// Record adds a duration; a negative one counts as 0.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	h.counts[bucketOf(uint64(d))]++
	h.total++
	h.max = max(h.max, d)
}

// Add adds everything that other has recorded.
func (h *Histogram) Add(other *Histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
	h.max = max(h.max, other.max)
}

// Count returns how many durations were recorded.
func (h *Histogram) Count() uint64 { return h.total }

// Max returns the longest duration, exactly.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile returns the duration that a part q of all does not exceed, 0 to 1: the
// upper end of its bucket, but not more than Max. 0 if nothing was recorded.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	// The rank-th smallest, from 1; nearest rank.
	rank := uint64(q * float64(h.total))
	if float64(rank) < q*float64(h.total) {
		rank++
	}
	rank = min(max(rank, 1), h.total)
	var seen uint64
	for i, n := range h.counts {
		if seen += n; seen >= rank {
			return min(time.Duration(upperEnd(i)), h.max)
		}
	}
	return h.max
}

// bucketOf returns the bucket of a value: its exponent and its subBits bits after
// the first.
func bucketOf(v uint64) int {
	if v < 1<<subBits {
		return int(v)
	}
	exponent := bits.Len64(v) - 1 - subBits // how many low bits are given up
	return exponent<<subBits + int(v>>exponent)
}

// upperEnd returns the largest value of a bucket.
func upperEnd(bucket int) uint64 {
	if bucket < 1<<subBits {
		return uint64(bucket)
	}
	exponent := bucket>>subBits - 1
	mantissa := uint64(bucket) - uint64(exponent)<<subBits
	return (mantissa+1)<<exponent - 1
}
