package sim

import (
	"iter"
)

// fiber is a coroutine that runs tasks, one after the other. Exactly one fiber
// or the world runs at a time; control passes only when a task waits or ends.
type fiber struct {
	resume func() (struct{}, bool)
	stop   func()
	yield  func(struct{}) bool

	proc    *Proc
	fn      func()
	poll    func() bool
	timer   *event
	expired bool
	killed  bool
}

// killed unwinds the tasks of a process that crashed. Their deferred calls run,
// and have no effect on anything outside.
type killed struct{}

// fiber returns an idle fiber that will run fn in p.
func (w *World) fiber(p *Proc, fn func()) *fiber {
	var f *fiber
	if n := len(w.idle); n > 0 {
		f = w.idle[n-1]
		w.idle = w.idle[:n-1]
	} else {
		f = &fiber{}
		f.resume, f.stop = iter.Pull(func(yield func(struct{}) bool) {
			f.yield = yield
			for {
				f.work()
				if !yield(struct{}{}) {
					return
				}
			}
		})
	}
	f.proc, f.fn, f.killed = p, fn, false
	return f
}

// work runs one task to its end.
func (f *fiber) work() {
	defer func() {
		switch cause := recover().(type) {
		case nil, killed:
		default:
			f.proc.world.fail(f.proc, cause)
		}
		f.fn = nil
	}()
	f.fn()
}

// run lets a fiber go on until its task waits or ends.
func (w *World) run(f *fiber) {
	before := w.running
	w.running = f
	f.resume()
	w.running = before
	if f.fn == nil { // its task has ended
		f.proc, f.poll, f.timer = nil, nil, nil
		w.idle = append(w.idle, f)
	}
}

// end lets go of the coroutines: those that wait for a task would stay for ever.
func (w *World) end() {
	for _, p := range w.procs {
		p.kill()
	}
	for _, f := range w.idle {
		f.stop()
	}
	w.idle = nil
}
