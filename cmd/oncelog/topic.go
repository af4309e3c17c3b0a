package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

func newTopicCommand(a *app) *cobra.Command {
	return parent("topic", "Create, list, describe, alter, trim and delete topics",
		newTopicCreateCommand(a), newTopicListCommand(a), newTopicDescribeCommand(a), newTopicAlterCommand(a),
		newTopicTrimCommand(a), newTopicDeleteCommand(a))
}

// maxPartitions is the contract's limit for one topic.
const maxPartitions = 10_000

func newTopicCreateCommand(a *app) *cobra.Command {
	var partitions, replicas uint32
	var ifNotExists, noWait bool
	c := &cobra.Command{
		Use:   "create TOPIC",
		Short: "Create a topic and wait until all its partitions can be written",
		Example: `  oncelog topic create orders --partitions 12
  oncelog topic create audit --replication-factor 3 --if-not-exists
  oncelog topic create clicks --retention-ms 86400000
  oncelog topic create prices --cleanup-policy compact`,
		Args: takes(1, 1),
	}
	c.Flags().Uint32VarP(&partitions, "partitions", "p", 1, "number of partitions, at most 10,000")
	c.Flags().Uint32VarP(&replicas, "replication-factor", "r", 0, "nodes that keep a copy (0: three, or as many as there are)")
	c.Flags().BoolVar(&ifNotExists, "if-not-exists", false, "do nothing if the topic exists")
	c.Flags().BoolVar(&noWait, "no-wait", false, "do not wait for leaders of the partitions")
	keep := addKeeping(c)
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		config, err := keep.config()
		if err != nil {
			return err
		}
		if partitions < 1 || partitions > maxPartitions { // 0 means one in the contract
			return &usageError{fmt.Errorf("--partitions is %d: it must be from 1 to %s", partitions, output.Count(uint64(maxPartitions)))}
		}
		topic, err := ask(ctx, s, "topic "+args[0], func(ctx context.Context, a *client.Admin) (*oncelogv1.Topic, error) {
			return createWhenStarted(ctx, a, &oncelogv1.CreateTopicRequest{
				Name: args[0], Partitions: partitions, ReplicationFactor: replicas, NoWait: noWait, Config: config,
			})
		})
		if ifNotExists && apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_TOPIC_EXISTS {
			fmt.Fprintf(s.err, "topic %s exists already\n", args[0])
			return nil
		}
		if err != nil {
			return err
		}
		return s.print(topic, func(w io.Writer) error { return topicTable(w, topic) })
	})
}

// startPause is how long to wait before a cluster that is starting is asked again.
const startPause = 100 * time.Millisecond

// createWhenStarted creates a topic. A cluster without any partition node is one that is
// just starting, as in a script that starts it and goes on: it is asked until it has one.
func createWhenStarted(ctx context.Context, a *client.Admin, req *oncelogv1.CreateTopicRequest) (*oncelogv1.Topic, error) {
	again := time.NewTicker(startPause)
	defer again.Stop()
	for {
		topic, err := a.CreateTopic(ctx, req)
		if err == nil || apierrors.CodeOf(err) != oncelogv1.ErrorCode_ERROR_CODE_INSUFFICIENT_NODES ||
			apierrors.From(err).Metadata[apierrors.KeyRegistered] != "0" {
			return topic, err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

func newTopicListCommand(a *app) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List topics", Args: takes(0, 0)}
	return clusterCommand(a, c, func(ctx context.Context, s *session, _ []string) error {
		topics, err := pages(0, func(size uint32, token string) ([]*oncelogv1.Topic, string, error) {
			resp, err := ask(ctx, s, "", func(ctx context.Context, a *client.Admin) (*oncelogv1.ListTopicsResponse, error) {
				return a.ListTopics(ctx, size, token)
			})
			return resp.GetTopics(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		return s.print(&oncelogv1.ListTopicsResponse{Topics: topics}, func(w io.Writer) error { return topicTable(w, topics...) })
	})
}

func topicTable(w io.Writer, topics ...*oncelogv1.Topic) error {
	t := output.NewTable("name", "topic_id", "partition_count", "replication_factor", "created_at")
	for _, topic := range topics {
		t.Row(topic.GetName(), topic.GetTopicId(), topic.GetPartitionCount(), topic.GetReplicationFactor(),
			output.Time(topic.GetCreatedAtMs()))
	}
	return t.Write(w)
}

func newTopicDescribeCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "describe TOPIC",
		Short: "Show where a topic's partitions are and how far they are",
		Long: `Describe shows every partition of a topic: its shard and leader, the first
offset that is kept, the end of what is durable (applied_end), the end of what
read_committed may see (stable_end), and the bytes that are stored. Where an open
transaction holds the stable end, blocked_by names it as
producer_id/epoch/txn_number.

When a leader does not answer, the partitions are shown without ends.`,
		Args: takes(1, 1),
	}
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		view, err := s.topicView(ctx, args[0])
		if err != nil {
			return err
		}
		return s.print(view, view.table)
	})
}

// topicView asks where a topic is and how far its partitions are. Ends that
// nobody tells are left out: a description is best of what there is.
func (s *session) topicView(ctx context.Context, name string) (*topicView, error) {
	meta, err := ask(ctx, s, "topic "+name, func(ctx context.Context, a *client.Admin) (*oncelogv1.GetMetadataResponse, error) {
		return a.Metadata(ctx, name)
	})
	if err != nil {
		return nil, err
	}
	if len(meta.GetTopics()) == 0 {
		return nil, about{"topic " + name, apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_TOPIC, "")}
	}
	topic := meta.GetTopics()[0]
	leaders := map[uint64]uint64{}
	for _, shard := range meta.GetShards() {
		leaders[shard.GetShardId()] = shard.GetLeader()
	}
	statuses, err := ask(ctx, s, "", func(ctx context.Context, a *client.Admin) ([]*oncelogv1.PartitionStatus, error) {
		ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
		defer cancel()
		return a.DescribePartitions(ctx, name)
	})
	if err != nil && ctx.Err() == nil {
		text, _ := explain(err)
		fmt.Fprintf(s.err, "ends are missing: %s\n", text)
	}
	byID := map[uint64]*oncelogv1.PartitionStatus{}
	for _, st := range statuses {
		byID[st.GetPartition().GetPartitionId()] = st
	}
	v := &topicView{
		Name: topic.GetName(), TopicID: topic.GetTopicId(),
		ReplicationFactor: topic.GetReplicationFactor(), CreatedAtMs: topic.GetCreatedAtMs(),
		RetentionMs: topic.GetConfig().GetRetentionMs(), RetentionBytes: topic.GetConfig().GetRetentionBytes(),
		CleanupPolicy: policyText(topic.GetConfig().GetCleanupPolicy()), MinCompactionLagMs: topic.GetConfig().GetMinCompactionLagMs(),
		DeleteRetentionMs: topic.GetConfig().GetDeleteRetentionMs(), config: topic.GetConfig(),
	}
	for _, p := range topic.GetPartitions() {
		v.Partitions = append(v.Partitions, newPartitionView(p, leaders[p.GetShardId()], byID[p.GetPartitionId()]))
	}
	return v, nil
}

