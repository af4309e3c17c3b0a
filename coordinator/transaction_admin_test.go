package coordinator

import (
	"fmt"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

func TestListTransactionsFiltersAndPages(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		ids := []string{"pay-b", "pay-a", "ship", "idle"}
		var ps []*producer
		for _, id := range ids {
			ps = append(ps, c.producer2(id))
		}
		c.shards.play(unreachable)
		ps[0].accept(1, shardOf(topic, 0))
		pass(3 * time.Second)
		ps[1].mustEnd(1, true, wrote(topic, 0, 1))
		ps[2].mustEnd(5, false)
		list := func(req *oncelogv1.ListTransactionsRequest) (out []string, token string) {
			res := must(c.leader().txns().ListTransactions(c.ctx(), req))
			for _, l := range res.GetTransactions() {
				out = append(out, fmt.Sprint(l.GetTransactionalId(), "/", l.GetTxn().GetTxnNumber(), " ",
					l.GetState().String()[len("TRANSACTION_STATE_"):], " ", l.GetAgeMs()/1000))
			}
			return out, res.GetNextPageToken()
		}
		all, _ := list(&oncelogv1.ListTransactionsRequest{})
		wantEqual(t, "all", all, []string{"pay-b/1 ONGOING 3", "pay-a/1 PREPARE_COMMIT 0", "ship/5 COMPLETE_ABORT 0", "idle/0 EMPTY 0"})
		some, _ := list(&oncelogv1.ListTransactionsRequest{IdContains: "ay-"})
		wantEqual(t, "by id", some, all[:2])
		some, _ = list(&oncelogv1.ListTransactionsRequest{OlderThanMs: 2000})
		wantEqual(t, "by age", some, all[:1])
		some, _ = list(&oncelogv1.ListTransactionsRequest{States: []oncelogv1.TransactionState{
			oncelogv1.TransactionState_TRANSACTION_STATE_COMPLETE_ABORT, oncelogv1.TransactionState_TRANSACTION_STATE_EMPTY,
		}})
		wantEqual(t, "by state", some, all[2:])
		var paged []string
		for token := ""; ; {
			var page []string
			page, token = list(&oncelogv1.ListTransactionsRequest{PageSize: 3, PageToken: token})
			paged = append(paged, page...)
			if token == "" {
				break
			}
		}
		wantEqual(t, "paged", paged, all)
	})
}

func TestDescribeTransactionTellsEverything(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(2)
		topic := c.topic("t", 2, 2)
		p := c.producer("app")
		p.mustEnd(1, false)
		c.shards.play(unreachable)
		p.mustEnd(2, true, wrote(topic, 0, 4), wrote(topic, 1, 2))
		_, err := c.leader().cluster().Enlist(c.ctx(), &oncelogv1.EnlistRequest{Enlistments: []*oncelogv1.Enlistment{
			{Txn: p.ref(3), ShardId: shardOf(topic, 1), PartitionIds: []uint64{topic.GetPartitions()[1].GetPartitionId()}},
		}})
		wantCode(t, err, "")
		for _, req := range []*oncelogv1.DescribeTransactionRequest{{TransactionalId: "app"}, {ProducerId: p.pid}} {
			d := must(c.leader().txns().DescribeTransaction(c.ctx(), req))
			wantEqual(t, "last", d.GetLastTxnNumber(), 3)
			wantEqual(t, "timeout", d.GetTimeoutMs(), 10_000)
			open := d.GetOpen().GetParticipants()[0]
			wantEqual(t, "open shard", open.GetShardId(), shardOf(topic, 1))
			wantEqual(t, "open partition", open.GetPartitions()[0].GetPartition().GetPartition(), 1)
			wantEqual(t, "deadline", d.GetOpen().GetDeadlineMs()-d.GetOpen().GetStartedAtMs(), 10_000)
			completing := d.GetCompleting()[0].GetParticipants()[0]
			wantEqual(t, "next sequence", completing.GetPartitions()[0].GetNextSequence(), 4)
			wantEqual(t, "topic", completing.GetPartitions()[0].GetPartition().GetTopic(), "t")
			wantEqual(t, "outcomes", len(d.GetOutcomes()), 1)
		}
		for _, req := range []*oncelogv1.DescribeTransactionRequest{{TransactionalId: "no"}, {ProducerId: 99}} {
			_, err := c.leader().txns().DescribeTransaction(c.ctx(), req)
			wantCode(t, err, "UNKNOWN_PRODUCER")
		}
	})
}

