package client

import (
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/oncelog/oncelog/internal/dial"
	"github.com/oncelog/oncelog/internal/wire"
)

// Settings of connections. grpc-go's own would take minutes to find a node that
// came back, and never notice one that fell silent.
const (
	connectTimeout   = 2 * time.Second
	reconnectLongest = 200 * time.Millisecond
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 5 * time.Second
	streamWindow     = 4 << 20
	connectionWindow = 16 << 20
	maxReceiveBytes  = 32 << 20
	maxSendBytes     = 16 << 20
)

// connections holds one connection per node address, made when first used.
type connections struct {
	connect dial.Func

	mu     sync.Mutex
	conns  map[string]dial.Conn
	closed bool
}

// newConnections makes connections with connect; nil: over the network.
func newConnections(cfg *config, connect dial.Func) *connections {
	if connect == nil {
		connect = network(cfg)
	}
	return &connections{connect: connect, conns: make(map[string]dial.Conn)}
}

// network connects with gRPC, as configured.
func network(cfg *config) dial.Func {
	creds := insecure.NewCredentials()
	if cfg.tls != nil {
		creds = credentials.NewTLS(cfg.tls)
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		// Repeating is done here, where the identity of a request is known.
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithUserAgent(cfg.clientID),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: grpcbackoff.Config{
				BaseDelay: cfg.backoffMin, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectLongest,
			},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithInitialWindowSize(streamWindow),
		grpc.WithInitialConnWindowSize(connectionWindow),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(maxReceiveBytes),
			grpc.MaxCallSendMsgSize(maxSendBytes),
			grpc.ForceCodecV2(wire.Codec{}),
		),
	}
	if cfg.token != nil {
		opts = append(opts, grpc.WithPerRPCCredentials(cfg.token))
	}
	opts = append(opts, cfg.dialOptions...)
	return func(address string) (dial.Conn, error) {
		// passthrough: one name is one node; a resolver would merge several.
		return grpc.NewClient("passthrough:///"+address, opts...)
	}
}

// get returns the connection to an address; it does not wait for it to be up.
func (p *connections) get(address string) (dial.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	if cc, ok := p.conns[address]; ok {
		return cc, nil
	}
	cc, err := p.connect(address)
	if err != nil {
		return nil, err
	}
	p.conns[address] = cc
	return cc, nil
}

func (p *connections) close() error {
	p.mu.Lock()
	p.closed = true
	open := p.conns
	p.conns = nil
	p.mu.Unlock()
	var first error
	for _, address := range slices.Sorted(maps.Keys(open)) {
		if err := open[address].Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}
