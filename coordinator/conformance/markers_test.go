package conformance

import (
	"fmt"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator"
)

// Results of markers, as shards answer them.
const (
	resultApplied = oncelogv1.MarkerResult_MARKER_RESULT_APPLIED
	resultAlready = oncelogv1.MarkerResult_MARKER_RESULT_ALREADY
	resultMissing = oncelogv1.MarkerResult_MARKER_RESULT_MISSING_DATA
	resultOther   = oncelogv1.MarkerResult_MARKER_RESULT_CONFLICT
	resultUnknown = oncelogv1.MarkerResult(99)
)

// TestMarkers: Kafka's TransactionMarkerChannelManagerTest and
// TransactionMarkerRequestCompletionHandlerTest.
func TestMarkers(t *testing.T) {
	play(t, []scenario{
		{name: "MC-01 MC-08 MC-22 a transaction completes with its last shard, once", test: func(c *cluster) {
			topic := c.topic("t", 3)
			p := c.init("app")
			for i := range 3 {
				c.shards.reach(shardOf(topic, i), false)
			}
			c.equal("commit", p.commit(1, wrote(topic, 0, 1), wrote(topic, 1, 1), wrote(topic, 2, 1)), "OK")
			c.shards.reach(shardOf(topic, 0), true)
			pass(10 * time.Second)
			c.equal("with one shard", p.outcome(1), "committed*")
			for i := range 3 {
				c.shards.reach(shardOf(topic, i), true) // the other two answer at the same time
			}
			c.until("it completes", func() bool { return p.outcome(1) == "committed" })
			d := p.describe()
			c.equal("outcomes kept", len(d.GetOutcomes()), 1)
			c.equal("state", p.state(), "COMPLETE_COMMIT 0")
		}},
		{name: "MC-02 whatever a shard answered is remembered over a restart", test: func(c *cluster) {
			topic := c.topic("t", 1)
			want := map[oncelogv1.MarkerResult][2]string{
				resultApplied: {"committed", "aborted client"},
				resultAlready: {"committed", "aborted client"},
				resultMissing: {"committed!", "aborted client!"},
				resultOther:   {"committed!", "aborted client!"},
			}
			ps := map[oncelogv1.MarkerResult]*producer{}
			for result := resultApplied; result <= resultOther; result++ {
				p := c.init(result.String())
				ps[result] = p
				c.shards.answer(shardOf(topic, 0), result)
				p.applied(1, true, wrote(topic, 0, 1))
				p.applied(2, false, wrote(topic, 0, 1))
			}
			m := c.leader()
			c.stop(m)
			c.start(m)
			for result, p := range ps {
				c.equal(result.String(), [2]string{p.outcome(1), p.outcome(2)}, want[result])
			}
		}},
		{name: "MC-03 a shard that is owed nothing hears nothing", test: func(c *cluster) {
			c.topic("t", 1)
			p := c.init("app")
			c.equal("commit", p.commit(1), "OK")
			c.equal("abort", p.abort(2), "OK")
			pass(time.Minute)
			c.equal("markers", len(c.shards.take()), 0)
		}},
		{name: "MC-04 the markers of many producers for one shard share a request", test: func(c *cluster) {
			topic := c.topic("t", 1)
			shard := shardOf(topic, 0)
			c.shards.reach(shard, false)
			var ps []*producer
			for i := range 20 {
				p := c.init(fmt.Sprint("app-", i))
				c.equal("commit", p.commit(1, wrote(topic, 0, 1)), "OK")
				ps = append(ps, p)
			}
			c.shards.reach(shard, true)
			before := c.shards.requests()
			for _, p := range ps {
				c.until("it completes", func() bool { return p.outcome(1) == "committed" })
			}
			c.equal("requests", c.shards.requests()-before, 1)
			c.equal("markers", len(c.shards.take()), 20)
		}},
		{name: "MC-05 a topic that is deleted holds up no transaction", test: func(c *cluster) {
			topic := c.topic("t", 1)
			p := c.init("app")
			shard := shardOf(topic, 0)
			c.shards.reach(shard, false)
			c.equal("commit", p.commit(1, wrote(topic, 0, 3)), "OK")
			p.opens(2, shard)
			_, err := c.leader().catalog.DeleteTopic(c.ctx, &oncelogv1.DeleteTopicRequest{Name: "t"})
			c.ok(err)
			c.equal("the open one's abort", p.abort(2, wrote(topic, 0, 1)), "OK")
			c.shards.reach(shard, true)
			c.until("they complete", func() bool { return p.outcome(1) == "committed" && p.outcome(2) == "aborted client" })
			for _, m := range c.shards.take() {
				c.equal("partitions that the marker names", len(m.marker.GetProgress()), 0)
			}
		}},
		{name: "MC-06 MC-20 a shard that cannot be reached is told when it can", test: func(c *cluster) {
			topic := c.topic("t", 2)
			p := c.init("app")
			c.shards.reach(shardOf(topic, 0), false)
			c.equal("commit", p.commit(1, wrote(topic, 0, 1), wrote(topic, 1, 1)), "OK")
			pass(10 * time.Minute)
			c.equal("after ten minutes", p.outcome(1), "committed*")
			c.equal("the next transaction", p.commit(2, wrote(topic, 1, 1)), "OK")
			c.shards.reach(shardOf(topic, 0), true)
			c.until("it completes", func() bool { return p.outcome(1) == "committed" })
		}},
		{name: "MC-07 TC-65 SM-21 SM-29 a leader that is deposed sends nothing more, and the next one all", nodes: 3, test: deposed},
		{name: "MC-09 an acknowledgement that dies with its leader is asked for again", nodes: 3, test: func(c *cluster) {
			topic := c.topic("t", 1)
			p := c.init("app")
			c.equal("commit", p.commit(1, wrote(topic, 0, 1)), "OK")
			pass(time.Millisecond) // the shard has answered; the log does not know yet
			c.equal("markers", len(c.shards.take()), 1)
			c.equal("outcome", p.outcome(1), "committed*")
			c.shards.answer(shardOf(topic, 0), resultAlready)
			c.failover()
			c.until("it completes", func() bool { return p.outcome(1) == "committed" })
			c.equal("markers, again", told(c.shards.take()), []string{"2: 1/0/1 commit"})
		}},
		{name: "MC-10 acknowledgements wait for a log that takes them", test: func(c *cluster) {
			topic := c.topic("t", 1)
			p := c.init("app")
			c.shards.hold(p.pid, true)
			c.equal("commit", p.commit(1, wrote(topic, 0, 1)), "OK")
			c.fillDisk(true)
			c.shards.hold(p.pid, false)
			pass(10 * time.Second)
			c.equal("on a full disk", p.outcome(1), "committed*")
			c.fillDisk(false)
			c.until("it completes", func() bool { return p.outcome(1) == "committed" })
		}},
		{name: "MC-21 MC-24 MC-25 an answer that means nothing is asked for again", test: func(c *cluster) {
			topic := c.topic("t", 1)
			p := c.init("app")
			c.shards.answer(shardOf(topic, 0), resultUnknown)
			c.equal("commit", p.commit(1, wrote(topic, 0, 1)), "OK")
			pass(10 * time.Second)
			c.equal("outcome", p.outcome(1), "committed*")
			c.shards.answer(shardOf(topic, 0), resultApplied)
			c.until("it completes", func() bool { return p.outcome(1) == "committed" })
		}},
		{name: "MC-23 a decision is not called off when its producer is fenced", test: func(c *cluster) {
			topic := c.topic("t", 1)
			p := c.init("app")
			c.shards.reach(shardOf(topic, 0), false)
			c.equal("commit", p.commit(1, wrote(topic, 0, 1)), "OK")
			for range 3 {
				c.init("app")
			}
			c.shards.reach(shardOf(topic, 0), true)
			c.until("it completes", func() bool { return p.outcome(1) == "committed" })
			c.equal("markers", told(c.shards.take()), []string{"2: 1/0/1 commit"})
		}},
	})
}

