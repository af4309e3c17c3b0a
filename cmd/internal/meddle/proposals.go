package meddle

import (
	"bytes"
	"iter"

	"github.com/oncelog/oncelog/api/acl"
	"github.com/oncelog/oncelog/api/level"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
	"github.com/oncelog/oncelog/coordinator/group"
	"github.com/oncelog/oncelog/coordinator/txn"
	"github.com/oncelog/oncelog/partition/pstate"
)

// The acts of this file put commands into logs that no request of today leads to:
// the cores know them, replicas carry them out, and some version will ask for them,
// or has other limits at its edge than this one.

// The first byte of an entry of the coordinators' log names the core.
const (
	coreTxn     = 1
	coreCatalog = 2
	coreGroup   = 3
)

// coordinators is the Raft group of the coordinators.
const coordinators = 0

func (m *meddler) now() int64 { return m.Runtime.Wall().UnixMilli() }

// proposeCatalog carries out a command of the catalogue.
func (m *meddler) proposeCatalog(cmd catalog.Command, may ...catalog.Code) catalog.Result {
	res, known := m.propose(coordinators, catalog.AppendCommand([]byte{coreCatalog}, cmd)).(catalog.Result)
	if !known {
		m.lost = true
		return res
	}
	m.Reached("catalog " + res.Code.String())
	m.check(contains(may, res.Code) || m.loose(), "%T was answered %v; it may be %v", cmd, res.Code, may)
	return res
}

func (m *meddler) proposeGroup(cmd group.Command, may ...group.Code) {
	res, known := m.propose(coordinators, group.AppendCommand([]byte{coreGroup}, cmd)).(group.Result)
	if !known {
		m.lost = true
		return
	}
	m.Reached("group " + res.Code.String())
	m.check(contains(may, res.Code) || m.loose(), "%T was answered %v; it may be %v", cmd, res.Code, may)
}

func (m *meddler) proposeTxn(cmd txn.Command) any {
	return m.propose(coordinators, txn.AppendCommand([]byte{coreTxn}, m.now(), cmd))
}

func contains[T comparable](all []T, x T) bool {
	for _, v := range all {
		if v == x {
			return true
		}
	}
	return false
}

// keys: signing keys come, take over and go, while producers work.
func (m *meddler) keys() {
	secret := bytes.Repeat([]byte{byte(m.upTo(200))}, catalog.MinKeyBytes)
	m.proposeCatalog(catalog.AddKey{At: m.now()}, catalog.CodeInvalidKey)
	added := m.proposeCatalog(catalog.AddKey{At: m.now(), Secret: secret}, catalog.CodeOK, catalog.CodeLimitExceeded)
	again := m.proposeCatalog(catalog.AddKey{At: m.now(), Secret: secret}, catalog.CodeOK, catalog.CodeLimitExceeded)
	m.check(added.KeyID == again.KeyID, "one secret has the ids %d and %d", added.KeyID, again.KeyID)
	m.proposeCatalog(catalog.ActivateKey{At: m.now(), ID: 1 << 30}, catalog.CodeUnknownKey)
	m.proposeCatalog(catalog.RemoveKey{At: m.now(), ID: 1 << 30}, catalog.CodeUnknownKey)
	if m.lost || added.KeyID == 0 {
		return
	}
	m.rotated = true
	m.proposeCatalog(catalog.ActivateKey{At: m.now(), ID: added.KeyID}, catalog.CodeOK)
	m.proposeCatalog(catalog.RemoveKey{At: m.now(), ID: added.KeyID}, catalog.CodeKeyInUse)
	m.manyEnds()
	if m.chance(2) {
		m.proposeCatalog(catalog.ActivateKey{At: m.now(), ID: 1}, catalog.CodeOK)
	}
	for n := range catalog.MaxKeys {
		m.proposeCatalog(catalog.AddKey{At: m.now(), Secret: bytes.Repeat([]byte{byte(201 + n)}, catalog.MaxKeyBytes)}, catalog.CodeOK, catalog.CodeLimitExceeded)
	}
	for n := range catalog.MaxKeys {
		m.proposeCatalog(catalog.RemoveKey{At: m.now(), ID: added.KeyID + 1 + uint32(n)}, catalog.CodeOK, catalog.CodeUnknownKey)
	}
}

