package main

import (
	"cmp"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/output"
)

const (
	// drawInterval is how often progress is drawn on a terminal.
	drawInterval = 200 * time.Millisecond
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

// meter shows how far something is that may take longer than anybody waits without a word:
// on a terminal it draws, elsewhere it says a line now and then. Its methods may be called
// from any goroutine.
type meter struct {
	*app
	what  string // such as "copied"
	total uint64 // bytes; 0: nobody knows
	begun time.Time

	mu    sync.Mutex
	done  uint64
	drawn time.Time
	said  time.Time
}

func newMeter(a *app, what string, total uint64) *meter {
	return &meter{app: a, what: what, total: total, begun: time.Now()}
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
	fmt.Fprintf(m.err, "\r\x1b[K%s", m.line(time.Since(m.begun)))
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
	const width = 24
	part := min(float64(m.done)/float64(m.total), 1)
	full := int(part * width)
	return fmt.Sprintf("[%s%s] %3.0f%%, %s %s of %s, %s/s", strings.Repeat("#", full), strings.Repeat("-", width-full),
		part*100, m.what, output.Bytes(m.done), output.Bytes(m.total), output.Bytes(rate))
}

// bytes is how many there were.
func (m *meter) bytes() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.done
}

// clear removes what was drawn.
func (m *meter) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.drawn.IsZero() {
		fmt.Fprint(m.err, "\r\x1b[K")
	}
}
