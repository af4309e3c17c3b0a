package conformance

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// groupScene is one group in one state, before one command. The tables are about
// its standing in partition 0 of the topic "in".
type groupScene struct {
	*cluster
	group string
	in    *oncelogv1.Topic
	m, n  *member // of the group; the tables are about m
	p     *producer
	txns  uint64 // transactions of p so far
}

// member is a member of a group as it knows itself.
type member struct {
	s          *groupScene
	id         string
	generation uint64
	known      *uint64                 // the position it knew last; nil: none
	last       *oncelogv1.GroupOffsets // its last commit; nil: none
}

// assign gives the member partitions of the topic, by index.
func (m *member) assign(partitions ...int) error {
	req := &oncelogv1.AssignPartitionsRequest{GroupId: m.s.group, MemberId: m.id}
	for _, i := range partitions {
		req.Partitions = append(req.Partitions, byID(m.s.in.GetPartitions()[i].GetPartitionId()))
	}
	res, err := m.s.leader().groups.AssignPartitions(m.s.within(patience), req)
	if err == nil {
		m.generation, m.known = res.GetGeneration(), nil
		if len(res.GetOffsets()) > 0 {
			m.known = res.GetOffsets()[0].Offset
		}
	}
	return err
}

func (m *member) takes(partitions ...int) {
	m.s.t.Helper()
	m.s.ok(m.assign(partitions...))
}

func (m *member) leave() string {
	_, err := m.s.leader().groups.LeaveGroup(m.s.within(patience), &oncelogv1.LeaveGroupRequest{GroupId: m.s.group, MemberId: m.id})
	return code(err)
}

// offsets is a commit of the member that moves partition 0.
func (m *member) offsets(expected *uint64, next uint64) *oncelogv1.GroupOffsets {
	return &oncelogv1.GroupOffsets{GroupId: m.s.group, MemberId: m.id, Generation: m.generation, Offsets: []*oncelogv1.OffsetCommit{
		{Partition: m.s.partition(), Offset: next, ExpectedOffset: expected},
	}}
}

// commits moves the position with a plain commit that must succeed.
func (m *member) commits(next uint64) {
	m.s.t.Helper()
	m.last = m.offsets(m.known, next)
	m.s.equal("commit", m.s.plain(m.last), "OK")
	m.known = &next
}

// commitsInTransaction does it within one.
func (m *member) commitsInTransaction(next uint64) {
	m.s.t.Helper()
	m.last = m.offsets(m.known, next)
	m.s.equal("commit", m.s.transactional(m.last), "OK")
	m.known = &next
}

func (s *groupScene) partition() *oncelogv1.PartitionRef {
	return byID(s.in.GetPartitions()[0].GetPartitionId())
}

// plain commits offsets without a transaction.
func (s *groupScene) plain(o *oncelogv1.GroupOffsets) string {
	s.t.Helper()
	_, err := s.leader().groups.CommitOffsets(s.within(patience), &oncelogv1.CommitOffsetsRequest{Offsets: o})
	if err != nil {
		return refusal(err)
	}
	return "OK"
}

// transactional commits offsets with a transaction of their own. One that is
// refused must have decided nothing.
func (s *groupScene) transactional(o *oncelogv1.GroupOffsets) string {
	s.t.Helper()
	s.txns++
	answer := s.end(&oncelogv1.EndTransactionRequest{
		Txn: s.p.ref(s.txns), ProducerToken: s.p.token, Commit: true, Offsets: []*oncelogv1.GroupOffsets{o},
	})
	want := "open"
	if answer == "OK" {
		want = "committed"
	}
	s.equal("outcome of the transaction", s.p.outcome(s.txns), want)
	return answer
}

// position is what FetchOffsets says: "none", "10".
func (s *groupScene) position() string {
	s.t.Helper()
	res, err := s.leader().groups.FetchOffsets(s.within(patience), &oncelogv1.FetchOffsetsRequest{GroupId: s.group})
	s.ok(err)
	for _, o := range res.GetOffsets() {
		if o.GetPartition().GetPartitionId() == s.partition().GetPartitionId() {
			return fmt.Sprint(o.GetOffset())
		}
	}
	return "none"
}

// describe is everything about the group; nil: it does not exist.
func (s *groupScene) describe() *oncelogv1.DescribeGroupResponse {
	s.t.Helper()
	res, err := s.leader().groups.DescribeGroup(s.within(patience), &oncelogv1.DescribeGroupRequest{GroupId: s.group})
	if code(err) == "UNKNOWN_GROUP" {
		return nil
	}
	s.ok(err)
	return res
}