// rules: permissions come and go, and are nobody's business where they are off.
func (m *meddler) rules() {
	rule := acl.Rule{Principal: "meddler", Kind: acl.Topic, Pattern: acl.Prefixed, Name: "meddle.", Operation: acl.All, Permission: acl.Deny}
	bad := rule
	bad.Operation = 99
	m.proposeCatalog(catalog.AddACLs{At: m.now(), Rules: []acl.Rule{rule, bad}}, catalog.CodeInvalidACL)
	m.proposeCatalog(catalog.AddACLs{At: m.now(), Rules: []acl.Rule{rule}}, catalog.CodeOK)
	m.proposeCatalog(catalog.AddACLs{At: m.now(), Rules: make([]acl.Rule, catalog.MaxRulesPerCommand+1)}, catalog.CodeLimitExceeded)
	m.proposeCatalog(catalog.RemoveACLs{At: m.now(), Rules: []acl.Rule{rule, rule}}, catalog.CodeOK)
	m.proposeCatalog(catalog.RemoveACLs{At: m.now(), Rules: make([]acl.Rule, catalog.MaxRulesPerCommand+1)}, catalog.CodeLimitExceeded)
}

// settings: other defaults for new topics.
func (m *meddler) settings() {
	m.rules()
	m.defaults = true
	m.proposeCatalog(catalog.UpdateSettings{At: m.now(), Settings: catalog.Settings{ShardsPerNode: 1000}}, catalog.CodeInvalidSettings)
	m.proposeCatalog(catalog.InitCluster{At: m.now(), ClusterID: "another"}, catalog.CodeOK) // the first one holds
	m.proposeCatalog(catalog.UpdateSettings{At: m.now(), Settings: catalog.Settings{ShardsPerNode: 1, DefaultPartitions: 2, DefaultReplicationFactor: 1}}, catalog.CodeOK)
	var resp oncelogv1.CreateTopicResponse
	name := m.name("t")
	m.ask(coordinator, oncelogv1.CatalogService_CreateTopic_FullMethodName, &oncelogv1.CreateTopicRequest{Name: name}, &resp, ok, topicExists|ifLoose, insufficientNodes|forNow)
	made := resp.GetTopic()
	m.check(m.loose() || m.lost || made.GetPartitionCount() == 2 && made.GetReplicationFactor() == 1, "with a default of 2 partitions and 1 copy a topic has %d and %d",
		made.GetPartitionCount(), made.GetReplicationFactor())
	m.proposeCatalog(catalog.UpdateSettings{At: m.now(), Settings: catalog.Settings{ShardsPerNode: 1}}, catalog.CodeOK)
	m.proposeCatalog(catalog.CreateTopic{At: m.now(), Name: "not a name"}, catalog.CodeInvalidTopicName)
	another := m.name("t")
	m.proposeCatalog(catalog.CreateTopic{At: m.now(), Name: another}, catalog.CodeOK)
	m.deleteTopic(&ground{topic: another})
	m.proposeCatalog(catalog.RegisterNode{At: m.now()}, catalog.CodeInvalidNode)
	m.deleteTopic(&ground{topic: name})
	m.coordinatorsByForce()
	m.keptByForce()
}

