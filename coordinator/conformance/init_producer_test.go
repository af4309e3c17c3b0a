package conformance

import (
	"strings"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator"
)

// TestInitProducer: Kafka's TransactionCoordinatorTest, InitProducerId.
func TestInitProducer(t *testing.T) {
	play(t, []scenario{
		{name: "TC-01 TC-02 without an id everybody gets a producer id of its own", test: func(c *cluster) {
			a, err := c.initAs(&oncelogv1.InitProducerRequest{})
			c.ok(err)
			b, err := c.initAs(&oncelogv1.InitProducerRequest{})
			c.ok(err)
			c.equal("epochs", []uint32{a.GetEpoch(), b.GetEpoch()}, []uint32{0, 0})
			if a.GetProducerId() == 0 || a.GetProducerId() == b.GetProducerId() {
				c.t.Fatalf("producer ids %d and %d", a.GetProducerId(), b.GetProducerId())
			}
			_, err = c.initAs(&oncelogv1.InitProducerRequest{TransactionalId: strings.Repeat("x", 250)})
			c.equal("field", c.wants("an id that is too long", err, "LIMIT_EXCEEDED")["field"], "transactional_id")
		}},
		{name: "TC-03 MD-01 a new id begins at epoch 0 with nothing behind it", test: func(c *cluster) {
			res, err := c.initAs(&oncelogv1.InitProducerRequest{TransactionalId: "app"})
			c.ok(err)
			p := &producer{c: c, id: "app", pid: res.GetProducerId()}
			c.equal("epoch", res.GetEpoch(), 0)
			c.equal("state", p.state(), "EMPTY 0")
			c.equal("previous", res.GetPrevious(), (*oncelogv1.PreviousTransaction)(nil))
			c.equal("timeout", res.GetTimeoutMs(), coordinator.DefaultTransactionTimeout.Milliseconds())
		}},
		{name: "TC-06 TC-07 SM-17 who does not lead hands out nothing", nodes: 3, test: func(c *cluster) {
			old := c.leader()
			c.failover()
			_, err := old.txns.InitProducer(c.within(patience), &oncelogv1.InitProducerRequest{TransactionalId: "app"})
			meta := c.wants("a follower", err, "NOT_LEADER")
			c.equal("it names the leader", meta["leader_node"], c.leader().id)
			c.equal("epoch", c.init("app").epoch, 0) // the refused one has not used it
		}},
		{name: "TC-07 SM-12 GO-31 a coordinator that is starting serves nothing until it knows everything", test: starting},
		{name: "TC-08 TC-09 TC-10 MD-02 taking over a finished id raises the epoch and takes the new timeout", test: func(c *cluster) {
			for state, reach := range map[string]func(p *producer){
				"EMPTY 1":           func(*producer) {},
				"COMPLETE_COMMIT 1": func(p *producer) { p.applied(1, true) },
				"COMPLETE_ABORT 1":  func(p *producer) { p.applied(1, false) },
			} {
				p := c.init("app " + state)
				reach(p)
				res, err := c.initAs(&oncelogv1.InitProducerRequest{TransactionalId: p.id, TimeoutMs: 4321})
				c.ok(err)
				c.equal("epoch", res.GetEpoch(), 1)
				c.equal("producer id", res.GetProducerId(), p.pid)
				c.equal("timeout", res.GetTimeoutMs(), 4321)
				c.equal("timeout kept", p.describe().GetTimeoutMs(), 4321)
				c.equal("state", p.state(), state)
			}
		}},
		{name: "TC-11 TC-12 taking over while shards have yet to apply fences at once and tells what is incomplete", test: func(c *cluster) {
			topic := c.topic("t", 1)
			for _, commit := range []bool{true, false} {
				p := c.init(map[bool]string{true: "committing", false: "aborting"}[commit])
				c.shards.hold(p.pid, true)
				c.equal("end", p.end(1, commit, wrote(topic, 0, 1)), "OK")
				began := time.Now()
				res, err := c.leader().txns.InitProducer(c.within(2*time.Second), &oncelogv1.InitProducerRequest{TransactionalId: p.id})
				c.ok(err)
				c.equal("epoch", res.GetEpoch(), 1)
				c.equal("incomplete", res.GetIncompleteShards(), []uint64{shardOf(topic, 0)})
				if waited := time.Since(began); waited < time.Second || waited > 2*time.Second {
					c.t.Fatalf("it waited %v", waited)
				}
				c.equal("the next commit of the old epoch", p.commit(2), "FENCED")
				c.shards.hold(p.pid, false)
				res, err = c.initAs(&oncelogv1.InitProducerRequest{TransactionalId: p.id})
				c.ok(err)
				c.equal("incomplete, when the shard answers", len(res.GetIncompleteShards()), 0)
			}
		}},
		{name: "TC-13 taking over an open transaction raises the epoch and aborts it in one step", test: func(c *cluster) {
			topic := c.topic("t", 1)
			p := c.init("app")
			p.opens(1, shardOf(topic, 0))
			res, err := c.initAs(&oncelogv1.InitProducerRequest{TransactionalId: "app"})
			c.ok(err)
			c.equal("epoch", res.GetEpoch(), 1)
			c.equal("previous", res.GetPrevious().GetReason(), oncelogv1.AbortReason_ABORT_REASON_FENCED)
			c.equal("incomplete", len(res.GetIncompleteShards()), 0)
			c.equal("its commit", p.commit(1, wrote(topic, 0, 1)), "CONFLICT fenced")
			c.equal("markers", told(c.shards.take()), []string{"2: 1/0/1 fenced"})
		}},
		{name: "TC-15 TX-20 an InitProducer that cannot be logged raises the epoch once, when it can", nodes: 3, test: unlogged},
		{
			name: "TC-17 TC-20 the request of an owner who was fenced, repeated, fences nobody", test: func(c *cluster) {
				c.initWith("app", "first")
				second := c.initWith("app", "second")
				_, err := c.initAs(&oncelogv1.InitProducerRequest{TransactionalId: "app", RequestId: "first"})
				c.equal("current epoch", c.wants("the first, repeated", err, "FENCED")["current_epoch"], second.epoch)
				c.equal("the second goes on", second.commit(1), "OK")
			},
		},
		{name: "TC-18 the proof of one producer is none for another", test: func(c *cluster) {
			p, q := c.init("p"), c.init("q")
			p.token = q.token
			c.equal("with the token of another", p.commit(1), "INVALID_PRODUCER_TOKEN")
			c.equal("outcome", p.outcome(1), "open")
		}},
		{name: "TC-04 TC-19 MD-12 the same request again gets the same epoch", nodes: 3, test: func(c *cluster) {
			c.init("app")
			first := c.initWith("app", "r")
			c.equal("epoch", c.initWith("app", "r").epoch, first.epoch)
			c.failover()
			again := c.initWith("app", "r")
			c.equal("epoch, from another leader", again.epoch, first.epoch)
			c.equal("the token holds", again.commit(1), "OK")
			// Of an id that nobody knows, it is the first.
			c.equal("epoch of a new id", c.initWith("other", "r").epoch, 0)
		}},
		{name: "SM-01 the timeout has bounds", test: func(c *cluster) {
			most := coordinator.DefaultMaxTransactionTimeout.Milliseconds()
			for timeout, want := range map[int64]string{
				-1: "INVALID_ARGUMENT", 99: "INVALID_ARGUMENT", most + 1: "INVALID_ARGUMENT",
				100: "OK", most: "OK", 0: "OK", // 0: the default
			} {
				_, err := c.initAs(&oncelogv1.InitProducerRequest{TransactionalId: "app", TimeoutMs: timeout})
				if meta := c.wants("timeout", err, want); want != "OK" {
					c.equal("field", meta["field"], "timeout_ms")
				}
			}
		}},
	})
}

