package main

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
)

// coordinatorGroup is what --shard takes for the coordinator.
const coordinatorGroup = 1

func newClusterHealthCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "health",
		Short: "Say in a line per problem what is not well, and exit with 1 then",
		Long: `Health asks the coordinator's leader and every node, as 'oncelog cluster status'
does, and prints only what is not well: nodes that do not answer, disks that are
low, clocks that are off, groups without a leader. To ask one node whether it serves there is
'oncelog health'.`,
		Args: takes(0, 0),
	}
	return clusterCommand(a, c, func(ctx context.Context, s *session, _ []string) error {
		view := s.clusterView(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		answer := struct {
			Healthy  bool     `json:"healthy"`
			Problems []string `json:"problems"`
		}{len(view.Problems) == 0, view.Problems}
		if err := s.print(answer, func(w io.Writer) error {
			if answer.Healthy {
				_, err := fmt.Fprintf(w, "healthy: %d nodes answer, every group has a leader\n", len(view.Nodes))
				return err
			}
			for _, p := range answer.Problems {
				fmt.Fprintln(w, p)
			}
			return nil
		}); err != nil {
			return err
		}
		if !answer.Healthy {
			return errNotWell
		}
		return nil
	})
}

func newClusterMoveLeaderCommand(a *app) *cobra.Command {
	var to uint64
	c := &cobra.Command{
		Use:   "move-leader SHARD",
		Short: "Hand the leadership of a shard, or of the coordinator, to another node",
		Long: `Move-leader hands the leadership of a shard to another node that has a replica of
it, or that of the coordinator (shard 1) to another coordinator, without an
election and in moments. It is done once and not kept up: a rebalance may move it
again. To keep leaderships off a node, drain it.`,
		Example: `  oncelog cluster move-leader 5 --to 2
  oncelog cluster move-leader 1 --to 3   # the coordinator`,
		Args: takes(1, 1),
	}
	c.Flags().Uint64Var(&to, "to", 0, "the node that is to lead")
	return clusterCommand(a, c, func(ctx context.Context, s *session, args []string) error {
		shard, err := strconv.ParseUint(args[0], 10, 64)
		if err != nil || shard == 0 {
			return &usageError{fmt.Errorf("%q is no shard: it must be a number from 1", args[0])}
		}
		if to == 0 {
			return &usageError{fmt.Errorf("--to is missing: the node that is to lead")}
		}
		what := fmt.Sprintf("shard %d", shard)
		if shard == coordinatorGroup {
			what = "the coordinator"
		}
		from, err := ask(ctx, s, what, func(ctx context.Context, a *client.Admin) (uint64, error) {
			return a.MoveLeader(ctx, shard, to)
		})
		if err != nil {
			return err
		}
		return s.print(&oncelogv1.MoveLeaderResponse{FromNode: from}, func(w io.Writer) error {
			if from == to {
				_, err = fmt.Fprintf(w, "%s is led by node %d already\n", what, to)
			} else {
				_, err = fmt.Fprintf(w, "%s is led by node %d, before by node %d\n", what, to, from)
			}
			return err
		})
	})
}
