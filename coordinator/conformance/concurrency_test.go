package conformance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator"
)

// TestConcurrency: Kafka's TransactionCoordinatorConcurrencyTest, and the parts of
// ProducerIdManagerTest and TransactionStateManagerTest that are about callers side
// by side.
func TestConcurrency(t *testing.T) {
	play(t, []scenario{
		{name: "CC-01 many producers side by side get what they ask for", test: func(c *cluster) {
			topic := c.topic("t", 3)
			c.together(20, func(i int, r *rand.Rand) {
				p := c.init(fmt.Sprint("app-", i))
				for n := uint64(1); n <= 20; n++ {
					c.life(p, topic, n, r)
				}
			})
			c.drained(20)
		}},
		{name: "CC-02 CC-04 leaders that come and go lose no decision and take none back", nodes: 3, test: restless},
		{
			name: "CC-05 timeouts beside commits: one of them decides", test: racingTimeouts,
			change: func(cfg *coordinator.Config) { cfg.ExpireGrace = time.Millisecond },
		},
		{name: "CC-06 SM-02 TC-14 TC-23 TC-35 of takeovers side by side every one gets an epoch of its own", test: func(c *cluster) {
			const callers = 16
			ps := make([]*producer, callers)
			c.together(callers, func(i int, _ *rand.Rand) { ps[i] = c.init("app") })
			var epochs []uint32
			for _, p := range ps {
				c.equal("producer id", p.pid, ps[0].pid)
				epochs = append(epochs, p.epoch)
			}
			slices.Sort(epochs)
			for i, e := range epochs {
				c.equal("epoch", e, i)
			}
			for _, p := range ps {
				want := "FENCED"
				if p.epoch == callers-1 {
					want = "OK"
				}
				c.equal("commit", p.commit(1), want)
			}
		}},
		{name: "CC-07 CC-08 CC-09 a repetition beside a new owner: one of them is current", test: func(c *cluster) {
			for round := range 20 {
				id := fmt.Sprint("app-", round)
				var firsts [2]*producer
				c.together(2, func(i int, _ *rand.Rand) { firsts[i] = c.initWith(id, "first") })
				first := firsts[0]
				c.equal("one request, twice at once", [2]uint64{firsts[1].pid, uint64(firsts[1].epoch)}, [2]uint64{first.pid, 0})
				var again, next *oncelogv1.InitProducerResponse
				var err error
				c.together(2, func(i int, _ *rand.Rand) {
					if i == 0 {
						again, err = c.initAs(&oncelogv1.InitProducerRequest{TransactionalId: id, RequestId: "first"})
						return
					}
					next, _ = c.initAs(&oncelogv1.InitProducerRequest{TransactionalId: id, RequestId: "next"})
				})
				c.equal("epoch of the new owner", next.GetEpoch(), first.epoch+1)
				if err == nil {
					c.equal("epoch of the repetition", again.GetEpoch(), first.epoch)
				} else {
					c.wants("the repetition", err, "FENCED")
				}
				c.equal("the old owner", first.commit(1), "FENCED")
			}
		}},
		{name: "PI-01 PI-02 producer ids are unique over callers, blocks, leaders and restarts", nodes: 3, test: uniqueIDs},
		{name: "SM-11 a leader that is deposed in the middle says that it does not know", nodes: 3, test: unknownResults},
		{name: "CN-03 of two owners at the same time one commits", test: func(c *cluster) {
			topic := c.topic("t", 1)
			for round := range 20 {
				id := fmt.Sprint("app-", round)
				old := c.init(id)
				old.opens(1, shardOf(topic, 0))
				var answer string
				c.together(2, func(i int, _ *rand.Rand) {
					if i == 0 {
						answer = old.commit(1, wrote(topic, 0, 1))
						return
					}
					c.init(id)
				})
				switch outcome := old.outcome(1)[:7]; {
				case answer == "OK" && outcome == "committ":
				case answer == "CONFLICT fenced" && outcome == "aborted":
				default:
					c.t.Fatalf("answer %s, outcome %s", answer, outcome)
				}
				c.equal("what it says afterwards", old.commit(1, wrote(topic, 0, 1)), answer)
			}
		}},
	})
}

// together runs fn n times side by side, each with its own randomness, which the
// machine's scheduler mixes further.
func (c *cluster) together(n int, fn func(i int, r *rand.Rand)) {
	c.t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { fn(i, rand.New(rand.NewPCG(uint64(i), uint64(n)))) })
	}
	wg.Wait()
}

