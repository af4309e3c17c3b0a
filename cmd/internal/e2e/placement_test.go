package e2e

import (
	"fmt"
	"slices"
	"testing"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// awaitCalm returns when no replica moves, and those of a node that leaves are away.
func (w *world) awaitCalm(t *testing.T, a *client.Admin, leaves uint64) (replicas map[uint64]int) {
	t.Helper()
	eventually(t, "the cluster is calm", func() error {
		d, err := a.DescribeCluster(withPatience(t))
		if err != nil {
			return err
		}
		replicas = map[uint64]int{}
		for _, s := range d.GetShards() {
			if s.GetMove() != nil {
				return fmt.Errorf("shard %d moves: %v, %s", s.GetShardId(), s.GetMove(), s.GetMoveProblem())
			}
			for _, n := range s.GetReplicas() {
				replicas[n]++
			}
		}
		if d.GetRebalancing() || replicas[leaves] > 0 {
			return fmt.Errorf("rebalancing %v, node %d has %d replicas", d.GetRebalancing(), leaves, replicas[leaves])
		}
		return nil
	})
	return replicas
}

// drainAndRemove takes a node out of the cluster.
func (w *world) drainAndRemove(t *testing.T, a *client.Admin, node uint64) {
	t.Helper()
	ctx := withPatience(t)
	// The leader must have heard of the node that is to take over.
	eventually(t, fmt.Sprintf("node %d drains", node), func() error { return a.DrainNode(ctx, node, false) })
	w.awaitCalm(t, a, node)
	if err := a.RemoveNode(ctx, node); err != nil {
		t.Fatal(err)
	}
}

func (w *world) addPartition(t *testing.T) *cluster.Node {
	t.Helper()
	n, err := w.AddPartition(withPatience(t))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Under load a node is added and gets its share, another one is drained and removed,
// and a third is killed for good and replaced: nobody notices. The process of the
// removed node ends, and its data is not accepted again, but its id is.
func TestNodesComeAndGo(t *testing.T) {
	if testing.Short() {
		t.Skip("moves shards between processes")
	}
	w := ownCluster(t, cluster.Config{})
	l := startLoad(t, w)
	l.awaitProgress()
	admin := w.client(t).Admin()
	ctx := withPatience(t)

	four := w.addPartition(t)
	var plan *oncelogv1.RebalanceResponse
	eventually(t, "a rebalance gives node 4 replicas", func() (err error) {
		if plan, err = admin.Rebalance(ctx, true); err == nil && len(plan.GetMoves()) == 0 {
			err = fmt.Errorf("no moves are planned")
		}
		return err
	})
	if _, err := admin.Rebalance(ctx, false); err != nil {
		t.Fatal(err)
	}
	if got := w.awaitCalm(t, admin, 0); got[4] != len(plan.GetMoves()) {
		t.Errorf("node 4 has %d replicas of %v, planned were %v", got[4], got, plan)
	}
	l.awaitProgress()

	one := w.Node(cluster.Partition, 1)
	w.drainAndRemove(t, admin, 1)
	eventually(t, "the process of the removed node ends", func() error {
		if one.Exited() == nil {
			return fmt.Errorf("it runs")
		}
		return nil
	})
	_ = one.Kill()
	if err := one.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the removed node is refused", func() error {
		if one.Exited() == nil {
			return fmt.Errorf("it runs")
		}
		return nil
	})
	_ = one.Kill()
	l.awaitProgress()

	two := w.Node(cluster.Partition, 2)
	if err := two.Kill(); err != nil {
		t.Fatal(err)
	}
	l.awaitProgress()
	// Node 1 comes back as somebody else: its id with an empty disk.
	if err := one.ReplaceDisk(); err != nil {
		t.Fatal(err)
	}
	if err := one.Start(); err != nil {
		t.Fatal(err)
	}
	if err := one.AwaitServing(ctx); err != nil {
		t.Fatal(err)
	}
	w.drainAndRemove(t, admin, 2)
	l.awaitProgress()

	// All copies count: without one of the nodes there is a majority of every shard.
	if err := four.Kill(); err != nil {
		t.Fatal(err)
	}
	l.awaitProgress()
	w.restart(t, four)
	d, err := admin.DescribeCluster(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range d.GetShards() {
		if got := slices.Sorted(slices.Values(s.GetReplicas())); !slices.Equal(got, []uint64{1, 3, 4}) {
			t.Errorf("shard %d is on %v", s.GetShardId(), got)
		}
	}
	if err := admin.RemoveNode(ctx, 3); apierrors.CodeOf(err) != oncelogv1.ErrorCode_ERROR_CODE_NODE_IN_USE {
		t.Errorf("removed with replicas: %v", err)
	}
	l.finish()
}
