package coordinator

import (
	"slices"
	"strings"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
)

// placement is the service of the leader.
func (c *cluster) placement() oncelogv1.PlacementServiceClient {
	return oncelogv1.NewPlacementServiceClient(c.leader().client)
}

// beat is one heartbeat that does not wait.
func (c *cluster) beat(node, known uint64, shards ...*oncelogv1.ShardReport) *oncelogv1.HeartbeatResponse {
	c.t.Helper()
	return must(c.leader().cluster().Heartbeat(c.ctx(), &oncelogv1.HeartbeatRequest{
		NodeId: node, InstanceId: instance(node), KnownVersion: known, Shards: shards,
	}))
}

func (c *cluster) describe() *oncelogv1.DescribeClusterResponse {
	c.t.Helper()
	return must(c.leader().catalog().DescribeCluster(c.ctx(), &oncelogv1.DescribeClusterRequest{}))
}

// threeOfFour is a topic in three copies on nodes 1 to 3, with a node 4; the shard.
func (c *cluster) threeOfFour() uint64 {
	c.t.Helper()
	c.register(3)
	topic := must(c.leader().catalog().CreateTopic(c.ctx(), &oncelogv1.CreateTopicRequest{Name: "t", ReplicationFactor: 3, NoWait: true})).GetTopic()
	c.register(4)
	return shardOf(topic, 0)
}

func assigned(res *oncelogv1.HeartbeatResponse, shard uint64) *oncelogv1.ShardAssignment {
	for _, a := range res.GetShards() {
		if a.GetShardId() == shard {
			return a
		}
	}
	return nil
}

func shardMembers(ids ...uint64) (out []*oncelogv1.ShardMember) {
	for _, id := range ids {
		out = append(out, &oncelogv1.ShardMember{NodeId: id & 0xff, Life: uint32(id >> 8)})
	}
	return out
}

// A move goes from the operator's call into assignments, from the leader's report into
// the catalogue, and then the copy that is not needed is released.
func TestMoveAtTheEdge(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		shard := c.threeOfFour()
		before := c.beat(3, 0)
		if a := assigned(before, shard); a.GetJoin() || a.GetLife() != 0 || a.GetMove() != nil || before.GetReleased() != nil {
			t.Fatalf("a founder is told %v", a)
		}
		res := must(c.placement().MoveReplica(c.ctx(), &oncelogv1.MoveReplicaRequest{ShardId: shard, FromNode: 3, ToNode: 4}))
		wantEqual(t, "added node", res.GetShard().GetMove().GetAdd(), 4)
		now := c.beat(4, 0)
		a := assigned(now, shard)
		if !a.GetJoin() || a.GetLife() != 1 || len(now.GetNodes()) != 4 {
			t.Fatalf("the new node is told %v, of %d nodes", a, len(now.GetNodes()))
		}
		if a := assigned(c.beat(1, 0), shard); a.GetLife() != 0 || a.GetMove().GetAddLife() != 1 || a.GetMove().GetRemove() != 3 {
			t.Fatalf("another one is told %v", a)
		}

		leads := func(m []*oncelogv1.ShardMember, index uint64, problem string) *oncelogv1.ShardReport {
			return &oncelogv1.ShardReport{
				ShardId: shard, Leader: 1, Term: 5, Ready: true, PartitionsVersion: a.GetVersion(),
				Members: m, MembersIndex: index, Problem: problem, Lag: 7,
			}
		}
		c.beat(1, 0, leads(nil, 0, "node 4 sleeps"))
		s := c.describe().GetShards()[0]
		wantEqual(t, "problem", s.GetMoveProblem(), "node 4 sleeps")
		wantEqual(t, "lag", s.GetMoveLag(), 7)
		pass(3 * time.Second)
		l := c.leader().c.Stats().Leader
		wantEqual(t, "moves, held up, lost", []int{l.Moves, l.HeldUp, l.LostReplicas}, []int{1, 1, 0})
		wantEqual(t, "lag of the furthest", l.MoveLag, uint64(7))
		wantEqual(t, "age of the move", l.OldestMove >= 3*time.Second && l.OldestMove < time.Minute, true)
		c.beat(2, 0, leads(shardMembers(1, 2, 1<<8|4), 40, "")) // who does not lead it
		c.beat(1, 0, leads(shardMembers(1, 2, 4), 40, ""))      // no such life
		c.beat(1, 0, leads(shardMembers(1, 2, 3, 1<<8|4), 40, ""))
		if c.describe().GetShards()[0].GetMove() == nil {
			t.Fatal("the move was ended by a report that does not say so")
		}
		held := &oncelogv1.ShardReport{ShardId: shard, Life: 0}
		wantEqual(t, "released", len(c.beat(3, 0, held).GetReleased()), 0)
		c.beat(1, 0, leads(shardMembers(1<<8|4, 2, 1), 40, "")) // whatever the order
		s = c.describe().GetShards()[0]
		if s.GetMove() != nil || !slices.Equal(s.GetReplicas(), []uint64{1, 2, 4}) || s.GetMoveProblem() != "" {
			t.Fatalf("after the report: %v", s)
		}
		end := c.beat(3, 0, held, &oncelogv1.ShardReport{ShardId: 999})
		if r := end.GetReleased(); len(r) != 1 || r[0].GetShardId() != shard || r[0].GetLife() != 0 || assigned(end, shard) != nil {
			t.Errorf("node 3 is told %v", end)
		}
		wantEqual(t, "released of node 4", len(c.beat(4, 0, &oncelogv1.ShardReport{ShardId: shard, Life: 1}).GetReleased()), 0)
	})
}

