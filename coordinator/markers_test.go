package coordinator

import (
	"context"
	"strings"
	"testing"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/txn"
	"github.com/oncelog/oncelog/raftstore"
)

func TestMarkersAreSentUntilTheyAreAnswered(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		p := c.producer("app")
		c.shards.play(unreachable)
		p.mustEnd(1, true, wrote(topic, 0, 1))
		pass(time.Minute)
		tries := len(c.shards.take())
		if tries < 60 || tries > 80 {
			t.Fatalf("%d tries in a minute", tries)
		}
		c.shards.play(silent)
		pass(10 * time.Second)
		if tries := len(c.shards.take()); tries < 3 || tries > 6 {
			t.Fatalf("%d tries in 10 s at a shard that does not answer", tries)
		}
		wantEqual(t, "outcome", p.outcome(1), "COMMITTED pending [2]")
		c.shards.play(nil)
		c.until("the marker is applied", func() bool { return p.outcome(1) == "COMMITTED" })
		c.leader().check(t)
	})
}

func TestLostAnswersAreAskedForAgain(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		p := c.producer("app")
		lost := 0
		c.shards.play(func(_ context.Context, call shardCall) (*oncelogv1.ShardMarkerResults, error) {
			if lost++; lost <= 3 {
				return nil, errUnreachable // applied, but nobody hears of it
			}
			return answerWith(oncelogv1.MarkerResult_MARKER_RESULT_ALREADY)(context.Background(), call)
		})
		p.mustEnd(1, false, wrote(topic, 0, 1))
		c.until("the marker is acknowledged", func() bool { return p.outcome(1) == "ABORTED CLIENT" })
		wantEqual(t, "requests", len(c.shards.take()), 4)
	})
}

func TestANewLeaderOwesWhatTheOldOneDid(t *testing.T) {
	inBubble(t, 3, nil, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		p := c.producer("app")
		c.shards.play(silent)
		p.mustEnd(1, true, wrote(topic, 0, 2))
		p.mustEnd(2, false, wrote(topic, 0, 2))
		old := c.leader()
		c.moveLeader()
		settle()
		c.shards.take()
		c.shards.play(nil)
		pass(10 * time.Second)
		wantEqual(t, "requests before a shard's leader is known", len(c.shards.take()), 0)
		c.report(1)
		c.until("the markers are applied", func() bool { return p.outcome(2) == "ABORTED CLIENT" })
		wantEqual(t, "outcome", p.outcome(1), "COMMITTED")
		wantEqual(t, "markers", told(c.shards.take()), []string{"2 1/0/1 COMMIT", "2 1/0/2 ABORT:CLIENT"})
		c.until("the old leader has applied it all", func() bool {
			return string(old.snapshot(t)) == string(c.leader().snapshot(t))
		})
	})
}

func TestMarkersFollowTheLeaderOfAShard(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(3)
		topic := c.topic("t", 1, 3) // shard 2 on 1, 2, 3, led by 1
		p := c.producer("app")
		c.shards.play(func(ctx context.Context, call shardCall) (*oncelogv1.ShardMarkerResults, error) {
			if call.address == nodeAddress(1) {
				return refusing(apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER, "",
					apierrors.KeyLeaderNode, "3", apierrors.KeyTerm, "2"))(ctx, call)
			}
			return answerWith(oncelogv1.MarkerResult_MARKER_RESULT_APPLIED)(ctx, call)
		})
		p.mustEnd(1, true, wrote(topic, 0, 1))
		settle() // no time has to pass: the hint says where to go
		calls := c.shards.take()
		wantEqual(t, "requests", len(calls), 2)
		wantEqual(t, "second request", calls[1].address, nodeAddress(3))
		pass(DefaultAckDelay)
		wantEqual(t, "outcome", p.outcome(1), "COMMITTED")
	})
}

