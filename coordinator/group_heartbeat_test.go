package coordinator

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// subscriber is a member that is given its partitions, as a client would keep it.
type subscriber struct {
	c            *cluster
	id, instance string
	generation   uint64
	partitions   []uint64 // ids
	revoked      []uint64
	positions    map[uint64]int64 // of the partitions that the last answer told of; -1: none
}

const testSession = 3 * time.Second

func (s *subscriber) request(topics ...string) *oncelogv1.GroupHeartbeatRequest {
	req := &oncelogv1.GroupHeartbeatRequest{GroupId: "g", MemberId: s.id, InstanceId: s.instance, Generation: s.generation}
	if len(topics) > 0 {
		req.Subscription = &oncelogv1.GroupSubscription{
			Topics: topics, ClientId: "cli",
			SessionTimeoutMs: uint32(testSession.Milliseconds()), RebalanceTimeoutMs: uint32(2 * testSession.Milliseconds()),
		}
	}
	return req
}

func (s *subscriber) send(req *oncelogv1.GroupHeartbeatRequest) error {
	return s.sendTo(s.c.leader(), req)
}

func (s *subscriber) sendTo(m *member, req *oncelogv1.GroupHeartbeatRequest) error {
	res, err := m.groups().GroupHeartbeat(s.c.ctx(), req)
	if err != nil || res.GetGeneration() == s.generation {
		return err
	}
	s.generation, s.revoked = res.GetGeneration(), res.GetRevokedPartitionIds()
	s.partitions, s.positions = nil, map[uint64]int64{}
	for _, a := range res.GetAssigned() {
		id := a.GetPartition().GetPartitionId()
		s.partitions = append(s.partitions, id)
		s.positions[id] = -1
		if a.Offset != nil {
			s.positions[id] = int64(a.GetOffset())
		}
	}
	return nil
}

// beat is a light heartbeat that must succeed.
func (s *subscriber) beat() {
	s.c.t.Helper()
	wantCode(s.c.t, s.send(s.request()), "")
}

func (s *subscriber) join(topics ...string) {
	s.c.t.Helper()
	wantCode(s.c.t, s.send(s.request(topics...)), "")
}

// release lets go of what the member was asked for.
func (s *subscriber) release() {
	s.c.t.Helper()
	req := s.request()
	req.ReleasedPartitionIds = s.revoked
	wantCode(s.c.t, s.send(req), "")
}

func (c *cluster) subscriber(id string) *subscriber { return &subscriber{c: c, id: id} }

// beating keeps members alive for a while.
func beating(d time.Duration, members ...*subscriber) {
	for ; d > 0; d -= testSession / 3 {
		pass(testSession / 3)
		for _, s := range members {
			s.beat()
		}
	}
}

func TestGroupHeartbeatSharesOut(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("in", 4, 1)
		a, b := c.subscriber("a"), c.subscriber("b")
		a.join("in")
		wantEqual(t, "partitions of a", len(a.partitions), 4)
		last := a.partitions[3]
		commit := &oncelogv1.GroupOffsets{GroupId: "g", MemberId: "a", Generation: a.generation, Offsets: []*oncelogv1.OffsetCommit{
			{Partition: &oncelogv1.PartitionRef{PartitionId: last}, Offset: 7},
		}}
		must(c.leader().groups().CommitOffsets(c.ctx(), &oncelogv1.CommitOffsetsRequest{Offsets: commit}))
		b.join("in")
		wantEqual(t, "partitions of b", len(b.partitions), 0)
		a.beat()
		wantEqual(t, "a is asked for", a.revoked, []uint64{a.partitions[1] + 1, last})
		d := must(c.leader().groups().DescribeGroup(c.ctx(), &oncelogv1.DescribeGroupRequest{GroupId: "g"}))
		wantEqual(t, "asked, as described", d.GetMembers()[0].GetRevokedPartitionIds(), a.revoked)
		wantEqual(t, "topics, as described", d.GetMembers()[0].GetSubscription().GetTopics(), []string{"in"})
		wantEqual(t, "next owner", d.GetPartitions()[3].GetNextMemberId(), "b")
		a.release()
		b.beat()
		wantEqual(t, "partitions of b", b.partitions, []uint64{last - 1, last})
		wantEqual(t, "position that b begins at", b.positions[last], 7)
		wantEqual(t, "partitions of a", len(a.partitions), 2)

		must(c.leader().groups().LeaveGroup(c.ctx(), &oncelogv1.LeaveGroupRequest{GroupId: "g", MemberId: "b"}))
		a.beat()
		wantEqual(t, "partitions of a", len(a.partitions), 4)
		wantCode(t, b.send(b.request()), "UNKNOWN_MEMBER")
		must(c.leader().catalog().DeleteTopic(c.ctx(), &oncelogv1.DeleteTopicRequest{Name: topic.GetName()}))
		a.beat()
		wantEqual(t, "partitions of a after the topic went", len(a.partitions), 0)
		c.leader().check(t)
	})
}

