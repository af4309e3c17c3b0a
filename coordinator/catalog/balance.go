package catalog

import (
	"cmp"
	"slices"
)

// planner works out moves on a picture of where replicas are when the moves that are
// under way are done.
type planner struct {
	shards   []Shard             // ascending by id
	replicas map[uint64][]uint64 // by shard
	targets  []uint64            // active and usable nodes, ascending
	load     map[uint64]int      // replicas by node
	moving   map[uint64]bool     // shards that cannot be moved now
	// Moves by node; nil: their number does not matter.
	from, into map[uint64]int
	plan       []MoveReplica
}

// Plan returns the moves that are due: replicas that are lost are made anew, those on
// draining nodes go elsewhere, and, while a rebalance is under way, nodes with many
// replicas give to nodes with few. It goes only to the nodes given, those believed to
// be up and to have room. A shard is moved once at a time, and a node takes part in at
// most MaxMovesPerNode moves; so it is asked again when a move has ended.
func (c *Catalog) Plan(usable []uint64) []MoveReplica {
	if !c.unsettled() {
		return nil
	}
	p := c.newPlanner(usable)
	p.from, p.into = c.moves()
	p.rescue(c)
	if c.balancing != 0 {
		p.balance()
	}
	return p.plan
}

// unsettled reports whether there may be anything to plan.
func (c *Catalog) unsettled() bool {
	if c.balancing != 0 {
		return true
	}
	for _, n := range c.nodes { // any: the order does not matter
		if n.Draining {
			return true
		}
	}
	for _, s := range c.shards { // any: the order does not matter
		if len(s.Lost) > 0 {
			return true
		}
	}
	return false
}

// PlanRebalance returns all the moves that a rebalance would make now.
func (c *Catalog) PlanRebalance(usable []uint64) []MoveReplica {
	p := c.newPlanner(usable)
	p.rescue(c)
	p.balance()
	return p.plan
}

func (c *Catalog) newPlanner(usable []uint64) *planner {
	p := &planner{
		shards: c.Shards(), replicas: map[uint64][]uint64{}, targets: []uint64{},
		load: map[uint64]int{}, moving: map[uint64]bool{},
	}
	for _, n := range c.Nodes() {
		if !n.Draining && n.Instance != "" && slices.Contains(usable, n.ID) {
			p.targets = append(p.targets, n.ID)
		}
	}
	for _, s := range p.shards {
		replicas := s.Replicas
		if s.Move.Active() {
			p.moving[s.ID] = true
			if !s.Move.Cancelled {
				replicas = s.moved().Replicas
			}
		}
		p.replicas[s.ID] = replicas
		for _, n := range replicas {
			p.load[n]++
		}
	}
	return p
}

// rescue moves what cannot stay: lost replicas back to their own node if it is there
// again, or else to the node with the fewest replicas; and so those of draining nodes.
func (p *planner) rescue(c *Catalog) {
	for _, s := range p.shards {
		if p.moving[s.ID] {
			continue
		}
		for _, n := range slices.Concat(s.Lost, s.Replicas) {
			lost := slices.Contains(s.Lost, n)
			if !lost && !c.nodes[n].Draining {
				continue
			}
			if lost && slices.Contains(p.targets, n) {
				p.move(s.ID, n, n)
			} else if to, ok := p.target(s.ID); ok {
				p.move(s.ID, n, to)
			}
			if p.moving[s.ID] {
				break // the next one when this is done
			}
		}
	}
}

// target returns the node with the fewest replicas that has none of the shard and may
// take part in a move.
func (p *planner) target(shard uint64) (best uint64, ok bool) {
	for _, n := range p.targets {
		if slices.Contains(p.replicas[shard], n) || p.full(p.into, n) {
			continue
		}
		if !ok || p.load[n] < p.load[best] {
			best, ok = n, true
		}
	}
	return best, ok
}

// full reports whether a node may take part in no more moves of a kind.
func (p *planner) full(moves map[uint64]int, node uint64) bool {
	return moves != nil && moves[node] >= MaxMovesPerNode
}

// move adds a move, unless a node has too many.
func (p *planner) move(shard, from, to uint64) bool {
	if p.full(p.from, from) || p.full(p.into, to) {
		return false
	}
	p.plan = append(p.plan, MoveReplica{Shard: shard, From: from, To: to})
	p.moving[shard] = true
	kept := slices.DeleteFunc(slices.Clone(p.replicas[shard]), func(n uint64) bool { return n == from })
	p.replicas[shard] = append(kept, to)
	p.load[from]--
	p.load[to]++
	if p.from != nil {
		p.from[from]++
		p.into[to]++
	}
	return true
}

// balance moves replicas from the node with the most to the node with the fewest as
// long as they differ by two or more: no plan with fewer moves makes them even. Where
// the two share all their shards the next pair is tried.
func (p *planner) balance() {
	for p.balanceOnce() {
	}
}

func (p *planner) balanceOnce() bool {
	byLoad := slices.Clone(p.targets)
	slices.SortStableFunc(byLoad, func(a, b uint64) int { return cmp.Compare(p.load[a], p.load[b]) })
	for _, to := range byLoad {
		for _, from := range slices.Backward(byLoad) {
			if p.load[from]-p.load[to] < 2 {
				break
			}
			for _, s := range p.shards {
				has := p.replicas[s.ID]
				if !p.moving[s.ID] && slices.Contains(has, from) && !slices.Contains(has, to) && p.move(s.ID, from, to) {
					return true
				}
			}
		}
	}
	return false
}

// maxHandovers bounds one plan of leaders.
const maxHandovers = 64

// Handover is a leadership that is to move.
type Handover struct {
	Shard    uint64
	From, To uint64 // nodes
}

// PlanLeaders returns the handovers that spread the leaderships of shards evenly over
// the active and usable nodes: from the node that leads the most to a replica's that
// leads the fewest, as long as they differ by two or more. leaders are by shard; one
// without a leader, or with a move, stays as it is. At most 64 are planned at a time.
func (c *Catalog) PlanLeaders(leaders map[uint64]uint64, usable []uint64) []Handover {
	leads := map[uint64]int{}
	now := map[uint64]uint64{}
	shards := c.Shards()
	for _, s := range shards {
		if l := leaders[s.ID]; l != 0 {
			leads[l]++
			now[s.ID] = l
		}
	}
	takes := func(node uint64) bool {
		n, ok := c.nodes[node]
		return ok && !n.Draining && n.Instance != "" && slices.Contains(usable, node)
	}
	var plan []Handover
	planned := map[uint64]bool{}
	for len(plan) < maxHandovers {
		var best Handover
		gain := 1
		for _, s := range shards {
			from := now[s.ID]
			if from == 0 || planned[s.ID] || s.Move.Active() {
				continue
			}
			for _, to := range s.Replicas {
				if to != from && takes(to) && !slices.Contains(s.Lost, to) && leads[from]-leads[to] > gain {
					best, gain = Handover{s.ID, from, to}, leads[from]-leads[to]
				}
			}
		}
		if best.Shard == 0 {
			break
		}
		plan = append(plan, best)
		planned[best.Shard] = true
		leads[best.From]--
		leads[best.To]++
		now[best.Shard] = best.To
	}
	return plan
}
