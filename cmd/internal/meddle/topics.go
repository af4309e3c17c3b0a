package meddle

import (
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// topicLife: a topic is made, found, deleted, and made again with ids of its own.
func (m *meddler) topicLife() {
	g := m.newGround(uint32(m.Rand.IntN(4)), uint32(m.Rand.IntN(4)))
	if m.lost {
		return
	}
	create := &oncelogv1.CreateTopicRequest{Name: g.topic, Partitions: uint32(len(g.parts)), NoWait: true}
	var made oncelogv1.CreateTopicResponse
	m.ask(coordinator, oncelogv1.CatalogService_CreateTopic_FullMethodName, create, &made, topicExists)
	m.findTopic(g)
	m.deleteTopic(g)
	m.ask(coordinator, oncelogv1.CatalogService_DeleteTopic_FullMethodName,
		&oncelogv1.DeleteTopicRequest{Name: g.topic}, &oncelogv1.DeleteTopicResponse{}, unknownTopic, ok|ifLoose)
	if m.loose() {
		return
	}
	m.ask(coordinator, oncelogv1.CatalogService_CreateTopic_FullMethodName, create, &made, ok, topicExists|ifLoose, insufficientNodes|forNow)
	for _, p := range made.GetTopic().GetPartitions() {
		last := g.parts[len(g.parts)-1].id.GetPartitionId()
		m.check(p.GetPartitionId() > last, "partition id %d was handed out again, after %d", p.GetPartitionId(), last)
	}
	m.deleteTopic(g)
}

// deleteTopic deletes a ground.
func (m *meddler) deleteTopic(g *ground) {
	m.ask(coordinator, oncelogv1.CatalogService_DeleteTopic_FullMethodName,
		&oncelogv1.DeleteTopicRequest{Name: g.topic}, &oncelogv1.DeleteTopicResponse{}, ok, unknownTopic|ifLoose)
	m.abandon(g)
}

// findTopic looks for a topic in everything that lists topics.
func (m *meddler) findTopic(g *ground) {
	var (
		token, last string
		found       bool
	)
	for range 100 {
		var page oncelogv1.ListTopicsResponse
		m.ask(coordinator, oncelogv1.CatalogService_ListTopics_FullMethodName,
			&oncelogv1.ListTopicsRequest{PageSize: uint32(m.Rand.IntN(4)), PageToken: token}, &page, ok)
		for _, t := range page.GetTopics() {
			m.check(t.GetName() > last, "topics are listed out of order: %q after %q", t.GetName(), last)
			last = t.GetName()
			if last == g.topic {
				found = true
				m.check(int(t.GetPartitionCount()) == len(g.parts), "a topic of %d partitions is listed with %d", len(g.parts), t.GetPartitionCount())
			}
		}
		if token = page.GetNextPageToken(); token == "" || m.lost {
			break
		}
	}
	// A list may come from a leader that was deposed and does not know it.
	m.check(found || m.loose(), "a topic is not listed")

	var picture oncelogv1.GetMetadataResponse
	m.ask(coordinator, oncelogv1.CatalogService_GetMetadata_FullMethodName,
		&oncelogv1.GetMetadataRequest{Topics: []string{g.topic, "meddle.nothing"}, TopicIds: []uint64{1, 1 << 40}}, &picture, ok)
	if m.lost {
		return
	}
	unknown := picture.GetUnknownTopics()
	m.check(len(unknown) > 0 && unknown[len(unknown)-1] == "meddle.nothing", "unknown topics: %q", unknown)
	m.note(&picture, coordinator)
}

// goneSoon waits until the nodes have heard that a partition is gone.
func (m *meddler) goneSoon(p *part) {
	for range settleTries {
		var resp oncelogv1.DescribeProducersResponse
		a, _ := m.ask(shardAt(p.shard), oncelogv1.LogService_DescribeProducers_FullMethodName,
			&oncelogv1.DescribeProducersRequest{Partition: p.id}, &resp, ok, unknownPartition)
		if a != ok {
			return
		}
		m.wait(2 * retryPause)
	}
	m.lost = true
}

// topicUnderWriters: a topic goes in the middle of transactions that write to it
// and to another.
func (m *meddler) topicUnderWriters() {
	m.on(func(stays *ground) {
		goes := m.newGround(uint32(m.upTo(2)), pick(m, uint32(1), 3))
		if m.lost {
			return
		}
		p := m.newProducer()
		before := m.begin(p) // committed in both before the topic goes, and perhaps not applied yet
		m.write(before, stays.any(m))
		m.write(before, goes.any(m))
		both := append(before.progress(stays), before.progress(goes)...)
		ends := before.ending(true, both)
		ends.WaitApplied = m.chance(2)
		decided := m.end(stays, before, ends, ok, conflict) == ok

		open := m.begin(p) // open in both when it goes
		m.write(open, stays.any(m))
		m.write(open, goes.any(m))
		lonely := m.begin(m.newProducer()) // open only in what goes
		m.write(lonely, goes.any(m))
		if m.lost {
			return
		}
		if m.chance(2) {
			m.wait(100 * time.Millisecond) // they are enlisted
		}
		m.deleteTopic(goes)
		if decided {
			// Its repetition gets the first answer, whatever is gone since.
			m.end(stays, before, ends, ok)
		}
		gone := open.ending(true, append(open.progress(stays), open.progress(goes)...))
		m.end(stays, open, gone, invalidTxn, conflict)
		// What is left can be committed, unless a shard had only records of what is gone.
		rest := open.ending(true, open.progress(stays))
		rest.WaitApplied = true
		if m.end(stays, open, rest, ok, conflict, unsettledSends) == unsettledSends {
			m.end(stays, open, open.ending(false, gone.GetPartitions()), ok)
		}
		m.end(goes, lonely, lonely.ending(false, lonely.progress(goes)), ok)
		m.goneSoon(goes.parts[0])
		// A new leader of the shard may not have heard of it yet.
		m.try(shardAt(goes.parts[0].shard), oncelogv1.LogService_Append_FullMethodName,
			appends(goes.parts[0], lonely.ref, lonely.token, lonely.next[goes.parts[0]], m.records(1)), &oncelogv1.AppendResponse{},
			unknownPartition, txnEnded, staleTxn, ok, outOfOrder)
		m.inspect(stays)
	})
}

// topicUnderReaders: a topic goes under streams that read it and a group that has
// positions in it.
func (m *meddler) topicUnderReaders() {
	g := m.newGround(uint32(m.upTo(2)), pick(m, uint32(1), 3))
	p := m.plainProducer()
	if m.lost {
		return
	}
	for range m.upTo(4) {
		m.writePlain(p, g.any(m))
	}
	member := m.join(m.name("g"), g.parts)
	m.commitOffsets(member, g.parts[0], uint64(m.Rand.IntN(3)), ok)
	if m.lost {
		return
	}
	ctx, cancel := m.Runtime.WithTimeout(m.ctx, patience)
	defer cancel()
	ended := make(chan error, 1)
	m.Runtime.Go(func() { ended <- m.followed(ctx, g.parts[0]) })
	m.wait(50 * time.Millisecond)
	m.deleteTopic(g)
	m.goneSoon(g.parts[0])
	m.awaitEnd(ctx, ended)
	m.commitOffsets(member, g.parts[0], 1, unknownPartition)
	for _, o := range m.positions(member.group) {
		m.check(m.loose(), "a group has position %d in partition %d, which is gone", o.GetOffset(), o.GetPartition().GetPartitionId())
	}
	m.leave(member)
	m.ask(coordinator, oncelogv1.GroupService_DeleteGroup_FullMethodName,
		&oncelogv1.DeleteGroupRequest{GroupId: member.group}, &oncelogv1.DeleteGroupResponse{}, ok, unknownGroup|ifLoose, groupNotEmpty|ifLoose)
}
