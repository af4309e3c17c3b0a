package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	sdk "github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/internal/task"
	"github.com/oncelog/oncelog/raftstore"
	"github.com/oncelog/oncelog/raftstore/memlog"
)

// operating is what the operator of a seed does: he moves replicas, drains and
// removes partition nodes, and has those come back that lost their disks. Most seeds
// have none.
type operating struct {
	Acts  int
	Pause time.Duration // between two acts, at most
}

// What operators do, for Reach.
const (
	operatedPrefix = "operator: "
	replicaMoved   = "a replica has moved"
	diskReplaced   = "a node came back with another disk"
	nodeLeft       = "a node was removed and came back as another"
)

var operations = []string{"rebalance", "drain", "undrain", "move", "cancel", "remove", "replace a disk"}

// drawOperator adds an operator to some plans, and a spare node with him. His chance
// is his own, so that the rest of a plan is the same with him and without.
func drawOperator(p *Plan) {
	r := rand.New(rand.NewPCG(p.Seed, 0x6f706572))
	if r.IntN(5) != 0 || p.Meddling.Acts > 0 {
		return
	}
	p.Operating = operating{Acts: 4 + r.IntN(16), Pause: pick(r, 300*time.Millisecond, time.Second, 3*time.Second)}
	p.Sizes.Partitions = pick(r, 4, 4, 5)
	p.Sizes.NodeTimeout = pick(r, 2*time.Second, 4*time.Second)
}

// operator is the process of an operator.
type operator struct {
	life
	s      *simulation
	rand   *rand.Rand
	admin  *sdk.Admin
	begin  map[uint64][]uint64 // replicas by shard as he found them
	drains map[uint64]bool     // nodes that he drains
}

// startOperator starts the operator of the plan, if there is one.
func (s *simulation) startOperator() {
	if s.plan.Operating.Acts == 0 {
		return
	}
	p := s.w.newProc("operator")
	o := &operator{
		life: life{proc: p, stop: make(chan struct{})}, s: s, rand: rand.New(rand.NewPCG(s.plan.Seed, 0x706c6163)),
		begin: map[uint64][]uint64{}, drains: map[uint64]bool{},
	}
	s.operator = o
	p.start(func() {
		defer func() { o.ended = true }()
		ctx := s.context(p)
		c, err := sdk.Dial(ctx, s.cluster.seeds(), sdk.WithLogger(s.logFor(p)), sdk.WithClientID(p.name))
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		o.admin = c.Admin()
		rt := task.New(p)
		for range s.plan.Operating.Acts {
			if !rt.Sleep(between(o.rand, 0, s.plan.Operating.Pause), o.stop) {
				break
			}
			o.act(ctx)
			o.replaceDisks(ctx)
		}
		rt.Wait(o.stop)
		o.tidy(ctx)
	})
}

// try makes one call with an end, and counts it if it is done.
func (o *operator) try(ctx context.Context, what string, call func(ctx context.Context) error) bool {
	ctx, cancel := task.New(o.proc).WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := call(ctx)
	o.s.log.Info("OPERATOR "+what, "error", err)
	if err == nil {
		o.s.reach.hit(operatedPrefix + what)
	}
	return err == nil
}

func (o *operator) describe(ctx context.Context) (*oncelogv1.DescribeClusterResponse, bool) {
	ctx, cancel := task.New(o.proc).WithTimeout(ctx, 5*time.Second)
	defer cancel()
	d, err := o.admin.DescribeCluster(ctx)
	if err != nil {
		return nil, false
	}
	for _, shard := range d.GetShards() {
		old, ok := o.begin[shard.GetShardId()]
		if !ok {
			o.begin[shard.GetShardId()] = shard.GetReplicas()
		} else if !slices.Equal(old, shard.GetReplicas()) {
			o.s.reach.hit(replicaMoved)
		}
	}
	return d, true
}

func (o *operator) act(ctx context.Context) {
	d, ok := o.describe(ctx)
	if !ok || len(d.GetShards()) == 0 {
		return
	}
	node := 1 + o.rand.Uint64N(uint64(len(o.s.cluster.parts)))
	shard := d.GetShards()[o.rand.IntN(len(d.GetShards()))]
	switch o.rand.IntN(8) {
	case 0, 1:
		o.try(ctx, "rebalance", func(ctx context.Context) error { _, err := o.admin.Rebalance(ctx, o.rand.IntN(4) == 0); return err })
	case 2:
		if o.try(ctx, "drain", func(ctx context.Context) error { return o.admin.DrainNode(ctx, node, false) }) {
			o.drains[node] = true
		}
	case 3:
		o.undrain(ctx)
	case 4, 5:
		from, id := shard.GetReplicas()[o.rand.IntN(len(shard.GetReplicas()))], shard.GetShardId()
		if o.rand.IntN(10) == 0 {
			id, from = id+o.rand.Uint64N(9), from+o.rand.Uint64N(2)
		}
		o.try(ctx, "move", func(ctx context.Context) error { _, err := o.admin.MoveReplica(ctx, id, from, node); return err })
	case 6:
		o.try(ctx, "cancel", func(ctx context.Context) error { _, err := o.admin.CancelMove(ctx, shard.GetShardId()); return err })
	default:
		for _, n := range d.GetNodes() {
			if n.GetDraining() && n.GetReplicas() == 0 {
				if o.try(ctx, "remove", func(ctx context.Context) error { return o.admin.RemoveNode(ctx, n.GetNodeId()) }) {
					delete(o.drains, n.GetNodeId())
					o.forgotten(n.GetNodeId())
				}
			}
		}
	}
}

