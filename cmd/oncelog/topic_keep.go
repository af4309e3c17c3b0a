package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

// keeping are the flags that say how much of a topic is kept.
type keeping struct {
	flags              *pflag.FlagSet
	retention, maxSize int64
	policy             string
	lag, tombstones    int64
}

const (
	retentionFlag  = "retention-ms"
	sizeFlag       = "retention-bytes"
	policyFlag     = "cleanup-policy"
	lagFlag        = "min-compaction-lag-ms"
	tombstonesFlag = "delete-retention-ms"
	forEver        = -1
)

// keepingFlags are all of them.
var keepingFlags = []string{retentionFlag, sizeFlag, policyFlag, lagFlag, tombstonesFlag}

// policies are the values of --cleanup-policy, as Kafka spells them.
var policies = map[string]oncelogv1.CleanupPolicy{
	"delete":         oncelogv1.CleanupPolicy_CLEANUP_POLICY_DELETE,
	"compact":        oncelogv1.CleanupPolicy_CLEANUP_POLICY_COMPACT,
	"compact,delete": oncelogv1.CleanupPolicy_CLEANUP_POLICY_COMPACT_DELETE,
	"delete,compact": oncelogv1.CleanupPolicy_CLEANUP_POLICY_COMPACT_DELETE,
}

func addKeeping(c *cobra.Command) *keeping {
	k := &keeping{flags: c.Flags()}
	k.flags.Int64Var(&k.retention, retentionFlag, forEver, "records older than so many milliseconds may go; -1: never")
	k.flags.Int64Var(&k.maxSize, sizeFlag, forEver, "the oldest records of a partition beyond so many bytes may go; -1: never")
	k.flags.StringVar(&k.policy, policyFlag, "delete", "what may go: delete (as the two above say), compact (older records of a key), or compact,delete")
	k.flags.Int64Var(&k.lag, lagFlag, 0, "records younger than so many milliseconds are not compacted")
	k.flags.Int64Var(&k.tombstones, tombstonesFlag, 86_400_000, "tombstones stay so many milliseconds after what they delete")
	return k
}

// config returns what the flags that were given say; nil: none was.
func (k *keeping) config() (*oncelogv1.TopicConfig, error) {
	c := &oncelogv1.TopicConfig{}
	given := false
	for _, f := range []struct {
		name    string
		value   *int64
		field   **int64
		least   int64
		bounded bool
	}{
		{retentionFlag, &k.retention, &c.RetentionMs, 1, false}, {sizeFlag, &k.maxSize, &c.RetentionBytes, 1, false},
		{lagFlag, &k.lag, &c.MinCompactionLagMs, 0, true}, {tombstonesFlag, &k.tombstones, &c.DeleteRetentionMs, 1, true},
	} {
		if !k.flags.Changed(f.name) {
			continue
		}
		switch {
		case *f.value < f.least && f.bounded:
			return nil, &usageError{fmt.Errorf("--%s is %d: it must be at least %d", f.name, *f.value, f.least)}
		case *f.value < f.least && *f.value != forEver:
			return nil, &usageError{fmt.Errorf("--%s is %d: it must be at least 1, or -1 for no bound", f.name, *f.value)}
		}
		*f.field, given = f.value, true
	}
	if k.flags.Changed(policyFlag) {
		policy, ok := policies[k.policy]
		if !ok {
			return nil, &usageError{fmt.Errorf("--%s is %q: it must be delete, compact, or compact,delete", policyFlag, k.policy)}
		}
		c.CleanupPolicy, given = policy, true
	}
	if !given {
		return nil, nil
	}
	return c, nil
}

func newTopicAlterCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "alter TOPIC",
		Short: "Change how much of a topic is kept",
		Long: `Alter changes how a topic is kept; what is not given stays as it is. Shards
follow within moments, and remove what may go within a minute. Only records below
the stable end go: by retention the oldest first, by compaction those that a newer
record of their key has made obsolete.`,
		Example: `  oncelog topic alter orders --retention-ms 604800000
  oncelog topic alter orders --retention-ms -1 --retention-bytes 1000000000
  oncelog topic alter prices --cleanup-policy compact`,
		Args: takes(1, 1),
	}
	keep := addKeeping(c)
	for _, name := range keepingFlags {
		c.Flags().Lookup(name).DefValue = "" // help shows no default: what is not given stays
	}
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		config, err := keep.config()
		switch {
		case err != nil:
			return err
		case config == nil:
			return &usageError{fmt.Errorf("nothing to change: give --%s", strings.Join(keepingFlags, " or --"))}
		}
		topic, err := ask(ctx, s, "topic "+args[0], func(ctx context.Context, a *client.Admin) (*oncelogv1.Topic, error) {
			return a.AlterTopic(ctx, args[0], config)
		})
		if err != nil {
			return err
		}
		return s.print(topic, func(w io.Writer) error {
			fields := []any{"name", topic.GetName(), "topic_id", topic.GetTopicId()}
			return output.Fields(w, append(fields, keptFields(topic.GetConfig())...)...)
		})
	})
}

const (
	retentionLabel = "retention"
	sizeLabel      = "retention_bytes"
	policyLabel    = "cleanup_policy"
	unbounded      = "for ever"
)

