package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// Config describes a run. Files may be empty, and so may Dir; everything else
// must be given.
type Config struct {
	// Binary is the oncelog program: nodes and workers are processes of it.
	Binary string
	// Files are the text. None: the documents in the working directory.
	Files []string
	// Dir is where nodes keep their data, in a new folder that is deleted
	// afterwards. Empty: the system's place for temporary files.
	Dir string
	// Keep leaves the data where it is.
	Keep bool
	// Workers is the number of workers of each stage, Partitions that of each
	// topic.
	Workers, Partitions int
	// Feed is the time over which the text is spread.
	Feed time.Duration
	// Limit is how long everything may take.
	Limit time.Duration
	// Progress is where events are told; Terminal: a bar can be drawn there.
	Progress io.Writer
	Terminal bool
}

// Limits of a run.
const (
	maxWorkers    = 16
	maxPartitions = 64
)

// Check refuses settings that the demo cannot run with. Run does so, too.
func (c *Config) Check() error {
	switch {
	case c.Workers < 2 || c.Workers > maxWorkers:
		return fmt.Errorf("%d workers: 2 to %d per stage", c.Workers, maxWorkers)
	case c.Partitions < c.Workers || c.Partitions > maxPartitions:
		return fmt.Errorf("%d partitions: at least one per worker (%d), at most %d", c.Partitions, c.Workers, maxPartitions)
	case c.Feed <= 0 || c.Limit <= 0:
		return errors.New("times must be more than 0")
	}
	return nil
}

// run is one run of the demo.
type run struct {
	cfg      Config
	dir      string
	text     *text
	cluster  *cluster.Cluster
	client   *client.Client
	tally    *tally
	progress *progress
	begin    time.Time

	mu      sync.Mutex
	workers []*process // all that were started, ended ones too
	strikes []strike
	fenced  string // the worker whose zombie was refused
}

// strike is a kill -9.
type strike struct {
	at   time.Time
	whom string
	role string
}

// Run runs the demo. The report is there also if what was counted is wrong; an
// error says that the demo could not be carried through. In both cases nothing is
// left running.
func Run(ctx context.Context, cfg Config) (_ *Report, err error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	t, err := readText(cfg.Files)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(cfg.Dir, "oncelog-demo-")
	if err != nil {
		return nil, err
	}
	r := &run{
		cfg: cfg, dir: dir, text: t, begin: time.Now(),
		tally: newTally(time.Now), progress: newProgress(cfg.Progress, cfg.Terminal, time.Now),
	}
	defer func() {
		if cfg.Keep {
			r.progress.say("data and logs are kept in %s", dir)
		} else {
			_ = os.RemoveAll(dir) // what cannot be deleted is only temporary
		}
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.Limit, fmt.Errorf("it took longer than %s", cfg.Limit))
	defer cancel()
	report, err := r.run(ctx)
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		return nil, &Failure{Err: err, Logs: r.logTails()}
	}
	return report, err
}

// Failure is a demo that could not be carried through.
type Failure struct {
	// Err says why.
	Err error
	// Logs are the ends of the logs of all processes.
	Logs string
}

func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap returns the reason.
func (f *Failure) Unwrap() error { return f.Err }

func (r *run) run(ctx context.Context) (*Report, error) {
	r.progress.say("%d files, %d lines, %d words, %d of them different", r.text.files, len(r.text.lines), r.text.words, len(r.text.counts))
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	defer r.endCluster(ctx)
	defer r.client.Close()
	defer r.stopWorkers()
	if err := r.startWorkers(ctx); err != nil {
		return nil, err
	}
	if err := r.work(ctx); err != nil {
		return nil, err
	}
	r.stopWorkers()
	r.progress.say("everything is counted; reading all topics and comparing")
	found, err := verify(ctx, r.client, r.text)
	if err != nil {
		return nil, err
	}
	if err := r.settled(ctx); err != nil {
		found.differ("%v", err)
	}
	return r.report(found), nil
}

// endCluster ends the nodes: at once, because nobody needs their data any more,
// or politely if it is kept.
func (r *run) endCluster(ctx context.Context) {
	if r.cfg.Keep {
		r.cluster.Stop(context.WithoutCancel(ctx))
		return
	}
	for _, n := range r.cluster.Nodes() {
		_ = n.Kill() // an error: it was killed before
	}
}

// start starts the cluster and creates the topics.
func (r *run) start(ctx context.Context) (err error) {
	if r.cluster, err = cluster.Start(ctx, cluster.Config{Binary: r.cfg.Binary, Dir: r.dir}); err != nil {
		return fmt.Errorf("start the cluster: %w", err)
	}
	defer func() {
		if err != nil {
			r.endCluster(ctx)
		}
	}()
	if r.client, err = client.Dial(ctx, r.cluster.Servers(), client.WithClientID("demo")); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = r.client.Close()
		}
	}()
	for _, topic := range []string{topicLines, topicWords, topicCounts} {
		req := &oncelogv1.CreateTopicRequest{Name: topic, Partitions: uint32(r.cfg.Partitions), ReplicationFactor: 3}
		if _, err = r.client.Admin().CreateTopic(ctx, req); err != nil {
			return err
		}
	}
	r.progress.say("3 coordinators and 3 partition nodes run; topics %s, %s and %s have %d partitions each",
		topicLines, topicWords, topicCounts, r.cfg.Partitions)
	return nil
}

