package coordinator

import (
	"io"
	"maps"
	"slices"
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
	conn, replaced, err := p.connect(node, address)
	if err != nil {
		return nil, err
	}
	replaced.close()
	return oncelogv1.NewShardServiceClient(conn), nil
}

// connect returns the connection of the node, and the one whose place it took.
func (p *peerConns) connect(node uint64, address string) (conn grpc.ClientConnInterface, replaced peerConn, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, ok := p.conns[node]
	if ok && known.address == address {
		return known.conn, peerConn{}, nil
	}
	if conn, err = p.dial(address); err != nil {
		return nil, peerConn{}, err
	}
	p.conns[node] = peerConn{address: address, conn: conn}
	return conn, known, nil
}

// close closes every connection that can be closed.
func (p *peerConns) close() {
	p.mu.Lock()
	conns := p.conns
	p.conns = map[uint64]peerConn{}
	p.mu.Unlock()
	for _, node := range slices.Sorted(maps.Keys(conns)) {
		conns[node].close()
	}
}

func (c peerConn) close() {
	if closer, ok := c.conn.(io.Closer); ok {
		_ = closer.Close() // nobody uses it any more
	}
}
