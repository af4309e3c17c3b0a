package clienttest_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/clienttest"
)

// cluster describes the cluster.
func (w *world) cluster(c *client.Client) *oncelogv1.DescribeClusterResponse {
	w.t.Helper()
	d, err := c.Admin().DescribeCluster(w.patient())
	w.must(err)
	return d
}

// calm waits until no replica moves and no rebalance is under way, and returns the
// cluster as it is then.
func (w *world) calm(c *client.Client, done func(*oncelogv1.DescribeClusterResponse) bool) *oncelogv1.DescribeClusterResponse {
	w.t.Helper()
	var d *oncelogv1.DescribeClusterResponse
	for range 600 {
		d = w.cluster(c)
		moving := slices.ContainsFunc(d.GetShards(), func(s *oncelogv1.Shard) bool { return s.GetMove() != nil || len(s.GetLost()) > 0 })
		if !moving && !d.GetRebalancing() && (done == nil || done(d)) {
			return d
		}
		pass(100 * time.Millisecond)
	}
	w.t.Fatalf("still not calm: %v", d)
	return nil
}

func replicas(d *oncelogv1.DescribeClusterResponse) map[uint64]int {
	out := map[uint64]int{}
	for _, s := range d.GetShards() {
		for _, n := range s.GetReplicas() {
			out[n]++
		}
	}
	return out
}

// load writes transactions to all partitions until it is stopped, and then checks
// that each is there once and in order.
type load struct {
	w       *world
	stop    atomic.Bool
	writers sync.WaitGroup
	written [2]int
}

func (w *world) load() *load {
	l := &load{w: w}
	w.t.Cleanup(func() { l.stop.Store(true); l.writers.Wait() })
	for i := range l.written {
		p := w.producer(w.Client(), fmt.Sprint("writer-", i))
		l.writers.Go(func() {
			for !l.stop.Load() {
				w.write(p, fmt.Sprintf("%d:%d", i, l.written[i]))
				l.written[i]++
				<-time.After(100 * time.Millisecond)
			}
		})
	}
	return l
}

func (l *load) check() {
	l.w.t.Helper()
	l.stop.Store(true)
	l.writers.Wait()
	got := map[string][]string{}
	for _, r := range l.w.Records("t") {
		key := fmt.Sprintf("%d/%c", r.Partition, r.Value[0])
		got[key] = append(got[key], string(r.Value))
	}
	for i, n := range l.written {
		if n < 10 {
			l.w.t.Errorf("writer %d got only %d transactions through", i, n)
		}
		for p := range 3 {
			values := got[fmt.Sprintf("%d/%d", p, i)]
			if len(values) != n {
				l.w.t.Errorf("partition %d has %d records of writer %d, which wrote %d", p, len(values), i, n)
			}
			for k, v := range values {
				if v != fmt.Sprintf("%d:%d", i, k) {
					l.w.t.Fatalf("partition %d, writer %d: record %d is %s", p, i, k, v)
				}
			}
		}
	}
}

// holds reports whether a node has data of a shard on its disk.
func holds(w *world, c *client.Client, n *clienttest.Node) bool {
	w.t.Helper()
	st, err := c.Admin().NodeStatus(w.patient(), n.Address())
	w.must(err)
	for _, g := range st.GetGroups() {
		for _, m := range g.GetMembers() {
			if m > uint64(len(w.Nodes())) {
				w.t.Errorf("%s says that group %d has member %d, which is no node", n.Name(), g.GetGroupId(), m)
			}
		}
	}
	return len(st.GetGroups()) > 0
}

