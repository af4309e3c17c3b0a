package coordinator

import (
	"io"
	"sync"

	"google.golang.org/grpc"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// peerConns keeps one connection per address of a partition node.
type peerConns struct {
	dial func(address string) (grpc.ClientConnInterface, error)

	mu    sync.Mutex
	conns map[string]grpc.ClientConnInterface
}

func newPeerConns(dial func(string) (grpc.ClientConnInterface, error)) *peerConns {
	return &peerConns{dial: dial, conns: map[string]grpc.ClientConnInterface{}}
}

// shard returns a client of the node at address.
func (p *peerConns) shard(address string) (oncelogv1.ShardServiceClient, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	conn, ok := p.conns[address]
	if !ok {
		var err error
		if conn, err = p.dial(address); err != nil {
			return nil, err
		}
		p.conns[address] = conn
	}
	return oncelogv1.NewShardServiceClient(conn), nil
}

// close closes every connection that can be closed.
func (p *peerConns) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		if c, ok := conn.(io.Closer); ok {
			_ = c.Close() // the process is ending
		}
	}
	clear(p.conns)
}
