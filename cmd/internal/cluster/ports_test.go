package cluster

import (
	"net"
	"testing"
)

// Clusters of several processes run at the same time, and their nodes go and come back:
// nobody else may get a port meanwhile.
func TestPortsAreNobodyElses(t *testing.T) {
	t.Parallel()
	const count = 200
	var one, other ports
	defer one.release()
	defer other.release()
	seen := map[string]bool{}
	for _, p := range []*ports{&one, &other} {
		addresses, err := p.take(count)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range addresses {
			if seen[a] {
				t.Errorf("%s is given twice", a)
			}
			seen[a] = true
		}
	}
	for a := range seen {
		if c, err := claimPort(a); err == nil {
			t.Errorf("%s can be claimed by another process", a)
			_ = c.Close()
		}
		l, err := net.Listen("tcp4", a) // a node can have it
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
	}
	one.release()
	other.release()
	for a := range seen {
		c, err := claimPort(a)
		if err != nil {
			t.Fatalf("after its cluster is gone: %v", err)
		}
		_ = c.Close()
	}
}

func TestPortOfAnotherProgram(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if c, err := claimPort(l.Addr().String()); err == nil {
		t.Error("claimed")
		_ = c.Close()
	}
}