func (o *operator) undrain(ctx context.Context) (done bool) {
	done = true
	for _, n := range o.s.cluster.parts {
		if o.drains[n.id] {
			if o.try(ctx, "undrain", func(ctx context.Context) error { return o.admin.DrainNode(ctx, n.id, true) }) {
				delete(o.drains, n.id)
			} else {
				done = false
			}
		}
	}
	return done
}

// replaceDisks has nodes that lost their disk, and were told so, come back.
func (o *operator) replaceDisks(ctx context.Context) (done bool) {
	done = true
	for _, n := range o.s.cluster.parts {
		if !n.refused {
			done = done && (n.lost == 0 || n.restored) // or it is still to be told
			continue
		}
		replace := func(ctx context.Context) error {
			err := o.admin.ReplaceDisk(ctx, n.id)
			if apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_NODE {
				return nil // it was removed meanwhile, and comes as a new one
			}
			return err
		}
		if !o.try(ctx, "replace a disk", replace) {
			done = false
			continue
		}
		o.s.w.at(0, nil, func() {
			o.s.reach.hit(diskReplaced)
			n.refused, n.restored = false, true
			n.start()
		})
	}
	return done
}

// forgotten is told that a node was removed: if it has lost its disk, nothing is to
// refuse it any more.
func (o *operator) forgotten(id uint64) {
	for _, n := range o.s.cluster.parts {
		if n.id == id && n.lost > 0 && !n.refused {
			n.restored = true
		}
	}
}

// tidy leaves a cluster in which nothing is to move for ever.
func (o *operator) tidy(ctx context.Context) {
	rt := task.New(o.proc)
	for !o.undrain(ctx) || !o.replaceDisks(ctx) {
		rt.Sleep(200*time.Millisecond, nil)
	}
}

// removed reports whether a node ended because the operator removed it, and gives it
// an empty disk: it comes back as another.
func (s *simulation) removed(n *node, why error) bool {
	if n.kind != "p" || s.operator == nil || apierrors.CodeOf(why) != oncelogv1.ErrorCode_ERROR_CODE_NODE_REMOVED {
		return false
	}
	s.reach.hit(nodeLeft)
	n.forget()
	n.fresh = true
	return true
}

// forget empties the disk of a node. What it was a member of it never is again.
func (n *node) forget() {
	groups, _ := n.disk.log.Groups()
	for _, g := range groups {
		if st, ok, err := n.disk.log.Load(g); err == nil && ok {
			n.forgets(g, st.Life)
		}
	}
	n.disk.log, n.disk.files = memlog.New(nil), map[string][]byte{}
	clear(n.disk.damaged)
	n.damaged = false
}

// forgets: the node has lost what it was as a member of a group in that life.
func (n *node) forgets(g raftstore.GroupID, life uint32) {
	if n.forgot == nil {
		n.forgot = map[raftstore.GroupID]uint32{}
	}
	n.forgot[g] = max(n.forgot[g], life)
}

// placed waits until nothing moves any more and every partition node has the copies
// that the catalogue says and no others, and says what is left.
func (s *simulation) placed(ctx context.Context, c *sdk.Client) (left string) {
	if s.operator == nil && !s.cluster.damages() {
		return "" // nothing was ever moved
	}
	rt := task.From(ctx)
	for end := rt.Now().Add(settleLimit); ; {
		d, err := c.Admin().DescribeCluster(ctx)
		if left = "the cluster cannot be described"; err == nil {
			left = s.misplaced(d)
		}
		if left == "" || rt.Now().After(end) || !rt.Sleep(200*time.Millisecond, ctx.Done()) {
			return left
		}
	}
}

func (s *simulation) misplaced(d *oncelogv1.DescribeClusterResponse) string {
	if d.GetRebalancing() {
		return "a rebalance does not come to its end"
	}
	want := map[uint64][]raftstore.GroupID{}
	for _, shard := range d.GetShards() {
		if shard.GetMove() != nil || len(shard.GetLost()) > 0 {
			return fmt.Sprintf("shard %d still moves: %v, lost %v, %s", shard.GetShardId(), shard.GetMove(), shard.GetLost(), shard.GetMoveProblem())
		}
		for _, n := range shard.GetReplicas() {
			want[n] = append(want[n], raftstore.GroupID(shard.GetShardId()))
		}
	}
	for _, n := range s.cluster.parts {
		groups, err := n.disk.log.Groups()
		slices.Sort(want[n.id])
		if err != nil || !slices.Equal(groups, want[n.id]) {
			return fmt.Sprintf("%s has shards %v, and should have %v", n.proc.name, groups, want[n.id])
		}
	}
	return ""
}
