package main

import (
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncelog/oncelog/cmd/internal/config"
	"github.com/oncelog/oncelog/cmd/internal/scale"
)

const benchScaleLong = `Bench scale measures what grows with what a cluster holds. It starts clusters of
processes on this machine and compares a large one with one that holds a thousandth
of everything:

  state  many transactional ids, open transactions, idle producers and partitions:
         time of a commit, in turns; time without commits after a kill of the leading
         coordinator; its restart; memory per id, producer and partition
  log    a large log: start of a killed partition node, and of one that was wiped

Figures of memory are of what is left after a garbage collection, which an idle
program does every two minutes: --settle bounds the wait for it. The log takes three
times --log-mib of disk, and a quarter more.`

func newBenchScaleCommand(a *app) *cobra.Command {
	cfg, printing, mib := scale.Config{}, config.DefaultClient(), int64(0)
	c := &cobra.Command{
		Use:   "scale",
		Short: "Measure recovery, memory and latency with much state",
		Long:  benchScaleLong,
		Example: `  oncelog bench scale
  oncelog bench scale --figure state --ids 100000 --open 10000 --partitions 1000
  oncelog bench scale --figure log --log-mib 10240 -o json > result.json`,
		Args: takes(0, 0),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if err := a.load(c, printing); err != nil {
				return err
			}
			cfg.LogBytes = mib << 20
			if err := cfg.Check(); err != nil {
				return &usageError{err}
			}
			if cfg.Binary, err = os.Executable(); err != nil {
				return err
			}
			cfg.Progress = a.err
			res, err := scale.Run(c.Context(), cfg)
			if err != nil {
				return err
			}
			return newSession(a, printing).print(res, res.Write)
		},
	}
	f := c.Flags()
	f.StringSliceVar(&cfg.Figures, "figure", nil, "measure only these: "+strings.Join(scale.Figures(), ", "))
	f.StringVar(&cfg.Dir, "dir", "", "folder for the data of clusters (default: the system's for temporary files)")
	f.IntVar(&cfg.IDs, "ids", 1_000_000, "transactional ids")
	f.IntVar(&cfg.Open, "open", 100_000, "open transactions")
	f.IntVar(&cfg.Producers, "idle-producers", 100_000, "idempotent producers that have written one record")
	f.IntVar(&cfg.Partitions, "partitions", 10_000, "partitions")
	f.Int64Var(&mib, "log-mib", 10<<10, "MiB of records in the large log")
	f.DurationVar(&cfg.Duration, "duration", 5*time.Second, "time for commits in one cluster in one round")
	f.IntVar(&cfg.Rounds, "rounds", 5, "rounds of commits, and kills of the leader")
	f.DurationVar(&cfg.Settle, "settle", 150*time.Second, "longest wait for a garbage collection; 0s: none")
	config.AddFlags(f, printing, "output")
	return c
}