// standing says who owns the partition and where the group is: "m since 1, at 10".
func (s *groupScene) standing() string {
	s.t.Helper()
	d := s.describe()
	if d == nil {
		return "no group"
	}
	owner := "nobody"
	for _, p := range d.GetPartitions() {
		if p.GetCommitted().GetPartition().GetPartitionId() == s.partition().GetPartitionId() && p.GetMemberId() != "" {
			owner = fmt.Sprintf("%s since %d", p.GetMemberId(), p.GetOwnedSinceGeneration())
		}
	}
	return fmt.Sprintf("%s, at %s", owner, s.position())
}

// groupState is a row: how the group gets there.
type groupState struct {
	name  string
	reach func(s *groupScene)
}

func groupStates() []groupState {
	owned := func(s *groupScene) {
		s.m.takes(0)
		s.m.commits(10)
	}
	return []groupState{
		{"no group", func(*groupScene) {}},
		{"owned, no position", func(s *groupScene) { s.m.takes(0) }},
		{"owned", owned},
		{"owned, position by a transaction", func(s *groupScene) {
			s.m.takes(0)
			s.m.commitsInTransaction(10)
		}},
		{"lost to another", func(s *groupScene) { owned(s); s.n.takes(0) }},
		{"lost, and moved on", func(s *groupScene) {
			owned(s)
			s.n.takes(0)
			s.n.commits(20)
		}},
		{"lost, and taken back", func(s *groupScene) {
			owned(s)
			was := *s.m
			s.n.takes(0)
			s.m.takes(0)
			s.m.generation, s.m.known = was.generation, was.known // it has not noticed
		}},
		{"member of another partition", func(s *groupScene) {
			owned(s)
			s.m.takes(1)
			s.m.known = ptr(10)
		}},
		{"left", func(s *groupScene) {
			owned(s)
			s.equal("leave", s.m.leave(), "OK")
		}},
		{"group deleted", func(s *groupScene) {
			owned(s)
			s.equal("leave", s.m.leave(), "OK")
			_, err := s.leader().groups.DeleteGroup(s.ctx, &oncelogv1.DeleteGroupRequest{GroupId: s.group})
			s.ok(err)
		}},
		{"group deleted and made anew", func(s *groupScene) {
			owned(s)
			was := *s.m
			s.equal("leave", s.m.leave(), "OK")
			_, err := s.leader().groups.DeleteGroup(s.ctx, &oncelogv1.DeleteGroupRequest{GroupId: s.group})
			s.ok(err)
			s.m.takes(0)
			s.m.generation, s.m.known = was.generation, was.known
		}},
		{"topic deleted", func(s *groupScene) {
			owned(s)
			_, err := s.leader().catalog.DeleteTopic(s.ctx, &oncelogv1.DeleteTopicRequest{Name: s.in.GetName()})
			s.ok(err)
		}},
	}
}

// commitAs is a column: who commits, and what it knows.
type commitAs struct {
	name    string
	offsets func(s *groupScene) *oncelogv1.GroupOffsets
}

func ptr(v uint64) *uint64 { return &v }

func commitsAs() []commitAs {
	by := func(change func(s *groupScene, o *oncelogv1.GroupOffsets)) func(*groupScene) *oncelogv1.GroupOffsets {
		return func(s *groupScene) *oncelogv1.GroupOffsets {
			o := s.m.offsets(s.m.known, 30)
			change(s, o)
			return o
		}
	}
	return []commitAs{
		{"m, as it knows itself", by(func(*groupScene, *oncelogv1.GroupOffsets) {})},
		{"m, expecting no position", by(func(_ *groupScene, o *oncelogv1.GroupOffsets) { o.Offsets[0].ExpectedOffset = nil })},
		{"m, expecting another position", by(func(_ *groupScene, o *oncelogv1.GroupOffsets) { o.Offsets[0].ExpectedOffset = ptr(3) })},
		{"m, older generation", by(func(_ *groupScene, o *oncelogv1.GroupOffsets) { o.Generation = 0 })},
		{"m, generation to come", by(func(_ *groupScene, o *oncelogv1.GroupOffsets) { o.Generation += 1000 })},
		{"m's last commit, repeated", func(s *groupScene) *oncelogv1.GroupOffsets {
			if s.m.last == nil {
				return s.m.offsets(nil, 30) // there is none: its first
			}
			return s.m.last
		}},
		{"n, which knows the position", func(s *groupScene) *oncelogv1.GroupOffsets {
			o := s.m.offsets(s.m.known, 30)
			o.MemberId, o.Generation = s.n.id, s.n.generation
			return o
		}},
		{"nobody, expecting nothing", func(s *groupScene) *oncelogv1.GroupOffsets {
			return &oncelogv1.GroupOffsets{GroupId: s.group, Offsets: []*oncelogv1.OffsetCommit{{Partition: s.partition(), Offset: 30}}}
		}},
		{"nobody, expecting position 10", func(s *groupScene) *oncelogv1.GroupOffsets {
			return &oncelogv1.GroupOffsets{GroupId: s.group, Offsets: []*oncelogv1.OffsetCommit{
				{Partition: s.partition(), Offset: 30, ExpectedOffset: ptr(10)},
			}}
		}},
		{"m, and a partition that does not exist", by(func(_ *groupScene, o *oncelogv1.GroupOffsets) {
			o.Offsets = append(o.Offsets, &oncelogv1.OffsetCommit{Partition: byID(1 << 40), Offset: 1})
		})},
	}
}

