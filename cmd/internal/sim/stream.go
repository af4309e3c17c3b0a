package sim

import (
	"context"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/oncelog/oncelog/internal/task"
)

// stream is a gRPC stream: two ordered directions that break together.
type stream struct {
	exchange
	c      *conn
	method string

	up, down direction
	broken   bool

	clientCtx context.Context
	closed    chan struct{} // closed when the client's side has ended

	serverCtx    context.Context
	serverCancel context.CancelFunc
	runtime      *task.Runtime // the server's
}

// direction is what travels one way, in order.
type direction struct {
	flying  []flight
	pumping bool
	last    time.Duration // when the newest message arrives
	blocked time.Duration // since when nothing got through; 0: it does

	here   []item
	signal chan struct{}
	over   *status.Status // no more will come, and why; nil code OK is io.EOF
	ended  bool
}

type flight struct {
	at   time.Duration
	item item
}

// item is a message, or the end of the direction.
type item struct {
	body []byte
	end  bool
	err  *status.Status
}

// NewStream implements grpc.ClientConnInterface.
func (c *conn) NewStream(ctx context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	if err := ctx.Err(); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	n := c.n
	n.w.trace.mixString(method)
	s := &stream{c: c, method: method, clientCtx: ctx, closed: make(chan struct{})}
	s.up.signal, s.down.signal = make(chan struct{}, 1), make(chan struct{}, 1)
	s.client = c.from
	s.clientEnded = s.breakServer
	h := n.hosts[c.address]
	if h == nil || !h.up() {
		s.broken = true
		n.w.at(n.delay(), c.from, func() { s.down.finish(status.New(codes.Unavailable, "connection refused")) })
		return clientStream{s}, nil
	}
	s.server = h.proc
	s.serverEnded = func() { s.breakClient("the server is gone") }
	n.begin(&s.exchange)
	limit := time.Duration(0)
	if at, ok := ctx.Deadline(); ok {
		limit = at.Sub(c.from.Now())
	}
	n.reliable(c.from, h.proc, n.delay(), func() { s.serve(h, limit) }, func() { s.breakClient("connection lost") })
	c.from.Go(func() { // what grpc's own goroutine does
		if c.runtime.Wait(ctx.Done(), s.closed) == 0 {
			s.down.finish(status.FromContextError(ctx.Err()))
			s.close()
			n.end(&s.exchange)
			s.breakServer()
		}
	})
	return clientStream{s}, nil
}

// serve runs the handler; it is called in the server.
func (s *stream) serve(h *host, limit time.Duration) {
	n := s.c.n
	d, ok := h.streams[s.method]
	if !ok || !h.up() || s.broken {
		s.breakClient("connection refused")
		return
	}
	s.runtime = task.New(h.proc)
	s.serverCtx, s.serverCancel = h.context(limit)
	n.pump(s, &s.up)
	h.proc.Go(func() {
		defer s.serverCancel()
		err := d.Handler(h.service(s.method), serverStream{s})
		if !h.up() || s.broken {
			return // an end must not pass for one of all that was sent
		}
		end := ended(err)
		if end == nil {
			end = status.New(codes.OK, "")
		}
		n.fly(s, &s.down, item{end: true, err: end})
		n.end(&s.exchange)
	})
}

// fly puts something on its way.
func (n *network) fly(s *stream, d *direction, it item) {
	at := max(d.last, n.w.now+n.delay())
	d.last = at
	d.flying = append(d.flying, flight{at, it})
	if n.chance(n.weather.Loss / 4) {
		n.breakStream(s)
		return
	}
	n.pump(s, d)
}

// ends returns the two ends of a direction.
func (s *stream) ends(d *direction) (from, to *Proc) {
	if d == &s.up {
		return s.client, s.server
	}
	return s.server, s.client
}

// pump arranges for the next arrival.
func (n *network) pump(s *stream, d *direction) {
	if d.pumping || len(d.flying) == 0 || d == &s.up && s.serverCtx == nil {
		return
	}
	d.pumping = true
	_, to := s.ends(d)
	n.w.at(max(d.flying[0].at-n.w.now, 0), to, func() { n.arrive(s, d) })
}