func (r *run) startWorkers(ctx context.Context) error {
	for _, stage := range []string{StageSplit, StageCount} {
		for i := range r.cfg.Workers {
			cfg := WorkerConfig{Servers: r.cluster.Servers(), Stage: stage, Name: fmt.Sprintf("%s-%d", stage, i+1)}
			for p := i; p < r.cfg.Partitions; p += r.cfg.Workers {
				cfg.Partitions = append(cfg.Partitions, int32(p))
			}
			if err := r.startWorker(cfg); err != nil {
				return err
			}
		}
	}
	for _, p := range r.all() {
		if err := p.await(ctx, kindReady); err != nil {
			return err
		}
	}
	r.progress.say("%d workers turn lines into words, %d count words; the text is fed over %s", r.cfg.Workers, r.cfg.Workers, r.cfg.Feed)
	return nil
}

func (r *run) startWorker(cfg WorkerConfig) error {
	p, err := startWorker(r.cfg.Binary, r.dir, cfg, r.tally.record)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.workers = append(r.workers, p)
	return nil
}

// replace starts another worker with the same name and partitions.
func (r *run) replace(p *process) (*process, error) {
	if err := r.startWorker(p.cfg); err != nil {
		return nil, err
	}
	all := r.all()
	return all[len(all)-1], nil
}

func (r *run) all() []*process {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.workers)
}

// crew returns the workers of a stage that have not ended.
func (r *run) crew(stage string) []*process {
	return slices.DeleteFunc(r.all(), func(p *process) bool {
		select {
		case <-p.done:
			return true
		default:
			return p.cfg.Stage != stage
		}
	})
}

func (r *run) stopWorkers() {
	var wg sync.WaitGroup
	for _, p := range r.all() {
		wg.Go(p.stop)
	}
	wg.Wait()
}

// work feeds the text, plays the script and waits until all words are counted.
func (r *run) work(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	done := make(chan struct{})
	defer close(done)
	g := newGate(thresholds(r.text.lines, script())[0])
	wg.Go(func() { r.progress.follow(r.tally, r.text, done) })
	wg.Go(func() {
		if err := feed(ctx, r.client, r.text.lines, r.cfg.Feed, g, r.tally); err != nil {
			r.tally.fail(err)
		}
	})
	played := make(chan error, 1)
	wg.Go(func() {
		err := r.play(ctx, g)
		if err != nil {
			r.tally.fail(err)
		}
		played <- err
	})
	err := r.tally.await(ctx, "not everything is counted", func(s snapshot) bool {
		return s.fed == len(r.text.lines) && s.split >= len(r.text.lines) && s.counted >= r.text.words
	})
	if err != nil {
		return err
	}
	return <-played
}

// settled waits until no transaction is open and no marker owed.
func (r *run) settled(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		picture, err := r.client.Admin().DescribeCluster(ctx)
		switch {
		case err != nil:
			return err
		case picture.GetOpenTransactions() == 0 && picture.GetOwedMarkers() == 0:
			return nil
		}
		timer := time.NewTimer(50 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%d transactions are still open and %d markers owed",
				picture.GetOpenTransactions(), picture.GetOwedMarkers())
		}
	}
}

// struck notes a kill -9 and tells of it.
func (r *run) struck(whom, role string) {
	r.mu.Lock()
	r.strikes = append(r.strikes, strike{at: time.Now(), whom: whom, role: role})
	r.mu.Unlock()
	r.progress.say("kill -9 %s (%s)", whom, role)
}

// logTailLines is how much of each log a failure shows.
const logTailLines = 8

// logTails returns the ends of the logs of all nodes and workers.
func (r *run) logTails() string {
	var b strings.Builder
	add := func(name, log string) {
		lines := strings.Split(strings.TrimSpace(log), "\n")
		if len(lines) > logTailLines {
			lines = lines[len(lines)-logTailLines:]
		}
		if lines[0] != "" {
			fmt.Fprintf(&b, "--- the end of the log of %s\n%s\n", name, strings.Join(lines, "\n"))
		}
	}
	if r.cluster != nil {
		for _, n := range r.cluster.Nodes() {
			add(n.String(), n.LogTail())
		}
	}
	seen := make(map[string]bool)
	for _, p := range r.all() {
		if log, err := os.ReadFile(p.log); err == nil && !seen[p.log] {
			add("worker "+p.cfg.Name, string(log))
		}
		seen[p.log] = true
	}
	return b.String()
}
