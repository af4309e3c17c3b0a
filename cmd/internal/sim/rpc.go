package sim

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/dial"
	"github.com/oncelog/oncelog/internal/task"
)

// host is a gRPC server in a process: what services are registered with it are
// the ones that ship, and get their requests as bytes.
type host struct {
	proc    *Proc
	life    uint64
	methods map[string]grpc.MethodDesc
	streams map[string]grpc.StreamDesc
	impl    map[string]any // by service
}

// listen makes an address answer for the present life of a process.
func (n *network) listen(p *Proc, address string) *host {
	h := &host{
		proc: p, life: p.life,
		methods: map[string]grpc.MethodDesc{}, streams: map[string]grpc.StreamDesc{}, impl: map[string]any{},
	}
	n.hosts[address] = h
	return h
}

// RegisterService implements grpc.ServiceRegistrar.
func (h *host) RegisterService(d *grpc.ServiceDesc, impl any) {
	h.impl[d.ServiceName] = impl
	for _, m := range d.Methods {
		h.methods["/"+d.ServiceName+"/"+m.MethodName] = m
	}
	for _, s := range d.Streams {
		h.streams["/"+d.ServiceName+"/"+s.StreamName] = s
	}
}

func (h *host) service(method string) any {
	return h.impl[method[1:strings.LastIndexByte(method, '/')]]
}

// up reports whether the host answers.
func (h *host) up() bool { return h != nil && h.proc.alive && h.proc.life == h.life }

// conn is a client connection of a process. It implements dial.Conn.
type conn struct {
	n       *network
	from    *Proc
	runtime *task.Runtime
	address string
}

var _ dial.Conn = (*conn)(nil)

// dialer returns what makes the connections of a process.
func (n *network) dialer(p *Proc) dial.Func {
	return func(address string) (dial.Conn, error) {
		return &conn{n: n, from: p, runtime: task.New(p), address: address}, nil
	}
}

// Close implements dial.Conn.
func (c *conn) Close() error { return nil }

// exchange is a request or a stream between two processes: what both ends learn
// of each other's end.
type exchange struct {
	client, server *Proc
	clientEnded    func() // runs in the world
	serverEnded    func()
}

// begin notes an exchange; its server side may come later.
func (n *network) begin(x *exchange) {
	n.calls = append(n.calls, x)
}

func (n *network) end(x *exchange) {
	if i := slices.Index(n.calls, x); i >= 0 {
		n.calls = slices.Delete(n.calls, i, i+1)
	}
}

// processEnded tells the other ends of everything that was under way.
func (n *network) processEnded(p *Proc) {
	for _, x := range slices.Clone(n.calls) {
		switch p {
		case x.client:
			n.end(x)
			x.clientEnded()
		case x.server:
			n.end(x)
			x.serverEnded()
		}
	}
}

func marshal(m any) ([]byte, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m.(proto.Message))
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return b, nil
}

func unmarshal(b []byte, m any) error {
	if err := proto.Unmarshal(b, m.(proto.Message)); err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	return nil
}

func unavailable(text string) error { return status.Error(codes.Unavailable, text) }

// ended turns what a handler returned into what travels.
func ended(err error) *status.Status {
	if err == nil {
		return nil
	}
	if s, ok := status.FromError(err); ok {
		return s
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return status.FromContextError(err)
	}
	return status.New(codes.Unknown, err.Error())
}

// answer is the result of a unary call.
type answer struct {
	body []byte
	err  error
}

// unary is one unary call as its client knows it.
type unary struct {
	exchange
	c        *conn
	method   string
	request  []byte
	deadline time.Duration // how long the client waits; 0: no limit
	done     chan struct{} // size 1
	answer   answer
	finished bool
	cancel   context.CancelFunc // of the handler
}

// Invoke implements grpc.ClientConnInterface.
func (c *conn) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	if err := ctx.Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	request, err := marshal(args)
	if err != nil {
		return err
	}
	u := &unary{c: c, method: method, request: request, done: make(chan struct{}, 1)}
	if at, ok := ctx.Deadline(); ok {
		u.deadline = at.Sub(c.from.Now())
	}
	c.n.note("call", c.from.name, c.address, method, args, nil)
	u.client = c.from
	u.clientEnded = func() { u.giveUp() }
	u.send()
	if c.runtime.Wait(u.done, ctx.Done()) == 1 {
		u.finish(answer{})
		u.giveUp()
		c.n.note("answer", c.from.name, c.address, method, nil, ctx.Err())
		return status.FromContextError(ctx.Err()).Err()
	}
	if u.answer.err != nil {
		c.n.note("answer", c.from.name, c.address, method, nil, u.answer.err)
		return u.answer.err
	}
	err = unmarshal(u.answer.body, reply)
	c.n.note("answer", c.from.name, c.address, method, reply, err)
	if req, ok := args.(*oncelogv1.EndTransactionRequest); ok && err == nil && len(req.GetOffsets()) > 0 {
		c.n.reach.hit(offsetsDecided)
	}
	return err
}

