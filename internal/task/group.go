package task

import "sync"

// Group waits for tasks to end. The zero value is ready.
type Group struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // closed when n becomes 0; nil: nobody waits
}

// Go runs fn as a task of the group.
func (g *Group) Go(r *Runtime, fn func()) {
	g.mu.Lock()
	g.n++
	g.mu.Unlock()
	r.Go(func() {
		defer g.done()
		fn()
	})
}

func (g *Group) done() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n--
	if g.n == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// Wait waits until all tasks of the group have ended.
func (g *Group) Wait(r *Runtime) {
	g.mu.Lock()
	if g.n == 0 {
		g.mu.Unlock()
		return
	}
	if g.idle == nil {
		g.idle = make(chan struct{})
	}
	idle := g.idle
	g.mu.Unlock()
	r.Wait(idle)
}

// Lock is a mutex that may be held while its holder waits. Make it with
// [NewLock].
type Lock chan struct{}

// NewLock returns a lock that nobody holds.
func NewLock() Lock { return make(Lock, 1) }

// Lock takes the lock.
func (l Lock) Lock(r *Runtime) { l.LockUntil(r, nil) }

// LockUntil takes the lock, or gives up when stop answers; false: it gave up.
func (l Lock) LockUntil(r *Runtime, stop <-chan struct{}) bool {
	s := r.scheduler()
	if s == nil {
		select {
		case l <- struct{}{}:
			return true
		case <-stop:
			return false
		}
	}
	locked := false
	s.Wait(-1, func() bool {
		select {
		case l <- struct{}{}:
			locked = true
			return true
		default:
			return Closed(stop)
		}
	})
	return locked
}

// Unlock gives the lock back.
func (l Lock) Unlock() { <-l }