// life is one transaction of a producer that is alone with its id.
func (c *cluster) life(p *producer, topic *oncelogv1.Topic, n uint64, r *rand.Rand) {
	shards := len(topic.GetPartitions())
	var parts []*oncelogv1.PartitionProgress
	for _, i := range r.Perm(shards)[:r.IntN(shards+1)] {
		if r.IntN(2) == 0 {
			p.opens(n, shardOf(topic, i))
		}
		parts = append(parts, wrote(topic, i, 1+r.Uint64N(5)))
	}
	commit := r.IntN(3) > 0
	want := map[bool]string{true: "committed", false: "aborted client"}[commit]
	for range 1 + r.IntN(2) {
		c.equal("end", p.end(n, commit, parts...), "OK")
	}
	if got := p.outcome(n); got != want && got != want+"*" {
		c.t.Errorf("%s/%d: %s, want %s", p.id, n, got, want)
	}
}

// drained waits until nothing is unfinished, and looks at every id.
func (c *cluster) drained(ids int) {
	c.t.Helper()
	c.until("everything is complete", func() bool {
		res, err := c.leader().txns.ListTransactions(c.ctx, &oncelogv1.ListTransactionsRequest{PageSize: 1000})
		c.ok(err)
		c.equal("ids", len(res.GetTransactions()), ids)
		return !slices.ContainsFunc(res.GetTransactions(), func(l *oncelogv1.TransactionListing) bool { return l.GetCompleting() > 0 })
	})
}

// restless moves leadership about while producers work. Whatever a call is told,
// the next leader says the same.
func restless(c *cluster) {
	topic := c.topic("t", 2)
	done := make(chan struct{})
	var lives sync.WaitGroup
	for i := range 5 {
		r := rand.New(rand.NewPCG(uint64(i), 7))
		p := c.init(fmt.Sprint("app-", i))
		lives.Go(func() {
			for n := uint64(1); ; n++ {
				select {
				case <-done:
					return
				default:
				}
				c.settled(p, topic, n, r)
			}
		})
	}
	for range 8 {
		pass(300 * time.Millisecond)
		c.failover()
	}
	close(done)
	lives.Wait()
	c.report(c.group(c.leader()).GetTerm())
	c.drained(5)
}

// settled ends a transaction through whoever leads, however often that takes.
func (c *cluster) settled(p *producer, topic *oncelogv1.Topic, n uint64, r *rand.Rand) {
	commit := r.IntN(3) > 0
	req := &oncelogv1.EndTransactionRequest{
		Txn: p.ref(n), ProducerToken: p.token, Commit: commit, Partitions: []*oncelogv1.PartitionProgress{wrote(topic, r.IntN(2), 1)},
	}
	for tries := 0; ; tries++ {
		_, err := c.nodes[(tries+int(n))%len(c.nodes)].txns.EndTransaction(c.within(200*time.Millisecond), req)
		switch code(err) {
		case "OK":
			opposite := &oncelogv1.EndTransactionRequest{Txn: p.ref(n), ProducerToken: p.token, Commit: !commit}
			for _, m := range c.nodes {
				_, err := m.txns.EndTransaction(c.within(200*time.Millisecond), opposite)
				switch code(err) {
				case "CONFLICT", "NOT_LEADER", "UNKNOWN_RESULT", "DEADLINE", "UNAVAILABLE":
				default:
					c.t.Errorf("%s/%d: OK, and then the opposite: %v", p.id, n, err)
				}
			}
			return
		case "NOT_LEADER", "UNKNOWN_RESULT", "DEADLINE", "UNAVAILABLE", "THROTTLED":
			<-time.After(10 * time.Millisecond)
		default:
			c.t.Errorf("%s/%d: %v", p.id, n, err)
			return
		}
		if tries > 10_000 {
			c.t.Errorf("%s/%d: no answer", p.id, n)
			return
		}
	}
}

