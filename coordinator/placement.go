package coordinator

import (
	"context"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
)

const (
	// placeInterval is how often a leader looks whether replicas are to move, besides
	// when the catalogue changes: nodes come and go without a word in it.
	placeInterval = time.Second
	// handoverTimeout bounds one handover of a leadership.
	handoverTimeout = 3 * time.Second
	// maxHandoverRounds is how often in a row a rebalance may fail to move any of the
	// leaderships that it wants to move before it is content.
	maxHandoverRounds = 3
)

// place begins the moves that the state of the catalogue calls for: replicas of lost
// disks and draining nodes, and those of a rebalance. Whoever leads carries on.
func (d *duties) place(ctx context.Context) {
	failed := 0 // rounds of handovers in a row
	for ctx.Err() == nil {
		changed := d.placed.next()
		var plan []catalog.MoveReplica
		var balancing uint64
		moving, heard := false, false
		d.state.read(func() {
			heard = d.heardOfAll()
			plan = d.state.catalog.Plan(d.nodesUp())
			balancing = d.state.catalog.Balancing()
			for _, s := range d.state.catalog.Shards() {
				moving = moving || s.Move.Active()
			}
		})
		switch {
		case balancing != 0 && !heard:
			// A new leader does not know yet who is up: what it planned now would be
			// for those alone who were quick.
		case len(plan) > 0:
			if !d.beginMoves(ctx, plan) {
				d.pause(ctx, dutyRetry)
			}
			continue
		case balancing != 0 && !moving:
			done, progress := d.handOver(ctx)
			if failed++; progress {
				failed = 0
			}
			if done || failed >= maxHandoverRounds {
				d.endRebalance(ctx, balancing)
				failed = 0
			} else {
				d.pauseUntil(ctx, placeInterval, d.registry.watch())
			}
			continue
		}
		d.pauseUntil(ctx, placeInterval, changed)
	}
}

// heardOfAll reports whether every node was heard of in this term, or has had the time
// for it. The caller holds the state still.
func (c *Coordinator) heardOfAll() bool {
	now := c.rt.Now()
	if c.registry.leadsLonger(now, c.cfg.NodeTimeout) {
		return true
	}
	for _, n := range c.state.catalog.Nodes() {
		if n.Instance != "" && !c.registry.up(n.ID, now, c.cfg.NodeTimeout) {
			return false
		}
	}
	return true
}

// nodesUp returns the nodes that may get replicas: heard of in this term, with room.
// The caller holds the state still.
func (c *Coordinator) nodesUp() []uint64 {
	now := c.rt.Now()
	var up []uint64
	for _, n := range c.state.catalog.Nodes() {
		if c.registry.up(n.ID, now, c.cfg.NodeTimeout) && !c.registry.isLow(n.ID) {
			up = append(up, n.ID)
		}
	}
	return up
}

// leaders returns who leads each shard, as far as it is known and serves. The caller
// holds the state still.
func (c *Coordinator) leaders() map[uint64]uint64 {
	out := map[uint64]uint64{}
	for _, s := range c.state.catalog.Shards() {
		if l := c.registry.leader(s.ID); l.ready {
			out[s.ID] = l.node
		}
	}
	return out
}

// beginMoves brings moves into the log. One that is refused was overtaken by another
// change; the next look tells.
func (d *duties) beginMoves(ctx context.Context, plan []catalog.MoveReplica) bool {
	for _, m := range plan {
		m.At = d.now()
		res, err := d.proposeCatalog(ctx, m)
		if err != nil {
			d.logFailure(ctx, "moving a replica", err)
			return false
		}
		if res.Code != catalog.CodeOK {
			d.log.Debug("move refused", "shard", m.Shard, "from", m.From, "to", m.To, "code", res.Code.String())
			return false
		}
		d.log.Info("replica moves", "shard", m.Shard, "from", m.From, "to", m.To)
	}
	return true
}

// handOver asks leaders to hand over so that leaderships are even. done: they are.
func (d *duties) handOver(ctx context.Context) (done, progress bool) {
	var plan []catalog.Handover
	d.state.read(func() { plan = d.state.catalog.PlanLeaders(d.leaders(), d.nodesUp()) })
	for _, h := range plan {
		if ctx.Err() != nil {
			return false, progress
		}
		if err := d.handOverOne(ctx, h); err != nil {
			d.log.Debug("handover failed", "shard", h.Shard, "from", h.From, "to", h.To, "error", err)
			continue
		}
		progress = true
	}
	return len(plan) == 0, progress
}

func (d *duties) handOverOne(ctx context.Context, h catalog.Handover) error {
	ctx, cancel := d.rt.WithTimeout(ctx, handoverTimeout)
	defer cancel()
	var node catalog.Node
	d.state.read(func() { node, _ = d.state.catalog.Node(h.From) })
	client, err := d.peers.shard(node.ID, node.PeerAddress)
	if err != nil {
		return err
	}
	if _, err = client.TransferLeader(ctx, &oncelogv1.TransferLeaderRequest{ShardId: h.Shard, ToNode: h.To}); err != nil {
		return err
	}
	// The new leader reports in a moment; until then the next plan would be made with
	// the old one.
	for d.registry.leader(h.Shard).node == h.From && ctx.Err() == nil {
		changed := d.registry.watch()
		if d.registry.leader(h.Shard).node == h.From {
			d.rt.Wait(changed, ctx.Done())
		}
	}
	return ctx.Err()
}

func (d *duties) endRebalance(ctx context.Context, since uint64) {
	if _, err := d.proposeCatalog(ctx, catalog.EndRebalance{At: d.now(), Since: since}); err != nil {
		d.logFailure(ctx, "ending a rebalance", err)
		d.pause(ctx, dutyRetry)
		return
	}
	d.log.Info("rebalance ended")
}