// deposed moves leadership away and back while a shard is owed markers. Each
// leader sends them while it leads, and only then.
func deposed(c *cluster) {
	topic := c.topic("t", 1)
	p := c.init("app")
	c.shards.hold(p.pid, true)
	c.equal("commit", p.commit(1, wrote(topic, 0, 1)), "OK")
	c.equal("abort", p.abort(2, wrote(topic, 0, 1)), "OK")
	first := c.leader()
	c.shards.take()
	want := []string{"2: 1/0/1 commit", "2: 1/0/2 client"}
	for range 4 {
		next := c.failover()
		c.shards.take()
		pass(5 * time.Second)
		c.equal("markers of the new leader", told(c.shards.take()), want)
		if next == first {
			break
		}
	}
	// With all coordinators that could lead away from each other nobody sends.
	for _, m := range c.nodes {
		c.cut(m, true)
	}
	pass(5 * time.Second)
	c.shards.take()
	pass(time.Minute)
	c.equal("markers without a leader", len(c.shards.take()), 0)
	for _, m := range c.nodes {
		c.cut(m, false)
	}
	c.shards.hold(p.pid, false)
	c.report(c.group(c.leader()).GetTerm())
	c.until("they complete", func() bool { return p.outcome(1) == "committed" && p.outcome(2) == "aborted client" })
}

