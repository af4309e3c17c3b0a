package coordinator

import "sync"

// idBlock hands out producer ids of idempotent producers from a replicated
// block, so that most of them cost no log entry. What is left of a block when
// leadership ends is lost; it was nobody else's, so a caller that gets some of
// it at the turn of a term does no harm.
type idBlock struct {
	mu         sync.Mutex
	next, left uint64
}

// idBlockSize is how many ids are taken at once.
const idBlockSize = 1000

func (b *idBlock) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = 0
}

// take returns a producer id. Only one caller fetches a block at a time.
func (b *idBlock) take(fetch func() (first, count uint64, err error)) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left == 0 {
		first, count, err := fetch()
		if err != nil {
			return 0, err
		}
		b.next, b.left = first, count
	}
	id := b.next
	b.next++
	b.left--
	return id, nil
}
