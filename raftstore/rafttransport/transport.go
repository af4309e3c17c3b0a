// Package rafttransport carries raftstore's messages over gRPC: one client
// stream per ordered pair of nodes, with the messages of all groups that are
// ready at that moment in one frame, and a call of its own for each part of a
// snapshot, so that none stands before heartbeats.
package rafttransport

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/protobuf/proto"

	"github.com/oncelog/oncelog/raftstore"
)

// MaxFrameBytes is the largest frame that is sent. The grpc.Server that serves
// RaftService must be made with grpc.MaxRecvMsgSize of at least this, and should be
// with wire.Codec. It leaves room for one entry of raftstore's default
// MaxProposalBytes.
const MaxFrameBytes = 16 << 20

// softFrameBytes ends a frame early: several small frames overlap encoding,
// network and the receiver better than a large one.
const softFrameBytes = 1 << 20

// Config describes the sending side. Zero values take the stated defaults.
type Config struct {
	Self raftstore.NodeID
	// ClusterID guards against a node that was wired to another cluster.
	ClusterID string
	// Resolve returns the gRPC target of a node. It is asked again before every
	// connection attempt, so a node may move. What is sent to a node that it does not
	// know is dropped.
	Resolve func(raftstore.NodeID) (target string, ok bool)
	// Instance names the data directory of a node, Self included; "": not known. It
	// is asked at the beginning of a stream. Nil: nobody is told and nobody checked.
	Instance func(raftstore.NodeID) string
	// DialOptions must contain transport credentials. Add keepalive here, with
	// a matching policy at the server, where networks drop packets silently.
	DialOptions []grpc.DialOption
	// QueueBytes bounds what waits for one peer; beyond it messages are
	// dropped, and Raft repeats them. Default 64 MiB.
	QueueBytes int
	// RetryDelay is the pause between connection attempts. Default 50 ms: a
	// restarted peer must be back well within an election timeout.
	RetryDelay time.Duration
	// ChunkTimeout bounds the transfer of one part of a snapshot. Default 15 s.
	ChunkTimeout time.Duration
	Logger       *slog.Logger
}

// Transport implements raftstore.Transport.
type Transport struct {
	cfg    Config
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	peers  map[raftstore.NodeID]*peer
}

// New returns a transport. Connections are made when there is something to
// send.
func New(cfg Config) *Transport {
	if cfg.QueueBytes == 0 {
		cfg.QueueBytes = 64 << 20
	}
	if cfg.RetryDelay == 0 {
		cfg.RetryDelay = 50 * time.Millisecond
	}
	if cfg.ChunkTimeout == 0 {
		cfg.ChunkTimeout = 15 * time.Second
	}
	if cfg.Instance == nil {
		cfg.Instance = func(raftstore.NodeID) string { return "" }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	// gRPC's own reconnection backs off to two minutes by default.
	cfg.DialOptions = append([]grpc.DialOption{
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: cfg.RetryDelay, Multiplier: 1.2, Jitter: 0.2, MaxDelay: 2 * cfg.RetryDelay},
			MinConnectTimeout: time.Second,
		}),
		grpc.WithDisableRetry(), // Raft repeats what is lost, in the right order
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(MaxFrameBytes)),
	}, cfg.DialOptions...)
	t := &Transport{cfg: cfg, peers: make(map[raftstore.NodeID]*peer)}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// peer returns the peer, starting its goroutine at the first use, or nil after
// Close. t.mu must be held.
func (t *Transport) peer(id raftstore.NodeID) *peer {
	if t.closed {
		return nil
	}
	p := t.peers[id]
	if p == nil {
		p = newPeer(t, id)
		t.peers[id] = p
		t.wg.Go(p.run)
	}
	return p
}

// forget lets go of a peer whose goroutine ends.
func (t *Transport) forget(p *peer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.peers[p.id] == p {
		delete(t.peers, p.id)
	}
}

// Send implements raftstore.Transport.
func (t *Transport) Send(to raftstore.NodeID, msgs []raftstore.Message) error {
	t.mu.Lock()
	p := t.peer(to)
	t.mu.Unlock()
	if p == nil {
		return raftstore.ErrUnreachable
	}
	size := 0
	for _, m := range msgs {
		size += proto.Size(m.Raft)
	}
	return p.enqueue(msgs, size)
}

// Close ends all connections and waits for their goroutines. Call it after the
// store is closed.
func (t *Transport) Close() error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel()
	t.wg.Wait()
	return nil
}

var _ raftstore.Transport = (*Transport)(nil)
