package sim

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	sdk "github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/meddle"
	"github.com/oncelog/oncelog/coordinator"
	"github.com/oncelog/oncelog/coordinator/txn"
	"github.com/oncelog/oncelog/internal/task"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
)

// meddling is what the meddler of a seed does, see package meddle. Most seeds
// have none.
type meddling struct {
	Acts  int
	Alone bool // nobody else writes to the cluster
}

// limits are bounds of the cores that a seed draws; 0: the default. What they
// bound is reached in a world as short and small as these only if they are small.
type limits struct {
	OutcomesKept, MaxUnfinished, MaxParticipants, MaxPartitionsPerTxn, MaxIDs int
	IDExpiration                                                              time.Duration
	Shard                                                                     pstate.Config
}

// drawMeddling adds a meddler to some plans, and draws small limits with it. Its
// chance is its own, so that the rest of a plan is the same with it and without.
func drawMeddling(p *Plan) {
	r := rand.New(rand.NewPCG(p.Seed, 0x6d6564646c65))
	switch r.IntN(12) {
	case 0:
		p.Meddling = meddling{Acts: 20 + r.IntN(20), Alone: true}
		p.Work.Workload = workMeddle
	case 1, 2:
		p.Meddling = meddling{Acts: 5 + r.IntN(15)}
	default:
		return
	}
	if r.IntN(2) == 0 {
		return
	}
	// Clients that do everything right get along with these.
	l := &p.Sizes.Limits
	l.OutcomesKept, l.MaxUnfinished = pick(r, 1, 3, 0), pick(r, 2, 5, 0)
	l.MaxParticipants, l.MaxPartitionsPerTxn = pick(r, 5, 0), pick(r, 10, 0)
	l.Shard.RangesKept = pick(r, uint32(1), 2, 0)
	if !p.Meddling.Alone {
		return
	}
	l.MaxIDs = pick(r, 40, 0)
	l.Shard.MaxOpenPerProducer, l.Shard.MaxProducers, l.Shard.MaxSequences = pick(r, uint32(3), 0), pick(r, uint32(30), 0), pick(r, uint32(60), 0)
	if r.IntN(2) == 0 {
		// Longer than anything is on its way; a clock that jumps would make it nothing.
		l.IDExpiration, l.Shard.ProducerExpiration = 8*time.Second, (8 * time.Second).Milliseconds()
		p.Faults = slices.DeleteFunc(p.Faults, func(f fault) bool { return f.Kind == skewClock })
	}
}

// rules are the coordinators' with what the seed has drawn.
func (s sizes) rules() txn.Config {
	rules, l := coordinator.Rules(), s.Limits
	rules.RequestIDsKept = s.RequestIDsKept
	or(&rules.OutcomesKept, l.OutcomesKept)
	or(&rules.MaxUnfinished, l.MaxUnfinished)
	or(&rules.MaxParticipants, l.MaxParticipants)
	or(&rules.MaxPartitionsPerTxn, l.MaxPartitionsPerTxn)
	or(&rules.MaxIDs, l.MaxIDs)
	or(&rules.IDExpiration, l.IDExpiration.Milliseconds())
	return rules
}

// or sets a field to a value that is not zero.
func or[T comparable](field *T, value T) {
	var zero T
	if value != zero {
		*field = value
	}
}

// meddler is the process of a meddler.
type meddler struct {
	life
	// liars are the producers of which shards may tell that data is missing.
	liars map[uint64]bool
}

