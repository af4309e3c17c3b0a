package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/chaos/diskfault"
	"github.com/oncelog/oncelog/cmd/internal/history"
)

// Config describes a session. Zero values take the stated defaults.
type Config struct {
	// Binary is the oncelog program: nodes, clients and disks are processes of it.
	Binary string
	// Env is added to the environment of all of them.
	Env []string
	// WorkerCommand and DiskCommand are the arguments that make the program a process
	// of clients and one of a disk.
	WorkerCommand, DiskCommand []string
	// Seed of the first run; those after it count up.
	Seed uint64
	// Duration is how long the session takes, about: runs are made until it is over.
	Duration time.Duration
	// Run is how long one run takes, about, and at most Duration. Default 90 s.
	Run time.Duration
	// Faults are the names of the kinds to draw from. Empty: all.
	Faults []string
	// Disks says whether nodes have disks that can fail: [DisksMaybe], the default,
	// [DisksAlways], [DisksNever].
	Disks Disks
	// Dir is where everything is kept, in a new folder that is deleted when nothing
	// was found. Empty: the system's place for temporary files.
	Dir string
	// Keep leaves the folder where it is.
	Keep bool
	// History is a file for the history of the last run. Empty: only that of a run
	// that found something is kept, in its folder.
	History string
	// Progress is where it is told what goes on.
	Progress io.Writer
}

// Disks says which runs have disks that can fail.
type Disks string

// Choices of disks.
const (
	// DisksMaybe: most runs, where there is FUSE.
	DisksMaybe Disks = "maybe"
	// DisksAlways: all runs; without FUSE there is none.
	DisksAlways Disks = "always"
	// DisksNever: no run.
	DisksNever Disks = "never"
)

// Limits of a session.
const (
	defaultRun  = 90 * time.Second
	minDuration = overhead + 10*time.Second
	maxDuration = 24 * time.Hour
)

// Check refuses settings that nothing can be done with. Run does so, too.
func (c *Config) Check() error {
	if c.Run == 0 {
		c.Run = defaultRun
	}
	if c.Disks == "" {
		c.Disks = DisksMaybe
	}
	c.Run = min(c.Run, c.Duration)
	switch {
	case c.Duration < minDuration || c.Duration > maxDuration:
		return fmt.Errorf("duration %v: %v to %v", c.Duration, minDuration, maxDuration)
	case c.Run < minDuration:
		return fmt.Errorf("run of %v: at least %v", c.Run, minDuration)
	case !slices.Contains([]Disks{DisksMaybe, DisksAlways, DisksNever}, c.Disks):
		return fmt.Errorf("disks %q: %s, %s or %s", c.Disks, DisksMaybe, DisksAlways, DisksNever)
	}
	for _, name := range c.Faults {
		if !slices.Contains(FaultNames(), name) {
			return fmt.Errorf("no fault %q: there are %s", name, strings.Join(FaultNames(), ", "))
		}
	}
	return nil
}

// Run makes a session. The summary is there also if runs found violations; an
// error says that a run could not be made. In both cases nothing is left running.
func Run(ctx context.Context, cfg Config) (*Summary, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	noDisks := diskfault.Available()
	if noDisks != nil && cfg.Disks == DisksAlways {
		return nil, noDisks
	}
	if noDisks != nil && cfg.Disks == DisksMaybe {
		fmt.Fprintf(cfg.Progress, "faults of disks are left out: %v\n", noDisks)
		cfg.Disks = DisksNever
	}
	dir, err := os.MkdirTemp(cfg.Dir, "oncelog-chaos-")
	if err != nil {
		return nil, err
	}
	s := &Summary{FirstSeed: cfg.Seed, Faults: make(map[string]int)}
	done := make(chan error, 1)
	go func() { done <- s.runs(ctx, &cfg, dir) }()
	limit := time.NewTimer(cfg.Duration + patience)
	defer limit.Stop()
	select {
	case err = <-done:
	case <-limit.C:
		return nil, stuck(dir, cfg.Duration+patience)
	}
	if cfg.Keep || len(s.Violations) > 0 || err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(cfg.Progress, "everything is kept in %s\n", dir)
	} else {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return s, err
}

// patience is how much longer than it should a session may take. Every wait in it
// has a bound of its own, except for those for the system.
const patience = 5 * time.Minute

// stuck says where a session hangs. What it has started ends with this process.
func stuck(dir string, limit time.Duration) error {
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	path := filepath.Join(dir, "stacks.txt")
	err := fmt.Errorf("it hangs after %v; what everybody waits for is in %s", limit, path)
	return errors.Join(err, os.WriteFile(path, stacks, 0o600))
}

// runs makes runs until the time is over.
func (s *Summary) runs(ctx context.Context, cfg *Config, dir string) error {
	begin := time.Now()
	for seed := cfg.Seed; ; seed++ {
		left := cfg.Duration - time.Since(begin)
		if seed > cfg.Seed && left < minDuration {
			return nil
		}
		// In one run of four the disks are the machine's own, which are faster.
		disks := cfg.Disks == DisksAlways || cfg.Disks == DisksMaybe && seed%4 != 3
		folder := filepath.Join(dir, fmt.Sprintf("seed-%d", seed))
		if err := os.Mkdir(folder, 0o755); err != nil {
			return err
		}
		res, err := runOnce(ctx, cfg, draw(seed, min(cfg.Run, left)-overhead, disks, cfg.Faults), folder)
		if err != nil {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
		s.add(res)
		for _, v := range res.Violations {
			fmt.Fprintf(cfg.Progress, "FAIL seed %d %s\n", seed, v)
		}
		if res.History != "" {
			fmt.Fprintf(cfg.Progress, "history: %s\n", res.History)
		}
		if len(res.Violations) == 0 && !cfg.Keep {
			if err := os.RemoveAll(folder); err != nil {
				return err
			}
		}
	}
}

// CheckFile has the checkers look at a history that a run has kept.
func CheckFile(path string) (*history.Report, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h, err := history.Load(f)
	if err != nil {
		return nil, err
	}
	report := history.Check(h)
	return &report, nil
}