// racingTimeouts commits transactions about when their time is up.
func racingTimeouts(c *cluster) {
	topic := c.topic("t", 1)
	shard := shardOf(topic, 0)
	tally := map[string]int{}
	var mu sync.Mutex
	c.together(40, func(i int, r *rand.Rand) {
		p := c.init(fmt.Sprint("app-", i))
		c.equal("enlist", c.enlist(p.ref(1), shard, timeoutMillis-100), "ACCEPTED")
		<-time.After(time.Duration(r.IntN(200)) * time.Millisecond)
		answer := p.commit(1, wrote(topic, 0, 1))
		mu.Lock()
		tally[answer]++
		mu.Unlock()
		want := map[string]string{"OK": "committed", "CONFLICT timeout": "aborted timeout"}[answer]
		<-time.After(time.Second)
		c.equal("outcome", p.outcome(1), want)
		c.equal("the next transaction", p.commit(2, wrote(topic, 0, 1)), "OK")
	})
	if tally["OK"] == 0 || tally["CONFLICT timeout"] == 0 {
		c.t.Fatalf("no race: %v", tally)
	}
}

// uniqueIDs takes producer ids with and without a transactional id from many
// callers, over the ends of blocks, of leaders and of processes.
func uniqueIDs(c *cluster) {
	var mu sync.Mutex
	seen := map[uint64]bool{}
	take := func(res *oncelogv1.InitProducerResponse, err error) {
		c.ok(err)
		mu.Lock()
		defer mu.Unlock()
		if seen[res.GetProducerId()] {
			c.t.Errorf("producer id %d was handed out twice (I9)", res.GetProducerId())
		}
		seen[res.GetProducerId()] = true
	}
	round := 0
	many := func() {
		round++
		c.leader()
		c.together(10, func(i int, _ *rand.Rand) {
			for n := range 150 {
				if n%50 == 0 {
					take(c.initAs(&oncelogv1.InitProducerRequest{TransactionalId: fmt.Sprint(round, i, n)}))
					continue
				}
				take(c.initAs(&oncelogv1.InitProducerRequest{}))
			}
		})
	}
	many() // more than one block
	c.failover()
	many()
	for _, m := range c.nodes {
		c.stop(m)
	}
	for _, m := range c.nodes {
		c.start(m)
	}
	many()
	c.equal("ids", len(seen), 3*10*150)
}

// unknownResults cuts off a leader while requests are on their way through it. It
// may say that it does not know, never that it did.
func unknownResults(c *cluster) {
	topic := c.topic("t", 1)
	p := c.init("app")
	old := c.leader()
	c.cut(old, true)
	ctx := c.within(patience)
	calls := map[string]func() error{
		"commit": func() error {
			_, err := old.txns.EndTransaction(ctx, &oncelogv1.EndTransactionRequest{
				Txn: p.ref(1), ProducerToken: p.token, Commit: true, Partitions: []*oncelogv1.PartitionProgress{wrote(topic, 0, 1)},
			})
			return err
		},
		"takeover": func() error {
			_, err := old.txns.InitProducer(ctx, &oncelogv1.InitProducerRequest{TransactionalId: "other"})
			return err
		},
		"offsets": func() error {
			_, err := old.groups.CommitOffsets(ctx, &oncelogv1.CommitOffsetsRequest{Offsets: &oncelogv1.GroupOffsets{
				GroupId: "g", Offsets: []*oncelogv1.OffsetCommit{{Partition: byID(topic.GetPartitions()[0].GetPartitionId()), Offset: 1}},
			}})
			return err
		},
		"outcome": func() error {
			// A question may be answered, by what the new leader confirms.
			res, err := old.txns.GetOutcome(ctx, &oncelogv1.GetOutcomeRequest{Txn: p.ref(1)})
			if err == nil && res.GetOutcome() == oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_OPEN {
				return apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_RESULT, "")
			}
			return err
		},
	}
	errs := map[string]error{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for name, call := range calls {
		wg.Go(func() {
			err := call()
			mu.Lock()
			defer mu.Unlock()
			errs[name] = err
		})
	}
	c.until("another coordinator leads", func() bool {
		return slices.ContainsFunc(c.nodes, func(m *node) bool { return m != old && c.group(m).GetReady() })
	})
	c.cut(old, false)
	wg.Wait()
	for name, err := range errs {
		switch code(err) {
		case "UNKNOWN_RESULT", "NOT_LEADER", "UNAVAILABLE":
		default:
			c.t.Errorf("%s: %v", name, err)
		}
	}
	c.until("the old leader follows", func() bool { return c.group(old).GetLeader() == c.leader().id })
	c.equal("outcome", p.outcome(1), "open")
	c.equal("the commit, repeated", p.commit(1, wrote(topic, 0, 1)), "OK")
}
