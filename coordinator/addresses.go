package coordinator

import (
	"slices"
	"sync"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/membership"
	"github.com/oncelog/oncelog/raftstore"
)

// Where a coordinator is reached is said in three places: by the members, as this
// node has applied them; by a leader that answered an announcement, which may know
// more; and by this node's settings, which may be older than both, or newer, when
// all members move at once.

// addressTurn is for how long one of several addresses of a member is tried while
// there is no leader.
const addressTurn = 2 * time.Second

// addressBook is what leaders told of members.
type addressBook struct {
	mu    sync.Mutex
	heard map[uint64]Member
}

// hear takes a leader's list.
func (b *addressBook) hear(nodes []*oncelogv1.Node) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heard = make(map[uint64]Member, len(nodes))
	for _, n := range nodes {
		b.heard[n.GetNodeId()] = Member{ID: n.GetNodeId(), ClientAddress: n.GetClientAddress(), PeerAddress: n.GetPeerAddress()}
	}
}

func (b *addressBook) get(id uint64) (Member, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m, ok := b.heard[id]
	return m, ok
}

// all returns what was heard, by id.
func (b *addressBook) all() (out []Member) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.heard {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Member) int { return int(min(max(int64(a.ID)-int64(b.ID), -1), 1)) })
	return out
}

func addressesOf(m membership.Member) Member {
	return Member{ID: m.ID, ClientAddress: m.ClientAddress, PeerAddress: m.PeerAddress}
}

// sightings returns what is said of a member's addresses, the best first.
func (c *Coordinator) sightings(id uint64) []Member {
	var out []Member
	c.state.read(func() {
		if m, ok := c.state.members.Member(id); ok && m.PeerAddress != "" {
			out = append(out, addressesOf(m))
		}
	})
	if m, ok := c.book.get(id); ok {
		out = append(out, m)
	}
	if i := slices.IndexFunc(c.cfg.Members, func(m Member) bool { return m.ID == id }); i >= 0 {
		out = append(out, c.cfg.Members[i])
	}
	return out
}

// member returns a member with its addresses.
func (c *Coordinator) member(id uint64) (Member, bool) {
	if seen := c.sightings(id); len(seen) > 0 {
		return seen[0], true
	}
	return Member{}, false
}

// PeerAddress returns where a member is reached, for Raft's transport. While there
// is no leader all that is said is tried in turn: the members may have moved
// together, and nobody can write it down then. Who was removed is nowhere.
func (c *Coordinator) PeerAddress(id raftstore.NodeID) (string, bool) {
	removed := false
	c.state.read(func() { removed = c.state.members.Removed(uint64(id)) })
	if removed {
		return "", false
	}
	var addresses []string
	for _, m := range c.sightings(uint64(id)) {
		if m.PeerAddress != "" && !slices.Contains(addresses, m.PeerAddress) {
			addresses = append(addresses, m.PeerAddress)
		}
	}
	if len(addresses) == 0 {
		return "", false
	}
	turn := 0
	if !c.opened.Load() || c.group.Leadership().Leader == 0 {
		turn = int(c.rt.Since(c.startedAt) / addressTurn)
	}
	return addresses[turn%len(addresses)], true
}

// Instance names the data directory of a member, this one included; "": it is not
// known. It is for Raft's transport, which then neither sends to another directory
// of that id nor hears of one.
func (c *Coordinator) Instance(id raftstore.NodeID) (instance string) {
	if uint64(id) == c.cfg.NodeID {
		return c.identity.get().instance
	}
	c.state.read(func() {
		m, _ := c.state.members.Member(uint64(id))
		instance = m.Instance
	})
	return instance
}

// coordinatorProtos lists the coordinators that clients and nodes may ask. The
// caller holds the state still.
func (c *Coordinator) coordinatorProtos() []*oncelogv1.Node {
	var out []*oncelogv1.Node
	if !c.state.members.Founded() {
		for _, m := range c.cfg.Members {
			out = append(out, memberProto(m))
		}
		return out
	}
	for _, m := range c.state.members.Members() {
		if m.Voter || m.Instance != "" { // else nobody has started it yet
			out = append(out, memberProto(addressesOf(m)))
		}
	}
	return out
}

// acquaintances are the peer addresses at which some other coordinator may be found.
func (c *Coordinator) acquaintances() []string {
	var out []string
	add := func(m Member) {
		if m.ID != c.cfg.NodeID && m.PeerAddress != "" && !slices.Contains(out, m.PeerAddress) {
			out = append(out, m.PeerAddress)
		}
	}
	c.state.read(func() {
		for _, m := range c.state.members.Members() {
			add(addressesOf(m))
		}
	})
	for _, m := range c.book.all() {
		add(m)
	}
	for _, m := range c.cfg.Members {
		add(m)
	}
	return out
}
