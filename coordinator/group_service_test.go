package coordinator

import (
	"testing"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// reader is a member of a group.
type reader struct {
	c          *cluster
	group, id  string
	generation uint64
}

// assign gives the member partitions of a topic and returns their positions;
// -1: none.
func (r *reader) assign(topic *oncelogv1.Topic, partitions ...uint32) []int64 {
	r.c.t.Helper()
	req := &oncelogv1.AssignPartitionsRequest{GroupId: r.group, MemberId: r.id, ClientId: "cli"}
	for _, p := range partitions {
		req.Partitions = append(req.Partitions, &oncelogv1.PartitionRef{Topic: topic.GetName(), Partition: p})
	}
	res, err := r.c.leader().groups().AssignPartitions(r.c.ctx(), req)
	wantCode(r.c.t, err, "")
	r.generation = res.GetGeneration()
	return positions(res.GetOffsets())
}

func positions(offsets []*oncelogv1.CommittedOffset) []int64 {
	out := []int64{}
	for _, o := range offsets {
		p := int64(-1)
		if o.Offset != nil {
			p = int64(o.GetOffset())
		}
		out = append(out, p)
	}
	return out
}

// offsets commits one position; expected below 0: none.
func (r *reader) offsets(topic *oncelogv1.Topic, partition uint32, expected int64, next uint64) *oncelogv1.GroupOffsets {
	o := &oncelogv1.OffsetCommit{
		Partition: &oncelogv1.PartitionRef{Topic: topic.GetName(), Partition: partition}, Offset: next, Metadata: "m",
	}
	if expected >= 0 {
		e := uint64(expected)
		o.ExpectedOffset = &e
	}
	return &oncelogv1.GroupOffsets{GroupId: r.group, MemberId: r.id, Generation: r.generation, Offsets: []*oncelogv1.OffsetCommit{o}}
}

func (c *cluster) committed(group string, topic *oncelogv1.Topic, partition uint32) int64 {
	c.t.Helper()
	res, err := c.leader().groups().FetchOffsets(c.ctx(), &oncelogv1.FetchOffsetsRequest{GroupId: group, Partitions: []*oncelogv1.PartitionRef{
		{Topic: topic.GetName(), Partition: partition},
	}})
	wantCode(c.t, err, "")
	return positions(res.GetOffsets())[0]
}

func TestOffsetsMoveExactlyWithTheDecision(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		in, out := c.topic("in", 2, 1), c.topic("out", 1, 1)
		r := &reader{c: c, group: "g", id: "m1"}
		wantEqual(t, "positions", r.assign(in, 0, 1), []int64{-1, -1})
		p := c.producer("app")
		p.accept(1, shardOf(out, 0))

		commit := p.request(1, true)
		commit.Offsets = []*oncelogv1.GroupOffsets{r.offsets(in, 0, -1, 10)}
		_, err := c.leader().txns().EndTransaction(c.ctx(), commit)
		wantCode(t, err, "UNSETTLED_SENDS") // refused for another reason
		wantEqual(t, "position", c.committed("g", in, 0), -1)

		commit.Partitions = []*oncelogv1.PartitionProgress{wrote(out, 0, 4)}
		must(c.leader().txns().EndTransaction(c.ctx(), commit))
		wantEqual(t, "position", c.committed("g", in, 0), 10)
		must(c.leader().txns().EndTransaction(c.ctx(), commit)) // repeated: moves nothing
		wantEqual(t, "position", c.committed("g", in, 0), 10)

		p.mustEnd(2, false, wrote(out, 0, 1))
		wantEqual(t, "position after an abort", c.committed("g", in, 0), 10)
		c.leader().check(t)
	})
}

func TestAStaleMemberDecidesNothing(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		in, out := c.topic("in", 2, 1), c.topic("out", 1, 1)
		zombie, owner := &reader{c: c, group: "g", id: "m1"}, &reader{c: c, group: "g", id: "m2"}
		zombie.assign(in, 0, 1)
		p := c.producer("app")
		p.accept(1, shardOf(out, 0))
		owner.assign(in, 0)
		commit := p.request(1, true, wrote(out, 0, 1))
		try := func(why string, o *oncelogv1.GroupOffsets) {
			t.Helper()
			commit.Offsets = []*oncelogv1.GroupOffsets{o}
			_, err := c.leader().txns().EndTransaction(c.ctx(), commit)
			meta := wantCode(t, err, "STALE_MEMBER")
			wantEqual(t, "why", meta["why"]+" "+meta["group"], why+" g")
			wantEqual(t, "outcome", p.outcome(1), "OPEN")
			_, err = c.leader().groups().CommitOffsets(c.ctx(), &oncelogv1.CommitOffsetsRequest{Offsets: o})
			wantEqual(t, "why", wantCode(t, err, "STALE_MEMBER")["why"], why)
		}
		try("NOT_OWNER", zombie.offsets(in, 0, -1, 5))
		stale := owner.offsets(in, 0, -1, 5)
		stale.Generation--
		try("GENERATION", stale)
		try("OFFSET_MOVED", owner.offsets(in, 0, 3, 5))
		wantEqual(t, "position", c.committed("g", in, 0), -1)
		// What it still owns it may commit, and nothing was decided before.
		commit.Offsets = []*oncelogv1.GroupOffsets{zombie.offsets(in, 1, -1, 7)}
		must(c.leader().txns().EndTransaction(c.ctx(), commit))
		wantEqual(t, "position", c.committed("g", in, 1), 7)
	})
}