func TestNewsOfALeaderEndsARequestToTheOldOne(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(3)
		topic := c.topic("t", 1, 3)
		p := c.producer("app")
		c.shards.play(func(ctx context.Context, call shardCall) (*oncelogv1.ShardMarkerResults, error) {
			if call.address == nodeAddress(1) {
				return silent(ctx, call)
			}
			return answerWith(oncelogv1.MarkerResult_MARKER_RESULT_APPLIED)(ctx, call)
		})
		p.mustEnd(1, true, wrote(topic, 0, 1))
		settle()
		wantEqual(t, "requests", len(c.shards.take()), 1)
		_, err := c.leader().cluster().Heartbeat(c.ctx(), &oncelogv1.HeartbeatRequest{
			NodeId: 2, InstanceId: instance(2), Shards: []*oncelogv1.ShardReport{{ShardId: 2, Leader: 2, Term: 2, Ready: true}},
		})
		wantCode(t, err, "")
		settle()
		calls := c.shards.take()
		wantEqual(t, "requests", len(calls), 1)
		wantEqual(t, "address", calls[0].address, nodeAddress(2))
	})
}

func TestOneShardInTroubleHoldsUpNoOther(t *testing.T) {
	for name, script := range map[string]shardScript{
		"silent":       silent,
		"unreachable":  unreachable,
		"no results":   answerWithShard(2, nil),
		"other shard":  answerWithShard(9, []oncelogv1.MarkerResult{oncelogv1.MarkerResult_MARKER_RESULT_APPLIED}),
		"unspecified":  answerWith(oncelogv1.MarkerResult_MARKER_RESULT_UNSPECIFIED),
		"from a later": answerWith(oncelogv1.MarkerResult(99)),
		"an error":     refusing(apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_OVERLOADED, "")),
		"bad hint": refusing(apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER, "",
			apierrors.KeyLeaderNode, "x", apierrors.KeyTerm, "-1")),
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, c *cluster) {
				c.register(2)
				topic := c.topic("t", 2, 2)
				p := c.producer("app")
				c.shards.play(func(ctx context.Context, call shardCall) (*oncelogv1.ShardMarkerResults, error) {
					if call.shard == 2 {
						return script(ctx, call)
					}
					return answerWith(oncelogv1.MarkerResult_MARKER_RESULT_APPLIED)(ctx, call)
				})
				p.mustEnd(1, true, wrote(topic, 0, 1), wrote(topic, 1, 1))
				p.mustEnd(2, true, wrote(topic, 1, 1))
				pass(20 * time.Second)
				wantEqual(t, "outcome", p.outcome(1), "COMMITTED pending [2]")
				wantEqual(t, "outcome", p.outcome(2), "COMMITTED")
				if tries := len(c.shards.take()); tries > 60 {
					t.Fatalf("%d requests in 20 s", tries)
				}
				c.shards.play(nil)
				c.until("the shard heals", func() bool { return p.outcome(1) == "COMMITTED" })
			})
		})
	}
}

func answerWithShard(shard uint64, results []oncelogv1.MarkerResult) shardScript {
	return func(context.Context, shardCall) (*oncelogv1.ShardMarkerResults, error) {
		return &oncelogv1.ShardMarkerResults{ShardId: shard, Results: results}, nil
	}
}

// TestAResultThatIsNotKnownKeepsOnlyItsOwnMarker: the markers around it are
// acknowledged.
func TestAResultThatIsNotKnownKeepsOnlyItsOwnMarker(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		p := c.producer("app")
		c.shards.play(unreachable)
		for n := range uint64(3) {
			p.mustEnd(n+1, true, wrote(topic, 0, 1))
		}
		c.shards.play(func(_ context.Context, call shardCall) (*oncelogv1.ShardMarkerResults, error) {
			res := &oncelogv1.ShardMarkerResults{ShardId: call.shard}
			for _, m := range call.markers {
				r := oncelogv1.MarkerResult_MARKER_RESULT_APPLIED
				if m.GetTxn().GetTxnNumber() == 2 {
					r = 77
				}
				res.Results = append(res.Results, r)
			}
			return res, nil
		})
		pass(10 * time.Second)
		wantEqual(t, "outcome", p.outcome(1), "COMMITTED")
		wantEqual(t, "outcome", p.outcome(2), "COMMITTED pending [2]")
		wantEqual(t, "outcome", p.outcome(3), "COMMITTED")
	})
}

