package coordinator

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/raftstore/memlog"
)

func (m *member) coordinators() oncelogv1.CoordinatorServiceClient {
	return oncelogv1.NewCoordinatorServiceClient(m.client)
}

// newcomer makes a member that joins, at its own addresses or those of another one,
// and that knows of the cluster what seeds are.
func (d directories) newcomer(c *cluster, id, place uint64, seeds ...uint64) *member {
	m := &member{id: id, log: &disk{Store: memlog.New(nil)}}
	c.nodes = append(c.nodes, m)
	d.files[id], d.logs[id], d.places[id] = fileMap{}, fmt.Sprint("log-", id), place
	d.settings[id] = func(cfg *Config) {
		cfg.Join = true
		cfg.Members = []Member{{ID: id, ClientAddress: clientAddress(place), PeerAddress: peerAddress(place)}}
		for _, s := range seeds {
			cfg.Members = append(cfg.Members, Member{ID: s, ClientAddress: clientAddress(s), PeerAddress: peerAddress(s)})
		}
	}
	return m
}

// founded fixes the settings of those that are there to what the cluster began with.
func (d directories) founded(c *cluster) {
	var list []Member
	for _, m := range c.nodes {
		list = append(list, Member{ID: m.id, ClientAddress: clientAddress(m.id), PeerAddress: peerAddress(m.id)})
	}
	for _, m := range c.nodes {
		d.settings[m.id] = func(cfg *Config) { cfg.Members = list }
	}
	for _, m := range c.nodes {
		d.start(c, m)
	}
}

// grown is a cluster of n that has begun.
func grown(t *testing.T, n int, test func(t *testing.T, c *cluster, d directories)) {
	t.Helper()
	guarded(t, n, func(t *testing.T, c *cluster, d directories) {
		d.founded(c)
		c.until("all are written down", func() bool { return slices.Equal(c.settled(), c.ids(1, uint64(n))) })
		test(t, c, d)
	})
}

func (c *cluster) ids(from, to uint64) (out []uint64) {
	for id := from; id <= to; id++ {
		out = append(out, id)
	}
	return out
}

// settled are the members once none joins or leaves, all that run have announced
// themselves, and Raft has the same; nil before.
func (c *cluster) settled() (out []uint64) {
	for _, m := range c.nodes {
		if m.c == nil || !m.c.opened.Load() || !m.c.group.Status().Ready {
			continue
		}
		var ok bool
		m.c.state.read(func() {
			_, changing := m.c.state.members.Changing()
			ok = m.c.state.members.Founded() && !changing
			out = nil
			for _, x := range m.c.state.members.Members() {
				out = append(out, x.ID)
				if running := c.node(x.ID); running != nil && running.c != nil {
					ok = ok && x.Instance != ""
				}
			}
		})
		if ok && slices.Equal(out, voterIDs(m.c.group.Status().Members)) {
			return out
		}
	}
	return nil
}

func (c *cluster) node(id uint64) *member {
	for _, m := range c.nodes {
		if m.id == id {
			return m
		}
	}
	return nil
}

// onLeader repeats a call until the leader has answered it.
func (c *cluster) onLeader(call func(m *member) error) (err error) {
	c.until("the leader answers", func() bool {
		for _, m := range c.nodes {
			if m.c == nil || !m.c.opened.Load() || !m.c.group.Status().Ready {
				continue
			}
			if err = call(m); err == nil {
				return true
			}
			switch codeName(err) {
			case "NOT_LEADER", "UNAVAILABLE", "UNKNOWN_RESULT":
			default:
				return true
			}
		}
		return false
	})
	return err
}

func (c *cluster) add(id, place, replaces uint64) error {
	return c.onLeader(func(m *member) error {
		_, err := m.coordinators().AddCoordinator(c.ctx(), &oncelogv1.AddCoordinatorRequest{
			NodeId: id, ClientAddress: clientAddress(place), PeerAddress: peerAddress(place), Replaces: replaces,
		})
		return err
	})
}

func (c *cluster) remove(id uint64) error {
	return c.onLeader(func(m *member) error {
		_, err := m.coordinators().RemoveCoordinator(c.ctx(), &oncelogv1.RemoveCoordinatorRequest{NodeId: id})
		return err
	})
}

func (c *cluster) list() (res *oncelogv1.ListCoordinatorsResponse) {
	if err := c.onLeader(func(m *member) (err error) {
		res, err = m.coordinators().ListCoordinators(c.ctx(), &oncelogv1.ListCoordinatorsRequest{})
		return err
	}); err != nil {
		c.t.Fatal(err)
	}
	return res
}

// ended wants a member to have stopped itself, saying so, and takes it away.
func (d directories) ended(c *cluster, m *member, text string) {
	c.t.Helper()
	c.until(fmt.Sprintf("member %d ends", m.id), func() bool {
		select {
		case err := <-m.c.Fatal():
			if !strings.Contains(err.Error(), text) {
				c.t.Errorf("member %d: %v", m.id, err)
			}
			return true
		default:
			return false
		}
	})
	d.stop(c, m)
}
