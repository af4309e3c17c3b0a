package meddle

import (
	"bytes"
	"fmt"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// ground is a topic of the meddler's own. Nobody else writes there, so that it
// knows every record with its offset.
type ground struct {
	topic string
	parts []*part
}

// part is a partition of a ground.
type part struct {
	id    *oncelogv1.PartitionRef // by its id
	named *oncelogv1.PartitionRef // by topic and index
	shard uint64
	cells []cell // by offset
	start uint64 // what lies below was removed
}

// cell is a record and where it comes from.
type cell struct {
	txn   *transaction // nil: none
	seq   uint64
	value []byte
	time  int64 // ms since the Unix epoch
}

// shown reports whether read_committed shows a record once its transaction has
// ended everywhere.
func (p *part) shown(c cell) bool {
	return c.txn == nil || c.txn.committed && c.seq < c.txn.covered[p]
}

// newGround creates a topic, with parts partitions of replicas copies.
func (m *meddler) newGround(parts, replicas uint32) *ground {
	g := &ground{topic: m.name("t")}
	if m.defaults {
		parts = max(parts, 1)
	}
	var resp oncelogv1.CreateTopicResponse
	a, _ := m.ask(coordinator, oncelogv1.CatalogService_CreateTopic_FullMethodName,
		&oncelogv1.CreateTopicRequest{Name: g.topic, Partitions: parts, ReplicationFactor: replicas, NoWait: m.chance(3)}, &resp,
		ok, topicExists|ifLoose, insufficientNodes|forNow)
	topic := resp.GetTopic()
	if a == topicExists {
		topic = m.describeTopic(g.topic, 1)
	}
	m.check(len(topic.GetPartitions()) == int(max(parts, 1)), "topic of %d partitions was made with %d", parts, len(topic.GetPartitions()))
	for _, p := range topic.GetPartitions() {
		g.parts = append(g.parts, &part{
			id:    &oncelogv1.PartitionRef{PartitionId: p.GetPartitionId()},
			named: &oncelogv1.PartitionRef{Topic: g.topic, Partition: p.GetPartition()},
			shard: p.GetShardId(),
		})
	}
	return g
}

// describeTopic looks a topic up until it is found with so many partitions.
func (m *meddler) describeTopic(name string, parts int) *oncelogv1.Topic {
	for range settleTries {
		var picture oncelogv1.GetMetadataResponse
		m.ask(coordinator, oncelogv1.CatalogService_GetMetadata_FullMethodName,
			&oncelogv1.GetMetadataRequest{Topics: []string{name}}, &picture, ok)
		if found := picture.GetTopics(); len(found) == 1 && len(found[0].GetPartitions()) >= parts {
			return found[0]
		}
		m.wait(retryPause)
	}
	m.lost = true
	return nil
}

// borrow returns a ground to write to: one that there is, or another.
func (m *meddler) borrow() *ground {
	const most = 2
	if len(m.grounds) < most && (len(m.grounds) == 0 || m.chance(2)) {
		g := m.newGround(uint32(m.upTo(4)), pick(m, uint32(0), 3, 2, 1))
		if m.lost {
			return &ground{}
		}
		m.grounds = append(m.grounds, g)
		return g
	}
	return pick(m, m.grounds...)
}

// abandon gives up a ground of which not everything is known any more.
func (m *meddler) abandon(g *ground) {
	for i, x := range m.grounds {
		if x == g {
			m.grounds = append(m.grounds[:i], m.grounds[i+1:]...)
			return
		}
	}
}

// on performs a part of an act on a ground, and gives the ground up if that has
// lost its footing.
func (m *meddler) on(fn func(g *ground)) {
	g := m.borrow()
	if m.lost {
		return
	}
	fn(g)
	if m.lost {
		m.abandon(g)
	}
}

// any draws a partition.
func (g *ground) any(m *meddler) *part { return pick(m, g.parts...) }

// record makes a record that nobody has written. Most are newer than the one
// before.
func (m *meddler) record() *oncelogv1.Record {
	m.names++
	at := int64(m.names)*10 - int64(m.Rand.IntN(25))
	r := &oncelogv1.Record{Value: fmt.Appendf(nil, "%d", m.names), TimestampMs: &at}
	if m.chance(4) {
		r.Key = bytes.Repeat([]byte{'k'}, m.Rand.IntN(20))
		r.Headers = []*oncelogv1.Header{{Key: "h", Value: []byte("v")}, {Key: "h"}}
	}
	return r
}

// records makes some.
func (m *meddler) records(n int) (out []*oncelogv1.Record) {
	for range n {
		out = append(out, m.record())
	}
	return out
}
