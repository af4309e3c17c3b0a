package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// fate is what a proxy does with one message of a client.
type fate int

const (
	pass       fate = iota
	lose            // it never arrives, and the call breaks
	loseAnswer      // it arrives; the call breaks instead of being answered
	twice           // it arrives, and a copy of it in a call of its own
)

// message is a message of a client on its way to a node.
type message struct {
	method string // "/oncelog.v1.TransactionService/EndTransaction"
	node   string // client address of the node
	bytes  []byte // must not be changed
}

// proxy stands between clients and the client addresses of all nodes. It knows
// nothing of what it carries, except for what judge makes of it.
type proxy struct {
	t *testing.T
	w *world

	mu     sync.Mutex
	doors  map[string]string // node's address to the proxy's listener for it
	judge  func(message) fate
	copies sync.WaitGroup
}

// newProxy returns a proxy that lets everything pass.
func newProxy(t *testing.T, w *world) *proxy {
	t.Helper()
	p := &proxy{t: t, w: w, doors: map[string]string{}}
	for _, n := range w.Nodes() {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		upstream, err := grpc.NewClient("passthrough:///"+n.Client,
			grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry(),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(64<<20), grpc.MaxCallSendMsgSize(64<<20)))
		if err != nil {
			t.Fatal(err)
		}
		server := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}), grpc.MaxRecvMsgSize(64<<20),
			grpc.UnknownServiceHandler(func(_ any, down grpc.ServerStream) error { return p.relay(n.Client, upstream, down) }))
		go func() { _ = server.Serve(l) }()
		p.doors[n.Client] = l.Addr().String()
		t.Cleanup(func() {
			server.Stop()
			p.copies.Wait()
			_ = upstream.Close()
		})
	}
	return p
}

// client dials the cluster through the proxy.
func (p *proxy) client(opts ...client.Option) *client.Client {
	p.t.Helper()
	door := func(ctx context.Context, address string) (net.Conn, error) {
		through, ok := p.doors[address]
		if !ok {
			return nil, fmt.Errorf("no node is at %s", address)
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", through)
	}
	return p.w.client(p.t, append(opts, client.WithDialOptions(grpc.WithContextDialer(door)))...)
}

// set replaces what judges messages from now on; nil lets everything pass.
func (p *proxy) set(judge func(message) fate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.judge = judge
}

func (p *proxy) judgement(m message) fate {
	p.mu.Lock()
	judge := p.judge
	p.mu.Unlock()
	if judge == nil {
		return pass
	}
	return judge(m)
}

// broken is what a client gets instead of what was lost.
var broken = status.Error(codes.Unavailable, "the network lost this call")

// duplex is the shape of every call, as far as a proxy is concerned.
var duplex = &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}

// relay carries one call.
func (p *proxy) relay(node string, upstream *grpc.ClientConn, down grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(down)
	ctx, cancel := context.WithCancelCause(down.Context())
	defer cancel(nil)
	up, err := upstream.NewStream(ctx, duplex, method)
	if err != nil {
		return err
	}
	mute := make(chan struct{}) // closed when answers are to be lost
	go func() {
		silenced := false
		for {
			var frame []byte
			if err := down.RecvMsg(&frame); err != nil {
				_ = up.CloseSend()
				return
			}
			m := message{method: method, node: node, bytes: frame}
			switch p.judgement(m) {
			case lose:
				cancel(broken)
				return
			case loseAnswer:
				if !silenced {
					silenced = true
					close(mute)
				}
			case twice:
				p.copies.Go(func() { _, _ = p.replay(context.WithoutCancel(ctx), m) })
			case pass:
			}
			if err := up.SendMsg(&frame); err != nil {
				return // the reader of answers learns why
			}
		}
	}()
	for {
		var frame []byte
		err := up.RecvMsg(&frame)
		if cause := context.Cause(ctx); cause != nil && errors.Is(cause, broken) {
			return broken
		}
		select {
		case <-mute:
			return broken
		default:
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := down.SendMsg(&frame); err != nil {
			return err
		}
	}
}

// replay delivers a message in a call of its own, as a late copy, and returns the
// answers.
func (p *proxy) replay(ctx context.Context, m message) ([][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cc, err := grpc.NewClient("passthrough:///"+m.node, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
	if err != nil {
		return nil, err
	}
	defer func() { _ = cc.Close() }()
	stream, err := cc.NewStream(ctx, duplex, m.method)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(stream.SendMsg(&m.bytes), stream.CloseSend()); err != nil {
		return nil, err
	}
	var answers [][]byte
	for {
		var frame []byte
		err := stream.RecvMsg(&frame)
		switch {
		case errors.Is(err, io.EOF):
			return answers, nil
		case err != nil:
			return answers, err
		}
		answers = append(answers, frame)
	}
}

// everywhere delivers a message to every node of a role, for a late copy does not
// know who leads by now.
func (p *proxy) everywhere(m message, role cluster.Role, answered func([][]byte, error)) {
	for _, n := range p.w.Nodes() {
		if n.Role == role {
			m.node = n.Client
			answered(p.replay(p.t.Context(), m))
		}
	}
}

// rawCodec leaves messages as they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("%T is no frame", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(*b)}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("%T is no frame", v)
	}
	*b = slices.Clone(data.Materialize())
	return nil
}

func (rawCodec) Name() string { return "proto" }
