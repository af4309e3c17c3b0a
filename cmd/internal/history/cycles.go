package history

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// checkCycles looks for cycles among committed transactions. T1 to T2 is an edge
// if T2 read what T1 wrote (wr), T2 moved a position on from where T1 had left it
// (wr, too: it read it), or T1 read a position that T2 overwrote (rw). A cycle of
// wr edges is information that flows in a circle (G1c); one with rw edges is a lost
// update. Cycles of writes that interleave (G0) are as in Kafka: allowed, and
// counted.
func (c *checker) checkCycles() {
	g := newGraph(len(c.txns))
	c.addReads(g)
	all := c.moves()
	for _, at := range positions(c, all) {
		c.addMoves(g, all[at], false)
	}
	inCircle := make([]bool, len(c.txns))
	for _, cycle := range g.cycles() {
		for _, n := range cycle {
			inCircle[n] = true
		}
		c.cycleViolation(CommittedOnly, AnomalyCycle, "information flows in a circle", cycle)
	}
	for _, at := range positions(c, all) {
		c.addMoves(g, all[at], true)
	}
	for _, cycle := range g.cycles() {
		if !slices.ContainsFunc(cycle, func(n int32) bool { return inCircle[n] }) {
			c.cycleViolation(OffsetsOnce, AnomalyLostUpdate, "positions were overwritten that others had read", cycle)
		}
	}
	c.report.Stats.Interleaved = len(c.writes().cycles())
}

func (c *checker) cycleViolation(i Invariant, anomaly, text string, cycle []int32) {
	const shown = 8
	var names []string
	for _, n := range cycle[:min(len(cycle), shown)] {
		names = append(names, fmt.Sprint(c.txns[n].n))
	}
	c.violate(c.txns[cycle[0]].about(i, anomaly, "%s: %d transactions, among them %s", text, len(cycle), strings.Join(names, ", ")))
}

// addReads adds who read what who wrote: by moving a position past it, or by
// reading it inside the transaction.
func (c *checker) addReads(g *graph) {
	for i := range c.txns {
		t := &c.txns[i]
		if t.plain || t.outcome != Committed {
			continue
		}
		for _, m := range t.moves {
			ref := c.parts[m.part].ref
			j, _ := slices.BinarySearchFunc(ref, m.move.From, func(s seen, offset int64) int { return cmp.Compare(s.offset, offset) })
			for ; j < len(ref) && ref[j].offset < m.move.Next; j++ {
				c.addRead(g, ref[j].value, t)
			}
		}
	}
	for at := range c.h.Events {
		e := &c.h.Events[at]
		if e.Kind != KindRead || e.Txn == 0 {
			continue
		}
		if t := &c.txns[e.Txn-1]; t.outcome == Committed {
			for _, s := range e.Read.Seen {
				c.addRead(g, s.Value, t)
			}
		}
	}
}

func (c *checker) addRead(g *graph, v Value, reader *txn) {
	if writer, _ := c.find(v); writer != nil && !writer.plain && writer.outcome == Committed && writer != reader {
		g.add(writer.n-1, reader.n-1)
	}
}

// addMoves adds the edges of one position, whose moves are sorted by where they
// begin: from who left it somewhere to who found it there, or, if overwrites, from
// who found it there to others who did.
func (c *checker) addMoves(g *graph, ms []*moved, overwrites bool) {
	committed := slices.DeleteFunc(slices.Clone(ms), func(m *moved) bool { return m.state != Committed || m.txn == nil })
	for i, m := range committed {
		if overwrites {
			// In a ring, so that n who found the same position are one cycle by n edges.
			next := i + 1
			if next == len(committed) || committed[next].From != m.From {
				next, _ = slices.BinarySearchFunc(committed, m.From, func(o *moved, from int64) int { return cmp.Compare(o.From, from) })
			}
			g.add(m.txn.n-1, committed[next].txn.n-1)
			continue
		}
		j, _ := slices.BinarySearchFunc(committed, m.Next, func(o *moved, from int64) int { return cmp.Compare(o.From, from) })
		for ; j < len(committed) && committed[j].From == m.Next && m.From < m.Next; j++ {
			g.add(m.txn.n-1, committed[j].txn.n-1)
		}
	}
}

// writes is the graph of who wrote after whom in some partition.
func (c *checker) writes() *graph {
	g := newGraph(len(c.txns))
	for i := range c.parts {
		last := uint64(0)
		for _, s := range c.parts[i].ref {
			t, _ := c.find(s.value)
			if t == nil || t.plain || t.outcome != Committed {
				continue
			}
			if last != 0 && last != t.n {
				g.add(last-1, t.n-1)
			}
			last = t.n
		}
	}
	return g
}

// graph is a directed graph over the numbers below its size.
type graph struct{ next [][]int32 }

func newGraph(size int) *graph { return &graph{next: make([][]int32, size)} }

// add adds an edge, unless it leads to itself or is the last one repeated.
func (g *graph) add(from, to uint64) {
	out := g.next[from]
	if from == to || len(out) > 0 && out[len(out)-1] == int32(to) {
		return
	}
	g.next[from] = append(out, int32(to))
}

// cycles returns the strongly connected components of more than one node, each
// sorted, by their first node (Tarjan's algorithm, with a stack of its own).
func (g *graph) cycles() [][]int32 {
	s := scc{g: g, index: make([]int32, len(g.next)), low: make([]int32, len(g.next)), on: make([]bool, len(g.next))}
	for n := range g.next {
		if s.index[n] == 0 {
			s.visit(int32(n))
		}
	}
	slices.SortFunc(s.found, func(a, b []int32) int { return cmp.Compare(a[0], b[0]) })
	return s.found
}

type scc struct {
	g     *graph
	index []int32 // order of the first visit, from 1; 0: not visited
	low   []int32 // lowest index that can be reached
	on    []bool  // on the stack
	stack []int32
	count int32
	found [][]int32
}

// frame is a visit that is under way.
type frame struct{ node, edge int32 }

func (s *scc) visit(root int32) {
	frames := []frame{s.enter(root)}
	for len(frames) > 0 {
		f := &frames[len(frames)-1]
		if out := s.g.next[f.node]; int(f.edge) < len(out) {
			to := out[f.edge]
			f.edge++
			switch {
			case s.index[to] == 0:
				frames = append(frames, s.enter(to))
			case s.on[to]:
				s.low[f.node] = min(s.low[f.node], s.index[to])
			}
			continue
		}
		node := f.node
		frames = frames[:len(frames)-1]
		if len(frames) > 0 {
			parent := frames[len(frames)-1].node
			s.low[parent] = min(s.low[parent], s.low[node])
		}
		if s.low[node] == s.index[node] {
			s.leave(node)
		}
	}
}

func (s *scc) enter(n int32) frame {
	s.count++
	s.index[n], s.low[n], s.on[n] = s.count, s.count, true
	s.stack = append(s.stack, n)
	return frame{node: n}
}

// leave takes a component off the stack.
func (s *scc) leave(root int32) {
	at := len(s.stack) - 1
	for s.stack[at] != root {
		at--
	}
	component := slices.Clone(s.stack[at:])
	s.stack = s.stack[:at]
	for _, n := range component {
		s.on[n] = false
	}
	if len(component) > 1 {
		slices.Sort(component)
		s.found = append(s.found, component)
	}
}
