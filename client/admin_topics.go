package client

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// CreateTopic creates a topic and returns it when its partitions accept records,
// or, with NoWait, when it is durable. INSUFFICIENT_NODES is returned at once: it
// is for the caller to know whether more nodes will come.
func (a *Admin) CreateTopic(ctx context.Context, req *oncelogv1.CreateTopicRequest) (*oncelogv1.Topic, error) {
	const op = "create topic"
	var resp *oncelogv1.CreateTopicResponse
	k := call{attempt: noLimit, final: func(e *apierrors.Error) bool {
		return e.Code == oncelogv1.ErrorCode_ERROR_CODE_INSUFFICIENT_NODES
	}}
	uncertain, err := a.c.invoke(ctx, k, func(ctx context.Context, cc grpc.ClientConnInterface) (err error) {
		resp, err = oncelogv1.NewCatalogServiceClient(cc).CreateTopic(ctx, req)
		return err
	})
	if err == nil {
		return resp.GetTopic(), nil
	}
	if uncertain && apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_TOPIC_EXISTS {
		// Perhaps created by an attempt that got no answer.
		if t, describeErr := a.DescribeTopic(ctx, req.GetName()); describeErr == nil && fits(t, req) {
			return t, nil
		}
	}
	return nil, wrap(op, err)
}

// fits reports whether a topic is as it was asked for.
func fits(t *oncelogv1.Topic, req *oncelogv1.CreateTopicRequest) bool {
	return t.GetPartitionCount() == max(req.GetPartitions(), 1) &&
		(req.GetReplicationFactor() == 0 || t.GetReplicationFactor() == req.GetReplicationFactor()) &&
		proto.Equal(altered(&oncelogv1.TopicConfig{
			RetentionMs: proto.Int64(-1), RetentionBytes: proto.Int64(-1), CleanupPolicy: oncelogv1.CleanupPolicy_CLEANUP_POLICY_DELETE,
			MinCompactionLagMs: proto.Int64(0), DeleteRetentionMs: proto.Int64(86_400_000),
		}, req.GetConfig()), t.GetConfig())
}

// altered returns a configuration with what a change sets.
func altered(now, change *oncelogv1.TopicConfig) *oncelogv1.TopicConfig {
	out := proto.CloneOf(now)
	proto.Merge(out, change)
	return out
}

// topicNow returns a topic as it is now, from the leader of the coordinators.
func (a *Admin) topicNow(ctx context.Context, op, name string) (*oncelogv1.Topic, error) {
	req := &oncelogv1.GetMetadataRequest{Topics: []string{name}, Linearizable: true}
	m, err := adminCall(ctx, a, op, call{}, req,
		func(ctx context.Context, cc grpc.ClientConnInterface, req *oncelogv1.GetMetadataRequest) (*oncelogv1.GetMetadataResponse, error) {
			return oncelogv1.NewCatalogServiceClient(cc).GetMetadata(ctx, req)
		})
	switch {
	case err != nil:
		return nil, err
	case len(m.GetTopics()) != 1:
		return nil, wrap(op, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_TOPIC, "", apierrors.KeyTopic, name))
	}
	a.c.meta.apply(m)
	return m.GetTopics()[0], nil
}

// AlterTopic changes how a topic is kept and returns it as it is then. Fields of
// config that are unset stay as they are; -1 is for ever. Shards follow within
// moments.
func (a *Admin) AlterTopic(ctx context.Context, name string, config *oncelogv1.TopicConfig) (*oncelogv1.Topic, error) {
	const op = "alter topic"
	pauses := a.c.backoff()
	for {
		t, err := a.topicNow(ctx, op, name)
		if err != nil {
			return nil, err
		}
		version := t.GetConfigVersion()
		req := &oncelogv1.AlterTopicRequest{TopicId: t.GetTopicId(), Config: config, ExpectedConfigVersion: &version}
		var resp *oncelogv1.AlterTopicResponse
		uncertain, err := a.c.invoke(ctx, call{}, func(ctx context.Context, cc grpc.ClientConnInterface) (err error) {
			resp, err = oncelogv1.NewCatalogServiceClient(cc).AlterTopic(ctx, req)
			return err
		})
		if err == nil {
			return resp.GetTopic(), nil
		}
		// Somebody was faster. Unless an attempt without an answer may have come
		// before them, this change is to come after theirs.
		if uncertain || apierrors.CodeOf(err) != oncelogv1.ErrorCode_ERROR_CODE_TOPIC_CHANGED || pauses.pause(ctx) != nil {
			return nil, wrap(op, err)
		}
	}
}

