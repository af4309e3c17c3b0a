package coordinator

import (
	"context"
	"sync"

	"github.com/oncelog/oncelog/internal/task"
)

// idBlock hands out producer ids of idempotent producers from a replicated
// block, so that most of them cost no log entry. What is left of a block when
// leadership ends is lost; it was nobody else's, so a caller that gets some of
// it at the turn of a term does no harm.
type idBlock struct {
	rt *task.Runtime
	// fetching is held by the one caller that fetches a block.
	fetching task.Lock

	mu         sync.Mutex
	next, left uint64
}

// idBlockSize is how many ids are taken at once.
const idBlockSize = 1000

func newIDBlock(rt *task.Runtime) *idBlock {
	return &idBlock{rt: rt, fetching: task.NewLock()}
}

func (b *idBlock) reset() { b.fill(0, 0) }

func (b *idBlock) fill(first, count uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next, b.left = first, count
}

// one returns an id of the block, if there is one left.
func (b *idBlock) one() (id uint64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left == 0 {
		return 0, false
	}
	id = b.next
	b.next++
	b.left--
	return id, true
}

// take returns a producer id. Only one caller fetches a block at a time, of at
// least one id; the others wait for it, at most until ctx ends.
func (b *idBlock) take(ctx context.Context, fetch func() (first, count uint64, err error)) (uint64, error) {
	if id, ok := b.one(); ok {
		return id, nil
	}
	if !b.fetching.LockUntil(b.rt, ctx.Done()) {
		return 0, ctx.Err()
	}
	defer b.fetching.Unlock()
	if id, ok := b.one(); ok {
		return id, nil
	}
	first, count, err := fetch()
	if err != nil {
		return 0, err
	}
	b.fill(first+1, count-1)
	return first, nil
}
