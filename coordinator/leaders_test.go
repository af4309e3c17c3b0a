package coordinator

import (
	"context"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/raftstore"
)

// refuseAll calls everything that only a leader answers.
func refuseAll(ctx context.Context, m *member) (client, peer map[string]error) {
	client, peer = map[string]error{}, map[string]error{}
	ref := &oncelogv1.TxnRef{ProducerId: 1, TxnNumber: 1}
	note := func(into map[string]error, name string) func(any, error) {
		return func(_ any, err error) { into[name] = err }
	}
	t, g, cat, n := m.txns(), m.groups(), m.catalog(), m.cluster()
	note(client, "InitProducer")(any2(t.InitProducer(ctx, &oncelogv1.InitProducerRequest{TransactionalId: "x"})))
	note(client, "InitProducer without id")(any2(t.InitProducer(ctx, &oncelogv1.InitProducerRequest{})))
	note(client, "EndTransaction")(any2(t.EndTransaction(ctx, &oncelogv1.EndTransactionRequest{Txn: ref})))
	note(client, "GetOutcome")(any2(t.GetOutcome(ctx, &oncelogv1.GetOutcomeRequest{Txn: ref})))
	note(client, "ListTransactions")(any2(t.ListTransactions(ctx, &oncelogv1.ListTransactionsRequest{})))
	note(client, "DescribeTransaction")(any2(t.DescribeTransaction(ctx, &oncelogv1.DescribeTransactionRequest{TransactionalId: "x"})))
	note(client, "AbortTransaction")(any2(t.AbortTransaction(ctx, &oncelogv1.AbortTransactionRequest{TransactionalId: "x"})))
	note(client, "FenceProducer")(any2(t.FenceProducer(ctx, &oncelogv1.FenceProducerRequest{TransactionalId: "x"})))
	note(client, "DeleteTransactionalId")(any2(t.DeleteTransactionalId(ctx, &oncelogv1.DeleteTransactionalIdRequest{TransactionalId: "x"})))
	note(client, "AssignPartitions")(any2(g.AssignPartitions(ctx, &oncelogv1.AssignPartitionsRequest{GroupId: "g", MemberId: "m"})))
	note(client, "AssignPartitions of a partition that is not known")(any2(g.AssignPartitions(ctx, &oncelogv1.AssignPartitionsRequest{
		GroupId: "g", MemberId: "m", Partitions: []*oncelogv1.PartitionRef{{PartitionId: 99}},
	})))
	note(client, "GroupHeartbeat")(any2(g.GroupHeartbeat(ctx, &oncelogv1.GroupHeartbeatRequest{GroupId: "g", MemberId: "m"})))
	note(client, "LeaveGroup")(any2(g.LeaveGroup(ctx, &oncelogv1.LeaveGroupRequest{GroupId: "g", MemberId: "m"})))
	note(client, "CommitOffsets")(any2(g.CommitOffsets(ctx, &oncelogv1.CommitOffsetsRequest{Offsets: &oncelogv1.GroupOffsets{GroupId: "g"}})))
	note(client, "FetchOffsets")(any2(g.FetchOffsets(ctx, &oncelogv1.FetchOffsetsRequest{GroupId: "g"})))
	note(client, "ListGroups")(any2(g.ListGroups(ctx, &oncelogv1.ListGroupsRequest{})))
	note(client, "DescribeGroup")(any2(g.DescribeGroup(ctx, &oncelogv1.DescribeGroupRequest{GroupId: "g"})))
	note(client, "DeleteGroup")(any2(g.DeleteGroup(ctx, &oncelogv1.DeleteGroupRequest{GroupId: "g"})))
	note(client, "CreateTopic")(any2(cat.CreateTopic(ctx, &oncelogv1.CreateTopicRequest{Name: "x"})))
	note(client, "DeleteTopic")(any2(cat.DeleteTopic(ctx, &oncelogv1.DeleteTopicRequest{Name: "x"})))
	note(client, "DescribeCluster")(any2(cat.DescribeCluster(ctx, &oncelogv1.DescribeClusterRequest{})))
	note(peer, "RegisterNode")(any2(n.RegisterNode(ctx, &oncelogv1.RegisterNodeRequest{
		NodeId: 1, InstanceId: "i", ClientAddress: "a:1", PeerAddress: "a:2",
	})))
	note(peer, "Heartbeat")(any2(n.Heartbeat(ctx, &oncelogv1.HeartbeatRequest{NodeId: 1})))
	note(peer, "Enlist")(any2(n.Enlist(ctx, &oncelogv1.EnlistRequest{Enlistments: []*oncelogv1.Enlistment{{Txn: ref, ShardId: 2}}})))
	note(peer, "CheckProducers")(any2(n.CheckProducers(ctx, &oncelogv1.CheckProducersRequest{})))
	return client, peer
}

