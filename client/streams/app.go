package streams

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/streams/internal/engine"
	"github.com/oncelog/oncelog/client/streams/state"
	"github.com/oncelog/oncelog/internal/task"
)

// App is one instance of an application: it runs the share of the topology's tasks
// that the application's group gives it. Start more instances, with the same
// topology, to scale out and to survive the loss of one.
type App struct {
	c        *client.Client
	plan     *engine.Plan
	cfg      config
	instance string
	rt       *task.Runtime // set by Run
	standby  *standby      // nil: none

	running atomic.Bool
	stats   counters

	mu     sync.Mutex
	topics map[string]topicInfo
	live   map[state.ID]state.State // of tasks that run here
}

// counters are Stats as they are counted.
type counters struct{ tasks, records, dropped, restored, commits, aborts atomic.Int64 }

// Stats counts what an instance has done since it was made.
type Stats struct {
	// Tasks that run now; those that are being restored do not count.
	Tasks int64
	// Records that were processed, those of aborted transactions included.
	Records int64
	// Dropped records: too late for their window, or skipped by WithDecodeError.
	Dropped int64
	// Restored records: read from changelogs to bring stores up to date, standby
	// copies included.
	Restored int64
	// Commits and Aborts of transactions; without transactions of commit intervals.
	Commits, Aborts int64
}

// NewApp returns an instance of an application, or what is wrong with its topology.
// Nothing happens before Run. Several instances may share a client.
func NewApp(c *client.Client, t *Topology, opts ...Option) (*App, error) {
	cfg := defaultConfig()
	for _, o := range opts {
		o(&cfg)
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	plan, err := t.plan()
	if err != nil {
		return nil, err
	}
	a := &App{
		c: c, plan: plan, cfg: cfg, instance: cmp.Or(cfg.instance, randomID()),
		topics: map[string]topicInfo{}, live: map[state.ID]state.State{},
	}
	return a, nil
}

func randomID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return hex.EncodeToString(b[:])
}

// Run runs the instance until ctx ends, whose error it returns, or until something
// fails that trying again does not help: a step, a serde, the state on this machine,
// or the cluster for good. It creates internal topics that are missing, joins the
// group, restores stores, and processes. When ctx ends it commits what it is at, for
// 10 s at most, and leaves the group.
//
// Errors: ErrPartitions; [*TaskError]; those of package client, such as
// client.ErrFenced when another instance has the same id. Run is called once.
func (a *App) Run(ctx context.Context) error {
	if a.running.Swap(true) {
		return errors.New("streams: Run is called once")
	}
	a.rt = task.From(ctx)
	if err := a.prepareTopics(ctx); err != nil {
		return cmp.Or(ctx.Err(), err)
	}
	all, stop := a.rt.WithCancelCause(ctx)
	defer stop(nil)
	var copies, workers task.Group
	if a.cfg.standbys > 0 {
		a.standby = newStandby(a)
		copies.Go(a.rt, func() { a.standby.run(all) })
	}
	for i := range a.cfg.workers {
		workers.Go(a.rt, func() {
			if err := newWorker(a, i).run(all); err != nil && all.Err() == nil {
				stop(fmt.Errorf("streams: worker %d: %w", i, err))
			}
		})
	}
	workers.Wait(a.rt)
	stop(nil)
	copies.Wait(a.rt)
	return context.Cause(all)
}

// Stats returns what the instance has done so far.
func (a *App) Stats() Stats {
	s := &a.stats
	return Stats{
		Tasks: s.tasks.Load(), Records: s.records.Load(), Dropped: s.dropped.Load(), Restored: s.restored.Load(),
		Commits: s.commits.Load(), Aborts: s.aborts.Load(),
	}
}

// InstanceID returns the name of the instance, see WithInstanceID.
func (a *App) InstanceID() string { return a.instance }

func (a *App) stateID(store string, partition int32) state.ID {
	return state.ID{Application: a.plan.Application, Store: store, Partition: partition}
}

// publish makes the stores of a task readable, and withdraw ends that.
func (a *App) publish(id engine.ID, states []state.State) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, s := range a.plan.Groups[id.Group].Stores {
		a.live[a.stateID(s.Name, id.Partition)] = states[i]
	}
}

func (a *App) withdraw(id engine.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.plan.Groups[id.Group].Stores {
		delete(a.live, a.stateID(s.Name, id.Partition))
	}
}
