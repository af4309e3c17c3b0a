package limits

import "sync"

// Principals bound what is under way for one principal at a node, so that one leaves room for
// others. Whoever has not shown who he is shares the room of the anonymous. It is safe for
// concurrent use.
type Principals struct {
	calls, bytes int64
	tally        tally

	mu sync.Mutex
	by map[string]*usage
}

type usage struct{ calls, bytes int64 }

// NewPrincipals bounds, for each, the calls that are under way, streams included, and the
// bytes of the requests of those that have one request.
func NewPrincipals(calls, bytes int64) *Principals {
	return &Principals{calls: calls, bytes: bytes, by: map[string]*usage{}}
}

// enter begins a call. A principal that has nothing else under way may send one of any size.
func (p *Principals) enter(name string, bytes int64) (leave func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.by[name]
	if u == nil {
		u = &usage{}
		p.by[name] = u
	}
	switch {
	case u.calls >= p.calls:
		p.tally.add(maxCallsPerPrincipal)
		return nil, quotaExceeded("calls", p.calls, name)
	case u.bytes > 0 && u.bytes+bytes > p.bytes:
		p.tally.add(maxRequestBytes)
		return nil, quotaExceeded("request_bytes", p.bytes, name)
	}
	u.calls++
	u.bytes += bytes
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		u.calls--
		if u.bytes -= bytes; u.calls == 0 {
			delete(p.by, name)
		}
	}, nil
}
