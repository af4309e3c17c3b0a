package sim

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	sdk "github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/history"
	"github.com/oncelog/oncelog/cmd/internal/workload"
	"github.com/oncelog/oncelog/coordinator"
	"github.com/oncelog/oncelog/internal/task"
)

// simulation is one seed being run.
type simulation struct {
	plan    Plan
	w       *World
	net     *network
	cluster *cluster
	nemesis *nemesis
	reach   Reach
	history *history.Recorder
	all     []*client
	meddler *meddler // nil: there is none
	// operator moves replicas; nil: there is none.
	operator *operator
	log      *slog.Logger
	found    []Violation
	stats    Stats
	keep     func(*history.History) // told of what was judged; nil: nobody
	// spoil, if there, takes something out of every backup, for tests of who looks at them.
	spoil func(state []byte, shards []keptShard) ([]byte, []keptShard)
	// progress counts transactions that have come to an end, by client.
	progress map[*client]int
}

// Bounds of what must happen once everything is healed, in simulated time.
const (
	setupLimit    = 20 * time.Second
	recoveryLimit = 15 * time.Second // until every client has had success again, and twice the transaction timeout
	finishLimit   = 40 * time.Second // until every client has ended in peace
	settleLimit   = 30 * time.Second // until nothing is open, and every replica has everything
)

// Run runs one seed. It replaces crypto/rand.Reader while it does, for Raft
// draws its timeouts from there: one seed at a time in a process.
func Run(p Plan, log *slog.Logger) Verdict { return RunKeeping(p, log, nil) }

// RunKeeping is Run; keep, which may be nil, is given the history that the
// checkers judged.
func RunKeeping(p Plan, log *slog.Logger, keep func(*history.History)) (v Verdict) {
	reader := crand.Reader
	defer func() { crand.Reader = reader }()
	crand.Reader = rand.NewChaCha8(chachaSeed(p.Seed))

	s := newSimulation(p, log)
	s.keep = keep
	defer func() {
		if cause := recover(); cause != nil {
			s.complain("panic", fmt.Sprintf("%v\n%s", cause, debug.Stack()))
		}
		v = s.verdict()
	}()
	s.run()
	return v
}

func chachaSeed(seed uint64) (key [32]byte) {
	r := rand.New(rand.NewPCG(seed, 4))
	for i := range key {
		key[i] = byte(r.Uint64())
	}
	return key
}

func newSimulation(p Plan, log *slog.Logger) *simulation {
	s := &simulation{plan: p, w: newWorld(p.Seed), reach: Reach{}, progress: map[*client]int{}}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	} else {
		log = slog.New(&clockHandler{Handler: log.Handler(), w: s.w})
	}
	s.log = log
	s.net = newNetwork(s.w, s.reach)
	s.history = history.NewRecorder(func() int64 { return int64(s.w.now) })
	s.net.log = s.log
	s.net.marked = s.marked
	s.reach.hit(workloadsPrefix + p.Work.Workload)
	s.cluster = newCluster(s.w, s.net, p.Sizes, s.reach, log)
	s.cluster.died, s.cluster.checkpoint = s.nodeDied, s.checkpoint
	s.cluster.replace = s.replace
	s.cluster.spoke = func(n *node, what string) {
		if !n.spoke {
			n.spoke = true
			s.complain("I12 election", what)
		}
	}
	s.nemesis = &nemesis{
		w: s.w, c: s.cluster, net: s.net, reach: s.reach, leaders: s.cluster.leaders,
		clients: func() []*client { return s.all },
		note:    func(format string, args ...any) { s.log.Info("FAULT " + fmt.Sprintf(format, args...)) },
	}
	return s
}

// complain notes a violation.
func (s *simulation) complain(invariant, text string) {
	if len(s.found) < 20 {
		s.found = append(s.found, Violation{invariant, text})
	}
	s.log.Error("VIOLATION "+invariant, "text", text)
}

// nodeDied is told of a node that stopped itself: right after a failed write, or
// for good after it lost its disk, wrong otherwise. Somebody starts it again.
func (s *simulation) nodeDied(n *node, why error) {
	switch {
	case n.refusedForGood(why):
		s.reach.hit(lostRefused)
		n.refused = true
		if n.kind == "c" {
			s.replace(n, replacement{})
		}
		return
	case n.replaced && errors.Is(why, coordinator.ErrRemoved):
		s.reach.hit(removedStopped)
		n.refused = true
		return
	}
	if !n.disk.failedOnce && !s.removed(n, why) && !n.metDamage(why) {
		s.complain("node stopped", n.proc.name+": "+why.Error())
	}
	n.disk.failedOnce = false
	s.w.at(300*time.Millisecond, nil, n.start)
}

