package conformance

import (
	"fmt"
	"strings"
	"testing"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator"
)

// ask is a question about one partition of the topic of a group scene.
func (s *groupScene) ask(partition int, o *oncelogv1.GroupOffsets) *oncelogv1.GroupOffsets {
	o.Offsets[0].Partition = byID(s.in.GetPartitions()[partition].GetPartitionId())
	return o
}

// inGroup returns a group scene in which m owns partition 0 and has no position.
func inGroup(c *cluster) *groupScene {
	c.t.Helper()
	return c.groupScene(groupState{"owned", func(s *groupScene) { s.m.takes(0) }})
}

// carry is a commit of transaction number n of a producer with offsets.
func carry(p *producer, n uint64, offsets ...*oncelogv1.GroupOffsets) *oncelogv1.EndTransactionRequest {
	return &oncelogv1.EndTransactionRequest{Txn: p.ref(n), ProducerToken: p.token, Commit: true, Offsets: offsets}
}

// TestOffsets: Kafka's OffsetMetadataManagerTest, GroupCoordinatorTest and
// TxnOffsetCommitRequestTest. Offsets ride on the commit of a transaction here, so
// there is no time between "written" and "decided" in which they are pending.
func TestOffsets(t *testing.T) {
	play(t, []scenario{
		{name: "GO-01 GO-10 the owner moves its position, plainly and in a transaction, and everybody sees it at once", nodes: 3, test: func(c *cluster) {
			s := inGroup(c)
			s.m.commits(10)
			c.equal("position", s.position(), 10)
			s.m.commitsInTransaction(20)
			c.equal("position", s.position(), 20)
			c.failover()
			c.equal("position, from another leader", s.position(), 20)
		}},
		{name: "GO-02 GO-06 in a group that does not exist members own nothing, and who is no member may begin it", test: func(c *cluster) {
			s := c.groupScene(groupState{"none", func(*groupScene) {}})
			s.m.generation = 1
			c.equal("a member", s.plain(s.m.offsets(nil, 5)), "STALE_MEMBER not_owner")
			c.equal("a member, in a transaction", s.transactional(s.m.offsets(nil, 5)), "STALE_MEMBER not_owner")
			c.equal("group", s.standing(), "no group")
			nobody := &member{s: s}
			c.equal("nobody", s.plain(nobody.offsets(nil, 5)), "OK")
			c.equal("group", s.standing(), "nobody, at 5")
		}},
		{name: "GO-03 GO-04 another member, or another generation, moves nothing", test: func(c *cluster) {
			s := inGroup(c)
			stranger, older, newer := s.m.offsets(nil, 5), s.m.offsets(nil, 5), s.m.offsets(nil, 5)
			stranger.MemberId = "stranger"
			older.Generation--
			newer.Generation++
			for o, why := range map[*oncelogv1.GroupOffsets]string{stranger: "not_owner", older: "generation", newer: "generation"} {
				c.equal("plain", s.plain(o), "STALE_MEMBER "+why)
				c.equal("transactional", s.transactional(o), "STALE_MEMBER "+why)
			}
			c.equal("position", s.position(), "none")
		}},
		{name: "GO-07 a member that keeps a partition while others change hands may go on committing it", test: func(c *cluster) {
			s := inGroup(c)
			s.n.takes(1)
			c.equal("m, with its generation of before", s.plain(s.m.offsets(nil, 5)), "OK")
			c.equal("standing", s.standing(), "m since 1, at 5")
		}},
		{name: "GO-08 GO-09 positions are readable while a transaction that will move them is open", test: func(c *cluster) {
			s := inGroup(c)
			s.m.commits(10)
			out := c.topic("out", 1)
			s.p.opens(1, shardOf(out, 0))
			c.equal("while it is open", s.position(), 10)
			res, err := c.leader().groups.FetchOffsets(c.within(patience), &oncelogv1.FetchOffsetsRequest{GroupId: s.group, Partitions: []*oncelogv1.PartitionRef{
				s.partition(), byID(s.in.GetPartitions()[1].GetPartitionId()),
			}})
			c.ok(err)
			c.equal("never committed", res.GetOffsets()[1].Offset == nil, true)
			req := carry(s.p, 1, s.m.offsets(s.m.known, 20))
			req.Partitions = []*oncelogv1.PartitionProgress{wrote(out, 0, 1)}
			c.equal("commit", c.end(req), "OK")
			c.equal("when it is committed", s.position(), 20)
		}},
		{name: "GO-11 GO-12 an abort moves nothing, and a commit after it neither", test: func(c *cluster) {
			s := inGroup(c)
			s.m.commits(10)
			c.equal("abort", s.p.abort(1), "OK")
			c.equal("commit", c.end(carry(s.p, 1, s.m.offsets(s.m.known, 20))), "CONFLICT client")
			c.equal("position", s.position(), 10)
		}},
		{name: "GO-13 a producer that nobody knows moves nothing", test: func(c *cluster) {
			s := inGroup(c)
			stranger := &producer{c: c, pid: 99, token: c.keys.Sign(99, 0)}
			c.equal("commit", c.end(carry(stranger, 1, s.m.offsets(nil, 20))), "UNKNOWN_PRODUCER")
			c.equal("position", s.position(), "none")
			c.equal("another producer's is not touched", s.transactional(s.m.offsets(nil, 20)), "OK")
		}},
		{name: "GO-14 GO-15 GO-16 between a plain commit and one in a transaction the first wins, also after a restart", test: func(c *cluster) {
			for _, plainFirst := range []bool{true, false} {
				s := c.groupSceneOf(fmt.Sprint("g-", plainFirst), groupState{"owned", func(s *groupScene) { s.m.takes(0) }})
				ways := []func(*oncelogv1.GroupOffsets) string{s.plain, s.transactional}
				if !plainFirst {
					ways[0], ways[1] = ways[1], ways[0]
				}
				// Both begin from the same knowledge.
				c.equal("the first", ways[0](s.m.offsets(nil, 10)), "OK")
				c.equal("the second", ways[1](s.m.offsets(nil, 20)), "STALE_MEMBER offset_moved")
				c.equal("position", s.position(), 10)
				m := c.leader()
				c.stop(m)
				c.start(m)
				c.equal("position after a restart", s.position(), 10)
				c.equal("with the new knowledge", ways[1](s.m.offsets(ptr(10), 20)), "OK")
				c.equal("position", s.position(), 20)
			}
		}},
		{name: "GO-17 the position of a plain commit outlives an abort", test: func(c *cluster) {
			s := inGroup(c)
			s.m.commits(10)
			c.equal("abort", s.p.abort(1), "OK")
			c.equal("position", s.position(), 10)
		}},
		{name: "GO-18 one decision moves two groups, or neither", test: func(c *cluster) {
			first, second := inGroup(c), c.groupSceneOf("h", groupState{"owned", func(s *groupScene) { s.m.takes(0) }})
			stale := second.m.offsets(ptr(3), 20)
			c.equal("one of them stale", c.end(carry(first.p, 1, first.m.offsets(nil, 10), stale)), "STALE_MEMBER offset_moved")
			c.equal("positions", first.position()+" "+second.position(), "none none")
			c.equal("both right", c.end(carry(first.p, 1, first.m.offsets(nil, 10), second.m.offsets(nil, 20))), "OK")
			c.equal("positions", first.position()+" "+second.position(), "10 20")
		}},
		{name: "GO-19 two producers move two partitions of a group, each with its own decision", test: func(c *cluster) {
			s := inGroup(c)
			s.n.takes(1)
			q := c.init("q")
			c.equal("the first", c.end(carry(s.p, 1, s.m.offsets(nil, 10))), "OK")
			c.equal("the second aborts", q.abort(1), "OK")
			c.equal("position", s.position(), 10)
			c.equal("the second commits", c.end(carry(q, 2, s.ask(1, s.n.offsets(nil, 20)))), "OK")
			d := s.describe()
			c.equal("positions", d.GetPartitions()[0].GetCommitted().GetOffset()+d.GetPartitions()[1].GetCommitted().GetOffset(), 30)
		}},
		{name: "GO-20 of two producers that move the same position from the same knowledge one commits", test: func(c *cluster) {
			s := inGroup(c)
			q := c.init("q")
			c.equal("the first", c.end(carry(s.p, 1, s.m.offsets(nil, 10))), "OK")
			c.equal("the second", c.end(carry(q, 1, s.m.offsets(nil, 12))), "STALE_MEMBER offset_moved")
			c.equal("its transaction", q.outcome(1), "open")
			c.equal("position", s.position(), 10)
		}},
		{name: "GO-21 GO-24 a group that is deleted under a transaction takes no position from it", test: func(c *cluster) {
			s := inGroup(c)
			s.m.commits(10)
			out := c.topic("out", 1)
			s.p.opens(1, shardOf(out, 0))
			o := s.m.offsets(s.m.known, 20)
			c.equal("leave", s.m.leave(), "OK")
			_, err := c.leader().groups.DeleteGroup(c.ctx, &oncelogv1.DeleteGroupRequest{GroupId: s.group})
			c.ok(err)
			req := carry(s.p, 1, o)
			req.Partitions = []*oncelogv1.PartitionProgress{wrote(out, 0, 1)}
			c.equal("commit", c.end(req), "STALE_MEMBER not_owner")
			c.equal("group", s.standing(), "no group")
			c.equal("abort", s.p.abort(1, wrote(out, 0, 1)), "OK")
		}},
		{name: "GO-22 a topic that is deleted takes its positions along", test: func(c *cluster) {
			s := inGroup(c)
			s.m.commits(10)
			_, err := c.leader().catalog.DeleteTopic(c.ctx, &oncelogv1.DeleteTopicRequest{Name: s.in.GetName()})
			c.ok(err)
			c.equal("position", s.position(), "none")
			c.equal("a commit under way", s.transactional(s.m.offsets(s.m.known, 20)), "UNKNOWN_PARTITION")
			s.in = c.topic(s.in.GetName(), 2)
			c.equal("in a topic of the same name", s.position(), "none")
		}},
		{name: "GO-26 SM-05 a restart knows every position, decision and deletion", change: smallSnapshots, test: reloaded},
		{name: "GO-27 GO-30 SM-10 PI-03 what cannot be logged changes nothing, and works later", test: func(c *cluster) {
			s := inGroup(c)
			s.m.commits(10)
			c.fillDisk(true)
			o := s.m.offsets(s.m.known, 20)
			c.equal("plain", s.plain(o), "OVERLOADED")
			c.equal("in a transaction", c.end(carry(s.p, 1, o)), "OVERLOADED")
			_, err := c.initAs(&oncelogv1.InitProducerRequest{TransactionalId: "new"})
			c.wants("InitProducer", err, "OVERLOADED")
			_, err = c.initAs(&oncelogv1.InitProducerRequest{})
			c.wants("InitProducer without an id", err, "OVERLOADED")
			c.equal("position", s.position(), 10)
			c.equal("outcome", s.p.outcome(1), "open")
			c.fillDisk(false)
			c.equal("in a transaction, again", c.end(carry(s.p, 1, o)), "OK")
			c.equal("position", s.position(), 20)
			c.equal("a new id", c.init("new").epoch, 0)
			_, err = c.initAs(&oncelogv1.InitProducerRequest{})
			c.ok(err)
		}},
		{name: "GO-28 KA-05 one bad partition refuses the whole commit", test: func(c *cluster) {
			s := inGroup(c)
			s.m.takes(0, 1)
			for what, bad := range map[string]*oncelogv1.OffsetCommit{
				"LIMIT_EXCEEDED":    {Partition: byID(s.in.GetPartitions()[1].GetPartitionId()), Offset: 1, Metadata: strings.Repeat("x", 4097)},
				"UNKNOWN_PARTITION": {Partition: byID(1 << 40), Offset: 1},
				"UNKNOWN_TOPIC":     {Partition: &oncelogv1.PartitionRef{Topic: "none"}, Offset: 1},
				"INVALID_ARGUMENT":  {Offset: 1},
			} {
				o := s.m.offsets(nil, 10)
				o.Offsets = append(o.Offsets, bad)
				c.equal("plain", s.plain(o), what)
				c.equal("in a transaction", s.transactional(o), what)
				c.equal("position", s.position(), "none")
			}
		}},
		{name: "GO-29 a commit that is refused for its records moves no position", test: func(c *cluster) {
			s := inGroup(c)
			out := c.topic("out", 1)
			s.p.opens(1, shardOf(out, 0))
			c.equal("commit", c.end(carry(s.p, 1, s.m.offsets(nil, 10))), "UNSETTLED_SENDS")
			c.equal("position", s.position(), "none")
			req := carry(s.p, 1, s.m.offsets(nil, 10))
			req.Partitions = []*oncelogv1.PartitionProgress{wrote(out, 0, 1)}
			c.equal("commit that names them", c.end(req), "OK")
			c.equal("position", s.position(), 10)
		}},
		{name: "TX-08 metadata comes back as it was committed", test: func(c *cluster) {
			s := inGroup(c)
			o := s.m.offsets(nil, 10)
			o.Offsets[0].Metadata = "some metadata \x00 with everything"
			c.equal("commit", s.transactional(o), "OK")
			c.init(s.p.id) // a successor settles what the id has begun
			res, err := c.leader().groups.FetchOffsets(c.ctx, &oncelogv1.FetchOffsetsRequest{GroupId: s.group})
			c.ok(err)
			c.equal("offset", res.GetOffsets()[0].GetOffset(), 10)
			c.equal("metadata", res.GetOffsets()[0].GetMetadata(), o.GetOffsets()[0].GetMetadata())
		}},
	})
}