// startMeddler starts the meddler of the plan, if there is one.
func (s *simulation) startMeddler() {
	if s.plan.Meddling.Acts == 0 {
		return
	}
	p := s.w.newProc("meddler")
	m := &meddler{life: life{proc: p, stop: make(chan struct{})}, liars: map[uint64]bool{}}
	s.meddler = m
	dialer := s.net.dialer(p)
	p.start(func() {
		meddle.Run(s.context(p), meddle.Env{
			Runtime: task.New(p), Rand: rand.New(rand.NewPCG(s.plan.Seed, 0x61637473)),
			Dial: func(address string) (grpc.ClientConnInterface, error) { return dialer(address) },
			Client: func(ctx context.Context) (*sdk.Client, error) {
				return sdk.Dial(s.carry(ctx, p), s.cluster.seeds(), sdk.WithLogger(s.logFor(p)), sdk.WithClientID(p.name))
			},
			Coordinators: s.cluster.seeds(), CoordinatorPeers: s.cluster.peerSeeds(),
			Propose: func(ctx context.Context, group uint64, entry []byte) (any, error) {
				return s.propose(ctx, p, group, entry)
			},
			Stop: m.stop, Acts: s.plan.Meddling.Acts, Alone: s.plan.Meddling.Alone,
			Twins: s.plan.Weather.Duplicate > 0,
			Txn:   txn.New(s.plan.Sizes.rules()).Config(), Shard: pstate.New(s.plan.Sizes.Limits.Shard).Config(),
			Lies:      func(producer uint64) { m.liars[producer] = true },
			Violation: func(text string) { s.complain("answers", text) },
			Reached:   func(what string) { s.reach.hit(meddledPrefix + what) },
		})
		m.ended = true
	})
}

// propose has the leader of a group put an entry into its log, and waits for what
// comes of it. Group 0 is the coordinators'.
func (s *simulation) propose(ctx context.Context, from *Proc, group uint64, entry []byte) (any, error) {
	id := raftstore.GroupID(group)
	leader := s.cluster.leading(id)
	if group == 0 {
		id = coordinator.GroupID
		leader = s.cluster.leadingCoordinator()
	}
	if leader == nil {
		return nil, meddle.ErrNotApplied
	}
	type outcome struct {
		result any
		err    error
	}
	store, done := leader.store, make(chan outcome, 1)
	s.w.at(s.net.delay(), leader.proc, func() {
		leader.proc.Go(func() {
			var o outcome
			g, err := store.Group(id)
			if err == nil {
				ctx, cancel := task.New(leader.proc).WithTimeout(context.Background(), 2*time.Second)
				defer cancel()
				o.result, _, err = g.Propose(ctx, entry)
			}
			o.err = err
			s.w.at(s.net.delay(), from, func() { done <- o })
		})
	})
	o, stopped := task.Receive(task.New(from), done, ctx.Done())
	if stopped == 0 || o.err != nil {
		return nil, meddle.ErrNotApplied
	}
	return o.result, nil
}

// leading returns the node that leads a shard and serves; nil: none.
func (c *cluster) leading(id raftstore.GroupID) *node {
	for _, n := range c.parts {
		if n.partition == nil || n.store == nil {
			continue
		}
		for _, g := range n.partition.Status().GetGroups() {
			if g.GetGroupId() == uint64(id) && g.GetReady() {
				return n
			}
		}
	}
	return nil
}

// leadingCoordinator returns the coordinator that was last heard to lead; nil: none,
// or it does not run.
func (c *cluster) leadingCoordinator() *node {
	n := c.leaders[groupKey{"c", uint64(coordinator.GroupID)}]
	if len(c.coords) == 1 {
		n = c.coords[0] // and has nobody to tell
	}
	if n == nil || n.store == nil {
		return nil
	}
	return n
}

// marked is told of an answer to WriteMarkers. That data is missing, or that
// decisions contradict each other, must not be, but for a producer that lies.
func (s *simulation) marked(request []byte, resp *oncelogv1.WriteMarkersResponse) {
	var req oncelogv1.WriteMarkersRequest
	if err := proto.Unmarshal(request, &req); err != nil {
		s.complain("I2 alarm", err.Error())
		return
	}
	for i, shard := range resp.GetShards() {
		for j, res := range shard.GetResults() {
			if res != oncelogv1.MarkerResult_MARKER_RESULT_MISSING_DATA && res != oncelogv1.MarkerResult_MARKER_RESULT_CONFLICT {
				continue
			}
			if ref := req.GetShards()[i].GetMarkers()[j].GetTxn(); s.meddler == nil || !s.meddler.liars[ref.GetProducerId()] {
				s.complain("I2 alarm", "a shard answered "+res.String()+" to a marker")
			}
		}
	}
}
