package demo

import (
	"fmt"
	"io"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/output"
)

const (
	// barWidth leaves room for the numbers within 80 columns.
	barWidth = 20
	// lineInterval is how often the bar's text is printed where there is no terminal.
	lineInterval = 5 * time.Second
)

// progress shows what goes on: events as lines, and below them, on a terminal, a
// bar.
type progress struct {
	*output.Status
	now   func() time.Time
	begin time.Time
}

func newProgress(out io.Writer, terminal bool, now func() time.Time) *progress {
	return &progress{Status: output.NewStatus(out, out, terminal), now: now, begin: now()}
}

// say prints an event.
func (p *progress) say(format string, args ...any) {
	fmt.Fprintf(p, "%5.1fs  %s\n", p.now().Sub(p.begin).Seconds(), output.Printable(fmt.Sprintf(format, args...)))
}

// follow shows a tally until done is closed.
func (p *progress) follow(t *tally, of *text, done <-chan struct{}) {
	stop := p.Follow(func() string { return barOf(t.snapshot(), of) })
	defer stop()
	ticker := time.NewTicker(lineInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if !p.Terminal() {
				s := t.snapshot()
				p.say("%d %%  %s", 100*s.counted/of.words, stateOf(s, of))
			}
		case <-done:
			return
		}
	}
}

func barOf(s snapshot, of *text) string {
	return output.Bar(float64(s.counted)/float64(of.words), barWidth) + ", " + stateOf(s, of)
}

func stateOf(s snapshot, of *text) string {
	return fmt.Sprintf("%s of %s words counted, %s transactions",
		output.Count(s.counted), output.Count(of.words), output.Count(s.committed))
}
