package netfault

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Rule is what becomes of bytes from one process to another. The zero Rule lets
// them pass.
type Rule struct {
	// Cut holds everything back, new connections included, until there is another
	// rule.
	Cut bool
	// Delay holds each piece back for so long, and up to Jitter longer; order is
	// kept.
	Delay, Jitter time.Duration
}

// Rules returns the rule for bytes from one process to another. It is called
// often and from many goroutines.
type Rules func(from, to string) Rule

// Network carries connections between processes. Its methods are safe for
// concurrent use.
type Network struct {
	identify Identify
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc

	mu        sync.Mutex
	rules     Rules
	changed   chan struct{} // closed when there are other rules
	listeners []net.Listener
	links     map[*link]struct{}
	closed    bool
	work      sync.WaitGroup

	passed atomic.Int64
	held   atomic.Int64
}

// Identify names the process that has opened a connection to another. "" breaks
// the connection: nobody is there to answer, or nobody knows who asks.
type Identify func(c net.Conn, to string) string

// New returns a network without doors, in which everything passes.
func New(identify Identify) *Network {
	ctx, cancel := context.WithCancel(context.Background())
	return &Network{
		identify: identify, ctx: ctx, cancel: cancel, changed: make(chan struct{}), links: make(map[*link]struct{}),
		rules: func(string, string) Rule { return Rule{} },
	}
}

// Door opens a door to the process named to, which listens at address, and
// returns the door's address.
func (n *Network) Door(to, address string) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return "", errors.Join(net.ErrClosed, l.Close())
	}
	n.listeners = append(n.listeners, l)
	n.work.Go(func() { n.accept(l, to, address) })
	return l.Addr().String(), nil
}

// Set replaces the rules; nil lets everything pass.
func (n *Network) Set(rules Rules) {
	if rules == nil {
		rules = func(string, string) Rule { return Rule{} }
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rules = rules
	close(n.changed)
	n.changed = make(chan struct{})
}

// rule returns the present rule of a direction, and what is closed when there is
// another one.
func (n *Network) rule(from, to string) (Rule, <-chan struct{}) {
	n.mu.Lock()
	rules, changed := n.rules, n.changed
	n.mu.Unlock()
	return rules(from, to), changed
}

// Close ends all doors and connections.
func (n *Network) Close() error {
	n.mu.Lock()
	n.closed = true
	n.cancel()
	var errs []error
	for _, l := range n.listeners {
		errs = append(errs, l.Close())
	}
	n.listeners = nil
	for l := range n.links {
		l.close()
	}
	n.mu.Unlock()
	n.work.Wait()
	return errors.Join(errs...)
}

// Stats count what went through a network.
type Stats struct {
	// Connections that are open.
	Connections int
	// Passed is the number of bytes that have arrived.
	Passed int64
	// Held is the number of bytes that are under way.
	Held int64
}

// Stats returns the present counts.
func (n *Network) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return Stats{Connections: len(n.links), Passed: n.passed.Load(), Held: n.held.Load()}
}

// Match chooses connections by who opened them, and to whom.
type Match func(from, to string) bool

// Reset breaks connections, for both ends at once, and returns how many.
func (n *Network) Reset(match Match) int {
	return n.each(match, (*link).close)
}

// HalfOpen breaks connections for one end only, and returns how many there were:
// those who opened them are not told, or with back those to whom they lead, and
// what they send is lost.
func (n *Network) HalfOpen(match Match, back bool) int {
	return n.each(match, func(l *link) bool { return l.abandon(back) })
}

// HalfClose ends one direction of connections and leaves the other, and returns
// how many there were: nothing more comes to those who were dialed, or with back
// to those who dialed.
func (n *Network) HalfClose(match Match, back bool) int {
	return n.each(match, func(l *link) bool {
		if back {
			return l.backward.finish()
		}
		return l.forward.finish()
	})
}

func (n *Network) each(match Match, do func(*link) bool) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := 0
	for l := range n.links {
		if match(l.from, l.to) && do(l) {
			count++
		}
	}
	return count
}

func (n *Network) accept(l net.Listener, to, address string) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // of one connection that is gone already
		}
		n.work.Go(func() { n.carry(c, to, address) })
	}
}

// carry passes one connection on until it has ended.
func (n *Network) carry(down net.Conn, to, address string) {
	from := n.identify(down, to)
	l := newLink(n, from, to, down.(*net.TCPConn))
	if from == "" || !n.enter(l) {
		l.close()
		return
	}
	defer n.leave(l)
	if !n.passable(l) {
		return
	}
	// A process that stands still takes no more connections once its queue is full.
	up, err := (&net.Dialer{}).DialContext(n.ctx, "tcp", address)
	if err != nil {
		l.close() // as refused as it can be by now
		return
	}
	l.run(up.(*net.TCPConn))
}

func (n *Network) enter(l *link) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed {
		n.links[l] = struct{}{}
	}
	return !n.closed
}

func (n *Network) leave(l *link) {
	l.close()
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.links, l)
}

// passable waits until a new connection is not cut off in either direction.
func (n *Network) passable(l *link) bool {
	for {
		there, changed := n.rule(l.from, l.to)
		back, _ := n.rule(l.to, l.from)
		if !there.Cut && !back.Cut {
			return true
		}
		select {
		case <-changed:
		case <-l.done:
			return false
		}
	}
}

// due returns when something that is read now arrives at the earliest.
func (r Rule) due(now time.Time) time.Time {
	d := r.Delay
	if r.Jitter > 0 {
		d += rand.N(r.Jitter)
	}
	return now.Add(d)
}