// starting restarts a coordinator and asks it from the first moment on: it
// refuses, until it answers right.
func starting(c *cluster) {
	topic := c.topic("t", 1)
	p := c.init("app")
	c.equal("commit", p.commit(1, wrote(topic, 0, 1)), "OK")
	// A coordinator alone elects itself at once, sometimes before it is asked.
	for range 20 {
		if c.askWhileStarting(p) > 0 {
			return
		}
	}
	c.t.Fatal("it answered at once, every time: nothing was tested")
}

// askWhileStarting restarts the leader and asks it until it answers. It returns how
// often it refused.
func (c *cluster) askWhileStarting(p *producer) (refusals int) {
	m := c.leader()
	c.stop(m)
	c.start(m)
	for {
		outcome, err := m.txns.GetOutcome(c.within(patience), &oncelogv1.GetOutcomeRequest{Txn: p.ref(1)})
		_, groups := m.groups.ListGroups(c.within(patience), &oncelogv1.ListGroupsRequest{})
		_, list := m.txns.ListTransactions(c.within(patience), &oncelogv1.ListTransactionsRequest{})
		if err == nil {
			c.ok(groups)
			c.ok(list)
			c.equal("outcome", outcome.GetOutcome(), oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED)
			return refusals
		}
		for _, err := range []error{err, groups, list} {
			if got := code(err); got != "NOT_LEADER" && got != "UNAVAILABLE" && err != nil {
				c.t.Fatalf("while starting: %v", err)
			}
		}
		if refusals++; refusals > 1000 {
			c.t.Fatal("it never serves")
		}
		pass(10 * time.Millisecond)
	}
}

// unlogged takes an id over through a leader that reaches nobody, again and again
// with one request id.
func unlogged(c *cluster) {
	topic := c.topic("t", 1)
	p := c.init("app")
	c.equal("commit", p.commit(1, wrote(topic, 0, 1)), "OK")
	old := c.leader()
	c.cut(old, true)
	req := &oncelogv1.InitProducerRequest{TransactionalId: "app", TimeoutMs: timeoutMillis, RequestId: "r"}
	for range 3 {
		_, err := old.txns.InitProducer(c.within(500*time.Millisecond), req)
		if got := code(err); got != "DEADLINE" && got != "UNKNOWN_RESULT" && got != "NOT_LEADER" {
			c.t.Fatalf("without a majority: %v", err)
		}
	}
	c.until("another coordinator leads", func() bool {
		for _, m := range c.nodes {
			if m != old && c.group(m).GetReady() {
				return true
			}
		}
		return false
	})
	c.equal("epoch, while the old leader is away", p.describe().GetEpoch(), 0)
	c.cut(old, false)
	c.until("the old leader follows", func() bool { return c.group(old).GetLeader() == c.leader().id })
	c.report(c.group(c.leader()).GetTerm())
	res, err := c.initAs(req)
	c.ok(err)
	c.equal("epoch", res.GetEpoch(), 1)
	c.equal("the old owner", p.commit(2, wrote(topic, 0, 1)), "FENCED")
	next := &producer{c: c, id: "app", pid: res.GetProducerId(), epoch: res.GetEpoch(), token: res.GetProducerToken()}
	c.equal("the new one", next.commit(1, wrote(topic, 0, 1)), "OK")
}
