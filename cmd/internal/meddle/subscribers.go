package meddle

import (
	"slices"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/group"
)

// subscriber is a member by hand that is given its partitions.
type subscriber struct {
	member
	instance string
	assigned []uint64
	revoked  []uint64
}

// longSession is longer than any act.
const longSession = 30 * 60 * 1000

func (m *meddler) newSubscriber(groupID, instance string) *subscriber {
	return &subscriber{
		member: member{group: groupID, id: m.name("member"), known: map[*part]*uint64{}}, instance: instance,
	}
}

// subscription asks for topics.
func subscription(topics ...string) *oncelogv1.GroupSubscription {
	return &oncelogv1.GroupSubscription{Topics: topics, SessionTimeoutMs: longSession, RebalanceTimeoutMs: longSession}
}

// heartbeat sends one and takes note of the answer.
func (m *meddler) heartbeat(s *subscriber, sub *oncelogv1.GroupSubscription, released []uint64, may ...answer) answer {
	req := &oncelogv1.GroupHeartbeatRequest{
		GroupId: s.group, MemberId: s.id, InstanceId: s.instance, Subscription: sub,
		Generation: s.generation, ReleasedPartitionIds: released, MaxWaitMs: pick(m, uint32(0), 0, 20),
	}
	var resp oncelogv1.GroupHeartbeatResponse
	a, _ := m.ask(coordinator, oncelogv1.GroupService_GroupHeartbeat_FullMethodName, req, &resp, may...)
	if a != ok {
		return a
	}
	m.check(resp.GetGeneration() >= s.generation, "generation %d after %d", resp.GetGeneration(), s.generation)
	m.check(resp.GetHeartbeatIntervalMs() > 0, "a heartbeat interval of nothing")
	if resp.GetGeneration() == req.GetGeneration() {
		m.check(len(resp.GetAssigned())+len(resp.GetRevokedPartitionIds()) == 0, "an answer without news has some")
		return a
	}
	s.generation, s.assigned, s.revoked = resp.GetGeneration(), nil, resp.GetRevokedPartitionIds()
	for _, x := range resp.GetAssigned() {
		s.assigned = append(s.assigned, x.GetPartition().GetPartitionId())
		m.check(x.GetOwnedSinceGeneration() <= s.generation, "a partition is owned since %d, of %d", x.GetOwnedSinceGeneration(), s.generation)
		m.check(!slices.Contains(s.revoked, x.GetPartition().GetPartitionId()), "a partition is assigned and asked back")
	}
	return a
}

// subscriberLife: members that subscribe share a topic, hand partitions over, are
// replaced, and say what they may not.
func (m *meddler) subscriberLife() {
	m.on(func(g *ground) {
		id := m.name("g")
		one, two := m.newSubscriber(id, ""), m.newSubscriber(id, m.name("i"))
		m.heartbeat(one, nil, nil, unknownMember)
		m.heartbeat(one, subscription(g.topic, m.name("missing")), nil, ok)
		m.check(m.lost || m.loose() || len(one.assigned) == len(g.parts), "the only member has %d of %d partitions", len(one.assigned), len(g.parts))
		m.heartbeat(one, subscription(g.topic), nil, ok)
		m.ask(coordinator, oncelogv1.GroupService_AssignPartitions_FullMethodName,
			&oncelogv1.AssignPartitionsRequest{GroupId: id, MemberId: two.id}, &oncelogv1.AssignPartitionsResponse{}, inconsistentProtocol)
		m.heartbeat(two, subscription(g.topic), nil, ok)
		m.check(m.lost || m.loose() || len(two.assigned) == 0, "a member has partitions that another one has not let go")
		m.heartbeat(one, nil, nil, ok)
		p := g.any(m)
		was := slices.Contains(one.assigned, p.id.GetPartitionId()) || slices.Contains(one.revoked, p.id.GetPartitionId())
		m.check(m.lost || m.loose() || was, "a partition is nobody's")
		m.commitOffsets(&one.member, p, 3, ok) // also of what it is to let go
		m.heartbeat(one, nil, append(slices.Clone(one.revoked), 1<<50), ok)
		m.heartbeat(two, nil, nil, ok)
		m.check(m.lost || m.loose() || len(one.assigned)+len(two.assigned) == len(g.parts),
			"two members have %d and %d of %d partitions", len(one.assigned), len(two.assigned), len(g.parts))
		if slices.Contains(two.assigned, p.id.GetPartitionId()) {
			m.commitOffsets(&one.member, p, 4, staleMember) // a zombie
		}
		next := m.newSubscriber(id, two.instance)
		m.heartbeat(next, subscription(g.topic), nil, ok)
		m.check(m.lost || m.loose() || slices.Equal(next.assigned, two.assigned), "the next life has other partitions")
		m.heartbeat(two, nil, nil, fencedInstance)
		m.heartbeat(two, subscription(g.topic), nil, fencedInstance)
		m.leave(&next.member)
		m.leave(&one.member)
		m.heartbeat(one, nil, nil, unknownMember, ok|ifLoose)
	})
}

