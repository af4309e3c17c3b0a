package conformance

import (
	"testing"
	"time"

	"github.com/oncelog/oncelog/api/level"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator"
)

// takesPrepared lets a cluster raise its formats to where transactions can be prepared.
func takesPrepared(cfg *coordinator.Config) { cfg.MaxFormatLevel = level.Newest }

// raise waits until the cluster writes these formats.
func (c *cluster) raise() {
	c.t.Helper()
	c.until("the level of formats is raised", func() bool {
		res, err := c.leader().status.GetStatus(c.ctx, &oncelogv1.GetStatusRequest{})
		return err == nil && res.GetFormatLevel() == level.Newest
	})
}

func (p *producer) prepareWith(number uint64, offsets []*oncelogv1.GroupOffsets, parts ...*oncelogv1.PartitionProgress) string {
	p.c.t.Helper()
	_, err := p.c.leader().txns.PrepareTransaction(p.c.within(patience), &oncelogv1.PrepareTransactionRequest{
		Txn: p.ref(number), ProducerToken: p.token, Partitions: parts, Offsets: offsets,
	})
	if err != nil {
		return refusal(err)
	}
	return "OK"
}

func (p *producer) prepare(number uint64, parts ...*oncelogv1.PartitionProgress) string {
	p.c.t.Helper()
	return p.prepareWith(number, nil, parts...)
}

func (c *cluster) complete(ref *oncelogv1.TxnRef, commit bool) string {
	c.t.Helper()
	res, err := c.leader().txns.CompletePrepared(c.within(patience), &oncelogv1.CompletePreparedRequest{Txn: ref, Commit: commit})
	if err != nil {
		return refusal(err)
	}
	c.equal("outcome of an answer that says OK", res.GetOutcome() == oncelogv1.TransactionOutcome_TRANSACTION_OUTCOME_COMMITTED, commit)
	return "OK"
}

// keep takes an id over and keeps its prepared transaction.
func (c *cluster) keep(id, request string) *oncelogv1.InitProducerResponse {
	c.t.Helper()
	res, err := c.initAs(&oncelogv1.InitProducerRequest{
		TransactionalId: id, TimeoutMs: timeoutMillis, RequestId: request, NoWait: true, KeepPrepared: true,
	})
	c.ok(err)
	return res
}

