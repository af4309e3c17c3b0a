package limits

import (
	"bufio"
	"net"
	"sync"

	"google.golang.org/grpc/credentials"
)

// readBuffer is what a connection reads ahead. gRPC's own read buffer is turned off in its
// favour: then what gRPC has read is what it works on, see [conn.Read].
const readBuffer = 16 << 10

// Small DATA frames cost far more memory than their bytes. Beyond smallAfter frames a stream
// must have smallBytes in each of them on average, or its connection is closed. The smallest
// append there is has more than 100.
const (
	smallAfter = 1024
	smallBytes = 64
)

// Credentials are creds whose connections the meter reads along.
func (m *Meter) Credentials(creds credentials.TransportCredentials) credentials.TransportCredentials {
	return meteredCredentials{creds, m}
}

type meteredCredentials struct {
	credentials.TransportCredentials
	meter *Meter
}

// ServerHandshake implements credentials.TransportCredentials.
func (c meteredCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	plain, info, err := c.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		if timedOut(err) {
			c.meter.tally.add(handshakeTimeout)
		}
		return nil, nil, err
	}
	metered, err := c.meter.add(raw, plain, info)
	if err != nil {
		return nil, nil, err
	}
	return metered, info, nil
}

// Clone implements credentials.TransportCredentials.
func (c meteredCredentials) Clone() credentials.TransportCredentials {
	return meteredCredentials{c.TransportCredentials.Clone(), c.meter}
}

// conn is one connection, after its handshake.
type conn struct {
	net.Conn
	meter   *Meter
	raw     net.Conn
	from    string
	buffer  *bufio.Reader
	in, out frameReader // of one task each

	mu      sync.Mutex
	closed  bool
	streams map[uint32]*stream
	newest  *stream // whose headers were read last
	held    held
}

// held is what is in memory for a connection, in bytes.
type held struct {
	// received came and is not over; handed is to be written.
	received, handed int64
}

// stream is one that is not over on the wire, or whose call is not over.
type stream struct {
	conn *conn
	// frames and bytes of DATA that came; taken of them was read by the service, of a
	// stream of requests. Of a single request nothing counts as taken before the call ends.
	frames, bytes, taken int64
	handed, written      int64
	call                 *call // nil: refused before there was one
	gone                 bool

	// What the last sweep saw, and how many have seen the same.
	seenTaken, seenWritten int64
	slowIn, slowOut        int
}

func (s *stream) received() int64 { return s.bytes - s.taken }

// Read implements net.Conn. One task reads, and acts on a frame before it reads the next
// one; so the newest stream is the one that a call begins on.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.buffer.Read(b)
	c.in.read(b[:n], c.came)
	return n, err
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.out.read(b[:n], c.went)
	return n, err
}

// Close implements net.Conn. Of the raw connection it is told as well, which is the one
// that gRPC closes if the first frames are none.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.meter.remove(c)
	return err
}

func (c *conn) came(f frame) {
	over, abuse := false, false
	c.mu.Lock()
	switch s := c.streams[f.stream]; {
	case c.closed:
	case f.kind == frameHeaders && s == nil && f.stream != 0:
		c.newest = &stream{conn: c}
		c.streams[f.stream] = c.newest
	case f.kind == frameData && s != nil:
		s.frames++
		s.bytes += int64(f.length)
		over = c.add(int64(f.length), 0)
		abuse = s.frames > smallAfter && s.bytes < s.frames*smallBytes
	case f.kind == frameReset && s != nil:
		c.end(f.stream, s)
	}
	c.mu.Unlock()
	switch {
	case abuse:
		if c.meter.evict(c, "it sends in pieces that are too small") {
			c.meter.tally.add(smallPieces)
		}
	case over:
		c.meter.relieve()
	}
}

func (c *conn) went(f frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[f.stream]
	switch {
	case s == nil:
	case f.kind == frameData:
		s.written += int64(f.length)
		c.add(0, -int64(f.length))
		if f.flags&flagEndStream != 0 {
			c.end(f.stream, s)
		}
	case f.ends():
		c.end(f.stream, s)
	}
}

// add counts, for the connection and for the node, and reports whether the node holds too
// much now. The caller has the lock.
func (c *conn) add(received, handed int64) (over bool) {
	c.held.received += received
	c.held.handed += handed
	return c.meter.count(received, handed)
}

// end forgets a stream that is over on the wire. The caller has the lock.
func (c *conn) end(id uint32, s *stream) {
	delete(c.streams, id)
	s.gone = true
	c.add(-s.received(), s.written-s.handed)
}

// took counts what a service has read of a stream of requests.
func (s *stream) took(n int64) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.gone {
		return
	}
	n = min(n, s.received())
	s.taken += n
	s.conn.add(-n, 0)
}

// handOver counts what is to be written, and reports whether the node holds too much now.
func (s *stream) handOver(n int64) (over bool) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.gone {
		return false
	}
	s.handed += n
	return s.conn.add(0, n)
}
