package coordinator

import (
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

func TestCommitReachesEveryShardAndCompletes(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(3)
		topic := c.topic("t", 3, 3)
		p := c.producer("app")
		p.mustEnd(1, true, wrote(topic, 0, 2), wrote(topic, 1, 1))
		settle()
		calls := c.shards.take()
		wantEqual(t, "markers", told(calls), []string{"2 1/0/1 COMMIT", "3 1/0/1 COMMIT"})
		for _, call := range calls {
			m := call.markers[0]
			wantEqual(t, "partitions of the marker", len(m.GetProgress()), 1)
			wantEqual(t, "complete below", m.GetCompleteBelow(), p.ref(1))
		}
		pass(DefaultAckDelay)
		wantEqual(t, "outcome", p.outcome(1), "COMMITTED")
		d, err := c.leader().txns().DescribeTransaction(c.ctx(), &oncelogv1.DescribeTransactionRequest{TransactionalId: "app"})
		wantCode(t, err, "")
		wantEqual(t, "completing", len(d.GetCompleting()), 0)
		wantEqual(t, "state", d.GetState(), oncelogv1.TransactionState_TRANSACTION_STATE_COMPLETE_COMMIT)
		pass(time.Minute)
		wantEqual(t, "markers after completion", len(c.shards.take()), 0)
		c.leader().check(t)
	})
}

func TestAbortNamesEveryShardThatMayHoldRecords(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(3)
		topic := c.topic("t", 3, 3)
		p := c.producer("app")
		p.accept(1, shardOf(topic, 2))
		p.mustEnd(1, false, wrote(topic, 0, 2))
		settle()
		wantEqual(t, "markers", told(c.shards.take()), []string{"2 1/0/1 ABORT:CLIENT", "4 1/0/1 ABORT:CLIENT"})
	})
}

func TestEmptyTransactionsEnd(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		p := c.producer("app")
		p.mustEnd(1, true)
		p.mustEnd(2, false)
		wantEqual(t, "outcome", p.outcome(1), "COMMITTED")
		wantEqual(t, "outcome", p.outcome(2), "ABORTED CLIENT")
	})
}

func TestRepeatedEndGetsTheFirstAnswer(t *testing.T) {
	inBubble(t, 3, nil, func(t *testing.T, c *cluster) {
		c.register(3)
		topic := c.topic("t", 1, 3)
		p := c.producer("app")
		parts := []*oncelogv1.PartitionProgress{wrote(topic, 0, 2)}
		p.mustEnd(1, true, parts...)
		p.mustEnd(1, true, parts...)
		p.mustEnd(2, false, parts...)

		c.moveLeader()
		p.mustEnd(1, true, parts...)
		p.mustEnd(2, false, parts...)
		_, err := p.end(1, false, parts...)
		meta := wantCode(t, err, "CONFLICT")
		wantEqual(t, "conflict", meta["outcome"]+meta["reason"], "COMMITTED")
		_, err = p.end(2, true, parts...)
		meta = wantCode(t, err, "CONFLICT")
		wantEqual(t, "conflict", meta["outcome"]+" "+meta["reason"], "ABORTED CLIENT")
	})
}

