package demo

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/output"
)

const (
	// barWidth leaves room for the numbers within 80 columns.
	barWidth = 20
	// drawInterval is how often the bar moves, lineInterval how often its text is
	// printed where there is no terminal.
	drawInterval = 100 * time.Millisecond
	lineInterval = 5 * time.Second
	// clearLine goes to the beginning of the line and erases it.
	clearLine = "\r\x1b[K"
)

// progress shows what goes on: events as lines, and below them, on a terminal, a
// bar.
type progress struct {
	out      io.Writer
	terminal bool
	now      func() time.Time
	begin    time.Time

	mu  sync.Mutex
	bar string // what stands below the events; empty: nothing
}

func newProgress(out io.Writer, terminal bool, now func() time.Time) *progress {
	return &progress{out: out, terminal: terminal, now: now, begin: now()}
}

// say prints an event.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	fmt.Fprintf(p.out, "%5.1fs  %s\n", p.now().Sub(p.begin).Seconds(), output.Printable(fmt.Sprintf(format, args...)))
	p.draw()
}

// show replaces the bar.
func (p *progress) show(bar string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	p.bar = bar
	p.draw()
}

func (p *progress) erase() {
	if p.terminal && p.bar != "" {
		fmt.Fprint(p.out, clearLine)
	}
}

func (p *progress) draw() {
	if p.terminal && p.bar != "" {
		fmt.Fprint(p.out, p.bar)
	}
}

// follow shows a tally until done is closed.
func (p *progress) follow(t *tally, of *text, done <-chan struct{}) {
	interval := lineInterval
	if p.terminal {
		interval = drawInterval
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if p.terminal {
				p.show(barOf(t.snapshot(), of))
			} else {
				p.say("%s", stateOf(t.snapshot(), of))
			}
		case <-done:
			p.show("")
			return
		}
	}
}

func barOf(s snapshot, of *text) string {
	full := min(barWidth, barWidth*s.counted/of.words)
	return fmt.Sprintf("[%s%s] %s", strings.Repeat("=", full), strings.Repeat(" ", barWidth-full), stateOf(s, of))
}

func stateOf(s snapshot, of *text) string {
	return fmt.Sprintf("%d %%  %s of %s words counted, %s transactions",
		100*s.counted/of.words, output.Count(s.counted), output.Count(of.words), output.Count(s.committed))
}
