package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncelog/oncelog/cmd/internal/chaos"
	"github.com/oncelog/oncelog/cmd/internal/chaos/diskfault"
	"github.com/oncelog/oncelog/cmd/internal/node"
)

const chaosLong = `Chaos starts real clusters on this machine, three coordinators and three
partition nodes as processes of their own, with processes of clients that write
transactions, transfer amounts, pass records on from topic to topic, and steal
each other's transactional ids. While that runs it kills, stops and restarts
processes, cuts the network and slows it down, and where there is FUSE lets disks
be slow, full, failing, or lose what was not synced. Then everything is healed,
must recover, and every log and every answer is checked.

What happens when follows from the seed; what it leads to does not. The history of
a run that found something is kept, and --check looks at it again. Nothing outside
of this machine's loopback is touched, and everything ends by itself.`

func newChaosCommand(a *app) *cobra.Command {
	cfg := chaos.Config{}
	var disks, check, record string
	c := &cobra.Command{
		Use:   "chaos",
		Short: "Run real clusters through faults and check everything",
		Long:  chaosLong,
		Example: `  oncelog chaos
  oncelog chaos --seed 4711 --duration 30m
  oncelog chaos --faults power-cut-all,zombie
  oncelog chaos --check history.json`,
		Args: takes(0, 0),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if check != "" {
				return checkHistory(a, check)
			}
			cfg.Disks = chaos.Disks(disks)
			if !c.Flags().Changed("seed") {
				cfg.Seed = uint64(a.now().Unix())
			}
			if err := cfg.Check(); err != nil {
				return &usageError{err}
			}
			if cfg.Binary, err = os.Executable(); err != nil {
				return err
			}
			cfg.WorkerCommand, cfg.DiskCommand = []string{"chaos", "worker"}, []string{"chaos", "disk"}
			begun := a.now()
			progress, done := a.timed(cfg.Duration)
			cfg.Progress = progress
			s, err := chaos.Run(c.Context(), cfg)
			done()
			if err != nil {
				return err
			}
			if record != "" {
				if err := s.Record(record, begun, node.Version()); err != nil {
					return err
				}
			}
			return chaosVerdict(a, s)
		},
	}
	f := c.Flags()
	f.Uint64Var(&cfg.Seed, "seed", 0, "seed of the first run; those after it count up (default: the time)")
	f.DurationVar(&cfg.Duration, "duration", 90*time.Second, "time for all runs together")
	f.DurationVar(&cfg.Run, "run", 0, "time for one run (default 90s, at most all)")
	f.StringSliceVar(&cfg.Faults, "faults", nil, "draw only these: "+strings.Join(chaos.FaultNames(), ", "))
	f.StringVar(&disks, "disks", string(chaos.DisksMaybe), "whether nodes have disks that can fail: maybe, always or never")
	f.StringVar(&cfg.Dir, "dir", "", "folder for data, logs and histories (default: the system's for temporary files)")
	f.BoolVar(&cfg.Keep, "keep", false, "keep data and logs also if nothing was found")
	f.StringVar(&cfg.History, "history", "", "file for the history of the last run (default: kept only if something was found)")
	f.StringVar(&check, "check", "", "check the history in this file, and do nothing else")
	f.StringVar(&record, "record", "", "add a line about these runs to this file")
	c.AddCommand(newChaosWorkerCommand(a), newChaosDiskCommand(a))
	return c
}

// chaosVerdict prints what was found; that is an error if anything was.
func chaosVerdict(a *app, s *chaos.Summary) error {
	for _, v := range s.Violations {
		fmt.Fprintf(a.out, "FAIL %s\n", v)
	}
	if err := s.Write(a.out); err != nil {
		return err
	}
	if len(s.Violations) > 0 {
		return errNotWell
	}
	return nil
}

func checkHistory(a *app, path string) error {
	report, err := chaos.CheckFile(path)
	if err != nil {
		return err
	}
	for _, v := range report.Violations {
		fmt.Fprintf(a.out, "FAIL %v\n", v)
	}
	st := report.Stats
	fmt.Fprintf(a.out, "history %d events, %d transactions (%d committed, %d aborted, %d unresolved), %d records, %d read, "+
		"%d coordinator calls, %d violations\n", st.Events, st.Transactions, st.Committed, st.Aborted, st.Unresolved, st.Records,
		st.ReadRecords, st.CoordinatorCalls, report.Total)
	if report.Total > 0 {
		return errNotWell
	}
	return nil
}

// newChaosWorkerCommand is what chaos starts as a process of clients. It is driven
// through its standard streams.
func newChaosWorkerCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "worker", Short: "Clients of a chaos run", Hidden: true, Args: takes(0, 0),
		RunE: func(c *cobra.Command, _ []string) error { return chaos.RunWorker(c.Context(), a.in, a.out) },
	}
}

// newChaosDiskCommand is what chaos starts as a disk.
func newChaosDiskCommand(a *app) *cobra.Command {
	var dir, mount string
	c := &cobra.Command{
		Use: "disk", Short: "A disk of a chaos run", Hidden: true, Args: takes(0, 0),
		RunE: func(*cobra.Command, []string) error { return diskfault.Serve(dir, mount, a.in, a.out) },
	}
	c.Flags().StringVar(&dir, "dir", "", "folder for what is on the disk")
	c.Flags().StringVar(&mount, "mount", "", "where to mount it")
	return c
}
