package partition

import (
	"sync"

	"github.com/oncelog/oncelog/internal/task"
)

// budget counts bytes on their way, so that a caller can wait while there are
// too many of them.
type budget struct {
	limit  int
	shared *shared // nil: none
	mu     sync.Mutex
	used   int
	closed bool
	room   chan struct{} // size one
}

func newBudget(limit int) *budget { return &budget{limit: limit, room: make(chan struct{}, 1)} }

// within has what is taken count for s as well.
func (b *budget) within(s *shared) *budget {
	b.shared = s
	return b
}

func (b *budget) take(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used += n
	if b.shared != nil && !b.closed {
		b.shared.add(n)
	}
}

func (b *budget) give(n int) {
	b.mu.Lock()
	b.used -= n
	if b.shared != nil && !b.closed {
		b.shared.add(-n)
	}
	b.mu.Unlock()
	task.Signal(b.room)
}

// close gives back what is used of the shared budget: nobody collects what is under way.
func (b *budget) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shared != nil && !b.closed {
		b.shared.add(-b.used)
	}
	b.closed = true
}

// wait returns once less than the limit is used, and there is room in the shared budget for
// one that uses as much; false: stop came first. What is taken after that may go beyond the
// limit by one frame.
func (b *budget) wait(run *task.Runtime, stop <-chan struct{}) bool {
	for {
		b.mu.Lock()
		used := b.used
		b.mu.Unlock()
		var others <-chan struct{} // nil: those of this stream come first
		if used < b.limit {
			if b.shared == nil {
				return true
			}
			if others = b.shared.wait(used); others == nil {
				return true
			}
		}
		if run.Wait(b.room, stop, others) == 1 {
			return false
		}
	}
}

// sharedPart is the part of a shared budget that one stream may use while it is exceeded.
const sharedPart = 64

// shared is the budget of all append streams of a node. While it is exceeded those wait that
// use more than a 64th of it: so a few that use it up do not keep out those that use little.
// At twice the limit all wait.
type shared struct {
	limit int
	mu    sync.Mutex
	used  int
	less  chan struct{} // closed when less is used; nil: nobody waits
}

func newShared(limit int) *shared { return &shared{limit: limit} }

func (s *shared) add(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used += n
	if n < 0 && s.less != nil {
		close(s.less)
		s.less = nil
	}
}

// wait returns what a stream that uses mine has to wait for before it looks again; nil: it
// may take more.
func (s *shared) wait(mine int) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used < s.limit || mine <= s.limit/sharedPart && s.used < 2*s.limit {
		return nil
	}
	if s.less == nil {
		s.less = make(chan struct{})
	}
	return s.less
}
