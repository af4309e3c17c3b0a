package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncelog/oncelog/cmd/internal/output"
	"github.com/oncelog/oncelog/cmd/internal/sim"
)

const simLong = `Sim runs whole clusters and their clients, the code of this program, in simulated
worlds: network, disks, clocks and randomness follow from a seed. In each world
faults of every kind come and go, then everything is healed, must recover, and
every log and every answer is checked.

A seed that fails prints the invariant that broke and the command that runs it
again. With --seed that one seed runs; if it fails, faults are left out for as
long as it still does, and -v prints the log of the smallest world found.`

// seedsToReachAll is how many seeds must have been in every situation that they
// are there for.
const seedsToReachAll = 1000

// seedsInterval is how often a line says how many seeds have run, where nothing is drawn.
const seedsInterval = 30 * time.Second

// shrinkLimit bounds the search for a smaller plan.
const shrinkLimit = time.Minute

func newSimCommand(a *app) *cobra.Command {
	var (
		start, seeds, one uint64
		workers           int
		verbose           bool
	)
	c := &cobra.Command{
		Use:   "sim",
		Short: "Run simulated clusters through faults and check everything",
		Long:  simLong,
		Example: `  oncelog sim --start 1 --seeds 1000
  oncelog sim --seed 4711 -v`,
		Args: takes(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if c.Flags().Changed("seed") {
				return replay(a, one, verbose)
			}
			if seeds == 0 || workers < 1 {
				return &usageError{fmt.Errorf("--seeds and --workers must be at least 1")}
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			ran, done := newSeedMeter(a, seeds)
			total, err := sim.RunSeeds(c.Context(), sim.Options{
				Start: start, Seeds: seeds, Workers: workers, Worker: []string{self, "sim", "work"},
				Out: ran.status, Ran: ran.set,
			})
			done()
			if err != nil {
				return err
			}
			if err := total.Write(a.out); err != nil {
				return err
			}
			if total.Failed > 0 {
				if err := explainSeed(a, total.Failures[0].Seed); err != nil {
					return err
				}
				return fmt.Errorf("%d of %d seeds failed", total.Failed, total.Seeds)
			}
			if missing := total.Reach.Missing(); total.Seeds >= seedsToReachAll && len(missing) > 0 {
				return fmt.Errorf("%d seeds never got into: %s", total.Seeds, strings.Join(missing, "; "))
			}
			return nil
		},
	}
	f := c.Flags()
	f.Uint64Var(&start, "start", 1, "the first seed")
	f.Uint64Var(&seeds, "seeds", 100, "how many seeds to run")
	f.IntVar(&workers, "workers", runtime.NumCPU(), "processes that run seeds")
	f.Uint64Var(&one, "seed", 0, "run this seed alone, and shrink it if it fails")
	f.BoolVarP(&verbose, "verbose", "v", false, "with --seed: print the plan and the log of the world")
	c.AddCommand(newSimWorkCommand(a))
	return c
}

// seedMeter shows how many seeds have run: on a terminal in a line that is drawn, and
// elsewhere in one that is printed now and then.
type seedMeter struct {
	status *output.Status
	total  uint64
	begun  time.Time
	ran    atomic.Uint64
	said   time.Time
}

// newSeedMeter shows it until done is called. What the run prints goes to status.
func newSeedMeter(a *app, total uint64) (m *seedMeter, done func()) {
	now := time.Now()
	m = &seedMeter{status: output.NewStatus(a.out, a.err, a.interactive), total: total, begun: now, said: now}
	return m, m.status.Follow(func() string {
		ran := m.ran.Load()
		return fmt.Sprintf("%s, %d of %d seeds, %.0f/min", output.Bar(float64(ran)/float64(total), barWidth), ran, total,
			float64(ran)/max(time.Since(m.begun).Minutes(), 1e-3))
	})
}

// set is called from one goroutine.
func (m *seedMeter) set(ran uint64) {
	m.ran.Store(ran)
	if now := time.Now(); !m.status.Terminal() && now.Sub(m.said) > seedsInterval {
		m.said = now
		fmt.Fprintf(m.status, "... %d of %d seeds in %v\n", ran, m.total, now.Sub(m.begun).Round(time.Second))
	}
}

// newSimWorkCommand is what the workers run.
func newSimWorkCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "work FIRST SEEDS STEP", Hidden: true, Args: takes(3, 3),
		Short: "Run seeds in this process, one line of JSON each",
		RunE: func(c *cobra.Command, args []string) error {
			var n [3]uint64
			for i, arg := range args {
				v, err := strconv.ParseUint(arg, 10, 64)
				if err != nil {
					return &usageError{err}
				}
				n[i] = v
			}
			return sim.Work(c.Context(), a.out, n[0], n[1], n[2])
		},
	}
	return c
}

// explainSeed shrinks a seed that failed, prints what is left of its plan, and keeps
// the log of that world.
func explainSeed(a *app, seed uint64) error {
	file, err := os.CreateTemp("", fmt.Sprintf("oncelog-sim-%d-*.log", seed))
	if err != nil {
		return err
	}
	done := a.meanwhile("looking for a smaller world that fails")
	p, v := sim.Replay(seed, slog.New(slog.NewTextHandler(file, &slog.HandlerOptions{Level: slog.LevelDebug})), shrinkLimit)
	done()
	_, err = fmt.Fprintf(a.out, "the smallest world found that fails like seed %d (%d events; its log is in %s):\n%s", seed, v.Events, file.Name(), p)
	return errors.Join(err, file.Close())
}

// replay runs one seed and prints what there is to know.
func replay(a *app, seed uint64, verbose bool) error {
	var log *slog.Logger
	if verbose {
		log = slog.New(slog.NewTextHandler(a.out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	done := a.meanwhile(fmt.Sprintf("seed %d", seed))
	p, v := sim.Replay(seed, log, shrinkLimit)
	done()
	if verbose || len(v.Violations) > 0 {
		_, _ = fmt.Fprint(a.out, p)
	}
	for _, x := range v.Violations {
		_, _ = fmt.Fprintf(a.out, "FAIL seed %d %s: %s\n", seed, x.Invariant, x.Text)
	}
	_, err := fmt.Fprintf(a.out, "sim     seed %d, hash %016x, %v simulated, %d events, %d commits, %d aborts, %d unknown, %d violations\n",
		seed, v.Hash, v.Simulated.Round(time.Millisecond), v.Events, v.Stats.Commits, v.Stats.Aborts, v.Stats.Unknown, len(v.Violations))
	if err == nil && len(v.Violations) > 0 {
		err = fmt.Errorf("seed %d failed", seed)
	}
	return err
}
