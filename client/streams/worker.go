package streams

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/streams/internal/engine"
	"github.com/oncelog/oncelog/internal/task"
)

// Limits of a unit, and of what a worker does last.
const (
	maxUnitRecords = 10_000
	maxFailures    = 10
	shutdownLimit  = 10 * time.Second
)

// worker runs tasks, one record at a time, with one consumer and one producer for
// all of them. It is one goroutine; callbacks of the consumer, and restores, hand it
// events.
//
// When the group asks a partition back, the worker commits what it is at before it
// says that the partition is free: the next owner need not do it again. When a
// partition was lost, what it is at cannot be committed, and is rolled back.
type worker struct {
	app  *App
	name string // of its transactions
	id   string // of the member, without what makes it unique
	in   *client.Consumer
	out  writer

	// work ends a while after the context of Run, so that what is under way can be
	// committed.
	work     context.Context
	stopWork context.CancelFunc
	group    task.Group
	ended    chan struct{} // closed when nobody looks at events any more

	tasks map[engine.ID]*assigned

	unit     unit
	began    time.Time      // of the unit
	records  int            // of the unit
	consumed client.Offsets // positions after the unit
	purge    purge
	touched  map[*assigned]bool
	failures int
	pause    pauses

	mu       sync.Mutex
	events   []event
	stopPoll context.CancelFunc // of the Poll that runs; nil: none does
}

func newWorker(a *App, number int) *worker {
	return &worker{
		app: a, name: fmt.Sprintf("%s-%s-%d", a.plan.Application, a.instance, number), id: fmt.Sprintf("%s/%d-", a.instance, number),
		ended: make(chan struct{}), tasks: map[engine.ID]*assigned{}, pause: pauses{rt: a.rt},
	}
}

// run works until ctx ends, or something fails for good.
func (w *worker) run(ctx context.Context) error {
	rt := w.app.rt
	w.work, w.stopWork = rt.WithCancel(context.WithoutCancel(ctx))
	w.group.Go(rt, func() {
		if rt.Wait(ctx.Done(), w.ended) == 0 && rt.Sleep(shutdownLimit, w.ended) {
			w.stopWork()
		}
	})
	err := w.start(ctx)
	if err == nil {
		err = w.loop(ctx)
		if err == nil {
			err = w.commit() // nothing holds: it will be done again
		}
	}
	w.end()
	return err
}

// start takes the transactional id over, which ends what an earlier life left open,
// and joins the group.
func (w *worker) start(ctx context.Context) (err error) {
	if w.out, err = w.newWriter(ctx); err != nil {
		return err
	}
	opts := append([]client.ConsumerOption(nil), w.app.cfg.consumer...)
	opts = append(opts,
		client.WithIsolation(client.ReadCommitted), client.WithAssignor(client.AssignorRange),
		// An internal topic that somebody has written to must be read from its beginning.
		client.WithStart(client.StartEarliest),
		client.WithMemberID(w.id+randomID()), client.WithGroupInstanceID(""), // workers would replace each other
		client.WithOnAssigned(w.onAssigned), client.WithOnRevoked(w.onRevoked), client.WithOnLost(w.onLost),
	)
	w.in, err = w.app.c.Consume(ctx, w.app.plan.Application, w.app.plan.Topics(), opts...)
	return err
}

// end gives everything back.
func (w *worker) end() {
	if w.unit != nil {
		w.rollback()
	}
	w.stopWork()
	close(w.ended) // callbacks wait for nobody from now on
	for _, a := range w.tasks {
		w.stop(a)
	}
	w.group.Wait(w.app.rt)
	for _, e := range w.takeEvents() { // what was restored too late
		closeAll(e.states)
	}
	if w.in != nil {
		_ = w.in.Close()
	}
	if w.out != nil {
		w.out.close()
	}
}

func (w *worker) loop(ctx context.Context) error {
	for ctx.Err() == nil {
		err := w.turn(ctx)
		if err == nil {
			continue
		}
		if err := w.recover(err); err != nil {
			return err
		}
	}
	return nil
}

// turn does what there is to do, and waits for it.
func (w *worker) turn(ctx context.Context) error {
	if err := w.handle(); err != nil {
		return err
	}
	b, err := w.poll(ctx)
	if err != nil {
		return err
	}
	if b != nil {
		if err := w.process(b); err != nil {
			return err
		}
	}
	if err := w.punctuate(); err != nil {
		return err
	}
	if w.unit != nil && (w.records >= maxUnitRecords || w.app.rt.Since(w.began) >= w.app.cfg.commitInterval) {
		return w.commit()
	}
	return nil
}

