// Package lag says how far a consumer group is behind, honestly: what it could read
// now apart from what an open transaction hides from it.
package lag

import (
	"maps"
	"slices"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// Group is how far a group is behind.
type Group struct {
	GroupID string `json:"group_id"`
	// Lag and Hidden are the sums over Partitions, which are by topic and partition.
	Lag        uint64      `json:"lag,string"`
	Hidden     uint64      `json:"hidden,string"`
	Partitions []Partition `json:"partitions"`
}

// Partition is how far a group is behind in one partition.
type Partition struct {
	Topic     string `json:"topic"`
	Partition uint32 `json:"partition"`
	// Offset is the committed one; nil: none, and the lag counts from the first record.
	Offset     *uint64 `json:"offset,string"`
	StableEnd  uint64  `json:"stable_end,string"`
	AppliedEnd uint64  `json:"applied_end,string"`
	// Lag are the offsets that can be read now, Hidden those that are durable beyond
	// them, and wait for an open transaction.
	Lag    uint64 `json:"lag,string"`
	Hidden uint64 `json:"hidden,string"`
	// MemberID owns the partition; empty: nobody.
	MemberID string `json:"member_id"`
}

// Of computes the lag of a group in all its partitions, and in those of the topics
// that it subscribes to. describe returns the partitions of a topic in their order; a
// topic that it says is unknown was deleted, and is left out.
func Of(group *oncelogv1.DescribeGroupResponse, describe func(topic string) ([]*oncelogv1.PartitionStatus, error)) (*Group, error) {
	g := &Group{GroupID: group.GetGroupId()}
	known := map[string]map[uint32]*oncelogv1.GroupPartition{} // by topic and partition
	for _, m := range group.GetMembers() {
		for _, topic := range m.GetSubscription().GetTopics() {
			known[topic] = map[uint32]*oncelogv1.GroupPartition{}
		}
	}
	for _, p := range group.GetPartitions() {
		ref := p.GetCommitted().GetPartition()
		if known[ref.GetTopic()] == nil {
			known[ref.GetTopic()] = map[uint32]*oncelogv1.GroupPartition{}
		}
		known[ref.GetTopic()][ref.GetPartition()] = p
	}
	for _, topic := range slices.Sorted(maps.Keys(known)) {
		ends, err := describe(topic)
		if apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_TOPIC {
			continue // deleted, and its positions with it
		}
		if err != nil {
			return nil, err
		}
		for i, end := range ends {
			g.add(in(topic, uint32(i), end, known[topic][uint32(i)]))
		}
	}
	return g, nil
}

// in says how far a group is behind in a partition, of which it may know nothing yet.
func in(topic string, partition uint32, end *oncelogv1.PartitionStatus, p *oncelogv1.GroupPartition) Partition {
	from := end.GetStartOffset()
	if p != nil && p.GetCommitted().Offset != nil {
		from = max(from, p.GetCommitted().GetOffset())
	}
	line := Partition{
		Topic: topic, Partition: partition, StableEnd: end.GetStableEnd(), AppliedEnd: end.GetAppliedEnd(), MemberID: p.GetMemberId(),
		Lag: Above(end.GetStableEnd(), from), Hidden: Above(end.GetAppliedEnd(), max(from, end.GetStableEnd())),
	}
	if p != nil {
		line.Offset = p.GetCommitted().Offset
	}
	return line
}

func (g *Group) add(line Partition) {
	g.Lag += line.Lag
	g.Hidden += line.Hidden
	g.Partitions = append(g.Partitions, line)
}

// Above is how much a is above b, which may be the newer word.
func Above(a, b uint64) uint64 {
	if a < b {
		return 0
	}
	return a - b
}
