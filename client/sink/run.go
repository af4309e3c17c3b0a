package sink

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/internal/task"
)

// closeLimit bounds what is told to the group when a sink ends.
const closeLimit = 2 * time.Second

// Run takes the records of topics into a store, each exactly once, until ctx ends,
// whose error it returns, or until something fails that trying again does not help.
//
// name is the sink's, 1 to 249 bytes: the consumer group, and the key of the
// positions in the store. To scale out, start more of the same name; the group shares
// the partitions out. Two sinks with one store have different names. What the group
// knows of positions is never read.
//
// A call of the store that fails with a retriable error is repeated until ctx ends.
// Errors that end the sink: any other error of the store, unchanged; *FencedError when
// somebody claims, again and again, partitions that the group has given to this sink, as
// a second group of the same name would, or with a manual assignment whoever has claimed
// last; *TopicChangedError; OFFSET_OUT_OF_RANGE
// when records are gone that were not taken, see WithSkipRemoved, or when the position
// is above the end of the partition, which has lost records then; ErrNoOffset with
// WithStart(StartNone); ErrFencedInstance. Run again to go on.
func Run(ctx context.Context, c *client.Client, name string, topics []string, store Store, opts ...Option) error {
	cfg := defaultConfig()
	for _, o := range opts {
		o(&cfg)
	}
	if err := cfg.check(name, topics); err != nil {
		return err
	}
	if store == nil {
		return fmt.Errorf("sink %s: no store", name)
	}
	s := &runner{
		base:  newBase(ctx, c, name, cfg),
		store: store, owned: map[client.TopicPartition]*position{},
		fresh: map[client.TopicPartition]uint64{}, fenced: map[client.TopicPartition]time.Time{},
		struck: map[client.TopicPartition]time.Time{},
	}
	consumer := append(s.options(), client.WithOnAssigned(s.assigned), client.WithOnRevoked(s.revoked), client.WithOnLost(s.lost))
	if !cfg.skipRemoved {
		consumer = append(consumer, client.WithoutReset())
	}
	in, err := c.Consume(ctx, name, topics, consumer...)
	if err != nil {
		return ended(ctx, err)
	}
	err = s.run(ctx, in)
	s.finish(ctx, in)
	return ended(ctx, err)
}

// ended returns ctx's own error when that is why something failed.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return ctx.Err()
	}
	return err
}

// runner is one Run.
type runner struct {
	base
	store Store
	assignment
	owned  map[client.TopicPartition]*position // claimed; guarded by mu
	fresh  map[client.TopicPartition]uint64    // assigned and not claimed, by the number of the assignment
	fenced map[client.TopicPartition]time.Time // refused by the store; when the group should have told
	struck map[client.TopicPartition]time.Time // claimed again because it had not

	untold   []*client.Batch // applied, and not told to the group
	lastTold time.Time
}

// position is a claimed partition.
type position struct {
	part  Partition
	epoch int64
	next  int64 // as in the store
}

// fencedPatience is how long the group has to tell that a partition was given away
// which the store has refused. Heartbeats come every five seconds at the latest.
const fencedPatience = 20 * time.Second

// strikes is for how long it is remembered that a partition had to be claimed again.
const strikes = 5 * time.Minute

func (s *runner) run(ctx context.Context, in *client.Consumer) error {
	s.adoptManual(in)
	s.lastTold = s.rt.Now()
	for {
		if err := s.claim(ctx, in); err != nil {
			return err
		}
		b, err := s.poll(ctx, in)
		if err != nil {
			return err
		}
		if b != nil {
			if err := s.apply(ctx, in, b); err != nil {
				return err
			}
		}
		s.tell(ctx, in, s.cfg.report > 0 && s.rt.Since(s.lastTold) >= s.cfg.report)
	}
}