// membersByForce: what leaders propose about members when they are late, and what
// the edge does not let pass.
func (m *meddler) membersByForce() {
	id := m.name("g")
	good := group.Subscribe{
		At: m.now(), Group: id, Member: m.name("member"), Topics: []string{m.name("missing")},
		SessionTimeout: longSession, RebalanceTimeout: longSession, Assignor: group.AssignorRange,
	}
	bend := func(fn func(*group.Subscribe)) group.Subscribe {
		cmd := good
		fn(&cmd)
		return cmd
	}
	m.proposeGroup(bend(func(s *group.Subscribe) { s.Group = long }), group.CodeInvalidGroup)
	m.proposeGroup(bend(func(s *group.Subscribe) { s.Member = "" }), group.CodeInvalidMember)
	m.proposeGroup(bend(func(s *group.Subscribe) { s.Instance = long }), group.CodeInvalidMember)
	m.proposeGroup(bend(func(s *group.Subscribe) { s.Topics = nil }), group.CodeInvalidSubscription)
	m.proposeGroup(bend(func(s *group.Subscribe) { s.Topics = []string{long} }), group.CodeInvalidSubscription)
	m.proposeGroup(bend(func(s *group.Subscribe) { s.Topics = make([]string, group.MaxTopics+1) }), group.CodeLimitExceeded)
	m.proposeGroup(bend(func(s *group.Subscribe) { s.Assignor = 0 }), group.CodeInvalidSubscription)
	m.proposeGroup(bend(func(s *group.Subscribe) { s.SessionTimeout = 1 }), group.CodeInvalidSubscription)
	m.proposeGroup(good, group.CodeOK)
	m.proposeGroup(good, group.CodeOK)
	m.proposeGroup(group.AssignPartitions{At: m.now(), Group: id, Member: "m"}, group.CodeMixedMembers)
	m.proposeGroup(group.ReleasePartitions{At: m.now(), Group: id, Member: good.Member, Generation: 1 << 50, Partitions: []uint64{1}}, group.CodeOK)
	m.proposeGroup(group.ReleasePartitions{At: m.now(), Group: id, Member: "m"}, group.CodeUnknownMember)
	m.proposeGroup(group.ExpireMembers{At: m.now(), Members: []group.LostMember{{Group: id, Member: good.Member}, {Group: long, Member: "m"}}}, group.CodeOK)
	m.proposeGroup(group.ExpireMembers{At: m.now(), Members: make([]group.LostMember, group.MaxExpired+1)}, group.CodeLimitExceeded)
	m.proposeGroup(group.TopicsChanged{At: m.now(), Topics: good.Topics}, group.CodeOK)
	m.proposeGroup(group.LeaveGroup{At: m.now(), Group: id, Member: good.Member}, group.CodeOK)
	m.severalTopics()
}
