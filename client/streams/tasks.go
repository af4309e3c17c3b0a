package streams

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/streams/internal/engine"
	"github.com/oncelog/oncelog/client/streams/state"
)

// assigned is a task of which the worker owns a partition, if not all of them.
type assigned struct {
	id     engine.ID
	group  *engine.Group
	parts  map[client.TopicPartition]bool
	task   *engine.Task       // nil: it does not run
	cancel context.CancelFunc // of the restore that runs; nil: none does
	life   int                // of the task; what is late of an earlier one does not count
}

// partitions returns what the worker owns of the task, sorted by topic.
func (a *assigned) partitions() []client.TopicPartition {
	return slices.SortedFunc(maps.Keys(a.parts), func(x, y client.TopicPartition) int { return cmp.Compare(x.Topic, y.Topic) })
}

// event is something that the worker is told.
type event struct {
	assigned []client.TopicPartition
	revoked  []client.TopicPartition
	lost     []client.TopicPartition
	done     chan struct{} // closed when the worker has let go of revoked

	restored *assigned
	life     int
	states   []state.State
	err      error
}

func (w *worker) push(e event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
	if w.stopPoll != nil {
		w.stopPoll()
	}
}

func (w *worker) takeEvents() []event {
	w.mu.Lock()
	defer w.mu.Unlock()
	events := w.events
	w.events = nil
	return events
}

// onAssigned keeps records back until stores are restored.
func (w *worker) onAssigned(c *client.Consumer, partitions []client.TopicPartition) {
	c.Pause(partitions...)
	w.push(event{assigned: partitions})
}

// onRevoked waits until the worker has committed and let go.
func (w *worker) onRevoked(_ *client.Consumer, partitions []client.TopicPartition) {
	done := make(chan struct{})
	w.push(event{revoked: partitions, done: done})
	w.app.rt.Wait(done, w.ended)
}

func (w *worker) onLost(_ *client.Consumer, partitions []client.TopicPartition) {
	w.push(event{lost: partitions})
}

// handle acts upon events, in their order.
func (w *worker) handle() error {
	events := w.takeEvents()
	for i, e := range events {
		err := w.handleOne(e)
		if err != nil {
			w.mu.Lock()
			w.events = append(slices.Clone(events[i+1:]), w.events...)
			w.mu.Unlock()
			return err
		}
	}
	return nil
}

func (w *worker) handleOne(e event) (err error) {
	switch {
	case e.assigned != nil:
		w.assign(e.assigned)
	case e.revoked != nil:
		// Committed first: until the group is told, the partitions are this member's.
		if err = w.commit(); err != nil && w.unit != nil {
			w.rollback()
		}
		w.release(e.revoked)
		close(e.done)
	case e.lost != nil:
		if w.unit != nil {
			w.rollback()
		}
		w.release(e.lost)
	default:
		err = w.begun(e)
	}
	return err
}

// assign takes note of partitions, and has the tasks restored that are complete.
func (w *worker) assign(partitions []client.TopicPartition) {
	for _, tp := range partitions {
		id := engine.ID{Group: w.app.plan.GroupOf(tp.Topic), Partition: tp.Partition}
		a := w.tasks[id]
		if a == nil {
			a = &assigned{id: id, group: w.app.plan.Groups[id.Group], parts: map[client.TopicPartition]bool{}}
			w.tasks[id] = a
		}
		a.parts[tp] = true
		if len(a.parts) == len(a.group.Sources) && a.task == nil && a.cancel == nil {
			w.restore(a)
		}
	}
}

// release ends the tasks that partitions belong to. What is left of one is kept
// back until it is complete again.
func (w *worker) release(partitions []client.TopicPartition) {
	for _, tp := range partitions {
		id := engine.ID{Group: w.app.plan.GroupOf(tp.Topic), Partition: tp.Partition}
		a := w.tasks[id]
		if a == nil || !a.parts[tp] {
			continue
		}
		delete(a.parts, tp)
		w.stop(a)
		w.in.Pause(a.partitions()...)
		if len(a.parts) == 0 {
			delete(w.tasks, id)
		}
	}
}

// stop ends a task, or its restore. What it has not committed was rolled back.
func (w *worker) stop(a *assigned) {
	a.life++
	if a.cancel != nil {
		a.cancel()
		a.cancel = nil
	}
	if a.task == nil {
		return
	}
	w.app.withdraw(a.id)
	w.app.stats.tasks.Add(-1)
	if err := a.task.Close(); err != nil {
		w.app.cfg.logger.Warn("closing the state of a task", "task", a.id.String(), "error", err)
	}
	a.task = nil
	w.app.cfg.logger.Info("task stopped", "task", a.id.String(), "worker", w.name)
}

// restore brings the stores of a task up to date, beside the tasks that run.
func (w *worker) restore(a *assigned) {
	position := w.in.Position()
	for tp := range a.parts {
		if _, ok := position[tp]; !ok {
			return // lost, which the worker is about to be told
		}
	}
	ctx, cancel := w.app.rt.WithCancel(w.work)
	a.cancel = cancel
	life := a.life
	w.group.Go(w.app.rt, func() {
		states, err := w.app.restoreTask(ctx, a.id, position)
		w.push(event{restored: a, life: life, states: states, err: err})
	})
}