// poll waits for records; nil, nil: there is something else to do.
func (s *runner) poll(ctx context.Context, in *client.Consumer) (*client.Batch, error) {
	if err := s.overdue(); err != nil {
		return nil, err
	}
	waiting, cancel := s.bounded(ctx)
	defer cancel()
	if !s.interruptible(cancel) {
		return nil, nil
	}
	defer s.uninterruptible()
	b, err := in.Poll(waiting)
	switch {
	case err == nil:
		return b, nil
	case ctx.Err() == nil && waiting.Err() != nil && isContextEnd(err):
		return nil, nil
	default:
		return nil, explained(s.name, err)
	}
}

// explained says what an offset that is not there means for a sink.
func explained(name string, err error) error {
	if apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_OFFSET_OUT_OF_RANGE {
		return fmt.Errorf("sink %s: records were removed before they were taken, or the partition has lost its end: %w", name, err)
	}
	return err
}

func isContextEnd(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// bounded ends a poll when a fenced partition is to be looked at, or when the group
// is to be told positions that nothing comes after.
func (s *runner) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	var until time.Time
	s.mu.Lock()
	for _, at := range s.fenced { // the earliest: the order does not matter
		if until.IsZero() || at.Before(until) {
			until = at
		}
	}
	s.mu.Unlock()
	if tell := s.lastTold.Add(s.cfg.report); len(s.untold) > 0 && s.cfg.report > 0 && (until.IsZero() || tell.Before(until)) {
		until = tell
	}
	if until.IsZero() {
		return s.rt.WithCancel(ctx)
	}
	return s.rt.WithDeadline(ctx, until)
}

// base is what both kinds of sink have.
type base struct {
	rt   *task.Runtime
	c    *client.Client
	name string
	cfg  config
	// applying is held while the store is called: a partition that is asked back
	// waits for that.
	applying task.Lock
	done     <-chan struct{} // of the context of Run
}

func newBase(ctx context.Context, c *client.Client, name string, cfg config) base {
	return base{rt: task.From(ctx), c: c, name: name, cfg: cfg, applying: task.NewLock(), done: ctx.Done()}
}

// options are those of the consumer that every sink sets.
func (b *base) options() []client.ConsumerOption {
	return append(append([]client.ConsumerOption{}, b.cfg.consumer...), client.WithIsolation(client.ReadCommitted), client.WithStart(client.StartEarliest))
}

// repeated calls attempt until it succeeds, fails for good, or ctx ends. It says
// whether it has to be called again by a retriable error.
func (b *base) repeated(ctx context.Context, what string, attempt func(ctx context.Context) error) error {
	p := pauses{rt: b.rt, first: b.cfg.pauseMin, longest: b.cfg.pauseMax}
	for n := 1; ; n++ {
		err := b.once(ctx, attempt)
		switch {
		case err == nil:
			if n > 1 {
				b.cfg.logger.Info("the store answers again", "sink", b.name, "call", what, "attempts", n)
			}
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !IsRetriable(err) && !errors.Is(err, context.DeadlineExceeded):
			return err
		}
		b.cfg.logger.Warn("the store will be called again", "sink", b.name, "call", what, "attempt", n, "error", err)
		if !b.rt.Sleep(p.next(), ctx.Done()) {
			return ctx.Err()
		}
	}
}

func (b *base) once(ctx context.Context, attempt func(ctx context.Context) error) error {
	if !b.applying.LockUntil(b.rt, ctx.Done()) {
		return ctx.Err()
	}
	defer b.applying.Unlock()
	ctx, cancel := b.rt.WithTimeout(ctx, b.cfg.attempt)
	defer cancel()
	return attempt(ctx)
}

// awaitCall waits for the call of the store that is under way.
func (b *base) awaitCall() {
	if b.applying.LockUntil(b.rt, b.done) {
		b.applying.Unlock()
	}
}

// pauses grow by half each time, with jitter.
type pauses struct {
	rt                      *task.Runtime
	first, longest, current time.Duration
}

func (p *pauses) next() time.Duration {
	if p.current == 0 {
		p.current = p.first
	} else {
		p.current += p.current / 2
	}
	p.current = min(p.current, p.longest)
	half := p.current / 2
	return half + time.Duration(p.rt.Rand().Int64N(int64(half)+1))
}
