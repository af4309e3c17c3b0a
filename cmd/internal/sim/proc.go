package sim

import (
	"slices"
	"time"

	"github.com/oncelog/oncelog/internal/task"
)

// Proc is a process: tasks that share memory, a clock, and a life that ends for
// all of them at once. It is the scheduler behind a task.Runtime.
type Proc struct {
	world *World
	id    uint64
	name  string
	// life counts the starts; what belongs to an earlier one never happens.
	life  uint64
	alive bool

	paused bool
	held   []*event // due while paused

	// skew is how far the time of day is off.
	skew time.Duration

	parked  []*fiber // wait, in an order that is stirred now and then
	started []*fiber // to be run for the first time

	onExit []func() // what outside of the process notices its end
}

var _ task.Scheduler = (*Proc)(nil)

func (w *World) newProc(name string) *Proc {
	p := &Proc{world: w, id: uint64(len(w.procs) + 1), name: name}
	w.procs = append(w.procs, p)
	return p
}

// start begins a life with one task.
func (p *Proc) start(main func()) {
	p.life++
	p.alive, p.paused = true, false
	p.world.at(0, p, func() { p.Go(main) })
}

// Now implements task.Scheduler.
func (p *Proc) Now() time.Time { return epoch.Add(p.world.now) }

// Wall implements task.Scheduler.
func (p *Proc) Wall() time.Time { return epoch.Add(p.world.now + p.skew) }

// Uint64 implements task.Scheduler.
func (p *Proc) Uint64() uint64 { return p.world.sched.Uint64() }

// Go implements task.Scheduler.
func (p *Proc) Go(fn func()) {
	if p.alive {
		p.started = append(p.started, p.world.fiber(p, fn))
	}
}

// After implements task.Scheduler.
func (p *Proc) After(d time.Duration, inline bool, fn func()) (stop func() bool) {
	if !p.alive {
		return func() bool { return false }
	}
	called := false
	e := p.world.at(d, p, func() {
		called = true
		if inline {
			fn()
		} else {
			p.Go(fn)
		}
	})
	return func() bool {
		pending := !called && !e.void
		e.void = true
		return pending
	}
}

// Wait implements task.Scheduler.
func (p *Proc) Wait(limit time.Duration, poll func() bool) bool {
	w := p.world
	f := w.running
	if f == nil || f.proc != p {
		panic("sim: a task waits through the runtime of another process, or what must not wait does")
	}
	if f.killed {
		panic(killed{})
	}
	if poll() {
		return true
	}
	if limit == 0 {
		return false
	}
	f.poll, f.expired = poll, false
	if limit > 0 {
		f.timer = w.at(limit, p, func() { f.expired = true })
	}
	p.parked = append(p.parked, f)
	f.yield(struct{}{})
	if f.timer != nil {
		f.timer.void, f.timer = true, nil
	}
	if f.killed {
		panic(killed{})
	}
	return !f.expired
}

// settle runs tasks until every one waits for something that has not happened.
func (p *Proc) settle() {
	for progress := true; progress && p.alive && p.world.failure == nil; {
		progress = p.runStarted()
		p.stir()
		for i := 0; i < len(p.parked) && p.alive; {
			f := p.parked[i]
			if !f.poll() {
				if !f.expired {
					i++
					continue
				}
			} else {
				f.expired = false
			}
			p.parked = slices.Delete(p.parked, i, i+1)
			p.world.run(f)
			progress = true
		}
	}
}

func (p *Proc) runStarted() (some bool) {
	for len(p.started) > 0 && p.alive {
		f := p.started[0]
		p.started = p.started[1:]
		p.world.run(f)
		some = true
	}
	return some
}

// stir changes the order in which tasks are looked at.
func (p *Proc) stir() {
	if n := len(p.parked); n > 1 {
		r := p.world.sched.Uint64()
		if r&3 == 0 {
			i, j := int(r>>8%uint64(n)), int(r>>32%uint64(n))
			p.parked[i], p.parked[j] = p.parked[j], p.parked[i]
		}
	}
}

// kill ends the process now, like a power cut: nothing it does while its tasks
// unwind reaches anything outside. It must not be called by one of its tasks,
// see exit.
func (p *Proc) kill() {
	if !p.alive {
		return
	}
	p.alive, p.paused, p.held = false, false, nil
	p.life++
	for len(p.parked) > 0 {
		f := p.parked[0]
		p.parked = p.parked[1:]
		f.killed = true
		p.world.run(f)
	}
	for _, f := range p.started {
		f.proc, f.fn = nil, nil
		p.world.idle = append(p.world.idle, f)
	}
	p.started, p.parked = nil, nil
	told := p.onExit
	p.onExit = nil
	for _, fn := range told {
		fn()
	}
}

// exit ends the process from within: it is over before anything else happens.
func (p *Proc) exit(then func()) {
	life := p.life
	p.world.at(0, nil, func() {
		if p.life == life {
			p.kill()
			then()
		}
	})
}

// pause stops the process as SIGSTOP does; what is due meanwhile waits.
func (p *Proc) pause() { p.paused = p.alive }

// unpause lets it go on: everything that was due happens now, in order.
func (p *Proc) unpause() {
	if !p.paused {
		return
	}
	p.paused = false
	held := p.held
	p.held = nil
	for _, e := range held {
		if !e.void && e.life == p.life {
			p.world.again(e)
		}
	}
}
