package coordinator

import (
	"io"
	"sync"

	"google.golang.org/grpc"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// peerConns keeps one connection per partition node. A node that came back
// under another address gets a new one and the old one is closed, so that
// addresses that change with every start do not pile up connections.
type peerConns struct {
	dial func(address string) (grpc.ClientConnInterface, error)

	mu    sync.Mutex
	conns map[uint64]peerConn
}

type peerConn struct {
	address string
	conn    grpc.ClientConnInterface
}

func newPeerConns(dial func(string) (grpc.ClientConnInterface, error)) *peerConns {
	return &peerConns{dial: dial, conns: map[uint64]peerConn{}}
}

// shard returns a client of the node at address.
func (p *peerConns) shard(node uint64, address string) (oncelogv1.ShardServiceClient, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, ok := p.conns[node]
	if !ok || known.address != address {
		conn, err := p.dial(address)
		if err != nil {
			return nil, err
		}
		known.close()
		known = peerConn{address: address, conn: conn}
		p.conns[node] = known
	}
	return oncelogv1.NewShardServiceClient(known.conn), nil
}

// close closes every connection that can be closed.
func (p *peerConns) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.close()
	}
	clear(p.conns)
}

func (c peerConn) close() {
	if closer, ok := c.conn.(io.Closer); ok {
		_ = closer.Close() // nobody uses it any more
	}
}
