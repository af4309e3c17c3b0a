package limits

import (
	"errors"
	"net"
	"sync/atomic"
)

// A limit is one that callers of a client address can meet. Those that are settings are
// named as they are in the configuration.
type limit int

const (
	maxConnections limit = iota
	maxConnectionsPerAddress
	maxConnectionsPerPrincipal
	maxCalls
	maxCallsPerPrincipal
	maxInflightBytes // of the node, and a connection's share of it
	maxRequestBytes  // of a principal
	receiveTimeout   // a message did not come
	sendTimeout      // an answer was not read
	handshakeTimeout // a connection did not say who it is
	smallPieces      // messages came in pieces that cost more than they hold
	limitCount       = iota
)

// String returns the name, which is the value of a label.
func (l limit) String() string {
	return [limitCount]string{
		"max_connections", "max_connections_per_address", "max_connections_per_principal", "max_calls", "max_calls_per_principal",
		"max_inflight_bytes", "max_request_bytes_per_principal", "receive_timeout", "send_timeout", "handshake_timeout", "small_pieces",
	}[l]
}

// tally counts what each limit has refused, closed or ended. It is safe for concurrent use.
type tally [limitCount]atomic.Uint64

func (t *tally) add(l limit) { t[l].Add(1) }

// Report is what limits have done since the start, and how much of them is used now, by
// name.
type Report struct {
	// Refused are calls and connections that were refused, closed or ended.
	Refused map[string]uint64
	// Used and Max are of the limits that are of amounts. Of those per address or
	// principal it is the one that uses most.
	Used, Max map[string]int64
}

// NewReport returns what the parts of one client address report.
func NewReport(l *Listener, m *Meter, p *Principals) Report {
	r := Report{Refused: make(map[string]uint64, limitCount), Used: map[string]int64{}, Max: map[string]int64{}}
	for i := range limit(limitCount) {
		r.Refused[i.String()] = l.tally[i].Load() + m.tally[i].Load() + p.tally[i].Load()
	}
	amount := func(of limit, used, most int64) { r.Used[of.String()], r.Max[of.String()] = used, most }
	open, fromOne := l.use()
	amount(maxConnections, open, int64(l.total))
	amount(maxConnectionsPerAddress, fromOne, int64(l.perAddress))
	amount(maxConnectionsPerPrincipal, m.connectionsOfOne(), int64(m.cfg.ConnectionsPerPrincipal))
	u := m.Usage()
	amount(maxCalls, u.Calls, m.cfg.Calls)
	amount(maxInflightBytes, max(u.Received, u.Handed), m.cfg.Bytes)
	calls, bytes := p.use()
	amount(maxCallsPerPrincipal, calls, p.calls)
	amount(maxRequestBytes, bytes, p.bytes)
	return r
}

// use returns how many connections there are, and how many come from the host with most.
func (l *Listener) use() (open, fromOne int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(l.open), int64(most(l.from))
}

func (m *Meter) connectionsOfOne() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return int64(most(m.of))
}

// most is the largest value; the order does not matter.
func most(counts map[string]int) (n int) {
	for _, c := range counts {
		n = max(n, c)
	}
	return n
}

// use returns what the principals with most have under way.
func (p *Principals) use() (calls, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range p.by { // the largest: the order does not matter
		calls, bytes = max(calls, u.calls), max(bytes, u.bytes)
	}
	return calls, bytes
}

// timedOut reports whether a handshake ended because it took too long.
func timedOut(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}