// TestExpiredIDs: Kafka's TransactionStateManagerTest, ids that nobody uses, and
// TransactionsExpirationTest and ProducerIdExpirationTest as far as they are the
// coordinator's.
func TestExpiredIDs(t *testing.T) {
	const idle = 90 * time.Second
	brief := func(cfg *coordinator.Config) { cfg.IDExpiration = idle }
	play(t, []scenario{
		{name: "SM-22 SM-24 ids go when they are idle for long, and never with anything unfinished", change: brief, test: func(c *cluster) {
			topic := c.topic("t", 1)
			gone := map[string]*producer{"empty": c.init("empty"), "committed": c.init("committed"), "aborted": c.init("aborted")}
			gone["committed"].applied(1, true, wrote(topic, 0, 1))
			gone["aborted"].applied(1, false, wrote(topic, 0, 1))
			stays := map[string]*producer{"committing": c.init("committing"), "aborting": c.init("aborting")}
			for name, p := range stays {
				c.shards.hold(p.pid, true)
				c.equal("end", p.end(1, name == "committing", wrote(topic, 0, 1)), "OK")
			}
			pass(5 * idle)
			for name, p := range gone {
				c.equal(name, p.state(), "gone")
			}
			c.equal("committing", stays["committing"].state(), "PREPARE_COMMIT 0")
			c.equal("aborting", stays["aborting"].state(), "PREPARE_ABORT 0")
			for _, p := range stays {
				c.shards.hold(p.pid, false)
			}
			pass(5 * idle)
			c.equal("once complete", stays["committing"].state()+" "+stays["aborting"].state(), "gone gone")
		}},
		{name: "SM-23 ids that cannot be removed in the log stay", change: brief, test: func(c *cluster) {
			p := c.init("app")
			c.fillDisk(true)
			pass(5 * idle)
			c.equal("on a full disk", p.state(), "EMPTY 0")
			c.fillDisk(false)
			c.until("it goes", func() bool { return p.state() == "gone" })
		}},
		{name: "SM-25 SM-27 thousands of idle ids go, in entries of a bounded size", change: brief, test: func(c *cluster) {
			const ids = 2500
			for i := range ids {
				c.init(fmt.Sprint("app-", i))
			}
			before := c.group(c.leader()).GetLastIndex()
			pass(3 * idle)
			res, err := c.leader().txns.ListTransactions(c.ctx, &oncelogv1.ListTransactionsRequest{})
			c.ok(err)
			c.equal("left", len(res.GetTransactions()), 0)
			if entries := c.group(c.leader()).GetLastIndex() - before; entries < 3 || entries > 10 {
				c.t.Fatalf("%d log entries for %d ids", entries, ids)
			}
		}},
		{name: "TE-01 PE-02 an id that is used after it went is told so, and begins anew under another producer id", change: brief, test: func(c *cluster) {
			topic := c.topic("t", 1)
			p := c.init("app")
			p.applied(1, true, wrote(topic, 0, 1))
			pass(3 * idle)
			c.equal("commit", p.commit(2, wrote(topic, 0, 1)), "UNKNOWN_PRODUCER")
			c.equal("its records are nobody's", c.enlist(p.ref(2), shardOf(topic, 0), 0), "STRAY")
			gone, err := c.leader().cluster.CheckProducers(c.ctx, &oncelogv1.CheckProducersRequest{ProducerIds: []uint64{p.pid}})
			c.ok(err)
			c.equal("gone", gone.GetGone(), []uint64{p.pid})
			next := c.init("app")
			if next.pid == p.pid {
				c.t.Fatal("the producer id was handed out again (I9)")
			}
			c.equal("epoch", next.epoch, 0)
			c.equal("commit", next.commit(1, wrote(topic, 0, 1)), "OK")
		}},
		{name: "TE-02 an id that is used stays, and its next owner has the next epoch", change: brief, test: func(c *cluster) {
			p := c.init("app")
			for n := range uint64(5) {
				pass(idle - time.Second)
				c.equal("commit", p.commit(n+1), "OK")
			}
			next := c.init("app")
			c.equal("producer id", next.pid, p.pid)
			c.equal("epoch", next.epoch, 1)
		}},
	})
}
