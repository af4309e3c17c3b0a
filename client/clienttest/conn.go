package clienttest

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// link is a connection: a flow from the endpoint that made it, and one back.
type link struct {
	net         *network
	there, back *flow

	mu     sync.Mutex
	closed int // ends that are
}

// conn is one end of a link. It implements net.Conn.
type conn struct {
	link    *link
	in, out *flow
	once    sync.Once
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) { return c.in.read(p) }

// Write implements net.Conn. It never blocks: what is under way is bounded by
// HTTP/2's windows.
func (c *conn) Write(p []byte) (int, error) { return c.out.write(p) }

// Close implements net.Conn. The other end reads what is under way, then EOF.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.out.finish()
		c.in.shut()
		c.link.mu.Lock()
		c.link.closed++
		both := c.link.closed == 2
		c.link.mu.Unlock()
		if both {
			c.link.net.forget(c.link)
		}
	})
	return nil
}

// LocalAddr implements net.Conn. It is the name of the endpoint.
func (c *conn) LocalAddr() net.Addr { return addr(c.out.from) }

// RemoteAddr implements net.Conn. It is the name of the endpoint.
func (c *conn) RemoteAddr() net.Addr { return addr(c.in.from) }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(t)
	return nil
}

// SetWriteDeadline implements net.Conn; a write never takes long enough.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// flow is one direction of a connection. It has one reader.
type flow struct {
	net      *network
	from, to string
	news     chan struct{} // of size one

	mu       sync.Mutex
	data     []byte
	finished bool // the writer has closed its end
	lost     bool // the writer has died, and with it what was under way
	unread   bool // the reader has closed its end
	severed  bool // reset at both ends
	deadline time.Time
}

func newFlow(n *network, from, to string) *flow {
	return &flow{net: n, from: from, to: to, news: make(chan struct{}, 1)}
}

func (f *flow) wake() {
	select {
	case f.news <- struct{}{}:
	default:
	}
}

func (f *flow) read(p []byte) (int, error) {
	for {
		n, left, err := f.take(p)
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
		if left == 0 {
			<-f.news
			continue
		}
		t := time.NewTimer(left)
		select {
		case <-f.news:
		case <-t.C:
		}
		t.Stop()
	}
}

// take reads what there is. left is the time until the deadline; 0: there is
// none.
func (f *flow) take(p []byte) (n int, left time.Duration, err error) {
	flows := f.net.flows(f.from, f.to)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.unread:
		return 0, 0, net.ErrClosed
	case f.severed:
		return 0, 0, f.reset("read")
	}
	if !f.deadline.IsZero() {
		if left = time.Until(f.deadline); left <= 0 {
			return 0, 0, os.ErrDeadlineExceeded
		}
	}
	switch {
	case !flows:
	case f.lost:
		return 0, 0, f.reset("read")
	case f.finished && len(f.data) == 0:
		return 0, 0, io.EOF
	default:
		n = copy(p, f.data)
		if f.data = f.data[n:]; len(f.data) == 0 {
			f.data = nil
		}
	}
	return n, left, nil
}

func (f *flow) write(p []byte) (int, error) {
	flows := f.net.flows(f.from, f.to)
	f.mu.Lock()
	switch {
	case f.severed:
		f.mu.Unlock()
		return 0, f.reset("write")
	case f.finished || f.lost:
		f.mu.Unlock()
		return 0, net.ErrClosed
	case f.unread && flows:
		f.mu.Unlock()
		return 0, f.reset("write")
	}
	f.data = append(f.data, p...)
	f.mu.Unlock()
	f.wake()
	return len(p), nil
}

func (f *flow) reset(op string) error {
	return &net.OpError{Op: op, Net: protocol, Addr: addr(f.to), Err: syscall.ECONNRESET}
}

// finish closes the writer's end: the reader gets what is under way, then EOF.
func (f *flow) finish() {
	f.mu.Lock()
	f.finished = true
	f.mu.Unlock()
	f.wake()
}

// lose is the writer's death: the reader gets a reset.
func (f *flow) lose() {
	f.mu.Lock()
	f.lost, f.data = true, nil
	f.mu.Unlock()
	f.wake()
}

// shut closes the reader's end.
func (f *flow) shut() {
	f.mu.Lock()
	f.unread, f.data = true, nil
	f.mu.Unlock()
	f.wake()
}

// sever resets both ends of the flow.
func (f *flow) sever() {
	f.mu.Lock()
	f.severed, f.data = true, nil
	f.mu.Unlock()
	f.wake()
}

func (f *flow) setDeadline(t time.Time) {
	f.mu.Lock()
	f.deadline = t
	f.mu.Unlock()
	f.wake()
}