func TestAbortTransactionByAnOperator(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		p := c.producer("app")
		abort := func(ref *oncelogv1.TxnRef) (*oncelogv1.AbortTransactionResponse, error) {
			return c.leader().txns().AbortTransaction(c.ctx(), &oncelogv1.AbortTransactionRequest{TransactionalId: "app", Txn: ref, WaitApplied: true})
		}
		wantEqual(t, "nothing open", must(abort(nil)).GetTxn() == nil, true)
		p.accept(1, shardOf(topic, 0))
		wantEqual(t, "aborted", must(abort(nil)).GetTxn().GetTxnNumber(), 1)
		wantEqual(t, "outcome", p.outcome(1), "ABORTED ADMIN")
		wantEqual(t, "again", must(abort(p.ref(1))).GetTxn().GetTxnNumber(), 1)
		_, err := p.end(1, true, wrote(topic, 0, 1))
		wantEqual(t, "reason", wantCode(t, err, "CONFLICT")["reason"], "ADMIN")
		p.mustEnd(2, true)
		_, err = abort(p.ref(2))
		wantEqual(t, "outcome", wantCode(t, err, "CONFLICT")["outcome"], "COMMITTED")
		_, err = abort(p.ref(7))
		wantCode(t, err, "INVALID_TXN")
		wantEqual(t, "a free number stays free", p.outcome(7), "OPEN")
		other := c.producer("other")
		_, err = abort(other.ref(1))
		wantCode(t, err, "INVALID_TXN")
		_, err = c.leader().txns().AbortTransaction(c.ctx(), &oncelogv1.AbortTransactionRequest{TransactionalId: "no"})
		wantCode(t, err, "UNKNOWN_PRODUCER")
	})
}

func TestFenceProducerByAnOperator(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		p := c.producer("app")
		p.accept(1, shardOf(topic, 0))
		res := must(c.leader().txns().FenceProducer(c.ctx(), &oncelogv1.FenceProducerRequest{TransactionalId: "app"}))
		wantEqual(t, "epoch", res.GetEpoch(), 1)
		_, err := p.end(1, true, wrote(topic, 0, 1))
		wantEqual(t, "reason", wantCode(t, err, "CONFLICT")["reason"], "FENCED")
		_, err = p.end(2, true)
		wantCode(t, err, "FENCED")
		_, err = c.leader().txns().FenceProducer(c.ctx(), &oncelogv1.FenceProducerRequest{TransactionalId: "no"})
		wantCode(t, err, "UNKNOWN_PRODUCER")
	})
}

// A copy of a fence that comes after its answer must not fence whoever came in
// between (simulator seed 120).
func TestLateFenceHitsNobodyElse(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.producer("app")
		first := uint32(0)
		fence := &oncelogv1.FenceProducerRequest{TransactionalId: "app", Epoch: &first}
		wantEqual(t, "epoch", must(c.leader().txns().FenceProducer(c.ctx(), fence)).GetEpoch(), 1)
		successor := c.producer("app")
		wantEqual(t, "epoch", successor.epoch, 2)
		wantEqual(t, "epoch", must(c.leader().txns().FenceProducer(c.ctx(), fence)).GetEpoch(), 2)
		must(successor.end(1, true))
		above := uint32(3)
		_, err := c.leader().txns().FenceProducer(c.ctx(), &oncelogv1.FenceProducerRequest{TransactionalId: "app", Epoch: &above})
		wantEqual(t, "field", wantCode(t, err, "INVALID_ARGUMENT")["field"], "epoch")
	})
}

func TestDeleteTransactionalIDWaitsForItsShards(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("t", 1, 1)
		p := c.producer("app")
		p.accept(1, shardOf(topic, 0))
		c.shards.play(unreachable)
		txns := c.leader().txns()
		remove := func(d time.Duration) error {
			_, err := txns.DeleteTransactionalId(c.ctxFor(d), &oncelogv1.DeleteTransactionalIdRequest{TransactionalId: "app"})
			return err
		}
		wantEqual(t, "shards", wantCode(t, remove(time.Second), "TRANSACTION_IN_PROGRESS")["shards"], 2)
		wantEqual(t, "outcome", p.outcome(1), "ABORTED ADMIN pending [2]")
		done := make(chan error, 1)
		go func() { done <- remove(time.Minute) }()
		settle()
		c.shards.play(nil)
		wantCode(t, <-done, "")
		wantEqual(t, "outcome", p.outcome(1), "INVALID")
		wantCode(t, remove(time.Second), "UNKNOWN_PRODUCER")
		wantEqual(t, "a new id", c.producer("app").pid != p.pid, true)
	})
}