// TestGroupHeartbeatWaitsForNews: an answer comes when there is something new, or
// when the wait is over; and none of it costs a log entry.
func TestGroupHeartbeatWaitsForNews(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		c.topic("in", 2, 1)
		a, b := c.subscriber("a"), c.subscriber("b")
		a.join("in")
		applied := c.leader().c.group.Status().Applied
		began := time.Now()
		req := a.request()
		req.MaxWaitMs = 60_000
		wantCode(t, a.send(req), "")
		wantEqual(t, "wait", time.Since(began), testSession/3)
		a.join("in") // what it has asked for before
		wantEqual(t, "log entries", c.leader().c.group.Status().Applied-applied, uint64(0))

		done := make(chan error, 1)
		began = time.Now()
		leader := c.leader()
		go func() { done <- a.sendTo(leader, req) }()
		settle()
		b.join("in")
		wantCode(t, <-done, "")
		wantEqual(t, "wait until the news", time.Since(began) < 100*time.Millisecond, true)
		wantEqual(t, "a is asked for", len(a.revoked), 1)
	})
}

func TestSilentMembersAreLost(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		c.topic("in", 2, 1)
		a, b := c.subscriber("a"), c.subscriber("b")
		a.join("in")
		b.join("in")
		a.beat()
		a.release()
		beating(10*testSession, a, b)
		wantEqual(t, "both are members", len(a.partitions)+len(b.partitions), 2)
		beating(testSession+time.Second, a)
		wantEqual(t, "partitions of a", len(a.partitions), 2)
		wantCode(t, b.send(b.request()), "UNKNOWN_MEMBER")
	})
}

// TestMembersMustLetGoInTime: whoever stays alive but does not let go loses
// everything at the rebalance timeout.
func TestMembersMustLetGoInTime(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		c.topic("in", 2, 1)
		a, b := c.subscriber("a"), c.subscriber("b")
		a.join("in")
		b.join("in")
		beating(testSession, a, b)
		wantEqual(t, "a is asked for", len(a.revoked), 1)
		wantEqual(t, "partitions of b", len(b.partitions), 0)
		for range 6 {
			pass(testSession / 3)
			_ = a.send(a.request())
			b.beat()
		}
		wantCode(t, a.send(a.request()), "UNKNOWN_MEMBER")
		wantEqual(t, "partitions of b", len(b.partitions), 2)
	})
}

// TestANewLeaderGrantsWholeSessions: what a leader has not heard, because it did
// not lead, it holds against nobody; and whoever fell silent meanwhile is lost all
// the same.
func TestANewLeaderGrantsWholeSessions(t *testing.T) {
	inBubble(t, 3, nil, func(t *testing.T, c *cluster) {
		c.register(1)
		c.topic("in", 2, 1)
		a, b := c.subscriber("a"), c.subscriber("b")
		a.join("in")
		b.join("in")
		a.beat()
		a.release()
		beating(testSession, a, b)
		pass(testSession - time.Second)
		c.moveLeader()
		pass(testSession - time.Second)
		a.beat() // long after its session, by the clock of the old leader
		pass(2 * time.Second)
		a.beat()
		wantEqual(t, "partitions of a", len(a.partitions), 2)
		wantCode(t, b.send(b.request()), "UNKNOWN_MEMBER")
	})
}

func TestStaticMembersAreReplaced(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		c.topic("in", 2, 1)
		old, b := c.subscriber("a1"), c.subscriber("b")
		old.instance = "A"
		old.join("in")
		b.join("in")
		old.beat()
		old.release()
		b.beat()
		next := c.subscriber("a2")
		next.instance = "A"
		next.join("in")
		wantEqual(t, "partitions of the next life", next.partitions, old.partitions)
		kept := slices.Clone(b.partitions)
		b.beat()
		wantEqual(t, "partitions of the other", b.partitions, kept)
		meta := wantCode(t, old.send(old.request()), "FENCED_INSTANCE_ID")
		wantEqual(t, "who took its place", meta["member"], "a2")
		wantCode(t, old.send(old.request("in")), "FENCED_INSTANCE_ID")
		b.instance = "B"
		wantCode(t, b.send(b.request()), "INVALID_ARGUMENT")
		wantCode(t, b.send(b.request("in")), "INVALID_ARGUMENT")
	})
}

