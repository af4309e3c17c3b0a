package client

import (
	"context"
	"slices"
	"sync"

	"github.com/oncelog/oncelog/internal/task"
)

// memory bounds the bytes of records that a producer holds. Who waits is served
// in the order of asking, so a large record is not starved by small ones.
type memory struct {
	rt    *task.Runtime
	limit int

	mu      sync.Mutex
	used    int
	waiters []*memoryWaiter
}

type memoryWaiter struct {
	n       int
	granted chan struct{}
}

func newMemory(rt *task.Runtime, limit int) *memory { return &memory{rt: rt, limit: limit} }

// acquire takes n bytes. It returns ctx's error, or ErrTxDone when stop is closed.
// A record larger than the whole buffer takes all of it. waits is called once if
// it has to wait, after which contended is true.
func (m *memory) acquire(ctx context.Context, stop <-chan struct{}, n int, waits func()) (taken int, err error) {
	n = min(n, m.limit)
	m.mu.Lock()
	if len(m.waiters) == 0 && m.used+n <= m.limit {
		m.used += n
		m.mu.Unlock()
		return n, nil
	}
	w := &memoryWaiter{n: n, granted: make(chan struct{})}
	m.waiters = append(m.waiters, w)
	m.mu.Unlock()
	waits()

	switch m.rt.Wait(w.granted, ctx.Done(), stop) {
	case 0:
		return n, nil
	case 1:
		err = ctx.Err()
	default:
		err = ErrTxDone
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.Index(m.waiters, w); i >= 0 {
		m.waiters = slices.Delete(m.waiters, i, i+1)
	} else {
		m.used -= n // granted in the meantime
	}
	m.grant()
	return 0, err
}

// contended reports whether somebody waits.
func (m *memory) contended() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.waiters) > 0
}

func (m *memory) release(n int) {
	if n == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= n
	if m.used < 0 {
		panic("client: more buffer memory was released than taken")
	}
	m.grant()
}

// grant serves waiters while there is room.
func (m *memory) grant() {
	for len(m.waiters) > 0 && m.used+m.waiters[0].n <= m.limit {
		m.used += m.waiters[0].n
		close(m.waiters[0].granted)
		m.waiters = m.waiters[1:]
	}
}
