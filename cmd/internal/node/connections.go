package node

import (
	"log/slog"
	"net"
	"sync"
	"time"
)

// connectionLimits bound the connections of a client address, those included that have
// not shown who they are.
type connectionLimits struct {
	total, perAddress int
}

// limitedListener closes connections beyond its limits as soon as they come: what is open
// goes on, and a host that opens many leaves room for others.
type limitedListener struct {
	net.Listener
	limits connectionLimits
	log    *slog.Logger

	mu      sync.Mutex
	open    int
	from    map[string]int // by host
	refused uint64         // since it was said last
	said    time.Time
}

func newLimitedListener(l net.Listener, limits connectionLimits, log *slog.Logger) *limitedListener {
	return &limitedListener{Listener: l, limits: limits, log: log, from: map[string]int{}}
}

// Accept implements net.Listener.
func (l *limitedListener) Accept() (net.Conn, error) {
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

func (l *limitedListener) take(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open < l.limits.total && l.from[host] < l.limits.perAddress {
		l.open++
		l.from[host]++
		return true
	}
	l.refused++
	if now := time.Now(); now.Sub(l.said) >= refusedEvery {
		l.log.Warn("connections are refused: there are too many", "last_from", host, "refused", l.refused, "open", l.open,
			"open_from_there", l.from[host], "max_connections", l.limits.total, "max_connections_per_address", l.limits.perAddress)
		l.said, l.refused = now, 0
	}
	return false
}

func (l *limitedListener) give(host string) {
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
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