// morePartitions: a topic gets more partitions while it is written to.
func (m *meddler) morePartitions() {
	m.on(func(g *ground) {
		m.proposeCatalog(catalog.CreatePartitions{At: m.now(), Name: "meddle.nothing", Total: 2}, catalog.CodeUnknownTopic)
		have := uint32(len(g.parts))
		m.proposeCatalog(catalog.CreatePartitions{At: m.now(), Name: g.topic, Total: have}, catalog.CodeInvalidPartitions)
		m.proposeCatalog(catalog.CreatePartitions{At: m.now(), Name: g.topic, Total: 20_000}, catalog.CodeInvalidPartitions)
		res := m.proposeCatalog(catalog.CreatePartitions{At: m.now(), Name: g.topic, Total: have + uint32(m.upTo(2))}, catalog.CodeOK, catalog.CodeInsufficientNodes)
		if m.lost || res.Code != catalog.CodeOK {
			return
		}
		topic := m.describeTopic(g.topic, len(res.Topic.Partitions))
		for _, p := range topic.GetPartitions()[min(len(g.parts), len(topic.GetPartitions())):] {
			g.parts = append(g.parts, &part{
				id:    &oncelogv1.PartitionRef{PartitionId: p.GetPartitionId()},
				named: &oncelogv1.PartitionRef{Topic: g.topic, Partition: p.GetPartition()},
				shard: p.GetShardId(),
			})
		}
		t := m.begin(m.newProducer())
		m.write(t, g.parts[len(g.parts)-1])
		m.commit(g, t, true)
		m.inspect(g)
	})
}

// shardsGo: a shard takes no new partitions, loses those it has, and goes, with
// decisions that it has not heard of.
func (m *meddler) shardsGo() {
	m.proposeCatalog(catalog.DrainShard{At: m.now(), ID: 1 << 40}, catalog.CodeUnknownShard)
	m.proposeCatalog(catalog.RemoveShard{At: m.now(), ID: 1 << 40}, catalog.CodeUnknownShard)
	g := m.newGround(1, 1)
	if m.lost {
		return
	}
	shard := g.parts[0].shard
	m.proposeCatalog(catalog.RemoveShard{At: m.now(), ID: shard}, catalog.CodeShardInUse)
	m.proposeCatalog(catalog.DrainShard{At: m.now(), ID: shard}, catalog.CodeOK)
	m.proposeCatalog(catalog.DrainShard{At: m.now(), ID: shard}, catalog.CodeOK)
	p := m.newProducer()
	done, open := m.begin(p), m.begin(m.newProducer())
	m.write(done, g.parts[0])
	m.write(open, g.parts[0])
	m.wait(2 * retryPause)
	m.commit(g, done, false)
	m.deleteTopic(g)
	for _, other := range m.grounds {
		for _, p := range other.parts {
			if p.shard == shard {
				return // it has other partitions
			}
		}
	}
	if res := m.proposeCatalog(catalog.RemoveShard{At: m.now(), ID: shard}, catalog.CodeOK, catalog.CodeShardInUse); res.Code == catalog.CodeOK {
		m.commit(&ground{}, m.begin(p), true) // nothing waits for what is gone
		m.outcome(done.ref, isCommitted, isForgotten, isAborted)
		m.end(g, open, open.ending(false, nil), ok)
	}
}

// phantoms: a node is made known that does not exist, and forgotten.
func (m *meddler) phantoms() {
	const phantom = 99
	m.ask(coordinatorPeer, oncelogv1.NodeService_RegisterNode_FullMethodName, &oncelogv1.RegisterNodeRequest{
		NodeId: phantom, InstanceId: "phantom", ClientAddress: "phantom.client", PeerAddress: "phantom.peer", MaxFormatLevel: level.Newest,
	}, &oncelogv1.RegisterNodeResponse{}, ok)
	m.proposeCatalog(catalog.UnregisterNode{At: m.now(), ID: 1 << 40}, catalog.CodeUnknownNode)
	m.proposeCatalog(catalog.UnregisterNode{At: m.now(), ID: 1}, catalog.CodeNodeInUse, catalog.CodeOK, catalog.CodeUnknownNode)
	m.proposeCatalog(catalog.UnregisterNode{At: m.now(), ID: phantom}, catalog.CodeOK, catalog.CodeUnknownNode)
}

