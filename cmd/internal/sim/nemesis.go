package sim

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/oncelog/oncelog/raftstore"
)

// nemesis lets the faults of a plan happen, and heals them.
type nemesis struct {
	w       *World
	c       *cluster
	net     *network
	reach   Reach
	leaders map[groupKey]*node // who was last heard as a leader
	clients func() []*client
	healers []func()
	healed  bool
	note    func(format string, args ...any)
}

// mostGroups bounds the ids of Raft groups that faults are looked for among.
const mostGroups uint64 = 64

// groupKey names a Raft group: coordinators and partition nodes number their
// own.
type groupKey struct {
	kind string
	id   uint64
}

// begin arranges all faults.
func (m *nemesis) begin(faults []fault) {
	for _, f := range faults {
		m.w.at(f.At, nil, func() {
			if !m.healed {
				m.strike(f)
			}
		})
	}
}

// until undoes a fault after a while, or when everything is healed.
func (m *nemesis) until(d time.Duration, undo func()) {
	done := false
	once := func() {
		if !done {
			done = true
			undo()
		}
	}
	m.w.at(d, nil, once)
	m.healers = append(m.healers, once)
}

// heal undoes everything: from now on the cluster must recover.
func (m *nemesis) heal() {
	m.healed = true
	m.net.weather = calm
	for _, h := range m.healers {
		h()
	}
	m.healers = nil
	for _, n := range m.c.nodes() {
		n.down = false
		n.disk.slow, n.disk.full, n.disk.broken = 0, false, false
		n.proc.unpause()
		if len(n.disk.damaged) > 0 {
			n.crash(false) // what nobody has read yet is read now
		}
		n.start()
	}
}

func choose[T any](victim uint64, of []T) T { return of[victim%uint64(len(of))] }

func (m *nemesis) strike(f fault) {
	nodes := m.c.nodes()
	victim := choose(f.Victim, nodes)
	m.reach.hit(struckPrefix + string(f.Kind))
	switch f.Kind {
	case crashNode, cutPower:
		m.note("%s: %s", f.Kind, victim.proc.name)
		m.crash(victim, f.Kind == cutPower, f.For)
	case crashLeader:
		if victim = m.leader(f.Victim); victim != nil {
			m.note("%s: %s", f.Kind, victim.proc.name)
			m.crash(victim, f.Side&1 == 0, f.For)
		}
	case crashAll:
		group := m.c.coords
		if f.Victim&1 == 0 {
			group = m.c.parts
		}
		m.note("%s: all of %s", f.Kind, group[0].kind)
		for i, n := range group {
			m.crash(n, f.Side&2 == 0, f.For+time.Duration(i)*f.For/4)
		}
	case pauseNode:
		if f.Side&3 == 0 {
			if l := m.leader(f.Victim); l != nil {
				victim = l
			}
		}
		m.note("%s: %s for %v", f.Kind, victim.proc.name, f.For)
		victim.proc.pause()
		life := victim.proc.life
		m.until(f.For, func() {
			if victim.proc.life == life {
				victim.proc.unpause()
			}
		})
	case replaceCoordinator:
		victim = choose(f.Victim, m.c.founders())
		m.note("%s: %s", f.Kind, victim.proc.name)
		m.c.replace(victim, drawnReplacement(f.Victim))
	case splitNodes, splitOneWay:
		m.split(f)
	case cutPeers:
		if victim = m.leader(f.Victim); victim != nil {
			m.cutOff(f, victim)
		}
	case clogNodes:
		m.clog(f)
	case slowDisk:
		m.note("%s: %s", f.Kind, victim.proc.name)
		victim.disk.slow = 200 * time.Millisecond
		m.until(f.For, func() { victim.disk.slow = 0 })
	case fillDisk:
		m.note("%s: %s", f.Kind, victim.proc.name)
		victim.disk.full = true
		m.until(f.For, func() { victim.disk.full = false })
	case breakDisk:
		m.note("%s: %s", f.Kind, victim.proc.name)
		victim.disk.broken = true
	case damageShard:
		m.damageShard(f)
	case loseDisk:
		m.loseDisk(f)
	case moveLeader:
		m.moveLeader(f)
	case skewClock:
		m.note("%s: %s by %v", f.Kind, victim.proc.name, f.Amount)
		victim.proc.skew = f.Amount
	case crashClient, abandonClient, pauseClient, lateClientCopy:
		m.strikeClient(f)
	}
}

// crash ends a node and brings it back after a while.
func (m *nemesis) crash(n *node, powerCut bool, down time.Duration) {
	if !n.proc.alive {
		return
	}
	n.crash(powerCut)
	n.down = true
	m.until(down, func() {
		n.down = false
		n.start()
	})
}

