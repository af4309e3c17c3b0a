package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/node"
)

// serverCommand makes c a command that runs a server until it is interrupted:
// it gets the flags of the section, and run the logger that the section says.
func serverCommand(a *app, c *cobra.Command, s config.Section, log *config.Log, run func(context.Context, *slog.Logger) error) *cobra.Command {
	config.AddFlags(c.Flags(), s)
	c.Args = takes(0, 0)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := a.load(c, s); err != nil {
			return err
		}
		logger, level := log.Adjustable(a.err)
		for _, w := range config.Warnings(s) {
			logger.Warn(w)
		}
		stop := followSignals(level, logger)
		defer stop()
		return run(c.Context(), logger)
	}
	return c
}

func newCoordinatorCommand(a *app) *cobra.Command {
	cfg := config.DefaultCoordinator()
	c := serverCommand(a, &cobra.Command{
		Use:   "coordinator",
		Short: "Run a coordinator node: transactions, consumer groups, the catalogue; add, replace and remove them",
		Long: `Coordinator runs one coordinator node until it is interrupted. All coordinator
nodes get the same list of members; one, three or five of them are one Raft
group. One of them leads and answers; the others point to it.

On a new data directory a node starts once a majority of the others has written
it down: of three, at the first start, all have to run. A node that lost its
directory is refused under its number: replace it.

The list is what the cluster begins with. The commands below change its members,
and a node that starts with an old list learns the new one.`,
		Example: `  oncelog coordinator --node-id 1 --data-dir /var/lib/oncelog \
      --member 1=10.0.0.1:7100/10.0.0.1:7101 \
      --member 2=10.0.0.2:7100/10.0.0.2:7101 \
      --member 3=10.0.0.3:7100/10.0.0.3:7101 \
      --client-listen 10.0.0.1:7100 --peer-listen 10.0.0.1:7101 \
      --tls-cert certs/node-1.crt --tls-key certs/node-1.key --tls-ca certs/ca.crt`,
	}, cfg, &cfg.Log, func(ctx context.Context, log *slog.Logger) error {
		return node.RunCoordinator(ctx, cfg, log, a.nodes...)
	})
	c.AddCommand(coordinatorCommands(a)...)
	return c
}

func newPartitionCommand(a *app) *cobra.Command {
	cfg := config.DefaultPartition()
	return serverCommand(a, &cobra.Command{
		Use:   "partition",
		Short: "Run a partition node: shards with the records of many partitions",
		Long: `Partition runs one partition node until it is interrupted. It registers with the
coordinator, which tells it which shards to keep. Its number belongs to its data
directory: a node that lost its disk joins under a new number, and gets shards
that are made from then on.`,
		Example: `  oncelog partition --node-id 1 --data-dir /var/lib/oncelog \
      --coordinator 10.0.0.1:7101,10.0.0.2:7101,10.0.0.3:7101 \
      --client-listen 10.0.0.4:7200 --peer-listen 10.0.0.4:7201 \
      --tls-cert certs/node-4.crt --tls-key certs/node-4.key --tls-ca certs/ca.crt`,
	}, cfg, &cfg.Log, func(ctx context.Context, log *slog.Logger) error {
		return node.RunPartition(ctx, cfg, log, a.nodes...)
	})
}

func newDevCommand(a *app) *cobra.Command {
	cfg := config.DefaultDev()
	return serverCommand(a, &cobra.Command{
		Use:   "dev",
		Short: "Run a whole cluster in one process, for development",
		Long: `Dev runs coordinator and partition nodes in one process until it is interrupted,
with their data in one directory. It is durable like a real cluster and speaks
the same protocol, but all of it dies together.`,
		Example: `  oncelog dev
  oncelog dev --replicas 3 --data-dir /tmp/oncelog --base-port 9100`,
	}, cfg, &cfg.Log, func(ctx context.Context, log *slog.Logger) error {
		return node.RunDev(ctx, cfg, log, func() {
			coordinators, _ := cfg.Cluster()
			address := coordinators[0].ClientListen
			hint := ""
			if address != config.DefaultClient().Servers[0] {
				hint = " --servers " + address
			}
			fmt.Fprintf(a.err, "a cluster of %s and %s is ready at %s, its data in %s\ntry: oncelog topic create hello%s\n",
				counted(cfg.Replicas, "coordinator node"), counted(cfg.Replicas, "partition node"), address, cfg.DataDir, hint)
		})
	})
}