// positionsByForce: positions are set and forgotten, owned or not.
func (m *meddler) positionsByForce() {
	m.on(func(g *ground) {
		p := g.any(m)
		id := p.id.GetPartitionId()
		name := m.name("g")
		m.proposeGroup(group.DeleteOffsets{At: m.now(), Group: name, Partitions: []uint64{id}}, group.CodeUnknownGroup)
		entry := []group.Entry{{Partition: id, Offset: 1}}
		m.proposeGroup(group.ResetOffsets{At: m.now(), Group: name, Entries: entry}, group.CodeOK)
		me := m.join(name, []*part{p})
		m.proposeGroup(group.ResetOffsets{At: m.now(), Group: name, Entries: entry}, group.CodePartitionOwned)
		m.proposeGroup(group.ResetOffsets{At: m.now(), Group: name, Entries: append(entry, entry...), Force: true}, group.CodeDuplicatePartition)
		m.proposeGroup(group.ResetOffsets{At: m.now(), Group: name, Entries: []group.Entry{{Partition: 1 << 50}}}, group.CodeUnknownPartition)
		m.proposeGroup(group.ResetOffsets{At: m.now(), Group: name, Entries: []group.Entry{{Partition: id, Offset: 7}}, Force: true}, group.CodeOK)
		m.commitOffsets(me, p, 2, staleMember)
		m.proposeGroup(group.DeleteOffsets{At: m.now(), Group: name, Partitions: []uint64{id}}, group.CodePartitionOwned)
		m.proposeGroup(group.DeleteOffsets{At: m.now(), Group: name, Partitions: []uint64{id, id}, Force: true}, group.CodeOK)
		m.proposeGroup(group.RemovePartitions{At: m.now(), Partitions: []uint64{1 << 50}}, group.CodeOK)
		m.proposeGroup(group.AssignPartitions{At: m.now(), Member: "m"}, group.CodeInvalidGroup)
		m.proposeGroup(group.AssignPartitions{At: m.now(), Group: name}, group.CodeInvalidMember)
		m.proposeGroup(group.AssignPartitions{At: m.now(), Group: name, Member: "m", Partitions: []uint64{1 << 50}}, group.CodeUnknownPartition)
		m.proposeGroup(group.ResetOffsets{At: m.now()}, group.CodeInvalidGroup)
		m.proposeGroup(group.CommitOffsets{At: m.now(), Commit: group.Commit{Group: name, Member: long}}, group.CodeInvalidMember)
		m.proposeGroup(group.CommitOffsets{At: m.now(), Commit: group.Commit{Group: name, Entries: []group.Entry{
			{Partition: id, Metadata: string(make([]byte, group.MaxMetadataBytes+1))},
		}}}, group.CodeMetadataTooLarge)
	})
}

// nonsense: entries that make no sense in a version that everybody knows are
// skipped by every replica alike. Another version ends a node, as it should.
func (m *meddler) nonsense() {
	good := txn.AppendCommand([]byte{coreTxn}, m.now(), txn.Expire{Refs: []txn.Ref{{ProducerID: 1 << 50}}})
	for _, entry := range [][]byte{
		{}, {coreTxn, 1}, {coreTxn, 1, 2, 0}, {coreCatalog, 1}, {coreCatalog, 1, 8, 0}, {coreGroup, 1}, {coreGroup, 1, 4, 0},
		good[:len(good)-1], append(bytes.Clone(good), 1), append([]byte{coreCatalog}, make([]byte, catalog.MaxCommandBytes+1)...),
	} {
		if len(entry) < 1000 || m.chance(8) {
			m.propose(coordinators, entry)
		}
	}
}