func TestPlacementRefusals(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		shard := c.threeOfFour()
		p := c.placement()
		move := func(shard, from, to uint64) error {
			_, err := p.MoveReplica(c.ctx(), &oncelogv1.MoveReplicaRequest{ShardId: shard, FromNode: from, ToNode: to})
			return err
		}
		wantCode(t, move(99, 1, 4), "UNKNOWN_SHARD")
		wantCode(t, move(shard, 1, 9), "UNKNOWN_NODE")
		wantEqual(t, "why", wantCode(t, move(shard, 4, 4), "MOVE_REFUSED")["why"], "INVALID_MOVE")
		must(p.DrainNode(c.ctx(), &oncelogv1.DrainNodeRequest{NodeId: 4}))
		wantEqual(t, "why", wantCode(t, move(shard, 1, 4), "MOVE_REFUSED")["why"], "NODE_DRAINING")
		_, err := p.DrainNode(c.ctx(), &oncelogv1.DrainNodeRequest{NodeId: 1})
		wantEqual(t, "wanted", wantCode(t, err, "INSUFFICIENT_NODES")["wanted"], 3)
		must(p.DrainNode(c.ctx(), &oncelogv1.DrainNodeRequest{NodeId: 4, Undo: true}))
		if err := move(shard, 1, 4); err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "why", wantCode(t, move(shard, 2, 4), "MOVE_REFUSED")["why"], "MOVE_UNDER_WAY")
		_, err = p.CancelMove(c.ctx(), &oncelogv1.CancelMoveRequest{ShardId: 99})
		wantCode(t, err, "UNKNOWN_SHARD")
		wantEqual(t, "cancelled", must(p.CancelMove(c.ctx(), &oncelogv1.CancelMoveRequest{ShardId: shard})).GetShard().GetMove().GetCancelled(), true)
		_, err = p.RemoveNode(c.ctx(), &oncelogv1.RemoveNodeRequest{NodeId: 1})
		wantEqual(t, "shards", wantCode(t, err, "NODE_IN_USE")["shards"], 3)
		_, err = p.ReplaceDisk(c.ctx(), &oncelogv1.ReplaceDiskRequest{NodeId: 2})
		wantCode(t, err, "NODE_ALIVE")
		pass(DefaultNodeTimeout + time.Second)
		must(p.ReplaceDisk(c.ctx(), &oncelogv1.ReplaceDiskRequest{NodeId: 2}))
		_, err = p.ReplaceDisk(c.ctx(), &oncelogv1.ReplaceDiskRequest{NodeId: 3})
		wantCode(t, err, "SHARD_WOULD_BE_LOST")
		_, err = c.leader().cluster().Heartbeat(c.ctx(), &oncelogv1.HeartbeatRequest{NodeId: 2, InstanceId: instance(2)})
		wantCode(t, err, "NODE_REMOVED")
		wantEqual(t, "state", c.describe().GetNodes()[1].GetDiskLost(), true)
		wantEqual(t, "lost replicas", c.leader().c.Stats().Leader.LostReplicas, len(c.describe().GetShards()))

		long := &oncelogv1.ShardReport{ShardId: shard, Problem: strings.Repeat("x", maxProblem+1)}
		_, err = c.leader().cluster().Heartbeat(c.ctx(), &oncelogv1.HeartbeatRequest{NodeId: 1, InstanceId: instance(1), Shards: []*oncelogv1.ShardReport{long}})
		wantCode(t, err, "LIMIT_EXCEEDED")
		long = &oncelogv1.ShardReport{ShardId: shard, Members: make([]*oncelogv1.ShardMember, 17)}
		_, err = c.leader().cluster().Heartbeat(c.ctx(), &oncelogv1.HeartbeatRequest{NodeId: 1, InstanceId: instance(1), Shards: []*oncelogv1.ShardReport{long}})
		wantCode(t, err, "LIMIT_EXCEEDED")
		_, err = c.leader().cluster().RegisterNode(c.ctx(), &oncelogv1.RegisterNodeRequest{
			NodeId: 1 << 32, InstanceId: "x", ClientAddress: "a:1", PeerAddress: "a:2",
		})
		wantCode(t, err, "INVALID_ARGUMENT")
	})
}

