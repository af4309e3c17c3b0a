package main

import (
	"cmp"
	"fmt"
	"sync"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/output"
)

const (
	// drawInterval is how often progress is drawn on a terminal.
	drawInterval = 200 * time.Millisecond
	// barWidth leaves room for numbers beside a bar.
	barWidth = 24
	// silence is how long a command may take without a word.
	silence = 2 * time.Second
	// sayInterval is how often a line says that it still goes on, where nothing is drawn.
	sayInterval = 10 * time.Second
)

// meanwhile says on standard error that something still goes on, if it takes longer than
// anybody waits without a word, and then now and then, until done is called.
func (a *app) meanwhile(what string) (done func()) {
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		begun := time.Now()
		for pause := cmp.Or(a.quiet, silence); ; pause = sayInterval {
			t := time.NewTimer(pause)
			select {
			case <-t.C:
				fmt.Fprintf(a.err, "%s: still waiting, for %s now\n", output.Printable(what), output.Duration(time.Since(begun)))
			case <-stop:
				t.Stop()
				return
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(stop)
		<-ended
	})
}

// timed shows how much of the time that something is to take is over, below what is
// printed, until done is called. What it prints goes to status.
func (a *app) timed(total time.Duration) (status *output.Status, done func()) {
	begun := time.Now()
	status = output.NewStatus(a.err, a.err, a.interactive)
	return status, status.Follow(func() string {
		over := time.Since(begun)
		return fmt.Sprintf("%s, %s of about %s", output.Bar(over.Seconds()/total.Seconds(), barWidth),
			over.Round(time.Second), total.Round(time.Second))
	})
}

// meter shows how far something is that may take longer than anybody waits without a word:
// on a terminal it draws, elsewhere it says a line now and then. Its methods may be called
// from any goroutine.
type meter struct {
	*app
	what   string // such as "copied"
	total  uint64 // bytes; 0: nobody knows
	begun  time.Time
	status *output.Status

	mu    sync.Mutex
	done  uint64
	drawn time.Time
	said  time.Time
}

func newMeter(a *app, what string, total uint64) *meter {
	return &meter{app: a, what: what, total: total, begun: time.Now(), status: output.NewStatus(a.err, a.err, a.interactive)}
}

// add counts bytes, and draws now and then.
func (m *meter) add(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += uint64(n)
	if !m.interactive {
		m.say()
		return
	}
	if time.Since(m.drawn) < drawInterval {
		return
	}
	m.drawn = time.Now()
	m.status.Show(m.line(time.Since(m.begun)))
}

// say is add where nothing can be drawn. The caller has the lock.
func (m *meter) say() {
	now := time.Now()
	if now.Sub(m.begun) < silence || now.Sub(m.said) < sayInterval {
		return
	}
	m.said = now
	fmt.Fprintln(m.err, m.line(now.Sub(m.begun)))
}

// line is what is drawn after some time.
func (m *meter) line(after time.Duration) string {
	rate := uint64(float64(m.done) / max(after.Seconds(), 1e-3))
	if m.total == 0 {
		return fmt.Sprintf("%s %s, %s/s", m.what, output.Bytes(m.done), output.Bytes(rate))
	}
	return fmt.Sprintf("%s, %s %s of %s, %s/s", output.Bar(float64(m.done)/float64(m.total), barWidth),
		m.what, output.Bytes(m.done), output.Bytes(m.total), output.Bytes(rate))
}

// bytes is how many there were.
func (m *meter) bytes() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.done
}

// clear removes what was drawn.
func (m *meter) clear() { m.status.Show("") }