// topicView is a topic with what its leaders say.
type topicView struct {
	Name              string `json:"name"`
	TopicID           uint64 `json:"topic_id,string"`
	ReplicationFactor uint32 `json:"replication_factor"`
	CreatedAtMs       int64  `json:"created_at_ms,string"`
	RetentionMs       int64  `json:"retention_ms,string"`
	RetentionBytes    int64  `json:"retention_bytes,string"`

	CleanupPolicy      string `json:"cleanup_policy"`
	MinCompactionLagMs int64  `json:"min_compaction_lag_ms,string"`
	DeleteRetentionMs  int64  `json:"delete_retention_ms,string"`

	Partitions []partitionView `json:"partitions"`

	config *oncelogv1.TopicConfig
}

// partitionView is one partition; the ends are absent when its leader did not
// answer.
type partitionView struct {
	Partition        uint32  `json:"partition"`
	PartitionID      uint64  `json:"partition_id,string"`
	ShardID          uint64  `json:"shard_id,string"`
	Leader           uint64  `json:"leader,string"`
	StartOffset      *uint64 `json:"start_offset,string"`
	AppliedEnd       *uint64 `json:"applied_end,string"`
	StableEnd        *uint64 `json:"stable_end,string"`
	SizeBytes        *uint64 `json:"size_bytes,string"`
	OpenTransactions uint32  `json:"open_transactions"`
	BlockedBy        string  `json:"blocked_by"`
	BlockedSinceMs   int64   `json:"blocked_since_ms,string"`
}

func newPartitionView(p *oncelogv1.Partition, leader uint64, st *oncelogv1.PartitionStatus) partitionView {
	v := partitionView{Partition: p.GetPartition(), PartitionID: p.GetPartitionId(), ShardID: p.GetShardId(), Leader: leader}
	if st != nil {
		v.StartOffset, v.AppliedEnd, v.StableEnd, v.SizeBytes = &st.StartOffset, &st.AppliedEnd, &st.StableEnd, &st.SizeBytes
		v.OpenTransactions, v.BlockedSinceMs = st.GetOpenTransactions(), st.GetBlockedSinceMs()
		if st.GetBlockedBy() != nil {
			v.BlockedBy = txnName(st.GetBlockedBy())
		}
	}
	return v
}

func (v *topicView) table(w io.Writer) error {
	fields := []any{"name", v.Name, "topic_id", v.TopicID, "replication_factor", v.ReplicationFactor, "created_at", output.Time(v.CreatedAtMs)}
	if err := output.Fields(w, append(fields, keptFields(v.config)...)...); err != nil {
		return err
	}
	fmt.Fprintln(w)
	t := output.NewTable("partition", "partition_id", "shard_id", "leader", "start_offset", "applied_end", "stable_end",
		"size_bytes", "open_transactions", "blocked_by", "blocked_since")
	for _, p := range v.Partitions {
		leader := any(p.Leader)
		if p.Leader == 0 {
			leader = ""
		}
		t.Row(p.Partition, p.PartitionID, p.ShardID, leader, output.Optional(p.StartOffset), output.Optional(p.AppliedEnd),
			output.Optional(p.StableEnd), output.Optional(p.SizeBytes), p.OpenTransactions, p.BlockedBy, output.Time(p.BlockedSinceMs))
	}
	return t.Write(w)
}

func newTopicDeleteCommand(a *app) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "delete TOPIC",
		Short: "Delete a topic and all its records",
		Args:  takes(1, 1),
	}
	c.Flags().BoolVar(&yes, "yes", false, "really delete it")
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		if !yes {
			return &usageError{fmt.Errorf("deleting %s deletes its records for good: say --yes", args[0])}
		}
		_, err := ask(ctx, s, "topic "+args[0], func(ctx context.Context, a *client.Admin) (struct{}, error) {
			return struct{}{}, a.DeleteTopic(ctx, args[0])
		})
		if err == nil {
			fmt.Fprintf(s.err, "topic %s is deleted\n", args[0])
		}
		return err
	})
}
