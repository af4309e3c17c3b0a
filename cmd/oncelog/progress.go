package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/output"
)

// drawInterval is how often progress is shown.
const drawInterval = 200 * time.Millisecond

// meter shows on a terminal how far something is that may take longer than anybody waits
// without a word. Its methods may be called from any goroutine.
type meter struct {
	*app
	what  string // such as "copied"
	total uint64 // bytes; 0: nobody knows
	begun time.Time

	mu    sync.Mutex
	done  uint64
	drawn time.Time
}

func newMeter(a *app, what string, total uint64) *meter {
	return &meter{app: a, what: what, total: total, begun: time.Now()}
}

// add counts bytes, and draws now and then.
func (m *meter) add(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += uint64(n)
	if !m.interactive || time.Since(m.drawn) < drawInterval {
		return
	}
	m.drawn = time.Now()
	fmt.Fprintf(m.err, "\r\x1b[K%s", m.line(time.Since(m.begun)))
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
