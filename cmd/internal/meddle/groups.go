package meddle

import (
	"context"
	"strings"

	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/task"
)

// member is a member of a group by hand.
type member struct {
	group, id  string
	generation uint64
	known      map[*part]*uint64 // positions as it knows them; nil: none
}

// join makes a member that has some partitions.
func (m *meddler) join(group string, parts []*part) *member {
	me := &member{group: group, id: m.name("member"), known: map[*part]*uint64{}}
	m.assign(me, parts)
	return me
}

// assign gives partitions to a member.
func (m *meddler) assign(me *member, parts []*part) {
	req := &oncelogv1.AssignPartitionsRequest{GroupId: me.group, MemberId: me.id, ClientId: pick(m, "", "meddler")}
	for _, p := range parts {
		req.Partitions = append(req.Partitions, p.id)
	}
	var resp oncelogv1.AssignPartitionsResponse
	m.ask(coordinator, oncelogv1.GroupService_AssignPartitions_FullMethodName, req, &resp, ok)
	m.check(resp.GetGeneration() >= me.generation, "generation %d after %d", resp.GetGeneration(), me.generation)
	m.check(len(resp.GetOffsets()) == len(parts), "positions of %d partitions, of %d asked for", len(resp.GetOffsets()), len(parts))
	if m.lost {
		return
	}
	me.generation = resp.GetGeneration()
	for i, o := range resp.GetOffsets() {
		me.known[parts[i]] = o.Offset
	}
}

// commitment is the commit of a position as a member knows itself.
func (me *member) commitment(p *part, offset uint64) *oncelogv1.GroupOffsets {
	return &oncelogv1.GroupOffsets{
		GroupId: me.group, MemberId: me.id, Generation: me.generation,
		Offsets: []*oncelogv1.OffsetCommit{{Partition: p.id, Offset: offset, ExpectedOffset: me.known[p], Metadata: "m"}},
	}
}

// commitOffsets commits a position without a transaction.
func (m *meddler) commitOffsets(me *member, p *part, offset uint64, may ...answer) {
	m.commitAs(me, p, me.commitment(p, offset), may...)
}

func (m *meddler) commitAs(me *member, p *part, offsets *oncelogv1.GroupOffsets, may ...answer) answer {
	a, _ := m.ask(coordinator, oncelogv1.GroupService_CommitOffsets_FullMethodName,
		&oncelogv1.CommitOffsetsRequest{Offsets: offsets}, &oncelogv1.CommitOffsetsResponse{}, append(may, staleMember|ifLoose)...)
	if a == ok {
		me.known[p] = proto.Uint64(offsets.GetOffsets()[0].GetOffset())
	}
	return a
}

// positions asks for all positions of a group.
func (m *meddler) positions(group string) []*oncelogv1.CommittedOffset {
	var resp oncelogv1.FetchOffsetsResponse
	m.ask(coordinator, oncelogv1.GroupService_FetchOffsets_FullMethodName, &oncelogv1.FetchOffsetsRequest{GroupId: group}, &resp, ok)
	return resp.GetOffsets()
}

func (m *meddler) leave(me *member) {
	m.ask(coordinator, oncelogv1.GroupService_LeaveGroup_FullMethodName,
		&oncelogv1.LeaveGroupRequest{GroupId: me.group, MemberId: me.id}, &oncelogv1.LeaveGroupResponse{}, ok)
}

// awaitEnd waits for the end of a stream whose partition is gone.
func (m *meddler) awaitEnd(ctx context.Context, ended <-chan error) {
	if m.lost {
		return
	}
	err, stopped := task.Receive(m.Runtime, ended, ctx.Done())
	if stopped >= 0 {
		return
	}
	a, _ := answerOf(err)
	m.check(a == unknownPartition || a.transient(), "a stream ended with %v when its partition was gone", err)
}

// groupLife: members take partitions from each other and commit what they may and
// what they may not.
func (m *meddler) groupLife() {
	m.on(func(g *ground) {
		p := g.any(m)
		one := m.join(m.name("g"), g.parts)
		m.commitOffsets(one, p, 3, ok)
		m.commitOffsets(one, p, 3, ok)                                               // of what holds
		m.commitAs(one, p, bent(one.commitment(p, 4), "generation", 0), staleMember) // of before it had the partition
		m.commitAs(one, p, bent(one.commitment(p, 4), "expected", 77), staleMember)
		m.commitAs(one, p, bent(one.commitment(p, 4), "ahead", 0), staleMember)
		m.commitAs(one, p, bent(one.commitment(p, 4), "nobody", 0), staleMember)
		m.commitAs(one, p, bent(one.commitment(p, 4), "stranger", 0), staleMember)
		if !m.loose() {
			m.describe(one, p, 3)
		}
		two := m.join(one.group, []*part{p})
		m.commitAs(one, p, one.commitment(p, 5), staleMember) // a zombie
		m.commitOffsets(two, p, 6, ok)
		m.leave(two)
		m.leave(two)
		m.commitOffsets(two, p, 7, staleMember)
		m.reset(one, p, 1)
		m.assign(one, g.parts)
		m.commitOffsets(one, p, 2, ok)
		m.within(g, one, p)
		m.deleteGroup(one)
	})
}

