package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/lag"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

func newGroupLagCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "lag GROUP",
		Short: "Show how far a consumer group is behind",
		Long: `Lag shows, per partition, how many offsets a group can read now (lag), and how
many more are durable but held back by an open transaction (hidden). A group with
lag 0 and hidden records waits for that transaction, not for its own consumers:
'oncelog topic describe' names it. Where there is no position yet the lag
is counted from the first record, and so it is in partitions of the group's topics
that nobody owns.`,
		Args: takes(1, 1),
	}
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		group, err := ask(ctx, s, "group "+args[0], func(ctx context.Context, a *client.Admin) (*oncelogv1.DescribeGroupResponse, error) {
			return a.DescribeGroup(ctx, args[0])
		})
		if err != nil {
			return err
		}
		view, err := lag.Of(group, func(topic string) ([]*oncelogv1.PartitionStatus, error) {
			return ask(ctx, s, "topic "+topic, func(ctx context.Context, a *client.Admin) ([]*oncelogv1.PartitionStatus, error) {
				return a.DescribePartitions(ctx, topic)
			})
		})
		if err != nil {
			return err
		}
		return s.print(view, func(w io.Writer) error { return lagTable(w, view) })
	})
}

func lagTable(w io.Writer, v *lag.Group) error {
	if err := output.Fields(w, "group_id", v.GroupID, "lag", v.Lag, "hidden", v.Hidden); err != nil {
		return err
	}
	fmt.Fprintln(w)
	t := output.NewTable("topic", "partition", "offset", "stable_end", "applied_end", "lag", "hidden", "member_id")
	for _, p := range v.Partitions {
		t.Row(p.Topic, p.Partition, output.Optional(p.Offset), p.StableEnd, p.AppliedEnd, p.Lag, p.Hidden, p.MemberID)
	}
	return t.Write(w)
}

func newGroupResetCommand(a *app) *cobra.Command {
	var to string
	var partitions []int32
	var yes bool
	c := &cobra.Command{
		Use:   "reset-offsets GROUP TOPIC",
		Short: "Move the positions of a consumer group",
		Long: `Reset-offsets moves the positions of a group in a topic: back, and records are
processed again; forward, and they are skipped. No member may own the partitions:
stop the group's consumers first. Without --yes it only shows what it would do.`,
		Example: `  oncelog group reset-offsets billing orders --to earliest --yes
  oncelog group reset-offsets billing orders --to 2026-01-31T12:00:00Z -p 3`,
		Args: takes(2, 2),
	}
	c.Flags().StringVar(&to, "to", "", "earliest, latest, an offset, a time (RFC 3339), or how long ago (15m)")
	c.Flags().Int32SliceVarP(&partitions, "partition", "p", nil, "only these partitions")
	c.Flags().BoolVar(&yes, "yes", false, "really move them")
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		if to == "" {
			return &usageError{errors.New("say where --to: earliest, latest, an offset, a time, or how long ago")}
		}
		start, err := parseStart("to", to, s.now())
		if err != nil {
			return &usageError{err}
		}
		group, topic := args[0], args[1]
		offsets, err := s.startOffsets(ctx, topic, partitions, start)
		if err != nil {
			return about{"topic " + topic, err}
		}
		before, isNew, err := s.groupOffsets(ctx, group)
		if err != nil {
			return err
		}
		if yes {
			_, err := ask(ctx, s, "group "+group, func(ctx context.Context, a *client.Admin) (struct{}, error) {
				return struct{}{}, a.ResetGroupOffsets(ctx, group, offsets)
			})
			if errors.Is(err, client.ErrStaleMember) {
				return &helpError{
					error: about{"group " + group, fmt.Errorf("its members own partitions of %s", topic)},
					help:  "Stop the group's consumers first; `oncelog group describe` shows them.",
				}
			}
			if err != nil {
				return err
			}
		}
		view := newResetView(group, before, offsets, yes)
		if err := s.print(view, view.table); err != nil || yes {
			return err
		}
		if isNew {
			fmt.Fprintf(s.err, "there is no group %s yet: --yes makes it, with these positions\n", output.Printable(group))
		}
		fmt.Fprintln(s.err, "nothing was moved: say --yes to do it")
		return nil
	})
}

// groupOffsets returns the positions of a group, and whether there is no such group:
// positions may be set before its first consumer starts, but a name may also be wrong.
func (s *session) groupOffsets(ctx context.Context, group string) (at client.Offsets, isNew bool, err error) {
	_, err = ask(ctx, s, "group "+group, func(ctx context.Context, a *client.Admin) (*oncelogv1.DescribeGroupResponse, error) {
		return a.DescribeGroup(ctx, group)
	})
	switch {
	case apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_GROUP:
		return nil, true, nil
	case err != nil:
		return nil, false, err
	}
	at, err = ask(ctx, s, "group "+group, func(ctx context.Context, a *client.Admin) (client.Offsets, error) {
		return a.GroupOffsets(ctx, group)
	})
	return at, false, err
}

// startOffsets finds offsets as consume does, without a group.
func (s *session) startOffsets(ctx context.Context, topic string, partitions []int32, at start) (client.Offsets, error) {
	cl, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.limit(ctx)
	defer cancel()
	var options []client.ConsumerOption
	if len(partitions) > 0 {
		options = append(options, client.WithPartitions(topic, partitions...))
	}
	k, err := cl.Consume(ctx, "", []string{topic}, options...)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	if err := (&consumption{session: s, start: at, consumer: k}).seek(ctx); err != nil {
		return nil, err
	}
	return k.Position(), nil
}

// resetView is what a reset does, or would do.
type resetView struct {
	GroupID    string          `json:"group_id"`
	Moved      bool            `json:"moved"`
	Partitions []partitionMove `json:"partitions"`
}

type partitionMove struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      *int64 `json:"from,string"`
	To        int64  `json:"to,string"`
}

func newResetView(group string, before, after client.Offsets, moved bool) *resetView {
	v := &resetView{GroupID: group, Moved: moved}
	for _, tp := range slices.SortedFunc(maps.Keys(after), func(a, b client.TopicPartition) int { return cmp.Compare(a.Partition, b.Partition) }) {
		m := partitionMove{Topic: tp.Topic, Partition: tp.Partition, To: after[tp]}
		if from, has := before[tp]; has {
			m.From = &from
		}
		v.Partitions = append(v.Partitions, m)
	}
	return v
}

func (v *resetView) table(w io.Writer) error {
	t := output.NewTable("topic", "partition", "from", "to")
	for _, p := range v.Partitions {
		t.Row(p.Topic, p.Partition, output.Optional(p.From), p.To)
	}
	return t.Write(w)
}

func newGroupDeleteCommand(a *app) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "delete GROUP",
		Short: "Delete a consumer group without members, and its positions",
		Args:  takes(1, 1),
	}
	c.Flags().BoolVar(&yes, "yes", false, "really delete it")
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		if !yes {
			return &usageError{fmt.Errorf("deleting %s deletes its positions for good: say --yes", args[0])}
		}
		_, err := ask(ctx, s, "group "+args[0], func(ctx context.Context, a *client.Admin) (struct{}, error) {
			return struct{}{}, a.DeleteGroup(ctx, args[0])
		})
		if err == nil {
			fmt.Fprintf(s.err, "group %s is deleted\n", args[0])
		}
		return err
	})
}
