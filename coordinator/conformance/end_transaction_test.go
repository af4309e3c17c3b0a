package conformance

import (
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator"
)

// TestEnlist: Kafka's TransactionCoordinatorTest, AddPartitions. There is no such
// call here; a shard that holds records of a transaction enlists itself.
func TestEnlist(t *testing.T) {
	play(t, []scenario{
		{name: "TC-30 records of a producer that nobody knows are nobody's", test: func(c *cluster) {
			topic := c.topic("t", 1)
			ref := &oncelogv1.TxnRef{ProducerId: 99, TxnNumber: 1}
			c.equal("enlist", c.enlist(ref, shardOf(topic, 0), 0), "STRAY")
		}},
		{name: "TC-32 who does not lead judges nothing", nodes: 3, test: func(c *cluster) {
			topic := c.topic("t", 1)
			p := c.init("app")
			old := c.leader()
			next := c.failover()
			_, err := old.cluster.Enlist(c.within(patience), &oncelogv1.EnlistRequest{Enlistments: []*oncelogv1.Enlistment{
				{Txn: p.ref(1), ShardId: shardOf(topic, 0)},
			}})
			c.equal("leader", c.wants("a follower", err, "NOT_LEADER")["leader_node"], next.id)
		}},
		{name: "TC-33 of a decided transaction its shard is told the decision", test: func(c *cluster) {
			topic := c.topic("t", 2)
			p := c.init("app")
			c.shards.hold(p.pid, true)
			c.equal("commit", p.commit(1, wrote(topic, 0, 1)), "OK")
			c.equal("abort", p.abort(2, wrote(topic, 0, 1)), "OK")
			c.equal("the committed", c.enlist(p.ref(1), shardOf(topic, 0), 0), "DECIDED commit")
			c.equal("the aborted", c.enlist(p.ref(2), shardOf(topic, 0), 0), "DECIDED abort")
			c.equal("a shard that the commit does not name", c.enlist(p.ref(1), shardOf(topic, 1), 0), "STRAY")
		}},
		{name: "TC-34 of another epoch nothing is accepted", test: func(c *cluster) {
			topic := c.topic("t", 1)
			old := c.init("app")
			p := c.init("app")
			c.equal("older", c.enlist(old.ref(1), shardOf(topic, 0), 0), "STRAY fence 1")
			p.epoch = 9
			c.equal("of nobody", c.enlist(p.ref(1), shardOf(topic, 0), 0), "STRAY invalid")
		}},
		{name: "TC-36 whatever the last transaction came to, the next one opens", test: func(c *cluster) {
			topic := c.topic("t", 1)
			p := c.init("app")
			p.opens(1, shardOf(topic, 0))
			p.applied(1, true, wrote(topic, 0, 1))
			p.opens(2, shardOf(topic, 0))
			p.applied(2, false, wrote(topic, 0, 1))
			p.opens(3, shardOf(topic, 0))
			c.equal("state", p.state(), "ONGOING 0")
		}},
		{name: "TC-37 what is known already costs no log entry", test: func(c *cluster) {
			topic := c.topic("t", 1)
			p := c.init("app")
			id := topic.GetPartitions()[0].GetPartitionId()
			c.equal("enlist", c.enlist(p.ref(1), shardOf(topic, 0), 0, id), "ACCEPTED")
			before := c.group(c.leader()).GetLastIndex()
			for range 3 {
				c.equal("again", c.enlist(p.ref(1), shardOf(topic, 0), 0, id), "ACCEPTED")
			}
			c.equal("log entries", c.group(c.leader()).GetLastIndex()-before, 0)
		}},
		{name: "AR-02 AM-06 one enlistment of a batch does not answer for another", test: func(c *cluster) {
			topic := c.topic("t", 1)
			old := c.init("app")
			p := c.init("app")
			shard := shardOf(topic, 0)
			res, err := c.leader().cluster.Enlist(c.within(patience), &oncelogv1.EnlistRequest{Enlistments: []*oncelogv1.Enlistment{
				{Txn: old.ref(1), ShardId: shard}, {Txn: p.ref(1), ShardId: shard}, {Txn: &oncelogv1.TxnRef{ProducerId: 99}, ShardId: shard},
			}})
			c.ok(err)
			var got []oncelogv1.EnlistVerdict
			for _, a := range res.GetAnswers() {
				got = append(got, a.GetVerdict())
			}
			c.equal("verdicts", got, []oncelogv1.EnlistVerdict{
				oncelogv1.EnlistVerdict_ENLIST_VERDICT_STRAY, oncelogv1.EnlistVerdict_ENLIST_VERDICT_ACCEPTED, oncelogv1.EnlistVerdict_ENLIST_VERDICT_STRAY,
			})
		}},
	})
}

