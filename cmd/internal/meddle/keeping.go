package meddle

import (
	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/coordinator/catalog"
)

// topicNow returns a topic as its leader knows it; nil, and the act is lost, if there
// is none.
func (m *meddler) topicNow(name string) *oncelogv1.Topic {
	var picture oncelogv1.GetMetadataResponse
	m.ask(coordinator, oncelogv1.CatalogService_GetMetadata_FullMethodName,
		&oncelogv1.GetMetadataRequest{Topics: []string{name}, Linearizable: true}, &picture, ok)
	if len(picture.GetTopics()) != 1 {
		m.check(m.loose(), "topic %s is not there", name)
		m.lost = true
		return nil
	}
	return picture.GetTopics()[0]
}

// alterations: how a topic is kept is changed, once more, and by a late copy.
func (m *meddler) alterations() {
	m.on(func(g *ground) {
		topic := m.topicNow(g.topic)
		alter := func(change *oncelogv1.TopicConfig, version *uint64, may ...answer) *oncelogv1.Topic {
			var resp oncelogv1.AlterTopicResponse
			m.ask(coordinator, oncelogv1.CatalogService_AlterTopic_FullMethodName,
				&oncelogv1.AlterTopicRequest{TopicId: topic.GetTopicId(), Config: change, ExpectedConfigVersion: version}, &resp, may...)
			return resp.GetTopic()
		}
		// Far more than there is: nothing goes by it.
		much := &oncelogv1.TopicConfig{RetentionBytes: proto.Int64(1 << 40)}
		version := topic.GetConfigVersion()
		for range 2 {
			now := alter(much, &version, ok)
			m.check(m.lost || now.GetConfigVersion() == version+1 && now.GetConfig().GetRetentionBytes() == 1<<40 &&
				now.GetConfig().GetRetentionMs() == -1, "a topic was altered to %v", now)
		}
		m.proposeCatalog(catalog.AlterTopic{
			At: m.now(), TopicID: topic.GetTopicId(), SetMillis: true, Retention: catalog.Retention{Millis: catalog.MaxRetention + 1},
		}, catalog.CodeInvalidRetention)
		now := alter(&oncelogv1.TopicConfig{RetentionBytes: proto.Int64(-1)}, nil, ok)
		m.check(m.lost || m.loose() || now.GetConfigVersion() == version+2, "a topic was altered to %v", now)
		alter(much, &version, topicChanged)
		alter(&oncelogv1.TopicConfig{RetentionMs: proto.Int64(0)}, nil, invalidArgument)
		m.inspect(g)
	})
}

// recordDeletions: the oldest records of a partition are deleted, as often as one asks.
func (m *meddler) recordDeletions() {
	m.on(func(g *ground) {
		p, pr := g.any(m), m.plainProducer()
		for range m.upTo(3) {
			m.writePlain(pr, p)
		}
		if !m.settled(p) {
			return
		}
		end := uint64(len(p.cells))
		del := func(before uint64, may ...answer) {
			var resp oncelogv1.DeleteRecordsResponse
			a, _ := m.ask(shardAt(p.shard), oncelogv1.LogService_DeleteRecords_FullMethodName, &oncelogv1.DeleteRecordsRequest{
				Deletions: []*oncelogv1.RecordDeletion{{Partition: p.id, BeforeOffset: before}},
			}, &resp, may...)
			if a == ok && len(resp.GetStarts()) == 1 {
				p.start = max(p.start, before)
				m.check(resp.GetStarts()[0].GetStartOffset() == p.start, "a log of which all below %d was deleted starts at %d",
					p.start, resp.GetStarts()[0].GetStartOffset())
			}
		}
		to := uint64(m.Rand.IntN(int(end) + 1))
		del(to, ok)
		del(to, ok)
		del(0, ok)
		if !m.loose() { // a copy that comes when there is more is no mistake
			del(end+1, offsetOutOfRange)
		}
		m.inspect(g)
	})
}

// namesakes: a topic is deleted by its id, and made again; what is said of the old
// one does not touch the new one.
func (m *meddler) namesakes() {
	g := m.newGround(uint32(m.upTo(2)), pick(m, uint32(1), 3))
	old := m.topicNow(g.topic)
	del := func(id uint64, may ...answer) {
		m.ask(coordinator, oncelogv1.CatalogService_DeleteTopic_FullMethodName,
			&oncelogv1.DeleteTopicRequest{Name: g.topic, TopicId: id}, &oncelogv1.DeleteTopicResponse{}, may...)
	}
	del(old.GetTopicId(), ok)
	del(old.GetTopicId(), ok)
	del(1<<40, unknownTopic)
	if m.lost || m.loose() {
		return // a late copy may make it again
	}
	var made oncelogv1.CreateTopicResponse
	m.ask(coordinator, oncelogv1.CatalogService_CreateTopic_FullMethodName,
		&oncelogv1.CreateTopicRequest{Name: g.topic, Partitions: 1, ReplicationFactor: 1}, &made, ok, topicExists|ifLoose, insufficientNodes|forNow)
	del(old.GetTopicId(), ok)
	now := m.topicNow(g.topic)
	m.check(m.lost || now.GetTopicId() > old.GetTopicId(), "topic %d was made after topic %d", now.GetTopicId(), old.GetTopicId())
	m.try(shardAt(g.parts[0].shard), oncelogv1.LogService_DeleteRecords_FullMethodName, &oncelogv1.DeleteRecordsRequest{
		Deletions: []*oncelogv1.RecordDeletion{{Partition: g.parts[0].id, BeforeOffset: 0}},
	}, &oncelogv1.DeleteRecordsResponse{}, unknownPartition, ok)
	del(now.GetTopicId(), ok)
}
