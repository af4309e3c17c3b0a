package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

// What the commands about nodes and shards share: who is meant, and waiting until
// what was asked for is done. The cluster does it in any case.

// defaultLook is the pause between two looks at what is waited for.
const defaultLook = 500 * time.Millisecond

// waiting are the flags of a command that waits until the cluster has done what it
// was asked for.
type waiting struct {
	no    bool
	limit time.Duration
	c     *cobra.Command
}

// longest is how long to wait; 0: as long as it takes. Who gives --timeout to a command
// means all of it, unless --wait-timeout says more.
func (w *waiting) longest(timeout time.Duration) time.Duration {
	if !w.c.Flags().Changed("wait-timeout") && w.c.Flags().Changed("timeout") {
		return timeout
	}
	return w.limit
}

func addWaiting(c *cobra.Command) *waiting {
	w := &waiting{c: c}
	c.Flags().BoolVar(&w.no, "no-wait", false, "do not wait until it is done")
	c.Flags().DurationVar(&w.limit, "wait-timeout", 0, "wait at most so long, and exit with 4 then (0: as long as it takes, or as --timeout says where that is given)")
	return w
}

// errUnderWay ends a command whose wait was long enough.
type errUnderWay struct{ what string }

func (e *errUnderWay) Error() string {
	return e.what + ": still under way; the cluster goes on with it"
}

// until looks at the cluster until done says that nothing is left, and tells on
// standard error what is left whenever that changes, and now and then while it does not.
func (s *session) until(ctx context.Context, w *waiting, what string, left func(*oncelogv1.DescribeClusterResponse) []string) (*oncelogv1.DescribeClusterResponse, error) {
	outer := ctx
	if longest := w.longest(s.cfg.Timeout); longest > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, longest)
		defer cancel()
	}
	told, said, begun := "", time.Now(), time.Now()
	for {
		d, err := s.describeCluster(ctx)
		if err == nil {
			lines := left(d)
			if len(lines) == 0 {
				return d, nil
			}
			switch text := progress(lines); {
			case text != told:
				fmt.Fprintf(s.err, "%s: %s\n", what, text)
				told, said = text, time.Now()
			case time.Since(said) >= sayInterval:
				fmt.Fprintf(s.err, "%s: for %s now: %s\n", what, output.Duration(time.Since(begun)), text)
				said = time.Now()
			}
		}
		look := s.look
		if look == 0 {
			look = defaultLook
		}
		select {
		case <-time.After(look):
			if err != nil && ctx.Err() == nil {
				return nil, err
			}
		case <-ctx.Done():
		}
		switch {
		case outer.Err() != nil:
			return nil, outer.Err()
		case ctx.Err() != nil:
			return nil, &errUnderWay{what}
		}
	}
}

// progress words what is left, at most a few of it.
func progress(lines []string) string {
	const most = 3
	text := strings.Join(lines[:min(len(lines), most)], "; ")
	if more := len(lines) - most; more > 0 {
		text += fmt.Sprintf("; and %s more", output.Count(more))
	}
	return text
}

func (s *session) describeCluster(ctx context.Context) (*oncelogv1.DescribeClusterResponse, error) {
	d, err := ask(ctx, s, "", func(ctx context.Context, a *client.Admin) (*oncelogv1.DescribeClusterResponse, error) {
		return a.DescribeCluster(ctx)
	})
	slices.SortFunc(d.GetShards(), func(a, b *oncelogv1.Shard) int { return cmp.Compare(a.GetShardId(), b.GetShardId()) })
	return d, err
}

// movesLeft says of shards that are chosen what moves.
func movesLeft(d *oncelogv1.DescribeClusterResponse, chosen func(*oncelogv1.Shard) bool) (lines []string) {
	for _, shard := range d.GetShards() {
		if !chosen(shard) {
			continue
		}
		line := fmt.Sprintf("shard %d", shard.GetShardId())
		if m := shard.GetMove(); m != nil {
			line += " " + moveText(m)
		} else {
			line += " waits for its turn"
		}
		if p := shard.GetMoveProblem(); p != "" {
			line += ": " + p
		}
		lines = append(lines, line)
	}
	return lines
}

// moveText writes a move as its nodes.
func moveText(m *oncelogv1.ShardMove) string {
	if m == nil {
		return ""
	}
	text := fmt.Sprintf("%d->%d", m.GetRemove(), m.GetAdd())
	if m.GetCancelled() {
		text += " (being cancelled)"
	}
	return text
}

// placementView is a part of what is known of nodes and shards, for programs.
type placementView struct {
	// Nodes are Node messages, Shards Shard messages.
	Nodes  []json.RawMessage `json:"nodes,omitempty"`
	Shards []json.RawMessage `json:"shards,omitempty"`
}

// printPlacement prints nodes and shards.
func (s *session) printPlacement(nodes []*oncelogv1.Node, shards []*oncelogv1.Shard, table func(io.Writer) error) error {
	var v placementView
	for _, n := range nodes {
		m, err := output.Message(n)
		if err != nil {
			return err
		}
		v.Nodes = append(v.Nodes, m)
	}
	for _, shard := range shards {
		m, err := output.Message(shard)
		if err != nil {
			return err
		}
		v.Shards = append(v.Shards, m)
	}
	return s.print(v, table)
}

// idArgument reads the id of a node or shard.
func idArgument(what, text string) (uint64, error) {
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil || id == 0 {
		return 0, &usageError{fmt.Errorf("%s is %q: it must be a whole number from 1", what, text)}
	}
	return id, nil
}

func newRebalanceCommand(a *app) *cobra.Command {
	var dryRun bool
	c := &cobra.Command{
		Use:   "rebalance",
		Short: "Spread replicas and leaders evenly over the nodes",
		Long: `Rebalance moves replicas from nodes with many to nodes with few, as few of them as
that takes, and then leaderships. Nodes that are draining, down or low on disk get
none. It prints the plan; what is carried out follows the cluster as it is then.

It waits until that is done. The cluster goes on when the command ends before.`,
		Example: `  oncelog rebalance --dry-run
  oncelog rebalance --no-wait`,
		Args: takes(0, 0),
	}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only print the plan")
	wait := addWaiting(c)
	return clusterCommand(a, c, func(ctx context.Context, s *session, _ []string) error {
		plan, err := ask(ctx, s, "rebalance", func(ctx context.Context, a *client.Admin) (*oncelogv1.RebalanceResponse, error) {
			return a.Rebalance(ctx, dryRun)
		})
		if err != nil {
			return err
		}
		if err := s.print(plan, planTable(plan)); err != nil || dryRun || wait.no {
			return err
		}
		_, err = s.until(ctx, wait, "rebalance", func(d *oncelogv1.DescribeClusterResponse) []string {
			lines := movesLeft(d, func(shard *oncelogv1.Shard) bool { return shard.GetMove() != nil })
			if len(lines) == 0 && d.GetRebalancing() {
				lines = []string{"leaderships"}
			}
			return lines
		})
		return err
	})
}
