package rafttransport

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/wire"
	"github.com/oncelog/oncelog/raftstore"
)

// peer is the connection to one node.
type peer struct {
	t  *Transport
	id raftstore.NodeID

	wake chan struct{}
	mu   sync.Mutex
	// down drops messages: the last attempt to connect failed. While the first
	// attempt is under way messages wait, so that a cluster that starts does
	// not lose its first votes.
	down  bool
	queue []raftstore.Message
	bytes int

	connMu sync.Mutex
	conn   *grpc.ClientConn
	target string
	ended  bool // nobody would close another connection

	frame frame // reused
}

func newPeer(t *Transport, id raftstore.NodeID) *peer {
	return &peer{t: t, id: id, wake: make(chan struct{}, 1)}
}

func (p *peer) enqueue(msgs []raftstore.Message, size int) error {
	p.mu.Lock()
	if p.down || p.bytes > 0 && p.bytes+size > p.t.cfg.QueueBytes {
		p.mu.Unlock()
		return raftstore.ErrUnreachable
	}
	p.queue = append(p.queue, msgs...)
	p.bytes += size
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return nil
}

// take swaps the queue with into.
func (p *peer) take(into []raftstore.Message) []raftstore.Message {
	clear(into)
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := p.queue
	p.queue, p.bytes = into[:0], 0
	return taken
}

func (p *peer) setDown(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if down && !p.down {
		clear(p.queue)
		p.queue, p.bytes = p.queue[:0], 0
	}
	p.down = down
}

// connect returns a connection to the peer's present target.
func (p *peer) connect() (*grpc.ClientConn, error) {
	target, ok := p.t.cfg.Resolve(p.id)
	if !ok {
		return nil, errUnknown
	}
	p.connMu.Lock()
	defer p.connMu.Unlock()
	if p.ended {
		return nil, errUnknown
	}
	if p.conn != nil && p.target == target {
		return p.conn, nil
	}
	conn, err := grpc.NewClient(target, p.t.cfg.DialOptions...)
	if err != nil {
		return nil, err
	}
	if p.conn != nil {
		_ = p.conn.Close() // the node is elsewhere now
	}
	p.conn, p.target = conn, target
	return conn, nil
}

// errUnknown says that a node has no address: it is not known yet, or no member any
// more.
var errUnknown = errors.New("the address of the node is not known")

// run keeps a stream to the peer until the transport is closed, or the peer has no
// address. The next message to it begins anew.
func (p *peer) run() {
	defer p.t.forget(p)
	defer func() {
		p.connMu.Lock()
		defer p.connMu.Unlock()
		p.ended = true
		if p.conn != nil {
			_ = p.conn.Close()
		}
	}()
	var last string
	for {
		err := p.stream(func() {
			p.setDown(false)
			last = ""
		})
		if p.t.ctx.Err() != nil {
			return
		}
		p.setDown(true)
		if errors.Is(err, errUnknown) {
			return
		}
		if msg := err.Error(); msg != last { // once per kind of failure
			last = msg
			p.t.cfg.Logger.Warn("peer unreachable", "peer", p.id, "error", err)
		}
		select {
		case <-time.After(p.t.cfg.RetryDelay):
		case <-p.t.ctx.Done():
			return
		}
	}
}

// stream opens a stream and sends until it breaks; connected is called once it
// stands.
func (p *peer) stream(connected func()) error {
	conn, err := p.connect()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(p.t.ctx)
	defer cancel(nil)
	// An attempt must not hang on a dead address: the target may change.
	limit := time.AfterFunc(time.Second, func() { cancel(context.DeadlineExceeded) })
	conn.ResetConnectBackoff()
	stream, err := oncelogv1.NewRaftServiceClient(conn).Exchange(ctx, grpc.WaitForReady(true), grpc.ForceCodecV2(wire.Codec{}))
	if err != nil {
		limit.Stop()
		return err
	}
	if !limit.Stop() {
		return context.DeadlineExceeded
	}
	connected()
	from, to := p.t.cfg.Instance(p.t.cfg.Self), p.t.cfg.Instance(p.id)
	p.frame.header = &oncelogv1.ExchangeRequest{
		ClusterId: p.t.cfg.ClusterID, FromNode: uint64(p.t.cfg.Self), ToNode: uint64(p.id), FromInstance: from, ToInstance: to,
	}
	// The peer answers only to end the stream.
	p.t.wg.Go(func() {
		err := stream.RecvMsg(&oncelogv1.ExchangeResponse{})
		cancel(fmt.Errorf("stream ended: %w", err))
	})
	var msgs []raftstore.Message
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.wake:
		}
		msgs = p.take(msgs)
		if err := p.send(stream, msgs); err != nil {
			<-ctx.Done() // the receiver knows why
			return context.Cause(ctx)
		}
	}
}

// send sends the messages in as many frames as their size needs.
func (p *peer) send(stream grpc.ClientStreamingClient[oncelogv1.ExchangeRequest, oncelogv1.ExchangeResponse], msgs []raftstore.Message) error {
	f := &p.frame
	// What a broken stream left behind is lost like all else that was on it.
	f.clear()
	for i, m := range msgs {
		size := proto.Size(m.Raft)
		if size > MaxFrameBytes-1024 {
			p.t.cfg.Logger.Error("message can not be sent", "peer", p.id, "group", m.Group, "bytes", size)
			continue
		}
		f.add(m, size)
		next := 0
		if i+1 < len(msgs) {
			next = proto.Size(msgs[i+1].Raft)
		}
		if i+1 < len(msgs) && f.size+next <= softFrameBytes {
			continue
		}
		if err := stream.SendMsg(f); err != nil {
			return err
		}
		f.clear()
	}
	return nil
}