// keptFields say how a topic is kept.
func keptFields(c *oncelogv1.TopicConfig) []any {
	out := []any{retentionLabel, retentionText(c), sizeLabel, sizeText(c), policyLabel, policyText(c.GetCleanupPolicy())}
	if policyText(c.GetCleanupPolicy()) != "delete" {
		out = append(out, "min_compaction_lag", output.Millis(c.GetMinCompactionLagMs()), "delete_retention", output.Millis(c.GetDeleteRetentionMs()))
	}
	return out
}

func policyText(p oncelogv1.CleanupPolicy) string {
	switch p {
	case oncelogv1.CleanupPolicy_CLEANUP_POLICY_COMPACT:
		return "compact"
	case oncelogv1.CleanupPolicy_CLEANUP_POLICY_COMPACT_DELETE:
		return "compact,delete"
	case oncelogv1.CleanupPolicy_CLEANUP_POLICY_UNSPECIFIED, oncelogv1.CleanupPolicy_CLEANUP_POLICY_DELETE:
	}
	return "delete"
}

func retentionText(c *oncelogv1.TopicConfig) string {
	if c.GetRetentionMs() <= 0 {
		return unbounded
	}
	return output.Millis(c.GetRetentionMs())
}

func sizeText(c *oncelogv1.TopicConfig) string {
	if c.GetRetentionBytes() <= 0 {
		return "unlimited"
	}
	return output.Bytes(uint64(c.GetRetentionBytes()))
}

// startsView is where partitions start after a trim.
type startsView struct {
	Topic  string      `json:"topic"`
	Starts []startView `json:"starts"`
}

type startView struct {
	Partition   int32 `json:"partition"`
	StartOffset int64 `json:"start_offset,string"`
}

func newTopicTrimCommand(a *app) *cobra.Command {
	var yes, all bool
	var partition int32
	var before int64
	c := &cobra.Command{
		Use:   "trim TOPIC (--all | --partition N --before OFFSET)",
		Short: "Delete the oldest records of a topic at once",
		Long: `Trim removes records for good: those of one partition below an offset, or all
that read_committed shows now. Transactions that are open, what producers have
sent, and the positions of groups are not touched; a consumer whose position is
below the new start goes on as it was told to, at the new start by default.`,
		Example: `  oncelog topic trim orders --partition 3 --before 120000 --yes
  oncelog topic trim orders --all --yes`,
		Args: takes(1, 1),
	}
	c.Flags().BoolVar(&yes, "yes", false, "really delete them")
	c.Flags().BoolVar(&all, "all", false, "every record below the stable end, in all partitions")
	c.Flags().Int32VarP(&partition, "partition", "p", 0, "the partition")
	c.Flags().Int64Var(&before, "before", 0, "the offset of the first record to keep, at most the stable end")
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		hasPartition, hasBefore := c.Flags().Changed("partition"), c.Flags().Changed("before")
		switch {
		case all == (hasPartition && hasBefore) || all && (hasPartition || hasBefore):
			return &usageError{errors.New("say --all, or --partition and --before")}
		case partition < 0:
			return &usageError{fmt.Errorf("--partition is %d: it must be at least 0", partition)}
		case before < 0:
			return &usageError{fmt.Errorf("--before is %d: it must be at least 0", before)}
		case !yes:
			return &usageError{fmt.Errorf("trimming %s deletes records for good: say --yes", args[0])}
		}
		to := client.Offsets{{Topic: args[0], Partition: partition}: before}
		starts, err := ask(ctx, s, "topic "+args[0], func(ctx context.Context, a *client.Admin) (client.Offsets, error) {
			if all {
				var err error
				if to, err = stableEnds(ctx, a, args[0]); err != nil {
					return nil, err
				}
			}
			return a.DeleteRecords(ctx, to)
		})
		if apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_OFFSET_OUT_OF_RANGE {
			return &helpError{
				error: err,
				help:  fmt.Sprintf("Give an offset up to the stable end; `oncelog topic describe %s` shows it.", args[0]),
			}
		}
		if err != nil {
			return err
		}
		v := startsView{Topic: args[0]}
		for _, tp := range slices.SortedFunc(maps.Keys(starts), func(x, y client.TopicPartition) int { return int(x.Partition - y.Partition) }) {
			v.Starts = append(v.Starts, startView{tp.Partition, starts[tp]})
		}
		return s.print(v, func(w io.Writer) error {
			t := output.NewTable("partition", "start_offset")
			for _, p := range v.Starts {
				t.Row(p.Partition, p.StartOffset)
			}
			return t.Write(w)
		})
	})
}

// stableEnds fixes what "all" means before anything is removed: a repetition must
// not remove what is written later.
func stableEnds(ctx context.Context, a *client.Admin, topic string) (client.Offsets, error) {
	parts, err := a.DescribePartitions(ctx, topic)
	if err != nil {
		return nil, err
	}
	ends := make(client.Offsets, len(parts))
	for i, p := range parts {
		ends[client.TopicPartition{Topic: topic, Partition: int32(i)}] = int64(p.GetStableEnd())
	}
	return ends, nil
}
