package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncelog/oncelog/cmd/internal/demo"
)

const demoLong = `Demo starts a real cluster, three coordinators and three partition nodes as
processes of their own, and counts the words of a text in transactions: lines to
words, words to counts. While that runs it kills with kill -9 a worker in
mid-transaction, the leader of the coordinator and the leader of a shard, and
lets a zombie try to commit. Then it compares what was committed with a count of
the text that has nothing to do with the cluster, and fails on any difference.

The text is FILE..., or the documents in the working directory: Markdown, LICENSE
and proto files.`

func newDemoCommand(a *app) *cobra.Command {
	cfg := demo.Config{}
	c := &cobra.Command{
		Use:   "demo [FILE...]",
		Short: "Count words exactly once on a real cluster while nodes are killed",
		Long:  demoLong,
		Example: `  oncelog demo
  oncelog demo war-and-peace.txt
  oncelog demo --keep --dir /var/tmp`,
		RunE: func(c *cobra.Command, files []string) (err error) {
			if err := cfg.Check(); err != nil {
				return &usageError{err}
			}
			if cfg.Binary, err = os.Executable(); err != nil {
				return err
			}
			cfg.Files = files
			cfg.Progress, cfg.Terminal = a.err, a.interactive
			report, err := demo.Run(c.Context(), cfg)
			var failure *demo.Failure
			if errors.As(err, &failure) {
				fmt.Fprint(a.err, failure.Logs)
			}
			if err != nil {
				return err
			}
			if err := report.Write(a.out); err != nil {
				return err
			}
			if !report.ExactlyOnce() {
				return errNotWell
			}
			return nil
		},
	}
	f := c.Flags()
	f.IntVar(&cfg.Workers, "workers", 3, "worker processes per stage")
	f.IntVar(&cfg.Partitions, "partitions", 6, "partitions per topic")
	f.DurationVar(&cfg.Feed, "feed", 12*time.Second, "time over which the text is spread")
	f.DurationVar(&cfg.Limit, "limit", 2*time.Minute, "give up after this time")
	f.StringVar(&cfg.Dir, "dir", "", "folder for the cluster's data (default: the system's for temporary files)")
	f.BoolVar(&cfg.Keep, "keep", false, "keep the cluster's data and logs")
	c.AddCommand(newDemoWorkerCommand(a))
	return c
}

// newDemoWorkerCommand is what the demo starts as a worker. It is driven through
// its standard streams.
func newDemoWorkerCommand(a *app) *cobra.Command {
	cfg := demo.WorkerConfig{}
	c := &cobra.Command{
		Use:    "worker",
		Short:  "A worker of the demo",
		Hidden: true,
		Args:   takes(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			return demo.RunWorker(c.Context(), cfg, a.in, a.out)
		},
	}
	f := c.Flags()
	f.StringVar(&cfg.Stage, "stage", "", "split or count")
	f.StringVar(&cfg.Name, "name", "", "transactional id")
	f.StringSliceVar(&cfg.Servers, "servers", nil, "client addresses of coordinators")
	f.Int32SliceVar(&cfg.Partitions, "partition", nil, "partition to read, repeated")
	return c
}
