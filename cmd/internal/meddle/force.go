package meddle

import (
	"strings"

	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/coordinator/membership"
	"github.com/oncelog/oncelog/coordinator/txn"
	"github.com/oncelog/oncelog/partition/pstate"
)

// The parts of acts in this file put commands into logs that must be refused there,
// although the edge, or the leader, refuses them before: it may be another version's.

// coreMember names the core of who the coordinators are to be, as in proposals.go.
const coreMember = 4

// proposeMember carries out a command about the coordinators.
func (m *meddler) proposeMember(cmd membership.Command, may ...membership.Code) {
	res, known := m.propose(coordinators, membership.AppendCommand([]byte{coreMember}, cmd)).(membership.Result)
	if !known {
		m.lost = true
		return
	}
	m.check(contains(may, res.Code), "%T was answered %v; it may be %v", cmd, res.Code, may)
}

// coordinatorsByForce: nobody becomes a coordinator by what is wrong, and none ceases to
// be one. Meanwhile an operator may replace one, so that it is gone, or is about to go.
func (m *meddler) coordinatorsByForce() {
	const (
		invalid, pending = membership.CodeInvalidMember, membership.CodeChangePending
		unknown, gone    = membership.CodeUnknownMember, membership.CodeRemoved
		stranger         = 900 // nobody has this id, and it is not used up
	)
	long := strings.Repeat("a", membership.MaxAddressBytes+1)
	m.proposeMember(membership.Found{}, membership.CodeOK) // the first one holds
	m.proposeMember(membership.Add{ID: stranger, ClientAddress: long, PeerAddress: "p"}, invalid)
	m.proposeMember(membership.Add{ID: 1, ClientAddress: "c", PeerAddress: "p"}, membership.CodeIDUsed)
	m.proposeMember(membership.Add{ID: 1 << 40, ClientAddress: "c", PeerAddress: "p"}, membership.CodeIDTooHigh)
	m.proposeMember(membership.Add{ID: stranger, ClientAddress: "c", PeerAddress: "p", Replaces: stranger + 1}, unknown, pending)
	// One of the first two coordinators is there: no more than one is ever replaced.
	second := m.CoordinatorPeers[min(1, len(m.CoordinatorPeers)-1)]
	m.proposeMember(membership.Add{ID: stranger, ClientAddress: m.Coordinators[0], PeerAddress: second}, membership.CodeAddressUsed, pending)
	m.proposeMember(membership.Announce{ID: 1, ClientAddress: "c", PeerAddress: "p"}, invalid, gone)
	m.proposeMember(membership.Announce{ID: 1, Instance: "stranger", ClientAddress: "c", PeerAddress: "p", Joining: true}, membership.CodeOtherInstance, gone)
	m.proposeMember(membership.Announce{ID: stranger, Instance: "stranger", ClientAddress: "c", PeerAddress: "p"}, unknown)
	m.proposeMember(membership.Settle{ID: stranger}, unknown)
	m.proposeMember(membership.Remove{ID: stranger}, unknown)
	m.proposeMember(membership.Keep{ID: stranger}, unknown)
	m.proposeMember(membership.Forget{ID: stranger}, unknown)
	if len(m.Coordinators) == 1 {
		m.proposeMember(membership.Remove{ID: 1}, membership.CodeLastVoter)
	}
}

// anotherOwner: an id that is somebody's is nobody else's.
func (m *meddler) anotherOwner() {
	id := m.name("id")
	one := txn.InitProducer{TransactionalID: id, Timeout: txnTimeout, RequestID: txn.RequestID{1}, Owner: "one", Exclusive: true}
	two := one
	two.RequestID, two.Owner = txn.RequestID{2}, "two"
	if first, known := m.proposeTxn(one).(txn.InitProducerResult); !known || first.Code != txn.CodeOK {
		return // there is no room for it
	}
	if second, known := m.proposeTxn(two).(txn.InitProducerResult); known {
		m.check(second.Code == txn.CodeNotOwner, "another owner of an id was answered %v", second.Code)
	}
	m.deleteID(id)
}

