package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

func newShardCommand(a *app) *cobra.Command {
	return parent("shard", "List, describe and move shards",
		newShardListCommand(a), newShardDescribeCommand(a), newShardMoveCommand(a), newShardCancelCommand(a))
}

func newShardListCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "List shards, where they are and what moves", Args: takes(0, 0),
		Long: `List shows every shard with its leader and the nodes of its replicas. Move is the
node that a replica goes from and the one it goes to.`,
	}
	return clusterCommand(a, c, func(ctx context.Context, s *session, _ []string) error {
		d, err := s.describeCluster(ctx)
		if err != nil {
			return err
		}
		return s.printPlacement(nil, d.GetShards(), shardsTable(d.GetShards()))
	})
}

func shardsTable(shards []*oncelogv1.Shard) func(io.Writer) error {
	return func(w io.Writer) error {
		t := output.NewTable("shard_id", "leader", "term", "replicas", "partition_count", "move", "problem")
		for _, shard := range shards {
			leader := any(shard.GetLeader())
			if shard.GetLeader() == 0 {
				leader = "none"
			}
			t.Row(shard.GetShardId(), leader, shard.GetTerm(), joined(shard.GetReplicas()), shard.GetPartitionCount(),
				moveText(shard.GetMove()), shard.GetMoveProblem())
		}
		return t.Write(w)
	}
}

// findShard describes one shard.
func (s *session) findShard(ctx context.Context, id uint64) (*oncelogv1.Shard, error) {
	d, err := s.describeCluster(ctx)
	if err != nil {
		return nil, err
	}
	for _, shard := range d.GetShards() {
		if shard.GetShardId() == id {
			return shard, nil
		}
	}
	return nil, about{fmt.Sprintf("shard %d", id), apierrors.New(oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_SHARD, "")}
}

func newShardDescribeCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "describe SHARD", Short: "Show where a shard is and how its move gets on", Args: takes(1, 1),
		Long: `Describe shows a shard and, while a replica of it moves, since when, how many log
entries the new replica lacks as its leader last said, and why it does not get on.
Lost are nodes whose copy is gone with their disk and is to be made anew.`,
	}
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		id, err := idArgument("SHARD", args[0])
		if err != nil {
			return err
		}
		shard, err := s.findShard(ctx, id)
		if err != nil {
			return err
		}
		return s.print(shard, func(w io.Writer) error {
			fields := []any{
				"shard_id", shard.GetShardId(), "leader", shard.GetLeader(), "term", shard.GetTerm(),
				"replicas", joined(shard.GetReplicas()), "lost", joined(shard.GetLost()), "partition_count", shard.GetPartitionCount(),
			}
			if m := shard.GetMove(); m != nil {
				fields = append(fields, "move", moveText(m), "move_since", output.Time(m.GetStartedAtMs()),
					"move_lag", output.Count(shard.GetMoveLag()), "move_problem", shard.GetMoveProblem())
			}
			return output.Fields(w, fields...)
		})
	})
}

func newShardMoveCommand(a *app) *cobra.Command {
	var from, to uint64
	c := &cobra.Command{
		Use:   "move SHARD --from NODE --to NODE",
		Short: "Move one replica of a shard to another node",
		Long: `Move gives node --to a copy of the shard. When that has caught up it takes the
place of the copy of node --from, whose data is deleted then. The shard goes on
meanwhile, and has at no time fewer copies.

It waits until that is done. The cluster goes on when the command ends before.`,
		Example: `  oncelog shard move 5 --from 1 --to 4`,
		Args:    takes(1, 1),
	}
	c.Flags().Uint64Var(&from, "from", 0, "node whose copy goes")
	c.Flags().Uint64Var(&to, "to", 0, "node that gets one")
	wait := addWaiting(c)
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		id, err := idArgument("SHARD", args[0])
		if err != nil {
			return err
		}
		if from == 0 || to == 0 {
			return &usageError{fmt.Errorf("'%s' needs --from and --to: the ids of two nodes", c.CommandPath())}
		}
		what := fmt.Sprintf("shard %d", id)
		shard, err := ask(ctx, s, what, func(ctx context.Context, a *client.Admin) (*oncelogv1.Shard, error) {
			return a.MoveReplica(ctx, id, from, to)
		})
		if err != nil {
			return err
		}
		return s.shardWhenCalm(ctx, wait, shard)
	})
}

func newShardCancelCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "cancel SHARD", Short: "Cancel the move of a shard", Args: takes(1, 1),
		Long: `Cancel undoes what a move of the shard has begun, such as one to a node that will
not come back. A move that is done already stays done.`,
	}
	wait := addWaiting(c)
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		id, err := idArgument("SHARD", args[0])
		if err != nil {
			return err
		}
		shard, err := ask(ctx, s, fmt.Sprintf("shard %d", id), func(ctx context.Context, a *client.Admin) (*oncelogv1.Shard, error) {
			return a.CancelMove(ctx, id)
		})
		if err != nil {
			return err
		}
		return s.shardWhenCalm(ctx, wait, shard)
	})
}

// shardWhenCalm waits for the end of a shard's move and prints where it is then.
func (s *session) shardWhenCalm(ctx context.Context, wait *waiting, shard *oncelogv1.Shard) error {
	id := shard.GetShardId()
	if !wait.no {
		this := func(o *oncelogv1.Shard) bool { return o.GetShardId() == id }
		d, err := s.until(ctx, wait, "move", func(d *oncelogv1.DescribeClusterResponse) []string {
			return movesLeft(d, func(o *oncelogv1.Shard) bool { return this(o) && o.GetMove() != nil })
		})
		if err != nil {
			return err
		}
		for _, o := range d.GetShards() {
			if this(o) {
				shard = o
			}
		}
	}
	return s.print(shard, shardsTable([]*oncelogv1.Shard{shard}))
}

// planTable prints what a rebalance would do.
func planTable(plan *oncelogv1.RebalanceResponse) func(io.Writer) error {
	return func(w io.Writer) error {
		t := output.NewTable("moves", "shard_id", "from_node", "to_node")
		for _, m := range plan.GetMoves() {
			t.Row("replica", m.GetShardId(), m.GetFromNode(), m.GetToNode())
		}
		for _, h := range plan.GetHandovers() {
			t.Row("leader", h.GetShardId(), h.GetFromNode(), h.GetToNode())
		}
		return t.Write(w)
	}
}