// poll waits for records, until there is something else to do: then it returns nil.
func (w *worker) poll(ctx context.Context) (*client.Batch, error) {
	short, cancel := w.untilDue(ctx)
	defer cancel()
	w.mu.Lock()
	w.stopPoll = cancel
	if len(w.events) > 0 {
		cancel()
	}
	w.mu.Unlock()
	b, err := w.in.Poll(short)
	w.mu.Lock()
	w.stopPoll = nil
	w.mu.Unlock()
	if err != nil && short.Err() != nil {
		return nil, nil
	}
	return b, err
}

// untilDue is a context that ends when the unit is to be committed, or a punctuation
// is due.
func (w *worker) untilDue(ctx context.Context) (context.Context, context.CancelFunc) {
	rt := w.app.rt
	wait, due := time.Duration(0), false
	if w.unit != nil {
		wait, due = w.app.cfg.commitInterval-rt.Since(w.began), true
	}
	for _, a := range w.tasks { // the least of them: the order does not matter
		if a.task == nil {
			continue
		}
		if at, ok := a.task.NextPunctuation(); ok {
			if left := time.UnixMilli(at).Sub(rt.Wall()); !due || left < wait {
				wait, due = left, true
			}
		}
	}
	if !due {
		return rt.WithCancel(ctx)
	}
	return rt.WithTimeout(ctx, wait)
}

// begin returns the unit, and begins one if there is none.
func (w *worker) begin() (unit, error) {
	if w.unit != nil {
		return w.unit, nil
	}
	u, err := w.out.begin(w.work)
	if err != nil {
		return nil, err
	}
	w.unit, w.began, w.records = u, w.app.rt.Now(), 0
	w.consumed, w.touched = client.Offsets{}, map[*assigned]bool{}
	return u, nil
}

// send is the output of tasks.
func (w *worker) send(r *client.Record) error { return w.unit.send(w.work, r) }

// commit makes what was done since the last commit count: positions, output,
// changelogs, and then the stores here.
func (w *worker) commit() error {
	if w.unit == nil {
		return nil
	}
	touched := w.touchedInOrder()
	for _, a := range touched {
		if err := a.task.Flush(w.send); err != nil {
			return err
		}
	}
	if err := w.unit.commit(w.work); err != nil {
		return err
	}
	w.unit = nil
	for _, a := range touched {
		err := a.task.Commit(func(topic string) int64 {
			return w.consumed[client.TopicPartition{Topic: topic, Partition: a.id.Partition}]
		})
		if err != nil {
			return &stateError{"state", err}
		}
	}
	w.app.stats.commits.Add(1)
	w.consumedInternal()
	w.failures = 0
	w.pause.reset()
	return nil
}

// stateError is a failure to keep or restore state. What is committed is not in it,
// so the worker must not go on with it.
type stateError struct {
	op  string
	err error
}

func (e *stateError) Error() string { return e.op + ": " + e.err.Error() }
func (e *stateError) Unwrap() error { return e.err }

// rollback takes back what was done since the last commit.
func (w *worker) rollback() {
	w.unit.abort(w.work)
	w.unit = nil
	for a := range w.touched { // each by itself: the order does not matter
		if a.task != nil {
			a.task.Rollback()
		}
	}
	w.app.stats.aborts.Add(1)
}

// recover takes back what was done and returns the error if trying again does not
// help.
func (w *worker) recover(err error) error {
	if w.unit != nil {
		w.rollback()
	}
	var failed *TaskError
	var lost *stateError
	switch {
	case errors.As(err, &lost):
		return err
	case errors.Is(err, client.ErrOutcomeUnknown):
		return err // the end: commit asks until then
	case errors.Is(err, client.ErrStaleMember):
		w.app.cfg.logger.Info("partitions have changed hands; going on with what there is", "worker", w.name, "error", err)
		w.pause.pause(w.work)
		return nil // the consumer finds out what it has
	case errors.As(err, &failed) && client.ClassOf(err) == 0:
		return err
	case client.ClassOf(err) == 0 || !w.out.renew(err):
		return err
	}
	w.failures++
	if w.failures >= maxFailures {
		return err
	}
	w.app.cfg.logger.Info("starting over from the last commit", "worker", w.name, "attempt", w.failures, "error", err)
	w.pause.pause(w.work)
	return nil
}