// unlikelyCommands: what leaders propose when they are late, and what the edge of
// another version may let pass. Nothing of it does anything.
func (m *meddler) unlikelyCommands() {
	m.on(func(g *ground) {
		p := m.newProducer()
		t := m.begin(p)
		at := g.any(m)
		m.write(t, at)
		m.wait(2 * retryPause)
		if m.lost {
			return
		}
		ref := txn.Ref{ProducerID: p.pid, Epoch: p.epoch, Number: t.ref.GetTxnNumber()}
		nobody, ahead := ref, ref
		nobody.ProducerID, ahead.Epoch = 1<<50, ref.Epoch+9
		refs := []txn.Ref{nobody, {ProducerID: p.pid, Epoch: p.epoch, Number: ref.Number + 7}, ref}
		if res, known := m.proposeTxn(txn.Expire{Refs: refs}).(txn.ExpireResult); known {
			m.codes("Expire", res.Codes, txn.CodeUnknownID, txn.CodeNotOpen, txn.CodeNotDue, txn.CodeOK)
		}
		if res, known := m.proposeTxn(txn.ExpireIDs{ProducerIDs: []uint64{1 << 50, p.pid}}).(txn.ExpireIDsResult); known {
			m.codes("ExpireIDs", res.Codes, txn.CodeUnknownID, txn.CodeIncomplete, txn.CodeNotDue)
		}
		m.proposeTxn(txn.AllocateProducerIDs{})
		m.proposeTxn(txn.AbortTransaction{Ref: nobody})
		m.proposeTxn(txn.DeleteID{TransactionalID: p.id, ProducerID: 1 << 50})
		m.proposeTxn(txn.FenceProducer{TransactionalID: "meddle.nobody"})
		m.proposeTxn(txn.MarkersApplied{Items: []txn.MarkerAck{{Ref: nobody, Shard: at.shard, Answer: txn.MarkerApplied}, {Ref: ref, Shard: at.shard, Answer: txn.MarkerRemoved}}})
		for _, c := range []txn.InitProducer{
			{TransactionalID: long, RequestID: txn.RequestID{1}}, {TransactionalID: p.id, Timeout: 1, RequestID: txn.RequestID{1}}, {TransactionalID: p.id},
			{TransactionalID: p.id, RequestID: txn.RequestID{1}, Owner: long + long}, {},
			{TransactionalID: long, RequestID: txn.RequestID{1}, Owner: "meddler", Exclusive: true},
		} {
			m.proposeTxn(c)
		}
		many := txn.EndTransaction{Ref: ref, Commit: true}
		for shard := range uint64(1001) {
			many.Participants = append(many.Participants, txn.Participant{Shard: shard})
		}
		same := txn.Participant{Shard: at.shard}
		half := group.Commit{Group: "meddle.g", Entries: make([]group.Entry, group.MaxPartitions/2+1)}
		for i := range half.Entries {
			half.Entries[i].Partition = at.id.GetPartitionId()
		}
		for _, c := range []txn.EndTransaction{
			{Ref: ref, Commit: true, OffsetsPayload: group.AppendCommits(nil, []group.Commit{half, half})}, // more than may be together
			{Ref: nobody}, {Ref: ahead}, {Ref: txn.Ref{ProducerID: p.pid, Epoch: p.epoch}}, many, {Ref: ref, Participants: []txn.Participant{same, same}, Commit: true},
			{Ref: ref, Commit: true, OffsetsPayload: []byte{99}}, {Ref: ref, Commit: true, Participants: []txn.Participant{{Shard: at.shard, Progress: []txn.Progress{{Partition: 1 << 50}}}}},
		} {
			m.proposeTxn(c)
		}
		m.commit(g, t, true)
		m.ackedOutOfOrder(g, p, at)
		m.anotherOwner()
		m.inspect(g)
	})
}

// ackedOutOfOrder: a shard acknowledges the second of two decisions first. It has
// nothing of that one.
func (m *meddler) ackedOutOfOrder(g *ground, p *producer, at *part) {
	first, second := m.begin(p), m.begin(p)
	m.write(first, at)
	m.commit(g, first, false)
	m.end(g, second, second.ending(true, []*oncelogv1.PartitionProgress{{Partition: at.id}}), ok, conflict)
	ref := txn.Ref{ProducerID: p.pid, Epoch: p.epoch, Number: second.ref.GetTxnNumber()}
	if !m.lost {
		m.proposeTxn(txn.MarkersApplied{Items: []txn.MarkerAck{{Ref: ref, Shard: at.shard, Answer: txn.MarkerRemoved}}})
	}
	m.end(g, first, first.ending(true, first.progress(g)), ok, conflict, forgotten)
}

// codes holds codes against those that there may be.
func (m *meddler) codes(what string, got []txn.Code, may ...txn.Code) {
	for _, c := range got {
		m.check(contains(may, c), "%s was answered %v; it may be %v", what, c, may)
	}
}

