package task

import (
	"sync"
	"time"
)

// Timer calls a function once, later; see [Runtime.AfterFunc].
type Timer struct {
	machine *time.Timer // nil: a scheduler's

	s    Scheduler
	fn   func()
	mu   sync.Mutex
	stop func() bool
}

// AfterFunc calls fn in a task of its own once d has passed.
func (r *Runtime) AfterFunc(d time.Duration, fn func()) *Timer {
	s := r.scheduler()
	if s == nil {
		return &Timer{machine: time.AfterFunc(d, fn)}
	}
	return &Timer{s: s, fn: fn, stop: s.After(d, false, fn)}
}

// Stop prevents the call and reports whether it was still to come.
func (t *Timer) Stop() bool {
	if t.machine != nil {
		return t.machine.Stop()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stop()
}

// Reset has the function called once d from now has passed, and reports whether
// an earlier call was still to come; that one does not happen then.
func (t *Timer) Reset(d time.Duration) bool {
	if t.machine != nil {
		return t.machine.Reset(d)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	pending := t.stop()
	t.stop = t.s.After(d, false, t.fn)
	return pending
}
