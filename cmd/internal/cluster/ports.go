package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports of nodes are taken from below those that Linux gives to outgoing connections
// and to listeners that ask for any: nobody gets the port of a node that is down.
const (
	firstPort = 16_000
	lastPort  = 32_000
	// portTries bounds how many are looked at for one that is free.
	portTries = 1000
)

// ports are the ports of a cluster. Other clusters, also those of other processes, leave
// them alone as long as it has them: each is claimed by a socket for UDP, which a node
// does not need.
type ports struct {
	mu     sync.Mutex
	claims []net.PacketConn
}

// ClaimAddresses claims so many addresses on loopback for nodes that a caller starts by
// itself, until release is called.
func ClaimAddresses(count int) (addresses []string, release func(), err error) {
	p := &ports{}
	addresses, err = p.take(count)
	return addresses, p.release, err
}

// take claims so many addresses on loopback.
func (p *ports) take(count int) ([]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	addresses := make([]string, 0, count)
	var errs error
	for tries := 0; len(addresses) < count; tries++ {
		if tries == portTries {
			return nil, fmt.Errorf("find a free port: %w", errs)
		}
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(firstPort+rand.IntN(lastPort-firstPort)))
		claim, err := claimPort(address)
		if err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		p.claims = append(p.claims, claim)
		addresses = append(addresses, address)
	}
	return addresses, nil
}

func claimPort(address string) (net.PacketConn, error) {
	claim, err := net.ListenPacket("udp4", address)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp4", address)
	if err != nil { // another program has it
		return nil, errors.Join(err, claim.Close())
	}
	return claim, l.Close()
}

// release gives all of them back.
func (p *ports) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.claims {
		_ = c.Close() // nothing was written
	}
	p.claims = nil
}
