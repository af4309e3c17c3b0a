package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

func newGroupCommand(a *app) *cobra.Command {
	return parent("group", "List, describe, reset and delete consumer groups",
		newGroupListCommand(a), newGroupDescribeCommand(a), newGroupLagCommand(a), newGroupResetCommand(a), newGroupDeleteCommand(a))
}

func newGroupListCommand(a *app) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List consumer groups", Args: takes(0, 0)}
	return clusterCommand(a, c, func(ctx context.Context, s *session, _ []string) error {
		groups, err := pages(0, func(size uint32, token string) ([]*oncelogv1.GroupListing, string, error) {
			resp, err := ask(ctx, s, "", func(ctx context.Context, a *client.Admin) (*oncelogv1.ListGroupsResponse, error) {
				return a.ListGroups(ctx, size, token)
			})
			return resp.GetGroups(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		return s.print(&oncelogv1.ListGroupsResponse{Groups: groups}, func(w io.Writer) error {
			t := output.NewTable("group_id", "generation", "members", "partitions")
			for _, g := range groups {
				t.Row(g.GetGroupId(), g.GetGeneration(), g.GetMembers(), g.GetPartitions())
			}
			return t.Write(w)
		})
	})
}

func newGroupDescribeCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "describe GROUP",
		Short: "Show members, ownership and positions of a consumer group",
		Long: `Describe shows the members of a group, and who owns which partition since which
generation. While a partition is being handed over, revoking counts what a member
is asked to let go, and next_owner names who gets it then. Members that name their
partitions themselves have no assignor.`,
		Args: takes(1, 1),
	}
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		resp, err := ask(ctx, s, "group "+args[0], func(ctx context.Context, a *client.Admin) (*oncelogv1.DescribeGroupResponse, error) {
			return a.DescribeGroup(ctx, args[0])
		})
		if err != nil {
			return err
		}
		return s.print(resp, func(w io.Writer) error { return describeGroup(w, resp) })
	})
}

func describeGroup(w io.Writer, g *oncelogv1.DescribeGroupResponse) error {
	if err := output.Fields(w, "group_id", g.GetGroupId(), "generation", g.GetGeneration()); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nmembers:")
	t := output.NewTable("member_id", "instance_id", "client_id", "joined_at", "partitions", "revoking", "assignor", "session_timeout", "topics")
	for _, m := range g.GetMembers() {
		assignor, session := "", ""
		if sub := m.GetSubscription(); sub != nil {
			assignor, session = output.Enum(sub.GetAssignor(), "GROUP_ASSIGNOR"), output.Millis(int64(sub.GetSessionTimeoutMs()))
		}
		t.Row(m.GetMemberId(), m.GetInstanceId(), m.GetClientId(), output.Time(m.GetJoinedAtMs()), m.GetPartitions(),
			len(m.GetRevokedPartitionIds()), assignor, session, strings.Join(m.GetSubscription().GetTopics(), ","))
	}
	if err := t.Write(w); err != nil {
		return err
	}
	fmt.Fprintln(w, "\npartitions:")
	t = output.NewTable("topic", "partition", "partition_id", "offset", "committed_at", "member_id", "next_owner", "owned_since_generation", "metadata")
	for _, p := range g.GetPartitions() {
		c := p.GetCommitted()
		next := p.GetNextMemberId()
		if next == p.GetMemberId() {
			next = ""
		}
		t.Row(c.GetPartition().GetTopic(), c.GetPartition().GetPartition(), c.GetPartition().GetPartitionId(),
			output.Optional(c.Offset), output.Time(c.GetCommittedAtMs()), p.GetMemberId(), next, p.GetOwnedSinceGeneration(), c.GetMetadata())
	}
	return t.Write(w)
}