func TestDamageIsRemembered(t *testing.T) {
	for _, result := range []oncelogv1.MarkerResult{
		oncelogv1.MarkerResult_MARKER_RESULT_MISSING_DATA, oncelogv1.MarkerResult_MARKER_RESULT_CONFLICT,
	} {
		t.Run(result.String(), func(t *testing.T) {
			run(t, func(t *testing.T, c *cluster) {
				c.register(1)
				topic := c.topic("t", 1, 1)
				p := c.producer("app")
				c.shards.play(answerWith(result))
				p.mustEnd(1, true, wrote(topic, 0, 1))
				c.until("the transaction completes", func() bool { return p.outcome(1) == "COMMITTED damaged" })
				d := must(c.leader().txns().DescribeTransaction(c.ctx(), &oncelogv1.DescribeTransactionRequest{ProducerId: p.pid}))
				wantEqual(t, "damaged", d.GetOutcomes()[0].GetDamaged(), true)
			})
		})
	}
}

func TestAcknowledgementsShareLogEntries(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		var producers []*producer
		for _, id := range strings.Split("abcdefghij", "") {
			producers = append(producers, c.producer(id))
		}
		c.shards.play(silent)
		for _, p := range producers {
			p.mustEnd(1, true, wrote(topic, 0, 1))
		}
		before := c.leader().c.group.Status().LastIndex
		c.shards.play(nil)
		for _, p := range producers {
			c.until("the transaction completes", func() bool { return p.outcome(1) == "COMMITTED" })
		}
		// The first request had one marker, the next all the others.
		if entries := c.leader().c.group.Status().LastIndex - before; entries > 2 {
			t.Fatalf("%d log entries for the acknowledgements of 10 transactions", entries)
		}
	})
}

// TestAcknowledgementsOutliveALogThatDoesNotTakeThem: their markers are not
// sent again meanwhile.
func TestAcknowledgementsOutliveALogThatDoesNotTakeThem(t *testing.T) {
	inBubble(t, 3, nil, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		p := c.producer("app")
		release := make(chan struct{})
		c.shards.play(func(ctx context.Context, call shardCall) (*oncelogv1.ShardMarkerResults, error) {
			<-release
			return answerWith(oncelogv1.MarkerResult_MARKER_RESULT_APPLIED)(ctx, call)
		})
		p.mustEnd(1, true, wrote(topic, 0, 1))
		settle()
		leader := c.leader()
		for _, m := range c.nodes {
			if m != leader {
				c.net.Cut(raftstore.NodeID(leader.id), raftstore.NodeID(m.id), true)
			}
		}
		close(release)
		pass(200 * time.Millisecond) // less than it takes to notice
		wantEqual(t, "requests", len(c.shards.take()), 1)
		for _, m := range c.nodes {
			c.net.Cut(raftstore.NodeID(leader.id), raftstore.NodeID(m.id), false)
		}
		c.until("the transaction completes", func() bool {
			c.report(1)
			return p.outcome(1) == "COMMITTED"
		})
	})
}

func TestAnAddressThatChangedIsDialledAnew(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		p := c.producer("app")
		p.mustEnd(1, true, wrote(topic, 0, 1))
		settle()
		_, err := c.leader().cluster().RegisterNode(c.ctx(), &oncelogv1.RegisterNodeRequest{
			NodeId: 1, InstanceId: instance(1), ClientAddress: "x:0", PeerAddress: "x:1",
		})
		wantCode(t, err, "")
		p.mustEnd(2, true, wrote(topic, 0, 1))
		settle()
		calls := c.shards.take()
		wantEqual(t, "address", calls[len(calls)-1].address, "x:1")
		wantEqual(t, "closed", c.shards.closed, []string{nodeAddress(1)})
	})
}

