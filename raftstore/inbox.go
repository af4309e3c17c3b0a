package raftstore

import (
	"sync"

	"github.com/oncelog/oncelog/internal/task"
)

// maxPendingTicks bounds the ticks a slow turn may owe. Time that passed while
// the loop was busy is better forgotten than made up for: catching up would
// start elections although the leader's messages are waiting in the inbox.
const maxPendingTicks = 2

// inbox gathers inputs while the loop is busy.
type inbox struct {
	wake chan struct{}

	mu       sync.Mutex
	closed   bool
	in       inputs
	bytes    int64 // of messages and chunks
	maxBytes int64
}

// add runs fn under the lock unless the inbox is closed or fn declines.
func (b *inbox) add(fn func() bool) bool {
	b.mu.Lock()
	ok := !b.closed && fn()
	b.mu.Unlock()
	if ok {
		task.Signal(b.wake)
	}
	return ok
}

func (b *inbox) addCall(call func()) bool {
	return b.add(func() bool { b.in.calls = append(b.in.calls, call); return true })
}

func (b *inbox) addProposal(p groupProposal) bool {
	return b.add(func() bool { b.in.proposals = append(b.in.proposals, p); return true })
}

func (b *inbox) addRead(r groupRead) bool {
	return b.add(func() bool { b.in.reads = append(b.in.reads, r); return true })
}

func (b *inbox) addMessage(m Message, size int64) bool {
	return b.add(func() bool {
		if !b.fits(size) {
			return false
		}
		b.in.messages = append(b.in.messages, m)
		return true
	})
}

func (b *inbox) addChunk(c receivedChunk, size int64) bool {
	return b.add(func() bool {
		if !b.fits(size) {
			return false
		}
		b.in.chunks = append(b.in.chunks, c)
		return true
	})
}

// fits counts what is to be added, if there is room. One always fits, however
// large.
func (b *inbox) fits(size int64) bool {
	if b.bytes > 0 && b.bytes+size > b.maxBytes {
		return false
	}
	b.bytes += size
	return true
}

func (b *inbox) addTick() {
	b.mu.Lock()
	b.in.ticks = min(b.in.ticks+1, maxPendingTicks)
	b.mu.Unlock()
}

// take swaps the gathered inputs with into, which must be empty.
func (b *inbox) take(into *inputs) {
	b.mu.Lock()
	b.in, *into = *into, b.in
	b.bytes = 0
	b.mu.Unlock()
}

// close takes the last inputs and declines all later ones.
func (b *inbox) close(into *inputs) {
	b.mu.Lock()
	b.closed = true
	b.in, *into = *into, b.in
	b.mu.Unlock()
}

func (b *inbox) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// reset empties the inputs and keeps their memory.
func (in *inputs) reset() {
	clear(in.calls)
	clear(in.messages)
	clear(in.chunks)
	clear(in.proposals)
	clear(in.reads)
	in.calls, in.messages, in.chunks = in.calls[:0], in.messages[:0], in.chunks[:0]
	in.proposals, in.reads = in.proposals[:0], in.reads[:0]
	in.ticks = 0
}
