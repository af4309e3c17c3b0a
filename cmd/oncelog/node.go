package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

func newNodeCommand(a *app) *cobra.Command {
	return parent("node", "List, describe, drain and remove partition nodes",
		newNodeListCommand(a), newNodeDescribeCommand(a),
		newNodeDrainCommand(a), newNodeUndrainCommand(a), newNodeRemoveCommand(a), newNodeReplaceDiskCommand(a))
}

func newNodeListCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "List partition nodes and how much they have", Args: takes(0, 0),
		Long: `List shows the partition nodes as the coordinator's leader knows them. State is
active, draining (what it has moves away) or disk_lost (it may come back with a new
disk); a node that is low on disk gets nothing new either.`,
	}
	return clusterCommand(a, c, func(ctx context.Context, s *session, _ []string) error {
		d, err := s.describeCluster(ctx)
		if err != nil {
			return err
		}
		return s.printPlacement(d.GetNodes(), nil, nodesTable(d.GetNodes()))
	})
}

func nodeState(n *oncelogv1.Node) string {
	state := "active"
	switch {
	case n.GetDiskLost():
		state = "disk_lost"
	case n.GetDraining():
		state = "draining"
	}
	if n.GetDiskLow() {
		state += ",disk_low"
	}
	return state
}

func nodesTable(nodes []*oncelogv1.Node) func(io.Writer) error {
	return func(w io.Writer) error {
		t := output.NewTable("node_id", "client_address", "alive", "last_seen", "state", "replicas", "leads")
		for _, n := range nodes {
			t.Row(n.GetNodeId(), n.GetClientAddress(), n.GetAlive(), output.Time(n.GetLastSeenMs()), nodeState(n), n.GetReplicas(), n.GetLeads())
		}
		return t.Write(w)
	}
}

// onNode reports whether a node has, or is to get, a replica of a shard.
func onNode(shard *oncelogv1.Shard, node uint64) bool {
	return slices.Contains(shard.GetReplicas(), node) || shard.GetMove().GetAdd() == node
}

func newNodeDescribeCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "describe NODE", Short: "Show a partition node and the shards that it has", Args: takes(1, 1),
		Long: `Describe shows a partition node as list does, and the shards of which it has, or is
to get, a replica.`,
	}
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		id, err := idArgument("NODE", args[0])
		if err != nil {
			return err
		}
		d, err := s.describeCluster(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(d.GetNodes(), func(n *oncelogv1.Node) bool { return n.GetNodeId() == id })
		if i < 0 {
			return about{fmt.Sprintf("node %d", id), apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_NODE, "")}
		}
		n := d.GetNodes()[i]
		shards := slices.DeleteFunc(d.GetShards(), func(shard *oncelogv1.Shard) bool { return !onNode(shard, id) })
		return s.printPlacement([]*oncelogv1.Node{n}, shards, func(w io.Writer) error {
			if err := output.Fields(w, "node_id", n.GetNodeId(), "client_address", n.GetClientAddress(), "peer_address", n.GetPeerAddress(),
				"alive", n.GetAlive(), "last_seen", output.Time(n.GetLastSeenMs()), "state", nodeState(n),
				"replicas", n.GetReplicas(), "leads", n.GetLeads()); err != nil {
				return err
			}
			fmt.Fprintln(w)
			return shardsTable(shards)(w)
		})
	})
}

// nodeCall makes a call about a node.
func (s *session) nodeCall(ctx context.Context, id uint64, call func(context.Context, *client.Admin) error) error {
	_, err := ask(ctx, s, fmt.Sprintf("node %d", id), func(ctx context.Context, a *client.Admin) (struct{}, error) {
		return struct{}{}, call(ctx, a)
	})
	return err
}

func newNodeDrainCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "drain NODE",
		Short: "Move everything away from a partition node",
		Long: `Drain makes a node one that gets nothing new, and moves its leaderships and its
replicas to the other nodes. It may be down: its copies are then made from those of
the others. Afterwards it can be stopped, and removed.

It waits until the node has nothing. The cluster goes on when the command ends
before; 'oncelog node undrain' stops it.`,
		Example: `  oncelog node drain 3 && oncelog node remove 3`,
		Args:    takes(1, 1),
	}
	wait := addWaiting(c)
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		id, err := idArgument("NODE", args[0])
		if err != nil {
			return err
		}
		if err := s.nodeCall(ctx, id, func(ctx context.Context, a *client.Admin) error { return a.DrainNode(ctx, id, false) }); err != nil {
			return err
		}
		if wait.no {
			fmt.Fprintf(s.err, "node %d is draining\n", id)
			return nil
		}
		if _, err := s.until(ctx, wait, fmt.Sprintf("draining node %d", id), func(d *oncelogv1.DescribeClusterResponse) []string {
			return movesLeft(d, func(shard *oncelogv1.Shard) bool { return onNode(shard, id) })
		}); err != nil {
			return err
		}
		fmt.Fprintf(s.err, "node %d has nothing any more\n", id)
		return nil
	})
}

func newNodeUndrainCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "undrain NODE", Short: "Let a node that was drained have replicas again", Args: takes(1, 1),
		Long: `Undrain makes a node one like any other again. Moves that are under way go on; what
has moved away comes back with 'oncelog rebalance'.`,
	}
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		id, err := idArgument("NODE", args[0])
		if err != nil {
			return err
		}
		if err := s.nodeCall(ctx, id, func(ctx context.Context, a *client.Admin) error { return a.DrainNode(ctx, id, true) }); err != nil {
			return err
		}
		fmt.Fprintf(s.err, "node %d is active\n", id)
		return nil
	})
}

func newNodeRemoveCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "remove NODE", Short: "Forget a partition node that has nothing", Args: takes(1, 1),
		Long: `Remove forgets a node that has no replicas: drain it first. Its process ends when it
hears of it, and its data directory is never accepted again. Its id may be used for
a node with an empty data directory.`,
	}
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		id, err := idArgument("NODE", args[0])
		if err != nil {
			return err
		}
		if err := s.nodeCall(ctx, id, func(ctx context.Context, a *client.Admin) error { return a.RemoveNode(ctx, id) }); err != nil {
			return err
		}
		fmt.Fprintf(s.err, "node %d is removed\n", id)
		return nil
	})
}

func newNodeReplaceDiskCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "replace-disk NODE",
		Short: "Let a node come back with an empty disk",
		Long: `Replace-disk says that the disk of a node that is down is lost for ever. The node may
then be started under its id with an empty data directory, never again with the old
one, and its copies are made anew from those of the others. It is refused where that
would leave too few copies of a shard.

It waits until all copies are made anew, and so until the node was started.`,
		Example: `  oncelog node replace-disk 2 --no-wait`,
		Args:    takes(1, 1),
	}
	wait := addWaiting(c)
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		id, err := idArgument("NODE", args[0])
		if err != nil {
			return err
		}
		if err := s.nodeCall(ctx, id, func(ctx context.Context, a *client.Admin) error { return a.ReplaceDisk(ctx, id) }); err != nil {
			return err
		}
		fmt.Fprintf(s.err, "the disk of node %d is declared lost: start the node with an empty data directory\n", id)
		if wait.no {
			return nil
		}
		_, err = s.until(ctx, wait, fmt.Sprintf("copies of node %d", id), func(d *oncelogv1.DescribeClusterResponse) []string {
			return movesLeft(d, func(shard *oncelogv1.Shard) bool { return slices.Contains(shard.GetLost(), id) })
		})
		return err
	})
}
