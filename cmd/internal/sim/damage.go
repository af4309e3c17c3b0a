package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/oncelog/oncelog/partition"
	"github.com/oncelog/oncelog/raftstore"
)

// damageShard: what a partition node has stored of one shard can no longer be read, as
// checksums tell. Whoever meets it ends the node, whose next start has to keep the other
// shards, and to have this one made anew.
const damageShard faultKind = "shard-damaged"

// drawDamage damages one copy in some plans, at most one: a shard of three copies stands
// no more. Its chance is its own, so that the rest of a plan is the same with it and
// without.
func drawDamage(p *Plan) {
	r := rand.New(rand.NewPCG(p.Seed, 0x64616d61))
	// Whoever meddles makes shards that stand on fewer nodes, and a node that loses its
	// disk takes a second copy away.
	lost := slices.ContainsFunc(p.Faults, func(f fault) bool { return f.Kind == loseDisk && f.Side == partitionVictim })
	if r.IntN(5) != 0 || p.Meddling.Acts > 0 || lost {
		return
	}
	p.Faults = append(p.Faults, fault{
		At: between(r, time.Second, p.Horizon-2*time.Second), For: between(r, 10*time.Millisecond, time.Second),
		Kind: damageShard, Victim: r.Uint64(), Side: r.Uint64(),
	})
	slices.SortStableFunc(p.Faults, func(a, b fault) int { return int(a.At - b.At) })
}

// damageShard damages a copy. Half of the nodes begin again then, and meet it at once;
// the others when they next read it, or when everything is healed.
func (m *nemesis) damageShard(f fault) {
	n := choose(f.Victim, m.c.parts)
	groups, _ := n.disk.log.Groups()
	if len(groups) == 0 {
		return
	}
	g := choose(f.Side>>1, groups)
	m.note("%s: group %d of %s", f.Kind, g, n.proc.name)
	n.disk.damaged[g] = true
	if f.Side&1 == 0 {
		m.crash(n, false, f.For)
	}
}

// unreadable is the error of whatever reads a damaged group.
func (v *device) unreadable(g raftstore.GroupID) error {
	if !v.d.damaged[g] {
		return nil
	}
	return fmt.Errorf("sim: group %d: %w", g, raftstore.ErrUnreadable)
}

// noteDamage has the next start of a node repair what ended it, if that was damage.
func (n *node) noteDamage(why error) {
	if !n.metDamage(why) {
		return
	}
	if err := partition.NoteDamage(directory{n.disk, n.proc}, why); err != nil {
		n.c.log.Error("cannot note damage", "node", n.proc.name, "error", err)
	}
}

// metDamage reports whether a node ended because it met what a fault has damaged.
func (n *node) metDamage(why error) bool {
	return len(n.disk.damaged) > 0 && errors.Is(why, raftstore.ErrUnreadable)
}

// salvage copies all groups that are whole. The copy is on the disk, beside the log.
func (n *node) salvage() ([]partition.LostReplica, error) {
	groups, err := n.disk.log.Groups()
	if err != nil {
		return nil, err
	}
	n.disk.leftOut = nil
	var lost []partition.LostReplica
	for _, g := range groups {
		if !n.disk.damaged[g] {
			continue
		}
		st, _, err := n.disk.log.Load(g)
		if err != nil {
			return nil, err
		}
		n.disk.leftOut = append(n.disk.leftOut, g)
		lost = append(lost, partition.LostReplica{Shard: uint64(g), Life: st.Life, Damage: "it cannot be read"})
	}
	return lost, nil
}

// replaceLog puts the copy in the place of the log. What the node was a member of with
// a group that is not in it, it never is again.
func (n *node) replaceLog() error {
	b := n.disk.log.NewBatch()
	for _, g := range n.disk.leftOut {
		if st, ok, err := n.disk.log.Load(g); err == nil && ok {
			n.forgets(g, st.Life)
		}
		b.DeleteGroup(g)
		delete(n.disk.damaged, g)
		n.damaged = true
	}
	n.disk.leftOut = nil
	return n.disk.log.Commit(b, true)
}

// damages reports whether a copy was damaged and found to be.
func (c *cluster) damages() bool {
	return slices.ContainsFunc(c.parts, func(n *node) bool { return n.damaged })
}