func TestGroupsFromBeginToEnd(t *testing.T) {
	inBubble(t, 3, nil, func(t *testing.T, c *cluster) {
		c.register(1)
		in := c.topic("in", 3, 1)
		a, b := &reader{c: c, group: "g1", id: "a"}, &reader{c: c, group: "g1", id: "b"}
		a.assign(in, 0, 1)
		b.assign(in, 2)
		must(c.leader().groups().CommitOffsets(c.ctx(), &oncelogv1.CommitOffsetsRequest{Offsets: a.offsets(in, 1, -1, 9)}))
		must(c.leader().groups().CommitOffsets(c.ctx(), &oncelogv1.CommitOffsetsRequest{Offsets: a.offsets(in, 1, -1, 9)})) // its answer was lost
		c.moveLeader()
		wantEqual(t, "positions", a.assign(in, 1, 0), []int64{9, -1})
		wantEqual(t, "positions of no partitions", len(a.assign(in)), 0)
		a.assign(in, 0, 1)

		groups := c.leader().groups()
		d := must(groups.DescribeGroup(c.ctx(), &oncelogv1.DescribeGroupRequest{GroupId: "g1"}))
		wantEqual(t, "members", len(d.GetMembers()), 2)
		wantEqual(t, "client", d.GetMembers()[0].GetClientId(), "cli@")
		wantEqual(t, "partitions", len(d.GetPartitions()), 3)
		wantEqual(t, "topic", d.GetPartitions()[1].GetCommitted().GetPartition().GetTopic(), "in")
		wantEqual(t, "offset", d.GetPartitions()[1].GetCommitted().GetOffset(), 9)
		all := must(groups.FetchOffsets(c.ctx(), &oncelogv1.FetchOffsetsRequest{GroupId: "g1"}))
		wantEqual(t, "all positions", positions(all.GetOffsets()), []int64{9})
		none := must(groups.FetchOffsets(c.ctx(), &oncelogv1.FetchOffsetsRequest{GroupId: "other"}))
		wantEqual(t, "of a group that does not exist", len(none.GetOffsets()), 0)

		_, err := groups.DeleteGroup(c.ctx(), &oncelogv1.DeleteGroupRequest{GroupId: "g1"})
		wantCode(t, err, "GROUP_NOT_EMPTY")
		for range 2 {
			for _, m := range []string{"a", "b"} {
				must(groups.LeaveGroup(c.ctx(), &oncelogv1.LeaveGroupRequest{GroupId: "g1", MemberId: m}))
			}
		}
		page := must(groups.ListGroups(c.ctx(), &oncelogv1.ListGroupsRequest{}))
		wantEqual(t, "listed", page.GetGroups()[0].GetGroupId(), "g1")
		must(c.leader().catalog().DeleteTopic(c.ctx(), &oncelogv1.DeleteTopicRequest{Name: "in"}))
		all = must(groups.FetchOffsets(c.ctx(), &oncelogv1.FetchOffsetsRequest{GroupId: "g1"}))
		wantEqual(t, "positions in a deleted topic", len(all.GetOffsets()), 0)
		must(groups.DeleteGroup(c.ctx(), &oncelogv1.DeleteGroupRequest{GroupId: "g1"}))
		_, err = groups.DeleteGroup(c.ctx(), &oncelogv1.DeleteGroupRequest{GroupId: "g1"})
		wantEqual(t, "group", wantCode(t, err, "UNKNOWN_GROUP")["group"], "g1")
		_, err = groups.DescribeGroup(c.ctx(), &oncelogv1.DescribeGroupRequest{GroupId: "g1"})
		wantCode(t, err, "UNKNOWN_GROUP")
		c.leader().check(t)
	})
}

func TestListGroupsPages(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		in := c.topic("in", 1, 1)
		for _, id := range []string{"b", "a", "c"} {
			(&reader{c: c, group: id, id: "m"}).assign(in, 0)
		}
		first := must(c.leader().groups().ListGroups(c.ctx(), &oncelogv1.ListGroupsRequest{PageSize: 2}))
		wantEqual(t, "token", first.GetNextPageToken(), "1b")
		second := must(c.leader().groups().ListGroups(c.ctx(), &oncelogv1.ListGroupsRequest{PageSize: 2, PageToken: first.GetNextPageToken()}))
		wantEqual(t, "last page", second.GetGroups()[0].GetGroupId()+second.GetNextPageToken(), "c")
	})
}