func (s *simulation) run() {
	s.cluster.start()
	if !s.setup() {
		return
	}
	begin := s.w.now
	s.net.weather = s.plan.Weather
	for _, cfg := range s.plan.Work.configs() {
		s.newClient(cfg)
	}
	s.startMeddler()
	s.startOperator()
	s.startBackups()
	s.nemesis.begin(s.plan.Faults)
	s.runUntil(begin+s.plan.Horizon, nil)
	if s.over() {
		return
	}
	s.log.Info("HEAL")
	s.nemesis.heal()
	s.recover()
	s.finish()
	s.settle()
}

// runUntil lets the world go on until the end or until done.
func (s *simulation) runUntil(end time.Duration, done func() bool) bool {
	ok := s.w.runUntil(end, done)
	if s.w.failure != nil {
		s.complain("panic", s.w.failure.Error())
		s.w.failure = nil
	}
	return ok
}

// over reports whether it is pointless to go on.
func (s *simulation) over() bool {
	for _, v := range s.found {
		if v.Invariant == "panic" {
			return true
		}
	}
	return false
}

// act runs fn as a client of its own and reports whether it came to an end
// within the limit.
func (s *simulation) act(name string, limit time.Duration, fn func(ctx context.Context, c *sdk.Client) error) error {
	p := s.w.newProc(name)
	var result error
	finished := false
	p.start(func() {
		ctx := s.context(p)
		c, err := sdk.Dial(ctx, s.cluster.seeds(), sdk.WithLogger(s.logFor(p)))
		if err == nil {
			err = fn(ctx, c)
			_ = c.Close()
		}
		result, finished = err, true
	})
	s.runUntil(s.w.now+limit, func() bool { return finished })
	p.kill()
	s.net.processEnded(p)
	if !finished {
		return fmt.Errorf("%s was not done within %v", name, limit)
	}
	return result
}

// setup creates the topics.
func (s *simulation) setup() bool {
	err := s.act("setup", setupLimit, func(ctx context.Context, c *sdk.Client) error {
		for _, t := range s.plan.Work.topics() {
			for { // until enough nodes are registered
				_, err := c.Admin().CreateTopic(ctx, &oncelogv1.CreateTopicRequest{Name: t.Name, Partitions: uint32(t.Partitions), ReplicationFactor: 3, Config: s.plan.Work.config(t.Name)})
				var e *sdk.Error
				if err == nil {
					break
				}
				if !errors.As(err, &e) || e.Class != sdk.ClassRetriable || !task.From(ctx).Sleep(100*time.Millisecond, ctx.Done()) {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		s.complain("I11 liveness", "setup: "+err.Error())
	}
	return err == nil
}

// recover waits until every client that writes transactions has had one come to
// an end since everything was healed.
func (s *simulation) recover() {
	clear(s.progress)
	working := func(c *client) bool {
		k := c.config.Kind
		return !c.lives[len(c.lives)-1].over() && (k == workload.Append || k == workload.Transfer)
	}
	stuck := func() *client {
		for _, c := range s.all {
			if working(c) && s.progress[c] == 0 {
				return c
			}
		}
		return nil
	}
	limit := recoveryLimit + 2*s.plan.Work.Timeout // one may be held open on purpose
	if !s.runUntil(s.w.now+limit, func() bool { return stuck() == nil }) && !s.over() {
		s.complain("I11 liveness", fmt.Sprintf("client %s got nothing done in %v after everything was healed", stuck().proc.name, limit))
	}
}

// lives returns every life of every client.
func (s *simulation) lives() (out []*life) {
	for _, c := range s.all {
		out = append(out, c.lives...)
	}
	if s.meddler != nil {
		out = append(out, &s.meddler.life)
	}
	if s.operator != nil {
		out = append(out, &s.operator.life)
	}
	return out
}

// finish asks every instance of every client to end, and waits for it.
func (s *simulation) finish() {
	var running []*life
	for _, l := range s.lives() {
		if !l.over() {
			running = append(running, l)
			close(l.stop)
			s.w.at(0, l.proc, func() {}) // its tasks look again
		}
	}
	done := func() bool {
		running = slices.DeleteFunc(running, (*life).over)
		return len(running) == 0
	}
	if !s.runUntil(s.w.now+finishLimit, done) && !s.over() {
		for _, l := range running {
			s.complain("I11 liveness", fmt.Sprintf("client %s has not ended %v after it was asked to", l.proc.name, finishLimit))
		}
	}
}

// clockHandler writes log lines with the simulated time.
type clockHandler struct {
	slog.Handler
	w *World
}

func (h *clockHandler) Handle(ctx context.Context, r slog.Record) error {
	r.Time = epoch.Add(h.w.now)
	return h.Handler.Handle(ctx, r)
}

func (h *clockHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &clockHandler{Handler: h.Handler.WithAttrs(attrs), w: h.w}
}

func (h *clockHandler) WithGroup(name string) slog.Handler {
	return &clockHandler{Handler: h.Handler.WithGroup(name), w: h.w}
}
