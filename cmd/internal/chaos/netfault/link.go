package netfault

import (
	"net"
	"sync"
	"time"
)

const (
	// pieceBytes is how much is carried at once.
	pieceBytes = 32 << 10
	// piecesAhead is how many pieces of one direction are under way; whoever sends
	// more than that, and what the kernel holds, waits.
	piecesAhead = 64
)

// link is one connection from one process to another, in two halves.
type link struct {
	n        *Network
	from, to string
	down     *net.TCPConn // to who dialed
	up       *net.TCPConn // to who was dialed; set by run
	done     chan struct{}

	forward, backward *pipe

	mu    sync.Mutex
	ended bool
	alone *net.TCPConn // the end that is not told; nil: both are
}

func newLink(n *Network, from, to string, down *net.TCPConn) *link {
	l := &link{n: n, from: from, to: to, down: down, done: make(chan struct{})}
	l.forward = &pipe{link: l, from: from, to: to, over: make(chan struct{})}
	l.backward = &pipe{link: l, from: to, to: from, over: make(chan struct{})}
	return l
}

// run carries bytes in both directions until the link has ended.
func (l *link) run(up *net.TCPConn) {
	l.mu.Lock()
	l.up = up
	ended := l.ended
	l.mu.Unlock()
	if ended {
		reset(up)
		return
	}
	var halves sync.WaitGroup
	halves.Go(func() { l.forward.run(l.down, up) })
	halves.Go(func() { l.backward.run(up, l.down) })
	halves.Wait()
}

// close breaks the link for both ends; false: it was broken.
func (l *link) close() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.ended = true
	close(l.done)
	reset(l.down)
	if l.up != nil {
		reset(l.up)
	}
	return true
}

// abandon breaks the link for one end and leaves the other alone with it: who
// dialed, or with back who was dialed. false: there are not two ends.
func (l *link) abandon(back bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || l.up == nil || l.alone != nil {
		return false
	}
	if l.alone = l.down; back {
		l.alone = l.up
		reset(l.down)
	} else {
		reset(l.up)
	}
	return true
}

// forsaken reports whether an end is to hear nothing more, not even an end.
func (l *link) forsaken(end *net.TCPConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.alone == end
}

// reset ends a connection without a farewell.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0) // fails only if it is closed
	_ = c.Close()
}

// pipe is one direction of a link.
type pipe struct {
	link     *link
	from, to string
	over     chan struct{} // closed by finish: the direction is over
	once     sync.Once
}

// piece is what was read at once; nothing: the end.
type piece struct {
	data []byte
	due  time.Time
}

// finish ends the direction: its receiver is told, and what still comes is lost.
// false: it was finished before.
func (p *pipe) finish() (first bool) {
	p.once.Do(func() {
		close(p.over)
		first = true
	})
	return first
}

func (p *pipe) run(src, dst *net.TCPConn) {
	pieces := make(chan piece, piecesAhead)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(pieces)
		p.read(src, pieces)
	})
	whole := p.write(dst, pieces)
	for rest := range pieces { // keep reading what nobody is to get
		p.link.n.held.Add(-int64(len(rest.data)))
	}
	reading.Wait()
	if !whole && !p.link.forsaken(src) {
		p.link.close()
	}
}

// read reads pieces until the source ends.
func (p *pipe) read(src *net.TCPConn, pieces chan<- piece) {
	for {
		buf := make([]byte, pieceBytes)
		k, err := src.Read(buf)
		if k > 0 {
			rule, _ := p.link.n.rule(p.from, p.to)
			p.link.n.held.Add(int64(k))
			select {
			case pieces <- piece{data: buf[:k], due: rule.due(time.Now())}:
			case <-p.link.done:
				p.link.n.held.Add(-int64(k))
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// write writes pieces when they are due and not cut off. It reports whether the
// direction came to its end in order: the source's end was passed on, or finish
// was called.
func (p *pipe) write(dst *net.TCPConn, pieces <-chan piece) bool {
	for {
		var next piece
		var more bool
		select {
		case next, more = <-pieces:
		case <-p.over:
		}
		passable := p.await(next.due)
		p.link.n.held.Add(-int64(len(next.data)))
		switch {
		case p.link.forsaken(dst):
			return true
		case !passable:
			return false
		case p.finished() || !more:
			return dst.CloseWrite() == nil
		}
		if _, err := dst.Write(next.data); err != nil {
			return p.link.forsaken(dst)
		}
		p.link.n.passed.Add(int64(len(next.data)))
	}
}

func (p *pipe) finished() bool {
	select {
	case <-p.over:
		return true
	default:
		return false
	}
}

// await waits until it is time and the direction is not cut off, or finished;
// false: the link ended first.
func (p *pipe) await(due time.Time) bool {
	if wait := time.Until(due); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-p.over:
		case <-p.link.done:
			return false
		}
	}
	for !p.finished() {
		rule, changed := p.link.n.rule(p.from, p.to)
		if !rule.Cut {
			break
		}
		select {
		case <-changed:
		case <-p.over:
		case <-p.link.done:
			return false
		}
	}
	return true
}