// retention: the records of a partition go, from the first on.
func (m *meddler) retention() {
	m.on(func(g *ground) {
		p, pr := g.any(m), m.newProducer()
		for range m.upTo(3) {
			t := m.begin(pr)
			m.write(t, p)
			pick(m, m.commit, m.abort)(g, t, true)
		}
		if !m.settled(p) || p.start == uint64(len(p.cells)) {
			return
		}
		to := p.start + uint64(m.upTo(len(p.cells)-int(p.start)))
		entry, err := pstate.EncodeAdvanceLogStarts(nil, pstate.AdvanceLogStarts{At: m.now(), Starts: []pstate.LogStart{
			{Partition: 1 << 50, Start: 1}, {Partition: p.id.GetPartitionId(), Start: to},
		}})
		m.check(err == nil, "log starts cannot be encoded: %v", err)
		m.propose(p.shard, entry)
		if m.shaky {
			m.lost = true
			return
		}
		p.start = to
		m.rewrittenByForce(p)
		m.inspect(g)
	})
}

// shardCommands: what a shard is told that is old, comes twice, or fits nothing.
func (m *meddler) shardCommands() {
	m.on(func(g *ground) {
		p, pr := g.any(m), m.newProducer()
		t := m.begin(pr)
		m.write(t, p)
		propose := func(entry []byte, err error) {
			if err == nil {
				m.propose(p.shard, entry)
			}
		}
		propose(pstate.EncodeSyncPartitions(nil, pstate.SyncPartitions{At: m.now(), Version: 1}))
		propose(pstate.EncodeSyncPartitions(nil, pstate.SyncPartitions{At: m.now(), Version: 1 << 50, From: 1 << 49}))
		propose(pstate.EncodeForget(nil, pstate.Forget{At: m.now(), Producers: []uint64{1 << 50, pr.pid}})) // it has a transaction open
		ref := pstate.TxnRef{ProducerID: pr.pid, Epoch: pr.epoch, Number: t.ref.GetTxnNumber()}
		nobody := pstate.TxnRef{ProducerID: 1 << 50, Number: 1}
		propose(pstate.EncodeEnlistAnswers(nil, pstate.EnlistAnswers{At: m.now(), List: []pstate.EnlistAnswer{
			{Ref: nobody, OpenedAt: 1, Verdict: pstate.VerdictStray}, {Ref: ref, OpenedAt: 1 << 50, Verdict: pstate.VerdictInvalid},
		}}))
		m.commit(g, t, true)
		m.inspect(g)
	})
}

// forgetting: a shard is told that a producer is gone.
func (m *meddler) forgetting() {
	m.on(func(g *ground) {
		p, pr := g.any(m), m.plainProducer()
		if !m.writePlain(pr, p) {
			return
		}
		entry, err := pstate.EncodeForget(nil, pstate.Forget{At: m.now(), Producers: []uint64{pr.pid}})
		if err != nil || m.propose(p.shard, entry) == nil {
			return
		}
		ref := &oncelogv1.TxnRef{ProducerId: pr.pid}
		m.append(p, nil, appends(p, ref, pr.token, pr.plain[p], m.records(1)), nil, unknownProducer)
		// A late copy of a decision meets an id that is gone.
		m.marked(p.shard, &oncelogv1.Marker{Txn: &oncelogv1.TxnRef{ProducerId: pr.pid, TxnNumber: 1}, Commit: true}, appliedSince)
		m.inspect(g)
	})
}

// configure has a shard work by other rules from now on.
func (m *meddler) configure(shard uint64, cfg pstate.Config) {
	m.propose(shard, pstate.EncodeConfigure(nil, pstate.Configure{At: m.now(), Config: cfg}))
}

