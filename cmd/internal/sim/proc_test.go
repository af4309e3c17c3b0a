package sim

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/oncelog/oncelog/internal/task"
)

// alone runs main as the only process of a world until nothing is left to do.
func alone(t *testing.T, main func(r *task.Runtime)) (*World, *Proc) {
	t.Helper()
	w := newWorld(1)
	p := w.newProc("p")
	p.start(func() { main(task.New(p)) })
	w.runUntil(time.Hour, nil)
	if w.failure != nil {
		t.Fatal(w.failure)
	}
	return w, p
}

func TestTasksTakeTurns(t *testing.T) {
	t.Parallel()
	var order []int
	alone(t, func(r *task.Runtime) {
		var g task.Group
		for i := range 3 {
			g.Go(r, func() {
				r.Sleep(time.Duration(3-i)*time.Second, nil)
				order = append(order, i)
				r.Yield()
				order = append(order, i)
			})
		}
		g.Wait(r)
		order = append(order, 9)
	})
	if !slices.Equal(order, []int{2, 2, 1, 1, 0, 0, 9}) {
		t.Error(order)
	}
}

func TestRuntimeOnAProcess(t *testing.T) {
	t.Parallel()
	alone(t, func(r *task.Runtime) {
		begin := r.Now()
		ctx, cancel := r.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		child, end := r.WithCancel(ctx)
		defer end()
		if at, ok := child.Deadline(); !ok || !at.Equal(begin.Add(time.Minute)) {
			t.Errorf("deadline %v, %v", at, ok)
		}
		if r.Wait(child.Done()); !errors.Is(child.Err(), context.DeadlineExceeded) || r.Since(begin) != time.Minute {
			t.Errorf("%v after %v", child.Err(), r.Since(begin))
		}
		caused, fail := r.WithCancelCause(context.Background())
		fail(errors.New("why"))
		if context.Cause(caused).Error() != "why" || !errors.Is(caused.Err(), context.Canceled) {
			t.Error(context.Cause(caused), caused.Err())
		}
		calls := 0
		timer := r.AfterFunc(time.Second, func() { calls++ })
		if !timer.Reset(2*time.Second) || !timer.Stop() || timer.Stop() {
			t.Error("a timer that waits can be moved, and stopped once")
		}
		timer.Reset(time.Second)
		r.Sleep(time.Minute, nil)
		if calls != 1 {
			t.Errorf("%d calls", calls)
		}
		results := make(chan int, 1)
		r.AfterFunc(time.Second, func() { results <- 7 })
		if v, stopped := task.Receive(r, results, make(chan struct{})); v != 7 || stopped != -1 {
			t.Error(v, stopped)
		}
		lock := task.NewLock()
		lock.Lock(r)
		r.AfterFunc(time.Second, lock.Unlock)
		if !lock.LockUntil(r, nil) {
			t.Error("the lock was given back and not taken")
		}
	})
}

// A process that dies leaves nothing behind but what it has sent before: what its
// tasks do while they unwind must not reach anybody.
func TestKill(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	n := newNetwork(w, Reach{})
	p, other := w.newProc("p"), w.newProc("other")
	other.start(func() {})
	received, unwound := 0, false
	p.start(func() {
		r := task.New(p)
		r.AfterFunc(time.Minute, func() { received++ })
		defer func() {
			unwound = true
			n.datagram(p, other, func() { received++ })
			r.Go(func() { received++ })
			r.Sleep(time.Hour, nil) // unwinds at once
			received++
		}()
		r.Sleep(time.Hour, nil)
	})
	w.runUntil(time.Second, nil)
	p.kill()
	w.runUntil(2*time.Hour, nil)
	if !unwound || received != 0 || w.failure != nil {
		t.Errorf("unwound: %v, effects: %d, %v", unwound, received, w.failure)
	}
	p.start(func() { received = 1 })
	w.runUntil(3*time.Hour, nil)
	if received != 1 {
		t.Error("a new life does nothing")
	}
	w.end()
}

func TestPause(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	p := w.newProc("p")
	var woke time.Duration
	p.start(func() {
		task.New(p).Sleep(time.Second, nil)
		woke = w.now
	})
	w.runUntil(time.Millisecond, nil)
	p.pause()
	w.runUntil(time.Minute, nil)
	if woke != 0 {
		t.Error("a paused process went on")
	}
	p.unpause()
	w.runUntil(2*time.Minute, nil)
	if woke != time.Minute {
		t.Errorf("went on at %v", woke)
	}
}

// What was due while a process was paused can be called off after it, before it
// happens: a timer that fires all the same ends a later wait. Simulated seed 775053.
func TestTimersOfAPauseCanBeStopped(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		w := newWorld(seed)
		p := w.newProc("p")
		var wrong string
		p.start(func() {
			r := task.New(p)
			ready, never := make(chan struct{}), make(chan struct{})
			// Both are due in the pause; whichever comes first calls the other off.
			timer := r.AfterFunc(2*time.Second, func() { wrong = "a timer that was stopped" })
			r.AfterFunc(time.Second, func() { timer.Stop(); close(ready) })
			if r.WaitFor(2*time.Second, ready) == task.Expired {
				return // that is right, too
			}
			if r.WaitFor(time.Hour, never) == task.Expired && w.now < time.Hour {
				wrong = "the end of another wait"
			}
		})
		w.runUntil(time.Millisecond, nil)
		p.pause()
		w.runUntil(time.Minute, nil)
		p.unpause()
		w.runUntil(3*time.Hour, nil)
		if wrong != "" {
			t.Fatalf("seed %d: %s came", seed, wrong)
		}
	}
}

// A task that panics is a finding, not the end of the simulator.
func TestPanic(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	p := w.newProc("p")
	p.start(func() { panic("boom") })
	w.runUntil(time.Second, nil)
	if w.failure == nil {
		t.Error("nobody noticed")
	}
}

func TestCutPaths(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	n := newNetwork(w, Reach{})
	a, b := w.newProc("a"), w.newProc("b")
	a.start(func() {})
	b.start(func() {})
	n.shut(a, b)
	n.shut(a, b) // by two faults
	n.open(a, b)
	if !n.blocked(a, b) || n.blocked(b, a) {
		t.Error("one of two faults opened the path, or it was shut both ways")
	}
	arrived := false
	n.reliable(a, b, 0, func() { arrived = true }, func() { t.Error("given up") })
	w.runUntil(500*time.Millisecond, nil)
	if arrived {
		t.Error("arrived over a path that is shut")
	}
	n.open(a, b)
	w.runUntil(time.Second, nil)
	if !arrived {
		t.Error("did not arrive when the path was open again")
	}
	lost := false
	n.shut(a, b)
	n.reliable(a, b, 0, func() { t.Error("arrived") }, func() { lost = true })
	w.runUntil(time.Minute, nil)
	if !lost {
		t.Error("a silent connection was never given up")
	}
}
