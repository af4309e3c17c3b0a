package sim

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"
)

// epoch is when every simulation begins; a round number keeps traces readable.
var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// World is one simulated universe: virtual time, processes, and everything that
// has been arranged to happen. It is driven by one goroutine.
type World struct {
	now    time.Duration // since epoch
	events eventHeap
	seq    uint64
	// sched decides who runs first among those who could, and which ready channel
	// a wait takes; net decides what happens to messages. They are apart, so that a
	// trace with fewer faults stays as close as it can to the one it came from.
	sched, net *rand.Rand

	procs   []*Proc
	running *fiber // nil: the world itself
	idle    []*fiber

	trace   trace
	steps   uint64
	failure error // the first panic of a task
}

func newWorld(seed uint64) *World {
	return &World{
		sched: rand.New(rand.NewPCG(seed, 1)),
		net:   rand.New(rand.NewPCG(seed, 2)),
	}
}

// event is something that happens at a time, in a process or, without one, in
// the world.
type event struct {
	at   time.Duration
	seq  uint64
	proc *Proc
	life uint64 // of proc: what was arranged by or for an earlier life is void
	fn   func()
	void bool
}

// at arranges for fn to be called d from now, in the life of p that is now; a
// nil p is the world. fn must not wait.
func (w *World) at(d time.Duration, p *Proc, fn func()) *event {
	e := &event{at: w.now + max(d, 0), proc: p, fn: fn}
	if p != nil {
		e.life = p.life
	}
	w.arrange(e)
	return e
}

func (w *World) arrange(e *event) {
	e.seq = w.seq
	w.seq++
	w.events.push(e)
}

// again has what was due happen now: the same event, which may still be called off.
func (w *World) again(e *event) {
	e.at = w.now
	w.arrange(e)
}

// runUntil lets everything happen that is due before the end, or until done
// returns true, and reports whether it did.
func (w *World) runUntil(end time.Duration, done func() bool) bool {
	for w.failure == nil {
		if done != nil && done() {
			return true
		}
		e := w.events.top()
		if e == nil || e.at > end {
			w.now = max(w.now, end)
			return false
		}
		w.events.pop()
		w.step(e)
	}
	return false
}

func (w *World) step(e *event) {
	if e.void {
		return
	}
	w.now = e.at
	p := e.proc
	switch {
	case p == nil:
		w.steps++
		w.trace.mix(uint64(w.now), 0)
		e.fn()
		return
	case e.life != p.life:
		return
	case p.paused:
		p.held = append(p.held, e)
		return
	}
	w.steps++
	w.trace.mix(uint64(w.now), p.id)
	e.fn()
	p.settle()
}

// fail ends the simulation: a task of p panicked.
func (w *World) fail(p *Proc, cause any) {
	if w.failure == nil {
		w.failure = fmt.Errorf("%s panicked: %v\n%s", p.name, cause, debug.Stack())
	}
}

// eventHeap is a binary heap by time, then by order of arrangement.
type eventHeap []*event

func (h eventHeap) before(i, j int) bool {
	if h[i].at != h[j].at {
		return h[i].at < h[j].at
	}
	return h[i].seq < h[j].seq
}

// top returns the next event, leaving out the void ones.
func (h *eventHeap) top() *event {
	for len(*h) > 0 && (*h)[0].void {
		h.pop()
	}
	if len(*h) == 0 {
		return nil
	}
	return (*h)[0]
}

func (h *eventHeap) push(e *event) {
	*h = append(*h, e)
	s := *h
	for i := len(s) - 1; i > 0; {
		parent := (i - 1) / 2
		if !s.before(i, parent) {
			break
		}
		s[i], s[parent] = s[parent], s[i]
		i = parent
	}
}

func (h *eventHeap) pop() {
	s := *h
	last := len(s) - 1
	s[0], s[last] = s[last], nil
	s = s[:last]
	*h = s
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			return
		}
		if child+1 < last && s.before(child+1, child) {
			child++
		}
		if !s.before(child, i) {
			return
		}
		s[i], s[child] = s[child], s[i]
		i = child
	}
}
