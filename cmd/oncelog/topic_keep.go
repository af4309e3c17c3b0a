package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

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
}

const (
	retentionFlag = "retention-ms"
	sizeFlag      = "retention-bytes"
	forEver       = -1
)

func addKeeping(c *cobra.Command) *keeping {
	k := &keeping{flags: c.Flags()}
	k.flags.Int64Var(&k.retention, retentionFlag, forEver, "records older than so many milliseconds may go; -1: never")
	k.flags.Int64Var(&k.maxSize, sizeFlag, forEver, "the oldest records of a partition beyond so many bytes may go; -1: never")
	return k
}

// config returns what the flags that were given say; nil: none was.
func (k *keeping) config() (*oncelogv1.TopicConfig, error) {
	c := &oncelogv1.TopicConfig{}
	for _, f := range []struct {
		name  string
		value *int64
		field **int64
	}{{retentionFlag, &k.retention, &c.RetentionMs}, {sizeFlag, &k.maxSize, &c.RetentionBytes}} {
		if !k.flags.Changed(f.name) {
			continue
		}
		if *f.value < 1 && *f.value != forEver {
			return nil, &usageError{fmt.Errorf("--%s is %d: it must be at least 1, or -1 for no bound", f.name, *f.value)}
		}
		*f.field = f.value
	}
	if c.RetentionMs == nil && c.RetentionBytes == nil {
		return nil, nil
	}
	return c, nil
}

func newTopicAlterCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "alter TOPIC",
		Short: "Change how much of a topic is kept",
		Long: `Alter changes the retention of a topic; what is not given stays as it is.
Shards follow within moments, and remove what may go within a minute. Only
records below the stable end go, the oldest first.`,
		Example: `  oncelog topic alter orders --retention-ms 604800000
  oncelog topic alter orders --retention-ms -1 --retention-bytes 1000000000`,
		Args: takes(1, 1),
	}
	keep := addKeeping(c)
	for _, name := range []string{retentionFlag, sizeFlag} {
		c.Flags().Lookup(name).DefValue = "0" // help shows no default: what is not given stays
	}
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		config, err := keep.config()
		switch {
		case err != nil:
			return err
		case config == nil:
			return &usageError{fmt.Errorf("nothing to change: give --%s or --%s", retentionFlag, sizeFlag)}
		}
		topic, err := ask(ctx, s, "topic "+args[0], func(ctx context.Context, a *client.Admin) (*oncelogv1.Topic, error) {
			return a.AlterTopic(ctx, args[0], config)
		})
		if err != nil {
			return err
		}
		return s.print(topic, func(w io.Writer) error {
			return output.Fields(w, "name", topic.GetName(), "topic_id", topic.GetTopicId(),
				retentionLabel, retentionText(topic.GetConfig()), sizeLabel, sizeText(topic.GetConfig()))
		})
	})
}

const (
	retentionLabel = "retention"
	sizeLabel      = "retention_bytes"
	unbounded      = "for ever"
)

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