// smallSnapshots makes a coordinator cut its log often.
func smallSnapshots(cfg *coordinator.Config) { cfg.SnapshotEntries = 10 }

// reloaded restarts a coordinator whose log has been cut behind many commands.
func reloaded(c *cluster) {
	s := inGroup(c)
	topic := c.topic("out", 1)
	p, gone := c.init("app"), c.init("gone")
	for n := range uint64(10) {
		c.equal("abort", p.abort(2*n+1, wrote(topic, 0, 1)), "OK")
		s.m.commitsInTransaction(10 * (n + 1))
	}
	c.equal("commit", p.commit(100, wrote(topic, 0, 1)), "OK")
	p.opens(101, shardOf(topic, 0))
	c.equal("delete", gone.delete(), "OK")
	other := c.groupSceneOf("h", groupState{"deleted", func(s *groupScene) {
		s.m.takes(0)
		s.m.commits(5)
		s.equal("leave", s.m.leave(), "OK")
		_, err := s.leader().groups.DeleteGroup(s.ctx, &oncelogv1.DeleteGroupRequest{GroupId: s.group})
		s.ok(err)
	}})
	m := c.leader()
	if c.group(m).GetFirstIndex() < 10 {
		c.t.Fatal("the log was not cut: a restart replays all of it")
	}
	for range 3 {
		c.stop(m)
		c.start(m)
		c.equal("position", s.position(), 100)
		c.equal("owner", s.standing(), "m since 1, at 100")
		c.equal("the newest decision", strings.TrimSuffix(p.outcome(100), "*"), "committed")
		c.equal("what is open", p.outcome(101), "open")
		c.equal("the deleted id", gone.state(), "gone")
		c.equal("the deleted group", other.standing(), "no group")
	}
}
