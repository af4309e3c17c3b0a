package limits

import (
	"context"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/internal/access"
)

// messageHeaderBytes precede every message of gRPC.
const messageHeaderBytes = 5

// call is one that was let in, in its context.
type call struct {
	meter  *Meter
	stream *stream
	cancel context.CancelFunc
	// requestStream: its client sends any number of messages.
	requestStream bool
	// compressed: what comes may become as large as a message may be, whatever came.
	compressed bool
	got        atomic.Bool  // a message has come
	over       atomic.Bool  // the service is done
	stuck      atomic.Bool  // it was ended because nothing moved
	bytes      atomic.Int64 // of the messages that came
	expected   atomic.Int64 // bytes that were counted for the message that is being sent
}

type callKey struct{}

type connKey struct{}

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// end ends the call as one on which nothing moves.
func (k *call) end() {
	k.stuck.Store(true)
	k.cancel()
}

// ServerOptions have a server's connections metered. Its credentials must be
// [Meter.Credentials].
func (m *Meter) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ReadBufferSize(0), // see readBuffer
		grpc.InTapHandle(m.enter),
		grpc.StatsHandler(follower{m}),
	}
}

// enter is asked before anything is done for a call but reading its headers.
func (m *Meter) enter(ctx context.Context, info *tap.Info) (context.Context, error) {
	c, ok := ctx.Value(connKey{}).(*conn)
	if !ok {
		return ctx, nil // closed meanwhile
	}
	if err := m.admit(c, info.FullMethodName); err != nil {
		m.refused.Add(1)
		return ctx, err
	}
	k := &call{meter: m, requestStream: m.cfg.RequestStreams(info.FullMethodName)}
	ctx, k.cancel = context.WithCancel(ctx)
	c.mu.Lock()
	if s := c.newest; s != nil && !s.gone {
		s.call, k.stream = k, s
	}
	c.mu.Unlock()
	return context.WithValue(ctx, callKey{}, k), nil
}

// admit refuses calls that there is no room for. Whether a node is well may be asked always.
func (m *Meter) admit(c *conn, method string) error {
	if strings.HasPrefix(method, "/grpc.health.v1.Health/") {
		return nil
	}
	if m.calls.Load() >= m.cfg.Calls {
		m.tally.add(maxCalls)
		return overloaded("the node has as many calls under way as it may")
	}
	c.mu.Lock()
	mine := c.held.received
	c.mu.Unlock()
	switch {
	case mine > m.cfg.Bytes/connectionShare:
		m.tally.add(maxInflightBytes)
		return overloaded("what this connection has sent and is not done with is a quarter of what the node may hold")
	case mine > m.cfg.Bytes/busyShare && m.received.Load() > m.cfg.Bytes/2:
		m.tally.add(maxInflightBytes)
		return overloaded("the node holds much, and much of it for this connection")
	}
	return nil
}

// follower hears from gRPC what becomes of calls.
type follower struct{ m *Meter }

// TagConn implements stats.Handler.
func (f follower) TagConn(ctx context.Context, info *stats.ConnTagInfo) context.Context {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if c := f.m.byAddress[info.RemoteAddr.String()]; c != nil {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// HandleConn implements stats.Handler.
func (follower) HandleConn(context.Context, stats.ConnStats) {}

// TagRPC implements stats.Handler.
func (follower) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC implements stats.Handler.
func (follower) HandleRPC(ctx context.Context, event stats.RPCStats) {
	k := callOf(ctx)
	if k == nil {
		return
	}
	switch e := event.(type) {
	case *stats.InHeader:
		k.compressed = e.Compression != "" && e.Compression != "identity"
	case *stats.Begin:
		k.meter.calls.Add(1)
		if k.compressed {
			// Its message is read after this returns, so it waits for its turn here. Not for the
			// end of its context: a call that has ended may be read all the same.
			k.meter.inflating <- struct{}{}
		}
	case *stats.InPayload:
		k.got.Store(true)
		k.bytes.Add(int64(e.WireLength))
		if k.requestStream && k.stream != nil {
			k.stream.took(int64(e.WireLength))
		}
	case *stats.OutPayload:
		k.handOver(int64(e.WireLength) - k.expected.Swap(0))
	case *stats.End:
		k.over.Store(true)
		k.meter.calls.Add(-1)
		if k.compressed {
			<-k.meter.inflating
		}
		k.cancel()
	}
}

func (k *call) handOver(n int64) {
	if k.stream != nil && k.stream.handOver(n) {
		k.meter.relieve()
	}
}

// Unary counts a call for its principal. It is called behind whoever finds out who calls.
func (p *Principals) Unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	bytes := int64(0)
	if k := callOf(ctx); k != nil {
		bytes = k.bytes.Load()
	}
	leave, err := p.enter(access.From(ctx).Name, bytes)
	if err != nil {
		return nil, err
	}
	defer leave()
	return handler(ctx, req)
}

// Stream counts a stream for its principal, and what is to be written of it before it is
// handed over.
func (p *Principals) Stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	leave, err := p.enter(access.From(ss.Context()).Name, 0)
	if err != nil {
		return err
	}
	defer leave()
	k := callOf(ss.Context())
	if k == nil {
		return handler(srv, ss)
	}
	err = handler(srv, &meteredStream{ss, k})
	if err != nil && k.stuck.Load() {
		return overloaded("nothing has moved on this stream for too long: its client does not read, or does not send what it began")
	}
	return err
}

type meteredStream struct {
	grpc.ServerStream
	call *call
}

// SendMsg implements grpc.ServerStream. gRPC tells of a message when it has been handed over,
// and it may wait for that as long as the client reads nothing.
func (s *meteredStream) SendMsg(m any) error {
	if p, ok := m.(proto.Message); ok {
		n := int64(proto.Size(p)) + messageHeaderBytes
		s.call.expected.Store(n)
		s.call.handOver(n)
	}
	return s.ServerStream.SendMsg(m)
}
