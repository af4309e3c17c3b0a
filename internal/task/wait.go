package task

import (
	"runtime"
	"time"
)

func yield() { runtime.Gosched() }

// Expired is what the bounded waits return when the time is up.
const Expired = -1

// maxChannels is how many channels one wait can have.
const maxChannels = 5

// Wait receives from one of at most five channels and returns its index. A nil
// channel never answers.
func (r *Runtime) Wait(chans ...<-chan struct{}) int {
	s := r.scheduler()
	if s == nil {
		return wait(nil, chans)
	}
	which := Expired
	s.Wait(-1, ready(s, &which, chans))
	return which
}

// WaitFor is Wait for at most limit, after which it returns [Expired]. A limit
// of 0 or less looks once.
func (r *Runtime) WaitFor(limit time.Duration, chans ...<-chan struct{}) int {
	s := r.scheduler()
	if s != nil {
		which := Expired
		s.Wait(max(limit, 0), ready(s, &which, chans))
		return which
	}
	if limit <= 0 {
		which := Expired
		poll(&which, 0, chans)
		return which
	}
	t := time.NewTimer(limit)
	defer t.Stop()
	return wait(t.C, chans)
}

// Sleep waits for d, or until stop answers; false: stopped.
func (r *Runtime) Sleep(d time.Duration, stop <-chan struct{}) bool {
	return r.WaitFor(d, stop) == Expired
}

// Receive receives from ch, or from one of at most four stops, whose index it
// returns; -1: from ch. It is for results that arrive once; a stream of them
// needs a queue and a signal.
func Receive[T any](r *Runtime, ch <-chan T, stops ...<-chan struct{}) (v T, stopped int) {
	s := r.scheduler()
	if s == nil {
		return receive(ch, stops)
	}
	// The copy keeps the arguments of the machine's path off the heap.
	return receiveScheduled(s, ch, append([]<-chan struct{}(nil), stops...))
}

func receiveScheduled[T any](s Scheduler, ch <-chan T, stops []<-chan struct{}) (v T, stopped int) {
	first := s.Uint64()
	s.Wait(-1, func() bool {
		// A result that is there wins as often as not against a stop that is, too.
		if first&1 == 0 && poll(&stopped, first, stops) {
			return true
		}
		select {
		case v = <-ch:
			stopped = -1
			return true
		default:
		}
		return first&1 == 1 && poll(&stopped, first, stops)
	})
	return v, stopped
}

// ready returns a function that looks for a channel that answers, beginning at
// a random one, as select does.
func ready(s Scheduler, which *int, chans []<-chan struct{}) func() bool {
	// The copy keeps the arguments of the machine's path off the heap.
	own := append([]<-chan struct{}(nil), chans...)
	first := uint64(0)
	if len(own) > 1 {
		first = s.Uint64()
	}
	return func() bool { return poll(which, first, own) }
}

// poll receives from one channel that answers at once, if there is one.
func poll(which *int, first uint64, chans []<-chan struct{}) bool {
	n := len(chans)
	if n == 0 {
		return false
	}
	at := 0
	if n > 1 { // simulators come here more often than anywhere else
		at = int(first % uint64(n))
	}
	for range n {
		select {
		case <-chans[at]:
			*which = at
			return true
		default:
		}
		if at++; at == n {
			at = 0
		}
	}
	return false
}

// wait selects over an optional timer and the channels. A select has a fixed
// number of cases: the nil ones never answer.
func wait(timer <-chan time.Time, chans []<-chan struct{}) int {
	var c [maxChannels]<-chan struct{}
	if copy(c[:], chans) < len(chans) {
		panic("task: too many channels in one wait")
	}
	switch {
	case timer == nil && len(chans) == 1:
		<-c[0]
		return 0
	case timer == nil && len(chans) == 2:
		select {
		case <-c[0]:
			return 0
		case <-c[1]:
			return 1
		}
	}
	select {
	case <-timer:
		return Expired
	case <-c[0]:
		return 0
	case <-c[1]:
		return 1
	case <-c[2]:
		return 2
	case <-c[3]:
		return 3
	case <-c[4]:
		return 4
	}
}

func receive[T any](ch <-chan T, stops []<-chan struct{}) (v T, stopped int) {
	var c [maxChannels - 1]<-chan struct{}
	if copy(c[:], stops) < len(stops) {
		panic("task: too many channels in one wait")
	}
	select {
	case v = <-ch:
		return v, -1
	case <-c[0]:
		return v, 0
	case <-c[1]:
		return v, 1
	case <-c[2]:
		return v, 2
	case <-c[3]:
		return v, 3
	}
}

// Signal wakes whoever waits on a channel of size one, now or later.
func Signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Closed reports whether ch has been closed, or has something to receive, which
// is then taken.
func Closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
