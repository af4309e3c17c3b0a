package coordinator

import "sync"

// notifier wakes everybody who waits for the state to change. Whoever waits
// takes the channel first, then looks at the state, then waits: a change
// between the look and the wait has closed the channel already.
type notifier struct {
	mu      sync.Mutex
	ch      chan struct{}
	awaited bool
}

func newNotifier() *notifier { return &notifier{ch: make(chan struct{})} }

// next returns a channel that is closed at the next signal.
func (n *notifier) next() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.awaited = true
	return n.ch
}

// signal wakes the waiting. It costs a lock when nobody waits.
func (n *notifier) signal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.awaited {
		return
	}
	close(n.ch)
	n.ch = make(chan struct{})
	n.awaited = false
}
