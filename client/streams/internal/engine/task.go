package engine

import (
	"errors"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/client/streams/state"
)

// Output takes a record that a task sends.
type Output func(r *client.Record) error

// Task runs a group on one partition of its topics. It belongs to one goroutine.
type Task struct {
	id     ID
	group  *Group
	stores []*Store // as in the group
	out    Output

	current  *client.Record // that is processed; nil: none
	wallTime int64          // last told, in milliseconds
	dropped  uint64

	streamTime int64   // highest timestamp seen; -1: none
	due        []int64 // per punctuator: its time was reached up to here; -1: not begun
	committed  struct {
		streamTime int64
		due        []int64
	}
}

// NewTask returns a task whose states, one per store of the group and in that
// order, have been restored. wallTime is the present in milliseconds.
func NewTask(id ID, g *Group, states []state.State, wallTime int64) (*Task, error) {
	if len(states) != len(g.Stores) {
		return nil, errors.New("engine: a state for every store is needed")
	}
	t := &Task{id: id, group: g, wallTime: wallTime, streamTime: -1, due: make([]int64, len(g.Punctuators))}
	for i, s := range g.Stores {
		t.stores = append(t.stores, &Store{spec: s, task: t, base: states[i]})
		if at := states[i].Checkpoint(); at.Next > 0 {
			t.streamTime = max(t.streamTime, at.StreamTime)
		}
	}
	for i, p := range g.Punctuators {
		t.due[i] = t.streamTime
		if p.Wall {
			t.due[i] = wallTime
		}
	}
	t.keep()
	return t, nil
}

// keep notes what Rollback goes back to.
func (t *Task) keep() {
	t.committed.streamTime = t.streamTime
	t.committed.due = append(t.committed.due[:0], t.due...)
}

// ID returns the task's name.
func (t *Task) ID() ID { return t.id }

// Group returns what the task runs.
func (t *Task) Group() *Group { return t.group }

// Current returns the record that is processed; nil during a punctuation.
func (t *Task) Current() *client.Record { return t.current }

// StreamTime returns the highest timestamp that the task has seen, in
// milliseconds; -1: none.
func (t *Task) StreamTime() int64 { return t.streamTime }

// WallTime returns the time that the task was last told, in milliseconds.
func (t *Task) WallTime() int64 { return t.wallTime }

// Dropped returns how many records were left out since the task began: too late
// for their window, or undecodable.
func (t *Task) Dropped() uint64 { return t.dropped }

// Drop counts a record that is left out.
func (t *Task) Drop() { t.dropped++ }

// Store returns a store of the task; nil: it has none of that name.
func (t *Task) Store(name string) *Store {
	for _, s := range t.stores {
		if s.spec.Name == name {
			return s
		}
	}
	return nil
}

// Send sends a record.
func (t *Task) Send(r *client.Record) error { return t.out(r) }

// Process takes a record through the group, and calls the punctuators whose time
// it brings.
func (t *Task) Process(r *client.Record, wallTime int64, out Output) error {
	source := t.group.Source(r.Topic)
	if source == nil {
		return errors.New("engine: no source reads " + r.Topic)
	}
	t.wallTime = wallTime
	t.out, t.current = out, r
	defer func() { t.out, t.current = nil, nil }()
	if ms := r.Timestamp.UnixMilli(); ms > t.streamTime {
		t.streamTime = ms
	}
	if err := source.Process(t, r); err != nil {
		return err
	}
	t.current = nil
	return t.punctuate(false, t.streamTime)
}

// Punctuate calls the punctuators of the wall clock whose time has come.
func (t *Task) Punctuate(wallTime int64, out Output) error {
	t.wallTime = wallTime
	t.out = out
	defer func() { t.out = nil }()
	return t.punctuate(true, wallTime)
}

// punctuate calls those whose period, counted from 1970, has ended since they were
// looked at last: once, however many have.
func (t *Task) punctuate(wall bool, now int64) error {
	for i, p := range t.group.Punctuators {
		if p.Wall != wall || now <= t.due[i] {
			continue
		}
		before := t.due[i]
		t.due[i] = now
		if before < 0 || now/p.Every == before/p.Every {
			continue
		}
		if err := p.Do(t, now); err != nil {
			return err
		}
	}
	return nil
}

// NextPunctuation returns when Punctuate has something to do, in milliseconds.
func (t *Task) NextPunctuation() (at int64, ok bool) {
	for i, p := range t.group.Punctuators {
		if !p.Wall {
			continue
		}
		if next := (t.due[i]/p.Every + 1) * p.Every; !ok || next < at {
			at, ok = next, true
		}
	}
	return at, ok
}

// Flush sends the changelog of what the transaction has changed. Nothing may come
// between it and Commit or Rollback.
func (t *Task) Flush(out Output) error {
	for _, s := range t.stores {
		if err := s.flush(out); err != nil {
			return err
		}
	}
	return nil
}

// Commit takes note that the transaction was committed: what it changed is what
// Rollback goes back to from now on. position returns how far a source has been
// consumed, 0 if it is not known.
func (t *Task) Commit(position func(topic string) int64) error {
	for _, s := range t.stores {
		consumed := int64(0)
		if s.spec.OfSource {
			consumed = position(s.spec.Topic)
		}
		if err := s.commit(consumed); err != nil {
			return err
		}
	}
	t.keep()
	return nil
}

// Rollback goes back to what is committed.
func (t *Task) Rollback() {
	for _, s := range t.stores {
		s.rollback()
	}
	t.streamTime = t.committed.streamTime
	copy(t.due, t.committed.due)
}

// Close gives the states back.
func (t *Task) Close() error {
	var errs []error
	for _, s := range t.stores {
		errs = append(errs, s.base.Close())
	}
	return errors.Join(errs...)
}
