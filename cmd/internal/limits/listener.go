package limits

import (
	"log/slog"
	"net"
	"sync"
	"time"
)

// Listener closes connections beyond its limits as soon as they come, those included that
// have not shown who they are: what is open goes on, and a host that opens many leaves room
// for others.
type Listener struct {
	net.Listener
	total, perAddress int
	log               *slog.Logger
	tally             tally

	mu      sync.Mutex
	open    int
	from    map[string]int // by host
	refused uint64         // since it was said last
	said    time.Time
}

// Listen bounds the connections of l, in all and from one host.
func Listen(l net.Listener, total, perAddress int, log *slog.Logger) *Listener {
	return &Listener{Listener: l, total: total, perAddress: perAddress, log: log, from: map[string]int{}}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		host := hostOf(conn.RemoteAddr())
		if l.take(host) {
			return &limitedConn{Conn: conn, leave: sync.OnceFunc(func() { l.give(host) })}, nil
		}
		_ = conn.Close() // nobody is told more than that
	}
}

func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}

// refusedEvery is how often connections that were refused are logged, at most.
const refusedEvery = time.Minute

func (l *Listener) take(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open < l.total && l.from[host] < l.perAddress {
		l.open++
		l.from[host]++
		return true
	}
	if l.open >= l.total {
		l.tally.add(maxConnections)
	} else {
		l.tally.add(maxConnectionsPerAddress)
	}
	l.refused++
	if now := time.Now(); now.Sub(l.said) >= refusedEvery {
		l.log.Warn("connections are refused: there are too many", "last_from", host, "refused", l.refused, "open", l.open,
			"open_from_there", l.from[host], "max_connections", l.total, "max_connections_per_address", l.perAddress)
		l.said, l.refused = now, 0
	}
	return false
}

func (l *Listener) give(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.from[host]--; l.from[host] == 0 {
		delete(l.from, host)
	}
}

// limitedConn makes room when it is closed, however often.
type limitedConn struct {
	net.Conn
	leave func()

	mu     sync.Mutex
	closed bool
	tell   func() // may be nil
}

// OnClose has f called when the connection is closed, or at once if it is.
func (c *limitedConn) OnClose(f func()) {
	c.mu.Lock()
	c.tell = f
	closed := c.closed
	c.mu.Unlock()
	if closed {
		f()
	}
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	c.leave()
	err := c.Conn.Close()
	c.mu.Lock()
	c.closed = true
	tell := c.tell
	c.mu.Unlock()
	if tell != nil {
		tell()
	}
	return err
}
