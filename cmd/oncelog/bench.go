package main

import (
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncelog/oncelog/cmd/internal/bench"
	"github.com/oncelog/oncelog/cmd/internal/config"
)

const benchLong = `Bench measures transactions through the SDK: one record each from one producer
and from many, 1 KiB records in 100 ms transactions against the same without
transactions, and the way of a record to a reader of committed data. Beside
throughput and times it counts the synced writes, Raft entries and Raft messages
that a transaction takes.

It starts a cluster of processes on this machine, or measures the one that
--servers names, in topics of its own that it deletes afterwards; the counts are
right only if nobody else uses that cluster. Figures of one machine that does
everything at once say little about a cluster: compare runs on the same machine.`

func newBenchCommand(a *app) *cobra.Command {
	cfg, printing := bench.Config{}, config.DefaultClient()
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure throughput, latency and cost of transactions",
		Long:  benchLong,
		Example: `  oncelog bench
  oncelog bench --duration 1s --rounds 1
  oncelog bench -o json > result.json`,
		Args: takes(0, 0),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if err := a.load(c, printing); err != nil {
				return err
			}
			if err := cfg.Check(); err != nil {
				return &usageError{err}
			}
			if cfg.Binary, err = os.Executable(); err != nil {
				return err
			}
			progress, done := a.timed(cfg.About())
			cfg.Progress = progress
			res, err := bench.Run(c.Context(), cfg)
			done()
			if err != nil {
				return err
			}
			return newSession(a, printing).print(res, res.Write)
		},
	}
	f := c.Flags()
	f.StringSliceVarP(&cfg.Servers, "servers", "s", nil, "client addresses of coordinators (default: a cluster is started)")
	f.StringVar(&cfg.Dir, "dir", "", "folder for a started cluster's data (default: the system's for temporary files)")
	f.DurationVar(&cfg.Duration, "duration", 5*time.Second, "time for one workload in one round")
	f.IntVar(&cfg.Rounds, "rounds", 3, "rounds; medians are reported")
	f.IntVar(&cfg.Producers, "producers", 16, "producers that work at the same time")
	f.IntVar(&cfg.Partitions, "partitions", 6, "partitions that are written to")
	f.StringSliceVar(&cfg.Workloads, "workload", nil, "measure only these: "+strings.Join(bench.WorkloadNames(), ", "))
	config.AddFlags(f, printing, "output")
	c.AddCommand(newBenchScaleCommand(a))
	return c
}