// TestEndTransaction: Kafka's TransactionCoordinatorTest, EndTxn.
func TestEndTransaction(t *testing.T) {
	play(t, []scenario{
		{name: "TC-40 of a producer that nobody knows", test: func(c *cluster) {
			c.equal("unknown", c.end(&oncelogv1.EndTransactionRequest{
				Txn: &oncelogv1.TxnRef{ProducerId: 99, TxnNumber: 1}, ProducerToken: c.keys.Sign(99, 0), Commit: true,
			}), "UNKNOWN_PRODUCER")
		}},
		{name: "TC-41 of an epoch that is over, or to come", test: func(c *cluster) {
			old := c.init("app")
			p := c.init("app")
			c.equal("over", old.commit(1), "FENCED")
			p.epoch, p.token = 9, c.keys.Sign(p.pid, 9)
			c.equal("to come", p.commit(1), "INVALID_TXN")
		}},
		{name: "TC-42 KA-02 what names no transaction is refused", test: func(c *cluster) {
			p := c.init("app")
			for field, ref := range map[string]*oncelogv1.TxnRef{
				"txn.producer_id": {Epoch: p.epoch, TxnNumber: 1},
				"txn.txn_number":  {ProducerId: p.pid, Epoch: p.epoch},
			} {
				_, err := c.leader().txns.EndTransaction(c.within(patience), &oncelogv1.EndTransactionRequest{Txn: ref, ProducerToken: p.token})
				c.equal("field", c.wants("end", err, "INVALID_ARGUMENT")["field"], field)
			}
		}},
		{name: "TC-43 who does not lead decides nothing", nodes: 3, test: func(c *cluster) {
			p := c.init("app")
			old := c.leader()
			c.failover()
			_, err := old.txns.EndTransaction(c.within(patience), &oncelogv1.EndTransactionRequest{Txn: p.ref(1), ProducerToken: p.token, Commit: true})
			c.wants("a follower", err, "NOT_LEADER")
			c.equal("outcome", p.outcome(1), "open")
		}},
		{name: "TC-44 TC-45 what is decided and applied is answered again, and only as it was", test: func(c *cluster) {
			topic := c.topic("t", 1)
			p := c.init("app")
			p.applied(1, true, wrote(topic, 0, 1))
			p.applied(2, false, wrote(topic, 0, 1))
			c.equal("commit of the committed", p.commit(1, wrote(topic, 0, 1)), "OK")
			c.equal("abort of the aborted", p.abort(2, wrote(topic, 0, 1)), "OK")
			c.equal("abort of the committed", p.abort(1, wrote(topic, 0, 1)), "CONFLICT committed")
			c.equal("commit of the aborted", p.commit(2, wrote(topic, 0, 1)), "CONFLICT client")
			c.shards.take()
			pass(time.Minute)
			c.equal("markers afterwards", len(c.shards.take()), 0)
		}},
		{name: "TC-46 TC-47 TC-50 TC-51 a repetition is answered at once while shards have yet to apply", test: func(c *cluster) {
			topic := c.topic("t", 1)
			p := c.init("app")
			c.shards.hold(p.pid, true)
			c.equal("commit", p.commit(1, wrote(topic, 0, 1)), "OK")
			c.equal("abort", p.abort(2, wrote(topic, 0, 1)), "OK")
			c.equal("commit of the committed", p.commit(1, wrote(topic, 0, 1)), "OK")
			c.equal("commit of the aborted", p.commit(2, wrote(topic, 0, 1)), "CONFLICT client")
			c.equal("abort of the committed", p.abort(1, wrote(topic, 0, 1)), "CONFLICT committed")
			c.equal("state", p.state(), "PREPARE_ABORT 0") // the epoch is the same
		}},
		{name: "TC-48 SM-09 nothing is answered before it is durable", nodes: 3, test: durable},
		{name: "TC-49 TC-54 TX-23 a transaction that wrote nothing commits", test: func(c *cluster) {
			p := c.init("app")
			c.equal("commit", p.commit(1), "OK")
			c.equal("outcome", p.outcome(1), "committed")
			c.equal("state", p.state(), "COMPLETE_COMMIT 0")
			c.equal("markers", len(c.shards.take()), 0)
		}},
		{name: "TC-53 TX-22 MD-09 a transaction that wrote nothing aborts, and the epoch stays", test: func(c *cluster) {
			topic := c.topic("t", 1)
			p := c.init("app")
			c.equal("abort of an empty id", p.abort(1), "OK")
			p.applied(2, true, wrote(topic, 0, 1))
			c.equal("abort after a commit", p.abort(3), "OK")
			p.applied(4, false, wrote(topic, 0, 1))
			c.equal("abort after an abort", p.abort(5), "OK")
			c.equal("state", p.state(), "COMPLETE_ABORT 0")
			c.equal("and it goes on", p.commit(6, wrote(topic, 0, 1)), "OK")
		}},
		{name: "SM-13 what is too large is refused and decides nothing", test: func(c *cluster) {
			p := c.init("app")
			req := &oncelogv1.EndTransactionRequest{Txn: p.ref(1), ProducerToken: p.token, Commit: true}
			for range 10_001 {
				req.Partitions = append(req.Partitions, &oncelogv1.PartitionProgress{Partition: byID(1), NextSequence: 1})
			}
			_, err := c.leader().txns.EndTransaction(c.within(patience), req)
			c.equal("field", c.wants("commit", err, "LIMIT_EXCEEDED")["field"], "partitions")
			c.equal("outcome", p.outcome(1), "open")
		}},
	})
}