// keptByForce: how a topic is kept changes in the log, one setting after the other.
func (m *meddler) keptByForce() {
	g := m.newGround(1, 1)
	topic := m.describeTopic(g.topic, 1)
	if m.lost {
		return
	}
	alter := func(bend func(*catalog.AlterTopic), may ...catalog.Code) {
		cmd := catalog.AlterTopic{At: m.now(), TopicID: topic.GetTopicId()}
		bend(&cmd)
		m.proposeCatalog(cmd, may...)
	}
	alter(func(c *catalog.AlterTopic) { c.TopicID = 1 << 50 }, catalog.CodeUnknownTopic)
	alter(func(c *catalog.AlterTopic) {
		c.SetMinLag, c.Cleanup.MinLag = true, catalog.MaxRetention+1
	}, catalog.CodeInvalidRetention)
	alter(func(c *catalog.AlterTopic) {
		c.SetPolicy, c.Cleanup.Policy = true, catalog.PolicyCompact
	}, catalog.CodeOK)
	alter(func(c *catalog.AlterTopic) {
		c.SetMinLag, c.Cleanup.MinLag = true, 1000
	}, catalog.CodeOK)
	alter(func(c *catalog.AlterTopic) {
		c.SetDeleteRetention, c.Cleanup.DeleteRetention = true, 1000
	}, catalog.CodeOK)
	m.deleteTopic(g)
}

// rewrittenByForce: batches stay where they are if what is said to replace them is not
// what there is.
func (m *meddler) rewrittenByForce(p *part) {
	id, end := p.id.GetPartitionId(), uint64(len(p.cells))
	if m.lost || end == 0 {
		return
	}
	payload := make([]byte, 3000) // more than a small partition has
	stored := func(at uint64, count uint32) []pstate.StoredBatch {
		return []pstate.StoredBatch{{BaseOffset: at, Count: count, Size: uint32(len(payload))}}
	}
	for _, c := range []pstate.Rewrite{
		{From: 0, To: 1, Replaced: 1 << 40},
		{From: end - 1, To: pstate.End(end), Batches: stored(end, 1)},
		{From: 0, To: pstate.End(end + 1000)},
	} {
		c.At, c.Partition = m.now(), id
		if entry, err := pstate.EncodeRewrite(nil, c, payloads(c.Batches, payload)); err == nil {
			code, known := m.propose(p.shard, entry).(pstate.RewriteCode)
			m.check(!known || code == pstate.RewriteStale, "a rewrite of %d to %d of what is not there was answered %v", c.From, c.To, code)
		}
	}
	for _, batches := range [][]pstate.StoredBatch{stored(end+7, 1), stored(0, uint32(end)+9)} {
		if entry, err := pstate.EncodeRelocate(nil, pstate.Relocate{At: m.now(), Partition: id, Batches: batches}, payloads(batches, payload)); err == nil {
			code, known := m.propose(p.shard, entry).(pstate.RelocateCode)
			m.check(!known || code == pstate.RelocateStale, "a relocation of what is not there was answered %v", code)
		}
	}
}

// payloads is one for each batch.
func payloads(batches []pstate.StoredBatch, payload []byte) (out [][]byte) {
	for range batches {
		out = append(out, payload)
	}
	return out
}

// severalTopics: members of one group read different topics, one of which goes.
func (m *meddler) severalTopics() {
	a, b := m.newGround(2, 1), m.newGround(2, 1)
	id := m.name("g")
	one, two := m.newSubscriber(id, ""), m.newSubscriber(id, "")
	m.heartbeat(one, subscription(a.topic, b.topic), nil, ok)
	m.heartbeat(two, subscription(a.topic), nil, ok)
	m.heartbeat(one, nil, one.revoked, ok)
	m.heartbeat(two, nil, nil, ok)
	m.check(m.lost || len(one.assigned)+len(two.assigned) <= 4, "of 4 partitions members have %d and %d", len(one.assigned), len(two.assigned))
	m.deleteTopic(a)
	m.heartbeat(one, nil, nil, ok)
	m.heartbeat(two, nil, nil, ok)
	m.check(m.lost || m.loose() || len(one.assigned) == 2 && len(two.assigned) == 0, "of the 2 partitions that are left members have %d and %d",
		len(one.assigned), len(two.assigned))
	m.leave(&one.member)
	m.leave(&two.member)
	m.deleteTopic(b)
}