// TestABatchIsBounded: a shard that was away for long gets its markers in
// pieces, each once.
func TestABatchIsBounded(t *testing.T) {
	inBubble(t, 1, func(cfg *Config) { cfg.Txn.MaxUnfinished = 4096 }, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		p := c.producer("app")
		c.shards.play(unreachable)
		// Straight into the log: this is about the sender.
		for n := range uint64(markerBatch + 10) {
			_, err := proposeTxn[endResult](c.ctx(), c.leader().c, txn.EndTransaction{
				Ref: txn.Ref{ProducerID: p.pid, Number: n + 1}, Participants: []txn.Participant{{Shard: shardOf(topic, 0)}},
			})
			wantCode(t, err, "")
		}
		c.shards.play(nil)
		c.shards.take()
		c.until("all complete", func() bool { return p.outcome(markerBatch+10) == "ABORTED CLIENT" })
		sizes := []int{}
		for _, call := range c.shards.take() {
			sizes = append(sizes, len(call.markers))
		}
		wantEqual(t, "batches", sizes, []int{markerBatch, 10})
	})
}

// TestAcknowledgementsAreKeptWhileTheLogRefusesThem: they are proposed again,
// at a pace, and their markers are not sent again.
func TestAcknowledgementsAreKeptWhileTheLogRefusesThem(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		p := c.producer("app")
		m := c.leader()
		release := make(chan struct{})
		c.shards.play(func(ctx context.Context, call shardCall) (*oncelogv1.ShardMarkerResults, error) {
			<-release
			return answerWith(oncelogv1.MarkerResult_MARKER_RESULT_APPLIED)(ctx, call)
		})
		p.mustEnd(1, true, wrote(topic, 0, 1))
		m.log.full.Store(true)
		c.until("the disk is seen to be full", func() bool {
			_, err := p.end(2, true)
			return codeName(err) == "OVERLOADED"
		})
		proposals := m.store.Metrics().Proposals
		close(release)
		pass(10 * time.Second)
		if n := m.store.Metrics().Proposals - proposals; n < 50 || n > 110 {
			t.Fatalf("%d proposals in 10 s", n)
		}
		wantEqual(t, "outcome", p.outcome(1), "COMMITTED pending [2]")
		m.log.full.Store(false)
		c.until("the transaction completes", func() bool { return p.outcome(1) == "COMMITTED" })
		for i, call := range c.shards.take() {
			if i > 0 && call.markers[0].GetTxn().GetTxnNumber() == 1 {
				t.Errorf("request %d repeats an answered marker", i)
			}
		}
	})
}

// TestAcknowledgementsHurryWhenSomebodyWaits: for them and not for company.
func TestAcknowledgementsHurryWhenSomebodyWaits(t *testing.T) {
	inBubble(t, 1, func(cfg *Config) { cfg.AckDelay = time.Minute }, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		p := c.producer("app")
		began := time.Now()
		waitFor := func(number uint64) {
			t.Helper()
			req := p.request(number, true, wrote(topic, 0, 1))
			req.WaitApplied = true
			must(c.leader().txns().EndTransaction(c.ctx(), req))
			wantEqual(t, "outcome", p.outcome(number), "COMMITTED")
		}
		waitFor(1)
		p.mustEnd(2, true, wrote(topic, 0, 1)) // answered before the wait begins
		settle()
		wantEqual(t, "outcome", p.outcome(2), "COMMITTED pending [2]")
		waitFor(2)
		if d := time.Since(began); d > 100*time.Millisecond { // two ticks of the store
			t.Fatalf("took %v", d)
		}
	})
}
