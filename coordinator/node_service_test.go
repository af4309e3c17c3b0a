package coordinator

import (
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

func TestRegisterNodeKnowsDisksAndClusters(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		node := func(id uint64, disk, cluster string) (*oncelogv1.RegisterNodeResponse, error) {
			return c.leader().cluster().RegisterNode(c.ctx(), &oncelogv1.RegisterNodeRequest{
				NodeId: id, InstanceId: disk, ClusterId: cluster, ClientAddress: "a:1", PeerAddress: "a:2",
			})
		}
		first := must(node(1, "disk", ""))
		again := must(node(1, "disk", first.GetClusterId()))
		wantEqual(t, "cluster", again.GetClusterId(), first.GetClusterId())
		_, err := node(1, "another disk", "")
		wantEqual(t, "node", wantCode(t, err, "NODE_ID_IN_USE")["node_id"], 1)
		_, err = node(2, "disk", "another cluster")
		wantEqual(t, "cluster", wantCode(t, err, "WRONG_CLUSTER")["cluster_id"], first.GetClusterId())
		_, err = c.leader().cluster().Heartbeat(c.ctx(), &oncelogv1.HeartbeatRequest{NodeId: 2})
		wantCode(t, err, "UNKNOWN_NODE")
		_, err = c.leader().cluster().Heartbeat(c.ctx(), &oncelogv1.HeartbeatRequest{NodeId: 1, InstanceId: "another disk"})
		wantEqual(t, "node", wantCode(t, err, "NODE_ID_IN_USE")["node_id"], 1)
	})
}

func TestHeartbeatWaitsForTheCatalogue(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(3)
		leader := c.leader()
		beat := func(known uint64, wait int64) *oncelogv1.HeartbeatResponse {
			return must(leader.cluster().Heartbeat(c.ctx(), &oncelogv1.HeartbeatRequest{
				NodeId: 1, InstanceId: instance(1), KnownVersion: known, WaitMs: wait,
			}))
		}
		first := beat(0, 5000)
		if first.GetVersion() == 0 || len(first.GetTokenKeys()) != 1 {
			t.Fatalf("first: %v", first)
		}
		began := time.Now()
		same := beat(first.GetVersion(), 3000)
		wantEqual(t, "time", time.Since(began), 3*time.Second)
		wantEqual(t, "version", same.GetVersion(), first.GetVersion())
		wantEqual(t, "keys", len(same.GetTokenKeys()), 0)

		done := make(chan *oncelogv1.HeartbeatResponse, 1)
		go func() { done <- beat(first.GetVersion(), 5000) }()
		settle()
		c.producer("app") // changes something, but not the catalogue
		settle()
		if len(done) > 0 {
			t.Fatal("answered without a change")
		}
		began = time.Now()
		topic := must(leader.catalog().CreateTopic(c.ctx(), &oncelogv1.CreateTopicRequest{Name: "t", ReplicationFactor: 2, NoWait: true})).GetTopic()
		res := <-done
		wantEqual(t, "time", time.Since(began), time.Duration(0))
		wantEqual(t, "version", res.GetVersion(), first.GetVersion()+1)
		// Of three shards with two copies this node has two, which it shares with
		// both others.
		wantEqual(t, "shards", len(res.GetShards()), 2)
		wantEqual(t, "neighbours", len(res.GetNodes()), 3)
		s := res.GetShards()[0]
		wantEqual(t, "shard", s.GetShardId(), shardOf(topic, 0))
		wantEqual(t, "partition", s.GetPartitions()[0].GetTopic(), "t")
		wantEqual(t, "shard version", s.GetVersion(), res.GetVersion())
	})
}

// TestReportsOfStrangersAreNotKept: a node has nothing to say about shards that
// it is no part of.
func TestReportsOfStrangersAreNotKept(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(3)
		topic := must(c.leader().catalog().CreateTopic(c.ctx(), &oncelogv1.CreateTopicRequest{Name: "t", ReplicationFactor: 2, NoWait: true})).GetTopic()
		shard := shardOf(topic, 0) // on nodes 1 and 2
		report := func(from uint64, r *oncelogv1.ShardReport) string {
			_, err := c.leader().cluster().Heartbeat(c.ctx(), &oncelogv1.HeartbeatRequest{
				NodeId: from, InstanceId: instance(from), Shards: []*oncelogv1.ShardReport{r},
			})
			wantCode(t, err, "")
			l := c.leader().c.registry.leader(shard)
			return seatText(l.seat, l.ready)
		}
		wantEqual(t, "stranger", report(3, &oncelogv1.ShardReport{ShardId: shard, Leader: 2, Term: 9, Ready: true}), "0@0")
		wantEqual(t, "a stranger leads", report(1, &oncelogv1.ShardReport{ShardId: shard, Leader: 3, Term: 9}), "0@0")
		wantEqual(t, "no such shard", report(1, &oncelogv1.ShardReport{ShardId: 99, Leader: 1, Term: 9}), "0@0")
		wantEqual(t, "shards known", len(c.leader().c.registry.shards), 0)
		wantEqual(t, "leader", report(1, &oncelogv1.ShardReport{ShardId: shard, Leader: 1, Term: 2, Ready: true}), "1@2 ready")
		wantEqual(t, "hearsay", report(2, &oncelogv1.ShardReport{ShardId: shard, Leader: 1, Term: 2, Ready: true}), "1@2 ready")
		wantEqual(t, "nobody in the same term", report(2, &oncelogv1.ShardReport{ShardId: shard, Term: 2}), "1@2 ready")
		wantEqual(t, "older term", report(1, &oncelogv1.ShardReport{ShardId: shard, Leader: 0, Term: 1}), "1@2 ready")
		wantEqual(t, "election", report(1, &oncelogv1.ShardReport{ShardId: shard, Leader: 0, Term: 3}), "0@3")
	})
}

