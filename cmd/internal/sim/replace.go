package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	sdk "github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/internal/task"
)

// replaceCoordinator: an operator has a new coordinator take the place of one that is
// well. The place of one that lost its disk is always taken.
const replaceCoordinator faultKind = "coordinator-replaced"

// drawReplacement adds the replacement of a coordinator to some plans in which none
// loses its disk. Its chance is its own, as in drawLostDisk.
func drawReplacement(p *Plan) {
	r := rand.New(rand.NewPCG(p.Seed, 0x7265706c))
	lost := slices.ContainsFunc(p.Faults, func(f fault) bool { return f.Kind == loseDisk && f.Side == coordinatorVictim })
	// Of one coordinator nobody would be left whom clients that begin later are told of.
	if r.IntN(6) != 0 || lost || p.Sizes.Coordinators < 3 {
		return
	}
	p.Faults = append(p.Faults, fault{
		At: between(r, time.Second, p.Horizon-4*time.Second), Kind: replaceCoordinator, Victim: r.Uint64(),
	})
	slices.SortStableFunc(p.Faults, func(a, b fault) int { return int(a.At - b.At) })
}

// replacement says how an operator has a coordinator replaced.
type replacement struct {
	// apart: the new one is added, and the old one removed when that votes; otherwise
	// the one takes the place of the other, as one of a lost disk must.
	apart bool
	// calledOff: another one is added before, never started, and removed again.
	calledOff bool
}

// drawnReplacement is how a planned replacement is done.
func drawnReplacement(victim uint64) replacement {
	return replacement{apart: victim>>40&1 == 1, calledOff: victim>>41&1 == 1}
}

// replace has an operator replace a coordinator, and starts the new one once that is
// written down.
func (s *simulation) replace(old *node, how replacement) {
	if old.replaced {
		return
	}
	old.replaced = true
	var nobody uint64
	if how.calledOff {
		nobody = s.cluster.nextCoordinator()
	}
	n := s.cluster.newNode("c", s.cluster.nextCoordinator())
	n.joins = true
	p := s.w.newProc(fmt.Sprintf("operator of %s", n.proc.name))
	p.start(func() {
		ctx := s.context(p)
		if nobody != 0 {
			s.until(ctx, p, "a coordinator is added, who never comes", func(ctx context.Context, a *sdk.Admin) (bool, error) {
				address := fmt.Sprintf("c%d.nobody:1", nobody)
				return true, addCoordinator(ctx, a, nobody, 0, "client-"+address, "peer-"+address)
			})
			s.until(ctx, p, "its addition is called off", func(ctx context.Context, a *sdk.Admin) (bool, error) {
				return true, a.RemoveCoordinator(ctx, nobody)
			})
			s.reach.hit(additionCalledOff)
		}
		replaces := old.id
		if how.apart {
			replaces = 0
		}
		s.until(ctx, p, "a coordinator is added", func(ctx context.Context, a *sdk.Admin) (bool, error) {
			return true, addCoordinator(ctx, a, n.id, replaces, n.clientAddress(), n.peerAddress())
		})
		goHome := func() {
			p.kill()
			s.net.processEnded(p)
		}
		s.w.at(0, nil, func() {
			if !how.apart {
				goHome()
			}
			s.cluster.coords = append(s.cluster.coords, n)
			n.start()
		})
		if !how.apart {
			return
		}
		s.until(ctx, p, "the new coordinator votes", func(ctx context.Context, a *sdk.Admin) (bool, error) {
			return s.votes(ctx, a, n.id)
		})
		// A removal that leaves no majority is taken back after a while, and asked for
		// again.
		s.until(ctx, p, "the old coordinator leaves", func(ctx context.Context, a *sdk.Admin) (bool, error) {
			if err := a.RemoveCoordinator(ctx, old.id); err != nil {
				return false, err
			}
			votes, err := s.votes(ctx, a, old.id)
			return !votes, err
		})
		s.reach.hit(coordinatorRemoved)
		s.w.at(0, nil, goHome)
	})
}

func addCoordinator(ctx context.Context, a *sdk.Admin, id, replaces uint64, client, peer string) error {
	_, err := a.AddCoordinator(ctx, &oncelogv1.AddCoordinatorRequest{
		NodeId: id, ClientAddress: client, PeerAddress: peer, Replaces: replaces,
	})
	return err
}

// votes reports whether a coordinator is, or still is, a voter.
func (s *simulation) votes(ctx context.Context, a *sdk.Admin, id uint64) (bool, error) {
	list, err := a.ListCoordinators(ctx)
	for _, m := range list.GetMembers() {
		if m.GetNodeId() == id {
			state := m.GetState()
			return state == oncelogv1.CoordinatorState_COORDINATOR_STATE_VOTER || state == oncelogv1.CoordinatorState_COORDINATOR_STATE_LEAVING, err
		}
	}
	return false, err
}

// until has an operator try a thing, each time with a client of its own, until it is
// done.
func (s *simulation) until(ctx context.Context, p *Proc, what string, try func(ctx context.Context, a *sdk.Admin) (bool, error)) {
	once := func() bool {
		ctx, cancel := task.From(ctx).WithTimeout(ctx, 5*time.Second)
		defer cancel()
		c, err := sdk.Dial(ctx, s.cluster.seeds(), sdk.WithLogger(s.logFor(p)))
		if err != nil {
			return false
		}
		defer func() { _ = c.Close() }()
		done, err := try(ctx, c.Admin())
		if err != nil {
			s.log.Info("not yet: "+what, "operator", p.name, "error", err)
		}
		return done && err == nil
	}
	for !once() {
		if !task.From(ctx).Sleep(500*time.Millisecond, ctx.Done()) {
			return
		}
	}
}

// replacements waits until the coordinators are those that they are to be, and says
// what is missing.
func (s *simulation) replacements(ctx context.Context, c *sdk.Client) (missing string) {
	rt := task.From(ctx)
	for end := rt.Now().Add(settleLimit); ; {
		missing = s.lookForReplacements(ctx, c)
		if missing == "" || rt.Now().After(end) || !rt.Sleep(200*time.Millisecond, ctx.Done()) {
			return missing
		}
	}
}

func (s *simulation) lookForReplacements(ctx context.Context, c *sdk.Client) string {
	bounded, cancel := task.From(ctx).WithTimeout(ctx, 5*time.Second)
	defer cancel()
	list, err := c.Admin().ListCoordinators(bounded)
	if err != nil {
		return "the coordinators are not listed: " + err.Error()
	}
	voters := map[uint64]bool{}
	for _, m := range list.GetMembers() {
		voters[m.GetNodeId()] = m.GetState() == oncelogv1.CoordinatorState_COORDINATOR_STATE_VOTER
	}
	for _, n := range s.cluster.founders() {
		if voters[n.id] == n.replaced {
			return fmt.Sprintf("%s is to be replaced: %v, and the members are %v", n.proc.name, n.replaced, list.GetMembers())
		}
		if n.replaced && !n.refused {
			return n.proc.name + " was replaced and still runs"
		}
	}
	for _, n := range s.cluster.coords {
		if n.joins && !voters[n.id] {
			return fmt.Sprintf("%s does not vote, and the members are %v", n.proc.name, list.GetMembers())
		}
		if n.joins {
			s.reach.hit(coordinatorJoined)
		}
	}
	return ""
}