// begun begins a task whose stores are restored.
func (w *worker) begun(e event) error {
	a := e.restored
	if e.life != a.life {
		closeAll(e.states)
		return nil
	}
	a.cancel()
	a.cancel = nil
	if e.err != nil {
		return &TaskError{Task: a.id.String(), Err: &stateError{"restore", e.err}}
	}
	t, err := engine.NewTask(a.id, a.group, e.states, w.app.rt.Wall().UnixMilli())
	if err != nil {
		closeAll(e.states)
		return err
	}
	a.task = t
	w.app.publish(a.id, e.states)
	w.app.stats.tasks.Add(1)
	w.app.cfg.logger.Info("task runs", "task", a.id.String(), "worker", w.name)
	w.in.Resume(a.partitions()...)
	return nil
}

func closeAll(states []state.State) {
	for _, s := range states {
		_ = s.Close()
	}
}

// errNotRunning is a record of a task that does not run: its partitions have changed
// hands, and the worker has yet to be told.
var errNotRunning = errors.Join(client.ErrStaleMember, errors.New("the task of the record does not run"))

// process runs the records of a batch, task by task, and in each the oldest first.
func (w *worker) process(b *client.Batch) error {
	u, err := w.begin()
	if err != nil {
		w.in.PutBack(b)
		return err
	}
	if err := u.consume(w.work, b); err != nil {
		w.in.PutBack(b)
		return err
	}
	for tp, next := range b.Offsets() {
		w.consumed[tp] = next
	}
	wall := w.app.rt.Wall().UnixMilli()
	byTask := map[engine.ID]map[string][]*client.Record{}
	topic, group := "", -1
	for r := range b.Records() {
		if r.Topic != topic { // partition by partition, so rarely
			topic, group = r.Topic, w.app.plan.GroupOf(r.Topic)
		}
		id := engine.ID{Group: group, Partition: r.Partition}
		if byTask[id] == nil {
			byTask[id] = map[string][]*client.Record{}
		}
		byTask[id][r.Topic] = append(byTask[id][r.Topic], r)
	}
	for _, id := range slices.SortedFunc(maps.Keys(byTask), compareIDs) {
		a := w.tasks[id]
		if a == nil || a.task == nil {
			return errNotRunning
		}
		w.touched[a] = true
		for _, r := range oldestFirst(a.group, byTask[id]) {
			w.records++
			w.app.stats.records.Add(1)
			before := a.task.Dropped()
			err := processed(a.task, a.task.Process(r, wall, w.send), r, w.app.cfg.decode)
			w.app.stats.dropped.Add(int64(a.task.Dropped() - before))
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func compareIDs(a, b engine.ID) int {
	return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Partition, b.Partition))
}

func (w *worker) touchedInOrder() []*assigned {
	return slices.SortedFunc(maps.Keys(w.touched), func(a, b *assigned) int { return compareIDs(a.id, b.id) })
}

// oldestFirst merges the records of several topics by their timestamps, and leaves
// those of one topic in their order.
func oldestFirst(g *engine.Group, byTopic map[string][]*client.Record) []*client.Record {
	if len(byTopic) == 1 {
		for _, records := range byTopic { // there is one
			return records
		}
	}
	sources := slices.Clone(g.Sources)
	slices.SortStableFunc(sources, func(a, b *engine.Source) int { return cmp.Compare(rank(a), rank(b)) })
	var out []*client.Record
	for {
		var oldest string
		for _, s := range sources {
			records := byTopic[s.Topic]
			if len(records) > 0 && (oldest == "" || records[0].Timestamp.Before(byTopic[oldest][0].Timestamp)) {
				oldest = s.Topic
			}
		}
		if oldest == "" {
			return out
		}
		out = append(out, byTopic[oldest][0])
		byTopic[oldest] = byTopic[oldest][1:]
	}
}

// rank puts tables before streams.
func rank(s *engine.Source) int {
	if s.Table {
		return 0
	}
	return 1
}

// punctuate calls what is due by the wall clock. What it does is committed only if
// the worker still owns the task's partitions: no record that was read says so.
func (w *worker) punctuate() error {
	now := w.app.rt.Wall().UnixMilli()
	for _, id := range slices.SortedFunc(maps.Keys(w.tasks), compareIDs) {
		a := w.tasks[id]
		if a.task == nil {
			continue
		}
		if at, ok := a.task.NextPunctuation(); !ok || now < at {
			continue
		}
		u, err := w.begin()
		if err != nil {
			return err
		}
		if err := u.claim(w.work, a.partitions()); err != nil {
			return err
		}
		w.touched[a] = true
		if err := a.task.Punctuate(now, w.send); err != nil {
			return &TaskError{Task: a.id.String(), Err: err}
		}
	}
	return nil
}

// openAgain is how often a state is asked for that another task is about to close.
const openAgain = 10 * time.Millisecond
