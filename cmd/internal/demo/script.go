package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// downtime is how long a killed node stays away: longer than an election takes.
const downtime = 1500 * time.Millisecond

// failure is one thing that the script does to the running system.
type failure struct {
	// at is the part of the text that is fed when it happens.
	at float64
	// happen does it and returns when what was broken works again. It calls more as
	// soon as the work that is to meet the failure may come.
	happen func(r *run, ctx context.Context, more func()) error
}

// script returns the failures in their order. The feeder does not go further
// than to the next one before one is over.
func script() []failure {
	return []failure{
		{0.10, (*run).killWorker},
		{0.30, (*run).wakeZombie},
		{0.50, (*run).killCoordinatorLeader},
		{0.75, (*run).killShardLeader},
	}
}

// thresholds turns the parts of a text into numbers of lines, such that between
// two of them there are lines with words.
func thresholds(lines []line, failures []failure) []int {
	var worded []int // number of lines up to and including the n-th with words
	for i, l := range lines {
		if len(words(l.text)) > 0 {
			worded = append(worded, i+1)
		}
	}
	out := make([]int, len(failures))
	for i, f := range failures {
		out[i] = worded[int(f.at*float64(len(worded)))]
	}
	return out
}

// play goes through the script and opens the gate before the feeder.
func (r *run) play(ctx context.Context, g *gate) error {
	failures := script()
	at := thresholds(r.text.lines, failures)
	for i, f := range failures {
		if err := r.tally.await(ctx, "the text is not fed", func(s snapshot) bool { return s.fed >= at[i] }); err != nil {
			return err
		}
		next := len(r.text.lines)
		if i+1 < len(at) {
			next = at[i+1]
		}
		if err := f.happen(r, ctx, func() { g.open(next) }); err != nil {
			return err
		}
	}
	return nil
}

// holdOne stops one worker of a stage in mid-transaction: what it has written is
// durable, and the commit has not been sent.
func (r *run) holdOne(ctx context.Context, stage string, more func()) (*process, error) {
	crew := r.crew(stage)
	for _, p := range crew {
		p.command(commandHold)
	}
	more()
	held := make(chan *process, len(crew))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, p := range crew {
		go func() {
			if p.await(ctx, kindHeld) == nil {
				held <- p
			}
		}()
	}
	var chosen *process
	select {
	case chosen = <-held:
	case <-ctx.Done():
		return nil, fmt.Errorf("no %s worker came to hold a transaction: %w", stage, cause(ctx))
	}
	for _, p := range crew {
		if p != chosen {
			p.command(commandGo)
		}
	}
	return chosen, nil
}

// killWorker kills a worker whose transaction is open, and starts another in its
// place.
func (r *run) killWorker(ctx context.Context, more func()) error {
	victim, err := r.holdOne(ctx, StageSplit, more)
	if err != nil {
		return err
	}
	open := victim.last(kindHeld)
	victim.kill()
	r.struck(fmt.Sprintf("worker %s", victim.cfg.Name),
		fmt.Sprintf("in mid-transaction: %s, %d records written", open.Transaction, open.Written))
	r.tally.addAborted()
	next, err := r.replace(victim)
	if err != nil {
		return err
	}
	return next.await(ctx, kindCommitted)
}

// wakeZombie stops a worker whose transaction is open, lets another take its
// place, and then lets the first one go on: its commit must be refused.
func (r *run) wakeZombie(ctx context.Context, more func()) error {
	zombie, err := r.holdOne(ctx, StageCount, more)
	if err != nil {
		return err
	}
	if err := zombie.pause(); err != nil {
		return fmt.Errorf("stop worker %s: %w", zombie.cfg.Name, err)
	}
	open := zombie.last(kindHeld)
	r.progress.say("worker %s stops in mid-transaction: %s, %d records written", zombie.cfg.Name, open.Transaction, open.Written)
	r.tally.addAborted()
	next, err := r.replace(zombie)
	if err != nil {
		return err
	}
	if err := next.await(ctx, kindCommitted); err != nil {
		return err
	}
	committed := zombie.last(kindCommitted).Transaction
	if err := zombie.resume(); err != nil {
		return fmt.Errorf("wake worker %s: %w", zombie.cfg.Name, err)
	}
	zombie.command(commandGo)
	select {
	case <-zombie.done:
	case <-ctx.Done():
		return fmt.Errorf("the zombie of worker %s does not end: %w", zombie.cfg.Name, cause(ctx))
	}
	refusal := zombie.last(kindFenced)
	switch {
	case zombie.last(kindCommitted).Transaction != committed:
		return fmt.Errorf("the zombie of worker %s has committed %s", zombie.cfg.Name, open.Transaction)
	case refusal.Kind == "":
		return fmt.Errorf("the zombie of worker %s ended without being fenced: %s", zombie.cfg.Name, zombie.last(kindFailed).Error)
	}
	r.fenced = zombie.cfg.Name
	r.progress.say("worker %s woke up as a zombie, tried to commit, and was refused: fenced", zombie.cfg.Name)
	return nil
}

// killCoordinatorLeader kills the node that decides transactions, and starts it
// again later.
func (r *run) killCoordinatorLeader(ctx context.Context, more func()) error {
	leader, err := r.cluster.CoordinatorLeader(ctx)
	if err != nil {
		return err
	}
	return r.killNode(ctx, leader, "leader of the coordinator", more, func() error {
		_, err := r.cluster.CoordinatorLeader(ctx)
		return err
	})
}

// killShardLeader does the same to the node that leads a shard with words.
func (r *run) killShardLeader(ctx context.Context, more func()) error {
	picture, err := r.client.Admin().DescribeCluster(ctx)
	if err != nil {
		return err
	}
	if len(picture.GetShards()) == 0 {
		return errors.New("the cluster has no shards")
	}
	shard := picture.GetShards()[0].GetShardId()
	leader, err := r.cluster.ShardLeader(ctx, shard)
	if err != nil {
		return err
	}
	return r.killNode(ctx, leader, fmt.Sprintf("leader of shard %d", shard), more, func() error {
		_, err := r.cluster.ShardLeader(ctx, shard)
		return err
	})
}

func (r *run) killNode(ctx context.Context, node *cluster.Node, role string, more func(), recovered func() error) error {
	if err := node.Kill(); err != nil {
		return fmt.Errorf("kill %s: %w", node, err)
	}
	r.struck(node.String(), role)
	before := r.tally.snapshot().committed
	more()
	timer := time.NewTimer(downtime)
	defer timer.Stop()
	if err := recovered(); err != nil {
		return err
	}
	if err := r.tally.await(ctx, "nothing is committed after "+node.String()+" was killed",
		func(s snapshot) bool { return s.committed > before }); err != nil {
		return err
	}
	select {
	case <-timer.C:
	case <-ctx.Done():
		return cause(ctx)
	}
	if err := node.Start(); err != nil {
		return err
	}
	if err := node.AwaitServing(ctx); err != nil {
		return err
	}
	r.progress.say("%s is back", node)
	return nil
}
