package partition

import (
	"cmp"
	"context"
	"slices"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// LostReplica is a copy of a shard that was found damaged. Its node has voted with it,
// and acknowledged, so it never opens the shard again in that life, nor in one before;
// it is not even there any more. The node tells the coordinator, which marks the copy
// as lost, unless no majority of the shard would be left, and has it made anew: in
// another life, as a learner that is a voter only when the leader's change of members
// has made it one. The note of it stays until then, so that no restart forgets it.
type LostReplica struct {
	Shard uint64
	Life  uint32
	// Damage says what was found, for people; at most 300 bytes.
	Damage string
}

// addLost returns what is lost when more is.
func addLost(lost, more []LostReplica) []LostReplica {
	out := slices.Clone(lost)
	for _, l := range more {
		l.Damage = damageText(l.Damage)
		i, found := findLost(out, l.Shard)
		switch {
		case !found:
			out = slices.Insert(out, i, l)
		case out[i].Life <= l.Life:
			out[i] = l
		}
	}
	return out
}

func findLost(lost []LostReplica, shard uint64) (int, bool) {
	return slices.BinarySearchFunc(lost, shard, func(l LostReplica, shard uint64) int { return cmp.Compare(l.Shard, shard) })
}

// isLost reports whether an assigned copy, or a later one in its place, was lost.
func isLost(lost []LostReplica, a *oncelogv1.ShardAssignment) bool {
	i, found := findLost(lost, a.GetShardId())
	return found && a.GetLife() <= lost[i].Life
}

func (n *Node) setLost(lost []LostReplica) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lost = lost
}

// Lost returns the replicas that were found damaged and are not yet made anew here,
// ascending by shard. They must not be modified.
func (n *Node) Lost() []LostReplica {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.lost
}

// giveUpLost tells the coordinator of everything that is lost.
func (n *Node) giveUpLost() {
	for _, l := range n.Lost() {
		n.goWork(func() {
			err := n.untilDone(n.ctx, "a damaged copy of a shard cannot be given up yet", func(ctx context.Context) error {
				return n.giveUpReplica(ctx, l)
			}, "shard", l.Shard, "life", l.Life, "damage", l.Damage)
			if err != nil && n.ctx.Err() == nil {
				n.log.Error("a damaged copy of a shard cannot be given up", "shard", l.Shard, "life", l.Life, "damage", l.Damage, "error", err)
			}
		})
	}
}

func (n *Node) giveUpReplica(ctx context.Context, l LostReplica) error {
	ctx, cancel := n.run.WithTimeout(ctx, n.cfg.CallTimeout)
	defer cancel()
	n.mu.RLock()
	id := n.id
	n.mu.RUnlock()
	_, err := n.cfg.Coordinator.GiveUpReplica(ctx, &oncelogv1.GiveUpReplicaRequest{
		NodeId: id.node, InstanceId: id.instance, ClusterId: id.cluster, ShardId: l.Shard, Life: l.Life, Damage: l.Damage,
	})
	return err
}

// forgetLost returns the assignment without the lost copies that a newer answer does
// not name any more: the coordinator knows. Until then they stay in it on disk, so that
// a node which has lost the note as well misses their logs, and does not found them
// anew. Nothing of them is there to be released.
func (n *Node) forgetLost(a, resp *oncelogv1.HeartbeatResponse) *oncelogv1.HeartbeatResponse {
	lost := n.Lost()
	if len(lost) == 0 || resp.GetVersion() <= a.GetVersion() {
		return a
	}
	named := map[uint64]bool{}
	for _, s := range resp.GetShards() {
		named[s.GetShardId()] = isLost(lost, s)
	}
	gone := map[uint64]bool{}
	for _, s := range a.GetShards() {
		if isLost(lost, s) && !named[s.GetShardId()] {
			gone[s.GetShardId()] = true
		}
	}
	if len(gone) == 0 {
		return a
	}
	return without(a, gone)
}

// made takes note that the shard is here again, in another life.
func (n *Node) made(shard uint64) error {
	lost := n.Lost()
	i, found := findLost(lost, shard)
	if !found {
		return nil
	}
	n.log.Info("a damaged copy of a shard is being made anew", "shard", shard)
	left := slices.Delete(slices.Clone(lost), i, i+1)
	n.setLost(left)
	noting.Lock()
	defer noting.Unlock()
	note, err := loadDamage(n.cfg.Files) // there may be new damage in it
	if err != nil {
		return err
	}
	note.lost = left
	return note.write(n.cfg.Files)
}