func TestGroupHeartbeatRefusals(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		topic := c.topic("in", 2, 1)
		long := strings.Repeat("x", 250)
		s := c.subscriber("a")
		with := func(change func(*oncelogv1.GroupHeartbeatRequest)) *oncelogv1.GroupHeartbeatRequest {
			req := s.request("in")
			change(req)
			return req
		}
		sub := func(change func(*oncelogv1.GroupSubscription)) *oncelogv1.GroupHeartbeatRequest {
			return with(func(r *oncelogv1.GroupHeartbeatRequest) { change(r.Subscription) })
		}
		for i, x := range []struct {
			req         *oncelogv1.GroupHeartbeatRequest
			code, field string
		}{
			{with(func(r *oncelogv1.GroupHeartbeatRequest) { r.GroupId = "" }), "INVALID_ARGUMENT", "group_id"},
			{with(func(r *oncelogv1.GroupHeartbeatRequest) { r.MemberId = long }), "LIMIT_EXCEEDED", "member_id"},
			{with(func(r *oncelogv1.GroupHeartbeatRequest) { r.InstanceId = long }), "LIMIT_EXCEEDED", "instance_id"},
			{with(func(r *oncelogv1.GroupHeartbeatRequest) { r.ReleasedPartitionIds = make([]uint64, 10_001) }), "LIMIT_EXCEEDED", "released_partition_ids"},
			{sub(func(r *oncelogv1.GroupSubscription) { r.Topics = nil }), "INVALID_ARGUMENT", "subscription.topics"},
			{sub(func(r *oncelogv1.GroupSubscription) { r.Topics = make([]string, 1001) }), "LIMIT_EXCEEDED", "subscription.topics"},
			{sub(func(r *oncelogv1.GroupSubscription) { r.Topics = []string{"in", ""} }), "INVALID_ARGUMENT", "subscription.topics[1]"},
			{sub(func(r *oncelogv1.GroupSubscription) { r.Topics = []string{long} }), "LIMIT_EXCEEDED", "subscription.topics[0]"},
			{sub(func(r *oncelogv1.GroupSubscription) { r.Assignor = 9 }), "INVALID_ARGUMENT", "subscription.assignor"},
			{sub(func(r *oncelogv1.GroupSubscription) { r.SessionTimeoutMs = 499 }), "INVALID_ARGUMENT", "subscription.session_timeout_ms"},
			{sub(func(r *oncelogv1.GroupSubscription) { r.SessionTimeoutMs = 1_800_001 }), "LIMIT_EXCEEDED", "subscription.session_timeout_ms"},
			{sub(func(r *oncelogv1.GroupSubscription) { r.RebalanceTimeoutMs = 3_600_001 }), "LIMIT_EXCEEDED", "subscription.rebalance_timeout_ms"},
			{sub(func(r *oncelogv1.GroupSubscription) { r.ClientId = long }), "LIMIT_EXCEEDED", "subscription.client_id"},
		} {
			_, err := c.leader().groups().GroupHeartbeat(c.ctx(), x.req)
			meta := wantCode(t, err, x.code)
			wantEqual(t, fmt.Sprint("field of request ", i), meta["field"], x.field)
		}
		wantCode(t, s.send(s.request()), "UNKNOWN_MEMBER")
		s.join("in")
		manual := &reader{c: c, group: "g", id: "m"}
		_, err := c.leader().groups().AssignPartitions(c.ctx(), &oncelogv1.AssignPartitionsRequest{GroupId: "g", MemberId: "m"})
		wantCode(t, err, "INCONSISTENT_GROUP_PROTOCOL")
		manual.group = "manual"
		manual.assign(topic, 0)
		req := s.request("in")
		req.GroupId = manual.group
		_, err = c.leader().groups().GroupHeartbeat(c.ctx(), req)
		wantCode(t, err, "INCONSISTENT_GROUP_PROTOCOL")
		req.Subscription, req.MemberId = nil, "m"
		_, err = c.leader().groups().GroupHeartbeat(c.ctx(), req)
		wantCode(t, err, "INCONSISTENT_GROUP_PROTOCOL")
	})
}
