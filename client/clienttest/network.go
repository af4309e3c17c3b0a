package clienttest

import (
	"context"
	"net"
	"slices"
	"sync"
	"syscall"
)

// network is what clients and nodes reach each other by: a listener per address,
// and per pair of endpoints whether bytes flow between them. A direction that
// does not flow keeps its bytes, as TCP does, and delivers them when it does.
type network struct {
	mu        sync.Mutex
	owners    map[string]string // address to endpoint
	listeners map[string]*listener
	cuts      map[[2]string]bool // from and to
	paused    map[string]bool
	dead      map[string]bool
	links     []*link
	changed   chan struct{} // closed and replaced by every change
}

func newNetwork() *network {
	return &network{
		owners: map[string]string{}, listeners: map[string]*listener{},
		cuts: map[[2]string]bool{}, paused: map[string]bool{}, dead: map[string]bool{},
		changed: make(chan struct{}),
	}
}

// change changes the state of the network and wakes everybody who waits for it.
func (n *network) change(fn func()) {
	n.mu.Lock()
	fn()
	close(n.changed)
	n.changed = make(chan struct{})
	links := slices.Clone(n.links)
	n.mu.Unlock()
	for _, l := range links {
		l.there.wake()
		l.back.wake()
	}
}

// place says which endpoint an address belongs to.
func (n *network) place(address, endpoint string) {
	n.change(func() { n.owners[address] = endpoint })
}

// cut stops what goes from one endpoint to another.
func (n *network) cut(from, to string) {
	n.change(func() { n.cuts[[2]string{from, to}] = true })
}

// heal restores everything but what is paused.
func (n *network) heal() { n.change(func() { clear(n.cuts) }) }

// pause keeps all bytes from and to an endpoint, or lets them go.
func (n *network) pause(endpoint string, paused bool) {
	n.change(func() { n.paused[endpoint] = paused })
}

// isCut reports whether nothing gets from one endpoint to another.
func (n *network) isCut(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cuts[[2]string{from, to}]
}

// flows reports whether bytes move from one endpoint to another now.
func (n *network) flows(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.cuts[[2]string{from, to}] && !n.paused[from] && !n.paused[to]
}

// listen opens an address that has been placed.
func (n *network) listen(address string) *listener {
	l := &listener{net: n, address: address, accepted: make(chan net.Conn, backlog), closed: make(chan struct{})}
	n.change(func() { n.listeners[address] = l })
	return l
}

// dial connects an endpoint to an address. Where nobody listens it is refused at
// once; over a cut it waits until ctx ends.
func (n *network) dial(ctx context.Context, from, address string) (net.Conn, error) {
	for {
		c, wait := n.connect(from, address)
		switch {
		case c != nil:
			return c, nil
		case wait == nil:
			return nil, &net.OpError{Op: "dial", Net: protocol, Addr: addr(address), Err: syscall.ECONNREFUSED}
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// connect makes a connection and hands its other end to the listener. Without
// one, wait tells when to try again; nil: nobody listens, or too many wait to be
// accepted.
func (n *network) connect(from, address string) (_ net.Conn, wait <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	to, l := n.owners[address], n.listeners[address]
	switch {
	case n.cuts[[2]string{from, to}], n.cuts[[2]string{to, from}], n.paused[from], n.dead[from]:
		return nil, n.changed
	case l == nil, n.dead[to]:
		return nil, nil
	}
	k := &link{net: n, there: newFlow(n, from, to), back: newFlow(n, to, from)}
	select {
	case l.accepted <- &conn{link: k, in: k.there, out: k.back}:
		n.links = append(n.links, k)
		return &conn{link: k, in: k.back, out: k.there}, nil
	default:
		return nil, nil
	}
}

// sever breaks all connections between two endpoints; both ends notice at once.
func (n *network) sever(a, b string) {
	n.mu.Lock()
	var broken []*link
	for _, l := range n.links {
		if l.there.from == a && l.there.to == b || l.there.from == b && l.there.to == a {
			broken = append(broken, l)
		}
	}
	n.mu.Unlock()
	for _, l := range broken {
		l.there.sever()
		l.back.sever()
	}
}

// die ends all connections of an endpoint as the end of its process does: it is
// told at once, the others when the news gets through.
func (n *network) die(endpoint string) {
	var links []*link
	n.change(func() {
		n.dead[endpoint] = true
		delete(n.paused, endpoint)
		links = slices.Clone(n.links)
	})
	for _, l := range links {
		if l.there.from == endpoint {
			l.there.lose()
			l.back.shut()
		}
		if l.there.to == endpoint {
			l.back.lose()
			l.there.shut()
		}
	}
}

// live lets an endpoint connect again.
func (n *network) live(endpoint string) { n.change(func() { delete(n.dead, endpoint) }) }

// forget drops a connection that both ends have closed.
func (n *network) forget(gone *link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links = slices.DeleteFunc(n.links, func(l *link) bool { return l == gone })
}

const (
	protocol = "memory"
	backlog  = 128 // connections that wait to be accepted
)

// addr is the name of an endpoint, or an address of one.
type addr string

// Network implements net.Addr.
func (addr) Network() string { return protocol }

func (a addr) String() string { return string(a) }

// listener is one open address.
type listener struct {
	net      *network
	address  string
	accepted chan net.Conn
	once     sync.Once
	closed   chan struct{}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.once.Do(func() {
		l.net.change(func() { delete(l.net.listeners, l.address) })
		close(l.closed)
		for {
			select {
			case c := <-l.accepted: // by nobody
				_ = c.Close()
			default:
				return
			}
		}
	})
	return nil
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return addr(l.address) }
