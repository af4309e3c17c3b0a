package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// tally is what has happened so far, as the workers report it.
type tally struct {
	now func() time.Time

	mu        sync.Mutex
	fed       int // lines sent
	split     int // lines turned into words, in committed transactions
	counted   int // words counted, in committed transactions
	committed int
	aborted   int
	restored  int         // records that replaced workers read back
	commits   []time.Time // when each commit was heard of
	err       error       // the first failure of a worker
	changed   chan struct{}
}

func newTally(now func() time.Time) *tally {
	return &tally{now: now, changed: make(chan struct{})}
}

// change runs f under the lock and wakes who waits.
func (t *tally) change(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
	close(t.changed)
	t.changed = make(chan struct{})
}

// record takes a worker's event.
func (t *tally) record(p *process, e event) {
	t.change(func() {
		switch e.Kind {
		case kindReady:
			t.restored += e.Restored
		case kindCommitted:
			t.committed++
			t.aborted += e.Aborted
			t.commits = append(t.commits, t.now())
			if p.cfg.Stage == StageSplit {
				t.split += e.Read
			} else {
				t.counted += e.Read
			}
		case kindFailed:
			if t.err == nil {
				t.err = fmt.Errorf("worker %s: %s", p.cfg.Name, e.Error)
			}
		}
	})
}

func (t *tally) setFed(lines int) { t.change(func() { t.fed = lines }) }
func (t *tally) addAborted()      { t.change(func() { t.aborted++ }) }

// fail notes the first failure of something in the background.
func (t *tally) fail(err error) {
	t.change(func() {
		if t.err == nil {
			t.err = err
		}
	})
}

// snapshot is a tally at one moment.
type snapshot struct {
	fed, split, counted, committed, aborted, restored int
}

func (t *tally) snapshot() snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	return snapshot{t.fed, t.split, t.counted, t.committed, t.aborted, t.restored}
}

// await waits until a condition on the tally holds, or something has failed.
func (t *tally) await(ctx context.Context, what string, holds func(snapshot) bool) error {
	for {
		t.mu.Lock()
		changed, err := t.changed, t.err
		t.mu.Unlock()
		s := t.snapshot()
		switch {
		case err != nil:
			return err
		case holds(s):
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w, with %d lines sent, %d split, and %d words counted",
				what, cause(ctx), s.fed, s.split, s.counted)
		}
	}
}

// cause says why a context ended, in words for people.
func cause(ctx context.Context) error {
	if err := context.Cause(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return errors.New("it took too long")
}

// pause is a time without a committed transaction.
type pause struct {
	start time.Time
	long  time.Duration
}

// longestPause returns the longest time between two successive commits, the later
// of which came at or after from and the earlier before to.
func longestPause(commits []time.Time, from, to time.Time) pause {
	var longest pause
	for i := 1; i < len(commits); i++ {
		if commits[i].Before(from) || !commits[i-1].Before(to) {
			continue
		}
		if d := commits[i].Sub(commits[i-1]); d > longest.long {
			longest = pause{start: commits[i-1], long: d}
		}
	}
	return longest
}
