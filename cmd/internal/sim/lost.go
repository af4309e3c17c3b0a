package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/raftstore"
)

// loseDisk: a node comes back with its id and an empty disk. It has forgotten its
// votes and what it had acknowledged, so it must be refused, and say nothing as a
// member of a Raft group meanwhile. The others go on without it.
const loseDisk faultKind = "disk-lost"

// drawLostDisk adds the loss of a disk to some plans, at most one: a cluster of
// three stands no more. Its chance is its own, so that the rest of a plan is the
// same with it and without.
func drawLostDisk(p *Plan) {
	r := rand.New(rand.NewPCG(p.Seed, 0x6c6f7374))
	var kinds []uint64
	if p.Sizes.Coordinators >= 3 {
		kinds = append(kinds, coordinatorVictim)
	}
	// New shards need three, and a meddler makes some that stand on fewer nodes.
	if p.Sizes.Partitions > 3 && p.Meddling.Acts == 0 {
		kinds = append(kinds, partitionVictim)
	}
	if r.IntN(5) != 0 || len(kinds) == 0 {
		return
	}
	p.Faults = append(p.Faults, fault{
		At: between(r, time.Second, p.Horizon-2*time.Second), For: between(r, 10*time.Millisecond, time.Second),
		Kind: loseDisk, Victim: r.Uint64(), Side: pick(r, kinds...),
	})
	slices.SortStableFunc(p.Faults, func(a, b fault) int { return int(a.At - b.At) })
}

// What kind of node loses its disk, in fault.Side.
const (
	coordinatorVictim uint64 = iota
	partitionVictim
)

// loseDisk ends a node and empties its disk.
func (m *nemesis) loseDisk(f fault) {
	group := m.c.coords
	if f.Side == partitionVictim {
		group = m.c.parts
	}
	n := choose(f.Victim, group)
	if n.fresh {
		return // it has nothing to lose, and nobody who would refuse it
	}
	m.note("%s: %s", f.Kind, n.proc.name)
	n.crash(true)
	n.forget()
	n.lost++
	n.down = true
	m.until(f.For, func() {
		n.down = false
		n.start()
	})
}

// logID names the database of the node's log.
func (n *node) logID() string { return fmt.Sprintf("log-%s-%d", n.proc.name, n.lost) }

// refusedForGood reports whether a node that stopped itself was told that it lost
// its disk.
func (n *node) refusedForGood(why error) bool {
	return n.lost > 0 && apierrors.CodeOf(why) == oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE
}

// memberOnly is the transport of a node, and hears whether one that lost its disk
// speaks as a member.
type memberOnly struct {
	raftstore.Transport
	n *node
}

// Send implements raftstore.Transport.
func (t memberOnly) Send(to raftstore.NodeID, msgs []raftstore.Message) error {
	for _, m := range msgs {
		life, was := t.n.forgot[m.Group]
		if was && raftstore.NodeID(m.Raft.GetFrom()).Life() <= life {
			t.n.c.spoke(t.n, fmt.Sprintf("%s lost its disk and sends %v in term %d of group %d, as what it was before",
				t.n.proc.name, m.Raft.GetType(), m.Raft.GetTerm(), m.Group))
		}
	}
	return t.Transport.Send(to, msgs)
}

// lostNodes complains of nodes that lost their disk and were not refused.
func (s *simulation) lostNodes() {
	for _, n := range s.cluster.nodes() {
		if n.lost > 0 && !n.refused && !n.restored {
			s.complain("I12 election", n.proc.name+" lost its disk and was not refused")
		}
	}
}
