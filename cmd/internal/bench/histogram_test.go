package bench

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestBuckets: buckets are numbered without gaps, in order, and no wider than
// promised.
func TestBuckets(t *testing.T) {
	t.Parallel()
	for i := range buckets - 1 {
		end := upperEnd(i)
		if bucketOf(end) != i || bucketOf(end+1) != i+1 {
			t.Fatalf("bucket %d ends at %d, which is in %d, and the next value in %d", i, end, bucketOf(end), bucketOf(end+1))
		}
		if i > 0 {
			if width := end - upperEnd(i-1); width > 1 && float64(width) > float64(end)/64 {
				t.Fatalf("bucket %d is %d wide and ends at %d", i, width, end)
			}
		}
	}
	if last := bucketOf(math.MaxInt64); last >= buckets {
		t.Errorf("the longest duration is in bucket %d of %d", last, buckets)
	}
}

// TestQuantiles compares with sorted samples.
func TestQuantiles(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	for range 50 {
		var h, other Histogram
		samples := make([]time.Duration, 1+rng.IntN(3000))
		for i := range samples {
			samples[i] = time.Duration(math.Exp(rng.Float64() * 25))
			if rng.IntN(2) == 0 {
				h.Record(samples[i])
			} else {
				other.Record(samples[i])
			}
		}
		h.Add(&other)
		slices.Sort(samples)
		if h.Count() != uint64(len(samples)) || h.Max() != samples[len(samples)-1] {
			t.Fatalf("count %d, max %v", h.Count(), h.Max())
		}
		for _, q := range []float64{0, 0.5, 0.99, 0.999, 1} {
			rank := max(int(math.Ceil(q*float64(len(samples)))), 1)
			want, got := samples[rank-1], h.Quantile(q)
			if got < want || float64(got) > float64(want)*(1+1.0/64)+1 {
				t.Errorf("of %d samples the %v quantile is %d, got %d", len(samples), q, want, got)
			}
		}
	}
}

func TestHistogramEdges(t *testing.T) {
	t.Parallel()
	var h Histogram
	if h.Quantile(0.5) != 0 || h.Max() != 0 || h.Count() != 0 {
		t.Error("an empty histogram is not empty")
	}
	h.Record(-time.Second)
	if h.Quantile(1) != 0 || h.Count() != 1 {
		t.Errorf("a negative duration: %v", h.Quantile(1))
	}
	h.Record(math.MaxInt64)
	if h.Quantile(1) != math.MaxInt64 || h.Quantile(0.5) != 0 {
		t.Errorf("the longest duration: %v", h.Quantile(1))
	}
}