func (n *network) arrive(s *stream, d *direction) {
	d.pumping = false
	from, to := s.ends(d)
	if n.blocked(from, to) {
		if d.blocked == 0 {
			d.blocked = n.w.now
		}
		if n.w.now-d.blocked > keepaliveLeast+keepaliveSpan/2 {
			n.breakStream(s)
			return
		}
		d.pumping = true
		n.w.at(retransmit, to, func() { n.arrive(s, d) })
		return
	}
	d.blocked = 0
	for len(d.flying) > 0 && d.flying[0].at <= n.w.now {
		it := d.flying[0].item
		d.flying = d.flying[1:]
		if it.end {
			d.finish(it.err)
			if d == &s.down {
				s.close()
			}
			return
		}
		if !d.ended {
			d.here = append(d.here, it)
			task.Signal(d.signal)
		}
	}
	n.pump(s, d)
}

// breakStream ends the connection under a stream. Each side learns of it in its
// own time, and what is in flight may still arrive before that.
func (n *network) breakStream(s *stream) {
	n.end(&s.exchange)
	n.reach.hit(streamBroken)
	if n.chance(0.5) {
		s.up.flying, s.down.flying = nil, nil
	}
	s.breakClient("connection reset")
	s.breakServer()
}

// breakClient has the client learn that the stream is over.
func (s *stream) breakClient(text string) {
	s.broken = true
	n := s.c.n
	n.end(&s.exchange)
	n.w.at(n.delay(), s.client, func() {
		s.down.finish(status.New(codes.Unavailable, text))
		s.close()
	})
}

// breakServer has the server learn that the stream is over.
func (s *stream) breakServer() {
	s.broken = true
	n := s.c.n
	if s.server == nil {
		return
	}
	n.w.at(n.delay(), s.server, func() {
		s.up.finish(status.New(codes.Canceled, "the client is gone"))
		if s.serverCancel != nil {
			s.serverCancel()
		}
	})
}

// close ends the client's side; it is called in the client.
func (s *stream) close() {
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
}

// finish ends a direction behind what has arrived.
func (d *direction) finish(why *status.Status) {
	if !d.ended {
		d.ended, d.over = true, why
		task.Signal(d.signal)
	}
}

// receive waits for the next message of a direction.
func (d *direction) receive(r *task.Runtime, stop <-chan struct{}, m any) error {
	for {
		if len(d.here) > 0 {
			body := d.here[0].body
			d.here = d.here[1:]
			return unmarshal(body, m)
		}
		if d.ended {
			if d.over == nil || d.over.Code() == codes.OK {
				return io.EOF
			}
			return d.over.Err()
		}
		if r.Wait(d.signal, stop) == 1 {
			return status.Error(codes.Canceled, "the stream was given up")
		}
	}
}

// clientStream is the client's end. It implements grpc.ClientStream.
type clientStream struct{ s *stream }

func (c clientStream) Header() (metadata.MD, error) { return nil, nil }
func (c clientStream) Trailer() metadata.MD         { return nil }
func (c clientStream) Context() context.Context     { return c.s.clientCtx }

func (c clientStream) CloseSend() error {
	if !c.s.broken {
		c.s.c.n.fly(c.s, &c.s.up, item{end: true})
	}
	return nil
}

func (c clientStream) SendMsg(m any) error {
	s := c.s
	if s.down.ended || s.clientCtx.Err() != nil {
		return io.EOF // the reason is Recv's to tell
	}
	s.c.n.note("stream up", s.client.name, s.c.address, s.method, m, nil)
	body, err := marshal(m)
	if err == nil && !s.broken {
		s.c.n.fly(s, &s.up, item{body: body})
	}
	return err
}

func (c clientStream) RecvMsg(m any) error {
	if err := c.s.clientCtx.Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	// The end of the context reaches the direction by the stream's own task.
	return c.s.down.receive(c.s.c.runtime, nil, m)
}

// serverStream is the server's end. It implements grpc.ServerStream.
type serverStream struct{ s *stream }

func (t serverStream) SetHeader(metadata.MD) error  { return nil }
func (t serverStream) SendHeader(metadata.MD) error { return nil }
func (t serverStream) SetTrailer(metadata.MD)       {}
func (t serverStream) Context() context.Context     { return t.s.serverCtx }

func (t serverStream) SendMsg(m any) error {
	s := t.s
	if err := s.serverCtx.Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	s.c.n.reach.answered(m)
	s.c.n.note("stream down", s.server.name, s.client.name, s.method, m, nil)
	body, err := marshal(m)
	if err == nil && !s.broken {
		s.c.n.fly(s, &s.down, item{body: body})
	}
	return err
}

func (t serverStream) RecvMsg(m any) error {
	return t.s.up.receive(t.s.runtime, t.s.serverCtx.Done(), m)
}