// leader returns the leader of some group, as far as anybody heard of one.
func (m *nemesis) leader(which uint64) *node {
	kind := "p"
	if which&1 == 0 {
		kind = "c"
	}
	var found []*node
	for id := range mostGroups {
		if n := m.leaders[groupKey{kind, id}]; n != nil && n.proc.alive {
			found = append(found, n)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return choose(which>>8, found)
}

// split cuts the processes into two sides. One way: what side one says is not
// heard, but it hears.
func (m *nemesis) split(f fault) {
	var one, two []*Proc
	for i, p := range m.everybody() {
		if f.Side>>(i%64)&1 == 0 {
			one = append(one, p)
		} else {
			two = append(two, p)
		}
	}
	m.note("%s: %s", f.Kind, names(one))
	m.cut(one, two, f.Kind == splitNodes, f.For)
}

// cutOff cuts a node off from the others of its kind, and from nobody else: it may
// be asked as a leader for as long as it takes to find out that it is none.
func (m *nemesis) cutOff(f fault, n *node) {
	var others []*Proc
	for _, o := range m.c.nodes() {
		if o.kind == n.kind && o != n {
			others = append(others, o.proc)
		}
	}
	m.note("%s: %s", f.Kind, n.proc.name)
	m.cut([]*Proc{n.proc}, others, true, f.For)
}

// cut lets two sides not talk for a while, or one of them only listen.
func (m *nemesis) cut(one, two []*Proc, both bool, d time.Duration) {
	each := func(do func(from, to *Proc)) {
		for _, a := range one {
			for _, b := range two {
				do(a, b)
				if both {
					do(b, a)
				}
			}
		}
	}
	each(m.net.shut)
	m.until(d, func() { each(m.net.open) })
}

// clog silences one node after the other and lets them talk again in another
// order: what FoundationDB found to be the nastiest pattern.
func (m *nemesis) clog(f fault) {
	all := m.everybody()
	r := rand.New(rand.NewPCG(f.Side, f.Victim))
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	some := all[:1+r.IntN(len(all))]
	m.note("%s: %s", f.Kind, names(some))
	for i, p := range some {
		from := time.Duration(i) * f.For / time.Duration(2*len(some))
		length := between(r, f.For/2, f.For)
		m.w.at(from, nil, func() {
			if m.healed {
				return
			}
			others := m.everybody()
			for _, o := range others {
				m.net.shut(p, o)
				m.net.shut(o, p)
			}
			m.until(length, func() {
				for _, o := range others {
					m.net.open(p, o)
					m.net.open(o, p)
				}
			})
		})
	}
}

// everybody is all processes that take part: servers and clients.
func (m *nemesis) everybody() []*Proc {
	var out []*Proc
	for _, n := range m.c.nodes() {
		out = append(out, n.proc)
	}
	for _, c := range m.clients() {
		out = append(out, c.proc)
	}
	return out
}

func names(procs []*Proc) (out string) {
	for i, p := range procs {
		if i > 0 {
			out += " "
		}
		out += p.name
	}
	return out
}

// strikeClient does something to the process of a client.
func (m *nemesis) strikeClient(f fault) {
	all := m.clients()
	if len(all) == 0 {
		return
	}
	c := choose(f.Victim, all)
	m.note("%s: %s", f.Kind, c.proc.name)
	switch f.Kind {
	case crashClient:
		c.crash()
		c.succeed()
	case abandonClient:
		c.crash()
		if f.Side&1 == 0 { // else for good: what it left open ends by its timeout alone
			m.until(f.For, func() { c.succeed() })
		}
	case pauseClient:
		old := c.proc
		old.pause()
		c.succeed()
		life := old.life
		m.until(f.For, func() {
			if old.life == life {
				old.unpause()
			}
		})
	default: // lateClientCopy
		c.succeed()
	}
}

// moveLeader has a leader hand its group over to another member.
func (m *nemesis) moveLeader(f fault) {
	kind, peers := "p", m.c.parts
	if f.Victim&1 == 0 {
		kind, peers = "c", m.c.coords
	}
	var groups []groupKey
	for id := range mostGroups {
		if n := m.leaders[groupKey{kind, id}]; n != nil && n.store != nil {
			groups = append(groups, groupKey{kind, id})
		}
	}
	if len(groups) == 0 {
		return
	}
	key := choose(f.Victim>>8, groups)
	leader, to := m.leaders[key], choose(f.Side, peers)
	m.note("%s: group %d from %s to %s", f.Kind, key.id, leader.proc.name, to.proc.name)
	store := leader.store
	m.w.at(0, leader.proc, func() {
		leader.proc.Go(func() {
			g, err := store.Group(raftstore.GroupID(key.id))
			if err != nil {
				return
			}
			for _, member := range g.Status().Members {
				if uint64(member.Process()) == to.id && g.TransferLeader(context.Background(), member) == nil {
					m.reach.hit(leaderMoved)
				}
			}
		})
	})
}
