package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// fault is a kind of fault. run does it, waits, and undoes it; an error is
// something that must not happen, such as a node that goes on with a disk that
// has failed.
type fault struct {
	name string
	disk bool // needs disks that can fail
	long bool // lasts longer than transactions may
	run  func(s *scene) error
}

// faults returns all kinds, in the order in which they are told about.
func faults() []*fault {
	return slices.Concat(processFaults(), networkFaults(), diskFaults())
}

// FaultNames returns the names of all kinds.
func FaultNames() []string {
	var out []string
	for _, f := range faults() {
		out = append(out, f.name)
	}
	return out
}

// scene is one fault at work.
type scene struct {
	*world
	roster *roster
	ctx    context.Context // ends when the run is given up
	rng    *rand.Rand
	length time.Duration
	tell   func(format string, args ...any)
}

// wait waits for as long as the fault lasts.
func (s *scene) wait() { s.pause(s.length) }

// pause waits, unless the run is given up.
func (s *scene) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.ctx.Done():
	}
}

// role draws a role.
func (s *scene) role() cluster.Role {
	if s.rng.IntN(2) == 0 {
		return cluster.Coordinator
	}
	return cluster.Partition
}

// someNode draws any node.
func (s *scene) someNode() *cluster.Node {
	nodes := s.cluster.Nodes()
	return nodes[s.rng.IntN(len(nodes))]
}

// someLeader draws a node that leads.
func (s *scene) someLeader() *cluster.Node { return s.leader(s.ctx, s.rng, s.role()) }

// seized does something to nodes that no other fault has its hands on.
func (s *scene) seized(nodes []*cluster.Node, what string, do func(nodes []*cluster.Node) error) error {
	taken, give := s.take(nodes...)
	defer give()
	if len(taken) == 0 {
		s.tell("%s: nobody is free for it", what)
		return nil
	}
	s.tell("%s: %v", what, taken)
	return do(taken)
}

// each does something to all nodes at the same time.
func each(nodes []*cluster.Node, do func(*cluster.Node) error) error {
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { errs[i] = do(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// processFaults are what befalls processes.
func processFaults() []*fault {
	return []*fault{
		{name: "kill-node", run: func(s *scene) error { return s.kill("kill -9", s.someNode()) }},
		{name: "kill-leader", run: func(s *scene) error { return s.kill("kill -9 of a leader", s.someLeader()) }},
		{name: "kill-role", run: func(s *scene) error { return s.kill("kill -9 of a role", s.of(s.role())...) }},
		{name: "kill-all", run: func(s *scene) error { return s.kill("kill -9 of everybody", s.cluster.Nodes()...) }},
		{name: "pause-leader", run: func(s *scene) error { return s.stun(s.someLeader()) }},
		{name: "pause-long", long: true, run: func(s *scene) error { return s.stun(s.someNode()) }},
		{name: "rolling-restart", run: (*scene).rollingRestart},
		{name: "kill-client", run: (*scene).killClient},
		{name: "zombie", long: true, run: (*scene).zombie},
	}
}

// kill ends nodes without warning, for a part of the fault's time.
func (s *scene) kill(what string, nodes ...*cluster.Node) error {
	return s.seized(nodes, what, func(nodes []*cluster.Node) error {
		err := each(nodes, (*cluster.Node).Kill)
		s.pause(between(s.rng, 0, s.length))
		return errors.Join(err, each(nodes, s.raise))
	})
}

// stun stops a node where it is.
func (s *scene) stun(n *cluster.Node) error {
	return s.seized([]*cluster.Node{n}, "pause", func([]*cluster.Node) error {
		if err := n.Pause(); err != nil {
			return err
		}
		s.wait()
		return n.Resume()
	})
}

// rollingRestart stops and starts every node, politely and one after the other.
func (s *scene) rollingRestart() error {
	order := slices.Clone(s.cluster.Nodes())
	s.rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, n := range order {
		err := s.seized([]*cluster.Node{n}, "restart", func([]*cluster.Node) error {
			n.Stop(context.Background())
			if err := s.raise(n); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(s.ctx, startLimit)
			defer cancel()
			if err := n.AwaitServing(ctx); err != nil && s.ctx.Err() == nil {
				return err
			}
			return nil
		})
		if err != nil || s.ctx.Err() != nil {
			return err
		}
	}
	return nil
}

// killClient ends a process of clients without warning, and starts its
// successor.
func (s *scene) killClient() error {
	c, give := s.roster.take(s.rng)
	defer give()
	if c == nil {
		return nil
	}
	s.tell("kill -9 of clients: %s", c.name)
	s.roster.dismiss(c)
	c.kill()
	s.pause(between(s.rng, 0, s.length))
	return s.roster.hire(c.plan)
}

// zombie stops a process of clients for longer than its transactions may last,
// starts its successor, and lets it go on then.
func (s *scene) zombie() error {
	c, give := s.roster.take(s.rng)
	defer give()
	if c == nil {
		return nil
	}
	s.tell("zombie: %s", c.name)
	s.roster.dismiss(c)
	if err := c.pause(); err != nil {
		return err
	}
	s.pause(s.length / 2)
	err := s.roster.hire(c.plan)
	s.pause(s.length / 2)
	if resumed := c.resume(); resumed != nil {
		return errors.Join(err, resumed)
	}
	// For a while both are at it, and take everything from each other.
	s.pause(time.Second)
	ctx, cancel := context.WithTimeout(context.Background(), finishLimit)
	defer cancel()
	if stopped := c.stop(ctx); stopped != nil {
		return errors.Join(err, fmt.Errorf("a zombie: %w", stopped))
	}
	return err
}