// bent is a commitment with something wrong.
func bent(c *oncelogv1.GroupOffsets, how string, to uint64) *oncelogv1.GroupOffsets {
	switch how {
	case "generation":
		c.Generation = to
	case "ahead":
		c.Generation += 100
	case "expected":
		c.Offsets[0].ExpectedOffset = &to
	case "nobody":
		c.MemberId = ""
	case "stranger":
		c.MemberId = "meddle.stranger"
	}
	return c
}

// describe holds the description of a group of one member against what it must
// be.
func (m *meddler) describe(me *member, p *part, offset uint64) {
	var d oncelogv1.DescribeGroupResponse
	m.ask(coordinator, oncelogv1.GroupService_DescribeGroup_FullMethodName, &oncelogv1.DescribeGroupRequest{GroupId: me.group}, &d, ok)
	if m.lost || m.loose() {
		return
	}
	m.check(len(d.GetMembers()) == 1 && d.GetMembers()[0].GetMemberId() == me.id && d.GetGeneration() == me.generation,
		"the group has %d members in generation %d, and must have one in %d", len(d.GetMembers()), d.GetGeneration(), me.generation)
	found := false
	for _, x := range d.GetPartitions() {
		m.check(x.GetMemberId() == me.id && x.GetOwnedSinceGeneration() <= me.generation, "a partition belongs to %q since %d", x.GetMemberId(), x.GetOwnedSinceGeneration())
		if x.GetCommitted().GetPartition().GetPartitionId() == p.id.GetPartitionId() {
			found = x.GetCommitted().GetOffset() == offset && x.GetCommitted().GetMetadata() == "m"
		}
	}
	m.check(found, "the position %d is not described", offset)
	var token, last string
	for range 50 {
		var page oncelogv1.ListGroupsResponse
		m.ask(coordinator, oncelogv1.GroupService_ListGroups_FullMethodName,
			&oncelogv1.ListGroupsRequest{PageSize: uint32(m.Rand.IntN(3)), PageToken: token}, &page, ok)
		for _, x := range page.GetGroups() {
			m.check(x.GetGroupId() > last, "groups are listed out of order: %q after %q", x.GetGroupId(), last)
			last = x.GetGroupId()
			m.check(last != me.group || x.GetMembers() == 1 && x.GetPartitions() == 1, "a group of one member with one position is listed with %d and %d",
				x.GetMembers(), x.GetPartitions())
		}
		if token = page.GetNextPageToken(); token == "" || m.lost {
			return
		}
	}
}

// reset moves a position as an operator does, of a partition that nobody owns.
func (m *meddler) reset(me *member, p *part, offset uint64) {
	m.commitAs(me, p, &oncelogv1.GroupOffsets{GroupId: me.group, Offsets: []*oncelogv1.OffsetCommit{{Partition: p.named, Offset: offset}}}, ok)
	for _, o := range m.positions(me.group) {
		if o.GetPartition().GetPartitionId() == p.id.GetPartitionId() {
			m.check(o.GetOffset() == offset || m.loose(), "the position is %d after it was set to %d", o.GetOffset(), offset)
			m.check(strings.HasPrefix(o.GetPartition().GetTopic(), "meddle."), "a position in partition %q", o.GetPartition().GetTopic())
		}
	}
}

// within commits positions in transactions.
func (m *meddler) within(g *ground, me *member, p *part) {
	t := m.begin(m.newProducer())
	m.write(t, g.any(m))
	req := t.ending(true, t.progress(g))
	req.Offsets = []*oncelogv1.GroupOffsets{bent(me.commitment(p, 9), "expected", 78)}
	m.end(g, t, req, staleMember, conflict)
	req.Offsets = []*oncelogv1.GroupOffsets{me.commitment(p, 9), me.commitment(p, 8)}
	m.end(g, t, req, invalidArgument, conflict, staleMember|ifLoose)
	req.Offsets = []*oncelogv1.GroupOffsets{{GroupId: me.group, MemberId: me.id, Offsets: []*oncelogv1.OffsetCommit{{Partition: nowhere}}}}
	m.end(g, t, req, unknownPartition, conflict)
	req.Offsets = []*oncelogv1.GroupOffsets{me.commitment(p, 9), {GroupId: m.name("g")}} // a group without positions is none
	if m.end(g, t, req, ok, conflict, staleMember|ifLoose) == ok {
		me.known[p] = proto.Uint64(9)
		m.end(g, t, req, ok)
	} else {
		m.abort(g, t, false)
	}
}

// nowhere is a partition that never was.
var nowhere = &oncelogv1.PartitionRef{PartitionId: 1 << 50}

// deleteGroup deletes a group when it has no members any more.
func (m *meddler) deleteGroup(me *member) {
	del := &oncelogv1.DeleteGroupRequest{GroupId: me.group}
	m.ask(coordinator, oncelogv1.GroupService_DeleteGroup_FullMethodName, del, &oncelogv1.DeleteGroupResponse{}, groupNotEmpty, ok|ifLoose, unknownGroup|ifLoose)
	m.leave(me)
	m.ask(coordinator, oncelogv1.GroupService_DeleteGroup_FullMethodName, del, &oncelogv1.DeleteGroupResponse{}, ok, groupNotEmpty|ifLoose, unknownGroup|ifLoose)
	m.ask(coordinator, oncelogv1.GroupService_DescribeGroup_FullMethodName,
		&oncelogv1.DescribeGroupRequest{GroupId: me.group}, &oncelogv1.DescribeGroupResponse{}, unknownGroup, ok|ifLoose)
	m.check(len(m.positions(me.group)) == 0 || m.loose(), "a group that was deleted has positions")
}