// A node is added and gets its share, another is drained and removed, and a third
// loses its disk, goes on elsewhere and comes back under its id: all while clients
// write, who notice nothing.
func TestNodesComeAndGoUnderLoad(t *testing.T) {
	bubble(t, three, func(w *world) {
		admin := w.Client()
		l := w.load()
		before := w.cluster(admin)

		w.AddNode()
		pass(3 * time.Second)
		plan, err := admin.Admin().Rebalance(w.patient(), false)
		w.must(err)
		total := 3 * len(before.GetShards())
		if want := total / 4; len(plan.GetMoves()) != want {
			t.Errorf("%d moves are planned, want %d", len(plan.GetMoves()), want)
		}
		d := w.calm(admin, nil)
		if got := replicas(d)[4]; got != len(plan.GetMoves()) {
			t.Errorf("node 4 got %d replicas, planned were %d", got, len(plan.GetMoves()))
		}

		one := w.Nodes()[0]
		err = admin.Admin().RemoveNode(w.patient(), 1)
		if apierrors.CodeOf(err) != oncelogv1.ErrorCode_ERROR_CODE_NODE_IN_USE {
			t.Errorf("removed with replicas: %v", err)
		}
		w.must(admin.Admin().DrainNode(w.patient(), 1, false))
		w.calm(admin, func(d *oncelogv1.DescribeClusterResponse) bool { return replicas(d)[1] == 0 })
		pass(3 * time.Second)
		if holds(w, admin, one) {
			t.Error("node 1 still has data of shards that have moved")
		}
		w.must(admin.Admin().RemoveNode(w.patient(), 1))
		pass(5 * time.Second)
		if one.Running() {
			t.Error("node 1 was removed and runs on")
		}

		two := w.Nodes()[1]
		if err := admin.Admin().ReplaceDisk(w.patient(), 2); apierrors.CodeOf(err) != oncelogv1.ErrorCode_ERROR_CODE_NODE_ALIVE {
			t.Errorf("the disk of a node that is up: %v", err)
		}
		two.Crash()
		two.ReplaceDisk()
		pass(15 * time.Second)
		w.must(admin.Admin().ReplaceDisk(w.patient(), 2))
		if err := admin.Admin().ReplaceDisk(w.patient(), 3); err == nil {
			t.Error("a second disk could be declared lost")
		}
		two.Start()
		d = w.calm(admin, nil)
		if replicas(d)[2] == 0 || !holds(w, admin, two) {
			t.Errorf("node 2 came back to nothing: %v", replicas(d))
		}
		// Its copies count: without another node there is still a majority.
		w.Nodes()[2].Crash()
		pass(10 * time.Second)
		l.check()
	})
}

// A node that is gone for good is replaced by another one.
func TestDeadNodeIsReplaced(t *testing.T) {
	bubble(t, three, func(w *world) {
		admin := w.Client()
		l := w.load()
		w.Nodes()[0].Crash()
		err := admin.Admin().DrainNode(w.patient(), 1, false)
		if apierrors.CodeOf(err) != oncelogv1.ErrorCode_ERROR_CODE_INSUFFICIENT_NODES {
			t.Errorf("drained where nobody can take over: %v", err)
		}
		w.AddNode()
		pass(3 * time.Second)
		w.must(admin.Admin().DrainNode(w.patient(), 1, false))
		w.calm(admin, func(d *oncelogv1.DescribeClusterResponse) bool { return replicas(d)[1] == 0 })
		w.must(admin.Admin().RemoveNode(w.patient(), 1))
		l.check()
	})
}