// finish takes the answer, or what there is instead of one. It runs in the
// client.
func (u *unary) finish(a answer) {
	if u.finished {
		return
	}
	u.finished, u.answer = true, a
	u.c.n.end(&u.exchange)
	task.Signal(u.done)
}

// broken is the end of the connection, as the client learns of it: at once, or
// by a keepalive where nothing gets through.
func (u *unary) broken(text string) {
	n := u.c.n
	d := n.delay()
	if u.server != nil && n.blocked(u.server, u.client) {
		d = keepaliveLeast + n.upTo(keepaliveSpan)
	}
	n.w.at(d, u.client, func() { u.finish(answer{err: unavailable(text)}) })
}

// giveUp tells the handler that nobody waits any more, as far as that arrives.
func (u *unary) giveUp() {
	if u.server == nil {
		return
	}
	n := u.c.n
	if from, to := u.client, u.server; !n.blocked(from, to) {
		n.w.at(n.delay(), to, func() {
			if u.cancel != nil {
				u.cancel()
			}
		})
	}
}

// send puts the request on its way, with what the weather does to it.
func (u *unary) send() {
	n := u.c.n
	n.w.trace.mixString(u.method)
	h := n.hosts[u.c.address]
	if h == nil {
		u.broken("no such address")
		return
	}
	n.begin(&u.exchange)
	switch {
	case n.chance(n.weather.Loss):
		// The connection breaks before the request has left.
		u.broken("connection reset")
		return
	case n.chance(n.weather.Loss / 2):
		// Nobody hears of it any more, until a keepalive finds out.
		n.w.at(keepaliveLeast+n.upTo(keepaliveSpan), nil, func() { u.broken("keepalive failed") })
		return
	}
	u.transmit(h, n.delay())
	if n.chance(n.weather.Duplicate) {
		// What is repeated underneath comes again when its client may long have
		// gone on.
		twin := &unary{c: u.c, method: u.method, request: u.request, deadline: u.deadline, done: make(chan struct{}, 1), finished: true}
		twin.client = u.client
		n.reach.hit(duplicateRequest)
		twin.transmit(h, n.upTo(n.weather.LateBy))
	}
}

func (u *unary) transmit(h *host, d time.Duration) {
	n := u.c.n
	if !h.up() {
		u.broken("connection refused")
		return
	}
	n.reliable(u.client, h.proc, d, func() { u.serve(h) }, func() { u.broken("connection lost") })
}

// serve runs the handler; it is called in the server.
func (u *unary) serve(h *host) {
	if !h.up() {
		u.broken("connection refused")
		return
	}
	m, ok := h.methods[u.method]
	if !ok {
		u.respond(h, answer{err: status.Error(codes.Unimplemented, u.method)})
		return
	}
	u.server = h.proc
	u.serverEnded = func() { u.broken("the server is gone") }
	h.proc.Go(func() {
		ctx, cancel := h.context(u.deadline)
		defer cancel()
		u.cancel = cancel
		body, err := m.Handler(h.service(u.method), ctx, func(in any) error { return unmarshal(u.request, in) }, nil)
		var a answer
		if s := ended(err); s != nil {
			u.c.n.reach.failed(err)
			a.err = s.Err()
		} else {
			u.c.n.reach.answered(body)
			if markers, ok := body.(*oncelogv1.WriteMarkersResponse); ok {
				u.c.n.marked(u.request, markers)
			}
			a.body, a.err = marshal(body)
		}
		u.respond(h, a)
	})
}

// context is that of a handler.
func (h *host) context(limit time.Duration) (context.Context, context.CancelFunc) {
	r := task.New(h.proc)
	ctx := peer.NewContext(context.Background(), &peer.Peer{Addr: simAddr{}})
	if limit > 0 {
		return r.WithTimeout(ctx, limit)
	}
	return r.WithCancel(ctx)
}

// simAddr is where every client seems to come from.
type simAddr struct{}

func (simAddr) Network() string { return "sim" }
func (simAddr) String() string  { return "sim:0" }

var _ net.Addr = simAddr{}

// respond sends the answer back.
func (u *unary) respond(h *host, a answer) {
	n := u.c.n
	if u.finished || !h.up() {
		return
	}
	if n.chance(n.weather.Loss) {
		// Done, and nobody is told.
		n.reach.hit(answerLost)
		u.broken("connection reset")
		return
	}
	n.reliable(h.proc, u.client, n.delay(), func() { u.finish(a) }, func() { u.broken("keepalive failed") })
}
