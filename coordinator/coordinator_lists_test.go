package coordinator

import (
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// TestAddressesWithoutALeader: all members have moved together, and find each other
// by their settings.
func TestAddressesWithoutALeader(t *testing.T) {
	grown(t, 3, func(t *testing.T, c *cluster, d directories) {
		for _, m := range c.nodes {
			d.stop(c, m)
		}
		d.settings[1] = func(cfg *Config) {
			cfg.Members = []Member{{1, "c:1", "p:1"}, {2, "c:2", "p:2"}, {3, "c:3", "p:3"}}
		}
		m := c.nodes[0]
		d.start(c, m)
		seen := map[string]bool{}
		for range 8 {
			a, _ := m.c.PeerAddress(2)
			seen[a] = true
			pass(addressTurn / 2)
		}
		if len(seen) != 2 || !seen["p:2"] || !seen[peerAddress(2)] {
			t.Errorf("tried %v", seen)
		}
		d.start(c, c.nodes[1])
		c.leader()
		if a, ok := m.c.PeerAddress(3); a != peerAddress(3) || !ok {
			t.Errorf("with a leader %q", a)
		}
		if a, ok := m.c.PeerAddress(9); ok {
			t.Errorf("nobody is at %q", a)
		}
		if own, err := openIdentityOf(d.files[1]); err != nil || m.c.Instance(1) != own.instance || m.c.Instance(2) == "" || m.c.Instance(9) != "" {
			t.Errorf("instances %q, %q: %v", m.c.Instance(1), m.c.Instance(2), err)
		}
	})
}

// TestHeartbeatsBringCoordinators: to nodes that ask for them.
func TestHeartbeatsBringCoordinators(t *testing.T) {
	grown(t, 3, func(t *testing.T, c *cluster, _ directories) {
		leader := c.leader()
		must(leader.cluster().RegisterNode(c.ctx(), &oncelogv1.RegisterNodeRequest{NodeId: 1, InstanceId: "i", ClientAddress: "c", PeerAddress: "p"}))
		beat := func(known *uint64) *oncelogv1.HeartbeatResponse {
			return must(leader.cluster().Heartbeat(c.ctx(), &oncelogv1.HeartbeatRequest{
				NodeId: 1, InstanceId: "i", KnownVersion: 1 << 40, WaitMs: 3000, KnownCoordinatorsVersion: known,
			}))
		}
		start := time.Now()
		if res := beat(nil); len(res.GetCoordinators()) != 0 || time.Since(start) != 3*time.Second {
			t.Errorf("%v after %v", res, time.Since(start))
		}
		none := uint64(0)
		res := beat(&none)
		if len(res.GetCoordinators()) != 3 || res.GetCoordinators()[1].GetPeerAddress() != peerAddress(2) {
			t.Errorf("%v", res)
		}
		start = time.Now()
		known := res.GetCoordinatorsVersion()
		go func() {
			pass(time.Second)
			_ = c.add(4, 4, 0)
		}()
		if res := beat(&known); res.GetCoordinatorsVersion() <= known || len(res.GetCoordinators()) != 3 || time.Since(start) != time.Second {
			t.Errorf("%v after %v", res, time.Since(start)) // nobody has started it
		}
	})
}
