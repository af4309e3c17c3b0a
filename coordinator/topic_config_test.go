package coordinator

import (
	"testing"

	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

func config(ms, bytes int64) *oncelogv1.TopicConfig {
	c := &oncelogv1.TopicConfig{}
	if ms != 0 {
		c.RetentionMs = proto.Int64(ms)
	}
	if bytes != 0 {
		c.RetentionBytes = proto.Int64(bytes)
	}
	return c
}

// wantConfig checks a configuration; -1 is for ever, as in the contract.
func wantConfig(t *testing.T, topic *oncelogv1.Topic, version uint64, ms, bytes int64) {
	t.Helper()
	want := config(ms, bytes)
	want.CleanupPolicy = oncelogv1.CleanupPolicy_CLEANUP_POLICY_DELETE
	want.MinCompactionLagMs, want.DeleteRetentionMs = proto.Int64(0), proto.Int64(86_400_000)
	if !proto.Equal(topic.GetConfig(), want) || topic.GetConfigVersion() != version {
		t.Errorf("configuration %v of version %d, want %v of version %d",
			topic.GetConfig(), topic.GetConfigVersion(), want, version)
	}
}

func TestRetentionReachesTheNodes(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		cat := c.leader().catalog()
		create := func(name string, config *oncelogv1.TopicConfig) (*oncelogv1.Topic, error) {
			res, err := cat.CreateTopic(c.ctx(), &oncelogv1.CreateTopicRequest{Name: name, Config: config, NoWait: true})
			return res.GetTopic(), err
		}
		wantConfig(t, must(create("plain", nil)), 0, -1, -1)
		topic := must(create("kept", config(60_000, -1)))
		wantConfig(t, topic, 0, 60_000, -1)
		for field, bad := range map[string]*oncelogv1.TopicConfig{
			"config.retention_ms": config(-2, 0), "config.retention_bytes": {RetentionBytes: proto.Int64(0)},
		} {
			_, err := create("bad", bad)
			wantEqual(t, "field", wantCode(t, err, "INVALID_ARGUMENT")["field"], field)
		}
		_, err := create("bad", config(1<<53+1, 0))
		wantEqual(t, "limit", wantCode(t, err, "LIMIT_EXCEEDED")["limit"], "9007199254740992")

		alter := func(req *oncelogv1.AlterTopicRequest) (*oncelogv1.Topic, error) {
			res, err := cat.AlterTopic(c.ctx(), req)
			return res.GetTopic(), err
		}
		first := &oncelogv1.AlterTopicRequest{TopicId: topic.GetTopicId(), Config: config(0, 4096), ExpectedConfigVersion: proto.Uint64(0)}
		wantConfig(t, must(alter(first)), 1, 60_000, 4096)
		wantConfig(t, must(alter(first)), 1, 60_000, 4096) // repeated
		beat := must(c.leader().cluster().Heartbeat(c.ctx(), &oncelogv1.HeartbeatRequest{NodeId: 1, InstanceId: instance(1)}))
		for _, p := range beat.GetShards()[0].GetPartitions() {
			if p.GetTopicId() == topic.GetTopicId() && (p.GetRetentionMs() != 60_000 || p.GetRetentionBytes() != 4096) ||
				p.GetTopic() == "plain" && (p.GetRetentionMs() != 0 || p.GetRetentionBytes() != 0) {
				t.Errorf("the node is told %v", p)
			}
		}
		wantConfig(t, must(alter(&oncelogv1.AlterTopicRequest{TopicId: topic.GetTopicId(), Config: config(-1, -1)})), 2, -1, -1)
		_, err = alter(first)
		wantEqual(t, "a late copy", wantCode(t, err, "TOPIC_CHANGED")["current_version"], "2")
		_, err = alter(&oncelogv1.AlterTopicRequest{TopicId: 99, Config: config(1, 0)})
		wantCode(t, err, "UNKNOWN_TOPIC")
		for field, bad := range map[string]*oncelogv1.AlterTopicRequest{
			"topic_id": {Config: config(1, 0)}, "config": {TopicId: topic.GetTopicId()},
			"config.retention_ms": {TopicId: topic.GetTopicId(), Config: config(-7, 0)},
		} {
			_, err := alter(bad)
			wantEqual(t, "field", wantCode(t, err, "INVALID_ARGUMENT")["field"], field)
		}
	})
}

