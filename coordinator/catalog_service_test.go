package coordinator

import (
	"fmt"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

func TestCreateTopicWaitsUntilEveryShardServes(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(3)
		leader := c.leader()
		done := make(chan *oncelogv1.CreateTopicResponse, 1)
		go func() {
			done <- must(leader.catalog().CreateTopic(c.ctx(), &oncelogv1.CreateTopicRequest{Name: "t", Partitions: 6}))
		}()
		pass(time.Second)
		meta := must(leader.catalog().GetMetadata(c.ctx(), &oncelogv1.GetMetadataRequest{Topics: []string{"t", "no"}}))
		wantEqual(t, "unknown", meta.GetUnknownTopics(), []string{"no"})
		wantEqual(t, "partitions", len(meta.GetTopics()[0].GetPartitions()), 6)
		wantEqual(t, "shards", len(meta.GetShards()), 3)
		// All but one of what is needed, then all of it.
		beat := func(version uint64, from uint64, shard *oncelogv1.Shard, leader uint64) {
			_, err := c.leader().cluster().Heartbeat(c.ctx(), &oncelogv1.HeartbeatRequest{
				NodeId: from, InstanceId: instance(from), Shards: []*oncelogv1.ShardReport{
					{ShardId: shard.GetShardId(), Leader: leader, Term: 3, Ready: true, PartitionsVersion: version},
				},
			})
			wantCode(t, err, "")
			settle()
		}
		for _, s := range meta.GetShards() {
			beat(meta.GetVersion(), 2, s, 1) // hearsay
		}
		for _, s := range meta.GetShards() {
			beat(meta.GetVersion()-1, 1, s, 1) // serves, but does not know the partitions yet
		}
		for _, s := range meta.GetShards()[1:] {
			beat(meta.GetVersion(), 1, s, 1)
		}
		if len(done) > 0 {
			t.Fatal("answered before every shard serves")
		}
		beat(meta.GetVersion(), 1, meta.GetShards()[0], 1)
		res := <-done
		wantEqual(t, "ready", res.GetReady(), true)
		meta = must(leader.catalog().GetMetadata(c.ctx(), &oncelogv1.GetMetadataRequest{TopicIds: []uint64{res.GetTopic().GetTopicId(), 99}}))
		wantEqual(t, "leader and term", fmt.Sprint(meta.GetShards()[0].GetLeader(), meta.GetShards()[0].GetTerm()), "1 3")
	})
}

func TestCreateTopicAtTheDeadline(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		began := time.Now()
		res := must(c.leader().catalog().CreateTopic(c.ctxFor(2*time.Second), &oncelogv1.CreateTopicRequest{Name: "t"}))
		wantEqual(t, "ready", res.GetReady(), false)
		wantEqual(t, "time", time.Since(began), 2*time.Second-deadlineMargin)
		_, err := c.leader().catalog().CreateTopic(c.ctx(), &oncelogv1.CreateTopicRequest{Name: "t"})
		wantEqual(t, "topic", wantCode(t, err, "TOPIC_EXISTS")["topic"], "t")
		// Without a deadline it does not wait for ever.
		began = time.Now()
		res = must(c.leader().catalog().CreateTopic(t.Context(), &oncelogv1.CreateTopicRequest{Name: "u"}))
		wantEqual(t, "ready", res.GetReady(), false)
		wantEqual(t, "time", time.Since(began), maxTopicWait)
	})
}

func TestCreateTopicThatIsDeletedMeanwhile(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		done := make(chan *oncelogv1.CreateTopicResponse, 1)
		leader := c.leader()
		go func() {
			done <- must(leader.catalog().CreateTopic(c.ctx(), &oncelogv1.CreateTopicRequest{Name: "t"}))
		}()
		settle()
		must(leader.catalog().DeleteTopic(c.ctx(), &oncelogv1.DeleteTopicRequest{Name: "t"}))
		c.report(1)
		wantEqual(t, "ready", (<-done).GetReady(), false)
	})
}

func TestCreateTopicIsPromptWhenLeadersAreKnown(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		c.topic("t", 1, 1)
		for i := range 3 {
			done := make(chan bool, 1)
			leader := c.leader()
			go func() {
				done <- must(leader.catalog().CreateTopic(c.ctx(), &oncelogv1.CreateTopicRequest{Name: fmt.Sprint("u", i)})).GetReady()
			}()
			settle()
			began := time.Now()
			c.report(1)
			wantEqual(t, "ready", <-done, true)
			wantEqual(t, "time", time.Since(began), time.Duration(0))
		}
	})
}