func any2[R any](res R, err error) (any, error) { return res, err }

func TestFollowersNameTheLeader(t *testing.T) {
	inBubble(t, 3, nil, func(t *testing.T, c *cluster) {
		leader, follower := c.leader(), c.follower()
		// It learns with the next heartbeat what is committed.
		c.until("the follower has applied what the leader has", func() bool {
			return follower.c.group.Status().Applied == leader.c.group.Status().Applied
		})
		before := follower.snapshot(t)
		client, peer := refuseAll(c.ctx(), follower)
		check := func(name string, err error, address string) {
			t.Helper()
			meta := wantCode(t, err, "NOT_LEADER")
			wantEqual(t, name+": leader", meta["leader_node"]+" "+meta["leader_address"], string('0'+rune(leader.id))+" "+address)
			wantEqual(t, name+": term", meta["term"], leader.term())
		}
		for name, err := range client {
			check(name, err, clientAddress(leader.id))
		}
		for name, err := range peer {
			check(name, err, peerAddress(leader.id))
		}
		wantEqual(t, "state", string(follower.snapshot(t)) == string(before), true)
		// What everybody answers.
		meta := must(follower.catalog().GetMetadata(c.ctx(), &oncelogv1.GetMetadataRequest{}))
		wantEqual(t, "coordinator_leader", meta.GetCoordinatorLeader(), leader.id)
		wantEqual(t, "coordinators", len(meta.GetCoordinators()), 3)
		must(follower.catalog().ListTopics(c.ctx(), &oncelogv1.ListTopicsRequest{}))
		st := must(oncelogv1.NewStatusServiceClient(follower.client).GetStatus(c.ctx(), &oncelogv1.GetStatusRequest{}))
		wantEqual(t, "group", st.GetGroups()[0].GetGroupId(), 1)
		wantEqual(t, "ready", st.GetGroups()[0].GetReady(), false)
		wantEqual(t, "leader", st.GetGroups()[0].GetLeader(), leader.id)
		wantEqual(t, "cluster", st.GetClusterId() != "" && st.GetClusterId() == meta.GetClusterId(), true)
	})
}

// TestALonelyCoordinatorSaysSo: without a majority there is no leader to name.
func TestALonelyCoordinatorSaysSo(t *testing.T) {
	inBubble(t, 3, nil, func(t *testing.T, c *cluster) {
		lonely := c.leader()
		c.net.Isolate(raftstore.NodeID(lonely.id), true)
		pass(10 * time.Second)
		client, peer := refuseAll(c.ctx(), lonely)
		for name, err := range client {
			if meta := wantCode(t, err, "NOT_LEADER"); meta["leader_address"] != "" {
				t.Errorf("%s names the leader %s", name, meta["leader_address"])
			}
		}
		for _, err := range peer {
			wantCode(t, err, "NOT_LEADER")
		}
	})
}