// configurations: the rules of a shard become narrow for a while.
func (m *meddler) configurations() {
	m.on(func(g *ground) {
		p := g.any(m)
		narrow := m.Shard
		narrow.MaxPartitions, narrow.MaxBatchBytes, narrow.RangesKept = 1, 60, 1
		m.configure(p.shard, narrow)
		pr := m.plainProducer()
		big := m.records(1)
		big[0].Value = make([]byte, 100)
		a, _ := m.append(p, nil, appends(p, &oncelogv1.TxnRef{ProducerId: pr.pid}, pr.token, 0, big), big, batchTooLarge, ok|ifLoose)
		later := m.newGround(8, 3)
		m.wait(2 * retryPause)
		// Whatever was said meanwhile, the rules must become wide again, and stay so: a
		// late copy may make them narrow once more, for everybody who comes after.
		m.lost = false
		for tries := 1; ; tries++ {
			m.configure(p.shard, m.Shard)
			if !m.shaky && (!m.unsure || tries >= settleTries) || tries >= maxWidening {
				break
			}
			m.wait(retryPause)
		}
		if m.unsure {
			m.lost = true
			return
		}
		if len(later.parts) > 0 {
			m.writePlain(m.plainProducer(), later.any(m))
			m.deleteTopic(later)
		}
		if a != ok {
			m.mayComeAgain() // a copy that arrives by now is small enough
		}
		m.inspect(g)
	})
}

// renames: a shard is told once more which partitions it has, and that one goes by
// another name.
func (m *meddler) renames() {
	g := m.newGround(1, 1)
	if m.lost {
		return
	}
	p := g.parts[0]
	m.writePlain(m.plainProducer(), p)
	m.deleteTopic(m.newGround(1, 3)) // the catalogue is newer than what the shard has
	var picture oncelogv1.GetMetadataResponse
	m.ask(coordinator, oncelogv1.CatalogService_GetMetadata_FullMethodName, &oncelogv1.GetMetadataRequest{}, &picture, ok)
	entry, err := pstate.EncodeSyncPartitions(nil, pstate.SyncPartitions{At: m.now(), Version: picture.GetVersion(), Full: true, Add: []pstate.PartitionInfo{
		{ID: p.id.GetPartitionId(), TopicID: 1, Topic: "renamed"},
	}})
	for _, other := range m.grounds {
		for _, q := range other.parts {
			if q.shard == p.shard {
				return // it has other partitions
			}
		}
	}
	if err == nil {
		m.propose(p.shard, entry)
	}
	var resp oncelogv1.DescribePartitionsResponse
	m.ask(shardAt(p.shard), oncelogv1.LogService_DescribePartitions_FullMethodName,
		&oncelogv1.DescribePartitionsRequest{Partitions: []*oncelogv1.PartitionRef{p.id}}, &resp, ok)
	if parts := resp.GetPartitions(); len(parts) == 1 {
		m.check(parts[0].GetAppliedEnd() == uint64(len(p.cells)), "a partition of %d records has %d under another name", len(p.cells), parts[0].GetAppliedEnd())
	}
	m.deleteTopic(g)
}

// discarded: a shard is told that a transaction cannot exist that is open there.
// What it has of it goes, and the producer is none the worse.
func (m *meddler) discarded() {
	m.on(func(g *ground) {
		p, pr := g.any(m), m.newProducer()
		t := m.begin(pr)
		m.write(t, p)
		if m.loose() {
			return // what comes again finds no trace of the first and is stored anew
		}
		answers := pstate.EnlistAnswers{At: m.now()}
		for index := range m.applied(p) {
			answers.List = append(answers.List, pstate.EnlistAnswer{
				Ref: pstate.TxnRef{ProducerID: pr.pid, Epoch: pr.epoch, Number: t.ref.GetTxnNumber()}, OpenedAt: index, Verdict: pstate.VerdictInvalid,
			})
		}
		t.over = true
		if entry, err := pstate.EncodeEnlistAnswers(nil, answers); err == nil && !m.lost {
			m.propose(p.shard, entry)
		}
		m.abort(g, t, true)
		next := m.begin(pr)
		m.write(next, p)
		m.commit(g, next, true)
		m.inspect(g)
	})
}

// applied yields the last log indexes that a shard has applied, as far as its
// leader says.
func (m *meddler) applied(p *part) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		var status oncelogv1.GetStatusResponse
		m.ask(shardAt(p.shard), oncelogv1.StatusService_GetStatus_FullMethodName, &oncelogv1.GetStatusRequest{}, &status, ok)
		for _, group := range status.GetGroups() {
			if group.GetGroupId() != p.shard {
				continue
			}
			for index := group.GetApplied(); index > 0 && index+20 > group.GetApplied(); index-- {
				if !yield(index) {
					return
				}
			}
		}
	}
}
