package coordinator

import (
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// producer2 is a further InitProducer that does not wait.
func (c *cluster) producer2(id string) *producer {
	c.t.Helper()
	res, err := c.leader().txns().InitProducer(c.ctx(), &oncelogv1.InitProducerRequest{TransactionalId: id, NoWait: true})
	wantCode(c.t, err, "")
	return &producer{c: c, id: id, pid: res.GetProducerId(), epoch: res.GetEpoch(), token: res.GetProducerToken()}
}

func TestInitProducerTellsWhoItIsAndWhatWasBefore(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		txns := c.leader().txns()
		first, err := txns.InitProducer(c.ctx(), &oncelogv1.InitProducerRequest{TransactionalId: "app", ClientId: "cli"})
		wantCode(t, err, "")
		if first.GetPrevious() != nil || first.GetEpoch() != 0 || first.GetTimeoutMs() != 60_000 {
			t.Fatalf("first: %v", first)
		}
		p := &producer{c: c, pid: first.GetProducerId(), token: first.GetProducerToken()}
		p.mustEnd(3, true)
		second, err := txns.InitProducer(c.ctx(), &oncelogv1.InitProducerRequest{TransactionalId: "app", TimeoutMs: 100})
		wantCode(t, err, "")
		wantEqual(t, "epoch", second.GetEpoch(), 1)
		wantEqual(t, "timeout", second.GetTimeoutMs(), 100)
		wantEqual(t, "previous", second.GetPrevious().GetTxn().GetTxnNumber(), 3)
		wantEqual(t, "outcome", second.GetPrevious().GetOutcome(), oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED)
		if !c.leader().c.keys.Check(second.GetProducerToken(), p.pid, 1) || c.leader().c.keys.Check(second.GetProducerToken(), p.pid, 0) {
			t.Fatal("the token does not prove the new epoch alone")
		}
	})
}

func TestInitProducerWaitsForTheShardsOfEarlierTransactions(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		p := c.producer("app")
		p.accept(1, shardOf(topic, 0))
		c.shards.play(unreachable)
		request := func(noWait bool) *oncelogv1.InitProducerRequest {
			return &oncelogv1.InitProducerRequest{TransactionalId: "app", NoWait: noWait}
		}
		txns := c.leader().txns()

		began := time.Now()
		res, err := txns.InitProducer(c.ctx(), request(true))
		wantCode(t, err, "")
		wantEqual(t, "incomplete without a wait", res.GetIncompleteShards(), []uint64{2})
		wantEqual(t, "time taken", time.Since(began), time.Duration(0))
		wantEqual(t, "previous", res.GetPrevious().GetReason(), oncelogv1.AbortReason_ABORT_REASON_FENCED)

		res, err = txns.InitProducer(c.ctxFor(time.Second), request(false))
		wantCode(t, err, "")
		wantEqual(t, "incomplete at the deadline", res.GetIncompleteShards(), []uint64{2})
		wantEqual(t, "time taken", time.Since(began), time.Second-deadlineMargin)

		done := make(chan *oncelogv1.InitProducerResponse, 1)
		go func() {
			res, err := txns.InitProducer(c.ctx(), request(false))
			if err != nil {
				t.Error(err)
			}
			done <- res
		}()
		pass(5 * time.Second)
		if len(done) > 0 {
			t.Fatal("answered before the shard applied the marker")
		}
		c.shards.play(nil)
		res = <-done
		wantEqual(t, "incomplete after the wait", len(res.GetIncompleteShards()), 0)
		wantEqual(t, "epoch", res.GetEpoch(), 3)
		_, err = p.end(1, true, wrote(topic, 0, 1))
		meta := wantCode(t, err, "CONFLICT")
		wantEqual(t, "conflict", meta["outcome"]+" "+meta["reason"], "ABORTED FENCED")
	})
}

func TestRepeatedInitProducerFencesNobody(t *testing.T) {
	inBubble(t, 3, nil, func(t *testing.T, c *cluster) {
		request := &oncelogv1.InitProducerRequest{TransactionalId: "app", RequestId: "r1"}
		first := must(c.leader().txns().InitProducer(c.ctx(), request))
		c.moveLeader()
		again := must(c.leader().txns().InitProducer(c.ctx(), request))
		wantEqual(t, "epoch", again.GetEpoch(), first.GetEpoch())
		next := must(c.leader().txns().InitProducer(c.ctx(), &oncelogv1.InitProducerRequest{TransactionalId: "app", RequestId: "r2"}))
		wantEqual(t, "epoch", next.GetEpoch(), first.GetEpoch()+1)
		_, err := c.leader().txns().InitProducer(c.ctx(), request)
		wantEqual(t, "epoch", wantCode(t, err, "FENCED")["current_epoch"], next.GetEpoch())
	})
}

func TestTransactionsExpireAndTheProducerGoesOn(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		p := c.producer("app") // timeout 10 s
		pass(DefaultExpireGrace)
		p.accept(1, shardOf(topic, 0))
		pass(9 * time.Second)
		wantEqual(t, "before the deadline", p.outcome(1), "OPEN")
		pass(time.Second + 2*time.Millisecond)
		wantEqual(t, "markers", told(c.shards.take()), []string{"2 1/0/1 ABORT:TIMEOUT"})
		_, err := p.end(1, true, wrote(topic, 0, 1))
		meta := wantCode(t, err, "CONFLICT")
		wantEqual(t, "conflict", meta["outcome"]+" "+meta["reason"], "ABORTED TIMEOUT")
		p.mustEnd(2, true, wrote(topic, 0, 1)) // the same epoch
	})
}

func TestTheTimeoutCountsFromWhenTheShardOpenedIt(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		p := c.producer("app")
		pass(DefaultExpireGrace)
		p.enlist(1, shardOf(topic, 0), 9_000)
		pass(1_002 * time.Millisecond)
		wantEqual(t, "outcome", p.outcome(1)[:len("ABORTED TIMEOUT")], "ABORTED TIMEOUT")
	})
}

func TestNothingExpiresRightAfterAChangeOfLeader(t *testing.T) {
	inBubble(t, 3, nil, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		p := c.producer("app")
		pass(DefaultExpireGrace)
		p.accept(1, shardOf(topic, 0))
		pass(9 * time.Second)
		c.moveLeader()
		moved := time.Now()
		pass(4 * time.Second) // the deadline has passed
		wantEqual(t, "in the grace period", p.outcome(1), "OPEN")
		c.until("the transaction expires", func() bool { return p.outcome(1)[:4] != "OPEN" })
		if d := time.Since(moved); d > DefaultExpireGrace+time.Second {
			t.Fatalf("expired only after %v", d)
		}
	})
}

func TestIdleTransactionalIDsAreForgotten(t *testing.T) {
	inBubble(t, 1, func(cfg *Config) { cfg.IDExpiration = 90 * time.Second }, func(t *testing.T, c *cluster) {
		p := c.producer("app")
		p.mustEnd(1, true)
		pass(time.Minute)
		p.mustEnd(2, true)
		pass(time.Minute + time.Second)
		wantEqual(t, "used lately", p.outcome(2), "COMMITTED")
		pass(time.Minute)
		wantEqual(t, "idle", p.outcome(2), "INVALID")
		res := must(c.leader().cluster().CheckProducers(c.ctx(), &oncelogv1.CheckProducersRequest{ProducerIds: []uint64{p.pid}}))
		wantEqual(t, "gone", res.GetGone(), []uint64{p.pid})
	})
}
