package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// TestOperators: what Kafka's AdminFenceProducersTest, TransactionsCommandTest,
// AbortTransactionHandlerTest and the listings of TransactionStateManagerTest ask
// of the server.
func TestOperators(t *testing.T) {
	play(t, []scenario{
		{name: "AF-01 AF-02 AD-09 an operator's fence stops the producer, and what it had open is gone", test: func(c *cluster) {
			topic := c.topic("t", 1)
			p := c.init("app")
			p.applied(1, true, wrote(topic, 0, 1))
			p.opens(2, shardOf(topic, 0))
			c.equal("fence", p.fence(), "OK")
			c.equal("what was open", strings.TrimSuffix(p.outcome(2), "*"), "aborted fenced")
			c.equal("its commit", p.commit(2, wrote(topic, 0, 1)), "CONFLICT fenced")
			c.equal("its next commit", p.commit(3, wrote(topic, 0, 1)), "FENCED")
			c.equal("its records", c.enlist(p.ref(3), shardOf(topic, 0), 0), "STRAY fence 1")
			c.equal("what was committed", p.outcome(1), "committed")
			next := c.init("app")
			c.equal("the next owner", next.commit(1), "OK")
			c.equal("an id that nobody knows", (&producer{c: c, id: "none"}).fence(), "UNKNOWN_PRODUCER")
		}},
		{name: "AD-02 AD-08 an operator's abort names a transaction, or takes the open one, and is no fence", test: func(c *cluster) {
			topic := c.topic("t", 1)
			p := c.init("app")
			p.opens(1, shardOf(topic, 0))
			c.equal("of what is not open", p.abortByOperator(7), "INVALID_TXN")
			c.equal("of the open one", p.abortByOperator(1), "OK")
			c.equal("again", p.abortByOperator(1), "OK")
			c.equal("its commit", p.commit(1, wrote(topic, 0, 1)), "CONFLICT admin")
			c.equal("and it goes on", p.commit(2, wrote(topic, 0, 1)), "OK")
			c.equal("of a committed one", p.abortByOperator(2), "CONFLICT committed")
			c.equal("of whatever is open, when nothing is", p.abortByOperator(0), "OK")
			p.opens(3, shardOf(topic, 0))
			c.equal("of whatever is open", p.abortByOperator(0), "OK")
			c.equal("outcome", strings.TrimSuffix(p.outcome(3), "*"), "aborted admin")
			fenced := *p
			c.init("app")
			c.equal("of an epoch that is over", fenced.abortByOperator(9), "FENCED")
		}},
		{name: "AD-03 AD-07 what holds up readers is listed by its age, with its partitions", test: func(c *cluster) {
			topic := c.topic("t", 1)
			slow, quick := c.init("slow"), c.init("quick")
			id := topic.GetPartitions()[0].GetPartitionId()
			c.equal("enlist", c.enlist(slow.ref(1), shardOf(topic, 0), 0, id), "ACCEPTED")
			pass(5 * time.Second)
			quick.opens(1, shardOf(topic, 0))
			c.equal("older than 3 s", c.list(&oncelogv1.ListTransactionsRequest{OlderThanMs: 3000}), []string{"slow ONGOING"})
			c.equal("its partition", slow.describe().GetOpen().GetParticipants()[0].GetPartitions()[0].GetPartition().GetTopic(), "t")
		}},
		{name: "AD-04 AD-05 AD-06 no transaction hangs: what a shard asks about has an answer that ends it", test: func(c *cluster) {
			topic := c.topic("t", 2)
			p, gone := c.init("app"), c.init("gone")
			c.equal("delete", gone.delete(), "OK")
			c.equal("no id has its producer", c.enlist(gone.ref(1), shardOf(topic, 0), 0), "STRAY")
			c.equal("a producer of nobody", c.enlist(&oncelogv1.TxnRef{ProducerId: 99, TxnNumber: 1}, shardOf(topic, 0), 0), "STRAY")
			p.opens(2, shardOf(topic, 0))
			c.equal("in progress, with another transaction", c.enlist(p.ref(1), shardOf(topic, 1), 0), "STRAY")
			c.equal("in progress, and it takes part from now on", c.enlist(p.ref(2), shardOf(topic, 1), 0), "ACCEPTED")
			c.equal("abort of the open one", p.abort(2), "OK")
			pass(time.Millisecond)
			c.equal("markers", told(c.shards.take()), []string{"2: 1/0/2 client", "3: 1/0/2 client"})
		}},
		{name: "SM-18 AD-10 who does not lead lists nothing and says who does", nodes: 3, test: func(c *cluster) {
			old := c.leader()
			next := c.failover()
			ctx := c.within(patience)
			_, list := old.txns.ListTransactions(ctx, &oncelogv1.ListTransactionsRequest{})
			_, describe := old.txns.DescribeTransaction(ctx, &oncelogv1.DescribeTransactionRequest{TransactionalId: "app"})
			_, fence := old.txns.FenceProducer(ctx, &oncelogv1.FenceProducerRequest{TransactionalId: "app"})
			_, abort := old.txns.AbortTransaction(ctx, &oncelogv1.AbortTransactionRequest{TransactionalId: "app"})
			_, groups := old.groups.ListGroups(ctx, &oncelogv1.ListGroupsRequest{})
			for _, err := range []error{list, describe, fence, abort, groups} {
				c.equal("leader", c.wants("a follower", err, "NOT_LEADER")["leader_node"], next.id)
			}
		}},
		{name: "SM-19 AD-01 lists are filtered by state, name and age, and come in pages", test: func(c *cluster) {
			topic := c.topic("t", 1)
			for _, id := range []string{"a-empty", "a-open", "b-open", "b-committed", "b-aborted"} {
				p := c.init(id)
				switch id[2:] {
				case "open":
					p.opens(1, shardOf(topic, 0))
				case "committed":
					p.applied(1, true, wrote(topic, 0, 1))
				case "aborted":
					p.applied(1, false, wrote(topic, 0, 1))
				}
			}
			all := []string{"a-empty EMPTY", "a-open ONGOING", "b-open ONGOING", "b-committed COMPLETE_COMMIT", "b-aborted COMPLETE_ABORT"}
			c.equal("all", c.list(&oncelogv1.ListTransactionsRequest{}), all)
			c.equal("in pages", c.list(&oncelogv1.ListTransactionsRequest{PageSize: 2}), all)
			c.equal("by state", c.list(&oncelogv1.ListTransactionsRequest{States: []oncelogv1.TransactionState{
				oncelogv1.TransactionState_TRANSACTION_STATE_ONGOING, oncelogv1.TransactionState_TRANSACTION_STATE_EMPTY,
			}}), all[:3])
			c.equal("by name", c.list(&oncelogv1.ListTransactionsRequest{IdContains: "b-"}), all[2:])
			c.equal("by both", c.list(&oncelogv1.ListTransactionsRequest{IdContains: "b-", States: []oncelogv1.TransactionState{
				oncelogv1.TransactionState_TRANSACTION_STATE_ONGOING,
			}}), all[2:3])
			pass(2 * time.Second)
			c.equal("by age", c.list(&oncelogv1.ListTransactionsRequest{OlderThanMs: 2000}), all[1:3])
			c.equal("by a higher age", len(c.list(&oncelogv1.ListTransactionsRequest{OlderThanMs: 2001})), 0)
			_, err := c.leader().txns.ListTransactions(c.ctx, &oncelogv1.ListTransactionsRequest{States: []oncelogv1.TransactionState{99}})
			c.equal("field", c.wants("a state of nobody", err, "INVALID_ARGUMENT")["field"], "states")
			_, err = c.leader().txns.ListTransactions(c.ctx, &oncelogv1.ListTransactionsRequest{OlderThanMs: -1})
			c.equal("field", c.wants("a negative age", err, "INVALID_ARGUMENT")["field"], "older_than_ms")
		}},
	})
}

// list returns everything that matches, page by page, as "id STATE".
func (c *cluster) list(req *oncelogv1.ListTransactionsRequest) []string {
	c.t.Helper()
	var out []string
	for {
		res, err := c.leader().txns.ListTransactions(c.within(patience), req)
		c.ok(err)
		for _, l := range res.GetTransactions() {
			out = append(out, fmt.Sprint(l.GetTransactionalId(), " ", strings.TrimPrefix(l.GetState().String(), "TRANSACTION_STATE_")))
		}
		if req.PageToken = res.GetNextPageToken(); req.PageToken == "" {
			return slices.Clip(out)
		}
	}
}