// TestADeposedLeaderAnswersNothingFromMemory: it does not know yet that it is
// deposed; what it remembers must not be told.
func TestADeposedLeaderAnswersNothingFromMemory(t *testing.T) {
	inBubble(t, 3, nil, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		p := c.producer("app")
		old := c.leader()
		c.net.Isolate(raftstore.NodeID(old.id), true)
		if !old.c.group.Status().Ready {
			t.Fatal("it should not know yet")
		}
		ctx := c.ctx()
		answers := make(chan error, 4)
		go func() {
			_, err := old.cluster().Enlist(ctx, &oncelogv1.EnlistRequest{Enlistments: []*oncelogv1.Enlistment{
				{Txn: &oncelogv1.TxnRef{ProducerId: p.pid + 1, TxnNumber: 1}, ShardId: 2, OpenedAt: 1},
			}})
			answers <- err
		}()
		go func() {
			_, err := old.txns().GetOutcome(ctx, &oncelogv1.GetOutcomeRequest{Txn: p.ref(1)})
			answers <- err
		}()
		go func() {
			_, err := old.groups().FetchOffsets(ctx, &oncelogv1.FetchOffsetsRequest{GroupId: "g"})
			answers <- err
		}()
		go func() {
			_, err := old.txns().EndTransaction(ctx, p.request(1, true, wrote(topic, 0, 1)))
			answers <- err
		}()
		for range 4 {
			err := <-answers
			if err == nil {
				t.Fatal("a deposed leader answered")
			}
		}
		c.net.Isolate(raftstore.NodeID(old.id), false)
		c.until("there is one leader", func() bool { return c.leader() != old || old.c.group.Status().Ready })
		c.report(1)
		p.mustEnd(1, true, wrote(topic, 0, 1)) // whatever became of the first
	})
}

// waiters starts one call of every kind that waits for something.
func (c *cluster) waiters(topic *oncelogv1.Topic, p *producer) map[string]chan error {
	leader, ctx := c.leader(), c.ctx()
	s := c.subscriber("m")
	s.join("t")
	beat := s.request()
	beat.MaxWaitMs = 5000
	calls := map[string]func() error{
		"EndTransaction": func() error {
			req := p.request(1, true, wrote(topic, 0, 1))
			req.WaitApplied = true
			_, err := leader.txns().EndTransaction(ctx, req)
			return err
		},
		"DeleteTransactionalId": func() error {
			_, err := leader.txns().DeleteTransactionalId(ctx, &oncelogv1.DeleteTransactionalIdRequest{TransactionalId: p.id})
			return err
		},
		"AbortTransaction": func() error {
			_, err := leader.txns().AbortTransaction(ctx, &oncelogv1.AbortTransactionRequest{
				TransactionalId: p.id, Txn: p.ref(2), WaitApplied: true,
			})
			return err
		},
		"GroupHeartbeat": func() error {
			_, err := leader.groups().GroupHeartbeat(ctx, beat)
			return err
		},
		"Heartbeat": func() error {
			_, err := leader.cluster().Heartbeat(ctx, &oncelogv1.HeartbeatRequest{
				NodeId: 1, InstanceId: instance(1), KnownVersion: 1 << 40, WaitMs: 5000,
			})
			return err
		},
	}
	out := map[string]chan error{}
	for name, call := range calls {
		done := make(chan error, 1)
		out[name] = done
		go func() { done <- call() }()
	}
	return out
}

// waiting prepares what waiters wait for.
func (c *cluster) waiting() (*oncelogv1.Topic, *producer) {
	c.register(1)
	topic := c.topic("t", 1, 1)
	p := c.producer("app")
	c.shards.play(silent)
	p.mustEnd(1, true, wrote(topic, 0, 1))
	p.accept(2, shardOf(topic, 0))
	return topic, p
}