// groupCommand is a column of what else is asked about a group.
type groupCommand struct {
	name string
	do   func(s *groupScene) string
}

func groupCommands() []groupCommand {
	assigned := func(m *member, partitions ...int) string {
		if err := m.assign(partitions...); err != nil {
			return refusal(err)
		}
		text := fmt.Sprint("generation ", m.generation)
		if m.known != nil {
			text += fmt.Sprint(", at ", *m.known)
		}
		return text
	}
	return []groupCommand{
		{"AssignPartitions to m", func(s *groupScene) string { return assigned(s.m, 0) }},
		{"AssignPartitions to n", func(s *groupScene) string { return assigned(s.n, 0) }},
		{"AssignPartitions of none to m", func(s *groupScene) string { return assigned(s.m) }},
		{"LeaveGroup of m", func(s *groupScene) string { return s.m.leave() }},
		{"LeaveGroup of n", func(s *groupScene) string { return s.n.leave() }},
		{"FetchOffsets", func(s *groupScene) string {
			res, err := s.leader().groups.FetchOffsets(s.within(patience), &oncelogv1.FetchOffsetsRequest{
				GroupId: s.group, Partitions: []*oncelogv1.PartitionRef{s.partition()},
			})
			switch {
			case err != nil:
				return refusal(err)
			case res.GetOffsets()[0].Offset == nil:
				return "none"
			}
			return fmt.Sprint(res.GetOffsets()[0].GetOffset())
		}},
		{"DeleteGroup", func(s *groupScene) string {
			_, err := s.leader().groups.DeleteGroup(s.within(patience), &oncelogv1.DeleteGroupRequest{GroupId: s.group})
			return code(err)
		}},
	}
}

// act does one thing and returns the cell: the answer, and the standing of the
// group if that changed.
func (s *groupScene) act(do func() string) string {
	s.t.Helper()
	before, was := s.describe(), s.standing()
	text := do()
	after, is := s.describe(), s.standing()
	first, _, _ := strings.Cut(text, " ")
	if _, refused := oncelogv1.ErrorCode_value["ERROR_CODE_"+first]; refused && !proto.Equal(before, after) {
		s.t.Errorf("refused with %s, and changed the group from\n%v\nto\n%v", text, before, after)
	}
	if was != is {
		text += " → " + is
	}
	return text
}

// TestGroups: standing of a group x who commits, plainly and in a transaction, and
// x everything else that names a group.
func TestGroups(t *testing.T) {
	f := &filler{}
	rows := names(groupStates(), func(st groupState) string { return st.name })
	columns := names(commitsAs(), func(c commitAs) string { return c.name })
	look := f.gridOf("What the states are", rows, []string{"standing in the partition"})
	plain := f.gridOf("CommitOffsets", rows, columns)
	transactional := f.gridOf("EndTransaction(commit) with offsets", rows, columns)
	others := f.gridOf("What else names a group", rows, names(groupCommands(), func(c groupCommand) string { return c.name }))
	t.Run("cells", func(t *testing.T) {
		for _, st := range groupStates() {
			try := func(g *grid, column string, do func(s *groupScene) string) {
				t.Run(st.name+"/"+g.name+"/"+column, func(t *testing.T) {
					one(t, func(c *cluster) {
						s := c.groupScene(st)
						f.fill(g, st.name, column, s.act(func() string { return do(s) }))
					})
				})
			}
			try(look, look.columns[0], (*groupScene).standing)
			for _, as := range commitsAs() {
				try(plain, as.name, func(s *groupScene) string { return s.plain(as.offsets(s)) })
				try(transactional, as.name, func(s *groupScene) string { return s.transactional(as.offsets(s)) })
			}
			for _, cmd := range groupCommands() {
				try(others, cmd.name, cmd.do)
			}
		}
	})
	t.Logf("figures: cells %d", compare(t, "groups.txt", f.grids))
}

// groupScene makes a group in a state.
func (c *cluster) groupScene(st groupState) *groupScene {
	c.t.Helper()
	return c.groupSceneOf("g", st)
}

// groupSceneOf is groupScene with a name for the group.
func (c *cluster) groupSceneOf(group string, st groupState) *groupScene {
	c.t.Helper()
	s := &groupScene{cluster: c, group: group, in: c.topic("in-"+group, 2), p: c.init("p-" + group)}
	s.m, s.n = &member{s: s, id: "m"}, &member{s: s, id: "n"}
	st.reach(s)
	return s
}
