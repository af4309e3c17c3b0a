package conformance

import (
	"fmt"
	"strings"
	"testing"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// memberScene is one group whose members subscribe to the topic "in" of two
// partitions, before one command. The tables are about m.
type memberScene struct {
	*groupScene
	m, n *subscriber
}

// subscriber is a member that is given its partitions, as it knows itself.
type subscriber struct {
	s            *memberScene
	id, instance string
	generation   uint64
	reads        []uint64 // partition ids
	revoked      []uint64
}

// beat sends a heartbeat and returns what it was answered: "generation 2, reads 0,
// is to let go 1".
func (b *subscriber) beat(change func(*oncelogv1.GroupHeartbeatRequest)) string {
	req := &oncelogv1.GroupHeartbeatRequest{GroupId: b.s.group, MemberId: b.id, InstanceId: b.instance, Generation: b.generation}
	change(req)
	res, err := b.s.leader().groups.GroupHeartbeat(b.s.within(patience), req)
	switch {
	case err != nil:
		return refusal(err)
	case res.GetGeneration() == req.GetGeneration():
		return "no news"
	}
	b.generation, b.reads, b.revoked = res.GetGeneration(), nil, res.GetRevokedPartitionIds()
	text := ""
	for _, a := range res.GetAssigned() {
		b.reads = append(b.reads, a.GetPartition().GetPartitionId())
		text += fmt.Sprint(" ", a.GetPartition().GetPartition())
		if a.Offset != nil {
			text += fmt.Sprint(" at ", a.GetOffset())
		}
	}
	if text == "" {
		text = " nothing"
	}
	text = fmt.Sprintf("generation %d, reads%s", b.generation, text)
	if len(b.revoked) > 0 {
		text += ", is to let go" + b.s.indices(b.revoked)
	}
	return text
}

func (b *subscriber) light() string { return b.beat(func(*oncelogv1.GroupHeartbeatRequest) {}) }

func (b *subscriber) subscribe() string { return b.beat(b.subscription) }

func (b *subscriber) subscription(req *oncelogv1.GroupHeartbeatRequest) {
	req.Subscription = &oncelogv1.GroupSubscription{Topics: []string{b.s.in.GetName()}, SessionTimeoutMs: 1000, RebalanceTimeoutMs: 1000}
}

// joins is a subscription that must succeed.
func (b *subscriber) joins() {
	b.s.t.Helper()
	if text := b.subscribe(); !strings.HasPrefix(text, "generation") {
		b.s.t.Fatalf("joining was answered %s", text)
	}
}

// releases lets go of partitions, as of a generation.
func (b *subscriber) releases(generation uint64, partitions []uint64) string {
	return b.beat(func(req *oncelogv1.GroupHeartbeatRequest) {
		req.Generation, req.ReleasedPartitionIds = generation, partitions
	})
}

// indices says which partitions of the topic these are.
func (s *memberScene) indices(ids []uint64) (text string) {
	for _, id := range ids {
		for _, p := range s.in.GetPartitions() {
			if p.GetPartitionId() == id {
				text += fmt.Sprint(" ", p.GetPartition())
			}
		}
	}
	return text
}

// shares says what each member has: "m 0 1, n nothing".
func (s *memberScene) shares() string {
	d := s.describe()
	if d == nil {
		return "no group"
	}
	var out []string
	for _, mm := range d.GetMembers() {
		var has []uint64
		for _, p := range d.GetPartitions() {
			if p.GetMemberId() == mm.GetMemberId() {
				has = append(has, p.GetCommitted().GetPartition().GetPartitionId())
			}
		}
		text := mm.GetMemberId() + s.indices(has)
		if len(has) == 0 {
			text += " nothing"
		}
		if r := mm.GetRevokedPartitionIds(); len(r) > 0 {
			text += " (is to let go" + s.indices(r) + ")"
		}
		out = append(out, text)
	}
	if len(out) == 0 {
		return "nobody"
	}
	return strings.Join(out, ", ")
}

// memberState is a row: how the group gets there.
type memberState struct {
	name  string
	reach func(s *memberScene)
}

func memberStates() []memberState {
	shared := func(s *memberScene) {
		s.m.joins()
		s.n.joins()
		s.m.light()
		s.m.releases(s.m.generation, s.m.revoked)
		s.n.light()
	}
	return []memberState{
		{"no group", func(*memberScene) {}},
		{"m alone", func(s *memberScene) { s.m.joins() }},
		{"m alone, n waits", func(s *memberScene) { s.m.joins(); s.n.joins() }},
		{"the same, m knows", func(s *memberScene) { s.m.joins(); s.n.joins(); s.m.light() }},
		{"shared", shared},
		{"shared, n has left", func(s *memberScene) {
			shared(s)
			_, err := s.leader().groups.LeaveGroup(s.ctx, &oncelogv1.LeaveGroupRequest{GroupId: s.group, MemberId: "n"})
			s.ok(err)
		}},
		{"m has left", func(s *memberScene) {
			s.m.joins()
			_, err := s.leader().groups.LeaveGroup(s.ctx, &oncelogv1.LeaveGroupRequest{GroupId: s.group, MemberId: "m"})
			s.ok(err)
		}},
		{"m was silent for its session", func(s *memberScene) {
			s.m.joins()
			s.until("m is lost", func() bool { return s.shares() == "nobody" })
		}},
		{"m was replaced by n", func(s *memberScene) {
			s.m.instance, s.n.instance = "i", "i"
			s.m.joins()
			s.n.joins()
		}},
		{"n names its partitions", func(s *memberScene) { s.groupScene.n.takes(0) }},
		{"topic deleted", func(s *memberScene) {
			s.m.joins()
			_, err := s.leader().catalog.DeleteTopic(s.ctx, &oncelogv1.DeleteTopicRequest{Name: s.in.GetName()})
			s.ok(err)
		}},
	}
}

// memberCommand is a column.
type memberCommand struct {
	name string
	do   func(s *memberScene) string
}

func memberCommands() []memberCommand {
	all := func(s *memberScene) []uint64 {
		return []uint64{s.in.GetPartitions()[0].GetPartitionId(), s.in.GetPartitions()[1].GetPartitionId()}
	}
	return []memberCommand{
		{"m is alive", func(s *memberScene) string { return s.m.light() }},
		{"m asks for everything", func(s *memberScene) string {
			return s.m.beat(func(req *oncelogv1.GroupHeartbeatRequest) { req.Generation = 0 })
		}},
		{"m subscribes", func(s *memberScene) string { return s.m.subscribe() }},
		{"m subscribes to another topic", func(s *memberScene) string {
			return s.m.beat(func(req *oncelogv1.GroupHeartbeatRequest) {
				s.m.subscription(req)
				req.Subscription.Topics = []string{"missing"}
			})
		}},
		{"n subscribes", func(s *memberScene) string { return s.n.subscribe() }},
		{"m under another instance id", func(s *memberScene) string {
			return s.m.beat(func(req *oncelogv1.GroupHeartbeatRequest) { req.InstanceId = "another" })
		}},
		{"m lets go of what it is asked for", func(s *memberScene) string { return s.m.releases(s.m.generation, s.m.revoked) }},
		{"m lets go of everything", func(s *memberScene) string { return s.m.releases(s.m.generation, all(s)) }},
		{"the same, of generation 0", func(s *memberScene) string { return s.m.releases(0, all(s)) }},
		{"the same, of a generation to come", func(s *memberScene) string { return s.m.releases(1000, all(s)) }},
		{"LeaveGroup of m", func(s *memberScene) string { return s.groupScene.m.leave() }},
		{"AssignPartitions to m", func(s *memberScene) string {
			if err := s.groupScene.m.assign(); err != nil {
				return refusal(err)
			}
			return "OK"
		}},
		{"m commits partition 1", func(s *memberScene) string {
			return s.plain(&oncelogv1.GroupOffsets{GroupId: s.group, MemberId: "m", Generation: s.m.generation, Offsets: []*oncelogv1.OffsetCommit{
				{Partition: byID(all(s)[1]), Offset: 30},
			}})
		}},
		{"n commits partition 1", func(s *memberScene) string {
			return s.plain(&oncelogv1.GroupOffsets{GroupId: s.group, MemberId: "n", Generation: s.n.generation, Offsets: []*oncelogv1.OffsetCommit{
				{Partition: byID(all(s)[1]), Offset: 30},
			}})
		}},
	}
}

// TestMembers: standing of a member that subscribes x what it, or the other one,
// asks for.
func TestMembers(t *testing.T) {
	f := &filler{}
	rows := names(memberStates(), func(st memberState) string { return st.name })
	look := f.gridOf("What the states are", rows, []string{"shares"})
	asked := f.gridOf("What members ask for", rows, names(memberCommands(), func(c memberCommand) string { return c.name }))
	t.Run("cells", func(t *testing.T) {
		for _, st := range memberStates() {
			try := func(g *grid, column string, do func(s *memberScene) string) {
				t.Run(st.name+"/"+column, func(t *testing.T) {
					one(t, func(c *cluster) {
						s := &memberScene{groupScene: c.groupSceneOf("g", groupState{reach: func(*groupScene) {}})}
						s.m, s.n = &subscriber{s: s, id: "m"}, &subscriber{s: s, id: "n"}
						st.reach(s)
						was := s.shares()
						text := do(s)
						if is := s.shares(); is != was {
							text += " → " + is
						}
						f.fill(g, st.name, column, text)
					})
				})
			}
			try(look, look.columns[0], (*memberScene).shares)
			for _, cmd := range memberCommands() {
				try(asked, cmd.name, cmd.do)
			}
		}
	})
	t.Logf("figures: cells %d", compare(t, "members.txt", f.grids))
}