func seatText(s seat, ready bool) string {
	text := string('0'+rune(s.node)) + "@" + string('0'+rune(s.term))
	if ready {
		text += " ready"
	}
	return text
}

func TestEnlistFromMemoryAndThroughTheLog(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		shard := shardOf(topic, 0)
		p := c.producer("app")
		entries := func() uint64 { return c.leader().c.group.Status().LastIndex }
		verdict := func(what string, a *oncelogv1.EnlistAnswer, want oncelogv1.EnlistVerdict) {
			t.Helper()
			wantEqual(t, what, a.GetVerdict(), want)
			wantEqual(t, what+": opened_at", a.GetOpenedAt(), 7)
			wantEqual(t, what+": shard", a.GetShardId(), shard)
		}
		before := entries()
		verdict("new", p.enlist(1, shard, 0), oncelogv1.EnlistVerdict_ENLIST_VERDICT_ACCEPTED)
		wantEqual(t, "log entries", entries()-before, 1)
		for range 3 {
			verdict("again", p.enlist(1, shard, 0), oncelogv1.EnlistVerdict_ENLIST_VERDICT_ACCEPTED)
		}
		wantEqual(t, "log entries", entries()-before, 1)
		c.shards.play(silent)
		p.mustEnd(1, true, wrote(topic, 0, 3))
		decided := p.enlist(1, shard, 0)
		verdict("decided", decided, oncelogv1.EnlistVerdict_ENLIST_VERDICT_DECIDED)
		wantEqual(t, "marker", decided.GetMarker().GetProgress()[0].GetNextSequence(), 3)
		wantEqual(t, "commit", decided.GetMarker().GetCommit(), true)
		c.shards.play(nil)
		c.until("the transaction completes", func() bool { return p.outcome(1) == "COMMITTED" })
		before = entries()
		verdict("acknowledged", p.enlist(1, shard, 0), oncelogv1.EnlistVerdict_ENLIST_VERDICT_STRAY)
		q := c.producer("app")
		stray := p.enlist(2, shard, 0)
		verdict("older epoch", stray, oncelogv1.EnlistVerdict_ENLIST_VERDICT_STRAY)
		wantEqual(t, "fence", stray.GetFence(), q.epoch)
		q.epoch = 9
		stray = q.enlist(1, shard, 0)
		wantEqual(t, "forged", stray.GetInvalid(), true)
		wantEqual(t, "log entries for strays", entries()-before, 1) // that of InitProducer
	})
}

// TestEnlistTakesWhatItCannotUse: a shard that cannot make its transaction
// known would hang.
func TestEnlistTakesWhatItCannotUse(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		p := c.producer("app")
		many := make([]uint64, 200_000)
		for i := range many {
			many[i] = uint64(i)
		}
		for number, e := range map[uint64]*oncelogv1.Enlistment{
			1: {AgeMs: -1 << 62}, 2: {PartitionIds: many},
		} {
			e.Txn, e.ShardId, e.OpenedAt = p.ref(number), shardOf(topic, 0), 1
			_, err := c.leader().cluster().Enlist(c.ctx(), &oncelogv1.EnlistRequest{Enlistments: []*oncelogv1.Enlistment{e}})
			wantCode(t, err, "")
		}
		wantEqual(t, "outcome", p.outcome(2), "OPEN")
		old := &oncelogv1.Enlistment{Txn: p.ref(3), ShardId: shardOf(topic, 0), AgeMs: 1 << 62}
		res := must(c.leader().cluster().Enlist(c.ctx(), &oncelogv1.EnlistRequest{Enlistments: []*oncelogv1.Enlistment{old}}))
		wantEqual(t, "verdict", res.GetAnswers()[0].GetVerdict(), oncelogv1.EnlistVerdict_ENLIST_VERDICT_ACCEPTED)
		c.leader().check(t)
	})
}

func TestCheckProducersOfTransactionalIDs(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		p, q := c.producer("p"), c.producer("q")
		must(c.leader().txns().DeleteTransactionalId(c.ctx(), &oncelogv1.DeleteTransactionalIdRequest{TransactionalId: "q"}))
		res := must(c.leader().cluster().CheckProducers(c.ctx(), &oncelogv1.CheckProducersRequest{ProducerIds: []uint64{p.pid, q.pid}}))
		wantEqual(t, "gone", res.GetGone(), []uint64{q.pid})
	})
}