// durable asks a leader that reaches nobody to commit: it must not say OK, and
// whatever it says, there is one outcome afterwards, which the repetition gets.
func durable(c *cluster) {
	topic := c.topic("t", 1)
	p := c.init("app")
	old := c.leader()
	c.cut(old, true)
	_, err := old.txns.EndTransaction(c.within(time.Second), &oncelogv1.EndTransactionRequest{
		Txn: p.ref(1), ProducerToken: p.token, Commit: true, Partitions: []*oncelogv1.PartitionProgress{wrote(topic, 0, 1)},
	})
	if err == nil {
		c.t.Fatal("a leader alone committed")
	}
	if class := code(err); class != "DEADLINE" && class != "UNKNOWN_RESULT" {
		c.t.Fatalf("its answer: %v", err)
	}
	c.until("another coordinator leads", func() bool {
		for _, m := range c.nodes {
			if m != old && c.group(m).GetReady() {
				return true
			}
		}
		return false
	})
	c.cut(old, false)
	c.until("the old leader follows", func() bool { return c.group(old).GetLeader() == c.leader().id })
	c.equal("outcome", p.outcome(1), "open")
	c.equal("abort instead", p.abort(1, wrote(topic, 0, 1)), "OK")
	c.equal("the commit, repeated", p.commit(1, wrote(topic, 0, 1)), "CONFLICT client")
}

// overdueAfter is a little more than the tests' transaction timeout: until the abort is
// carried out, and that is in the log.
const overdueAfter = timeoutMillis*time.Millisecond + coordinator.DefaultAckDelay + 50*time.Millisecond

// TestExpiration: Kafka's TransactionCoordinatorTest and TransactionStateManagerTest,
// transactions that take too long.
func TestExpiration(t *testing.T) {
	play(t, []scenario{
		{name: "TC-60 SM-20 TX-21 who takes too long is aborted, keeps its epoch and goes on", test: func(c *cluster) {
			topic := c.topic("t", 1)
			p, idle, done := c.init("app"), c.init("idle"), c.init("done")
			done.applied(1, true, wrote(topic, 0, 1))
			pass(coordinator.DefaultExpireGrace)
			c.shards.take()
			p.opens(1, shardOf(topic, 0))
			pass(overdueAfter)
			c.equal("outcome", p.outcome(1), "aborted timeout")
			c.equal("its commit", p.commit(1, wrote(topic, 0, 1)), "CONFLICT timeout")
			c.equal("its abort", p.abort(1, wrote(topic, 0, 1)), "OK")
			c.equal("state", p.state(), "COMPLETE_ABORT 0")
			c.equal("markers", told(c.shards.take()), []string{"2: 1/0/1 timeout"})
			c.equal("the next one", p.commit(2, wrote(topic, 0, 1)), "OK")
			c.equal("an id with nothing open", idle.state(), "EMPTY 0")
			c.equal("one whose transaction had ended", done.state(), "COMPLETE_COMMIT 0")
		}},
		{name: "TC-61 a timeout that comes after a takeover hits nobody", test: func(c *cluster) {
			topic := c.topic("t", 1)
			old := c.init("app")
			pass(coordinator.DefaultExpireGrace)
			old.opens(1, shardOf(topic, 0))
			pass(overdueAfter / 2)
			p := c.init("app")
			p.opens(1, shardOf(topic, 0)) // the same number in the next epoch
			pass(overdueAfter / 2)        // the first one's deadline is over
			c.equal("the old one", old.outcome(1), "aborted fenced")
			c.equal("the new one", p.outcome(1), "open")
			c.equal("its commit", p.commit(1, wrote(topic, 0, 1)), "OK")
		}},
		{name: "TC-62 SM-24 what is decided does not time out, however long a shard takes", test: func(c *cluster) {
			topic := c.topic("t", 1)
			p := c.init("app")
			pass(coordinator.DefaultExpireGrace)
			c.shards.hold(p.pid, true)
			p.opens(1, shardOf(topic, 0))
			c.equal("commit", p.commit(1, wrote(topic, 0, 1)), "OK")
			pass(10 * overdueAfter)
			c.equal("outcome", p.outcome(1), "committed*")
			c.shards.hold(p.pid, false)
			c.until("it completes", func() bool { return p.outcome(1) == "committed" })
		}},
		{name: "TC-63 a timeout that cannot be logged is logged when it can, once", test: func(c *cluster) {
			topic := c.topic("t", 1)
			p := c.init("app")
			pass(coordinator.DefaultExpireGrace)
			p.opens(1, shardOf(topic, 0))
			c.fillDisk(true)
			pass(2 * overdueAfter)
			c.equal("outcome on a full disk", p.outcome(1), "open")
			c.fillDisk(false)
			c.until("it times out", func() bool { return p.outcome(1) == "aborted timeout" })
			c.equal("state", p.state(), "COMPLETE_ABORT 0")
		}},
	})
}

