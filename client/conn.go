package client

import (
	"sync"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
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
	opts []grpc.DialOption

	mu     sync.Mutex
	conns  map[string]*grpc.ClientConn
	closed bool
}

func newConnections(cfg *config) *connections {
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
		),
	}
	return &connections{opts: append(opts, cfg.dialOptions...), conns: make(map[string]*grpc.ClientConn)}
}

// get returns the connection to an address; it does not wait for it to be up.
func (p *connections) get(address string) (*grpc.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	if cc, ok := p.conns[address]; ok {
		return cc, nil
	}
	// passthrough: one name is one node; a resolver would merge several.
	cc, err := grpc.NewClient("passthrough:///"+address, p.opts...)
	if err != nil {
		return nil, err
	}
	p.conns[address] = cc
	return cc, nil
}

func (p *connections) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	var first error
	for address, cc := range p.conns {
		if err := cc.Close(); err != nil && first == nil {
			first = err
		}
		delete(p.conns, address)
	}
	return first
}
