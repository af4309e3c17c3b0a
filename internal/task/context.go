package task

import (
	"context"
	"time"
)

// WithCancel is context.WithCancel.
func (r *Runtime) WithCancel(parent context.Context) (context.Context, context.CancelFunc) {
	if r.scheduler() == nil {
		return context.WithCancel(parent)
	}
	inner, cancel := context.WithCancelCause(parent)
	return &scheduled{Context: inner}, func() { cancel(nil) }
}

// WithCancelCause is context.WithCancelCause.
func (r *Runtime) WithCancelCause(parent context.Context) (context.Context, context.CancelCauseFunc) {
	if r.scheduler() == nil {
		return context.WithCancelCause(parent)
	}
	inner, cancel := context.WithCancelCause(parent)
	return &scheduled{Context: inner}, cancel
}

// WithTimeout is context.WithTimeout by the runtime's clock.
func (r *Runtime) WithTimeout(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if r.scheduler() == nil {
		return context.WithTimeout(parent, d)
	}
	return r.WithDeadline(parent, r.Now().Add(d))
}

// WithDeadline is context.WithDeadline by the runtime's clock.
func (r *Runtime) WithDeadline(parent context.Context, at time.Time) (context.Context, context.CancelFunc) {
	s := r.scheduler()
	if s == nil {
		return context.WithDeadline(parent, at)
	}
	if earlier, ok := parent.Deadline(); ok && earlier.Before(at) {
		return r.WithCancel(parent)
	}
	inner, cancel := context.WithCancelCause(parent)
	c := &scheduled{Context: inner, deadline: at}
	if left := at.Sub(s.Now()); left > 0 {
		stop := s.After(left, true, func() { cancel(context.DeadlineExceeded) })
		return c, func() { stop(); cancel(nil) }
	}
	cancel(context.DeadlineExceeded)
	return c, func() {}
}

// scheduled is a context whose deadline is a scheduler's: the machine's clock
// has no part in it. That the deadline passed is the cause of its end, and is
// inherited as such by contexts made of it.
type scheduled struct {
	context.Context
	deadline time.Time // zero: the parent's
}

// Deadline implements context.Context.
func (c *scheduled) Deadline() (time.Time, bool) {
	if !c.deadline.IsZero() {
		return c.deadline, true
	}
	return c.Context.Deadline()
}

// Err implements context.Context.
func (c *scheduled) Err() error {
	err := c.Context.Err()
	if err == nil {
		return nil
	}
	//nolint:errorlint // a cause that wraps a deadline is that of somebody who cancelled because of one
	if context.Cause(c.Context) == context.DeadlineExceeded {
		return context.DeadlineExceeded
	}
	return err
}