// DeleteTopic removes a topic and its records: the one that has the name when it
// is called, and none that is made later.
func (a *Admin) DeleteTopic(ctx context.Context, name string) error {
	const op = "delete topic"
	t, err := a.topicNow(ctx, op, name)
	if err != nil {
		return err
	}
	_, err = a.c.invoke(ctx, call{}, func(ctx context.Context, cc grpc.ClientConnInterface) error {
		_, err := oncelogv1.NewCatalogServiceClient(cc).DeleteTopic(ctx, &oncelogv1.DeleteTopicRequest{Name: name, TopicId: t.GetTopicId()})
		return err
	})
	a.c.meta.drop(name)
	if err != nil {
		return wrap(op, err)
	}
	return nil
}

// DeleteRecords removes the records of partitions below offsets and returns the
// first offsets that are kept then, which are higher where they were before. An
// offset above the last stable one is refused with OFFSET_OUT_OF_RANGE. Of a call
// that fails some partitions may be done; repeating it is harmless.
func (a *Admin) DeleteRecords(ctx context.Context, before Offsets) (Offsets, error) {
	const op = "delete records"
	type place struct {
		topic string
		shard uint64
	}
	topics, todo := map[string]*oncelogv1.Topic{}, map[place][]*oncelogv1.RecordDeletion{}
	for _, tp := range slices.SortedFunc(maps.Keys(before), TopicPartition.compare) {
		t := topics[tp.Topic]
		if t == nil {
			var err error
			if t, err = a.topicNow(ctx, op, tp.Topic); err != nil {
				return nil, err
			}
			topics[tp.Topic] = t
		}
		offset := before[tp]
		switch {
		case tp.Partition < 0 || int(tp.Partition) >= len(t.GetPartitions()):
			return nil, noPartition(op, tp, len(t.GetPartitions()))
		case offset < 0:
			return nil, invalid(op, "offset %d of %v: 0 or more", offset, tp)
		}
		p := t.GetPartitions()[tp.Partition]
		at := place{tp.Topic, p.GetShardId()}
		todo[at] = append(todo[at], &oncelogv1.RecordDeletion{
			Partition:    &oncelogv1.PartitionRef{Topic: tp.Topic, Partition: p.GetPartition(), PartitionId: p.GetPartitionId()},
			BeforeOffset: uint64(offset),
		})
	}
	starts := make(Offsets, len(before))
	for _, at := range slices.SortedFunc(maps.Keys(todo), func(x, y place) int {
		return cmp.Or(cmp.Compare(x.topic, y.topic), cmp.Compare(x.shard, y.shard))
	}) {
		for part := range slices.Chunk(todo[at], maxDeletions) {
			err := a.c.askShard(ctx, at.topic, at.shard, func(ctx context.Context, s oncelogv1.LogServiceClient) error {
				resp, err := s.DeleteRecords(ctx, &oncelogv1.DeleteRecordsRequest{Deletions: part})
				if err == nil && len(resp.GetStarts()) != len(part) {
					return errors.New("the node did not tell where all partitions start")
				}
				for i, st := range resp.GetStarts() {
					tp := TopicPartition{Topic: at.topic, Partition: int32(part[i].GetPartition().GetPartition())}
					starts[tp] = int64(st.GetStartOffset())
				}
				return err
			})
			if err != nil {
				e := wrap(op, err)
				e.Topic, e.Partition = at.topic, int32(part[0].GetPartition().GetPartition())
				return nil, e
			}
		}
	}
	return starts, nil
}

// maxDeletions is the contract's limit on one request.
const maxDeletions = 1000
