package partition

import "sync"

// waiters wakes readers of a shard. A reader takes its channel, then looks at
// the state, then waits. The machine marks those whose partition an entry
// changed, and flush wakes the marked once the entry's rows are visible.
type waiters struct {
	mu          sync.Mutex
	byPartition map[uint64]chan struct{}
	marked      []chan struct{}
	published   chan struct{} // closed by the next flush, if awaited
	awaited     bool
}

func newWaiters() *waiters {
	return &waiters{byPartition: map[uint64]chan struct{}{}, published: make(chan struct{})}
}

// partition returns a channel that is closed after the next change of what may
// be seen of a partition.
func (w *waiters) partition(id uint64) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	ch, ok := w.byPartition[id]
	if !ok {
		ch = make(chan struct{})
		w.byPartition[id] = ch
	}
	return ch
}

// publication returns a channel that is closed by the next flush.
func (w *waiters) publication() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.awaited = true
	return w.published
}

// mark notes that an entry changed a partition. Whoever asks for a channel
// after this sees the changed state.
func (w *waiters) mark(id uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ch, ok := w.byPartition[id]; ok {
		delete(w.byPartition, id)
		w.marked = append(w.marked, ch)
	}
}

// flush wakes the marked.
func (w *waiters) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flushLocked()
}

func (w *waiters) flushLocked() {
	for i, ch := range w.marked {
		close(ch)
		w.marked[i] = nil
	}
	w.marked = w.marked[:0]
	if w.awaited {
		close(w.published)
		w.published, w.awaited = make(chan struct{}), false
	}
}

// wakeAll wakes everybody: leadership has changed.
func (w *waiters) wakeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ch := range w.byPartition {
		w.marked = append(w.marked, ch)
	}
	clear(w.byPartition)
	w.flushLocked()
}