// TestPrepared: two-phase commit with another system, after Kafka's tests of KIP-939.
func TestPrepared(t *testing.T) {
	each := func(test func(c *cluster, topic *oncelogv1.Topic)) func(c *cluster) {
		return func(c *cluster) {
			c.raise()
			test(c, c.topic("t", 3))
		}
	}
	var all []scenario
	add := func(name string, test func(c *cluster, topic *oncelogv1.Topic)) {
		all = append(all, scenario{name: name, change: takesPrepared, test: each(test)})
	}
	add("TX-24 TX-25 TC-25 it outlives its producer, however often the id is taken over", func(c *cluster, topic *oncelogv1.Topic) {
		for i, commit := range []bool{true, false} {
			p := c.init("app " + string(rune('a'+i)))
			p.opens(1, shardOf(topic, 0))
			c.equal("prepare", p.prepare(1, wrote(topic, 0, 5)), "OK")
			c.equal("prepare again", p.prepare(1, wrote(topic, 0, 5)), "OK")
			c.equal("state", p.state(), "PREPARED 0")
			c.equal("outcome", p.outcome(1), "prepared")
			c.equal("a shard that asks", c.enlist(p.ref(1), shardOf(topic, 0), 0), "ACCEPTED")
			_, err := c.initAs(&oncelogv1.InitProducerRequest{TransactionalId: p.id, NoWait: true})
			c.wants("a takeover that does not keep it", err, "PREPARED_EXISTS")
			c.equal("state", p.state(), "PREPARED 0")
			for epoch := range uint32(3) {
				request := "request " + string(rune('0'+epoch))
				for range 2 { // and a repetition
					res := c.keep(p.id, request)
					c.equal("epoch", res.GetEpoch(), epoch+1)
					c.equal("kept", res.GetPrepared().String(), p.ref(1).String())
				}
			}
			c.equal("a shard that asks", c.enlist(p.ref(1), shardOf(topic, 0), 0), "ACCEPTED")
			d := p.describe().GetPrepared()
			c.equal("covers", d.GetParticipants()[0].GetPartitions()[0].GetNextSequence(), 5)
			c.equal("complete", c.complete(p.ref(1), commit), "OK")
			c.equal("complete again", c.complete(p.ref(1), commit), "OK")
			decided := map[bool]string{true: "committed", false: "client"}[commit]
			c.equal("the opposite", c.complete(p.ref(1), !commit), "CONFLICT "+decided)
			c.until("it is applied", func() bool { return p.describe().GetCompleting() == nil })
			next := c.init(p.id)
			c.equal("epoch", next.epoch, 4)
			next.applied(1, true, wrote(topic, 0, 1))
		}
	})
	add("TC-26 TC-27 only CompletePrepared ends it, whoever calls it", func(c *cluster, topic *oncelogv1.Topic) {
		old := c.init("app")
		c.equal("prepare", old.prepare(1, wrote(topic, 0, 5)), "OK")
		res := c.keep("app", "")
		now := &producer{c: c, id: "app", pid: res.GetProducerId(), epoch: res.GetEpoch(), token: res.GetProducerToken()}
		for _, p := range []*producer{old, now} {
			c.equal("commit", old.commit(1, wrote(topic, 0, 5)), "PREPARED_EXISTS")
			c.equal("abort", old.abort(1), "PREPARED_EXISTS")
			if p == now {
				c.equal("the next one", p.commit(1), "PREPARED_EXISTS")
				c.equal("prepare the next one", p.prepare(1), "PREPARED_EXISTS")
				c.equal("a shard with records of the next one", c.enlist(p.ref(1), shardOf(topic, 0), 0), "THROTTLED")
			}
		}
		c.equal("of the old epoch", old.commit(2), "FENCED")
		c.equal("a shard that was not named", c.enlist(old.ref(1), shardOf(topic, 1), 0), "STRAY fence 1")
		c.equal("operator", now.abortByOperator(0), "PREPARED_EXISTS")
		c.equal("delete", now.delete(), "PREPARED_EXISTS")
		c.equal("fence", now.fence(), "OK")
		pass(2 * timeoutMillis * time.Millisecond)
		c.equal("long after its timeout", old.outcome(1), "prepared")
		c.equal("what is not prepared", c.complete(now.ref(7), false), "FENCED")
		c.equal("complete", c.complete(old.ref(1), true), "OK")
		c.equal("commit, late", old.commit(1, wrote(topic, 0, 5)), "OK")
		c.equal("abort, late", old.abort(1), "CONFLICT committed")
		c.equal("prepare, late", old.prepare(1, wrote(topic, 0, 5)), "CONFLICT committed")
	})
	add("what was not prepared is not completed", func(c *cluster, topic *oncelogv1.Topic) {
		p := c.init("app")
		c.equal("free", c.complete(p.ref(1), true), "INVALID_TXN")
		p.opens(1, shardOf(topic, 0))
		c.equal("open", c.complete(p.ref(1), false), "INVALID_TXN")
		c.equal("unsettled", p.prepare(1), "UNSETTLED_SENDS")
		c.equal("a partition that does not exist", p.prepare(1, wrote(topic, 0, 5), &oncelogv1.PartitionProgress{Partition: byID(1 << 40)}), "INVALID_TXN")
		c.equal("nobody's", c.complete(&oncelogv1.TxnRef{ProducerId: 1 << 40, TxnNumber: 1}, true), "UNKNOWN_PRODUCER")
		c.equal("state", p.state(), "ONGOING 0")
		p.token = nil
		c.equal("without a token", p.prepare(1, wrote(topic, 0, 5)), "INVALID_PRODUCER_TOKEN")
	})
	add("an operator ends it by force", func(c *cluster, topic *oncelogv1.Topic) {
		p := c.init("app")
		c.equal("prepare", p.prepare(1, wrote(topic, 0, 5)), "OK")
		_, err := c.leader().txns.AbortTransaction(c.within(patience), &oncelogv1.AbortTransactionRequest{TransactionalId: p.id, Force: true})
		c.ok(err)
		c.equal("commit", c.complete(p.ref(1), true), "CONFLICT admin")
		c.equal("abort", c.complete(p.ref(1), false), "OK")
	})
	add("the positions that it is to move are held", func(c *cluster, topic *oncelogv1.Topic) {
		part := byID(topic.GetPartitions()[0].GetPartitionId())
		assign := func(member string) string {
			_, err := c.leader().groups.AssignPartitions(c.within(patience), &oncelogv1.AssignPartitionsRequest{
				GroupId: "g", MemberId: member, Partitions: []*oncelogv1.PartitionRef{part},
			})
			return code(err)
		}
		fetch := func() string {
			res, err := c.leader().groups.FetchOffsets(c.within(patience), &oncelogv1.FetchOffsetsRequest{GroupId: "g", Partitions: []*oncelogv1.PartitionRef{part}})
			if err != nil {
				return code(err)
			}
			if res.GetOffsets()[0].Offset == nil {
				return "none"
			}
			return string(rune('0' + res.GetOffsets()[0].GetOffset()))
		}
		c.equal("assign", assign("m"), "OK")
		p := c.init("app")
		offsets := []*oncelogv1.GroupOffsets{{GroupId: "g", MemberId: "m", Generation: 1, Offsets: []*oncelogv1.OffsetCommit{{Partition: part, Offset: 5}}}}
		stranger := []*oncelogv1.GroupOffsets{{GroupId: "g", MemberId: "x", Generation: 1, Offsets: offsets[0].GetOffsets()}}
		c.equal("of a member that owns nothing", p.prepareWith(1, stranger), "STALE_MEMBER not_owner")
		c.equal("fetch", fetch(), "none")
		c.equal("prepare", p.prepareWith(1, offsets), "OK")
		c.equal("fetch", fetch(), "UNSTABLE_OFFSET_COMMIT")
		c.equal("who takes the partition over", assign("n"), "UNSTABLE_OFFSET_COMMIT")
		_, err := c.leader().groups.CommitOffsets(c.within(patience), &oncelogv1.CommitOffsetsRequest{Offsets: offsets[0]})
		meta := c.wants("a commit beside it", err, "UNSTABLE_OFFSET_COMMIT")
		c.equal("group", meta["group"], "g")
		q := c.init("other")
		_, err = c.leader().txns.EndTransaction(c.within(patience), &oncelogv1.EndTransactionRequest{
			Txn: q.ref(1), ProducerToken: q.token, Commit: true, Offsets: offsets,
		})
		c.wants("another transaction", err, "UNSTABLE_OFFSET_COMMIT")
		d, err := c.leader().groups.DescribeGroup(c.ctx, &oncelogv1.DescribeGroupRequest{GroupId: "g"})
		c.ok(err)
		c.equal("who holds it", d.GetPartitions()[0].GetPrepared().String(), p.ref(1).String())
		c.equal("complete", c.complete(p.ref(1), true), "OK")
		c.equal("fetch", fetch(), "5")
		c.equal("who takes the partition over", assign("n"), "OK")
	})
	all = append(all, scenario{name: "it is refused while a node would not read it", test: func(c *cluster) {
		p := c.init("app")
		c.equal("prepare", p.prepare(1), "UNAVAILABLE")
		c.equal("complete", c.complete(p.ref(1), true), "UNAVAILABLE")
		c.equal("state", p.state(), "EMPTY 0")
	}})
	play(t, all)
}
