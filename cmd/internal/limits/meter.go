package limits

import (
	"bufio"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// Config of a [Meter]. All are required but those of which it is said.
type Config struct {
	// Bytes bounds, each for itself, what came from clients and is not done with, and what
	// is to be written to them.
	Bytes int64
	// MessageBytes is the largest message that the server takes. A call with compressed
	// requests counts for one, whatever it sends, and waits while there are so many that they
	// make up a quarter of Bytes.
	MessageBytes int64
	// Calls bounds the calls under way, streams included.
	Calls int64
	// ConnectionsPerPrincipal bounds the connections of one certificate's principal.
	ConnectionsPerPrincipal int
	// ReceiveTimeout is how long a message may take to come, and SendTimeout how long one
	// may wait to be read.
	ReceiveTimeout, SendTimeout time.Duration
	// Who names whose a connection is; empty: nobody has shown that. Nil: nobody does.
	Who func(credentials.AuthInfo) string
	// RequestStreams are the methods whose clients send any number of messages.
	RequestStreams func(method string) bool
	Log            *slog.Logger
}

// Shares of [Config.Bytes]. A connection above the first is refused new calls; one above the
// second is while the node holds more than half of the bound.
const (
	connectionShare = 4
	busyShare       = 64
	// sweeps is how often streams are looked at within a timeout.
	sweeps = 4
)

// RetryAfter is what a refused caller is told to wait.
const RetryAfter = 200 * time.Millisecond

// Meter knows what the connections of one address hold. It is safe for concurrent use.
type Meter struct {
	cfg              Config
	received, handed atomic.Int64
	calls            atomic.Int64
	inflating        chan struct{} // has one for every call with compressed requests

	refused, evicted, ended atomic.Uint64
	tally                   tally

	mu        sync.Mutex
	conns     map[*conn]struct{}
	byAddress map[string]*conn
	of        map[string]int // connections by principal
	said      time.Time

	stop chan struct{}
	done sync.WaitGroup
}

// Usage is what is held at a moment, and what was done about it since the start.
type Usage struct {
	// Received and Handed are bytes; see [Config.Bytes].
	Received, Handed int64
	// Calls are under way.
	Calls int64
	// Refused calls, Evicted connections, and streams that were Ended as nothing moved.
	Refused, Evicted, Ended uint64
}

// NewMeter returns a meter, which sweeps once [Meter.Start] is called.
func NewMeter(cfg Config) *Meter {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Meter{
		cfg: cfg, inflating: make(chan struct{}, max(cfg.Bytes/connectionShare/cfg.MessageBytes, 1)), conns: map[*conn]struct{}{}, byAddress: map[string]*conn{}, of: map[string]int{}, stop: make(chan struct{}),
	}
}

// Start begins to look for streams on which nothing moves, until Stop.
func (m *Meter) Start() {
	m.done.Go(func() {
		receive, send := time.NewTicker(m.cfg.ReceiveTimeout/sweeps), time.NewTicker(m.cfg.SendTimeout/sweeps)
		defer receive.Stop()
		defer send.Stop()
		for {
			select {
			case <-receive.C:
				m.sweep((*stream).stuckIn, receiveTimeout)
			case <-send.C:
				m.sweep((*stream).stuckOut, sendTimeout)
			case <-m.stop:
				return
			}
		}
	})
}

// Stop ends what Start began; it is called once.
func (m *Meter) Stop() {
	close(m.stop)
	m.done.Wait()
}

// Usage returns what is held.
func (m *Meter) Usage() Usage {
	return Usage{
		Received: m.received.Load(), Handed: m.handed.Load(), Calls: m.calls.Load(),
		Refused: m.refused.Load(), Evicted: m.evicted.Load(), Ended: m.ended.Load(),
	}
}

// closeTeller is a connection that tells when it is closed.
type closeTeller interface{ OnClose(func()) }

// add takes a connection that has shaken hands.
func (m *Meter) add(raw, plain net.Conn, info credentials.AuthInfo) (*conn, error) {
	c := &conn{Conn: plain, raw: raw, meter: m, streams: map[uint32]*stream{}, buffer: bufio.NewReaderSize(plain, readBuffer)}
	c.in.skip = prefaceBytes
	if m.cfg.Who != nil {
		c.from = m.cfg.Who(info)
	}
	m.mu.Lock()
	if c.from != "" && m.of[c.from] >= m.cfg.ConnectionsPerPrincipal {
		m.mu.Unlock()
		m.refused.Add(1)
		m.tally.add(maxConnectionsPerPrincipal)
		m.say("connections are refused: their principal has too many", "principal", c.from,
			"max_connections_per_principal", m.cfg.ConnectionsPerPrincipal)
		return nil, quotaExceeded("connections", int64(m.cfg.ConnectionsPerPrincipal), c.from)
	}
	m.conns[c] = struct{}{}
	m.byAddress[c.RemoteAddr().String()] = c
	if c.from != "" {
		m.of[c.from]++
	}
	m.mu.Unlock()
	if t, ok := raw.(closeTeller); ok {
		t.OnClose(func() { m.remove(c) })
	}
	return c, nil
}

// remove lets go of a connection; it reports whether that was not done before.
func (m *Meter) remove(c *conn) bool {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return false
	}
	for _, s := range c.streams {
		s.gone = true
	}
	c.closed, c.streams = true, nil
	c.add(-c.held.received, -c.held.handed)
	c.mu.Unlock()

	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.conns, c)
	if a := c.RemoteAddr().String(); m.byAddress[a] == c {
		delete(m.byAddress, a)
	}
	if c.from != "" {
		if m.of[c.from]--; m.of[c.from] == 0 {
			delete(m.of, c.from)
		}
	}
	return true
}