func TestRepeatedCommitAfterItsTopicWasDeleted(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		input := c.topic("in", 1, 1)
		p := c.producer("app")
		req := p.request(1, true,
			&oncelogv1.PartitionProgress{Partition: &oncelogv1.PartitionRef{Topic: "t"}, NextSequence: 3}, wrote(topic, 0, 3))
		req.Partitions = req.GetPartitions()[:1]
		req.Offsets = []*oncelogv1.GroupOffsets{{GroupId: "g", Offsets: []*oncelogv1.OffsetCommit{
			{Partition: &oncelogv1.PartitionRef{Topic: input.GetName()}, Offset: 5},
		}}}
		txns := c.leader().txns()
		_, err := txns.EndTransaction(c.ctx(), req)
		wantCode(t, err, "")
		for _, name := range []string{"t", "in"} {
			_, err = c.leader().catalog().DeleteTopic(c.ctx(), &oncelogv1.DeleteTopicRequest{Name: name})
			wantCode(t, err, "")
		}
		res, err := txns.EndTransaction(c.ctx(), req)
		wantCode(t, err, "")
		wantEqual(t, "outcome", res.GetOutcome(), oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED)

		// A commit that was not decided before cannot cover what is gone.
		req.Txn = p.ref(2)
		_, err = txns.EndTransaction(c.ctx(), req)
		meta := wantCode(t, err, "INVALID_TXN")
		wantEqual(t, "field", meta["field"], "partitions[0].partition")
		req.Partitions = nil
		_, err = txns.EndTransaction(c.ctx(), req)
		meta = wantCode(t, err, "UNKNOWN_TOPIC")
		wantEqual(t, "field", meta["field"], "offsets[0].offsets[0].partition")
		wantEqual(t, "outcome", p.outcome(2), "OPEN")
		// But it can be aborted.
		p.mustEnd(2, false, wrote(topic, 0, 3))
	})
}

func TestWaitAppliedWaitsForEveryShard(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(2)
		topic := c.topic("t", 2, 2)
		p := c.producer("app")
		c.shards.play(silent)
		req := p.request(1, true, wrote(topic, 0, 1), wrote(topic, 1, 1))
		req.WaitApplied = true
		txns := c.leader().txns()
		_, err := txns.EndTransaction(c.ctxFor(time.Second), req)
		wantCode(t, err, "DEADLINE")
		wantEqual(t, "outcome", p.outcome(1), "COMMITTED pending [2 3]")

		done := make(chan error, 1)
		go func() {
			_, err := txns.EndTransaction(c.ctx(), req)
			done <- err
		}()
		settle()
		c.shards.play(nil)
		wantCode(t, <-done, "")
		wantEqual(t, "outcome", p.outcome(1), "COMMITTED")
	})
}

func TestUnsettledSendsAreNotCommitted(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(2)
		topic := c.topic("t", 2, 2)
		p := c.producer("app")
		p.accept(1, shardOf(topic, 0))
		p.accept(1, shardOf(topic, 1))
		_, err := p.end(1, true, wrote(topic, 0, 1))
		wantEqual(t, "shards", wantCode(t, err, "UNSETTLED_SENDS")["shards"], shardOf(topic, 1))
		wantEqual(t, "outcome", p.outcome(1), "OPEN")
		wantEqual(t, "markers", len(c.shards.take()), 0)
	})
}

func TestTooManyUnfinishedTransactionsAreThrottled(t *testing.T) {
	inBubble(t, 1, func(cfg *Config) { cfg.Txn.MaxUnfinished = 2 }, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		p := c.producer("app")
		c.shards.play(unreachable)
		p.mustEnd(1, true, wrote(topic, 0, 1))
		p.mustEnd(2, true, wrote(topic, 0, 1))
		_, err := p.end(3, true, wrote(topic, 0, 1))
		wantCode(t, err, "THROTTLED")
		wantEqual(t, "enlist", p.enlist(3, shardOf(topic, 0), 0).GetVerdict(), oncelogv1.EnlistVerdict_ENLIST_VERDICT_THROTTLED)
		wantEqual(t, "outcome", p.outcome(3), "OPEN")
		c.shards.play(nil)
		c.until("the transactions complete", func() bool { return p.outcome(2) == "COMMITTED" })
		p.mustEnd(3, true, wrote(topic, 0, 1))
	})
}