// A removed node's directory is refused, and its id is not.
func TestRemovedNode(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		cluster := c.describe().GetClusterId()
		must(c.placement().RemoveNode(c.ctx(), &oncelogv1.RemoveNodeRequest{NodeId: 1}))
		_, err := c.leader().cluster().Heartbeat(c.ctx(), &oncelogv1.HeartbeatRequest{NodeId: 1, InstanceId: instance(1)})
		wantCode(t, err, "UNKNOWN_NODE") // so it registers, and is told
		register := func(cluster string) error {
			_, err := c.leader().cluster().RegisterNode(c.ctx(), &oncelogv1.RegisterNodeRequest{
				NodeId: 1, InstanceId: instance(1), ClusterId: cluster, ClientAddress: "a:1", PeerAddress: "a:2",
			})
			return err
		}
		wantEqual(t, "node", wantCode(t, register(cluster), "NODE_REMOVED")["node_id"], 1)
		if err := register(""); err != nil {
			t.Error(err)
		}
		_, err = c.placement().RemoveNode(c.ctx(), &oncelogv1.RemoveNodeRequest{NodeId: 7})
		wantCode(t, err, "UNKNOWN_NODE")
		long := strings.Repeat("x", catalog.MaxInstanceBytes+1)
		_, err = c.placement().RemoveNode(c.ctx(), &oncelogv1.RemoveNodeRequest{NodeId: 1, InstanceId: long})
		wantEqual(t, "field", wantCode(t, err, "LIMIT_EXCEEDED")["field"], "instance_id")
		_, err = c.placement().ReplaceDisk(c.ctx(), &oncelogv1.ReplaceDiskRequest{NodeId: 1, InstanceId: long})
		wantEqual(t, "field", wantCode(t, err, "LIMIT_EXCEEDED")["field"], "instance_id")
	})
}

// What a draining node has moves to nodes that are up, without being asked twice, and
// so does a rebalance; a dry run only tells.
func TestLeaderBeginsMoves(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.threeOfFour()
		plan := must(c.placement().Rebalance(c.ctx(), &oncelogv1.RebalanceRequest{DryRun: true}))
		wantEqual(t, "planned", len(plan.GetMoves()), 2) // of 9 replicas
		pass(2 * time.Second)
		moving := func() (n int) {
			for _, s := range c.describe().GetShards() {
				if s.GetMove() != nil {
					n++
				}
			}
			return n
		}
		wantEqual(t, "moves after a dry run", moving(), 0)
		must(c.placement().Rebalance(c.ctx(), &oncelogv1.RebalanceRequest{}))
		settle()
		wantEqual(t, "moves", moving(), 2)
		wantEqual(t, "under way", c.describe().GetRebalancing(), true)
		must(c.placement().DrainNode(c.ctx(), &oncelogv1.DrainNodeRequest{NodeId: 4}))
		for _, s := range c.describe().GetShards() {
			if m := s.GetMove(); m != nil && !m.GetCancelled() {
				t.Errorf("a move to a draining node goes on: %v", s)
			}
		}
		if res := c.beat(4, 0); !res.GetDraining() {
			t.Error("node 4 is not told that it drains")
		}
		wantEqual(t, "draining nodes", c.leader().c.Stats().Leader.Draining, 1)
	})
}
