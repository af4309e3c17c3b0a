package partition

import (
	"context"
	"maps"
	"slices"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/clock"
	"github.com/oncelog/oncelog/internal/datafile"
	"github.com/oncelog/oncelog/internal/task"
	"github.com/oncelog/oncelog/partition/pstate"
)

// beatSpacing is the least time between two heartbeats: when many shards change
// leaders at once, one report tells of all of them.
const beatSpacing = 5 * time.Millisecond

// register makes the node known under its addresses and learns which cluster the disk
// is one of. permanent: repeating cannot help.
func (n *Node) register(ctx context.Context) (permanent bool, err error) {
	ctx, cancel := n.run.WithTimeout(ctx, n.cfg.CallTimeout)
	defer cancel()
	n.mu.RLock()
	id := n.id
	n.mu.RUnlock()
	resp, err := n.cfg.Coordinator.RegisterNode(ctx, &oncelogv1.RegisterNodeRequest{
		NodeId: id.node, InstanceId: id.instance, ClusterId: id.cluster,
		ClientAddress: n.cfg.ClientAddress, PeerAddress: n.cfg.PeerAddress, MaxFormatLevel: n.cfg.MaxFormatLevel,
	})
	if err != nil {
		return apierrors.ClassOf(err) == apierrors.Fatal, err
	}
	id, err = id.join(datafile.PlaceOf(n.cfg.Files), resp.GetClusterId())
	if err != nil {
		return true, err
	}
	n.mu.Lock()
	n.id = id
	n.mu.Unlock()
	return false, nil
}

// registerUntilDone is the first registration of a new disk.
func (n *Node) registerUntilDone(ctx context.Context) error {
	ctx, cancel := n.run.WithCancel(ctx)
	defer cancel()
	n.goWork(func() {
		n.run.Wait(n.ctx.Done(), ctx.Done())
		cancel()
	})
	for {
		permanent, err := n.register(ctx)
		switch {
		case err == nil:
			return nil
		case permanent:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case n.ctx.Err() != nil:
			return n.ctx.Err()
		}
		n.log.Warn("registration failed; trying again", "error", err)
		n.run.Sleep(n.cfg.RetryDelay, ctx.Done())
	}
}

// heartbeats reports and learns until the node closes. A node that started from
// its disk registers first, in case its addresses have changed.
func (n *Node) heartbeats(registered bool) {
	known := uint64(0) // ask for everything once per process
	for n.ctx.Err() == nil {
		if !registered {
			permanent, err := n.register(n.ctx)
			if permanent && n.ctx.Err() == nil {
				n.fail(err)
				return
			}
			if registered = err == nil; !registered {
				n.retryPause()
				continue
			}
		}
		resp, interrupted, err := n.heartbeat(known)
		switch {
		case err == nil:
			n.counters.heardAt.Store(n.run.Now().Sub(n.started).Nanoseconds())
			if err := n.learn(resp); err != nil {
				if n.ctx.Err() == nil {
					n.fail(err)
				}
				return
			}
			known = max(known, resp.GetVersion())
		case interrupted:
		case apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_NODE:
			registered = false
		case apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_NODE_ID_IN_USE,
			apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_NODE_REMOVED,
			apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_WRONG_CLUSTER,
			apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_NODE_TOO_OLD:
			n.fail(err)
			return
		default:
			n.log.Debug("heartbeat failed", "error", err)
			n.retryPause()
			continue
		}
		n.run.Sleep(beatSpacing, n.ctx.Done())
	}
}

func (n *Node) retryPause() { n.run.Sleep(n.cfg.RetryDelay, n.ctx.Done()) }

// heartbeat makes one call. A change to report interrupts it: the next one
// tells.
func (n *Node) heartbeat(known uint64) (resp *oncelogv1.HeartbeatResponse, interrupted bool, err error) {
	ctx, cancel := n.run.WithTimeout(n.ctx, n.cfg.CallTimeout+n.cfg.HeartbeatWait)
	defer cancel()
	task.Closed(n.beat) // the report below has it
	req := n.report(known)
	done := make(chan struct{})
	n.run.Go(func() {
		defer close(done)
		if n.run.Wait(n.beat, ctx.Done()) == 0 {
			interrupted = true
			cancel()
		}
	})
	sent, began := n.run.Wall(), n.run.Now()
	resp, err = n.cfg.Coordinator.Heartbeat(ctx, req)
	if o, ok := clock.Compare(sent, n.run.Since(began), "the leading coordinator", resp.GetClock()); ok && err == nil {
		n.clock.Learn(o)
	}
	cancel()
	n.run.Wait(done)
	return resp, interrupted, err
}

// report says what this node has and leads. A leader without room is not ready:
// it refuses what a new topic is for.
func (n *Node) report(known uint64) *oncelogv1.HeartbeatRequest {
	n.mu.RLock()
	instance, store, rules := n.id.instance, n.store, n.assignment.GetAcls()
	n.mu.RUnlock()
	low := store.Disk().Low
	req := &oncelogv1.HeartbeatRequest{
		NodeId: n.cfg.NodeID, InstanceId: instance,
		DiskLow: low, MaxFormatLevel: n.cfg.MaxFormatLevel,
		KnownVersion: known, WaitMs: n.cfg.HeartbeatWait.Milliseconds(),
	}
	if rules != nil {
		req.KnownAclsVersion = &rules.Version
	}
	for _, s := range n.allShards() {
		lead := s.group.Leadership()
		r := &oncelogv1.ShardReport{ShardId: s.id, Life: s.life, Leader: uint64(lead.Leader), Term: lead.Term, Ready: lead.Ready && !low}
		if m := s.moving.Load(); m != nil && lead.Ready {
			r.Members, r.MembersIndex, r.Problem, r.Lag = m.members, m.index, m.problem, m.lag
		}
		s.machine.read(func(st *pstate.State) { r.PartitionsVersion = st.CatalogVersion() })
		req.Shards = append(req.Shards, r)
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	for _, id := range slices.Sorted(maps.Keys(n.stray)) {
		req.Shards = append(req.Shards, &oncelogv1.ShardReport{ShardId: id, Life: n.stray[id]})
	}
	return req
}

// learn takes what the coordinator answered: first into use, then to disk. So
// every shard of an assignment on disk has a log, which checkLog relies on; what
// a crash in between loses the coordinator tells again.
func (n *Node) learn(resp *oncelogv1.HeartbeatResponse) error {
	n.mu.RLock()
	old := n.assignment
	n.mu.RUnlock()
	if err := n.checkLevel(resp); err != nil {
		return err
	}
	if n.draining.Swap(resp.GetDraining()) != resp.GetDraining() {
		for _, s := range n.allShards() {
			task.Signal(s.duty)
		}
	}
	old, err := n.release(old, resp)
	if err != nil {
		return err
	}
	old = n.forgetLost(old, resp)
	merged, changed := mergeAssignment(old, resp)
	if !changed {
		return nil
	}
	if err := n.adopt(merged); err != nil {
		return err
	}
	if err := saveAssignment(n.cfg.Files, merged); err != nil {
		// A restart without a coordinator would know less; that is all.
		n.log.Error("cannot keep the assignment on disk", "error", err)
	}
	return nil
}
