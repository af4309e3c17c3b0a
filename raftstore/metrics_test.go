package raftstore

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestHistogramCounts(t *testing.T) {
	t.Parallel()
	var h histogram
	last := latencyBounds[len(latencyBounds)-1]
	for _, d := range []time.Duration{0, latencyBounds[0], latencyBounds[0] + 1, time.Millisecond, last, last + 1} {
		h.observe(d)
	}
	got := h.read()
	if !slices.IsSorted(got.Counts) || !slices.IsSorted(got.Bounds) {
		t.Errorf("bounds %v, counts %v are not cumulative", got.Bounds, got.Counts)
	}
	if got.Counts[0] != 2 || got.Counts[1] != 3 || got.Counts[2] != 4 || got.Counts[len(got.Counts)-1] != 5 || got.Count != 6 {
		t.Errorf("counts %v of %d", got.Counts, got.Count)
	}
	if want := 2*latencyBounds[0] + 1 + time.Millisecond + 2*last + 1; got.Sum != want {
		t.Errorf("sum %v, want %v", got.Sum, want)
	}
}

func TestRefusedByReason(t *testing.T) {
	t.Parallel()
	var c counters
	for _, err := range []error{
		&NotLeaderError{Group: 1}, fmt.Errorf("wrapped: %w", ErrOverloaded), ErrDiskLow, ErrProposalEmpty,
		ErrProposalTooLarge, ErrStopped, ErrGroupNotFound, ErrNotMember,
	} {
		c.refused(err)
	}
	if got, want := c.metrics().Refused, (Refused{NotLeader: 1, Overloaded: 1, DiskLow: 1, Invalid: 2, Stopped: 3}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