func TestEndOfOthersTransactions(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		p := c.producer("app")
		q := c.producer("app")
		r := c.producer("other")
		_, err := p.end(1, true)
		wantEqual(t, "epoch", wantCode(t, err, "FENCED")["current_epoch"], 1)
		for what, req := range map[string]*oncelogv1.EndTransactionRequest{
			"no token":             {Txn: q.ref(1), Commit: true},
			"token of another id":  {Txn: q.ref(1), Commit: true, ProducerToken: r.token},
			"token of an epoch":    {Txn: q.ref(1), Commit: true, ProducerToken: p.token},
			"an epoch to come":     {Txn: &oncelogv1.TxnRef{ProducerId: q.pid, Epoch: 9, TxnNumber: 1}, ProducerToken: q.token},
			"a producer of nobody": {Txn: &oncelogv1.TxnRef{ProducerId: 99, TxnNumber: 1}, ProducerToken: q.token},
		} {
			_, err := c.leader().txns().EndTransaction(c.ctx(), req)
			if wantCode(t, err, "INVALID_PRODUCER_TOKEN")["field"] != "producer_token" {
				t.Errorf("%s: %v", what, err)
			}
		}
		// Tokens that hold, for what the core does not know.
		keys := c.leader().c.keys
		_, err = c.leader().txns().EndTransaction(c.ctx(), &oncelogv1.EndTransactionRequest{
			Txn: &oncelogv1.TxnRef{ProducerId: q.pid, Epoch: 9, TxnNumber: 1}, ProducerToken: keys.Sign(q.pid, 9),
		})
		wantEqual(t, "field", wantCode(t, err, "INVALID_TXN")["field"], "txn")
		_, err = c.leader().txns().EndTransaction(c.ctx(), &oncelogv1.EndTransactionRequest{
			Txn: &oncelogv1.TxnRef{ProducerId: 99, TxnNumber: 1}, ProducerToken: keys.Sign(99, 0),
		})
		wantCode(t, err, "UNKNOWN_PRODUCER")
	})
}

func TestGetOutcomeOfEverything(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		p := c.producer("app")
		c.shards.play(unreachable)
		for n := range uint64(18) {
			p.mustEnd(n+2, true)
		}
		p.mustEnd(20, true, wrote(topic, 0, 1))
		p.accept(21, shardOf(topic, 0))
		for number, want := range map[uint64]string{
			1:  "FORGOTTEN", // passed over
			2:  "FORGOTTEN", // evicted
			19: "COMMITTED",
			20: "COMMITTED pending [2]",
			21: "OPEN",
			22: "OPEN", // may still come
		} {
			wantEqual(t, "outcome", p.outcome(number), want)
		}
		_, err := p.end(2, true)
		wantCode(t, err, "FORGOTTEN")

		next := c.producer2("app")
		wantEqual(t, "fenced", p.outcome(21), "ABORTED FENCED pending [2]")
		wantEqual(t, "never begun", p.outcome(22), "ABORTED FENCED")
		wantEqual(t, "next", next.outcome(1), "OPEN")
		for _, ref := range []*oncelogv1.TxnRef{
			{ProducerId: p.pid, Epoch: 7, TxnNumber: 1}, {ProducerId: 99, TxnNumber: 1},
		} {
			res, err := c.leader().txns().GetOutcome(c.ctx(), &oncelogv1.GetOutcomeRequest{Txn: ref})
			wantCode(t, err, "")
			wantEqual(t, "outcome", outcomeText(res), "INVALID")
		}
	})
}

func TestIdempotentProducersGetIDsOfTheirOwn(t *testing.T) {
	inBubble(t, 3, nil, func(t *testing.T, c *cluster) {
		seen := map[uint64]bool{}
		take := func(n int) {
			for range n {
				res, err := c.leader().txns().InitProducer(c.ctx(), &oncelogv1.InitProducerRequest{})
				wantCode(t, err, "")
				if res.GetProducerId() == 0 || seen[res.GetProducerId()] || len(res.GetProducerToken()) == 0 {
					t.Fatalf("producer id %d, token of %d bytes", res.GetProducerId(), len(res.GetProducerToken()))
				}
				seen[res.GetProducerId()] = true
			}
		}
		take(idBlockSize + 1)
		transactional := c.producer("app")
		if seen[transactional.pid] {
			t.Fatalf("transactional id got the producer id %d of another", transactional.pid)
		}
		old := c.leader()
		c.moveLeader()
		take(2)
		_, err := old.txns().InitProducer(c.ctx(), &oncelogv1.InitProducerRequest{})
		wantCode(t, err, "NOT_LEADER")
	})
}
