// Package task is how code that waits is run: on goroutines and the machine's
// clock, or by a scheduler that decides who runs when and what time it is.
//
// Servers and client are written as ordinary blocking code. They start
// goroutines, sleep, wait for channels, bound contexts and draw jitter through
// a [Runtime] and nowhere else. A nil Runtime is the machine: every method is a
// thin shell around go, select, package time and package context. With a
// [Scheduler] behind it the same code runs one task at a time, in an order, at a
// time and with a randomness that follow from a seed; that is how the simulator
// runs the code that ships, see cmd/internal/sim.
//
// Two rules make that work. A task waits only through its Runtime: it holds no
// mutex while it does, and never blocks in a channel operation of its own. And a
// channel joins tasks of one process only; what another process is told goes
// over the network.
package task

import (
	"math/rand/v2"
	"time"
)

// Scheduler runs tasks in place of the machine. Its methods are called by the
// task that is running.
type Scheduler interface {
	// Now returns the time of the process, which only ever moves on: spans are
	// measured by it.
	Now() time.Time
	// Wall returns the time of day, which somebody may set.
	Wall() time.Time
	// Go starts a task.
	Go(fn func())
	// Wait parks the calling task until poll returns true, which is asked now and
	// whenever something happened in the process. A limit of 0 or more bounds the
	// wait; false says that it is over.
	Wait(limit time.Duration, poll func() bool) bool
	// After calls fn once d has passed, as a task of its own or, if inline, in the
	// scheduler: fn must not wait then. stop reports whether that prevented the call.
	After(d time.Duration, inline bool, fn func()) (stop func() bool)
	// Uint64 draws a random number.
	Uint64() uint64
}

// Runtime runs the tasks of one process. Nil is the machine. It is safe for
// concurrent use.
type Runtime struct {
	s     Scheduler
	ahead time.Duration // the wall clock, of the machine's
}

// New returns a runtime on a scheduler.
func New(s Scheduler) *Runtime { return &Runtime{s: s} }

// Ahead returns the machine with a time of day that is ahead of its own by d, or behind
// below 0: tests give it to a process, as nobody may set the clock of a machine for them.
func Ahead(d time.Duration) *Runtime { return &Runtime{ahead: d} }

// scheduler returns nil for the machine.
func (r *Runtime) scheduler() Scheduler {
	if r == nil {
		return nil
	}
	return r.s
}

// Now returns the present; its monotonic part, if it has one, measures spans.
func (r *Runtime) Now() time.Time {
	if s := r.scheduler(); s != nil {
		return s.Now()
	}
	return time.Now()
}

// Wall returns the time of day: what is written into commands and records, and
// never used to measure. It jumps when somebody sets the clock.
func (r *Runtime) Wall() time.Time {
	if s := r.scheduler(); s != nil {
		return s.Wall()
	}
	if r != nil {
		return time.Now().Add(r.ahead)
	}
	return time.Now()
}

// Since returns how long ago t was.
func (r *Runtime) Since(t time.Time) time.Duration { return r.Now().Sub(t) }

// Uint64 draws a random number, for jitter and probes; never for a secret.
func (r *Runtime) Uint64() uint64 {
	if s := r.scheduler(); s != nil {
		return s.Uint64()
	}
	return rand.Uint64()
}

// Rand returns a generator for jitter, probes and shuffles; never for a secret.
func (r *Runtime) Rand() *rand.Rand { return rand.New(source{r}) }

type source struct{ r *Runtime }

func (s source) Uint64() uint64 { return s.r.Uint64() }

// Go runs fn concurrently.
func (r *Runtime) Go(fn func()) {
	if s := r.scheduler(); s != nil {
		s.Go(fn)
		return
	}
	go fn()
}

// Yield lets others run.
func (r *Runtime) Yield() {
	if s := r.scheduler(); s != nil {
		first := true
		s.Wait(-1, func() bool { ready := !first; first = false; return ready })
		return
	}
	yield()
}