// fillDisk makes the leader's disk full, or not, and waits until it has noticed.
func (c *cluster) fillDisk(full bool) {
	c.t.Helper()
	m := c.leader()
	free := uint64(1 << 40)
	want := "OK"
	if full {
		free, want = 0, "OVERLOADED"
	}
	m.log.SetFreeBytes(free)
	c.until("the disk is looked at", func() bool {
		_, err := m.groups.CommitOffsets(c.ctx, &oncelogv1.CommitOffsetsRequest{Offsets: &oncelogv1.GroupOffsets{GroupId: "probe"}})
		return code(err) == want
	})
}

// TestDescribe: Kafka's TransactionCoordinatorTest, DescribeTransactions.
func TestDescribe(t *testing.T) {
	play(t, []scenario{
		{name: "TC-66 AD-01 everything about an id, by its name or its producer id", test: func(c *cluster) {
			topic := c.topic("t", 2)
			p := c.init("app")
			c.shards.hold(p.pid, true)
			c.equal("commit", p.commit(1, wrote(topic, 0, 3)), "OK")
			id := topic.GetPartitions()[1].GetPartitionId()
			c.equal("enlist", c.enlist(p.ref(2), shardOf(topic, 1), 1000, id), "ACCEPTED")
			d := p.describe()
			c.equal("id", d.GetTransactionalId(), "app")
			c.equal("state", p.state(), "ONGOING 0")
			c.equal("timeout", d.GetTimeoutMs(), timeoutMillis)
			c.equal("partition", d.GetOpen().GetParticipants()[0].GetPartitions()[0].GetPartition().GetPartitionId(), id)
			c.equal("started", d.GetOpen().GetStartedAtMs(), time.Now().UnixMilli()-1000)
			c.equal("deadline", d.GetOpen().GetDeadlineMs()-d.GetOpen().GetStartedAtMs(), timeoutMillis)
			c.equal("completing", d.GetCompleting()[0].GetParticipants()[0].GetPartitions()[0].GetNextSequence(), 3)
			byName, err := c.leader().txns.DescribeTransaction(c.ctx, &oncelogv1.DescribeTransactionRequest{TransactionalId: "app"})
			c.ok(err)
			c.equal("by name", byName.String(), d.String())
			_, err = c.leader().txns.DescribeTransaction(c.ctx, &oncelogv1.DescribeTransactionRequest{})
			c.wants("of nothing", err, "INVALID_ARGUMENT")
			_, err = c.leader().txns.DescribeTransaction(c.ctx, &oncelogv1.DescribeTransactionRequest{TransactionalId: "other"})
			c.wants("of what is not known", err, "UNKNOWN_PRODUCER")
			c.shards.hold(p.pid, false)
			c.equal("delete", p.delete(), "OK")
			_, err = c.leader().txns.DescribeTransaction(c.ctx, &oncelogv1.DescribeTransactionRequest{TransactionalId: "app"})
			c.wants("of what was deleted", err, "UNKNOWN_PRODUCER")
		}},
	})
}
