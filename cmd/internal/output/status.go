package output

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// drawInterval is how often a line that is followed is drawn.
const drawInterval = 200 * time.Millisecond

// clearLine goes to the beginning of the line and erases it.
const clearLine = "\r\x1b[K"

// Status is a line that says how far something is. On a terminal it stands below what is
// printed and is drawn over itself; elsewhere it is not drawn at all. Its methods may be
// called from any goroutine.
type Status struct {
	text, below io.Writer
	terminal    bool

	mu   sync.Mutex
	line string // what stands there; empty: nothing
}

// NewStatus makes one without a line yet. Text goes to text, the line to below: the two
// are often the same, and on a terminal they look it.
func NewStatus(text, below io.Writer, terminal bool) *Status {
	return &Status{text: text, below: below, terminal: terminal}
}

// Write prints text above the line. It ends with a line feed.
func (s *Status) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	n, err := s.text.Write(p)
	s.draw()
	return n, err
}

// Show replaces the line; an empty one removes it.
func (s *Status) Show(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if line == "" {
		s.erase()
	}
	s.line = line
	s.draw()
}

func (s *Status) erase() {
	if s.terminal && s.line != "" {
		fmt.Fprint(s.below, clearLine)
	}
}

func (s *Status) draw() {
	if s.terminal && s.line != "" {
		fmt.Fprint(s.below, clearLine+s.line)
	}
}

// Terminal reports whether the line is drawn.
func (s *Status) Terminal() bool { return s.terminal }

// Follow shows what line returns, again and again, until stop is called, which removes
// it. Stop may be called more than once.
func (s *Status) Follow(line func() string) (stop func()) {
	if !s.terminal {
		return func() {}
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(drawInterval)
		defer ticker.Stop()
		for {
			s.Show(line())
			select {
			case <-ticker.C:
			case <-end:
				s.Show("")
				return
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(end)
		<-ended
	})
}

// Bar pictures a part of 1, with its percentage; what is outside 0 to 1 is cut. Width is
// that of the bar without its frame.
func Bar(part float64, width int) string {
	part = max(0, min(part, 1))
	full := int(part * float64(width))
	return fmt.Sprintf("[%s%s] %3.0f%%", strings.Repeat("#", full), strings.Repeat("-", width-full), part*100)
}
