package task_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oncelog/oncelog/internal/task"
)

// machine is the runtime of everything but the simulator, whose tests are in
// cmd/internal/sim.
var machine *task.Runtime

func TestWaitTellsWhichChannelAnswered(t *testing.T) {
	t.Parallel()
	ready := make(chan struct{})
	close(ready)
	never := make(chan struct{})
	for i := range 5 {
		chans := []<-chan struct{}{never, never, never, never, never}
		chans[i] = ready
		if got := machine.Wait(chans...); got != i {
			t.Errorf("channel %d answered, Wait says %d", i, got)
		}
		if got := machine.WaitFor(time.Hour, chans...); got != i {
			t.Errorf("channel %d answered, WaitFor says %d", i, got)
		}
		if got := machine.WaitFor(0, chans...); got != i {
			t.Errorf("channel %d answered, a look says %d", i, got)
		}
	}
	if got := machine.WaitFor(-time.Second, never, nil); got != task.Expired {
		t.Errorf("a look at silent channels says %d", got)
	}
	for n := range 2 {
		if got := machine.Wait(append([]<-chan struct{}{ready}, make([]<-chan struct{}, n)...)...); got != 0 {
			t.Errorf("with %d nil channels: %d", n, got)
		}
	}
}

func TestTooManyChannels(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("six channels were accepted")
		}
	}()
	machine.Wait(nil, nil, nil, nil, nil, nil)
}

func TestWaitForExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := machine.Now()
		if got := machine.WaitFor(time.Minute, make(chan struct{})); got != task.Expired {
			t.Errorf("WaitFor says %d", got)
		}
		if !machine.Sleep(time.Minute, nil) {
			t.Error("Sleep was stopped by nobody")
		}
		if waited := machine.Since(begin); waited != 2*time.Minute {
			t.Errorf("waited %v", waited)
		}
		stop := make(chan struct{})
		machine.AfterFunc(time.Second, func() { close(stop) })
		if machine.Sleep(time.Hour, stop) {
			t.Error("Sleep was not stopped")
		}
	})
}

func TestReceive(t *testing.T) {
	t.Parallel()
	results, stop := make(chan string, 1), make(chan struct{})
	results <- "done"
	if v, stopped := task.Receive(machine, results, stop); v != "done" || stopped != -1 {
		t.Errorf("%q, stopped by %d", v, stopped)
	}
	close(stop)
	for i := range 4 {
		stops := make([]<-chan struct{}, 4)
		stops[i] = stop
		if v, stopped := task.Receive(machine, results, stops...); v != "" || stopped != i {
			t.Errorf("%q, stopped by %d, want %d", v, stopped, i)
		}
	}
}

func TestTimer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// Atomic: fake time passing orders nothing for the race detector.
		var calls atomic.Int32
		timer := machine.AfterFunc(time.Second, func() { calls.Add(1) })
		if !timer.Reset(time.Minute) {
			t.Error("the first call was not to come any more")
		}
		machine.Sleep(59*time.Second, nil)
		synctest.Wait()
		if calls.Load() != 0 {
			t.Error("called before its time")
		}
		machine.Sleep(time.Second, nil)
		synctest.Wait()
		if n := calls.Load(); n != 1 || timer.Stop() {
			t.Errorf("%d calls, and another one was to come", n)
		}
	})
}

func TestGroupAndLock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g task.Group
		g.Wait(machine) // of none
		lock := task.NewLock()
		n := 0
		for range 10 {
			g.Go(machine, func() {
				lock.Lock(machine)
				defer lock.Unlock()
				was := n
				machine.Sleep(time.Second, nil)
				n = was + 1
			})
		}
		g.Wait(machine)
		if n != 10 {
			t.Errorf("%d of 10 tasks held the lock alone", n)
		}
		lock.Lock(machine)
		stop := make(chan struct{})
		close(stop)
		if lock.LockUntil(machine, stop) {
			t.Error("a lock that is held was given")
		}
	})
}

func TestContexts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := machine.WithTimeout(t.Context(), time.Second)
		defer cancel()
		machine.Wait(ctx.Done())
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t.Error(ctx.Err())
		}
		caused, end := machine.WithCancelCause(t.Context())
		why := errors.New("why")
		end(why)
		if !errors.Is(context.Cause(caused), why) {
			t.Error(context.Cause(caused))
		}
	})
}

func TestCarriedByAContext(t *testing.T) {
	t.Parallel()
	if r := task.From(t.Context()); r != nil {
		t.Error("a context that carries nothing is not the machine's")
	}
	r := task.New(nil)
	if task.From(task.With(t.Context(), r)) != r {
		t.Error("lost on the way")
	}
}

func TestSignal(t *testing.T) {
	t.Parallel()
	ch := make(chan struct{}, 1)
	task.Signal(ch)
	task.Signal(ch) // does not block
	if !task.Closed(ch) || task.Closed(ch) {
		t.Error("two signals before anybody looked are one")
	}
}
