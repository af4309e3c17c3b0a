package partition

import "sync"

// gate lets tasks in until it is shut, and tells when the last of them has left.
// Unlike a read-write lock it may be held while its holder waits.
type gate struct {
	mu     sync.Mutex
	inside int
	idle   chan struct{} // closed when nobody is inside; nil: not shut
}

// enter lets the caller in, who calls leave later; false: the gate is shut.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.idle != nil {
		return false
	}
	g.inside++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.inside == 0 && g.idle != nil {
		close(g.idle)
	}
}

// shut lets nobody in from here on and returns a channel that is closed when
// nobody is inside. It is called once.
func (g *gate) shut() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.idle = make(chan struct{})
	if g.inside == 0 {
		close(g.idle)
	}
	return g.idle
}