func TestCleanupReachesTheNodes(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		cat := c.leader().catalog()
		compact := &oncelogv1.TopicConfig{
			RetentionMs: proto.Int64(1000), CleanupPolicy: oncelogv1.CleanupPolicy_CLEANUP_POLICY_COMPACT, MinCompactionLagMs: proto.Int64(5),
		}
		res, err := cat.CreateTopic(c.ctx(), &oncelogv1.CreateTopicRequest{Name: "t", Config: compact, NoWait: true})
		if got := res.GetTopic().GetConfig(); err != nil || got.GetCleanupPolicy() != compact.GetCleanupPolicy() ||
			got.GetMinCompactionLagMs() != 5 || got.GetDeleteRetentionMs() != 86_400_000 || got.GetRetentionMs() != 1000 {
			t.Fatalf("%v %v", got, err)
		}
		hosted := func() *oncelogv1.AssignedPartition {
			beat := must(c.leader().cluster().Heartbeat(c.ctx(), &oncelogv1.HeartbeatRequest{NodeId: 1, InstanceId: instance(1)}))
			return beat.GetShards()[0].GetPartitions()[0]
		}
		if p := hosted(); !p.GetCompact() || p.GetRetentionMs() != 0 || p.GetMinCompactionLagMs() != 5 || p.GetDeleteRetentionMs() != 86_400_000 {
			t.Errorf("the node is told %v", p)
		}
		id := res.GetTopic().GetTopicId()
		altered := must(cat.AlterTopic(c.ctx(), &oncelogv1.AlterTopicRequest{TopicId: id, Config: &oncelogv1.TopicConfig{
			CleanupPolicy: oncelogv1.CleanupPolicy_CLEANUP_POLICY_COMPACT_DELETE, DeleteRetentionMs: proto.Int64(7),
		}}))
		if p := hosted(); !p.GetCompact() || p.GetRetentionMs() != 1000 || p.GetDeleteRetentionMs() != 7 || altered.GetTopic().GetConfigVersion() != 1 {
			t.Errorf("the node is told %v", p)
		}
		for field, bad := range map[string]*oncelogv1.TopicConfig{
			"config.cleanup_policy":        {CleanupPolicy: 9},
			"config.min_compaction_lag_ms": {MinCompactionLagMs: proto.Int64(-1)},
			"config.delete_retention_ms":   {DeleteRetentionMs: proto.Int64(0)},
		} {
			_, err := cat.AlterTopic(c.ctx(), &oncelogv1.AlterTopicRequest{TopicId: id, Config: bad})
			wantEqual(t, "field", wantCode(t, err, "INVALID_ARGUMENT")["field"], field)
		}
		_, err = cat.AlterTopic(c.ctx(), &oncelogv1.AlterTopicRequest{TopicId: id, Config: &oncelogv1.TopicConfig{MinCompactionLagMs: proto.Int64(1<<53 + 1)}})
		wantEqual(t, "field", wantCode(t, err, "LIMIT_EXCEEDED")["field"], "config.min_compaction_lag_ms")
	})
}

func TestDeleteTopicIsRepeatableByID(t *testing.T) {
	run(t, func(t *testing.T, c *cluster) {
		c.register(1)
		cat := c.leader().catalog()
		old := c.topic("t", 1, 1)
		first := &oncelogv1.DeleteTopicRequest{Name: "t", TopicId: old.GetTopicId()}
		must(cat.DeleteTopic(c.ctx(), first))
		next := c.topic("t", 1, 1)
		must(cat.DeleteTopic(c.ctx(), first))
		must(cat.DeleteTopic(c.ctx(), &oncelogv1.DeleteTopicRequest{TopicId: old.GetTopicId()}))
		meta := must(cat.GetMetadata(c.ctx(), &oncelogv1.GetMetadataRequest{Topics: []string{"t"}}))
		wantEqual(t, "the topic that was made since", meta.GetTopics()[0].GetTopicId(), next.GetTopicId())
		_, err := cat.DeleteTopic(c.ctx(), &oncelogv1.DeleteTopicRequest{TopicId: 99})
		wantCode(t, err, "UNKNOWN_TOPIC")
		_, err = cat.DeleteTopic(c.ctx(), &oncelogv1.DeleteTopicRequest{})
		wantEqual(t, "field", wantCode(t, err, "INVALID_ARGUMENT")["field"], "name")
	})
}