func TestWaitsEndWhenTheLeaderIsDeposed(t *testing.T) {
	inBubble(t, 3, nil, func(t *testing.T, c *cluster) {
		topic, p := c.waiting()
		waits := c.waiters(topic, p)
		create := make(chan *oncelogv1.CreateTopicResponse, 1)
		old := c.leader()
		go func() {
			create <- must(old.catalog().CreateTopic(c.ctx(), &oncelogv1.CreateTopicRequest{Name: "n"}))
		}()
		init := make(chan *oncelogv1.InitProducerResponse, 1)
		q := c.producer("other")
		q.mustEnd(1, true, wrote(topic, 0, 1))
		go func() {
			init <- must(old.txns().InitProducer(c.ctx(), &oncelogv1.InitProducerRequest{TransactionalId: "other"}))
		}()
		settle()
		began := time.Now()
		next := c.moveLeader()
		for name, done := range waits {
			meta := wantCode(t, <-done, "NOT_LEADER")
			want := clientAddress(next.id)
			if name == "Heartbeat" {
				want = peerAddress(next.id)
			}
			if a := meta["leader_address"]; a != want && a != "" {
				t.Errorf("%s: leader %s, want %s", name, a, want)
			}
		}
		// What is durable is answered as far as it is known.
		wantEqual(t, "ready", (<-create).GetReady(), false)
		res := <-init
		wantEqual(t, "epoch", res.GetEpoch(), 1)
		wantEqual(t, "incomplete", res.GetIncompleteShards(), []uint64{2})
		if d := time.Since(began); d > time.Second {
			t.Fatalf("the waits ended only after %v", d)
		}
	})
}

func TestCloseEndsAllWaits(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		topic, p := c.waiting()
		waits := c.waiters(topic, p)
		settle()
		m := c.leader()
		began := time.Now()
		m.c.Close()
		for _, done := range waits {
			wantCode(t, <-done, "UNAVAILABLE")
		}
		wantEqual(t, "time", time.Since(began), time.Duration(0))
		wantEqual(t, "connections closed", c.shards.closed, []string{nodeAddress(1)})
		m.c.Close() // twice is no error
	})
}

func TestRequestsAfterTheStoreClosed(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		m := c.leader()
		m.c.Close()
		if err := m.store.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		client, peer := refuseAll(c.ctx(), m)
		for _, errs := range []map[string]error{client, peer} {
			for name, err := range errs {
				switch code := codeName(err); code {
				case "NOT_LEADER", "UNAVAILABLE":
				default:
					t.Errorf("%s: %s", name, code)
				}
			}
		}
		m.c = nil
	})
}

// TestARestartKeepsEverything: a coordinator that comes back has what it had.
func TestARestartKeepsEverything(t *testing.T) {
	inBubble(t, 1, func(cfg *Config) { cfg.SnapshotEntries = 5 }, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		p := c.producer("app")
		p.mustEnd(1, true, wrote(topic, 0, 1))
		c.until("the transaction completes", func() bool { return p.outcome(1) == "COMMITTED" })
		c.shards.play(silent)
		p.mustEnd(2, true, wrote(topic, 0, 1))
		m := c.leader()
		before := m.snapshot(t)
		c.stop(m)
		c.start(m)
		c.leader()
		wantEqual(t, "state", string(m.snapshot(t)) == string(before), true)
		c.shards.play(nil)
		c.shards.take()
		c.report(2)
		p.mustEnd(1, true, wrote(topic, 0, 1)) // the token holds
		c.until("the second completes", func() bool { return p.outcome(2) == "COMMITTED" })
		wantEqual(t, "markers", told(c.shards.take()), []string{"2 1/0/2 COMMIT"})
	})
}

func TestNewChecksItsConfiguration(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{NodeID: 1, Members: []Member{{ID: 2}}}); err == nil {
		t.Error("a node that is no member")
	}
	if _, err := New(Config{NodeID: 1, Members: []Member{{ID: 1}}}); err == nil {
		t.Error("no store")
	}
}
