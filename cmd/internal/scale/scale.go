package scale

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// The figures that can be measured.
const (
	// State is the figure of many ids, transactions, producers and partitions.
	State = "state"
	// Log is the figure of a large log.
	Log = "log"
)

// unmetered are the settings of nodes whose one caller may make as many ids, producers and
// partitions as there is room for, and as fast as it can.
var unmetered = []string{
	"ONCELOG_MAX_TRANSACTIONAL_IDS_PER_PRINCIPAL=10000000", "ONCELOG_MAX_INITS_PER_SECOND=1000000",
	"ONCELOG_MAX_PARTITIONS_CREATED_PER_MINUTE=1000000",
}

// Config describes what is measured. Binary, Dir, Env and Figures may be empty;
// everything else must be given.
type Config struct {
	// Binary is the oncelog program, of which clusters are started.
	Binary string
	// Dir is where clusters keep their data, in new folders that are deleted
	// afterwards. Empty: the system's place for temporary files.
	Dir string
	// Env is added to the environment of all nodes, as KEY=value.
	Env []string
	// Figures are the names of those to measure. Empty: all.
	Figures []string
	// IDs is how many transactional ids the large cluster has, Open how many of them
	// have an open transaction, with one record.
	IDs, Open int
	// Producers is how many idempotent producers have written one record and are idle.
	Producers int
	// Partitions is how many partitions the large cluster's topic has. The small
	// cluster has a thousandth of everything, and at least one.
	Partitions int
	// LogBytes is how many bytes of records are written before a node is killed.
	LogBytes int64
	// Duration is the time for commits in one cluster in one round, Rounds how often
	// they take turns, and how often the leader is killed.
	Duration time.Duration
	Rounds   int
	// Settle bounds the wait for a garbage collection of a node whose memory is
	// measured; an idle Go program collects every two minutes. 0: it is not waited for,
	// and figures of memory are of the last one that there was.
	Settle time.Duration
	// Progress is where it is told what goes on.
	Progress io.Writer
}

// Limits of a Config.
const (
	maxIDs        = 10_000_000
	maxPartitions = 10_000 // of one topic
	maxLogBytes   = 1 << 40
	maxRounds     = 100
)

// Figures returns the names of all figures.
func Figures() []string { return []string{State, Log} }

// Check refuses settings that cannot be measured with. Run does so, too.
func (c *Config) Check() error {
	switch {
	case c.IDs < 1 || c.IDs > maxIDs:
		return fmt.Errorf("%d ids: 1 to %d", c.IDs, maxIDs)
	case c.Open < 0 || c.Open > c.IDs:
		return fmt.Errorf("%d open transactions: 0 to the %d ids", c.Open, c.IDs)
	case c.Producers < 0 || c.Producers > maxIDs:
		return fmt.Errorf("%d producers: 0 to %d", c.Producers, maxIDs)
	case c.Partitions < 1 || c.Partitions > maxPartitions:
		return fmt.Errorf("%d partitions: 1 to %d", c.Partitions, maxPartitions)
	case c.LogBytes < 1<<20 || c.LogBytes > maxLogBytes:
		return fmt.Errorf("%d bytes of log: %d to %d", c.LogBytes, 1<<20, int64(maxLogBytes))
	case c.Duration < time.Millisecond:
		return fmt.Errorf("duration %s: at least 1ms", c.Duration)
	case c.Rounds < 1 || c.Rounds > maxRounds:
		return fmt.Errorf("%d rounds: 1 to %d", c.Rounds, maxRounds)
	case c.Settle < 0:
		return fmt.Errorf("settle %s: not below 0", c.Settle)
	}
	for _, name := range c.Figures {
		if !slices.Contains(Figures(), name) {
			return fmt.Errorf("no figure %q: there are %s", name, strings.Join(Figures(), ", "))
		}
	}
	return nil
}

func (c *Config) measures(figure string) bool {
	return len(c.Figures) == 0 || slices.Contains(c.Figures, figure)
}

// small is the same with a thousandth of everything. Its memory is not asked for.
func (c Config) small() Config {
	for _, n := range []*int{&c.IDs, &c.Open, &c.Producers, &c.Partitions} {
		*n = max(*n/1000, 1)
	}
	c.Settle = 0
	return c
}

func (c *Config) tell(format string, args ...any) { fmt.Fprintf(c.Progress, format+"\n", args...) }

// Run measures, and leaves nothing behind.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	r := &Result{}
	if cfg.measures(State) {
		s, err := measureState(ctx, &cfg)
		if err != nil {
			return nil, fmt.Errorf("many ids: %w", err)
		}
		r.State = s
	}
	if cfg.measures(Log) {
		l, err := measureLog(ctx, &cfg)
		if err != nil {
			return nil, fmt.Errorf("a large log: %w", err)
		}
		r.Log = l
	}
	return r, nil
}

// startCluster starts a cluster of processes; stop ends it and deletes its data.
func (c *Config) startCluster(ctx context.Context) (_ *cluster.Cluster, stop func(), err error) {
	dir, err := os.MkdirTemp(c.Dir, "oncelog-scale-")
	if err != nil {
		return nil, nil, err
	}
	cl, err := cluster.Start(ctx, cluster.Config{Binary: c.Binary, Dir: dir, Env: append(slices.Clone(unmetered), c.Env...)})
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("start a cluster: %w", err), os.RemoveAll(dir))
	}
	return cl, func() {
		cl.Kill() // nobody needs its data any more
		_ = os.RemoveAll(dir)
	}, nil
}

// pace is how often is looked whether something has come about.
const pace = 5 * time.Millisecond

// until asks at the pace until it is so, an error comes, or ctx ends.
func until(ctx context.Context, so func() (bool, error)) error {
	for {
		if ok, err := so(); ok || err != nil {
			return err
		}
		if err := sleep(ctx, pace); err != nil {
			return err
		}
	}
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