// count adds to what the node holds, and reports whether that is too much now.
func (m *Meter) count(received, handed int64) (over bool) {
	if received != 0 {
		over = m.received.Add(received) > m.cfg.Bytes && received > 0
	}
	if handed != 0 {
		over = m.handed.Add(handed) > m.cfg.Bytes && handed > 0 || over
	}
	return over
}

// relieve closes the connections that hold most until the node holds no more than it may.
func (m *Meter) relieve() {
	for range 16 {
		var pick func(held) int64
		switch {
		case m.received.Load() > m.cfg.Bytes:
			pick = func(h held) int64 { return h.received }
		case m.handed.Load() > m.cfg.Bytes:
			pick = func(h held) int64 { return h.handed }
		default:
			return
		}
		if c := m.heaviest(pick); c != nil && m.evict(c, "the node holds as much as it may, and it most of that") {
			m.tally.add(maxInflightBytes)
		}
	}
}

func (m *Meter) heaviest(pick func(held) int64) (found *conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	most := int64(0)
	for c := range m.conns {
		c.mu.Lock()
		if n := pick(c.held); n > most && !c.closed {
			found, most = c, n
		}
		c.mu.Unlock()
	}
	return found
}

// evict closes a connection, at once. It reports whether it did: it may be closed
// already, or another task may have found the same one the heaviest.
func (m *Meter) evict(c *conn, why string) bool {
	c.mu.Lock()
	h, calls := c.held, len(c.streams)
	c.mu.Unlock()
	if !m.remove(c) {
		return false
	}
	m.evicted.Add(1)
	m.say("a connection is closed: "+why, "from", c.RemoteAddr().String(), "principal", c.from,
		"received_bytes", h.received, "unread_bytes", h.handed, "streams", calls, "max_bytes", m.cfg.Bytes)
	_ = c.raw.Close() // in the clear or not: no farewell to who may not read it
	return true
}

// say logs what was done to somebody, once a minute at most: who is refused could
// otherwise fill the log.
func (m *Meter) say(what string, args ...any) {
	m.mu.Lock()
	now := time.Now()
	silent := now.Sub(m.said) < refusedEvery
	if !silent {
		m.said = now
	}
	m.mu.Unlock()
	if !silent {
		m.cfg.Log.Warn(what, append(args, "refused", m.refused.Load(), "closed", m.evicted.Load(), "ended", m.ended.Load())...)
	}
}

// stuckIn reports whether no message has come for a whole timeout: the only one of a call,
// however much of it is there, or one of a stream of which there is a part, or which the
// service does not take. It is called with the lock of the connection, sweeps times within
// the timeout.
func (s *stream) stuckIn() bool {
	waits := s.call != nil && !s.call.over.Load() &&
		(s.call.requestStream && s.received() > 0 || !s.call.requestStream && !s.call.got.Load())
	if !waits || s.taken != s.seenTaken {
		s.slowIn, s.seenTaken = 0, s.taken
		return false
	}
	s.slowIn++
	return s.slowIn > sweeps
}

// stuckOut reports whether the client has read nothing of what waits for a whole timeout.
func (s *stream) stuckOut() bool {
	if s.handed <= s.written || s.written != s.seenWritten {
		s.slowOut, s.seenWritten = 0, s.written
		return false
	}
	s.slowOut++
	return s.slowOut > sweeps
}

// sweep ends the streams that are stuck. Where the service is done already, and only what it
// has said waits to be read, there is nothing to end but the connection.
func (m *Meter) sweep(stuck func(*stream) bool, of limit) {
	m.mu.Lock()
	conns := make([]*conn, 0, len(m.conns))
	for c := range m.conns {
		conns = append(conns, c)
	}
	m.mu.Unlock()
	for _, c := range conns {
		finished := false
		c.mu.Lock()
		for _, s := range c.streams {
			if !stuck(s) {
				continue
			}
			m.ended.Add(1)
			m.tally.add(of)
			if s.call == nil || s.call.over.Load() {
				finished = true
				continue
			}
			s.call.end()
		}
		c.mu.Unlock()
		if finished {
			m.evict(c, "it does not read what it has asked for")
		}
	}
}

// quotaExceeded refuses a principal more of something.
func quotaExceeded(what string, limit int64, principal string) *apierrors.Error {
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_QUOTA_EXCEEDED, principal+" has as many "+what+" under way as one principal may",
		apierrors.KeyQuota, what, apierrors.KeyLimit, strconv.FormatInt(limit, 10), apierrors.KeyPrincipal, principal).After(RetryAfter)
}

func overloaded(why string) *apierrors.Error {
	return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_OVERLOADED, why).After(RetryAfter)
}
