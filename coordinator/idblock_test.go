package coordinator

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestOneCallerFetchesABlock: the others wait for it, but not beyond their own
// deadlines, and then all have different ids.
func TestOneCallerFetchesABlock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newIDBlock(nil)
		fetches := 0
		fetch := func() (first, count uint64, err error) {
			fetches++
			time.Sleep(time.Second) //nolint:forbidigo // in the bubble, a slow log
			return 7, 3, nil
		}
		ids := make(chan uint64, 3)
		for range cap(ids) {
			go func() {
				id, err := b.take(t.Context(), fetch)
				if err != nil {
					t.Error(err)
				}
				ids <- id
			}()
		}
		synctest.Wait()
		hasty, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := b.take(hasty, fetch); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a caller without patience: %v", err)
		}
		seen := map[uint64]bool{<-ids: true, <-ids: true, <-ids: true}
		if !seen[7] || !seen[8] || !seen[9] || fetches != 1 {
			t.Errorf("ids %v in %d fetches", seen, fetches)
		}
		b.reset()
		if _, err := b.take(t.Context(), fetch); err != nil || fetches != 2 {
			t.Errorf("after the term: %v, %d fetches", err, fetches)
		}
	})
}
