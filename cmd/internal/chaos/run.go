package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
	"github.com/oncelog/oncelog/cmd/internal/history"
)

// Limits of the parts of a run, besides the faults.
const (
	// warmUpLimit is how long everybody may take to achieve something before there
	// are faults.
	warmUpLimit = 30 * time.Second
	// recoveryLimit is how long everybody may take to get on after everything was
	// healed (I11).
	recoveryLimit = 30 * time.Second
	// finishLimit is how long clients may take to finish what they are at.
	finishLimit = 2*callTimeout + 20*time.Second
	// settleLimit is how long transactions may then stay open.
	settleLimit = transactionTimeout + 15*time.Second
	// overhead is about what a run takes besides its faults, when all is well.
	overhead = 25 * time.Second
)

// run is one run.
type run struct {
	cfg    *Config
	plan   *plan
	dir    string
	begin  time.Time
	world  *world
	roster *roster
	notes  *history.Recorder // of this process

	mu     sync.Mutex
	result Result
	falls  map[*cluster.Node]int // of the watcher alone
}

// Result is what became of a run.
type Result struct {
	Seed uint64
	// Took is how long it took in all, Faulty for how long there were faults.
	Took, Faulty time.Duration
	// Disks: nodes had disks that could fail.
	Disks bool
	// Faults counts faults by their names.
	Faults map[string]int
	// Recovery is how long it took after everything was healed until everybody had
	// got on.
	Recovery time.Duration
	// Stats count what was checked.
	Stats history.Stats
	// Answers to clients' commits and aborts.
	Commits, Aborts, Unknown int
	// Violations say what must not have happened.
	Violations []string
	// History is the file with the history, "" if none was kept.
	History string
}

// violate notes something that must not happen.
func (r *run) violate(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.note("VIOLATION %s", text)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Violations = append(r.result.Violations, text)
}

// note writes into the history, and tells whoever watches.
func (r *run) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.notes.Note(text)
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.cfg.Progress, "%6.1fs  %s\n", time.Since(r.begin).Seconds(), text)
}

// runOnce makes one run. An error says that it could not be made.
func runOnce(ctx context.Context, cfg *Config, p *plan, dir string) (_ *Result, err error) {
	r := &run{
		cfg: cfg, plan: p, dir: dir, begin: time.Now(),
		notes:  history.NewRecorder(func() int64 { return time.Now().UnixNano() }),
		result: Result{Seed: p.seed, Disks: p.disks, Faults: make(map[string]int)},
		falls:  make(map[*cluster.Node]int),
	}
	r.note("seed %d, %d faults, disks that can fail: %v", p.seed, len(p.steps), p.disks)
	if r.world, err = startAnyWorld(ctx, cfg, dir, p.disks); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.world.close()) }()
	r.roster = newRoster(r.world, p.seed)
	defer r.roster.kill()
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	r.faults(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err := r.verdict(ctx); err != nil {
		return nil, err
	}
	r.result.Took = time.Since(r.begin)
	return &r.result, nil
}

// prepare creates the topics and starts the clients. Without faults everybody
// has to get on.
func (r *run) prepare(ctx context.Context) error {
	c, err := r.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	for _, t := range topics() {
		req := &oncelogv1.CreateTopicRequest{Name: t.Name, Partitions: uint32(t.Partitions), ReplicationFactor: 3}
		if _, err := c.Admin().CreateTopic(ctx, req); err != nil {
			return err
		}
	}
	for _, p := range r.plan.crews {
		if err := r.roster.hire(p); err != nil {
			return err
		}
	}
	if waiting, _ := r.awaitProgress(ctx, r.begin, warmUpLimit); len(waiting) > 0 {
		return fmt.Errorf("before there was any fault these got nowhere in %v: %s; %w", warmUpLimit,
			strings.Join(waiting, ", "), errors.Join(r.roster.failures()...))
	}
	r.note("everybody gets on")
	return nil
}

func (r *run) dial(ctx context.Context) (*client.Client, error) {
	return client.Dial(ctx, r.world.servers, client.WithClientID("chaos-"+auditor), client.WithRequestTimeout(requestTimeout))
}

// awaitProgress waits until every client has achieved something since a time. It
// returns those that have not when the limit is reached, and who was last.
func (r *run) awaitProgress(ctx context.Context, since time.Time, limit time.Duration) (waiting []string, last string) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		waiting = r.roster.waiting(since)
		if len(waiting) == 0 || time.Since(since) > limit || len(r.roster.failures()) > 0 {
			return waiting, last
		}
		last = strings.Join(waiting, ", ")
		select {
		case <-tick.C:
		case <-ctx.Done():
			return waiting, last
		}
	}
}

// faults does what the plan says, and returns when everything is undone.
func (r *run) faults(ctx context.Context) {
	begin := time.Now()
	stop := make(chan struct{})
	var watching, working sync.WaitGroup
	watching.Go(func() { r.watch(stop) })
	for i := range r.plan.steps {
		s := &r.plan.steps[i]
		t := time.NewTimer(time.Until(begin.Add(s.at)))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
		if ctx.Err() != nil {
			break
		}
		r.mu.Lock()
		r.result.Faults[s.fault.name]++
		r.mu.Unlock()
		working.Go(func() { r.inject(ctx, s) })
	}
	working.Wait()
	close(stop)
	watching.Wait()
	r.result.Faulty = time.Since(begin)
}

// inject does one fault.
func (r *run) inject(ctx context.Context, s *step) {
	scene := &scene{
		world: r.world, roster: r.roster, ctx: ctx, rng: rand.New(rand.NewPCG(s.seed, 0)), length: s.length, tell: r.note,
	}
	if err := s.fault.run(scene); err != nil {
		r.violate("%s: %v", s.fault.name, err)
	}
}

// watch looks after nodes that end by themselves although nothing was done to
// them.
func (r *run) watch(stop <-chan struct{}) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		for _, n := range r.world.fallen() {
			taken, give := r.world.take(n)
			if len(taken) > 0 && n.Running() && n.Exited() != nil {
				r.pickUp(n)
			}
			give()
		}
	}
}

// maxFalls is how often a node is started again that ends by itself. Then it is
// left where it is.
const maxFalls = 3

// pickUp starts a node again that has ended by itself. Only if another program
// has taken its address meanwhile, that is nobody's fault.
func (r *run) pickUp(n *cluster.Node) {
	if r.falls[n] > maxFalls {
		return
	}
	log := n.LogTail()
	if strings.Contains(log, addressTaken) {
		r.note("%v: its address is taken; again", n)
	} else {
		r.falls[n]++
		r.violate("%v ended by itself: %v; the end of its log:\n%s", n, n.Exited(), log)
	}
	if err := r.world.raise(n); err != nil {
		r.violate("%v cannot be started again: %v", n, err)
	}
}

// complaints returns what no node may ever log, whatever befalls it.
func (w *world) complaints() []string {
	var out []string
	for _, n := range w.cluster.Nodes() {
		log, err := os.ReadFile(n.LogFile())
		if err != nil {
			out = append(out, err.Error())
			continue
		}
		for line := range strings.Lines(string(log)) {
			for _, sign := range []string{"WARNING: DATA RACE", "panic:", "a call panicked", "fatal error:", "damaged=true"} {
				if strings.Contains(line, sign) && len(out) < 20 {
					out = append(out, fmt.Sprintf("%v logged %s", n, strings.TrimSpace(line)))
				}
			}
		}
	}
	return out
}