// Whoever carries out a move, and whoever it is for, may go at any time: the next
// leader goes on. A replica that comes back to a node it was on is another one.
func TestMovesSurviveEverybody(t *testing.T) {
	for _, s := range strikes {
		t.Run("a node "+s.name, func(t *testing.T) {
			bubble(t, three, func(w *world) {
				admin := w.Client()
				w.AddNode()
				pass(3 * time.Second)
				l := w.load()
				shard := w.cluster(admin).GetShards()[0]
				at := uint64(4) // where the replica that wanders is not
				for round := range 6 {
					from := shard.GetReplicas()[round%3]
					if _, err := admin.Admin().MoveReplica(w.patient(), shard.GetShardId(), from, at); err != nil {
						t.Fatalf("round %d: %v", round, err)
					}
					pass(time.Duration(round*130) * time.Millisecond)
					victim := w.Nodes()[[]uint64{at - 1, from - 1, 2, 0}[round%4]]
					s.strike(w, victim)
					pass(2 * time.Second)
					s.end(w, victim)
					d := w.calm(admin, nil)
					i := slices.IndexFunc(d.GetShards(), func(o *oncelogv1.Shard) bool { return o.GetShardId() == shard.GetShardId() })
					shard, at = d.GetShards()[i], from
					if slices.Contains(shard.GetReplicas(), from) {
						t.Fatalf("round %d: the replica is still on node %d: %v", round, from, shard)
					}
				}
				l.check()
			})
		})
	}
}

// A move to a node that does not come back is cancelled, and another one made.
func TestCancelledMove(t *testing.T) {
	bubble(t, three, func(w *world) {
		admin := w.Client()
		w.AddNode()
		w.AddNode()
		pass(3 * time.Second)
		l := w.load()
		four := w.Nodes()[3]
		four.Crash()
		shard := w.cluster(admin).GetShards()[0]
		_, err := admin.Admin().MoveReplica(w.patient(), shard.GetShardId(), 1, 4)
		w.must(err)
		pass(5 * time.Second)
		d := w.cluster(admin)
		if p := d.GetShards()[0].GetMoveProblem(); p == "" {
			t.Errorf("nobody says why it does not get on: %v", d.GetShards()[0])
		}
		_, err = admin.Admin().MoveReplica(w.patient(), shard.GetShardId(), 1, 5)
		if apierrors.CodeOf(err) != oncelogv1.ErrorCode_ERROR_CODE_MOVE_REFUSED {
			t.Errorf("a second move: %v", err)
		}
		_, err = admin.Admin().CancelMove(w.patient(), shard.GetShardId())
		w.must(err)
		w.calm(admin, nil)
		_, err = admin.Admin().MoveReplica(w.patient(), shard.GetShardId(), 1, 5)
		w.must(err)
		four.Start()
		w.calm(admin, nil)
		pass(3 * time.Second)
		if holds(w, admin, four) {
			t.Error("node 4 keeps a copy that nobody wants")
		}
		w.must(admin.Admin().RemoveNode(w.patient(), 4))
		l.check()
	})
}

// The only copy of a shard moves as well: it leads until the other one does.
func TestOnlyCopyMoves(t *testing.T) {
	bubble(t, one, func(w *world) {
		admin := w.Client()
		l := w.load()
		w.AddNode()
		pass(3 * time.Second)
		w.must(admin.Admin().DrainNode(w.patient(), 1, false))
		w.calm(admin, func(d *oncelogv1.DescribeClusterResponse) bool { return replicas(d)[1] == 0 })
		w.must(admin.Admin().RemoveNode(w.patient(), 1))
		pass(3 * time.Second)
		l.check()
	})
}

// Leaderships come back to a node that was away when a rebalance is asked for, also
// if the coordinator's leader changes right then.
func TestRebalanceSpreadsLeaders(t *testing.T) {
	size := append(slices.Clone(three), clienttest.WithShardsPerNode(2))
	bubble(t, size, func(w *world) {
		admin := w.Client()
		w.Nodes()[0].Crash()
		pass(5 * time.Second)
		w.Nodes()[0].Start()
		pass(5 * time.Second)
		_, err := admin.Admin().Rebalance(w.patient(), false)
		w.must(err)
		w.CoordinatorLeader().Crash()
		leads := map[uint64]int{}
		for _, s := range w.calm(admin, nil).GetShards() {
			leads[s.GetLeader()]++
		}
		if leads[1] != 2 || leads[2] != 2 || leads[3] != 2 {
			t.Errorf("leaderships by node: %v", leads)
		}
	})
}