// TestTheDefaultReplicationFactorCountsRegisteredNodes: not those that have
// been heard of since the leader changed.
func TestTheDefaultReplicationFactorCountsRegisteredNodes(t *testing.T) {
	inBubble(t, 3, nil, func(t *testing.T, c *cluster) {
		c.register(3)
		c.moveLeader()
		beat := func(node uint64) {
			_, err := c.leader().cluster().Heartbeat(c.ctx(), &oncelogv1.HeartbeatRequest{NodeId: node, InstanceId: instance(node)})
			wantCode(t, err, "")
		}
		create := func(name string, replicas uint32) (*oncelogv1.Topic, error) {
			res, err := c.leader().catalog().CreateTopic(c.ctx(), &oncelogv1.CreateTopicRequest{Name: name, ReplicationFactor: replicas, NoWait: true})
			return res.GetTopic(), err
		}
		beat(2)
		wantEqual(t, "after one heartbeat", must(create("a", 0)).GetReplicationFactor(), 3)
		for range 3 {
			pass(DefaultNodeTimeout / 2)
			beat(2)
			beat(3)
		}
		wantEqual(t, "with a node down", must(create("b", 0)).GetReplicationFactor(), 3)
		alone := must(create("c", 2))
		meta := must(c.leader().catalog().GetMetadata(c.ctx(), &oncelogv1.GetMetadataRequest{TopicIds: []uint64{alone.GetTopicId()}}))
		wantEqual(t, "nodes that are up", meta.GetShards()[0].GetReplicas(), []uint64{2, 3})
		_, err := create("d", 4)
		m := wantCode(t, err, "INSUFFICIENT_NODES")
		wantEqual(t, "wanted and registered", m["wanted"]+" "+m["registered"], "4 3")
	})
}

func TestDeleteTopicDuringTransactions(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(2)
		gone, kept := c.topic("gone", 1, 2), c.topic("kept", 2, 2)
		p, q := c.producer("p"), c.producer("q")
		c.shards.play(unreachable)
		p.mustEnd(1, true, wrote(gone, 0, 3), wrote(kept, 0, 1), wrote(kept, 1, 1)) // completing
		q.accept(1, shardOf(gone, 0))                                               // open
		q.accept(1, shardOf(kept, 1))
		must(c.leader().catalog().DeleteTopic(c.ctx(), &oncelogv1.DeleteTopicRequest{Name: "gone"}))
		c.leader().check(t)
		settle()
		c.shards.take()
		c.shards.play(nil)
		c.until("the first completes", func() bool { return p.outcome(1) == "COMMITTED" })
		for _, call := range c.shards.take() {
			for _, m := range call.markers {
				for _, pr := range m.GetProgress() {
					if pr.GetPartitionId() == gone.GetPartitions()[0].GetPartitionId() {
						t.Errorf("a marker names the deleted partition: %v", m)
					}
				}
			}
		}
		_, err := q.end(1, true, wrote(gone, 0, 1), wrote(kept, 1, 1))
		wantCode(t, err, "INVALID_TXN")
		// The other partitions are kept: the shards that hold data are named.
		q.mustEnd(1, true, wrote(kept, 0, 1), wrote(kept, 1, 1))
		_, err = c.leader().catalog().DeleteTopic(c.ctx(), &oncelogv1.DeleteTopicRequest{Name: "gone"})
		wantEqual(t, "topic", wantCode(t, err, "UNKNOWN_TOPIC")["topic"], "gone")
		c.leader().check(t)
	})
}

func TestListTopicsPages(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		for _, name := range []string{"c", "a", "e", "b", "d"} {
			c.topic(name, 1, 1)
		}
		var names []string
		token := ""
		for range 3 {
			page := must(c.leader().catalog().ListTopics(c.ctx(), &oncelogv1.ListTopicsRequest{PageSize: 2, PageToken: token}))
			for _, topic := range page.GetTopics() {
				names = append(names, topic.GetName())
				wantEqual(t, "partitions in a list", len(topic.GetPartitions()), 0)
			}
			token = page.GetNextPageToken()
		}
		wantEqual(t, "names", names, []string{"a", "b", "c", "d", "e"})
		wantEqual(t, "token of the last page", token, "")
	})
}

func TestDescribeClusterCountsWork(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(2)
		topic := c.topic("t", 2, 1)
		p, q := c.producer("p"), c.producer2("q")
		c.shards.play(silent)
		p.mustEnd(1, true, wrote(topic, 0, 1), wrote(topic, 1, 1))
		q.accept(1, shardOf(topic, 0))
		pass(DefaultNodeTimeout + time.Second)
		_, err := c.leader().cluster().Heartbeat(c.ctx(), &oncelogv1.HeartbeatRequest{NodeId: 2, InstanceId: instance(2)})
		wantCode(t, err, "")
		d := must(c.leader().catalog().DescribeCluster(c.ctx(), &oncelogv1.DescribeClusterRequest{}))
		wantEqual(t, "open, owed", fmt.Sprint(d.GetOpenTransactions(), d.GetOwedMarkers()), "1 2")
		wantEqual(t, "topics, partitions", fmt.Sprint(d.GetTopicCount(), d.GetPartitionCount()), "1 2")
		wantEqual(t, "alive", fmt.Sprint(d.GetNodes()[0].GetAlive(), d.GetNodes()[1].GetAlive()), "false true")
		if d.GetNodes()[0].GetLastSeenMs() == 0 || d.GetCoordinatorLeader() != 1 || d.GetCoordinatorTerm() == 0 {
			t.Errorf("incomplete: %v", d)
		}
		st := must(oncelogv1.NewStatusServiceClient(c.leader().client).GetStatus(c.ctx(), &oncelogv1.GetStatusRequest{}))
		wantEqual(t, "committed", st.GetCounters().GetTransactionsCommitted(), 1)
	})
}
