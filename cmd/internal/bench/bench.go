package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// Config describes a benchmark. Servers and Dir may be empty; everything else
// must be given.
type Config struct {
	// Servers are client addresses of the coordinators of a running cluster. Empty:
	// a cluster of three coordinators and three partition nodes is started.
	Servers []string
	// Binary is the oncelog program, of which a cluster is started.
	Binary string
	// Dir is where a started cluster keeps its data, in a new folder that is
	// deleted afterwards. Empty: the system's place for temporary files.
	Dir string
	// Duration is the time for one workload in one round.
	Duration time.Duration
	// Rounds is how often every workload takes its turn.
	Rounds int
	// Producers is the number of producers that work at the same time.
	Producers int
	// Partitions is the number of partitions that are written to.
	Partitions int
	// Workloads are the names of those to measure. Empty: all.
	Workloads []string
	// Progress is where it is told what goes on.
	Progress io.Writer
}

// Limits of a benchmark.
const (
	maxRounds     = 100
	maxProducers  = 1000
	maxPartitions = 1000
	// warmUp is how long every workload runs before it is measured.
	warmUp = 300 * time.Millisecond
	// idleTime is how long a cluster without work is watched.
	idleTime = time.Second
)

// Check refuses settings that cannot be measured with. Run does so, too.
func (c *Config) Check() error {
	switch {
	case c.Duration < time.Millisecond:
		return fmt.Errorf("duration %s: at least 1ms", c.Duration)
	case c.Rounds < 1 || c.Rounds > maxRounds:
		return fmt.Errorf("%d rounds: 1 to %d", c.Rounds, maxRounds)
	case c.Producers < 1 || c.Producers > maxProducers:
		return fmt.Errorf("%d producers: 1 to %d", c.Producers, maxProducers)
	case c.Partitions < 1 || c.Partitions > maxPartitions:
		return fmt.Errorf("%d partitions: 1 to %d", c.Partitions, maxPartitions)
	}
	for _, name := range c.Workloads {
		if !slices.Contains(WorkloadNames(), name) {
			return fmt.Errorf("no workload %q: there are %s", name, strings.Join(WorkloadNames(), ", "))
		}
	}
	return nil
}

// About is how long Run takes, about, without the start of a cluster.
func (c *Config) About() time.Duration {
	about := idleTime
	for range c.chosen() {
		about += warmUp + time.Duration(c.Rounds)*c.Duration
	}
	return about
}

// chosen returns the workloads to measure.
func (c *Config) chosen() []workload {
	return slices.DeleteFunc(workloads(c.Producers), func(w workload) bool {
		return len(c.Workloads) > 0 && !slices.Contains(c.Workloads, w.name)
	})
}

// bench is one benchmark.
type bench struct {
	cfg    Config
	client *client.Client
	// run tells this benchmark's topics and transactional ids from others'.
	run string
	// topic takes the records of everything but endToEnd, which has ownTopic.
	topic, ownTopic string
}

func (b *bench) name(part string) string { return "bench-" + b.run + "-" + part }

// Run measures, and leaves nothing behind.
func Run(ctx context.Context, cfg Config) (_ *Result, err error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	servers := cfg.Servers
	if len(servers) == 0 {
		stop, c, err := startCluster(ctx, cfg)
		if err != nil {
			return nil, err
		}
		defer stop()
		servers = c.Servers()
	}
	b := &bench{cfg: cfg, run: strconv.FormatInt(time.Now().UnixMilli(), 36)}
	b.topic, b.ownTopic = b.name("topic"), b.name("end-to-end")
	if b.client, err = client.Dial(ctx, servers, client.WithClientID("bench")); err != nil {
		return nil, fmt.Errorf("no coordinator answers at %s: %w", strings.Join(servers, ", "), err)
	}
	defer b.client.Close()
	for _, topic := range []string{b.topic, b.ownTopic} {
		req := &oncelogv1.CreateTopicRequest{Name: topic, Partitions: uint32(cfg.Partitions)}
		if _, err := b.client.Admin().CreateTopic(ctx, req); err != nil {
			return nil, err
		}
	}
	defer func() { err = errors.Join(err, b.cleanUp(ctx)) }()
	return b.measure(ctx)
}

// cleanUp deletes the topics; a cluster that was started for them goes anyway.
func (b *bench) cleanUp(ctx context.Context) error {
	if len(b.cfg.Servers) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleLimit)
	defer cancel()
	return errors.Join(b.client.Admin().DeleteTopic(ctx, b.topic), b.client.Admin().DeleteTopic(ctx, b.ownTopic))
}

// startCluster starts a cluster of processes; stop ends it and deletes its data.
func startCluster(ctx context.Context, cfg Config) (stop func(), c *cluster.Cluster, err error) {
	dir, err := os.MkdirTemp(cfg.Dir, "oncelog-bench-")
	if err != nil {
		return nil, nil, err
	}
	fmt.Fprintln(cfg.Progress, "starting 3 coordinators and 3 partition nodes")
	c, err = cluster.Start(ctx, cluster.Config{Binary: cfg.Binary, Dir: dir})
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, nil, fmt.Errorf("start the cluster: %w", err)
	}
	return func() {
		for _, n := range c.Nodes() {
			_ = n.Kill() // nobody needs its data any more
		}
		_ = os.RemoveAll(dir)
	}, c, nil
}

// measure runs all workloads.
func (b *bench) measure(ctx context.Context) (*Result, error) {
	all := b.cfg.chosen()
	runs := make([]func(context.Context, time.Time) (*measurement, error), len(all))
	for i, w := range all {
		var err error
		if runs[i], err = w.prepare(ctx, b); err != nil {
			return nil, fmt.Errorf("%s: %w", w.title, err)
		}
		if _, err = runs[i](ctx, time.Now().Add(warmUp)); err != nil {
			return nil, fmt.Errorf("%s: %w", w.title, err)
		}
	}
	res := newResult(b.cfg, all)
	idle, err := b.idle(ctx)
	if err != nil {
		return nil, err
	}
	res.Idle = idle
	for round := range b.cfg.Rounds {
		for i, w := range all {
			m, c, err := b.round(ctx, runs[i])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", w.title, err)
			}
			r := newRound(&w, m, c)
			res.Workloads[i].Rounds = append(res.Workloads[i].Rounds, r)
			fmt.Fprintf(b.cfg.Progress, "round %d of %d: %s: %s %s/s\n", round+1, b.cfg.Rounds, w.title, figure(r.Throughput), w.unit)
		}
	}
	res.summarise()
	return res, nil
}

// round runs a workload once and counts its cost.
func (b *bench) round(ctx context.Context, run func(context.Context, time.Time) (*measurement, error)) (*measurement, Cost, error) {
	before, err := cost(ctx, b.client.Admin())
	if err != nil {
		return nil, Cost{}, err
	}
	m, err := run(ctx, time.Now().Add(b.cfg.Duration))
	if err != nil {
		return nil, Cost{}, err
	}
	after, err := cost(ctx, b.client.Admin())
	return m, after.minus(before), err
}

// idle measures what the cluster does per second without work.
func (b *bench) idle(ctx context.Context) (Cost, error) {
	before, err := cost(ctx, b.client.Admin())
	if err != nil {
		return Cost{}, err
	}
	begin := time.Now()
	if err := sleep(ctx, idleTime); err != nil {
		return Cost{}, err
	}
	after, err := cost(ctx, b.client.Admin())
	return after.minus(before).per(time.Since(begin).Seconds()), err
}
